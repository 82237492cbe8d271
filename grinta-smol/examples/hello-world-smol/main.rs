//! `hello-world` on smol. The application is in `app.rs`, which its twin on tokio shares.

#![expect(clippy::print_stdout, reason = "a program for people to watch")]

use std::process::ExitCode;

use async_signal::{Signal, Signals};
use clap::Parser;
use futures_lite::{StreamExt, future};
use grinta_smol::Start;

mod app;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    app::exit_code(smol::block_on(run(&app::Arguments::parse())))
}

async fn run(arguments: &app::Arguments) -> Result<(), app::Failure> {
    let fabric = app::builder(arguments)?.start().await?;
    let mut signals = Signals::new([Signal::Int])?;
    let interrupted = async {
        signals.next().await;
        Ok(())
    };
    let outcome = future::or(app::run(&fabric, arguments), interrupted).await;
    fabric.shutdown().await;
    outcome
}

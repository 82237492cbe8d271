//! `flexible-topology` on smol. The application is in `app.rs`, which its twin on tokio shares.

#![expect(clippy::print_stdout, reason = "a program for people to watch")]

use std::process::ExitCode;
use std::time::Instant;

use async_signal::{Signal, Signals};
use clap::Parser;
use futures_lite::StreamExt;
use grinta_smol::Start;

mod app;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    app::exit_code(smol::block_on(run(&app::Arguments::parse())))
}

async fn run(arguments: &app::Arguments) -> Result<(), app::Failure> {
    let fabric = app::builder(arguments)?.start().await?;
    let mut signals = Signals::new([Signal::Int])?;
    let interrupted = async {
        signals.next().await;
    };
    let outcome = app::run(&fabric, arguments, Instant::now, interrupted).await;
    fabric.shutdown().await;
    outcome
}

//! `flexible-topology` on tokio. The application is in `app.rs`, which its twin on smol shares.

#![expect(clippy::print_stdout, reason = "a program for people to watch")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use grinta_tokio::Start;

mod app;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    app::exit_code(run(&app::Arguments::parse()).await)
}

async fn run(arguments: &app::Arguments) -> Result<(), app::Failure> {
    let fabric = app::builder(arguments)?.start().await?;
    let interrupted = async {
        // Without a handler there is nothing to wait for, and Ctrl-C ends the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    let outcome = app::run(&fabric, arguments, Instant::now, interrupted).await;
    fabric.shutdown().await;
    outcome
}

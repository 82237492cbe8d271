//! `hello-world` on tokio. The application is in `app.rs`, which its twin on smol shares.

#![expect(clippy::print_stdout, reason = "a program for people to watch")]

use std::process::ExitCode;

use clap::Parser;
use grinta_tokio::Start;

mod app;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    app::exit_code(run(&app::Arguments::parse()).await)
}

async fn run(arguments: &app::Arguments) -> Result<(), app::Failure> {
    let fabric = app::builder(arguments)?.start().await?;
    let outcome = tokio::select! {
        outcome = app::run(&fabric, arguments) => outcome,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(app::Failure::from),
    };
    fabric.shutdown().await;
    outcome
}

//! `workers` on tokio. The application is in `app.rs`, which its twin on smol shares.

#![expect(clippy::print_stdout, reason = "a program for people to watch")]

use std::process::ExitCode;

use grinta_tokio::{Builder, Start};

mod app;
#[path = "../common/mod.rs"]
mod common;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_writer(std::io::stderr)
        .init();
    common::exit_code(app::run(async |builder: Builder| builder.start().await).await)
}

//! `workers` on smol. The application is in `app.rs`, which its twin on tokio shares.

#![expect(clippy::print_stdout, reason = "a program for people to watch")]

use std::process::ExitCode;

use grinta_smol::{Builder, Start};

mod app;
#[path = "../common/mod.rs"]
mod common;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_writer(std::io::stderr)
        .init();
    let running = app::run(async |builder: Builder| builder.start().await);
    common::exit_code(smol::block_on(running))
}

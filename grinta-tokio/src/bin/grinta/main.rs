//! The command `grinta`: nodes, names and flows of a fabric from a shell.
//!
//! Each call is a node of its own that joins, does one thing, and leaves. What it is asked for goes to
//! standard output, what it has to say to standard error, so that calls fit into pipes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the library and the system tell may come to be more"
)]

mod arguments;
mod attach;
mod bench;
mod certificates;
mod doctor;
mod explain;
mod failure;
mod listing;
mod operating;
mod output;
mod pipe;
mod top;
mod tunnel;
mod up;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tokio::runtime;
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(output::is_styled(&io::stderr()))
        .with_env_filter(EnvFilter::new(&arguments.log))
        .init();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(error);
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(arguments.command));
    // A thread may still wait for standard input, which nobody needs any more.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::say_failure(&failure);
            failure.exit_code()
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(up) => up::run(&up).await,
        Command::Members(members) => listing::members(&members).await,
        Command::Names(names) => listing::names(&names).await,
        Command::Explain(explain) => explain::run(&explain).await,
        Command::Listen(listen) => pipe::listen(&listen).await,
        Command::Dial(dial) => pipe::dial(&dial).await,
        Command::Call(call) => pipe::call(&call).await,
        Command::Forward(forward) => tunnel::forward(&forward).await,
        Command::Expose(expose) => tunnel::expose(&expose).await,
        Command::Bench(bench) => bench::run(&bench).await,
        Command::Doctor(doctor) => doctor::run(&doctor).await,
        Command::Top(top) => top::run(&top).await,
        Command::Leave(leave) => operating::leave(&leave).await,
        Command::Cert(cert) => certificates::run(&cert),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "grinta", &mut io::stdout());
            Ok(())
        }
    }
}

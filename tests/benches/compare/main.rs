//! Grinta beside what its users would pick instead: a raw QUIC stream for a remote flow, a channel
//! for a local one.
//!
//! Each row runs Grinta and its rival in turn (A B A B …) in one process run, and prints the median
//! and the extremes of both and the ratio of the medians: above 1 Grinta is better, also where less
//! is better. Remote rows talk to a second process over loopback, with the same certificates, the
//! same windows and the same runtime. `tests/benches/README.md` tells how to read the rows.

mod flavour;
mod grinta;
mod local;
mod quic;
mod report;
mod server;
mod transport;
mod trial;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::flavour::Flavour;
use crate::report::Report;

/// Measures Grinta and its rivals side by side.
#[derive(Debug, Parser)]
struct Options {
    /// Runs only the rows whose name holds this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Writes the rows to a file as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long a row may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 8.0)]
    seconds: f32,
    /// The runtime to measure under; all of them unless said.
    #[arg(long, value_enum)]
    runtime: Option<Flavour>,
    /// Runs the serving process of the remote rows, with the certificates in this directory.
    #[arg(long, value_name = "DIR", hide = true, requires = "runtime")]
    serve: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if let (Some(directory), Some(flavour)) = (&options.serve, options.runtime) {
        return server::serve(flavour, directory);
    }
    let budget = Duration::try_from_secs_f32(options.seconds)?;
    let flavours = match options.runtime {
        Some(flavour) => vec![flavour],
        None => Flavour::all().to_vec(),
    };
    let mut report = Report::new(options.only, budget);
    for flavour in flavours {
        transport::measure(&mut report, flavour)?;
        local::measure(&mut report, flavour)?;
    }
    if let Some(file) = options.json {
        report.write_json(&file)?;
    }
    Ok(())
}

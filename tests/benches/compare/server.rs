//! The serving process of the remote rows.

use std::error::Error;
use std::future::pending;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::exit;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::flavour::Flavour;
use crate::quic::Identity;
use crate::{grinta, quic};

/// Serves both kinds of clients until the standard input ends: tells on the standard output where,
/// and for each line that comes, the processor time so far in microseconds.
pub(crate) fn serve(flavour: Flavour, directory: &Path) -> Result<(), Box<dyn Error>> {
    let identity = Identity::load(directory, "server")?;
    thread::spawn(answer);
    flavour.runtime().run(async move {
        let served = async {
            let grinta = grinta::serve(flavour, &identity).await?;
            let quinn = quic::serve(flavour, &identity)?;
            writeln!(io::stdout(), "{} {quinn}", grinta.local_address())?;
            pending::<()>().await;
            drop(grinta);
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        };
        served.await.map_err(|error| error.to_string())
    })?;
    Ok(())
}

/// Processor time, user and system, that this process has used.
pub(crate) fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Ok(Duration::from_micros(
        micros.iter().sum::<i64>().try_into()?,
    ))
}

fn answer() {
    for _ in io::stdin().lock().lines() {
        let told = cpu_time().and_then(|used| Ok(writeln!(io::stdout(), "{}", used.as_micros())?));
        if told.is_err() {
            exit(1);
        }
    }
    exit(0);
}

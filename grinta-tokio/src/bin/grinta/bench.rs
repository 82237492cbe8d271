//! `grinta bench`: how long round trips and dials take, and how much goes through a flow.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grinta_tokio::{Fabric, Flow, Raw, Sender};
use serde_json::json;

use crate::arguments::{Bench, BenchCommand, Measured};
use crate::failure::{Failure, Kind};
use crate::output::{print, print_json, say};

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let (BenchCommand::Rtt { measured, .. }
    | BenchCommand::Dial { measured, .. }
    | BenchCommand::Bulk { measured, .. }) = &bench.command;
    measured
        .attachment
        .run(async |fabric| match bench.command {
            BenchCommand::Rtt { count, size, .. } => {
                round_trips(fabric, measured, count, size).await
            }
            BenchCommand::Dial { count, .. } => dials(fabric, measured, count).await,
            BenchCommand::Bulk { duration, size, .. } => {
                throughput(fabric, measured, duration, size).await
            }
        })
        .await
}

/// Sends a message and waits until as much has come back, again and again.
async fn round_trips(
    fabric: &Fabric,
    measured: &Measured,
    count: u32,
    size: usize,
) -> Result<(), Failure> {
    let mut flow: Flow<Bytes, Bytes> = measured.dialling.begin(fabric).bidi(Raw).await?;
    let message = Bytes::from(vec![0; size]);
    let mut times = Times::of("round trips");
    for _ in 0..count {
        let begun = Instant::now();
        let sent = flow.send(message.clone()).await;
        sent.map_err(|error| error.cause)?;
        let mut missing = message.len();
        while missing > 0 {
            let Some(piece) = flow.recv().await? else {
                let what = "the endpoint ended the flow; is it `grinta listen --keep --echo`?";
                return Err(Failure::new(Kind::Broken, what));
            };
            missing = missing.saturating_sub(piece.len());
        }
        times.note(begun.elapsed());
    }
    times.print(measured.json)
}

/// Opens flows, one after the other.
async fn dials(fabric: &Fabric, measured: &Measured, count: u32) -> Result<(), Failure> {
    let mut times = Times::of("dials");
    for _ in 0..count {
        let begun = Instant::now();
        let flow: Flow<Bytes, Bytes> = measured.dialling.begin(fabric).bidi(Raw).await?;
        times.note(begun.elapsed());
        let (sender, mut receiver) = flow.split();
        drop(sender);
        // The next waits for its end, lest an endpoint that takes one at a time is busy.
        while receiver.recv().await?.is_some() {}
    }
    times.print(measured.json)
}

/// Sends for a while, and counts what has arrived by the end.
async fn throughput(
    fabric: &Fabric,
    measured: &Measured,
    duration: Duration,
    size: usize,
) -> Result<(), Failure> {
    let mut sender: Sender<Bytes> = measured.dialling.begin(fabric).sender(Raw).await?;
    let message = Bytes::from(vec![0; size]);
    let begun = Instant::now();
    let mut messages = 0_u64;
    while begun.elapsed() < duration {
        let sent = sender.send(message.clone()).await;
        sent.map_err(|error| error.cause)?;
        messages += 1;
    }
    sender.finish().await?;
    let elapsed = begun.elapsed();
    let bytes = messages * size as u64;
    let megabytes_per_second = bytes as f64 / 1e6 / elapsed.as_secs_f64();
    let messages_per_second = messages as f64 / elapsed.as_secs_f64();
    if measured.json {
        return print_json(&json!({
            "messages": messages,
            "bytes": bytes,
            "elapsed_s": elapsed.as_secs_f64(),
            "messages_per_s": messages_per_second,
            "megabytes_per_s": megabytes_per_second,
        }));
    }
    print(format_args!(
        "{messages} messages of {} bytes in {:.2} s: {messages_per_second:.0} a second, \
         {megabytes_per_second:.1} MB/s",
        size,
        elapsed.as_secs_f64(),
    ))
}

/// How long each of many took.
struct Times {
    what: &'static str,
    times: Vec<Duration>,
    told: Instant,
}

impl Times {
    fn of(what: &'static str) -> Self {
        Self {
            what,
            times: Vec::new(),
            told: Instant::now(),
        }
    }

    fn note(&mut self, time: Duration) {
        self.times.push(time);
        if self.told.elapsed() >= PROGRESS_INTERVAL && stderr().is_terminal() {
            self.told = Instant::now();
            say(format_args!("{} {}…", self.times.len(), self.what));
        }
    }

    fn print(mut self, as_json: bool) -> Result<(), Failure> {
        self.times.sort_unstable();
        let shares = [
            ("min", 0.0),
            ("p50", 0.5),
            ("p90", 0.9),
            ("p99", 0.99),
            ("max", 1.0),
        ];
        let milliseconds =
            shares.map(|(name, share)| (name, self.share(share).as_secs_f64() * 1e3));
        if as_json {
            let mut report = json!({ "count": self.times.len() });
            for (name, value) in milliseconds {
                report[format!("{name}_ms")] = value.into();
            }
            return print_json(&report);
        }
        let columns = milliseconds.map(|(name, value)| format!("{name} {value:.3} ms"));
        let (count, what) = (self.times.len(), self.what);
        print(format_args!("{count} {what}: {}", columns.join(", ")))
    }

    /// The time that this share of them did not exceed.
    fn share(&self, share: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let index = (share * last as f64).round() as usize;
        self.times.get(index).copied().unwrap_or_default()
    }
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

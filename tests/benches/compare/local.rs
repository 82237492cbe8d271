//! Local rows: flows within one process against channels.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grinta_proto::{DevelopmentCa, Fabric, Flow, Limits, Raw, Receiver, Sender};

use crate::flavour::Flavour;
use crate::report::Report;
use crate::trial::{Side, Unit, alternate, percentile};

/// A channel to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rival {
    TokioMpsc,
    AsyncChannel,
    Flume,
    Kanal,
}

/// Sends on either side's channel.
enum Tx {
    Grinta(Sender<Bytes>),
    TokioMpsc(tokio::sync::mpsc::Sender<Bytes>),
    AsyncChannel(async_channel::Sender<Bytes>),
    Flume(flume::Sender<Bytes>),
    Kanal(kanal::AsyncSender<Bytes>),
}

/// Receives from either side's channel.
enum Rx {
    Grinta(Receiver<Bytes>),
    TokioMpsc(tokio::sync::mpsc::Receiver<Bytes>),
    AsyncChannel(async_channel::Receiver<Bytes>),
    Flume(flume::Receiver<Bytes>),
    Kanal(kanal::AsyncReceiver<Bytes>),
}

/// Measures all local rows that were asked for.
pub(crate) fn measure(report: &mut Report, flavour: Flavour) -> Result<(), Box<dyn Error>> {
    let named = |row: &str, rival: Rival| format!("{}/{row}-{}", flavour.name(), rival.name());
    let ways = RIVALS.map(|rival| named("local-64b", rival));
    let pings =
        ["local-ping-pong-p50", "local-ping-pong-p99"].map(|row| named(row, Rival::TokioMpsc));
    if !report.wants(&ways) && !report.wants(&pings) {
        return Ok(());
    }
    let runtime = flavour.runtime();
    let fabric = runtime.run(async move {
        let fabric = start(flavour).await;
        fabric.map_err(|error| error.to_string())
    })?;
    let fabric = Arc::new(fabric);
    for (name, rival) in ways.into_iter().zip(RIVALS) {
        if !report.wants(std::slice::from_ref(&name)) {
            continue;
        }
        let turns = alternate(report.budget(), |side, rounds| {
            let fabric = Arc::clone(&fabric);
            let elapsed = runtime.run(async move {
                let (tx, rx) = channel(&fabric, side, rival).await;
                one_way(flavour, tx, rx, rounds).await
            });
            (elapsed, rounds as f64 / elapsed.as_secs_f64())
        });
        let rates = turns.into_iter().map(|(side, _, rate)| (side, rate));
        report.add(name, rival.name(), Unit::PerSecond("messages/s"), rates)?;
    }
    if report.wants(&pings) {
        let mut turns = alternate(report.budget(), |side, rounds| {
            let fabric = Arc::clone(&fabric);
            let times = runtime.run(async move {
                let there = channel(&fabric, side, Rival::TokioMpsc).await;
                let back = channel(&fabric, side, Rival::TokioMpsc).await;
                ping_pong(flavour, there, back, rounds).await
            });
            (times.iter().sum(), times)
        });
        for (name, percent) in pings.into_iter().zip([50, 99]) {
            let values = turns
                .iter_mut()
                .map(|(side, _, times)| (*side, percentile(times, percent)));
            report.add(name, "tokio mpsc", Unit::Nanoseconds, values)?;
        }
    }
    Ok(())
}

async fn start(flavour: Flavour) -> Result<Fabric, Box<dyn Error + Send + Sync>> {
    let credentials = DevelopmentCa::in_memory()?.issue(&"local".parse()?)?;
    let builder = Fabric::builder("local").credentials(credentials);
    let fabric = flavour.start(builder).await?;
    fabric.join().await?;
    Ok(fabric)
}

/// A channel with room for as many messages as a local flow has.
async fn channel(fabric: &Fabric, side: Side, rival: Rival) -> (Tx, Rx) {
    let room = Limits::default().local_queue_max;
    if side == Side::Grinta {
        let endpoint = fabric.endpoint("local").await.expect("the name is free");
        let dial = async { fabric.dial("local").bidi::<Bytes, Bytes, _>(Raw).await };
        let accept = async {
            let incoming = endpoint.accept().await.expect("the fabric runs");
            incoming.bidi::<Bytes, Bytes, _>(Raw)
        };
        let (dialled, accepted) = futures_lite::future::zip(dial, accept).await;
        let (tx, _) = Flow::split(dialled.expect("the endpoint accepts"));
        let (_, rx) = Flow::split(accepted.expect("both ends agree"));
        return (Tx::Grinta(tx), Rx::Grinta(rx));
    }
    match rival {
        Rival::TokioMpsc => {
            let (tx, rx) = tokio::sync::mpsc::channel(room);
            (Tx::TokioMpsc(tx), Rx::TokioMpsc(rx))
        }
        Rival::AsyncChannel => {
            let (tx, rx) = async_channel::bounded(room);
            (Tx::AsyncChannel(tx), Rx::AsyncChannel(rx))
        }
        Rival::Flume => {
            let (tx, rx) = flume::bounded(room);
            (Tx::Flume(tx), Rx::Flume(rx))
        }
        Rival::Kanal => {
            let (tx, rx) = kanal::bounded_async(room);
            (Tx::Kanal(tx), Rx::Kanal(rx))
        }
    }
}

async fn one_way(flavour: Flavour, mut tx: Tx, mut rx: Rx, messages: u64) -> Duration {
    let begin = Instant::now();
    flavour.spawn(async move {
        let message = Bytes::from_static(&[7; 64]);
        for _ in 0..messages {
            tx.send(message.clone()).await;
        }
    });
    let (done, all_done) = async_channel::bounded(1);
    flavour.spawn(async move {
        let mut received = 0;
        while rx.receive().await.is_some() {
            received += 1;
        }
        done.send(received).await.expect("somebody waits");
    });
    assert_eq!(all_done.recv().await, Ok(messages));
    begin.elapsed()
}

async fn ping_pong(
    flavour: Flavour,
    there: (Tx, Rx),
    back: (Tx, Rx),
    rounds: u64,
) -> Vec<Duration> {
    let ((mut ping, mut pinged), (mut pong, mut ponged)) = (there, back);
    flavour.spawn(async move {
        while let Some(message) = pinged.receive().await {
            pong.send(message).await;
        }
    });
    let message = Bytes::from_static(&[7; 64]);
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        ping.send(message.clone()).await;
        let echo = ponged.receive().await;
        times.push(begin.elapsed());
        assert_eq!(echo.as_ref(), Some(&message));
    }
    times
}

impl Rival {
    const fn name(self) -> &'static str {
        match self {
            Self::TokioMpsc => "tokio-mpsc",
            Self::AsyncChannel => "async-channel",
            Self::Flume => "flume",
            Self::Kanal => "kanal",
        }
    }
}

impl Tx {
    async fn send(&mut self, message: Bytes) {
        let is_sent = match self {
            Self::Grinta(tx) => tx.send(message).await.is_ok(),
            Self::TokioMpsc(tx) => tx.send(message).await.is_ok(),
            Self::AsyncChannel(tx) => tx.send(message).await.is_ok(),
            Self::Flume(tx) => tx.send_async(message).await.is_ok(),
            Self::Kanal(tx) => tx.send(message).await.is_ok(),
        };
        assert!(is_sent, "the receiver is gone");
    }
}

impl Rx {
    async fn receive(&mut self) -> Option<Bytes> {
        match self {
            Self::Grinta(rx) => rx.recv().await.expect("the sender finishes"),
            Self::TokioMpsc(rx) => rx.recv().await,
            Self::AsyncChannel(rx) => rx.recv().await.ok(),
            Self::Flume(rx) => rx.recv_async().await.ok(),
            Self::Kanal(rx) => rx.recv().await.ok(),
        }
    }
}

const RIVALS: [Rival; 4] = [
    Rival::TokioMpsc,
    Rival::AsyncChannel,
    Rival::Flume,
    Rival::Kanal,
];

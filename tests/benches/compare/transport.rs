//! Remote rows: flows against raw QUIC streams.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::flavour::{Flavour, Runtime};
use crate::grinta::GrintaClient;
use crate::quic::{Identity, QuinnClient, Writing};
use crate::report::Report;
use crate::server::cpu_time;
use crate::trial::{Side, Unit, alternate, percentile};

/// What a benchmark does with a connection.
pub(crate) trait Client: Send + Sync + 'static {
    /// Sends messages one way, shared among flows, until the other process has told that it
    /// received them all. Returns how long it took.
    fn stream(self: Arc<Self>, load: Load) -> Work<Duration>;

    /// Sends a small message back and forth on one flow. Returns each round trip.
    fn ping_pong(self: Arc<Self>, rounds: u64) -> Work<Vec<Duration>>;

    /// Opens a flow, sends a small request, reads the response and the end; again and again, so
    /// many at a time. Returns how long all took.
    fn exchange(self: Arc<Self>, rounds: u64, at_a_time: u64) -> Work<Duration>;
}

/// A benchmark under way.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Messages to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) length: usize,
    pub(crate) flows: u64,
}

/// The serving process.
struct Server {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// A server, and a client of each kind to it.
struct Pair {
    flavour: Flavour,
    runtime: Runtime,
    server: Server,
    grinta: Arc<GrintaClient>,
    quinn: QuinnClient,
}

/// Measures all remote rows that were asked for.
pub(crate) fn measure(report: &mut Report, flavour: Flavour) -> Result<(), Box<dyn Error>> {
    let named = |row: &str| format!("{}/{row}", flavour.name());
    let all: Vec<_> = ROWS.iter().map(|row| named(row)).collect();
    if !report.wants(&all) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    Identity::issue(directory.path())?;
    let mut pair = Pair::connect(flavour, directory.path())?;
    let one = |length| Load {
        messages: 1,
        length,
        flows: 1,
    };
    pair.stream(
        report,
        ["remote-64b-write-all", "remote-64b-write-all-cpu"],
        Writing::EachAlone,
        one(64),
    )?;
    pair.stream(
        report,
        ["remote-64b-bufwriter", "remote-64b-bufwriter-cpu"],
        Writing::Buffered,
        one(64),
    )?;
    pair.stream(
        report,
        ["remote-64k", "remote-64k-cpu"],
        Writing::EachAlone,
        one(64 * 1024),
    )?;
    let hundred = Load {
        flows: 100,
        ..one(64 * 1024)
    };
    pair.stream(
        report,
        ["remote-64k-100-flows", "remote-64k-100-flows-cpu"],
        Writing::EachAlone,
        hundred,
    )?;
    pair.ping_pong(report)?;
    pair.exchange(report, "remote-open-request-response", 1)?;
    pair.exchange(report, "remote-open-request-response-64", 64)?;
    pair.server.end()
}

impl Pair {
    fn connect(flavour: Flavour, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let (server, addresses) = Server::start(flavour, directory)?;
        let [grinta, quinn] = addresses;
        let runtime = flavour.runtime();
        let identity = Arc::new(Identity::load(directory, "client")?);
        let of_quinn = Arc::clone(&identity);
        let grinta = runtime.run(async move {
            let client = GrintaClient::connect(flavour, &identity, grinta).await;
            client.map_err(|error| error.to_string())
        })?;
        let quinn = runtime.run(async move {
            let client = QuinnClient::connect(flavour, &of_quinn, quinn).await;
            client.map_err(|error| error.to_string())
        })?;
        Ok(Self {
            flavour,
            runtime,
            server,
            grinta: Arc::new(grinta),
            quinn,
        })
    }

    fn named(&self, row: &str) -> String {
        format!("{}/{row}", self.flavour.name())
    }

    /// Runs one side for a turn.
    fn turn<T: Send + 'static>(
        &self,
        side: Side,
        writing: Writing,
        work: impl FnOnce(Arc<dyn Client>) -> Work<T>,
    ) -> T {
        let client: Arc<dyn Client> = match side {
            Side::Grinta => self.grinta.clone(),
            Side::Rival => Arc::new(self.quinn.writing(writing)),
        };
        self.runtime.run(work(client))
    }

    fn stream(
        &mut self,
        report: &mut Report,
        rows: [&str; 2],
        writing: Writing,
        load: Load,
    ) -> Result<(), Box<dyn Error>> {
        let names = rows.map(|row| self.named(row));
        if !report.wants(&names) {
            return Ok(());
        }
        let mut failed = None;
        let turns = alternate(report.budget(), |side, rounds| {
            let load = Load {
                messages: rounds * load.flows,
                ..load
            };
            let begun = self.cpu_time();
            let elapsed = self.turn(side, writing, |client| client.stream(load));
            let used = begun.and_then(|begun| Ok(self.cpu_time()? - begun));
            let used = used.unwrap_or_else(|error| {
                failed = Some(error);
                Duration::ZERO
            });
            (elapsed, (elapsed, used))
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let rival = match writing {
            Writing::EachAlone => "quinn, a write_all for each message",
            Writing::Buffered => "quinn, through a BufWriter",
        };
        let messages = |rounds: u64| (rounds * load.flows) as f64;
        let (unit, of_one) = match load.length {
            ..1024 => ("messages/s", 1.0),
            length => ("B/s", length as f64),
        };
        let rates = turns.iter().map(|&(side, rounds, (elapsed, _))| {
            let rate = messages(rounds) * of_one / elapsed.as_secs_f64();
            (side, rate)
        });
        let [rate_name, cpu_name] = names;
        report.add(rate_name, rival, Unit::PerSecond(unit), rates)?;
        let costs = turns.iter().map(|&(side, rounds, (_, used))| {
            let cost = used.as_nanos() as f64 / messages(rounds);
            (side, cost)
        });
        report.add(cpu_name, rival, Unit::Nanoseconds, costs)?;
        Ok(())
    }

    fn ping_pong(&mut self, report: &mut Report) -> Result<(), Box<dyn Error>> {
        let names = ["remote-ping-pong-p50", "remote-ping-pong-p99"].map(|row| self.named(row));
        if !report.wants(&names) {
            return Ok(());
        }
        let mut turns = alternate(report.budget(), |side, rounds| {
            let times = self.turn(side, Writing::EachAlone, |client| client.ping_pong(rounds));
            (times.iter().sum(), times)
        });
        for (name, percent) in names.into_iter().zip([50, 99]) {
            let values = turns
                .iter_mut()
                .map(|(side, _, times)| (*side, percentile(times, percent)));
            report.add(name, "quinn", Unit::Nanoseconds, values)?;
        }
        Ok(())
    }

    fn exchange(
        &mut self,
        report: &mut Report,
        row: &str,
        at_a_time: u64,
    ) -> Result<(), Box<dyn Error>> {
        let name = self.named(row);
        if !report.wants(std::slice::from_ref(&name)) {
            return Ok(());
        }
        let turns = alternate(report.budget(), |side, rounds| {
            let rounds = rounds.next_multiple_of(at_a_time);
            let elapsed = self.turn(side, Writing::EachAlone, |client| {
                client.exchange(rounds, at_a_time)
            });
            (elapsed, rounds as f64 / elapsed.as_secs_f64())
        });
        let rates = turns.into_iter().map(|(side, _, rate)| (side, rate));
        report.add(
            name,
            "quinn, open_bi",
            Unit::PerSecond("exchanges/s"),
            rates,
        )?;
        Ok(())
    }

    /// What both processes have used so far.
    fn cpu_time(&mut self) -> Result<Duration, Box<dyn Error>> {
        Ok(cpu_time()? + self.server.cpu_time()?)
    }
}

impl Server {
    fn start(
        flavour: Flavour,
        directory: &Path,
    ) -> Result<(Self, [SocketAddr; 2]), Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--runtime", flavour.name(), "--serve"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = child.stdin.take().ok_or("the server has no input")?;
        let answers = child.stdout.take().ok_or("the server has no output")?;
        let mut server = Self {
            child,
            asks,
            answers: BufReader::new(answers),
        };
        let told = server.line()?;
        let (grinta, quinn) = told
            .split_once(' ')
            .ok_or("the server did not tell where it listens")?;
        let addresses = [grinta.parse()?, quinn.parse()?];
        Ok((server, addresses))
    }

    fn cpu_time(&mut self) -> Result<Duration, Box<dyn Error>> {
        self.asks.write_all(b"cpu\n")?;
        Ok(Duration::from_micros(self.line()?.parse()?))
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn end(self) -> Result<(), Box<dyn Error>> {
        let Self {
            mut child,
            asks,
            answers,
        } = self;
        drop((asks, answers));
        child.wait()?;
        Ok(())
    }
}

/// All rows, to know early that none was asked for.
const ROWS: [&str; 12] = [
    "remote-64b-write-all",
    "remote-64b-write-all-cpu",
    "remote-64b-bufwriter",
    "remote-64b-bufwriter-cpu",
    "remote-64k",
    "remote-64k-cpu",
    "remote-64k-100-flows",
    "remote-64k-100-flows-cpu",
    "remote-ping-pong-p50",
    "remote-ping-pong-p99",
    "remote-open-request-response",
    "remote-open-request-response-64",
];

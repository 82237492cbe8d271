//! `grinta doctor`: whether this machine can be a node of the fabric, and what is in the way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grinta_tokio::{
    ConnectionStage, Fabric, JoinError, JoinReport, NameView, QueryError, Snapshot,
};

use crate::arguments::Doctor;
use crate::attach;
use crate::failure::{Failure, Kind};
use crate::listing::milliseconds;
use crate::output::print;

pub(crate) async fn run(doctor: &Doctor) -> Result<(), Failure> {
    attach::run(doctor.attachment.builder()?, async |fabric| {
        let mut report = Report::default();
        report.look_at_certificate(&fabric.snapshot())?;
        let address = fabric.local_address();
        report.good("socket", format_args!("listening on {address} (UDP)"))?;
        report.join(fabric.join().await)?;
        let snapshot = fabric.snapshot();
        report.look_at_connections(&snapshot)?;
        report.look_at_clocks(&snapshot)?;
        report.look_at_names(fabric).await?;
        match report.problems {
            0 => Ok(()),
            problems => {
                let what = format!("{problems} of {} checks failed", report.checks);
                Err(Failure::new(Kind::Other, what))
            }
        }
    })
    .await
}

/// The checks so far.
#[derive(Debug, Default)]
struct Report {
    checks: usize,
    problems: usize,
}

impl Report {
    fn good(&mut self, what: &str, finding: impl std::fmt::Display) -> Result<(), Failure> {
        self.checks += 1;
        print(format_args!("ok    {what:<12} {finding}"))
    }

    fn bad(&mut self, what: &str, finding: impl std::fmt::Display) -> Result<(), Failure> {
        self.checks += 1;
        self.problems += 1;
        print(format_args!("FAIL  {what:<12} {finding}"))
    }

    fn look_at_certificate(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let certificate = &snapshot.certificate;
        let names: Vec<_> = certificate.names.iter().map(|name| name.as_str()).collect();
        let names = names.join(", ");
        let cas = match certificate.cas {
            1 => "one CA is trusted".to_owned(),
            cas => format!("{cas} CAs are trusted"),
        };
        match certificate.expires_in {
            Some(left) if left.is_zero() => self.bad(
                "certificate",
                format_args!("for {names}, expired; renew it"),
            ),
            Some(left) if certificate.is_overdue => {
                let days = left.as_secs() / DAY;
                let finding = format_args!("for {names}, {days} days left; renew it now");
                self.bad("certificate", finding)
            }
            Some(left) => {
                let days = left.as_secs() / DAY;
                self.good(
                    "certificate",
                    format_args!("for {names}, {days} days left; {cas}"),
                )
            }
            None => self.good("certificate", format_args!("for {names}; {cas}")),
        }
    }

    fn join(&mut self, joined: Result<JoinReport, JoinError>) -> Result<(), Failure> {
        let (reached, unreachable) = match joined {
            Ok(JoinReport {
                reached,
                unreachable,
                ..
            }) => (reached, unreachable),
            Err(JoinError::NoneReachable { unreachable }) => (Vec::new(), unreachable),
            Err(error) => return self.bad("join", error),
        };
        for (host, node) in &reached {
            self.good("join", format_args!("{host} is {node}"))?;
        }
        for (host, error) in &unreachable {
            self.bad("join", format_args!("{host}: {error}"))?;
        }
        if reached.is_empty() && unreachable.is_empty() {
            self.bad(
                "join",
                "nobody was named: say with --join where a node listens",
            )?;
        }
        Ok(())
    }

    fn look_at_connections(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let up = snapshot.connections.iter();
        for connection in up.filter(|it| it.stage == ConnectionStage::Up) {
            let peer = connection.peer.as_ref();
            let peer = peer.map_or("a node", |peer| peer.as_str());
            let finding = format!(
                "{peer}: round trip {}, datagrams of {} bytes, {} packets lost",
                milliseconds(connection.round_trip_time),
                connection.mtu,
                connection.packets_lost,
            );
            self.good("connection", finding)?;
        }
        Ok(())
    }

    /// A session is the wall clock at a node's start, which lies in the past.
    fn look_at_clocks(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        let others = snapshot.members.iter();
        let others = others.filter(|member| member.name != snapshot.node);
        let mut ahead = 0;
        for member in others {
            let lead = u128::from(member.session.0).saturating_sub(now);
            if lead > CLOCK_LEAD_MAX.as_millis() {
                ahead += 1;
                let finding = format!("{} is ahead of us by {lead} ms or more", member.name);
                self.bad("clock", finding)?;
            }
        }
        match ahead {
            0 => self.good("clock", "nobody started in our future"),
            _ => Ok(()),
        }
    }

    /// Asks everybody about a name that nobody has: who knows all names says so.
    async fn look_at_names(&mut self, fabric: &Fabric) -> Result<(), Failure> {
        let query = fabric.query(PROBE).vote(0.0).deadline(QUERY_TIMEOUT);
        let report = match query.await {
            Ok(report) => report,
            Err(QueryError::NobodyAsked) => {
                return self.good("names", "there is nobody else to ask");
            }
            Err(error) => return self.bad("names", error),
        };
        let synced = report.answers.values();
        let synced = synced
            .filter(|view| matches!(view, NameView::Nobody))
            .count();
        let asked = report.answers.len() + report.silent.len();
        let finding = format_args!("{synced} of {asked} members answer and know all names");
        match synced == asked {
            true => self.good("names", finding),
            false => self.bad("names", finding),
        }
    }
}

const DAY: u64 = 24 * 60 * 60;
/// Clocks differ by less, where they are kept at all.
const CLOCK_LEAD_MAX: Duration = Duration::from_secs(5);
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// A name that nobody has.
const PROBE: &str = "grinta.doctor.probe";

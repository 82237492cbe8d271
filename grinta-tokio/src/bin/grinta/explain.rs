//! `grinta explain`: who owns a name and why, and whether a dial gets there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use grinta_tokio::{
    DialCause, DialError, Fabric, Flow, Holder, NameView, QueryReport, Raw, RefusalReason,
    Resolution,
};
use serde_json::{Value, json};

use crate::arguments::Explain;
use crate::failure::{Failure, Kind};
use crate::listing::milliseconds;
use crate::output::{print, print_json};

pub(crate) async fn run(explain: &Explain) -> Result<(), Failure> {
    explain
        .attachment
        .run(async |fabric| {
            let findings = Findings::gather(fabric, explain).await?;
            match explain.json {
                true => print_json(&findings.to_json())?,
                false => findings.print()?,
            }
            findings.outcome()
        })
        .await
}

/// What was found out about a name.
struct Findings {
    name: String,
    resolution: Resolution,
    holders: Vec<Holder>,
    others: Option<QueryReport>,
    /// How the dial went, and how long it took.
    dial: Option<(Result<(), DialError>, Duration)>,
    /// The round-trip time to the owner, if there is a connection.
    round_trip_time: Option<Duration>,
}

impl Findings {
    async fn gather(fabric: &Fabric, explain: &Explain) -> Result<Self, Failure> {
        let invalid = |error| Failure::new(Kind::Other, error);
        let resolution = fabric.resolve(&explain.name).map_err(invalid)?;
        let holders = fabric.resolve_all(&explain.name).map_err(invalid)?;
        let query = fabric
            .query(&explain.name)
            .vote(0.0)
            .deadline(QUERY_TIMEOUT);
        let others = query.await.ok();
        let dial = match explain.no_dial {
            true => None,
            false => {
                let begun = Instant::now();
                let dial = fabric.dial(&explain.name).deadline(DIAL_TIMEOUT);
                let dialled = dial.bidi::<Bytes, Bytes, _>(Raw).await;
                let elapsed = begun.elapsed();
                let dialled = match dialled {
                    Ok(flow) => {
                        part_well(fabric, flow).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                Some((dialled, elapsed))
            }
        };
        let owner = match &resolution {
            Resolution::Remote { owner, .. } => fabric
                .snapshot()
                .members
                .into_iter()
                .find(|member| member.name == *owner),
            _ => None,
        };
        Ok(Self {
            name: explain.name.to_string(),
            resolution,
            holders,
            others,
            dial,
            round_trip_time: owner.and_then(|owner| owner.round_trip_time),
        })
    }

    fn print(&self) -> Result<(), Failure> {
        line("name", &self.name)?;
        line("owner", self.owner())?;
        for holder in self.holders.iter().skip(1) {
            line("also served by", at(holder))?;
        }
        if let Some(time) = self.round_trip_time {
            line("round trip", milliseconds(time))?;
        }
        line("other members", self.say_of_others())?;
        let Some((dialled, elapsed)) = &self.dial else {
            return Ok(());
        };
        let elapsed = milliseconds(*elapsed);
        let error = match dialled {
            Ok(()) => return line("dial", format!("accepted after {elapsed}")),
            Err(error) if is_mismatch(error) => {
                let what = format!("answered after {elapsed}; takes other messages than bytes");
                return line("dial", what);
            }
            Err(error) => error,
        };
        line(
            "dial",
            format!("failed after {elapsed}, while {}", error.stage),
        )?;
        for attempt in &error.attempts {
            let after = milliseconds(attempt.after);
            line("", format!("after {after}: {}", attempt.cause))?;
        }
        line("", &error.cause)
    }

    fn owner(&self) -> String {
        match &self.resolution {
            Resolution::Local => "this very node".to_owned(),
            Resolution::Remote {
                owner,
                address,
                suspect,
            } => {
                let doubt = if *suspect {
                    ", which does not answer at present"
                } else {
                    ""
                };
                format!("{owner} at {address}{doubt}; the oldest claim of those that are up")
            }
            Resolution::Unreachable { owner, .. } => format!("{owner}, which is down"),
            Resolution::NotFound => "nobody".to_owned(),
            Resolution::NotSynced => "unknown: the names have not been learnt yet".to_owned(),
        }
    }

    fn say_of_others(&self) -> String {
        let Some(report) = &self.others else {
            return "none has a view of it".to_owned();
        };
        let owner = report
            .owner
            .as_ref()
            .map_or("nobody", |owner| owner.as_str());
        let agree = report.answers.values().filter(|view| match view {
            NameView::Owned { owner, .. } => report.owner.as_ref() == Some(owner),
            NameView::Nobody => report.owner.is_none(),
            NameView::NotSynced | NameView::Busy => false,
        });
        let asked = report.answers.len() + report.silent.len();
        format!("{} of {asked} say {owner}", agree.count())
    }

    fn to_json(&self) -> Value {
        let (state, owner) = match &self.resolution {
            Resolution::Local => ("local", None),
            Resolution::Remote { owner, .. } => ("remote", Some(owner.as_str())),
            Resolution::Unreachable { owner, .. } => ("unreachable", Some(owner.as_str())),
            Resolution::NotFound => ("not_found", None),
            Resolution::NotSynced => ("not_synced", None),
        };
        let dial = self.dial.as_ref().map(|(dialled, elapsed)| {
            let error = dialled.as_ref().err().filter(|error| !is_mismatch(error));
            json!({
                "reached": error.is_none(),
                "elapsed_ms": elapsed.as_secs_f64() * 1000.0,
                "stage": error.map(|error| error.stage.to_string()),
                "error": error.map(|error| error.cause.to_string()),
            })
        });
        json!({
            "name": self.name,
            "state": state,
            "owner": owner,
            "holders": self.holders.iter().map(at).collect::<Vec<_>>(),
            "others": self.say_of_others(),
            "dial": dial,
        })
    }

    fn outcome(self) -> Result<(), Failure> {
        match self.dial {
            Some((Err(error), _)) if !is_mismatch(&error) => Err(error.into()),
            Some(_) => Ok(()),
            None => match self.resolution {
                Resolution::Local | Resolution::Remote { .. } => Ok(()),
                _ => Err(Failure::new(
                    Kind::NotFound,
                    format!("{} is not served", self.name),
                )),
            },
        }
    }
}

/// Lets the other end a flow in order, if it does so at once.
async fn part_well(fabric: &Fabric, flow: Flow<Bytes, Bytes>) {
    let (sender, mut receiver) = flow.split();
    drop(sender);
    fabric.timeout(PARTING, receiver.recv()).await.ok();
}

/// The endpoint is there, and its program wants something else.
fn is_mismatch(error: &DialError) -> bool {
    matches!(
        error.cause,
        DialCause::Refused {
            reason: RefusalReason::Mismatch,
            ..
        }
    )
}

fn at(holder: &Holder) -> String {
    match holder {
        Holder::Local => "this very node".to_owned(),
        Holder::Remote { node, address, .. } => format!("{node} at {address}"),
    }
}

fn line(what: &str, value: impl std::fmt::Display) -> Result<(), Failure> {
    print(format_args!("{what:<15}{value}"))
}

const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const PARTING: Duration = Duration::from_millis(200);
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

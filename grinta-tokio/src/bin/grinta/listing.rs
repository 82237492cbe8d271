//! `grinta members` and `grinta names`.

use std::collections::BTreeMap;
use std::time::Duration;

use grinta_tokio::{
    EndpointName, Fabric, HealthSnapshot, ListedName, MemberEvent, MemberSnapshot, MemberState,
    NameEvent, NameUpdate, WatchError,
};
use serde_json::{Value, json};

use crate::arguments::{Members, Names};
use crate::failure::Failure;
use crate::output::{print, print_json, print_table};

pub(crate) async fn members(arguments: &Members) -> Result<(), Failure> {
    arguments
        .attachment
        .run(async |fabric| match (arguments.watch, arguments.json) {
            (true, json) => watch_members(fabric, json).await,
            (false, true) => print_json(&others(fabric)),
            (false, false) => print_table(&member_table(&others(fabric))),
        })
        .await
}

/// All members but the node that looks.
fn others(fabric: &Fabric) -> Vec<MemberSnapshot> {
    let mut members = fabric.snapshot().members;
    members.retain(|member| member.name != *fabric.node());
    members
}

fn member_table(members: &[MemberSnapshot]) -> Vec<Vec<String>> {
    let heading = ["NAME", "STATE", "ADDRESS", "RTT", "LABELS"].map(str::to_owned);
    let rows = members.iter().map(|member| {
        vec![
            member.name.to_string(),
            health(member.health),
            member.address.to_string(),
            member.round_trip_time.map_or_else(dash, milliseconds),
            labels(&member.labels),
        ]
    });
    std::iter::once(heading.to_vec()).chain(rows).collect()
}

async fn watch_members(fabric: &Fabric, json: bool) -> Result<(), Failure> {
    let mut watch = fabric.watch_members();
    loop {
        match watch.next().await {
            Ok(MemberEvent::Up(member)) if member.name == *fabric.node() => {}
            Ok(event) if json => print_json(&event_json(&event))?,
            Ok(event) => print(event_line(&event))?,
            Err(WatchError::Lagged) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// What happened to a member, for a person.
pub(crate) fn event_line(event: &MemberEvent) -> String {
    let member = event.member();
    let what = match event {
        MemberEvent::Up(_) => "is up",
        MemberEvent::Suspected(_) => "does not answer",
        MemberEvent::Refuted(_) => "answers again",
        MemberEvent::Down(_) => "is down",
        MemberEvent::Left(_) => "left",
        _ => "has changed",
    };
    format!("{} at {} {what}", member.name, member.address)
}

/// What happened to a member, for a program.
pub(crate) fn event_json(event: &MemberEvent) -> Value {
    let member = event.member();
    let what = match event {
        MemberEvent::Up(_) => "up",
        MemberEvent::Suspected(_) => "suspected",
        MemberEvent::Refuted(_) => "refuted",
        MemberEvent::Down(_) => "down",
        MemberEvent::Left(_) => "left",
        _ => "updated",
    };
    let state = match member.state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down { .. } => "down",
        MemberState::Left { .. } => "left",
    };
    json!({
        "event": what,
        "name": member.name.as_str(),
        "address": member.address,
        "session": member.session.0,
        "state": state,
        "labels": *member.labels,
    })
}

pub(crate) async fn names(arguments: &Names) -> Result<(), Failure> {
    arguments
        .attachment
        .run(async |fabric| match (arguments.watch, arguments.json) {
            (true, json) => watch_names(fabric, &arguments.prefix, json).await,
            (false, true) => {
                let names = all_names(fabric, &arguments.prefix);
                let names: Vec<_> = names.iter().map(name_json).collect();
                print_json(&names)
            }
            (false, false) => print_table(&name_table(&all_names(fabric, &arguments.prefix))),
        })
        .await
}

/// Whether a name was asked for: the command's own are not unless they are meant.
fn is_wanted(name: &EndpointName, prefix: &str) -> bool {
    prefix.starts_with(OWN_NAMES) || !name.as_str().starts_with(OWN_NAMES)
}

fn all_names(fabric: &Fabric, prefix: &str) -> Vec<ListedName> {
    let mut names = Vec::new();
    let mut page = fabric.names(prefix).page();
    loop {
        let found = page.names.into_iter();
        names.extend(found.filter(|listed| is_wanted(&listed.name, prefix)));
        let Some(next) = page.next else {
            return names;
        };
        page = fabric.names(prefix).after(next).page();
    }
}

fn name_table(names: &[ListedName]) -> Vec<Vec<String>> {
    let heading = ["NAME", "OWNER", "STATE"].map(str::to_owned);
    let rows = names.iter().map(|listed| {
        let state = if listed.is_suspect {
            "suspect"
        } else {
            "alive"
        };
        vec![
            listed.name.to_string(),
            listed.owner.to_string(),
            state.to_owned(),
        ]
    });
    std::iter::once(heading.to_vec()).chain(rows).collect()
}

fn name_json(listed: &ListedName) -> Value {
    json!({
        "name": listed.name.as_str(),
        "owner": listed.owner.as_str(),
        "suspect": listed.is_suspect,
    })
}

async fn watch_names(fabric: &Fabric, prefix: &str, json: bool) -> Result<(), Failure> {
    let mut watch = fabric.watch_names(prefix);
    loop {
        match watch.next().await {
            Ok(NameUpdate::Changed(event)) if !is_wanted(event.name(), prefix) => {}
            Ok(NameUpdate::Changed(event)) if json => print_json(&change_json(&event))?,
            Ok(NameUpdate::Changed(event)) => print(change_line(&event))?,
            Ok(NameUpdate::Complete) if json => print_json(&json!({ "event": "complete" }))?,
            Ok(_) | Err(WatchError::Lagged) => {}
            Err(_) => return Ok(()),
        }
    }
}

fn change_line(event: &NameEvent) -> String {
    match event {
        NameEvent::Appeared { name, owner } => format!("{name} is served by {owner}"),
        NameEvent::Moved {
            name,
            previous,
            owner,
        } => format!("{name} went from {previous} to {owner}"),
        NameEvent::Reshared { name, owner } => {
            format!("{name} is shared by others than before; {owner} owns it still")
        }
        NameEvent::Gone { name, previous } => format!("{name} is gone; {previous} owned it"),
        other => format!("{} has changed", other.name()),
    }
}

fn change_json(event: &NameEvent) -> Value {
    let (what, owner, previous) = match event {
        NameEvent::Appeared { owner, .. } => ("appeared", Some(owner), None),
        NameEvent::Moved {
            previous, owner, ..
        } => ("moved", Some(owner), Some(previous)),
        NameEvent::Reshared { owner, .. } => ("reshared", Some(owner), None),
        NameEvent::Gone { previous, .. } => ("gone", None, Some(previous)),
        _ => ("changed", None, None),
    };
    json!({
        "event": what,
        "name": event.name().as_str(),
        "owner": owner.map(|node| node.as_str()),
        "previous": previous.map(|node| node.as_str()),
    })
}

/// A member's health, for a person.
pub(crate) fn health(health: HealthSnapshot) -> String {
    match health {
        HealthSnapshot::Alive => "alive".to_owned(),
        HealthSnapshot::Suspect => "suspect".to_owned(),
        HealthSnapshot::Down { duration } => format!("down for {:.0} s", duration.as_secs_f32()),
        HealthSnapshot::Left { duration } => format!("left {:.0} s ago", duration.as_secs_f32()),
    }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    match labels.is_empty() {
        true => dash(),
        false => labels.join(","),
    }
}

/// What is not known, for a person.
pub(crate) fn dash() -> String {
    "-".to_owned()
}

/// A short time, for a person.
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Under which the command itself holds endpoints.
const OWN_NAMES: &str = "grinta.";

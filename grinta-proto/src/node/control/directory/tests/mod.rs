//! The directory at work: several replicas that learn from each other.

mod algebra;
mod floors;
mod limits;
mod lives;
mod model;
mod questions;
mod shared;
mod stories;
mod verdicts;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, Stamp};

/// One claim as a test compares it.
type Told = (Version, String, Stamp, ClaimState);

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn endpoint(name: &str) -> EndpointName {
    EndpointName::new(name).unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_000_000 + seconds)
}

fn directory(name: &str) -> Directory {
    Directory::new(node(name), Session(1), DirectoryLimits::default())
}

/// Directories of which each knows the others to be up in their first session.
fn directories<const N: usize>(names: [&str; N]) -> [Directory; N] {
    names.map(|name| {
        let mut directory = directory(name);
        for other in names {
            directory.set_reachable(&node(other), Session(1));
        }
        directory
    })
}

fn head(owner: &str, session: u64, version: u64, floor: u64) -> OwnerHead {
    OwnerHead {
        owner: node(owner),
        session: Session(session),
        version: Version(version),
        floor: Version(floor),
    }
}

/// What `from` tells of `owner` to one that knows nothing.
fn whole(from: &Directory, owner: &str) -> OwnerDelta {
    from.delta_for(&OwnerHead::unknown(node(owner)), usize::MAX)
        .expect("the owner is known")
}

/// Tells `to` once all that `from` has and `to` lacks, in deltas of at most `budget` bytes.
/// Returns whether anything came of it.
fn tell(from: &Directory, to: &mut Directory, budget: usize) -> bool {
    let heads: Vec<_> = from.heads().collect();
    let mut advanced = false;
    for head in heads {
        if let Some(delta) = from.delta_for(&to.head(&head.owner), budget) {
            advanced |= to.apply(&delta) == Applied::Advanced;
            to.check_invariants();
        }
    }
    advanced
}

/// Lets all tell each other until nobody learns anything.
fn settle(directories: &mut [Directory], budget: usize) {
    for _round in 0..1_000 {
        let mut advanced = false;
        for from in 0..directories.len() {
            for to in 0..directories.len() {
                if let Ok([from, to]) = directories.get_disjoint_mut([from, to]) {
                    advanced |= tell(from, to, budget);
                }
            }
        }
        if !advanced {
            return;
        }
    }
    panic!("the directories never come to rest");
}

fn claims_of(directory: &Directory, owner: &str) -> Vec<Told> {
    let Some(id) = directory.owners.find(&node(owner)) else {
        return Vec::new();
    };
    let claims = directory.owners[id].claims_in(Version(0), Version(u64::MAX));
    claims
        .map(|(version, entry)| (version, entry.name.to_string(), entry.stamp(), entry.state))
        .collect()
}

/// Everything a directory holds of everyone.
fn contents(directory: &Directory) -> Vec<(OwnerHead, Vec<Told>)> {
    let heads = directory.heads();
    heads
        .map(|head| {
            let claims = claims_of(directory, head.owner.as_str());
            (head, claims)
        })
        .collect()
}

fn changes(directory: &mut Directory) -> Vec<Change> {
    directory.tell_verdicts(usize::MAX);
    std::iter::from_fn(|| directory.poll_change()).collect()
}

/// Who serves a name, whatever was denied by whom it was dialled at.
fn serving<'a>(directory: &'a Directory, name: &str) -> Vec<&'a str> {
    let candidates = directory.index.get(&endpoint(name));
    let servers = candidates.map(|it| it.servers(|holder| directory.is_reachable(holder)));
    let servers = servers.into_iter().flatten();
    servers
        .map(|holder| directory.owners[holder.owner].name.as_str())
        .collect()
}

fn remote(directory: &Directory, name: &str) -> Located {
    let resolution = directory.resolve(&endpoint(name));
    let Resolution::Remote(located) = resolution else {
        panic!("{name} is not at another node: {resolution:?}");
    };
    located
}

/// Forgets all releases of a directory, however few they are.
fn force_collect(directory: &mut Directory) -> usize {
    let before = directory.releases_kept();
    directory.forget_releases(0);
    directory.owners.rehash(LOCAL);
    before - directory.releases_kept()
}

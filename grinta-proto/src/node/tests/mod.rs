//! Stories of whole nodes: honest ones among themselves, and honest ones among hostile peers.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for what it is about"
)]

mod connections;
mod counters;
mod flows;
mod hostile;
mod joining;
mod limits;
mod members;
mod names;
mod outages;
mod quiet;
mod random;
mod rotation;
mod shared;
mod shutdown;
mod slow;
mod snapshot;
mod trust;

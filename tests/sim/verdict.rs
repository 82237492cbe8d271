//! What must hold, and what became of a run.

use std::fmt;
use std::time::Duration;

use crate::history::Hash;

/// What must hold in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Nobody that runs and is reachable is held down while nothing is wrong, at a loss of 5 % or
    /// less, and through freezes well within the suspicion.
    M1,
    /// Nobody is exiled after a heal: all that run are members everywhere at the end.
    M2,
    /// A crash is known everywhere within its bound.
    M3,
    /// Within two rounds of push and pull and 5 s of a heal every view is whole.
    M4,
    /// The events of a member alternate, and fold to the list of members.
    M5,
    /// Who left on purpose is not held to have failed.
    M6,
    /// No member's session ever goes back.
    M7,
    /// Nobody is told that it is down by one who does not hold it down.
    M8,
    /// At quiescence all replicas of the directory agree, and a name has one owner at most.
    D1,
    /// A name that is held resolves, everywhere, to one who holds it.
    D2,
    /// A name that nobody holds is nowhere.
    D3,
    /// A loser is told once; a standby is promoted.
    D4,
    /// Nobody owns what they never claimed.
    D6,
    /// Those who are down own nothing.
    D8,
    /// A replica never goes back, nor beyond its owner.
    D9,
    /// No change waits unheard, and the directory's own invariants hold.
    D10,
    /// Nothing panics.
    P1,
    /// Two runs of one plan are the same.
    P2,
    /// Nothing is told that has no cause in the plan: an identity conflict.
    P3,
    /// No message is longer than its channel takes.
    R1,
    /// The next timer is in the future, and the work of one instant bounded.
    R2,
    /// Who left has no timer.
    R3,
    /// Nobody honest is held to break the protocol.
    S6,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} broken at {at:?}: {what}")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When.
    pub at: Duration,
    /// How.
    pub what: String,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: Hash,
    /// How many events there were.
    pub events: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// What broke first, if anything did.
    pub violation: Option<Violation>,
    /// A line for each event, if they were asked for.
    pub lines: Vec<String>,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

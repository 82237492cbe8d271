//! What must hold, and what became of a run.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::history::Hash;
use crate::marks::Mark;
use crate::scene::Scene;

macro_rules! invariants {
    ($($(#[doc = $doc:literal])+ $invariant:ident,)+) => {
        /// What must hold in every run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant {
            $($(#[doc = $doc])+ $invariant,)+
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$invariant),+];

            /// What it says, in words.
            #[must_use]
            pub fn words(self) -> &'static str {
                let words = match self {
                    $(Self::$invariant => concat!($($doc),+),)+
                };
                words.trim()
            }
        }
    };
}

invariants! {
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
    /// Who owns a name follows from the claims and from who is reachable, whatever came first.
    D5,
    /// Nobody owns what they never claimed.
    D6,
    /// Those who are down own nothing.
    D8,
    /// A replica never goes back, nor beyond its owner, and is what its owner said up to a point.
    D9,
    /// No change waits unheard, and the directory's own invariants hold.
    D10,
    /// A stale dial ends in a refusal or a fresh answer, never in another name's flow.
    D7,
    /// What is read is a prefix of what was sent.
    F1,
    /// A flow ends cleanly exactly if all was read.
    F2,
    /// Nothing is lost without a word: both ends learn that a flow is over.
    F3,
    /// A crash is known at the other ends of its flows within its bound.
    F4,
    /// Nobody gets another flow's messages, and the ends agree on who they are.
    F5,
    /// Who does not read keeps nobody else's flow from going on.
    F6,
    /// Each dial and call is over once, within its time.
    F7,
    /// Dropping a future loses nothing.
    F8,
    /// A flow within a process keeps all that a flow between two does.
    F9,
    /// Nothing panics.
    P1,
    /// Two runs of one plan are the same.
    P2,
    /// Nothing is told that has no cause in the plan: an identity conflict.
    P3,
    /// Nothing is logged as an error.
    P4,
    /// Whatever is bounded is within its bound after each turn: queues, tables, messages.
    R1,
    /// The next timer is in the future, and the work of one instant bounded.
    R2,
    /// Nothing is left after a shutdown: no timer, socket, connection or task.
    R3,
    /// No memory is left after the run of a plan.
    R4,
    /// Who has not shown its address is sent no more than three times what it sent.
    R5,
    /// Who does nothing sends little.
    R6,
    /// Who is not certified is a member nowhere.
    S1,
    /// Attackers change nothing of what honest nodes see.
    S2,
    /// A name that is not in the certificate is refused, and that is told.
    S3,
    /// What is sent again changes nothing.
    S4,
    /// A malformed frame closes its own connection and no other.
    S5,
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
    /// What each node was and held then, a line for each.
    pub nodes: Vec<String>,
}

impl Violation {
    pub(crate) const fn new(invariant: Invariant, at: Duration, what: String) -> Self {
        Self {
            invariant,
            at,
            what,
            nodes: Vec::new(),
        }
    }

    /// What broke, and what each node was and held then: lines for people.
    #[must_use]
    pub fn report(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("\n    {node}"));
        format!("{self}{}", nodes.collect::<String>())
    }
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
    /// What it came to of what some runs have to come to.
    pub marks: BTreeSet<Mark>,
    /// A line for each event, if they were asked for.
    pub lines: Vec<String>,
    /// What pictures are made of, if lines were asked for.
    pub scenes: Vec<Scene>,
}

impl Outcome {
    /// What is the first difference of two runs: the event, as both have it, if both kept lines.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let lines = self.lines.iter().zip(&other.lines).enumerate();
        let mut differ = lines.filter(|(_, (one, other))| one != other);
        if let Some((number, (one, other))) = differ.next() {
            return Some(format!("event {number} was\n  {one}\nand then\n  {other}"));
        }
        let (one, other) = (self.events, other.events);
        Some(format!(
            "they had {one} and {other} events, and other hashes"
        ))
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str]) -> Outcome {
        let mut hash = Hash::new();
        lines
            .iter()
            .for_each(|line| hash.absorb_bytes(line.as_bytes()));
        Outcome {
            hash,
            events: lines.len() as u64,
            simulated: Duration::ZERO,
            violation: None,
            marks: BTreeSet::new(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            scenes: Vec::new(),
        }
    }

    #[test]
    fn the_first_event_that_differs_is_told() {
        let one = outcome(&["starts", "sends", "stops"]);
        assert_eq!(one.first_difference(&one), None);
        let told = one.first_difference(&outcome(&["starts", "waits", "stops"]));
        assert_eq!(
            told.as_deref(),
            Some("event 1 was\n  sends\nand then\n  waits")
        );
        let told = one.first_difference(&outcome(&["starts"]));
        assert_eq!(
            told.as_deref(),
            Some("they had 3 and 1 events, and other hashes")
        );
    }
}

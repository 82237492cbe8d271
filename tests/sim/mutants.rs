//! Whether the simulator is any good: each mistake that the core can be made to make is found.

use grinta_proto::Mutant;

use crate::plan::{Plan, Tier};
use crate::run::judge;
use crate::verdict::Violation;

/// How a mutant was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    /// The first seed that broke something.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
}

/// Looks for a mutant, which this process is, with the first so many seeds of its tier, and reports
/// each before it runs: one whose step asks the system for the time ends the process. `None` if it
/// is not found.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: u64, report: impl Fn(u64)) -> Option<Find> {
    (0..seeds).find_map(|seed| {
        report(seed);
        let outcome = judge(seed, &Plan::of_seed(tier_of(mutant), seed));
        let violation = outcome.violation?;
        Some(Find { seed, violation })
    })
}

/// Where a mutant shows.
#[must_use]
pub const fn tier_of(mutant: Mutant) -> Tier {
    match mutant {
        Mutant::OldClaimTaken
        | Mutant::OldReleaseTaken
        | Mutant::NamesNotRestored
        | Mutant::LoserNotTold
        | Mutant::ClockResetOnRestart
        | Mutant::JoinAnnouncedOnce
        | Mutant::TurnUndeadToTheLiving
        | Mutant::DownMergedAsDown
        | Mutant::RumoursNeverEnd
        | Mutant::OlderSessionAccepted
        | Mutant::UnorderedIteration
        | Mutant::ClockRead
        | Mutant::TimerLeftOnClose => Tier::Control,
        Mutant::TimersFirst
        | Mutant::LossReadAsEnd
        | Mutant::WakeLostOnCancel
        | Mutant::IdentityNotBound => Tier::Full,
    }
}

//! Mistakes that tests put into the core on purpose, to see that the simulator finds them.
//!
//! A mistake is a *mutant*: one condition in the code, `mutant!(Name)`, where the remedy of a known
//! bug is taken out. Without `--cfg grinta_mutants`, and so in every build that users make, all of
//! them are `false` to the compiler, and nothing of them is left. With it a process turns one on, as
//! `sim --mutant` does; `.ci/mutants` is the compiler that sets it.
//!
//! Which one is on, and what the core's [whims](crate::whim) are drawn from, are the only globals that
//! the core ever reads, and exist under the cfg alone: passed down as an argument they would change
//! each signature on their way.

/// Whether a mutant is on.
#[cfg(grinta_mutants)]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_on($crate::mutant::Mutant::$name)
    };
}

/// Whether a mutant is on: never.
#[cfg(not(grinta_mutants))]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::never()
    };
}

pub(crate) use mutant;

#[cfg(not(grinta_mutants))]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(grinta_mutants)]
pub(crate) use self::switched::is_on;
#[cfg(grinta_mutants)]
pub use self::switched::{Mutant, set_mutant};

#[cfg(grinta_mutants)]
mod switched {
    use std::sync::OnceLock;

    /// A mistake that the core can be made to make.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Mutant {
        /// A claim of a name that nobody holds is taken, however old.
        OldClaimTaken,
        /// A release is taken, however old.
        OldReleaseTaken,
        /// The names of a member that was held down are gone for good when it turns out to live.
        NamesNotRestored,
        /// Who loses a name to an older claim is not told.
        LoserNotTold,
        /// A run whose clock went back keeps a session that is earlier than those before it.
        ClockResetOnRestart,
        /// Members are looked for once.
        JoinAnnouncedOnce,
        /// A process that wakes looks at its timers before the datagrams that wait for it, and judges
        /// a probe at once whose second stage it fires late.
        TimersFirst,
        /// Members are told that they are down who are not held down.
        TurnUndeadToTheLiving,
        /// Whom another node holds down is down, instead of suspect.
        DownMergedAsDown,
        /// What was told often enough is told on.
        RumoursNeverEnd,
        /// Claims of an owner's earlier session replace those of a later one.
        OlderSessionAccepted,
        /// What is told first follows the order of a hash map.
        UnorderedIteration,
        /// The core reads the clock by itself.
        ClockRead,
        /// A flow whose connection is lost ends as if its sender had finished.
        LossReadAsEnd,
        /// A call that is given up lets none of those in that wait for their turn.
        WakeLostOnCancel,
        /// A node that has left has timers.
        TimerLeftOnClose,
        /// A certified peer is whoever it says.
        IdentityNotBound,
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 17] = [
            Self::OldClaimTaken,
            Self::OldReleaseTaken,
            Self::NamesNotRestored,
            Self::LoserNotTold,
            Self::ClockResetOnRestart,
            Self::JoinAnnouncedOnce,
            Self::TimersFirst,
            Self::TurnUndeadToTheLiving,
            Self::DownMergedAsDown,
            Self::RumoursNeverEnd,
            Self::OlderSessionAccepted,
            Self::UnorderedIteration,
            Self::ClockRead,
            Self::LossReadAsEnd,
            Self::WakeLostOnCancel,
            Self::TimerLeftOnClose,
            Self::IdentityNotBound,
        ];
    }

    static ON: OnceLock<Mutant> = OnceLock::new();

    /// From here on this process makes that mistake.
    ///
    /// # Panics
    /// If it makes another one already.
    pub fn set_mutant(mutant: Mutant) {
        assert_eq!(
            *ON.get_or_init(|| mutant),
            mutant,
            "a process makes one mistake"
        );
    }

    pub(crate) fn is_on(mutant: Mutant) -> bool {
        ON.get() == Some(&mutant)
    }
}

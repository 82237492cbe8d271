//! What is right at any time and seldom happens, made common: FoundationDB's *buggify*.
//!
//! A *whim* is one condition in the code, `whim!(Name)`, under which the core goes a way that it has
//! to be able to go, and has little cause to. Whims are no mistakes: all that is promised holds with
//! them. As of mutants, nothing is left of them without `--cfg grinta_mutants`; with it `sim --whims`
//! turns them on, about half of them in each seed.

/// Whether the core takes a whim now.
#[cfg(grinta_mutants)]
macro_rules! whim {
    ($name:ident) => {
        $crate::whim::is_taken($crate::whim::Whim::$name)
    };
}

/// Whether the core takes a whim: never.
#[cfg(not(grinta_mutants))]
macro_rules! whim {
    ($name:ident) => {
        $crate::mutant::never()
    };
}

pub(crate) use whim;

#[cfg(grinta_mutants)]
pub use self::drawn::set_whims;
#[cfg(grinta_mutants)]
pub(crate) use self::drawn::{Whim, is_taken};

#[cfg(grinta_mutants)]
mod drawn {
    use std::cell::Cell;

    /// What the core may do.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Whim {
        /// A control message holds little, and the rest comes in others.
        ShortMessages,
        /// A rumour tells that there is news, and not what.
        HeadsAlone,
        /// Our own head is signed later.
        SignatureWaits,
        /// A stream is read a byte at a time.
        ShortReads,
        /// A datagram is sent by itself.
        OneSegment,
    }

    thread_local! {
        /// The seed of the run on this thread, and how many whims were asked about.
        static RUN: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// From here on the nodes of this thread have whims, or none for `None`.
    pub fn set_whims(seed: Option<u64>) {
        RUN.set(seed.map(|seed| (seed, 0)));
    }

    pub(crate) fn is_taken(whim: Whim) -> bool {
        let Some((seed, asked)) = RUN.get() else {
            return false;
        };
        RUN.set(Some((seed, asked + 1)));
        let of_seed = mix(seed ^ mix(1 + whim as u64));
        of_seed.is_multiple_of(2) && mix(of_seed ^ asked).is_multiple_of(OF)
    }

    /// SplitMix64's finalizer (Steele, Lea and Flood 2014).
    fn mix(word: u64) -> u64 {
        let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// One of so many is taken.
    const OF: u64 = 8;
}

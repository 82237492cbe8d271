//! How much a peer may say: so many bytes of control messages within a second.
//!
//! Who says more is listened to no further until the next second, and by that slowed, for what it has
//! to say waits at its own end. No node has more to say for long: whoever does is cut off.

use std::time::{Duration, Instant};

/// What a peer has said of late.
#[derive(Debug)]
pub(super) struct Allowance {
    /// When the present second began.
    began: Instant,
    /// Bytes that were taken in it.
    taken: usize,
    /// Seconds before it, one after the other, in which the limit was reached.
    strained: u32,
}

/// Whether to listen to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Now.
    Granted,
    /// Not before this.
    At(Instant),
    /// Never again.
    Forfeited,
}

impl Allowance {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            taken: 0,
            strained: 0,
        }
    }

    /// Whether to take more, with a limit in bytes a second.
    pub(super) fn leave(&mut self, now: Instant, limit: usize) -> Leave {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= SECOND {
            let is_strained = self.taken >= limit && elapsed < 2 * SECOND;
            self.strained = if is_strained { self.strained + 1 } else { 0 };
            (self.began, self.taken) = (now, 0);
        }
        if self.strained >= STRAINED_MAX {
            Leave::Forfeited
        } else if self.taken >= limit {
            Leave::At(self.began + SECOND)
        } else {
            Leave::Granted
        }
    }

    /// So many bytes were taken.
    pub(super) const fn spend(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// After so many seconds at the limit, one after the other, a peer is cut off: at the default it has
/// said six times what all names of a fabric take.
const STRAINED_MAX: u32 = 60;

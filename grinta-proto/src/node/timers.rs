//! One ordered queue of typed timers, one deadline.
//!
//! Timers fire by deadline, then by rank, then in the order in which they were armed, so that two
//! runs with the same inputs fire them alike.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names an armed timer, to disarm it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    deadline: Instant,
    rank: u8,
    sequence: u64,
}

impl TimerKey {
    /// When it fires.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A queue of timers that carry a `T` each.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    queue: BTreeMap<TimerKey, T>,
    armed: u64,
}

impl<T> Timers<T> {
    /// An empty queue.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            queue: BTreeMap::new(),
            armed: 0,
        }
    }

    /// Arms `timer` for `now + delay`. A delay too long to represent is cut to a century.
    pub(crate) fn arm(&mut self, now: Instant, delay: Duration, timer: T) -> TimerKey {
        self.arm_ranked(now, delay, 0, timer)
    }

    /// Arms `timer`; among timers of one deadline the lower `rank` fires first.
    pub(crate) fn arm_ranked(
        &mut self,
        now: Instant,
        delay: Duration,
        rank: u8,
        timer: T,
    ) -> TimerKey {
        let deadline = now.checked_add(delay).unwrap_or_else(|| now + CENTURY);
        let key = TimerKey {
            deadline,
            rank,
            sequence: self.armed,
        };
        self.armed += 1;
        self.queue.insert(key, timer);
        key
    }

    /// Disarms a timer; `None` if it has fired or was disarmed.
    pub(crate) fn disarm(&mut self, key: TimerKey) -> Option<T> {
        self.queue.remove(&key)
    }

    /// Takes the first timer whose deadline is not after `now`.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<T> {
        let first = self.queue.first_entry()?;
        (first.key().deadline <= now).then(|| first.remove())
    }

    /// The earliest deadline.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(key, _)| key.deadline)
    }

    /// How many timers are armed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_fire_by_deadline_then_rank_then_age() {
        let start = epoch();
        let mut timers = Timers::new();
        timers.arm(start, Duration::from_secs(2), "later");
        timers.arm_ranked(start, Duration::from_secs(1), 1, "second rank");
        timers.arm(start, Duration::from_secs(1), "first armed");
        timers.arm(start, Duration::from_secs(1), "then armed");

        assert_eq!(timers.deadline(), Some(start + Duration::from_secs(1)));
        assert_eq!(timers.pop_expired(start), None);
        let now = start + Duration::from_secs(1);
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_expired(now)).collect();
        assert_eq!(fired, ["first armed", "then armed", "second rank"]);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn a_disarmed_timer_never_fires_and_is_gone_once() {
        let start = epoch();
        let mut timers = Timers::new();
        let key = timers.arm(start, Duration::ZERO, ());
        assert_eq!(timers.disarm(key), Some(()));
        assert_eq!(timers.disarm(key), None);
        assert_eq!(timers.pop_expired(start), None);
    }

    #[test]
    fn a_delay_beyond_the_clock_is_cut_not_a_panic() {
        let mut timers = Timers::new();
        timers.arm(epoch(), Duration::MAX, ());
        assert_eq!(timers.len(), 1);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of a test"
    )]
    fn epoch() -> Instant {
        Instant::now()
    }
}

//! The hybrid logical clock that stamps claims.
//!
//! A stamp is the wall clock's time, or just past the latest stamp seen if that is later: a claim
//! made in knowledge of another is the younger of the two, however the clocks of their nodes
//! differ. Kulkarni et al., "Logical Physical Clocks", 2014.

use std::time::Duration;

use crate::wire::claims::Stamp;

/// How far a stamp that was seen may pull ours ahead of the wall clock. Nodes that keep time are
/// within a second of each other; a stamp further ahead than a minute tells of a broken clock or
/// a lie, and following it would make our claims look young for as long.
pub const STAMP_LEAD_MAX: Duration = Duration::from_secs(60);

/// The latest stamp seen or made.
#[derive(Debug, Default)]
pub(super) struct HybridClock {
    latest: Stamp,
}

impl HybridClock {
    pub(super) fn observe(&mut self, stamp: Stamp) {
        self.latest = self.latest.max(stamp);
    }

    /// Makes a stamp that is later than all it has seen, but at most [`STAMP_LEAD_MAX`] ahead of
    /// the wall clock; and later than `rival`, the claim that it must not overtake, in any case.
    pub(super) fn stamp(&mut self, unix_time: Duration, rival: Option<Stamp>) -> Stamp {
        let wall = Stamp {
            unix_ms: millis(unix_time),
            counter: 0,
        };
        let ceiling = Stamp {
            unix_ms: millis(unix_time.saturating_add(STAMP_LEAD_MAX)),
            ..wall
        };
        self.latest = if self.latest.unix_ms > ceiling.unix_ms {
            ceiling
        } else {
            wall.max(successor(self.latest))
        };
        rival.map_or(self.latest, |rival| self.latest.max(successor(rival)))
    }
}

fn successor(stamp: Stamp) -> Stamp {
    match stamp.counter.checked_add(1) {
        Some(counter) => Stamp { counter, ..stamp },
        None => match stamp.unix_ms.checked_add(1) {
            Some(unix_ms) => Stamp {
                unix_ms,
                counter: 0,
            },
            None => stamp,
        },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_millis(1_000_000);

    #[test]
    fn stamps_follow_the_wall_clock_and_never_repeat() {
        let mut clock = HybridClock::default();
        let first = clock.stamp(NOON, None);
        let second = clock.stamp(NOON, None);
        let earlier_wall = clock.stamp(NOON - Duration::from_secs(9), None);
        assert_eq!(
            first,
            Stamp {
                unix_ms: 1_000_000,
                counter: 0
            }
        );
        assert!(first < second && second < earlier_wall);
        assert_eq!(
            clock.stamp(NOON + Duration::from_millis(1), None).unix_ms,
            1_000_001
        );
    }

    #[test]
    fn a_claim_made_in_knowledge_of_another_is_the_younger() {
        let mut clock = HybridClock::default();
        let seen = Stamp {
            unix_ms: 1_030_000,
            counter: u32::MAX,
        };
        clock.observe(seen);
        assert_eq!(
            clock.stamp(NOON, None),
            Stamp {
                unix_ms: 1_030_001,
                counter: 0
            }
        );
    }

    #[test]
    fn a_stamp_from_the_far_future_pulls_no_further_than_the_bound() {
        let mut clock = HybridClock::default();
        clock.observe(Stamp {
            unix_ms: u64::MAX,
            counter: u32::MAX,
        });
        let bound = 1_060_000;
        assert_eq!(
            clock.stamp(NOON, None),
            Stamp {
                unix_ms: bound,
                counter: 0
            }
        );
        assert_eq!(
            clock.stamp(NOON, None),
            Stamp {
                unix_ms: bound,
                counter: 1
            },
            "and is then forgotten"
        );
        assert_eq!(clock.stamp(Duration::MAX, None).unix_ms, u64::MAX);
    }

    #[test]
    fn a_rival_is_never_overtaken_and_pulls_along_nothing_but_that_stamp() {
        let mut clock = HybridClock::default();
        let rival = Stamp {
            unix_ms: 9_000_000,
            counter: 4,
        };
        assert_eq!(
            clock.stamp(NOON, Some(rival)),
            Stamp {
                counter: 5,
                ..rival
            }
        );
        assert_eq!(
            clock.stamp(NOON, None),
            Stamp {
                unix_ms: 1_000_000,
                counter: 1
            }
        );
        let last = Stamp {
            unix_ms: u64::MAX,
            counter: u32::MAX,
        };
        assert_eq!(clock.stamp(NOON, Some(last)), last);
    }
}

//! Clocks of hosts, which keep another time than the simulation does.

use std::time::Duration;

/// A monotonic clock that may go faster or slower than time does.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// When its speed last changed, and what it showed then.
    since: (Duration, Duration),
    /// What it gains, in parts of a million.
    ppm: i32,
}

impl Clock {
    /// What it shows at a time of the simulation.
    pub(crate) fn shows(&self, now: Duration) -> Duration {
        let (since, shown) = self.since;
        shown
            + scaled(
                now.saturating_sub(since),
                MILLION + i64::from(self.ppm),
                MILLION,
            )
    }

    /// When it shows that, in time of the simulation: not before.
    pub(crate) fn when(&self, shows: Duration) -> Duration {
        let (since, shown) = self.since;
        let whole = Duration::from_nanos(u64::from(self.ppm != 0));
        since
            + scaled(
                shows.saturating_sub(shown),
                MILLION,
                MILLION + i64::from(self.ppm),
            )
            + whole
    }

    pub(crate) fn drift(&mut self, now: Duration, ppm: i32) {
        self.since = (now, self.shows(now));
        self.ppm = ppm;
    }
}

/// A duration times a fraction, in whole nanoseconds.
fn scaled(duration: Duration, numerator: i64, denominator: i64) -> Duration {
    if numerator == denominator {
        return duration;
    }
    let nanos = duration.as_nanos() * u128::from(numerator.unsigned_abs());
    let nanos = nanos / u128::from(denominator.unsigned_abs());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The whole of which clocks gain or lose parts.
const MILLION: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_never_goes_back_and_is_due_when_it_shows_so() {
        let second = Duration::from_secs(1);
        let mut clock = Clock::default();
        assert_eq!((clock.shows(second), clock.when(second)), (second, second));
        clock.drift(second, 10_000);
        assert_eq!(clock.shows(101 * second), 102 * second);
        clock.drift(101 * second, -20_000);
        assert_eq!(clock.shows(201 * second), 200 * second);
        for millis in 1..1000 {
            let deadline = 102 * second + Duration::from_micros(7 * millis);
            let due = clock.when(deadline);
            assert!(clock.shows(due) >= deadline);
            assert!(clock.shows(due - Duration::from_nanos(3)) < deadline);
        }
        clock.drift(201 * second, 0);
        assert_eq!(
            clock.shows(202 * second),
            201 * second,
            "what was lost is lost"
        );
    }
}

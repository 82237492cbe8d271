//! Keyed draws: every decision of a simulation has its own randomness.
//!
//! A draw is a function of the seed and of what is decided (purpose, two subjects, a count), never of
//! how much was drawn before. So taking one fault out of a plan leaves every other decision as it
//! was, which is what makes a plan worth shrinking. Integers only: the same on every machine.

use std::time::Duration;

/// All the randomness of one simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
}

/// What is decided by a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The randomness of a node: its seed.
    NodeSeed,
    /// The randomness of a node's cryptography.
    Cryptography,
    /// How much later than its link's latency a datagram arrives.
    Jitter,
    /// Whether a datagram is lost.
    Loss,
    /// Whether a datagram arrives twice, and how often.
    Duplication,
    /// Whether a datagram is held back so that others overtake it.
    Reordering,
    /// Which ready task is polled next.
    Scheduling,
    /// The keys of the standard library's hash maps.
    HashKeys,
    /// What a profile makes of a seed.
    Profile,
    /// Whether a task is woken for nothing, and which.
    SpuriousWake,
    /// What becomes of a datagram in bad weather.
    Weather,
    /// How much longer than others a direction between two hosts takes.
    Spread,
    /// Which datagram is lost where there are too many.
    Eviction,
    /// Whether a socket refuses to send.
    Refusal,
    /// What a program makes up its mind about.
    Program,
    /// What an attacker makes up.
    Attack,
}

/// The outcome of a draw: 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Draw(u64);

impl Draws {
    /// The randomness of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The `n`th decision of this purpose about `a` and `b`.
    pub const fn draw(self, purpose: Purpose, a: u64, b: u64, n: u64) -> Draw {
        let mut state = mix(self.seed ^ GOLDEN);
        let words = [purpose as u64, a, b, n];
        let mut index = 0;
        while index < words.len() {
            state = mix(state.wrapping_add(GOLDEN) ^ mix(words[index].wrapping_add(GOLDEN)));
            index += 1;
        }
        Draw(state)
    }

    /// 32 bytes for a seed or a key of this purpose.
    #[must_use]
    pub fn bytes(self, purpose: Purpose, a: u64, b: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (n, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&self.draw(purpose, a, b, n).0.to_le_bytes());
        }
        bytes
    }
}

impl Draw {
    /// All 64 bits.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// A number less than `bound`; zero if that is zero.
    #[must_use]
    pub fn below(self, bound: u64) -> u64 {
        let wide = u128::from(self.0) * u128::from(bound);
        u64::try_from(wide >> 64).expect("a product's upper half fits")
    }

    /// A number from `least` to `most`, both included.
    #[must_use]
    pub fn between(self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// A time shorter than `bound`, in whole nanoseconds.
    #[must_use]
    pub fn duration_below(self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos))
    }

    /// A time that is exponentially distributed with this mean, from its logarithm's whole part and
    /// a straight line in between; 44 times the mean at the most.
    #[must_use]
    pub fn exponential(self, mean: Duration) -> Duration {
        let halvings = u64::from(self.0.leading_zeros());
        let rest = self.0.checked_shl(self.0.leading_zeros() + 1).unwrap_or(0) >> 48;
        let thousandths = (halvings + 1) * 1000 - rest * 1000 / 65_536;
        // One halving and a half on average: a little more than without the straight lines.
        let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX / 100_000);
        Duration::from_nanos(nanos.saturating_mul(thousandths * 2 / 3) / 1000)
    }

    /// A time of which half are less than `median`, half of the rest less than twice that, and so
    /// on up to 64 times.
    #[must_use]
    pub fn long_tailed(self, median: Duration) -> Duration {
        let doublings = self.0.leading_zeros().min(6);
        let nanos = u64::try_from(median.as_nanos()).unwrap_or(u64::MAX);
        let within = Self(mix(self.0)).below(nanos);
        if doublings == 0 {
            return Duration::from_nanos(within);
        }
        Duration::from_nanos(
            nanos
                .saturating_add(within)
                .saturating_mul(1 << (doublings - 1)),
        )
    }

    /// True for `share` of a million.
    #[must_use]
    pub fn chance(self, share: u32) -> bool {
        self.below(1_000_000) < u64::from(share)
    }

    /// One of `items`; `None` if there are none.
    #[must_use]
    pub fn pick<T>(self, items: &[T]) -> Option<&T> {
        let index = usize::try_from(self.below(items.len() as u64)).ok()?;
        items.get(index)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit depends on every bit.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The golden ratio's fraction: SplitMix64's step, which keeps zero from mapping to zero.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_each_part_of_its_key() {
        let draw = Draws::new(1).draw(Purpose::Loss, 2, 3, 4);
        assert_eq!(draw, Draws::new(1).draw(Purpose::Loss, 2, 3, 4));
        for other in [
            Draws::new(2).draw(Purpose::Loss, 2, 3, 4),
            Draws::new(1).draw(Purpose::Jitter, 2, 3, 4),
            Draws::new(1).draw(Purpose::Loss, 3, 2, 4),
            Draws::new(1).draw(Purpose::Loss, 2, 4, 3),
            Draws::new(1).draw(Purpose::Loss, 2, 3, 5),
        ] {
            assert_ne!(draw, other);
        }
    }

    #[test]
    fn chances_come_true_as_often_as_they_say() {
        let draws = Draws::new(7);
        let hits = (0..100_000).filter(|&n| draws.draw(Purpose::Loss, 0, 0, n).chance(50_000));
        let hits = hits.count();
        assert!((4_700..5_300).contains(&hits), "{hits} of 100,000 at 5 %");
        assert!(!draws.draw(Purpose::Loss, 0, 0, 0).chance(0));
        assert!(draws.draw(Purpose::Loss, 0, 0, 0).chance(1_000_000));
    }

    #[test]
    fn times_are_distributed_as_they_say() {
        let draws = Draws::new(7);
        let mean = Duration::from_millis(10);
        let drawn = |draw: fn(Draw, Duration) -> Duration| {
            let mut times: Vec<_> = (0..10_000)
                .map(|n| draw(draws.draw(Purpose::Weather, 0, 0, n), mean))
                .collect();
            times.sort_unstable();
            times
        };
        let exponential = drawn(Draw::exponential);
        let mean_of = exponential.iter().sum::<Duration>() / 10_000;
        assert!(
            mean_of.abs_diff(mean) < Duration::from_micros(500),
            "{mean_of:?}"
        );
        let median = Duration::from_micros(6_930);
        assert!(exponential[5000].abs_diff(median) < Duration::from_micros(600));
        let long_tailed = drawn(Draw::long_tailed);
        assert!(long_tailed[5000].abs_diff(mean) < Duration::from_micros(500));
        assert!(long_tailed[7500].abs_diff(2 * mean) < Duration::from_millis(1));
        assert!(long_tailed[9999] < 64 * mean);
    }

    #[test]
    fn bounded_draws_reach_both_ends_and_no_further() {
        let draws = Draws::new(7);
        let drawn = (0..1000).map(|n| draws.draw(Purpose::Jitter, 0, 0, n).between(3, 5));
        let seen: std::collections::BTreeSet<_> = drawn.collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(draws.draw(Purpose::Jitter, 0, 0, 0).below(0), 0);
    }
}

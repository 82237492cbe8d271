//! What bad weather does to a datagram: it comes later, again, damaged, or not at all.

use std::rc::Rc;
use std::time::Duration;

use crate::draw::Draw;
use crate::plan::Weather;

/// Changes when a datagram's copies arrive. `draw` is keyed by a number, of which the upper half
/// is free; `busy` is until when the link has something to send.
pub(crate) fn delay(
    weather: &[Weather],
    now: Duration,
    (n, length): (u64, usize),
    busy: &mut Duration,
    times: &mut Vec<Duration>,
    draw: impl Fn(u64) -> Draw,
) {
    for (kind, weather) in (1..).zip(weather) {
        let of_copy = |copy: usize| draw(n ^ (kind << 56) ^ ((copy as u64) << 32));
        match *weather {
            Weather::Exponential(mean) => {
                for (copy, at) in times.iter_mut().enumerate() {
                    *at += of_copy(copy).exponential(mean);
                }
            }
            Weather::LongTail(median) => {
                for (copy, at) in times.iter_mut().enumerate() {
                    *at += of_copy(copy).long_tailed(median);
                }
            }
            Weather::Bursts(share) => {
                if draw((n / BURST) ^ (kind << 56) ^ (1 << 55)).chance(share) {
                    times.clear();
                }
            }
            Weather::Replay(share, within) => {
                if of_copy(0).chance(share)
                    && let Some(&at) = times.first()
                {
                    times.push(at + of_copy(1).duration_below(within));
                }
            }
            Weather::Rate(rate, queue) => {
                let rate = rate.max(1);
                let waiting = busy.saturating_sub(now);
                let nanos = u64::try_from(waiting.as_nanos()).unwrap_or(u64::MAX);
                let queued = nanos / 1_000_000 * rate / 1000;
                if queued + length as u64 > queue {
                    times.clear();
                    continue;
                }
                let takes = Duration::from_nanos(length as u64 * 1_000_000_000 / rate);
                *busy = now.max(*busy) + takes;
                let later = *busy - now;
                times.iter_mut().for_each(|at| *at += later);
            }
            Weather::Mtu(longest) => {
                if length > longest {
                    times.clear();
                }
            }
            // The network knows what else is under way.
            Weather::Evict(_)
            | Weather::Flip(_)
            | Weather::Truncate(_)
            | Weather::Swap(_)
            | Weather::Splice(_)
            | Weather::Garbage(_)
            | Weather::MarkEcn(_) => {}
        }
    }
}

/// What arrives of a payload. `latest` is what took the same way before it.
pub(crate) fn damage(
    weather: &[Weather],
    payload: &Rc<[u8]>,
    latest: Option<&Rc<[u8]>>,
    draw: impl Fn(u64) -> Draw,
) -> Rc<[u8]> {
    let mut damaged = Rc::clone(payload);
    for (kind, weather) in (1..).zip(weather) {
        let part = |part: u64| draw((kind << 8) | part);
        let place = |part_of: u64, length: usize| {
            usize::try_from(part(part_of).below(length as u64)).unwrap_or_default()
        };
        match *weather {
            Weather::Flip(share) if part(0).chance(share) && !damaged.is_empty() => {
                let mut bytes = damaged.to_vec();
                bytes[place(1, damaged.len())] ^= 1 << part(2).below(8);
                damaged = Rc::from(bytes);
            }
            Weather::Truncate(share) if part(0).chance(share) => {
                damaged = Rc::from(&damaged[..place(1, damaged.len())]);
            }
            Weather::Swap(share) if part(0).chance(share) => {
                let (head, tail) = damaged.split_at(place(1, damaged.len()));
                damaged = Rc::from([tail, head].concat());
            }
            Weather::Splice(share) if part(0).chance(share) => {
                if let Some(latest) = latest {
                    let at = place(1, damaged.len().min(latest.len()));
                    damaged = Rc::from([&damaged[..at], &latest[at..]].concat());
                }
            }
            Weather::Garbage(share) if part(0).chance(share) => {
                let bytes =
                    (0..damaged.len() as u64).map(|at| part(at + 1).word().to_le_bytes()[0]);
                damaged = bytes.collect();
            }
            Weather::Flip(_)
            | Weather::Truncate(_)
            | Weather::Swap(_)
            | Weather::Splice(_)
            | Weather::Garbage(_)
            | Weather::Exponential(_)
            | Weather::LongTail(_)
            | Weather::Bursts(_)
            | Weather::Replay(..)
            | Weather::Rate(..)
            | Weather::Evict(_)
            | Weather::Mtu(_)
            | Weather::MarkEcn(_) => {}
        }
    }
    damaged
}

/// The two ECN bits that a datagram arrives with.
pub(crate) fn mark(weather: &[Weather], ecn: Option<u8>, draw: impl Fn(u64) -> Draw) -> Option<u8> {
    let is_marked = (1..).zip(weather).any(|(kind, weather)| match weather {
        Weather::MarkEcn(share) => draw((kind << 8) | 0xff).chance(*share),
        Weather::Flip(_)
        | Weather::Truncate(_)
        | Weather::Swap(_)
        | Weather::Evict(_)
        | Weather::Splice(_)
        | Weather::Garbage(_)
        | Weather::Exponential(_)
        | Weather::LongTail(_)
        | Weather::Bursts(_)
        | Weather::Replay(..)
        | Weather::Rate(..)
        | Weather::Mtu(_) => false,
    });
    // Only what says that it can be marked is.
    ecn.map(|ecn| if is_marked { CONGESTION_MET } else { ecn })
}

/// So many datagrams in a row are lost together.
const BURST: u64 = 16;

/// Both ECN bits: RFC 3168, section 5.
const CONGESTION_MET: u8 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draws, Purpose};

    fn draw(n: u64) -> Draw {
        Draws::new(1).draw(Purpose::Weather, 0, 0, n)
    }

    /// When datagrams of 100 bytes arrive, one sent each millisecond without a latency.
    fn arrivals(weather: Weather) -> Vec<Vec<Duration>> {
        let mut busy = Duration::ZERO;
        let arrive = |n| {
            let now = Duration::from_millis(n);
            let mut times = vec![now];
            delay(&[weather], now, (n, 100), &mut busy, &mut times, draw);
            times
        };
        (0..200).map(arrive).collect()
    }

    #[test]
    fn bursts_are_whole() {
        let arrivals = arrivals(Weather::Bursts(500_000));
        let runs = arrivals.chunks_exact(16);
        let lost = |run: &&[Vec<Duration>]| run.iter().all(Vec::is_empty);
        let there = |run: &&[Vec<Duration>]| run.iter().all(|times| times.len() == 1);
        let (lost, there) = (
            runs.clone().filter(lost).count(),
            runs.filter(there).count(),
        );
        assert!(
            lost > 0 && there > 0 && lost + there == 12,
            "{lost} {there}"
        );
    }

    #[test]
    fn a_slow_link_queues_and_then_drops() {
        // 100 bytes take 2 ms of a link that gets them each millisecond.
        let arrivals = arrivals(Weather::Rate(50_000, 1000));
        let dropped = arrivals.iter().filter(|times| times.is_empty()).count();
        assert!((80..110).contains(&dropped), "{dropped} of 200");
        let times: Vec<_> = arrivals.concat();
        assert!(times.is_sorted());
        let waits = arrivals.iter().enumerate().filter_map(|(n, times)| {
            let sent = Duration::from_millis(n as u64);
            times.first().map(|at| *at - sent)
        });
        let longest = waits.max().unwrap();
        assert!(longest <= Duration::from_millis(22), "{longest:?}");
    }

    #[test]
    fn damage_is_what_it_says() {
        let payload: Rc<[u8]> = Rc::from([7_u8; 100]);
        let earlier: Rc<[u8]> = Rc::from([9_u8; 90]);
        let damaged = |weather| damage(&[weather], &payload, Some(&earlier), draw);
        let flipped = damaged(Weather::Flip(1_000_000));
        let bits = flipped.iter().map(|byte| (byte ^ 7).count_ones());
        assert_eq!((flipped.len(), bits.sum::<u32>()), (100, 1));
        assert!(damaged(Weather::Truncate(1_000_000)).len() < 100);
        let counted: Rc<[u8]> = (0..100).collect();
        let swapped = damage(&[Weather::Swap(1_000_000)], &counted, None, draw);
        let begins = usize::from(swapped[0]);
        assert_eq!([&counted[begins..], &counted[..begins]].concat(), &*swapped);
        assert_ne!(counted, swapped);
        let spliced = damaged(Weather::Splice(1_000_000));
        assert!(
            spliced.len() == 90 && spliced.ends_with(&[9]),
            "{spliced:?}"
        );
        let garbage = damaged(Weather::Garbage(1_000_000));
        assert!(garbage.len() == 100 && garbage != payload);
        assert_eq!(damaged(Weather::Flip(0)), payload);
    }

    #[test]
    fn marks_are_for_those_who_can_be_marked() {
        let weather = [Weather::MarkEcn(1_000_000)];
        assert_eq!(mark(&weather, Some(0b10), draw), Some(0b11));
        assert_eq!(mark(&weather, None, draw), None);
    }
}

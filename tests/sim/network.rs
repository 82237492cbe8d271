//! The network between hosts: when a datagram arrives, how often, or whether at all.
//!
//! It carries nothing itself. Asked about one datagram it answers with the times of its arrivals, so
//! that both tiers, datagrams and messages, live on the same links under the same faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::draw::{Draws, Purpose};
use crate::plan::{Fault, NodeId, Weather};
use crate::weather;

/// A machine of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(crate) u32);

/// What one direction between two hosts is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// How long a datagram takes at the least. Default 500 µs.
    pub latency: Duration,
    /// Up to how much longer, each its own time, so that they overtake each other. Default 100 µs.
    pub jitter: Duration,
    /// How many of a million are lost. Default none.
    pub loss: u32,
    /// How many of a million arrive more than once, up to 16 times. Default none.
    pub duplication: u32,
    /// How many of a million are held back for ten latencies. Default none.
    pub reordering: u32,
    /// Up to how much longer each direction between two hosts takes than others, for good: drawn once
    /// for each. Default zero.
    pub spread: Duration,
    /// Longest datagram that passes, in bytes of UDP payload; longer ones vanish. Default 1,472, as
    /// on Ethernet.
    pub datagram_len_max: usize,
    /// What else it suffers from. Default nothing.
    pub weather: Vec<Weather>,
}

/// Names a cut, to mend it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CutId(u64);

/// All links between all hosts, each direction by itself.
#[derive(Debug)]
pub struct Network {
    draws: Draws,
    everywhere: Link,
    links: BTreeMap<Direction, Link>,
    cuts: BTreeMap<CutId, BTreeSet<Direction>>,
    cuts_made: u64,
    jams: BTreeMap<CutId, BTreeSet<Direction>>,
    /// Hosts between which nothing is wrong, whatever is elsewhere, and what their links are like.
    spared: (BTreeSet<HostId>, Link),
    /// Datagrams that will be lost, by their counts.
    doomed: BTreeSet<(Direction, u64)>,
    /// Until when a link of limited rate has something to send.
    busy: BTreeMap<Direction, Duration>,
    /// What is under way where room is limited: its tickets, when it arrives, its length.
    crowded: BTreeMap<Direction, Vec<(Ticket, Duration, usize)>>,
    evicted: BTreeSet<Ticket>,
    /// What was sent last, where datagrams are spliced.
    latest: BTreeMap<Direction, Rc<[u8]>>,
    /// Datagrams asked about, by direction: what tells the draws of one from those of the next.
    counts: BTreeMap<Direction, u64>,
}

/// What arrives of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) payload: Rc<[u8]>,
    pub(crate) ecn: Option<u8>,
    pub(crate) ticket: Ticket,
}

/// Names a datagram that is under way, so that one may be lost that was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(Direction, u64);

/// From one host to another.
type Direction = (HostId, HostId);

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(500),
            jitter: Duration::from_micros(100),
            loss: 0,
            duplication: 0,
            reordering: 0,
            spread: Duration::ZERO,
            datagram_len_max: 1472,
            weather: Vec::new(),
        }
    }
}

impl Network {
    pub(crate) fn new(draws: Draws) -> Self {
        Self {
            draws,
            everywhere: Link::default(),
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            cuts_made: 0,
            jams: BTreeMap::new(),
            spared: (BTreeSet::new(), Link::default()),
            doomed: BTreeSet::new(),
            busy: BTreeMap::new(),
            crowded: BTreeMap::new(),
            evicted: BTreeSet::new(),
            latest: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Changes all links, those that were changed by themselves among them.
    pub fn change_all(&mut self, change: impl Fn(&mut Link)) {
        change(&mut self.everywhere);
        self.links.values_mut().for_each(change);
    }

    /// Makes all links like this one.
    pub fn restore(&mut self, link: Link) {
        self.everywhere = link;
        self.links.clear();
    }

    /// Makes links as bad as a fault has them.
    pub(crate) fn worsen(&mut self, fault: &Fault, host: impl Fn(NodeId) -> HostId) {
        match fault {
            Fault::SlowLinks(one, other, by) => {
                for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    self.change(host(a), host(b), |link| link.latency += *by);
                    self.change(host(b), host(a), |link| link.latency += *by);
                }
            }
            Fault::Latency(by) => self.change_all(|link| link.latency += *by),
            Fault::Jitter(by) => self.change_all(|link| link.jitter += *by),
            Fault::Loss(share) => self.change_all(|link| link.loss = link.loss.max(*share)),
            Fault::Duplicate(share) => {
                self.change_all(|link| link.duplication = link.duplication.max(*share));
            }
            Fault::Reorder(share) => {
                self.change_all(|link| link.reordering = link.reordering.max(*share));
            }
            Fault::Weather(weather) => self.change_all(|link| link.weather.push(*weather)),
            Fault::Crash(_)
            | Fault::Move(_)
            | Fault::SetBack(_)
            | Fault::Swap(..)
            | Fault::RollingRestart(_)
            | Fault::Pause(_)
            | Fault::ClockAhead(..)
            | Fault::ClockBehind(..)
            | Fault::Host(..)
            | Fault::Cut(..)
            | Fault::CutOneWay(..)
            | Fault::Flap(..)
            | Fault::Jam(..)
            | Fault::Ring
            | Fault::Swizzle(_)
            | Fault::LosePacket(..)
            | Fault::Attack(..) => {}
        }
    }

    /// Changes one direction between two hosts.
    pub fn change(&mut self, from: HostId, to: HostId, change: impl FnOnce(&mut Link)) {
        let everywhere = &self.everywhere;
        let link = self.links.entry((from, to));
        change(link.or_insert_with(|| everywhere.clone()));
    }

    /// One direction between two hosts.
    #[must_use]
    pub fn link(&self, from: HostId, to: HostId) -> &Link {
        if self.is_spared(from, to) {
            return &self.spared.1;
        }
        self.links.get(&(from, to)).unwrap_or(&self.everywhere)
    }

    /// From here on nothing is wrong between these hosts, whose links are like this one. What is
    /// wrong with others stays.
    pub(crate) fn spare(&mut self, hosts: BTreeSet<HostId>, link: Link) {
        self.spared = (hosts, link);
    }

    fn is_spared(&self, from: HostId, to: HostId) -> bool {
        let (hosts, _) = &self.spared;
        hosts.contains(&from) && hosts.contains(&to)
    }

    /// Lets nothing through from any of `from` to any of `to`. The other direction stays open.
    pub fn cut_one_way(&mut self, from: &[HostId], to: &[HostId]) -> CutId {
        self.cut_directions(directions(from, to).collect())
    }

    /// Lets nothing through between any of `one` and any of `other`.
    pub fn cut(&mut self, one: &[HostId], other: &[HostId]) -> CutId {
        self.cut_directions(
            directions(one, other)
                .chain(directions(other, one))
                .collect(),
        )
    }

    fn cut_directions(&mut self, directions: BTreeSet<Direction>) -> CutId {
        let id = self.next_cut();
        self.cuts.insert(id, directions);
        id
    }

    fn next_cut(&mut self) -> CutId {
        self.cuts_made += 1;
        CutId(self.cuts_made)
    }

    /// Holds what goes from any of `from` to any of `to`, until this is mended.
    pub(crate) fn jam(&mut self, from: &[HostId], to: &[HostId]) -> CutId {
        let id = self.next_cut();
        self.jams.insert(id, directions(from, to).collect());
        id
    }

    /// Whether what goes from one host to another is held.
    pub(crate) fn is_jammed(&self, from: HostId, to: HostId) -> bool {
        !self.is_spared(from, to) && self.jams.values().any(|jam| jam.contains(&(from, to)))
    }

    /// Loses the `number`th datagram from now on.
    pub(crate) fn doom(&mut self, from: HostId, to: HostId, number: u64) {
        let sent = self.counts.get(&(from, to)).copied().unwrap_or_default();
        self.doomed.insert(((from, to), sent + number));
    }

    /// Ends a cut. Directions that another cut closes stay closed.
    pub fn mend(&mut self, cut: CutId) {
        self.cuts.remove(&cut);
        self.jams.remove(&cut);
    }

    /// Whether a cut has not ended.
    #[must_use]
    pub fn is_cut(&self, cut: CutId) -> bool {
        self.cuts.contains_key(&cut)
    }

    /// Ends all cuts.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
    }

    /// Whether datagrams pass from one host to another.
    #[must_use]
    pub fn is_open(&self, from: HostId, to: HostId) -> bool {
        self.is_spared(from, to) || !self.cuts.values().any(|cut| cut.contains(&(from, to)))
    }

    /// What arrives of a datagram that is sent at `now`, and when: nothing if it is lost, several
    /// times the same if it is duplicated.
    pub(crate) fn carry(
        &mut self,
        now: Duration,
        from: HostId,
        to: HostId,
        payload: &Rc<[u8]>,
        ecn: Option<u8>,
    ) -> Vec<Arrival> {
        let times = self.arrivals(now, from, to, payload.len());
        let direction = (from, to);
        let n = self.counts.get(&direction).copied().unwrap_or_default();
        let ticket = Ticket(direction, n);
        let mut times = times;
        self.crowd(now, ticket, payload.len(), &mut times);
        let weather = &self.link(from, to).weather;
        if weather.is_empty() || from == to {
            let whole = |at| Arrival {
                at,
                payload: Rc::clone(payload),
                ecn,
                ticket,
            };
            return times.into_iter().map(whole).collect();
        }
        let draw = |part| {
            let (a, b) = (u64::from(from.0), u64::from(to.0));
            self.draws
                .draw(Purpose::Weather, a, b, n ^ ((part + 1) << 40))
        };
        let latest = self.latest.get(&direction);
        let damaged = weather::damage(weather, payload, latest, draw);
        let ecn = weather::mark(weather, ecn, draw);
        let is_spliced = weather.iter().any(|w| matches!(w, Weather::Splice(_)));
        let arrivals = times.into_iter().map(|at| Arrival {
            at,
            payload: Rc::clone(&damaged),
            ecn,
            ticket,
        });
        let arrivals = arrivals.collect();
        if is_spliced {
            self.latest.insert(direction, Rc::clone(payload));
        }
        arrivals
    }

    /// Where room is limited, loses one of those that are under way, or the new one, for as long as
    /// there are too many.
    fn crowd(&mut self, now: Duration, ticket: Ticket, length: usize, times: &mut Vec<Duration>) {
        let Ticket(direction @ (from, to), n) = ticket;
        let mut rooms = self.link(from, to).weather.iter().filter_map(|weather| {
            let Weather::Evict(room) = weather else {
                return None;
            };
            Some(*room)
        });
        let (Some(room), Some(&arrives)) = (rooms.next(), times.first()) else {
            return;
        };
        let crowd = self.crowded.entry(direction).or_default();
        crowd.retain(|(_, arrives, _)| *arrives > now);
        crowd.push((ticket, arrives, length));
        let (a, b) = (u64::from(from.0), u64::from(to.0));
        let mut draws = 0;
        while crowd
            .iter()
            .map(|(_, _, length)| *length as u64)
            .sum::<u64>()
            > room
        {
            let draw = self.draws.draw(Purpose::Eviction, a, b, n << 16 | draws);
            draws += 1;
            let index = usize::try_from(draw.below(crowd.len() as u64)).unwrap_or_default();
            let (evicted, ..) = crowd.swap_remove(index);
            if evicted == ticket {
                times.clear();
            } else {
                self.evicted.insert(evicted);
            }
        }
    }

    /// Whether a datagram that is about to arrive was lost meanwhile.
    pub(crate) fn is_evicted(&self, ticket: Ticket) -> bool {
        self.evicted.contains(&ticket)
    }

    /// When a datagram of `length` bytes that is sent at `now` arrives: never if it is lost, several
    /// times if it is duplicated.
    pub(crate) fn arrivals(
        &mut self,
        now: Duration,
        from: HostId,
        to: HostId,
        length: usize,
    ) -> Vec<Duration> {
        let direction = (from, to);
        let count = self.counts.entry(direction).or_default();
        *count += 1;
        let n = *count;
        if from == to {
            return vec![now + LOOPBACK_LATENCY];
        }
        let is_doomed = self.doomed.remove(&(direction, n));
        let is_spared = self.is_spared(from, to);
        let link = if is_spared {
            &self.spared.1
        } else {
            self.links.get(&direction).unwrap_or(&self.everywhere)
        };
        if is_doomed || length > link.datagram_len_max || !self.is_open(from, to) {
            return Vec::new();
        }
        let (a, b) = (u64::from(from.0), u64::from(to.0));
        let draw = |purpose| self.draws.draw(purpose, a, b, n);
        if draw(Purpose::Loss).chance(link.loss) {
            return Vec::new();
        }
        let copies = if draw(Purpose::Duplication).chance(link.duplication) {
            self.draws
                .draw(Purpose::Duplication, b, a, n)
                .between(2, COPIES_MAX)
        } else {
            1
        };
        let spread = self.draws.draw(Purpose::Spread, a, b, 0);
        let mut latency = link.latency + spread.duration_below(link.spread);
        if draw(Purpose::Reordering).chance(link.reordering) {
            latency *= 10;
        }
        // Copies of one datagram differ in their counts' upper halves.
        let jitter = |copy: u64| {
            let draw = self.draws.draw(Purpose::Jitter, a, b, n ^ (copy << 32));
            draw.duration_below(link.jitter)
        };
        let mut times: Vec<_> = (0..copies)
            .map(|copy| now + latency + jitter(copy))
            .collect();
        if !link.weather.is_empty() {
            let draw = |n| self.draws.draw(Purpose::Weather, a, b, n);
            let busy = self.busy.entry(direction).or_default();
            weather::delay(&link.weather, now, (n, length), busy, &mut times, draw);
        }
        times
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

fn directions<'a>(
    from: &'a [HostId],
    to: &'a [HostId],
) -> impl Iterator<Item = Direction> + use<'a> {
    let pairs = from
        .iter()
        .flat_map(move |&from| to.iter().map(move |&to| (from, to)));
    pairs.filter(|(from, to)| from != to)
}

/// What a datagram takes within its host.
const LOOPBACK_LATENCY: Duration = Duration::from_micros(10);

/// Most times that one datagram arrives.
const COPIES_MAX: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);
    const ONE: HostId = HostId(1);
    const TWO: HostId = HostId(2);
    const THREE: HostId = HostId(3);

    fn network() -> Network {
        Network::new(Draws::new(1))
    }

    fn passes(network: &mut Network, from: HostId, to: HostId) -> bool {
        !network.arrivals(NOW, from, to, 100).is_empty()
    }

    #[test]
    fn a_datagram_takes_its_links_latency_and_some_jitter() {
        let mut network = network();
        let link = Link::default();
        let bounds = NOW + link.latency..NOW + link.latency + link.jitter;
        for _ in 0..100 {
            let arrivals = network.arrivals(NOW, ONE, TWO, 100);
            assert_eq!(arrivals.len(), 1);
            assert!(bounds.contains(&arrivals[0]), "{arrivals:?}");
        }
        assert!(network.arrivals(NOW, ONE, TWO, 1473).is_empty());
    }

    #[test]
    fn cuts_overlap_and_mend_one_by_one() {
        let mut network = network();
        let isolated = network.cut(&[ONE], &[ONE, TWO, THREE]);
        let one_way = network.cut_one_way(&[ONE], &[TWO]);
        assert!(!passes(&mut network, ONE, TWO) && !passes(&mut network, TWO, ONE));
        assert!(passes(&mut network, TWO, THREE) && passes(&mut network, ONE, ONE));
        network.mend(isolated);
        assert!(!passes(&mut network, ONE, TWO) && passes(&mut network, TWO, ONE));
        network.mend(one_way);
        assert!(passes(&mut network, ONE, TWO));
    }

    #[test]
    fn nothing_is_wrong_between_the_spared() {
        let mut network = network();
        network.change_all(|link| link.loss = 1_000_000);
        let cut = network.cut(&[ONE], &[TWO, THREE]);
        network.jam(&[ONE], &[TWO]);
        network.spare(BTreeSet::from([ONE, TWO]), Link::default());
        assert!(network.is_open(ONE, TWO) && !network.is_jammed(ONE, TWO));
        assert!(passes(&mut network, ONE, TWO) && !passes(&mut network, ONE, THREE));
        network.mend(cut);
        assert!(!passes(&mut network, ONE, THREE), "all else stays as it is");
        network.spare(BTreeSet::new(), Link::default());
        assert!(network.is_jammed(ONE, TWO) && !passes(&mut network, ONE, TWO));
    }

    #[test]
    fn a_crowded_link_loses_any_of_those_under_way() {
        let mut network = network();
        network.change_all(|link| link.weather = vec![Weather::Evict(1000)]);
        let payload: Rc<[u8]> = Rc::from([0; 100]);
        let sent: Vec<_> = (0..100)
            .map(|_| network.carry(NOW, ONE, TWO, &payload, None))
            .collect();
        let arrive = sent.iter().flatten();
        let arrive = arrive.filter(|arrival| !network.is_evicted(arrival.ticket));
        let arrived: Vec<_> = arrive.map(|arrival| arrival.ticket.1).collect();
        assert_eq!(arrived.len(), 10, "as many as there is room for");
        assert!(
            arrived[0] <= 90 && *arrived.last().unwrap() > 10,
            "{arrived:?}"
        );
    }

    #[test]
    fn directions_differ_for_good_in_how_long_they_take() {
        let mut network = network();
        network.change_all(|link| {
            link.jitter = Duration::ZERO;
            link.spread = Duration::from_millis(20);
        });
        let mut takes = |from, to| network.arrivals(NOW, from, to, 100)[0] - NOW;
        assert_eq!(takes(ONE, TWO), takes(ONE, TWO));
        assert_ne!(takes(ONE, TWO), takes(TWO, ONE));
        assert_ne!(takes(ONE, TWO), takes(ONE, THREE));
    }

    #[test]
    fn one_links_faults_leave_the_others_draws_as_they_were() {
        let mut calm = network();
        let mut faulty = network();
        faulty.change(ONE, TWO, |link| link.loss = 500_000);
        for _ in 0..100 {
            faulty.arrivals(NOW, ONE, TWO, 100);
            assert_eq!(
                calm.arrivals(NOW, TWO, ONE, 100),
                faulty.arrivals(NOW, TWO, ONE, 100)
            );
        }
    }

    #[test]
    fn duplicates_arrive_up_to_sixteen_times() {
        let mut network = network();
        network.change_all(|link| link.duplication = 1_000_000);
        let copies = (0..500).map(|_| network.arrivals(NOW, ONE, TWO, 100).len());
        let copies: BTreeSet<_> = copies.collect();
        assert_eq!(
            copies.into_iter().collect::<Vec<_>>(),
            (2..=16).collect::<Vec<_>>()
        );
    }
}

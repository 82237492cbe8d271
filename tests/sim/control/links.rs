//! What stands for QUIC between control tiers: connections, streams and datagrams.
//!
//! A connection takes a round trip to make. It ends when nothing passed for the idle time-out, or a
//! restarted peer does not know it. On a stream everything arrives once and in order, or the
//! connection ends; a datagram may be lost, overtaken and duplicated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use grinta_proto::NodeName;
use grinta_proto::node::control::Channel;
use grinta_proto::wire::control::{ControlMessage, DATAGRAM_LEN_MAX};

use super::{News, World, host, index};
use crate::marks::sometimes;
use crate::network::CutId;
use crate::plan::NodeId;
use crate::scene::{Happening, nanos};
use crate::verdict::Invariant;

/// All connections, between pairs of which the lower node comes first.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<(NodeId, NodeId), Link>,
    made: u64,
}

#[derive(Debug)]
struct Link {
    /// Which connection this is, of all that ever were.
    number: u64,
    /// The runs of the two nodes that made it.
    runs: [u64; 2],
    is_up: bool,
    /// Who tries to make it. Where both do, whoever is first serves both.
    dials: [bool; 2],
    /// What waits: for the connection to be made, or for the cut to be mended. One queue for each
    /// direction.
    waiting: [Vec<(usize, ControlMessage)>; 2],
    /// When what was sent last on the stream arrives.
    last_arrival: [Duration; 2],
    /// Since when nothing has passed, while anything waits.
    stalled_since: [Option<Duration>; 2],
}

/// What a node wants sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) from: NodeId,
    pub(super) to: NodeName,
    pub(super) address: SocketAddr,
    pub(super) channel: Channel,
    pub(super) length: usize,
}

/// What a message travels on.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) run_of_receiver: u64,
    /// The connection whose stream it is on; datagrams outlive theirs.
    stream_of: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Event {
    /// A handshake is tried, for the nth time.
    Attempt {
        pair: (NodeId, NodeId),
        number: u64,
        tries: u32,
        dialler: NodeId,
        run: u64,
    },
    Up {
        pair: (NodeId, NodeId),
        number: u64,
    },
    /// What stalls is tried again.
    Retry {
        pair: (NodeId, NodeId),
        number: u64,
        direction: usize,
    },
    /// The idle time-out has passed since something went wrong.
    Idle {
        pair: (NodeId, NodeId),
        number: u64,
        since: Duration,
        cause: Cause,
    },
    /// A restarted peer said that it does not know the connection.
    Reset {
        pair: (NodeId, NodeId),
        number: u64,
    },
}

/// Why nothing passes on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    Cut(CutId),
    /// A node crashed or froze.
    Stopped(NodeId),
}

impl Links {
    /// Whether what travels there still arrives.
    pub(super) fn carries(&self, carried: &Carried) -> bool {
        let link = self.links.get(&pair(carried.from, carried.to));
        carried
            .stream_of
            .is_none_or(|number| link.is_some_and(|link| link.number == number))
    }

    fn get(&mut self, pair: (NodeId, NodeId), number: u64) -> Option<&mut Link> {
        self.links
            .get_mut(&pair)
            .filter(|link| link.number == number)
    }
}

impl World<'_> {
    /// A node wants a connection to whoever is at an address.
    pub(super) fn connect(&mut self, from: NodeId, address: SocketAddr) {
        match self.places.get(&address) {
            Some(&to) if to != from => {
                self.forget_stale(pair(from, to), from);
                self.dial(from, to);
            }
            Some(_) | None => {
                let run = self.nodes[index(from)].runs;
                let news = News::Unreachable(address);
                let told = super::Event::Tell {
                    node: from,
                    run,
                    news,
                };
                self.queue.plan(self.now + HANDSHAKE_TIMEOUT, told);
            }
        }
    }

    /// Sends a message, on a connection that is made first if there is none.
    pub(super) fn send(&mut self, sent: Sent, message: ControlMessage) {
        let limit = match sent.channel {
            Channel::Datagram => DATAGRAM_LEN_MAX,
            Channel::Stream => STREAM_MESSAGE_LEN_MAX,
        };
        if sent.length > limit {
            let (length, channel) = (sent.length, sent.channel);
            self.fail(
                Invariant::R1,
                format!("{} sends {length} bytes on {channel:?}", sent.from),
            );
        }
        let Some(to) = self.node_named(&sent.to) else {
            return;
        };
        if let Err(what) = self.check_undead(sent.from, to, &message) {
            self.fail(Invariant::M8, what);
        }
        let pair = pair(sent.from, to);
        self.forget_stale(pair, sent.from);
        // Somebody else may be there, or nobody.
        if self.places.get(&sent.address) == Some(&to) {
            self.dial(sent.from, to);
        }
        let direction = usize::from(sent.from > to);
        let Some(link) = self.links.links.get_mut(&pair) else {
            return;
        };
        if !link.is_up {
            // The oldest are dropped, as a node does with what it holds for a coming connection.
            let waiting = &mut link.waiting[direction];
            if waiting.len() >= WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push((sent.length, message));
            return;
        }
        match sent.channel {
            Channel::Stream => self.send_on_stream(pair, direction, sent.length, message),
            Channel::Datagram => self.send_datagram(pair, direction, sent.length, message),
        }
    }

    fn send_datagram(
        &mut self,
        pair: (NodeId, NodeId),
        direction: usize,
        length: usize,
        message: ControlMessage,
    ) {
        let carried = self.carried(pair, direction, None);
        if self.is_unknown_to_peer(pair, direction) {
            return;
        }
        let (from, to) = (host(carried.from), host(carried.to));
        let arrivals = self.network.arrivals(self.now, from, to, length);
        self.draw_packet(carried.from, carried.to, length, arrivals.first().copied());
        for at in arrivals {
            let event = super::Event::Deliver {
                link: carried.clone(),
                message: Box::new(message.clone()),
            };
            self.queue.plan(at, event);
        }
    }

    fn send_on_stream(
        &mut self,
        pair: (NodeId, NodeId),
        direction: usize,
        length: usize,
        message: ControlMessage,
    ) {
        if self.is_unknown_to_peer(pair, direction) {
            return;
        }
        let ends = [pair.0, pair.1];
        let (from, to) = (host(ends[direction]), host(ends[1 - direction]));
        let is_open = self.network.is_open(from, to) && self.network.is_open(to, from);
        let now = self.now;
        let Some(link) = self.links.links.get_mut(&pair) else {
            return;
        };
        let number = link.number;
        if !is_open || !link.waiting[direction].is_empty() {
            if link.waiting[direction].is_empty() {
                link.stalled_since[direction] = Some(now);
                let retry = Event::Retry {
                    pair,
                    number,
                    direction,
                };
                self.queue
                    .plan(now + RETRY_INTERVAL, super::Event::Link(retry));
            }
            link.waiting[direction].push((length, message));
            return;
        }
        let mut arrival = None;
        let mut retransmissions = 0;
        while arrival.is_none() && retransmissions < RETRANSMISSIONS_MAX {
            let sent = now + RETRANSMISSION_DELAY * retransmissions;
            // The first copy counts.
            arrival = self
                .network
                .arrivals(sent, from, to, STREAM_PACKET_LEN)
                .into_iter()
                .min();
            retransmissions += 1;
        }
        let arrival = arrival.unwrap_or(now + RETRANSMISSION_DELAY * retransmissions);
        let Some(link) = self.links.get(pair, number) else {
            return;
        };
        let arrival = arrival.max(link.last_arrival[direction]);
        link.last_arrival[direction] = arrival;
        self.draw_packet(ends[direction], ends[1 - direction], length, Some(arrival));
        let link = self.carried(pair, direction, Some(number));
        let event = super::Event::Deliver {
            link,
            message: Box::new(message),
        };
        self.queue.plan(arrival, event);
    }

    /// Puts a message into the pictures of the run.
    fn draw_packet(&mut self, from: NodeId, to: NodeId, bytes: usize, arrives: Option<Duration>) {
        self.history.scenes.tell(self.now, || Happening::Packet {
            from,
            to,
            bytes,
            arrives_ns: arrives.map(nanos),
        });
    }

    /// Whether the peer has restarted since the connection was made. It says so when it gets a
    /// packet, if that finds it at the old address.
    fn is_unknown_to_peer(&mut self, pair: (NodeId, NodeId), direction: usize) -> bool {
        let ends = [pair.0, pair.1];
        let peer = ends[1 - direction];
        let Some(link) = self.links.links.get(&pair) else {
            return true;
        };
        let node = &self.nodes[index(peer)];
        if node.runs == link.runs[1 - direction] && node.control.is_some() {
            return false;
        }
        let (from, to) = (host(ends[direction]), host(peer));
        let is_open = self.network.is_open(from, to) && self.network.is_open(to, from);
        if node.control.is_some() && is_open {
            let round_trip = 2 * self.network.link(from, to).latency;
            let reset = Event::Reset {
                pair,
                number: link.number,
            };
            self.queue
                .plan(self.now + round_trip, super::Event::Link(reset));
        }
        true
    }

    /// Begins to make a connection, unless there is one or this node is at it.
    fn dial(&mut self, from: NodeId, to: NodeId) {
        let pair = pair(from, to);
        let runs = [pair.0, pair.1].map(|end| self.nodes[index(end)].runs);
        let (made, now) = (&mut self.links.made, self.now);
        let link = self.links.links.entry(pair).or_insert_with(|| {
            *made += 1;
            Link {
                number: *made,
                runs,
                is_up: false,
                dials: [false; 2],
                waiting: Default::default(),
                last_arrival: [now; 2],
                stalled_since: [None; 2],
            }
        });
        let end = usize::from(from > to);
        if !link.is_up && !std::mem::replace(&mut link.dials[end], true) {
            let (number, run) = (link.number, link.runs[end]);
            self.attempt(pair, number, (from, run), 0);
        }
    }

    fn attempt(
        &mut self,
        pair: (NodeId, NodeId),
        number: u64,
        (dialler, run): (NodeId, u64),
        tries: u32,
    ) {
        let answerer = if dialler == pair.0 { pair.1 } else { pair.0 };
        let (from, to) = (host(dialler), host(answerer));
        let there = self.network.arrivals(self.now, from, to, HANDSHAKE_LEN);
        let reached = there.into_iter().min();
        let runs = self.nodes[index(answerer)].takes_part()
            && self.nodes[index(answerer)].frozen.is_none();
        let back = reached.filter(|_| runs).and_then(|reached| {
            let back = self.network.arrivals(reached, to, from, HANDSHAKE_LEN);
            back.into_iter().min()
        });
        if let Some(back) = back {
            let up = Event::Up { pair, number };
            self.queue.plan(back, super::Event::Link(up));
        }
        // Who waits for an answer cannot know that it is only late.
        let again = Event::Attempt {
            pair,
            number,
            tries: tries + 1,
            dialler,
            run,
        };
        let at = self.now + ATTEMPT_INTERVAL;
        self.queue.plan(at, super::Event::Link(again));
    }

    pub(super) fn handle_link(&mut self, event: Event) {
        match event {
            Event::Attempt {
                pair,
                number,
                tries,
                dialler,
                run,
            } => {
                let end = usize::from(dialler == pair.1);
                let link = self.links.get(pair, number);
                if link.is_none_or(|link| link.is_up || link.runs[end] != run) {
                    return;
                }
                let node = &self.nodes[index(dialler)];
                if tries >= ATTEMPTS_MAX || node.runs != run || !node.takes_part() {
                    self.give_up(pair, dialler);
                } else {
                    self.attempt(pair, number, (dialler, run), tries);
                }
            }
            Event::Up { pair, number } => self.come_up(pair, number),
            Event::Retry {
                pair,
                number,
                direction,
            } => self.retry(pair, number, direction),
            Event::Idle {
                pair,
                number,
                since,
                cause,
            } => {
                let link = self.links.get(pair, number);
                if link.is_some_and(|link| link.is_up) && self.persists(pair, since, cause) {
                    sometimes!(true, ConnectionIdle);
                    self.break_link(pair);
                }
            }
            Event::Reset { pair, number } => {
                if self.links.get(pair, number).is_some() {
                    sometimes!(true, ConnectionReset);
                    self.break_link(pair);
                }
            }
        }
    }

    /// A node tries no longer to make a connection; maybe the other does.
    fn give_up(&mut self, pair: (NodeId, NodeId), dialler: NodeId) {
        sometimes!(true, DialGivenUp);
        let end = usize::from(dialler == pair.1);
        let Some(link) = self.links.links.get_mut(&pair) else {
            return;
        };
        link.dials[end] = false;
        link.waiting[end].clear();
        let (run, is_abandoned) = (link.runs[end], !link.dials[1 - end]);
        if is_abandoned {
            self.links.links.remove(&pair);
        }
        let answerer = if dialler == pair.0 { pair.1 } else { pair.0 };
        let news = News::Unreachable(self.nodes[index(answerer)].address);
        self.tell_later(dialler, run, news);
    }

    fn come_up(&mut self, pair: (NodeId, NodeId), number: u64) {
        let ends = [pair.0, pair.1];
        let runs = ends.map(|end| self.nodes[index(end)].runs);
        let take_part = ends.iter().all(|end| self.nodes[index(*end)].takes_part());
        let now = self.now;
        let link = self.links.get(pair, number);
        let Some(link) = link.filter(|link| !link.is_up && take_part) else {
            return;
        };
        link.is_up = true;
        link.runs = runs;
        link.last_arrival = [now; 2];
        let waiting = std::mem::take(&mut link.waiting);
        for (at, peer) in [(pair.0, pair.1), (pair.1, pair.0)] {
            let Some(control) = &self.nodes[index(peer)].control else {
                continue;
            };
            let news = News::Up(control.identity());
            let run = self.nodes[index(at)].runs;
            self.tell_later(at, run, news);
        }
        for (direction, messages) in waiting.into_iter().enumerate() {
            for (length, message) in messages {
                self.send_on_stream(pair, direction, length, message);
            }
        }
    }

    fn retry(&mut self, pair: (NodeId, NodeId), number: u64, direction: usize) {
        let (from, to) = (host(pair.0), host(pair.1));
        let is_open = self.network.is_open(from, to) && self.network.is_open(to, from);
        let now = self.now;
        let Some(link) = self.links.get(pair, number) else {
            return;
        };
        let since = link.stalled_since[direction].unwrap_or(now);
        if is_open {
            link.stalled_since[direction] = None;
            for (length, message) in std::mem::take(&mut link.waiting[direction]) {
                self.send_on_stream(pair, direction, length, message);
            }
        } else if now - since >= IDLE_TIMEOUT {
            self.break_link(pair);
        } else {
            let retry = Event::Retry {
                pair,
                number,
                direction,
            };
            self.queue
                .plan(now + RETRY_INTERVAL, super::Event::Link(retry));
        }
    }

    /// Ends a connection: both learn of it who have run since before it.
    fn break_link(&mut self, pair: (NodeId, NodeId)) {
        let Some(link) = self.links.links.remove(&pair) else {
            return;
        };
        for (at, peer, run) in [
            (pair.0, pair.1, link.runs[0]),
            (pair.1, pair.0, link.runs[1]),
        ] {
            let news = News::Lost(self.nodes[index(peer)].name.clone());
            self.tell_later(at, run, news);
        }
    }

    /// Something went wrong with these nodes: their connections may be idle for too long.
    pub(super) fn watch_links(&mut self, cause: Cause, concerns: impl Fn(NodeId) -> bool) {
        let network = &self.network;
        let is_closed =
            |a, b| !network.is_open(host(a), host(b)) || !network.is_open(host(b), host(a));
        let is_touched = |&(a, b): &(NodeId, NodeId)| match cause {
            Cause::Cut(_) => is_closed(a, b),
            Cause::Stopped(_) => concerns(a) || concerns(b),
        };
        let links = self.links.links.iter().filter(|(pair, _)| is_touched(pair));
        let touched: Vec<_> = links.map(|(&pair, link)| (pair, link.number)).collect();
        let since = self.now;
        for (pair, number) in touched {
            let idle = Event::Idle {
                pair,
                number,
                since,
                cause,
            };
            self.queue
                .plan(since + IDLE_TIMEOUT, super::Event::Link(idle));
        }
    }

    /// Whether what went wrong with a connection has lasted since then.
    fn persists(&self, pair: (NodeId, NodeId), since: Duration, cause: Cause) -> bool {
        match cause {
            Cause::Cut(cut) => {
                let (from, to) = (host(pair.0), host(pair.1));
                let is_open = self.network.is_open(from, to) && self.network.is_open(to, from);
                self.network.is_cut(cut) && !is_open
            }
            Cause::Stopped(id) => {
                let Some(link) = self.links.links.get(&pair) else {
                    return false;
                };
                let node = &self.nodes[index(id)];
                let is_frozen = node.frozen.as_ref().is_some_and(|(at, _)| *at <= since);
                node.runs != link.runs[usize::from(id == pair.1)] || !node.takes_part() || is_frozen
            }
        }
    }

    /// A node left and closes its connections.
    pub(super) fn close_links(&mut self, id: NodeId) {
        let links = self.links.links.keys();
        let own: Vec<_> = links
            .filter(|(a, b)| *a == id || *b == id)
            .copied()
            .collect();
        for pair in own {
            self.break_link(pair);
        }
    }

    /// Forgets what an earlier run of this node had of a connection: this one knows nothing of it.
    fn forget_stale(&mut self, pair: (NodeId, NodeId), id: NodeId) {
        let run = self.nodes[index(id)].runs;
        let end = usize::from(id == pair.1);
        let Some(link) = self.links.links.get_mut(&pair) else {
            return;
        };
        if link.runs[end] == run {
            return;
        }
        if link.is_up {
            self.break_link(pair);
        } else {
            link.runs[end] = run;
            link.dials[end] = false;
            link.waiting[end].clear();
        }
    }

    fn tell_later(&mut self, node: NodeId, run: u64, news: News) {
        let told = super::Event::Tell { node, run, news };
        self.queue.plan(self.now, told);
    }

    fn carried(&self, pair: (NodeId, NodeId), direction: usize, stream_of: Option<u64>) -> Carried {
        let ends = [pair.0, pair.1];
        Carried {
            from: ends[direction],
            to: ends[1 - direction],
            run_of_receiver: self.nodes[index(ends[1 - direction])].runs,
            stream_of,
        }
    }

    fn node_named(&self, name: &NodeName) -> Option<NodeId> {
        let number = name.as_str().strip_prefix('n')?.parse().ok()?;
        (number < self.plan.nodes).then_some(NodeId(number))
    }
}

fn pair(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}

/// As the default of `ConnectionConfig`.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// As the default of `ConnectionConfig`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries of a handshake: QUIC's probe time-out with an assumed round trip of 100 ms,
/// roughly.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(300);
/// Tries until the handshake's time-out.
const ATTEMPTS_MAX: u32 = 16;
/// How long after a loss a stream's packet goes out again: QUIC's probe time-out, roughly.
const RETRANSMISSION_DELAY: Duration = Duration::from_millis(30);
/// Losses in a row that are looked at; beyond, it arrives.
const RETRANSMISSIONS_MAX: u32 = 30;
/// How often what stalls is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// A packet of a handshake, in bytes.
const HANDSHAKE_LEN: usize = 1200;
/// A packet of a stream, in bytes.
const STREAM_PACKET_LEN: usize = 1200;
/// The default limit of a control frame, in bytes.
const STREAM_MESSAGE_LEN_MAX: usize = 64 * 1024;
/// Messages that wait for a connection; a node's own limit is in bytes.
const WAITING_MAX: usize = 1024;

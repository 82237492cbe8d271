//! What goes wrong.

use std::fmt;
use std::time::Duration;

use super::NodeId;
use super::words::{Group, Share, Time, Words};

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A process ends without a word, and is started again at the end.
    Crash(NodeId),
    /// The same, but it comes back at another address.
    Move(NodeId),
    /// The same, but it comes back with its wall clock an hour behind.
    SetBack(NodeId),
    /// Two processes end without a word, and come back each at the other's address.
    Swap(NodeId, NodeId),
    /// One node after the other ends without a word and is started again as the next one ends.
    RollingRestart(Duration),
    /// A process is frozen; what arrives waits.
    Pause(NodeId),
    /// A wall clock is ahead.
    ClockAhead(NodeId, Duration),
    /// A wall clock is behind.
    ClockBehind(NodeId, Duration),
    /// A host or its socket is unwell.
    Host(NodeId, HostFault),
    /// Nothing passes between two groups.
    Cut(Vec<NodeId>, Vec<NodeId>),
    /// Nothing passes from one group to another; what goes the other way does.
    CutOneWay(Vec<NodeId>, Vec<NodeId>),
    /// A cut that comes and goes, so long each time.
    Flap(Vec<NodeId>, Vec<NodeId>, Duration),
    /// What goes from one group to another is held, and arrives when this ends.
    Jam(Vec<NodeId>, Vec<NodeId>),
    /// Every node reaches its two neighbours in a ring only.
    Ring,
    /// Nodes are cut off one after the other, and connected again in another order; so long
    /// between two.
    Swizzle(Duration),
    /// Links between two groups take longer.
    SlowLinks(Vec<NodeId>, Vec<NodeId>, Duration),
    /// The so-manieth datagram from one node to another is lost, counted from now.
    LosePacket(NodeId, NodeId, u64),
    /// All links take longer.
    Latency(Duration),
    /// All links jitter more.
    Jitter(Duration),
    /// All links lose so many of a million.
    Loss(u32),
    /// All links duplicate so many of a million.
    Duplicate(u32),
    /// All links hold back so many of a million.
    Reorder(u32),
    /// All links are otherwise bad.
    Weather(Weather),
    /// Somebody attacks a node.
    Attack(NodeId, Attack),
}

/// What a host or its socket suffers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// It is frozen and goes on by turns.
    Cycles {
        /// How long it is frozen each time.
        frozen: Duration,
        /// How long it goes on between two freezes.
        awake: Duration,
    },
    /// Whatever it does takes so many times as long.
    Slow(u32),
    /// Its address is translated to another one on the way out.
    Rebind,
    /// Its socket refuses so many of a million sends.
    RefuseSends(u32),
    /// Its clocks, the monotonic one too, gain so many of a million, or lose them.
    Drift(i32),
}

/// What all links suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Each datagram takes longer by an exponentially distributed time of this mean.
    Exponential(Duration),
    /// Each datagram takes longer: half of them by less than this, half of the others by less than
    /// twice this, and so on.
    LongTail(Duration),
    /// So many of a million runs of 16 datagrams are lost as a whole.
    Bursts(u32),
    /// So many of a million arrive once more, up to so much later.
    Replay(u32, Duration),
    /// A bit is flipped in so many of a million.
    Flip(u32),
    /// So many of a million arrive without their ends.
    Truncate(u32),
    /// Two halves of so many of a million arrive in each other's place.
    Swap(u32),
    /// So many of a million arrive with the end of an earlier one in the place of theirs.
    Splice(u32),
    /// Random bytes arrive in the place of so many of a million.
    Garbage(u32),
    /// Each link carries so many bytes in a second, and drops what waits behind so many bytes.
    Rate(u64, u64),
    /// Each link has room for so many bytes that are under way; beyond, one of those is lost, drawn
    /// at random.
    Evict(u64),
    /// Datagrams longer than this vanish.
    Mtu(usize),
    /// So many of a million are marked as having met congestion, if they can be.
    MarkEcn(u32),
}

/// What a fault does that comes and goes, each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its cut begins or ends.
    Flap,
    /// A node is cut off from all others.
    CutOff(NodeId),
    /// Of the nodes that are cut off, the one in the middle is connected again.
    Reconnect,
    /// A process is frozen.
    Freeze(NodeId),
    /// A process goes on.
    Thaw(NodeId),
    /// A process is started again, and the next one ends.
    Roll {
        /// Unless another fault is to start it.
        started: Option<NodeId>,
        /// The next one, if there is one.
        ended: Option<NodeId>,
    },
}

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Connects without a certificate.
    NoCertificate,
    /// Runs a node with a certificate of another CA.
    ForeignCa,
    /// Connects with a certificate that has expired.
    Expired,
    /// Has a certificate, and says that it is another node.
    Liar,
    /// Sends again what the node was sent.
    Replay,
    /// Sends first packets in another's name, so that the answers go there.
    Amplify,
    /// Begins handshakes and does not go on.
    SlowLoris,
    /// Has a certificate and is connected, and sends frames that no node sends.
    Frames,
}

impl Attack {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::NoCertificate,
        Self::ForeignCa,
        Self::Expired,
        Self::Liar,
        Self::Replay,
        Self::Amplify,
        Self::SlowLoris,
        Self::Frames,
    ];

    const fn verb(self) -> &'static str {
        match self {
            Self::NoCertificate => "without-certificate",
            Self::ForeignCa => "foreign-ca",
            Self::Expired => "expired",
            Self::Liar => "liar",
            Self::Replay => "replayed",
            Self::Amplify => "amplify",
            Self::SlowLoris => "slow-loris",
            Self::Frames => "frames",
        }
    }
}

impl Fault {
    /// The nodes that it names.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        match self {
            Self::Crash(node)
            | Self::Move(node)
            | Self::SetBack(node)
            | Self::Pause(node)
            | Self::ClockAhead(node, _)
            | Self::ClockBehind(node, _)
            | Self::Host(node, _)
            | Self::Attack(node, _) => vec![*node],
            Self::Swap(one, other) | Self::LosePacket(one, other, _) => vec![*one, *other],
            Self::Cut(one, other)
            | Self::CutOneWay(one, other)
            | Self::Flap(one, other, _)
            | Self::Jam(one, other)
            | Self::SlowLinks(one, other, _) => [one.as_slice(), other].concat(),
            Self::RollingRestart(_)
            | Self::Ring
            | Self::Swizzle(_)
            | Self::Latency(_)
            | Self::Jitter(_)
            | Self::Loss(_)
            | Self::Duplicate(_)
            | Self::Reorder(_)
            | Self::Weather(_) => Vec::new(),
        }
    }

    /// What it does for the `turn`th time, from zero, and for how long that is all; `None` if it does
    /// not come and go.
    pub(crate) fn turn(&self, turn: u32, nodes: u32) -> Option<(Turn, Duration)> {
        let (turn, lasts) = if let Self::Flap(_, _, every) = self {
            (Turn::Flap, *every)
        } else if let Self::Swizzle(every) = self {
            let turn = match (turn / nodes).is_multiple_of(2) {
                true => Turn::CutOff(NodeId(turn % nodes)),
                false => Turn::Reconnect,
            };
            (turn, *every)
        } else if let Self::RollingRestart(every) = self {
            let of_plan = |turn: u32| Some(NodeId(turn)).filter(|node| node.0 < nodes);
            let (started, ended) = (turn.checked_sub(1).and_then(of_plan), of_plan(turn));
            (Turn::Roll { started, ended }, *every)
        } else if let Self::Host(node, HostFault::Cycles { frozen, awake }) = self {
            match turn.is_multiple_of(2) {
                true => (Turn::Freeze(*node), *frozen),
                false => (Turn::Thaw(*node), *awake),
            }
        } else {
            return None;
        };
        Some((turn, lasts.max(Duration::from_millis(1))))
    }

    /// Whether a node does not run while this lasts.
    pub(crate) fn stops(&self, id: NodeId) -> bool {
        match self {
            Self::Crash(node) | Self::Move(node) | Self::SetBack(node) => *node == id,
            Self::Swap(one, other) => *one == id || *other == id,
            Self::RollingRestart(_)
            | Self::Pause(_)
            | Self::ClockAhead(..)
            | Self::ClockBehind(..)
            | Self::Host(..)
            | Self::Cut(..)
            | Self::CutOneWay(..)
            | Self::Flap(..)
            | Self::Jam(..)
            | Self::Ring
            | Self::Swizzle(_)
            | Self::SlowLinks(..)
            | Self::LosePacket(..)
            | Self::Latency(_)
            | Self::Jitter(_)
            | Self::Loss(_)
            | Self::Duplicate(_)
            | Self::Reorder(_)
            | Self::Weather(_)
            | Self::Attack(..) => false,
        }
    }

    /// How much later than its link's latency a datagram may arrive through this.
    pub(crate) fn latency(&self, of_link: Duration, lasts: Duration) -> Duration {
        match self {
            Self::Latency(by) | Self::Jitter(by) | Self::SlowLinks(_, _, by) => *by,
            Self::Reorder(_) => 10 * of_link,
            Self::Jam(..) => lasts,
            Self::Weather(weather) => weather.latency(),
            // A thousand times a turn for each of many.
            Self::Host(_, HostFault::Slow(_)) => Duration::from_secs(1),
            Self::Crash(_)
            | Self::Move(_)
            | Self::SetBack(_)
            | Self::Swap(..)
            | Self::RollingRestart(_)
            | Self::Pause(_)
            | Self::ClockAhead(..)
            | Self::ClockBehind(..)
            | Self::Host(..)
            | Self::Cut(..)
            | Self::CutOneWay(..)
            | Self::Flap(..)
            | Self::Ring
            | Self::Swizzle(_)
            | Self::LosePacket(..)
            | Self::Loss(_)
            | Self::Duplicate(_)
            | Self::Attack(..) => Duration::ZERO,
        }
    }

    /// The fault that begins with this verb, if there is one.
    pub(super) fn parse(verb: &str, words: &mut Words<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match verb {
            "crash" => Self::Crash(words.node()?),
            "move" => Self::Move(words.node()?),
            "set-back" => Self::SetBack(words.node()?),
            "swap" => {
                let one = words.node()?;
                words.keyword("with")?;
                Self::Swap(one, words.node()?)
            }
            "rolling-restart" => {
                words.keyword("every")?;
                Self::RollingRestart(words.duration()?)
            }
            "pause" => Self::Pause(words.node()?),
            "clock-ahead" => Self::ClockAhead(words.node()?, words.duration()?),
            "clock-behind" => Self::ClockBehind(words.node()?, words.duration()?),
            "cut" => {
                let (one, other) = words.groups("from")?;
                Self::Cut(one, other)
            }
            "cut-one-way" => {
                let (from, to) = words.groups("to")?;
                Self::CutOneWay(from, to)
            }
            "flap" => {
                let (one, other) = words.groups("from")?;
                words.keyword("every")?;
                Self::Flap(one, other, words.duration()?)
            }
            "jam" => {
                let (from, to) = words.groups("to")?;
                Self::Jam(from, to)
            }
            "ring" => Self::Ring,
            "swizzle" => {
                words.keyword("every")?;
                Self::Swizzle(words.duration()?)
            }
            "slow-links" => {
                let (one, other) = words.groups("to")?;
                words.keyword("by")?;
                Self::SlowLinks(one, other, words.duration()?)
            }
            "lose-packet" => {
                let number = words.parse("a number")?;
                words.keyword("from")?;
                let from = words.node()?;
                words.keyword("to")?;
                Self::LosePacket(from, words.node()?, number)
            }
            "latency" => Self::Latency(words.duration()?),
            "jitter" => Self::Jitter(words.duration()?),
            "loss" => Self::Loss(words.share()?),
            "duplicate" => Self::Duplicate(words.share()?),
            "reorder" => Self::Reorder(words.share()?),
            "attack" => {
                let node = words.node()?;
                let verb = words.next("what the attacker does")?;
                let attack = Attack::ALL.into_iter().find(|attack| attack.verb() == verb);
                let attack = attack.ok_or_else(|| format!("`{verb}` is no attack"))?;
                Self::Attack(node, attack)
            }
            _ => match HostFault::parse(verb, words)? {
                Some((node, fault)) => Self::Host(node, fault),
                None => return Ok(Weather::parse(verb, words)?.map(Self::Weather)),
            },
        }))
    }
}

impl HostFault {
    fn parse(verb: &str, words: &mut Words<'_>) -> Result<Option<(NodeId, Self)>, String> {
        if !["pause-cycles", "slow", "rebind", "refuse-sends", "drift"].contains(&verb) {
            return Ok(None);
        }
        let node = words.node()?;
        let fault = match verb {
            "pause-cycles" => {
                words.keyword("frozen")?;
                let frozen = words.duration()?;
                words.keyword("awake")?;
                let awake = words.duration()?;
                Self::Cycles { frozen, awake }
            }
            "slow" => Self::Slow(words.parse("a number")?),
            "rebind" => Self::Rebind,
            "drift" => {
                words.keyword("ppm")?;
                let ppm = words.parse("parts of a million")?;
                if !(-DRIFT_MAX..=DRIFT_MAX).contains(&ppm) {
                    return Err(format!("{ppm} is more than clocks drift"));
                }
                Self::Drift(ppm)
            }
            _ => Self::RefuseSends(words.share()?),
        };
        Ok(Some((node, fault)))
    }
}

impl Weather {
    /// How much later than its link's latency a datagram may arrive through this.
    fn latency(self) -> Duration {
        match self {
            Self::Exponential(mean) => 44 * mean,
            Self::LongTail(median) => 64 * median,
            Self::Replay(_, within) => within,
            Self::Rate(rate, queue) => Duration::from_millis(queue * 1000 / rate.max(1)),
            Self::Bursts(_)
            | Self::Flip(_)
            | Self::Truncate(_)
            | Self::Swap(_)
            | Self::Splice(_)
            | Self::Garbage(_)
            | Self::Evict(_)
            | Self::Mtu(_)
            | Self::MarkEcn(_) => Duration::ZERO,
        }
    }

    fn parse(verb: &str, words: &mut Words<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match verb {
            "exponential" => Self::Exponential(words.duration()?),
            "long-tail" => Self::LongTail(words.duration()?),
            "bursts" => Self::Bursts(words.share()?),
            "replay" => {
                let share = words.share()?;
                words.keyword("within")?;
                Self::Replay(share, words.duration()?)
            }
            "flip" => Self::Flip(words.share()?),
            "truncate" => Self::Truncate(words.share()?),
            "swap-halves" => Self::Swap(words.share()?),
            "evict" => {
                words.keyword("beyond")?;
                Self::Evict(words.parse("bytes")?)
            }
            "splice" => Self::Splice(words.share()?),
            "garbage" => Self::Garbage(words.share()?),
            "rate" => {
                let rate = words.parse("bytes in a second")?;
                words.keyword("queue")?;
                Self::Rate(rate, words.parse("bytes")?)
            }
            "mtu" => Self::Mtu(words.parse("bytes")?),
            "mark-ecn" => Self::MarkEcn(words.share()?),
            _ => return Ok(None),
        }))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "crash {node}"),
            Self::Move(node) => write!(f, "move {node}"),
            Self::SetBack(node) => write!(f, "set-back {node}"),
            Self::Swap(one, other) => write!(f, "swap {one} with {other}"),
            Self::RollingRestart(every) => write!(f, "rolling-restart every {}", Time(*every)),
            Self::Pause(node) => write!(f, "pause {node}"),
            Self::ClockAhead(node, by) => write!(f, "clock-ahead {node} {}", Time(*by)),
            Self::ClockBehind(node, by) => write!(f, "clock-behind {node} {}", Time(*by)),
            Self::Host(node, fault) => fault.write(f, *node),
            Self::Cut(one, other) => write!(f, "cut {} from {}", Group(one), Group(other)),
            Self::CutOneWay(from, to) => {
                write!(f, "cut-one-way {} to {}", Group(from), Group(to))
            }
            Self::Flap(one, other, every) => {
                let (one, other) = (Group(one), Group(other));
                write!(f, "flap {one} from {other} every {}", Time(*every))
            }
            Self::Jam(from, to) => write!(f, "jam {} to {}", Group(from), Group(to)),
            Self::Ring => f.write_str("ring"),
            Self::Swizzle(every) => write!(f, "swizzle every {}", Time(*every)),
            Self::SlowLinks(one, other, by) => {
                let (one, other) = (Group(one), Group(other));
                write!(f, "slow-links {one} to {other} by {}", Time(*by))
            }
            Self::LosePacket(from, to, number) => {
                write!(f, "lose-packet {number} from {from} to {to}")
            }
            Self::Latency(latency) => write!(f, "latency {}", Time(*latency)),
            Self::Jitter(jitter) => write!(f, "jitter {}", Time(*jitter)),
            Self::Loss(share) => write!(f, "loss {}", Share(*share)),
            Self::Duplicate(share) => write!(f, "duplicate {}", Share(*share)),
            Self::Reorder(share) => write!(f, "reorder {}", Share(*share)),
            Self::Weather(weather) => weather.fmt(f),
            Self::Attack(node, attack) => write!(f, "attack {node} {}", attack.verb()),
        }
    }
}

impl HostFault {
    fn write(self, f: &mut fmt::Formatter<'_>, node: NodeId) -> fmt::Result {
        match self {
            Self::Cycles { frozen, awake } => {
                let (frozen, awake) = (Time(frozen), Time(awake));
                write!(f, "pause-cycles {node} frozen {frozen} awake {awake}")
            }
            Self::Slow(times) => write!(f, "slow {node} {times}"),
            Self::Rebind => write!(f, "rebind {node}"),
            Self::RefuseSends(share) => write!(f, "refuse-sends {node} {}", Share(share)),
            Self::Drift(ppm) => write!(f, "drift {node} ppm {ppm}"),
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exponential(mean) => write!(f, "exponential {}", Time(mean)),
            Self::LongTail(median) => write!(f, "long-tail {}", Time(median)),
            Self::Bursts(share) => write!(f, "bursts {}", Share(share)),
            Self::Replay(share, within) => {
                write!(f, "replay {} within {}", Share(share), Time(within))
            }
            Self::Flip(share) => write!(f, "flip {}", Share(share)),
            Self::Truncate(share) => write!(f, "truncate {}", Share(share)),
            Self::Swap(share) => write!(f, "swap-halves {}", Share(share)),
            Self::Evict(bytes) => write!(f, "evict beyond {bytes}"),
            Self::Splice(share) => write!(f, "splice {}", Share(share)),
            Self::Garbage(share) => write!(f, "garbage {}", Share(share)),
            Self::Rate(rate, queue) => write!(f, "rate {rate} queue {queue}"),
            Self::Mtu(bytes) => write!(f, "mtu {bytes}"),
            Self::MarkEcn(share) => write!(f, "mark-ecn {}", Share(share)),
        }
    }
}

/// How much faster or slower a clock may go, in parts of a million: a hundred times what clocks do.
pub(super) const DRIFT_MAX: i32 = 20_000;

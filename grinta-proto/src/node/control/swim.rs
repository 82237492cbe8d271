//! Failure detection: foca behind typed packets.
//!
//! foca decides who is probed, who is suspect and who is down; this module gives it an identity, a
//! codec and ears, and keeps everything else from it: its bytes become [`SwimPacket`]s, its timers
//! wait in our queue, and it hears only of what the rest of the control tier let pass. What it
//! decided in one call is taken as one [`Outcome`], in the order in which it decided.
//!
//! foca tells nobody when a member becomes suspect or refutes, but it encodes every change that it
//! takes, to spread it. So the codec is where changes are heard.

mod codec;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::mpsc;
use std::time::Duration;

use foca::{Foca, Identity, NoCustomBroadcast, Notification, PeriodicParams, Runtime, Timer};
use rand::rngs::StdRng;

use self::codec::{SwimCodec, decode_packet, encode_packet, foca_member};
use crate::config::MembershipConfig;
use crate::wire::control::{DATAGRAM_LEN_MAX, MemberIdentity, MemberUpdate, SwimKind, SwimPacket};
use crate::wire::generated;

/// foca, wrapped.
pub(super) struct Swim {
    foca: Foca<SwimIdentity, SwimCodec, StdRng, NoCustomBroadcast>,
    heard: mpsc::Receiver<MemberUpdate>,
    incarnation: u16,
    config: MembershipConfig,
    size: usize,
    magnitude: u32,
    ears: Ears,
}

/// A timer of foca's.
pub(super) type SwimTimer = Timer<SwimIdentity>;

/// What foca decided in one call.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What it took as news, in order.
    pub(super) changes: Vec<MemberUpdate>,
    /// What it sends.
    pub(super) packets: Vec<SwimPacket>,
    /// What it wants to be reminded of.
    pub(super) timers: Vec<(Duration, SwimTimer)>,
    /// It ended with no active member, having had some.
    pub(super) idle: bool,
}

impl Swim {
    pub(super) fn new(identity: MemberIdentity, config: &MembershipConfig, rng: StdRng) -> Self {
        let (changes, heard) = mpsc::channel();
        let magnitude = 1;
        let foca = Foca::new(
            SwimIdentity::new(identity),
            foca_config(config, 1, magnitude),
            rng,
            SwimCodec { changes },
        );
        Self {
            foca,
            heard,
            incarnation: 0,
            config: config.clone(),
            size: 1,
            magnitude,
            ears: Ears::default(),
        }
    }

    /// Who this node is at present.
    pub(super) fn identity(&self) -> &MemberIdentity {
        &self.foca.identity().0
    }

    /// The incarnation that this node last told.
    pub(super) const fn incarnation(&self) -> u16 {
        self.incarnation
    }

    /// Takes a packet that a member sent. Packets to an earlier identity of this node are taken as
    /// meant for the present one, so that the answer tells of it; but not the news that the
    /// earlier one is held down, which is no news.
    pub(super) fn handle_packet(&mut self, packet: &SwimPacket) -> Outcome {
        let ours = self.identity();
        let mut header = generated::SwimHeader::from(&packet.header);
        if packet.header.destination != *ours {
            if packet.header.kind == SwimKind::TurnUndead
                || packet.header.destination.name != ours.name
            {
                return Outcome::default();
            }
            header.destination = Some(ours.into());
        }
        let bytes = encode_packet(&header, &packet.updates);
        let result = self.foca.handle_data(&bytes, &mut self.ears);
        self.outcome(result)
    }

    /// Takes what another way than foca's brought to light.
    pub(super) fn apply(&mut self, updates: &[MemberUpdate]) -> Outcome {
        let updates: Vec<_> = updates.iter().map(foca_member).collect();
        let result = self
            .foca
            .apply_many(updates.into_iter(), true, &mut self.ears);
        self.outcome(result)
    }

    pub(super) fn handle_timer(&mut self, timer: SwimTimer) -> Outcome {
        let result = self.foca.handle_timer(timer, &mut self.ears);
        self.outcome(result)
    }

    /// Tells a few members that this node goes; it takes no part until it changes its identity.
    pub(super) fn leave(&mut self) -> Outcome {
        let result = self.foca.leave_cluster(&mut self.ears);
        self.outcome(result)
    }

    /// Takes part as `identity` from now on.
    pub(super) fn change_identity(&mut self, identity: MemberIdentity) -> Outcome {
        let result = self
            .foca
            .change_identity(SwimIdentity::new(identity), &mut self.ears);
        self.incarnation = 0;
        self.outcome(result)
    }

    /// Fits patience and repetition to the number of members, this node included. Nothing changes
    /// within one power of ten but the patience, which grows with the logarithm.
    pub(super) fn set_size(&mut self, members: usize) {
        let magnitude = magnitude(members);
        let config = foca_config(&self.config, members, magnitude);
        self.magnitude = magnitude;
        self.size = members;
        self.foca
            .set_config(config)
            .expect("only what foca lets change is changed");
    }

    /// How long a suspect has to refute, at the present size.
    pub(super) fn suspicion(&self) -> Duration {
        suspicion(&self.config, self.size)
    }

    /// To how many members one member tells a change of names or labels before it is old.
    pub(super) const fn tellings(&self) -> u32 {
        TELLINGS * self.magnitude
    }

    fn outcome(&mut self, result: Result<(), foca::Error>) -> Outcome {
        if let Err(error) = result {
            // What foca refuses leaves it as it was, and there is nobody to tell.
            tracing::debug!(target: "grinta::member", %error, "foca refused");
        }
        let ears = std::mem::take(&mut self.ears);
        let ours = self.foca.identity();
        for packet in &ears.packets {
            if packet.header.source == ours.0 {
                self.incarnation = packet.header.incarnation;
            }
        }
        Outcome {
            changes: self
                .heard
                .try_iter()
                .filter(|heard| heard.identity.name != ours.0.name)
                .collect(),
            packets: ears.packets,
            timers: ears.timers,
            idle: ears.idle && self.foca.num_members() == 0,
        }
    }
}

/// The order in which foca wants timers of one deadline to fire, for [`Timers::arm_ranked`].
///
/// [`Timers::arm_ranked`]: crate::node::timers::Timers::arm_ranked
pub(super) const fn rank(timer: &SwimTimer) -> u8 {
    match timer {
        Timer::SendIndirectProbe { .. } => 0,
        Timer::ProbeRandomMember(_) => 1,
        Timer::ChangeSuspectToDown { .. } => 2,
        Timer::PeriodicAnnounce(_) => 3,
        Timer::PeriodicGossip(_) => 4,
        Timer::RemoveDown(_) => 5,
        Timer::PeriodicAnnounceDown(_) => 6,
    }
}

/// A member's identity as foca compares it: by a digest of the name first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SwimIdentity(MemberIdentity, u128);

impl SwimIdentity {
    fn new(identity: MemberIdentity) -> Self {
        let digest = digest(identity.name.as_str());
        Self(identity, digest)
    }

    pub(super) const fn identity(&self) -> &MemberIdentity {
        &self.0
    }
}

impl Identity for SwimIdentity {
    type Addr = u128;

    fn renew(&self) -> Option<Self> {
        let bump = self.0.bump.checked_add(1)?;
        Some(Self(
            MemberIdentity {
                bump,
                ..self.0.clone()
            },
            self.1,
        ))
    }

    fn addr(&self) -> u128 {
        self.1
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        let order = self.0.generation().cmp(&adversary.0.generation());
        order.then_with(|| self.0.address.cmp(&adversary.0.address)) == Ordering::Greater
    }
}

/// Hears what foca says in one call.
#[derive(Debug, Default)]
struct Ears {
    packets: Vec<SwimPacket>,
    timers: Vec<(Duration, SwimTimer)>,
    idle: bool,
}

impl Runtime<SwimIdentity> for Ears {
    fn notify(&mut self, notification: Notification<'_, SwimIdentity>) {
        match notification {
            Notification::Idle => self.idle = true,
            Notification::MemberUp(_)
            | Notification::MemberDown(_)
            | Notification::Rename(..)
            | Notification::Active
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, _to: SwimIdentity, data: &[u8]) {
        let packet = decode_packet(data).expect("foca sends what the codec encoded");
        self.packets.push(packet);
    }

    fn submit_after(&mut self, timer: SwimTimer, after: Duration) {
        self.timers.push((after, timer));
    }
}

fn foca_config(config: &MembershipConfig, members: usize, magnitude: u32) -> foca::Config {
    let count = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let repetitions = u8::try_from(REPETITIONS * magnitude).unwrap_or(u8::MAX);
    // foca needs a probe to end before the next begins.
    let probe_interval = config.probe_interval.max(2 * SHORTEST);
    foca::Config {
        probe_period: probe_interval,
        probe_rtt: config
            .probe_timeout
            .clamp(SHORTEST, probe_interval - SHORTEST),
        num_indirect_probes: count(config.indirect_probes),
        max_transmissions: NonZeroU8::new(repetitions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: suspicion(config, members),
        remove_down_after: Some(config.down_retention),
        max_packet_size: count(PACKET_LEN_MAX),
        notify_down_members: true,
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: config.gossip_interval.max(SHORTEST),
            num_members: count(config.gossip_fanout),
        }),
    }
}

/// How long a suspect has to refute: grows with the logarithm of the number of members, in
/// hundredths, so that every machine comes to the same.
fn suspicion(config: &MembershipConfig, members: usize) -> Duration {
    let hundredths = ((members.max(1) as f64).log10() * 100.0).round() as u32;
    config.probe_interval * config.suspicion_multiplier.max(1) * hundredths.max(100) / 100
}

/// How many decimal digits a number of members has, which is its logarithm rounded up.
fn magnitude(members: usize) -> u32 {
    members.max(1).ilog10() + 1
}

/// A digest of 128 bits (FNV-1a), keyless: all nodes agree on it. Two names of one fabric that
/// collide would have to be certified for that purpose.
fn digest(name: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    name.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

/// How often foca tells an update about a member, per digit of the number of members.
const REPETITIONS: u32 = 3;

/// Tellings of names and labels, per digit of the number of members. If each of `n` members picks `t`
/// others at random, one is missed with a chance of e^-t: of 100 members, at 5 % loss, with one
/// change in a thousand. Three per digit miss one with every fiftieth. Push and pull finds those.
const TELLINGS: u32 = 4;

/// Shortest interval that foca is given; it takes none of zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// The tag and length of the packet within a `ControlMessage` come to three bytes, and the count
/// of updates, which does not travel, to two.
const PACKET_LEN_MAX: usize = DATAGRAM_LEN_MAX - 3;

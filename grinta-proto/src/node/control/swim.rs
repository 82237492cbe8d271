//! Failure detection: foca behind typed packets.
//!
//! foca decides who is probed, who is suspect and who is down; this module gives it an identity, a
//! codec and ears, and keeps everything else from it: its bytes become [`SwimPacket`]s, its timers
//! wait in our queue, and it hears only of what the rest of the control tier let pass. What it
//! decided in one call is taken as one [`Outcome`], in the order in which it decided.
//!
//! foca tells nobody when a member becomes suspect or refutes, but it encodes every change that it
//! takes, to spread it. So the codec is where changes are heard.

use std::cmp::Ordering;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Buf, BufMut};
use foca::{
    Codec, Foca, Header, Identity, Member, Message, NoCustomBroadcast, Notification,
    PeriodicParams, Runtime, State, Timer,
};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, key_len};
use rand::rngs::StdRng;

use crate::config::MembershipConfig;
use crate::wire::control::{
    DATAGRAM_LEN_MAX, Health, MemberIdentity, MemberUpdate, SwimHeader, SwimKind, SwimPacket,
};
use crate::wire::generated;
use crate::wire::malformed::MalformedMessage;

/// foca, wrapped.
pub(super) struct Swim {
    foca: Foca<SwimIdentity, SwimCodec, StdRng, NoCustomBroadcast>,
    heard: mpsc::Receiver<MemberUpdate>,
    incarnation: u16,
    config: MembershipConfig,
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
    pub(super) fn handle_packet(&mut self, packet: &SwimPacket) -> Result<Outcome, PacketTooLong> {
        let ours = self.identity();
        let mut header = generated::SwimHeader::from(&packet.header);
        let mut updates = packet.updates.as_slice();
        let mut bytes = encode_packet(&header, updates)?;
        if packet.header.destination != *ours {
            if packet.header.kind == SwimKind::TurnUndead
                || packet.header.destination.name != ours.name
            {
                return Ok(Outcome::default());
            }
            header.destination = Some(ours.into());
            // The present identity may be a few bytes longer than the earlier one.
            bytes = loop {
                match (encode_packet(&header, updates), updates.split_last()) {
                    (Err(PacketTooLong), Some((_, fewer))) => updates = fewer,
                    (encoded, _) => break encoded?,
                }
            };
        }
        let result = self.foca.handle_data(&bytes, &mut self.ears);
        Ok(self.outcome(result))
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
        self.foca
            .set_config(config)
            .expect("only what foca lets change is changed");
    }

    /// How often a change is told to a member before it is old: three times the digits of the
    /// number of members.
    pub(super) const fn repetitions(&self) -> u32 {
        REPETITIONS * self.magnitude
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

/// A packet is longer than any node sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketTooLong;

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

/// Encodes headers and members as the fields of a protobuf `SwimPacket`. A packet of foca's is
/// that message, with the number of its updates in two bytes behind the header.
struct SwimCodec {
    changes: mpsc::Sender<MemberUpdate>,
}

impl Codec<SwimIdentity> for SwimCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<SwimIdentity>,
        mut buffer: impl BufMut,
    ) -> Result<(), CodecError> {
        let header = typed_header(header).ok_or(CodecError::Kind)?;
        put_field(
            HEADER_FIELD,
            &generated::SwimHeader::from(&header),
            &mut buffer,
        )
    }

    fn decode_header(&mut self, mut buffer: impl Buf) -> Result<Header<SwimIdentity>, CodecError> {
        let header: generated::SwimHeader = get_field(HEADER_FIELD, &mut buffer)?;
        Ok(foca_header(&SwimHeader::try_from(header)?))
    }

    fn encode_member(
        &mut self,
        member: &Member<SwimIdentity>,
        mut buffer: impl BufMut,
    ) -> Result<(), CodecError> {
        let update = typed_update(member);
        put_field(
            UPDATE_FIELD,
            &generated::MemberUpdate::from(&update),
            &mut buffer,
        )?;
        // Only a `Swim` that is being dropped no longer listens.
        let _ = self.changes.send(update);
        Ok(())
    }

    fn decode_member(&mut self, mut buffer: impl Buf) -> Result<Member<SwimIdentity>, CodecError> {
        let update: generated::MemberUpdate = get_field(UPDATE_FIELD, &mut buffer)?;
        Ok(foca_member(&MemberUpdate::try_from(update)?))
    }
}

/// Why the codec could not encode or decode.
#[derive(Debug, thiserror::Error)]
enum CodecError {
    #[error("the packet is full")]
    Full,
    #[error("foca sent a kind of message that the contract does not have")]
    Kind,
    #[error("expected another field")]
    Field,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Malformed(#[from] MalformedMessage),
}

fn put_field(
    field: u32,
    message: &impl prost::Message,
    buffer: &mut impl BufMut,
) -> Result<(), CodecError> {
    let length = message.encoded_len();
    let whole = key_len(field) + prost::length_delimiter_len(length) + length;
    if buffer.remaining_mut() < whole {
        return Err(CodecError::Full);
    }
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
    message.encode(buffer).map_err(|_| CodecError::Full)
}

fn get_field<M: prost::Message + Default>(
    field: u32,
    buffer: &mut impl Buf,
) -> Result<M, CodecError> {
    if decode_key(buffer)? != (field, WireType::LengthDelimited) {
        return Err(CodecError::Field);
    }
    let length = decode_varint(buffer)?;
    match usize::try_from(length) {
        Ok(length) if length <= buffer.remaining() => Ok(M::decode(buffer.take(length))?),
        Ok(_) | Err(_) => Err(CodecError::Field),
    }
}

fn encode_packet(
    header: &generated::SwimHeader,
    updates: &[MemberUpdate],
) -> Result<Vec<u8>, PacketTooLong> {
    let mut bytes = Vec::with_capacity(PACKET_LEN_MAX);
    put_packet(header, updates, &mut (&mut bytes).limit(PACKET_LEN_MAX))
        .map_err(|_| PacketTooLong)?;
    Ok(bytes)
}

fn put_packet(
    header: &generated::SwimHeader,
    updates: &[MemberUpdate],
    buffer: &mut impl BufMut,
) -> Result<(), CodecError> {
    put_field(HEADER_FIELD, header, buffer)?;
    let count = u16::try_from(updates.len()).map_err(|_| CodecError::Full)?;
    if count == 0 {
        return Ok(());
    }
    if buffer.remaining_mut() < size_of::<u16>() {
        return Err(CodecError::Full);
    }
    buffer.put_u16(count);
    for update in updates {
        put_field(UPDATE_FIELD, &generated::MemberUpdate::from(update), buffer)?;
    }
    Ok(())
}

fn decode_packet(mut data: &[u8]) -> Result<SwimPacket, CodecError> {
    let header: generated::SwimHeader = get_field(HEADER_FIELD, &mut data)?;
    let header = SwimHeader::try_from(header)?;
    let count = data.try_get_u16().unwrap_or(0);
    let mut updates = Vec::with_capacity(count.into());
    for _ in 0..count {
        let update: generated::MemberUpdate = get_field(UPDATE_FIELD, &mut data)?;
        updates.push(MemberUpdate::try_from(update)?);
    }
    Ok(SwimPacket { header, updates })
}

fn typed_header(header: &Header<SwimIdentity>) -> Option<SwimHeader> {
    let kind = match &header.message {
        Message::Ping(probe) => SwimKind::Ping(*probe),
        Message::Ack(probe) => SwimKind::Ack(*probe),
        Message::PingReq {
            target,
            probe_number,
        } => SwimKind::PingRequest {
            target: target.0.clone(),
            probe: *probe_number,
        },
        Message::IndirectPing {
            origin,
            probe_number,
        } => SwimKind::IndirectPing {
            origin: origin.0.clone(),
            probe: *probe_number,
        },
        Message::IndirectAck {
            target,
            probe_number,
        } => SwimKind::IndirectAck {
            target: target.0.clone(),
            probe: *probe_number,
        },
        Message::ForwardedAck {
            origin,
            probe_number,
        } => SwimKind::ForwardedAck {
            origin: origin.0.clone(),
            probe: *probe_number,
        },
        Message::Gossip => SwimKind::Gossip,
        Message::TurnUndead => SwimKind::TurnUndead,
        // Joining and custom broadcasts have their own messages here; foca is never asked for its.
        Message::Announce | Message::Feed | Message::Broadcast => return None,
    };
    Some(SwimHeader {
        source: header.src.0.clone(),
        incarnation: header.src_incarnation,
        destination: header.dst.0.clone(),
        kind,
    })
}

fn foca_header(header: &SwimHeader) -> Header<SwimIdentity> {
    let identity = |identity: &MemberIdentity| SwimIdentity::new(identity.clone());
    let message = match &header.kind {
        SwimKind::Ping(probe) => Message::Ping(*probe),
        SwimKind::Ack(probe) => Message::Ack(*probe),
        SwimKind::PingRequest { target, probe } => Message::PingReq {
            target: identity(target),
            probe_number: *probe,
        },
        SwimKind::IndirectPing { origin, probe } => Message::IndirectPing {
            origin: identity(origin),
            probe_number: *probe,
        },
        SwimKind::IndirectAck { target, probe } => Message::IndirectAck {
            target: identity(target),
            probe_number: *probe,
        },
        SwimKind::ForwardedAck { origin, probe } => Message::ForwardedAck {
            origin: identity(origin),
            probe_number: *probe,
        },
        SwimKind::Gossip => Message::Gossip,
        SwimKind::TurnUndead => Message::TurnUndead,
    };
    Header {
        src: identity(&header.source),
        src_incarnation: header.incarnation,
        dst: identity(&header.destination),
        message,
    }
}

fn typed_update(member: &Member<SwimIdentity>) -> MemberUpdate {
    let health = match member.state() {
        State::Alive => Health::Alive,
        State::Suspect => Health::Suspect,
        State::Down => Health::Down,
    };
    MemberUpdate {
        identity: member.id().0.clone(),
        incarnation: member.incarnation(),
        health,
    }
}

fn foca_member(update: &MemberUpdate) -> Member<SwimIdentity> {
    let state = match update.health {
        Health::Alive => State::Alive,
        Health::Suspect => State::Suspect,
        Health::Down | Health::Left => State::Down,
    };
    Member::new(
        SwimIdentity::new(update.identity.clone()),
        update.incarnation,
        state,
    )
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

const HEADER_FIELD: u32 = 1;
const UPDATE_FIELD: u32 = 2;

/// Tellings per digit of the number of members: with a fanout of three, a change misses a member
/// about once in a thousand, and push and pull repairs that.
const REPETITIONS: u32 = 3;

/// Shortest interval that foca is given; it takes none of zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// The tag and length of the packet within a `ControlMessage` come to three bytes, and the count
/// of updates, which does not travel, to two.
const PACKET_LEN_MAX: usize = DATAGRAM_LEN_MAX - 3;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rand::SeedableRng;

    use super::*;
    use crate::name::{NAME_LEN_MAX, NodeName, Session};
    use crate::wire::control::{ControlMessage, UPDATES_MAX};

    #[test]
    fn timers_rank_as_foca_orders_them() {
        let one = SwimIdentity::new(identity("a", 1, 0));
        let timers = [
            Timer::SendIndirectProbe {
                probed_id: one.clone(),
                token: 0,
            },
            Timer::ProbeRandomMember(0),
            Timer::ChangeSuspectToDown {
                member_id: one.clone(),
                incarnation: 0,
                token: 0,
            },
            Timer::PeriodicAnnounce(0),
            Timer::PeriodicGossip(0),
            Timer::RemoveDown(one),
            Timer::PeriodicAnnounceDown(0),
        ];
        for a in &timers {
            for b in &timers {
                assert_eq!(rank(a).cmp(&rank(b)), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn of_two_identities_the_later_wins() {
        let later = [
            identity("a", 1, 0),
            identity("a", 1, 1),
            identity("a", 2, 0),
        ];
        for pair in later.windows(2) {
            let [earlier, later] = pair else {
                unreachable!()
            };
            let (earlier, later) = (
                SwimIdentity::new(earlier.clone()),
                SwimIdentity::new(later.clone()),
            );
            assert!(later.win_addr_conflict(&earlier) && !earlier.win_addr_conflict(&later));
        }
        let first = SwimIdentity::new(later[0].clone());
        assert_eq!(first.renew().unwrap().0, later[1]);
        let last = SwimIdentity::new(MemberIdentity {
            bump: u32::MAX,
            ..later[0].clone()
        });
        assert_eq!(last.renew(), None);
    }

    #[test]
    fn the_fullest_packet_of_the_longest_names_fits_a_datagram() {
        let long = |n: usize| identity(&format!("{n:0NAME_LEN_MAX$}"), u64::MAX, u32::MAX);
        let mut swim = Swim::new(
            long(0),
            &MembershipConfig::default(),
            StdRng::seed_from_u64(1),
        );
        let updates: Vec<_> = (1..40)
            .map(|n| MemberUpdate {
                identity: long(n),
                incarnation: u16::MAX,
                health: Health::Suspect,
            })
            .collect();
        let outcome = swim.apply(&updates);
        assert_eq!(outcome.changes, updates);
        let gossip = outcome.timers.into_iter().map(|(_, timer)| timer);
        let gossip = gossip.filter(|timer| matches!(timer, Timer::PeriodicGossip(_)));
        let packets: Vec<_> = gossip
            .flat_map(|timer| swim.handle_timer(timer).packets)
            .collect();
        assert_eq!(packets.len(), MembershipConfig::default().gossip_fanout);
        for packet in packets {
            assert!(packet.updates.len() >= 3, "{}", packet.updates.len());
            let length = ControlMessage::Swim(packet).encoded_len();
            assert!((900..=DATAGRAM_LEN_MAX).contains(&length), "{length}");
        }
    }

    #[test]
    fn a_packet_to_an_earlier_identity_is_answered_by_the_present_one() {
        let mut swim = Swim::new(
            identity("b", 1, 4),
            &MembershipConfig::default(),
            StdRng::seed_from_u64(1),
        );
        let header = |kind| SwimHeader {
            source: identity("a", 1, 0),
            incarnation: 0,
            destination: identity("b", 1, 2),
            kind,
        };
        let ping = SwimPacket {
            header: header(SwimKind::Ping(7)),
            updates: Vec::new(),
        };
        let outcome = swim.handle_packet(&ping).unwrap();
        assert_eq!(outcome.packets.len(), 1);
        assert_eq!(outcome.packets[0].header.source, identity("b", 1, 4));
        assert_eq!(outcome.packets[0].header.kind, SwimKind::Ack(7));
        // So is a full one, though the present identity takes more bytes.
        let update = |n| MemberUpdate {
            identity: identity(&format!("m{n:02}"), 1, 0),
            incarnation: 0,
            health: Health::Alive,
        };
        let mut full = ping.clone();
        full.header.destination.bump = 0;
        let length = |packet: &SwimPacket| ControlMessage::Swim(packet.clone()).encoded_len();
        full.updates = (0..UPDATES_MAX).map(update).collect();
        while length(&full) > DATAGRAM_LEN_MAX - 2 {
            full.updates.pop();
        }
        full.header.source.name =
            NodeName::new("a".repeat(DATAGRAM_LEN_MAX - 1 - length(&full))).unwrap();
        assert_eq!(swim.handle_packet(&full).unwrap().packets.len(), 1);
        // That the earlier one is held down is no news.
        let undead = SwimPacket {
            header: header(SwimKind::TurnUndead),
            updates: Vec::new(),
        };
        swim.handle_packet(&undead).unwrap();
        assert_eq!(swim.identity().bump, 4);
    }

    #[test]
    fn a_packet_longer_than_any_node_sends_is_refused() {
        let mut swim = Swim::new(
            identity("b", 1, 0),
            &MembershipConfig::default(),
            StdRng::seed_from_u64(1),
        );
        let header = SwimHeader {
            source: identity("a", 1, 0),
            incarnation: 0,
            destination: identity("b", 1, 0),
            kind: SwimKind::Gossip,
        };
        let update = |n| MemberUpdate {
            identity: identity(&format!("{n:060}"), 1, 0),
            incarnation: 0,
            health: Health::Alive,
        };
        let packet = SwimPacket {
            header,
            updates: (0..64).map(update).collect(),
        };
        assert_eq!(swim.handle_packet(&packet).unwrap_err(), PacketTooLong);
        assert_eq!(swim.foca.num_members(), 0);
    }

    #[test]
    fn patience_and_repetition_follow_the_size() {
        let config = MembershipConfig::default();
        assert_eq!(suspicion(&config, 1), Duration::from_secs(4));
        assert_eq!(suspicion(&config, 10), Duration::from_secs(4));
        assert_eq!(suspicion(&config, 100), Duration::from_secs(8));
        assert_eq!(suspicion(&config, 1000), Duration::from_secs(12));
        let digits = [1, 9, 10, 99, 100, 999, 1000].map(magnitude);
        assert_eq!(digits, [1, 1, 2, 2, 3, 3, 4]);
    }

    fn identity(name: &str, session: u64, bump: u32) -> MemberIdentity {
        MemberIdentity {
            name: NodeName::new(name).unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], 4600)),
            session: Session(session),
            bump,
        }
    }
}

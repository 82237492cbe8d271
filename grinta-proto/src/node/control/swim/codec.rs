//! What foca encodes, as the fields of our protobuf messages, and both ways between its types and
//! ours.

use std::sync::mpsc;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, key_len};

use super::{PACKET_LEN_MAX, SwimIdentity};
use crate::wire::control::{
    Health, MemberIdentity, MemberUpdate, SwimHeader, SwimKind, SwimPacket,
};
use crate::wire::generated;
use crate::wire::malformed::MalformedMessage;

/// Encodes headers and members as the fields of a protobuf `SwimPacket`. A packet of foca's is
/// that message, with the number of its updates in two bytes behind the header.
pub(super) struct SwimCodec {
    pub(super) changes: mpsc::Sender<MemberUpdate>,
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
pub(super) enum CodecError {
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

/// A packet as foca takes it, with as many of the updates as fit. What a packet says is changed a
/// little on its way to foca, and may take a few bytes more than when it came.
pub(super) fn encode_packet(header: &generated::SwimHeader, updates: &[MemberUpdate]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PACKET_LEN_MAX);
    put_field(HEADER_FIELD, header, &mut bytes).expect("a Vec grows");
    if updates.is_empty() {
        return bytes;
    }
    let count_at = bytes.len();
    bytes.put_u16(0);
    let mut count = 0_u16;
    for update in updates {
        let update = generated::MemberUpdate::from(update);
        let room = PACKET_LEN_MAX.saturating_sub(bytes.len());
        if put_field(UPDATE_FIELD, &update, &mut (&mut bytes).limit(room)).is_err() {
            break;
        }
        count += 1;
    }
    bytes[count_at..count_at + size_of::<u16>()].copy_from_slice(&count.to_be_bytes());
    bytes
}

pub(super) fn decode_packet(mut data: &[u8]) -> Result<SwimPacket, CodecError> {
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

pub(super) fn foca_member(update: &MemberUpdate) -> Member<SwimIdentity> {
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

const HEADER_FIELD: u32 = 1;
const UPDATE_FIELD: u32 = 2;

//! Control messages to and from their protobuf form.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    BUCKETS_MAX, ControlMessage, ENTRIES_MAX, Health, LABELS_LEN_MAX, LabelChange, Labelling,
    MemberAnswer, MemberDigest, MemberIdentity, MemberRecord, MemberUpdate, NameAnswer, NameQuery,
    NameView, SwimHeader, SwimKind, SwimPacket, SyncReply, SyncRequest, check_labels,
};
use crate::name::{InvalidName, Session};
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, OwnerHead, Stamp, Version};
use crate::wire::generated::control_message::Kind;
use crate::wire::generated::name_answer::View;
use crate::wire::generated::{self, MemberState, NoOwner};
use crate::wire::malformed::{FieldFault, MalformedMessage};
use crate::wire::stream::{decode_address, encode_address};

impl From<&ControlMessage> for generated::ControlMessage {
    fn from(message: &ControlMessage) -> Self {
        let kind = match message {
            ControlMessage::Swim(packet) => Kind::Swim(packet.into()),
            ControlMessage::Rumour(rumour) => Kind::Rumour(generated::Rumour {
                deltas: all(&rumour.deltas),
                heads: all(&rumour.heads),
                labels: all(&rumour.labels),
            }),
            ControlMessage::SyncRequest(request) => Kind::SyncRequest(generated::SyncRequest {
                sender: Some((&request.sender).into()),
                members_hash: request.members_hash,
                names_hash: request.names_hash,
            }),
            ControlMessage::SyncReply(reply) => Kind::SyncReply(generated::SyncReply {
                sender: Some((&reply.sender).into()),
                members_hash: reply.members_hash,
                names_hash: reply.names_hash,
                name_buckets: reply.name_buckets.clone(),
                synced: reply.is_synced,
            }),
            ControlMessage::Members(members) => Kind::Members(generated::MemberList {
                members: all(members),
            }),
            ControlMessage::MemberDigest(digest) => Kind::MemberDigest(generated::MemberDigest {
                token: digest.token,
                first: digest.first,
                last: digest.last,
                digests: digest.digests.clone(),
            }),
            ControlMessage::MemberAnswer(answer) => Kind::MemberAnswer(generated::MemberAnswer {
                token: answer.token,
                unknown: answer.unknown.clone(),
            }),
            ControlMessage::NameHeads(heads) => Kind::NameHeads(generated::NameHeads {
                buckets: heads.buckets.iter().map(|&bucket| bucket.into()).collect(),
                heads: all(&heads.heads),
                token: heads.token,
            }),
            ControlMessage::NamePull(pull) => Kind::NamePull(generated::NamePull {
                heads: all(&pull.heads),
                token: pull.token,
                certificates: pull.certificates,
            }),
            ControlMessage::Names(names) => Kind::Names(generated::Names {
                deltas: all(&names.deltas),
                heads: all(&names.heads),
                token: names.token,
                truncated: names.truncated,
                certificates: all(&names.certificates),
            }),
            ControlMessage::Leave(identity) => Kind::Leave(identity.into()),
            ControlMessage::LeaveAcknowledged(identity) => Kind::LeaveAcknowledged(identity.into()),
            ControlMessage::NameQuery(query) => Kind::NameQuery(generated::NameQuery {
                query: query.query,
                name: query.name.as_str().to_owned(),
            }),
            ControlMessage::NameAnswer(answer) => Kind::NameAnswer(answer.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<generated::SyncRequest> for SyncRequest {
    type Error = MalformedMessage;

    fn try_from(request: generated::SyncRequest) -> Result<Self, MalformedMessage> {
        Ok(Self {
            sender: required(request.sender, "SyncRequest", "sender")?,
            members_hash: request.members_hash,
            names_hash: request.names_hash,
        })
    }
}

impl TryFrom<generated::SyncReply> for SyncReply {
    type Error = MalformedMessage;

    fn try_from(reply: generated::SyncReply) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "SyncReply";
        Ok(Self {
            sender: required(reply.sender, MESSAGE, "sender")?,
            members_hash: reply.members_hash,
            names_hash: reply.names_hash,
            name_buckets: bounded(reply.name_buckets, BUCKETS_MAX, MESSAGE, "name_buckets")?,
            is_synced: reply.synced,
        })
    }
}

impl TryFrom<generated::MemberDigest> for MemberDigest {
    type Error = MalformedMessage;

    fn try_from(digest: generated::MemberDigest) -> Result<Self, MalformedMessage> {
        Ok(Self {
            token: digest.token,
            first: digest.first,
            last: digest.last,
            digests: bounded(digest.digests, ENTRIES_MAX, "MemberDigest", "digests")?,
        })
    }
}

impl TryFrom<generated::MemberAnswer> for MemberAnswer {
    type Error = MalformedMessage;

    fn try_from(answer: generated::MemberAnswer) -> Result<Self, MalformedMessage> {
        Ok(Self {
            token: answer.token,
            unknown: bounded(answer.unknown, ENTRIES_MAX, "MemberAnswer", "unknown")?,
        })
    }
}

impl TryFrom<generated::NameQuery> for NameQuery {
    type Error = MalformedMessage;

    fn try_from(query: generated::NameQuery) -> Result<Self, MalformedMessage> {
        Ok(Self {
            query: query.query,
            name: name(&query.name).map_err(|fault| fault.at("NameQuery", "name"))?,
        })
    }
}

impl From<&MemberIdentity> for generated::MemberIdentity {
    fn from(identity: &MemberIdentity) -> Self {
        Self {
            name: identity.name.as_str().to_owned(),
            address: Some(encode_address(identity.address)),
            session: identity.session.0,
            bump: identity.bump,
        }
    }
}

impl TryFrom<generated::MemberIdentity> for MemberIdentity {
    type Error = MalformedMessage;

    fn try_from(identity: generated::MemberIdentity) -> Result<Self, MalformedMessage> {
        let fault = |field| move |fault: FieldFault| fault.at("MemberIdentity", field);
        Ok(Self {
            name: name(&identity.name).map_err(fault("name"))?,
            address: decode_address(identity.address).map_err(fault("address"))?,
            session: Session(identity.session),
            bump: identity.bump,
        })
    }
}

impl From<&SwimPacket> for generated::SwimPacket {
    fn from(packet: &SwimPacket) -> Self {
        Self {
            header: Some((&packet.header).into()),
            updates: all(&packet.updates),
        }
    }
}

impl From<&SwimHeader> for generated::SwimHeader {
    fn from(header: &SwimHeader) -> Self {
        let (kind, probe, subject) = match &header.kind {
            SwimKind::Ping(probe) => (generated::SwimKind::Ping, *probe, None),
            SwimKind::Ack(probe) => (generated::SwimKind::Ack, *probe, None),
            SwimKind::PingRequest { target, probe } => {
                (generated::SwimKind::PingRequest, *probe, Some(target))
            }
            SwimKind::IndirectPing { origin, probe } => {
                (generated::SwimKind::IndirectPing, *probe, Some(origin))
            }
            SwimKind::IndirectAck { target, probe } => {
                (generated::SwimKind::IndirectAck, *probe, Some(target))
            }
            SwimKind::ForwardedAck { origin, probe } => {
                (generated::SwimKind::ForwardedAck, *probe, Some(origin))
            }
            SwimKind::Gossip => (generated::SwimKind::Gossip, 0, None),
            SwimKind::TurnUndead => (generated::SwimKind::TurnUndead, 0, None),
        };
        Self {
            source: Some((&header.source).into()),
            incarnation: header.incarnation.into(),
            destination: Some((&header.destination).into()),
            kind: kind.into(),
            probe: probe.into(),
            subject: subject.map(Into::into),
        }
    }
}

impl TryFrom<generated::SwimHeader> for SwimHeader {
    type Error = MalformedMessage;

    fn try_from(header: generated::SwimHeader) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "SwimHeader";
        let kind = generated::SwimKind::try_from(header.kind)
            .map_err(|_| FieldFault::Unknown { value: header.kind }.at(MESSAGE, "kind"))?;
        let probe = u8::try_from(header.probe)
            .map_err(|_| too_large(header.probe, u8::MAX.into()).at(MESSAGE, "probe"))?;
        let subject = header.subject;
        let subject = || required(subject, MESSAGE, "subject");
        let kind = match kind {
            generated::SwimKind::Unspecified => {
                return Err(FieldFault::Unknown { value: header.kind }.at(MESSAGE, "kind"));
            }
            generated::SwimKind::Ping => SwimKind::Ping(probe),
            generated::SwimKind::Ack => SwimKind::Ack(probe),
            generated::SwimKind::PingRequest => SwimKind::PingRequest {
                target: subject()?,
                probe,
            },
            generated::SwimKind::IndirectPing => SwimKind::IndirectPing {
                origin: subject()?,
                probe,
            },
            generated::SwimKind::IndirectAck => SwimKind::IndirectAck {
                target: subject()?,
                probe,
            },
            generated::SwimKind::ForwardedAck => SwimKind::ForwardedAck {
                origin: subject()?,
                probe,
            },
            generated::SwimKind::Gossip => SwimKind::Gossip,
            generated::SwimKind::TurnUndead => SwimKind::TurnUndead,
        };
        Ok(Self {
            source: required(header.source, MESSAGE, "source")?,
            incarnation: incarnation(header.incarnation, MESSAGE)?,
            destination: required(header.destination, MESSAGE, "destination")?,
            kind,
        })
    }
}

impl From<&MemberUpdate> for generated::MemberUpdate {
    fn from(update: &MemberUpdate) -> Self {
        Self {
            identity: Some((&update.identity).into()),
            incarnation: update.incarnation.into(),
            state: encode_health(update.health).into(),
        }
    }
}

impl TryFrom<generated::MemberUpdate> for MemberUpdate {
    type Error = MalformedMessage;

    fn try_from(update: generated::MemberUpdate) -> Result<Self, MalformedMessage> {
        Ok(Self {
            identity: required(update.identity, "MemberUpdate", "identity")?,
            incarnation: incarnation(update.incarnation, "MemberUpdate")?,
            health: decode_health(update.state, "MemberUpdate")?,
        })
    }
}

impl From<&MemberRecord> for generated::MemberRecord {
    fn from(record: &MemberRecord) -> Self {
        Self {
            identity: Some((&record.identity).into()),
            incarnation: record.incarnation.into(),
            state: encode_health(record.health).into(),
            labels: record.labels.as_ref().map(Into::into),
            gone_for_seconds: u32::try_from(record.gone_for.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<generated::MemberRecord> for MemberRecord {
    type Error = MalformedMessage;

    fn try_from(record: generated::MemberRecord) -> Result<Self, MalformedMessage> {
        Ok(Self {
            identity: required(record.identity, "MemberRecord", "identity")?,
            incarnation: incarnation(record.incarnation, "MemberRecord")?,
            health: decode_health(record.state, "MemberRecord")?,
            labels: record.labels.map(TryInto::try_into).transpose()?,
            gone_for: Duration::from_secs(record.gone_for_seconds.into()),
        })
    }
}

impl From<&Labelling> for generated::Labels {
    fn from(labels: &Labelling) -> Self {
        Self {
            session: labels.session.0,
            version: labels.version,
            entries: (*labels.entries).clone(),
        }
    }
}

impl TryFrom<generated::Labels> for Labelling {
    type Error = MalformedMessage;

    fn try_from(labels: generated::Labels) -> Result<Self, MalformedMessage> {
        check_labels(&labels.entries).map_err(|_| {
            let length = labels
                .entries
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum();
            FieldFault::TooLong {
                length,
                limit: LABELS_LEN_MAX,
            }
            .at("Labels", "entries")
        })?;
        Ok(Self {
            session: Session(labels.session),
            version: labels.version,
            // Collected at once a map has no room to spare, grown label by label it has half.
            entries: Arc::new(labels.entries.into_iter().collect()),
        })
    }
}

impl From<&LabelChange> for generated::LabelChange {
    fn from(change: &LabelChange) -> Self {
        Self {
            name: change.name.as_str().to_owned(),
            labels: Some((&change.labels).into()),
        }
    }
}

impl TryFrom<generated::LabelChange> for LabelChange {
    type Error = MalformedMessage;

    fn try_from(change: generated::LabelChange) -> Result<Self, MalformedMessage> {
        Ok(Self {
            name: name(&change.name).map_err(|fault| fault.at("LabelChange", "name"))?,
            labels: required(change.labels, "LabelChange", "labels")?,
        })
    }
}

impl From<&NameAnswer> for generated::NameAnswer {
    fn from(answer: &NameAnswer) -> Self {
        let view = match &answer.view {
            NameView::Owned { owner, stamp } => View::Owner(generated::OwnerClaim {
                owner: owner.as_str().to_owned(),
                stamp_unix_ms: stamp.unix_ms,
                stamp_counter: stamp.counter,
            }),
            NameView::Nobody => View::None(NoOwner::Nobody.into()),
            NameView::NotSynced => View::None(NoOwner::NotSynced.into()),
            NameView::Busy => View::None(NoOwner::Busy.into()),
        };
        Self {
            query: answer.query,
            view: Some(view),
        }
    }
}

impl TryFrom<generated::NameAnswer> for NameAnswer {
    type Error = MalformedMessage;

    fn try_from(answer: generated::NameAnswer) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "NameAnswer";
        let view = answer.view;
        let view = match view.ok_or_else(|| FieldFault::Missing.at(MESSAGE, "view"))? {
            View::Owner(claim) => NameView::Owned {
                owner: name(&claim.owner).map_err(|fault| fault.at("OwnerClaim", "owner"))?,
                stamp: Stamp {
                    unix_ms: claim.stamp_unix_ms,
                    counter: claim.stamp_counter,
                },
            },
            View::None(value) => match NoOwner::try_from(value) {
                Ok(NoOwner::Nobody) => NameView::Nobody,
                Ok(NoOwner::NotSynced) => NameView::NotSynced,
                Ok(NoOwner::Busy) => NameView::Busy,
                Ok(NoOwner::Unspecified) | Err(_) => {
                    return Err(FieldFault::Unknown { value }.at(MESSAGE, "none"));
                }
            },
        };
        Ok(Self {
            query: answer.query,
            view,
        })
    }
}

impl From<&OwnerHead> for generated::OwnerHead {
    fn from(head: &OwnerHead) -> Self {
        Self {
            owner: head.owner.as_str().to_owned(),
            session: head.session.0,
            version: head.version.0,
            floor: head.floor.0,
        }
    }
}

impl TryFrom<generated::OwnerHead> for OwnerHead {
    type Error = MalformedMessage;

    fn try_from(head: generated::OwnerHead) -> Result<Self, MalformedMessage> {
        Ok(Self {
            owner: name(&head.owner).map_err(|fault| fault.at("OwnerHead", "owner"))?,
            session: Session(head.session),
            version: Version(head.version),
            floor: Version(head.floor),
        })
    }
}

impl From<&OwnerDelta> for generated::OwnerDelta {
    fn from(delta: &OwnerDelta) -> Self {
        Self {
            owner: delta.owner.as_str().to_owned(),
            session: delta.session.0,
            after: delta.after.0,
            upto: delta.upto.0,
            floor: delta.floor.0,
            claims: all(&delta.claims),
            proof: delta.proof.as_deref().map(Into::into),
        }
    }
}

impl From<&Claim> for generated::Claim {
    fn from(claim: &Claim) -> Self {
        Self {
            name: claim.name.as_str().to_owned(),
            version: claim.version.0,
            stamp_unix_ms: claim.stamp.unix_ms,
            stamp_counter: claim.stamp.counter,
            state: encode_claim_state(claim.state).into(),
        }
    }
}

impl TryFrom<generated::Claim> for Claim {
    type Error = MalformedMessage;

    fn try_from(claim: generated::Claim) -> Result<Self, MalformedMessage> {
        Ok(Self {
            name: name(&claim.name).map_err(|fault| fault.at("Claim", "name"))?,
            version: Version(claim.version),
            stamp: Stamp {
                unix_ms: claim.stamp_unix_ms,
                counter: claim.stamp_counter,
            },
            state: decode_claim_state(claim.state)?,
        })
    }
}

const fn encode_claim_state(state: ClaimState) -> generated::ClaimState {
    match state {
        ClaimState::Exclusive => generated::ClaimState::Exclusive,
        ClaimState::Shared => generated::ClaimState::Shared,
        ClaimState::Released => generated::ClaimState::Released,
    }
}

fn decode_claim_state(value: i32) -> Result<ClaimState, MalformedMessage> {
    match generated::ClaimState::try_from(value) {
        Ok(generated::ClaimState::Exclusive) => Ok(ClaimState::Exclusive),
        Ok(generated::ClaimState::Shared) => Ok(ClaimState::Shared),
        Ok(generated::ClaimState::Released) => Ok(ClaimState::Released),
        Ok(generated::ClaimState::Unspecified) | Err(_) => {
            Err(FieldFault::Unknown { value }.at("Claim", "state"))
        }
    }
}

const fn encode_health(health: Health) -> MemberState {
    match health {
        Health::Alive => MemberState::Alive,
        Health::Suspect => MemberState::Suspect,
        Health::Down => MemberState::Down,
        Health::Left => MemberState::Left,
    }
}

fn decode_health(value: i32, message: &'static str) -> Result<Health, MalformedMessage> {
    match MemberState::try_from(value) {
        Ok(MemberState::Alive) => Ok(Health::Alive),
        Ok(MemberState::Suspect) => Ok(Health::Suspect),
        Ok(MemberState::Down) => Ok(Health::Down),
        Ok(MemberState::Left) => Ok(Health::Left),
        Ok(MemberState::Unspecified) | Err(_) => {
            Err(FieldFault::Unknown { value }.at(message, "state"))
        }
    }
}

pub(super) fn name<N: FromStr<Err = InvalidName>>(value: &str) -> Result<N, FieldFault> {
    value.parse().map_err(FieldFault::Name)
}

fn incarnation(value: u32, message: &'static str) -> Result<u16, MalformedMessage> {
    u16::try_from(value).map_err(|_| too_large(value, u16::MAX.into()).at(message, "incarnation"))
}

pub(super) fn too_large(value: u32, limit: u64) -> FieldFault {
    FieldFault::TooLarge {
        value: value.into(),
        limit,
    }
}

pub(super) fn required<P, T>(
    value: Option<P>,
    message: &'static str,
    field: &'static str,
) -> Result<T, MalformedMessage>
where
    T: TryFrom<P, Error = MalformedMessage>,
{
    value
        .ok_or_else(|| FieldFault::Missing.at(message, field))?
        .try_into()
}

pub(super) fn bounded<T>(
    values: Vec<T>,
    limit: usize,
    message: &'static str,
    field: &'static str,
) -> Result<Vec<T>, MalformedMessage> {
    check_count(values.len(), limit, message, field)?;
    Ok(values)
}

pub(super) fn check_count(
    count: usize,
    limit: usize,
    message: &'static str,
    field: &'static str,
) -> Result<(), MalformedMessage> {
    if count > limit {
        return Err(FieldFault::TooMany { count, limit }.at(message, field));
    }
    Ok(())
}

fn all<'a, T, P: From<&'a T>>(values: &'a [T]) -> Vec<P> {
    values.iter().map(Into::into).collect()
}

//! The messages by which nodes keep the members and the names, validated.
//!
//! What decodes keeps every rule of `control.proto`, so that nothing behind this border checks
//! again, but for two things that only the receiver knows: whether the sender may say it, and what
//! the directory thinks of the claims. A message that was decoded encodes and decodes to itself.
//! Frames are the caller's: `encode` writes what goes into one, or into a datagram.

mod decode;
mod proof;
mod protobuf;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use prost::Message;

use crate::config::Labels;
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{OwnerCertificate, OwnerDelta, OwnerHead, Stamp};
use crate::wire::generated;
use crate::wire::malformed::MalformedMessage;

/// Longest control message that goes into a datagram, in bytes: QUIC guarantees 1,200 bytes to a
/// packet, and its own header, the frame's and the cipher's tag take up to 60 of them.
pub const DATAGRAM_LEN_MAX: usize = 1100;

/// Most updates of a [`SwimPacket`]. A datagram holds fewer.
pub const UPDATES_MAX: usize = 64;

/// Most members, owners or deltas of one message. A control frame of 64 KiB holds fewer.
pub const ENTRIES_MAX: usize = 4096;

/// Most claims of one delta.
pub const CLAIMS_MAX: usize = 8192;

/// Most buckets of heads.
pub const BUCKETS_MAX: usize = 256;

/// Most labels of a member.
pub const LABELS_MAX: usize = 64;

/// Longest key of a label, in bytes.
pub const LABEL_KEY_LEN_MAX: usize = 128;

/// Longest value of a label, in bytes.
pub const LABEL_VALUE_LEN_MAX: usize = 512;

/// Longest keys and values of all labels of a member together, in bytes.
pub const LABELS_LEN_MAX: usize = 4096;

/// What one node tells another about members and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// Failure detection.
    Swim(SwimPacket),
    /// Changes, told to a few members at random.
    Rumour(Rumour),
    /// Opens an exchange of all that two nodes know.
    SyncRequest(SyncRequest),
    /// Ends the answer to a request.
    SyncReply(SyncReply),
    /// Members that the sender knows.
    Members(Vec<MemberRecord>),
    /// Digests of the members that the sender knows.
    MemberDigest(MemberDigest),
    /// Ends the answer to digests.
    MemberAnswer(MemberAnswer),
    /// All heads that the sender holds in some buckets.
    NameHeads(NameHeads),
    /// Asks for what the sender lacks.
    NamePull(NamePull),
    /// Claims, in answer to heads or to a pull.
    Names(Names),
    /// The sender leaves on purpose.
    Leave(MemberIdentity),
    /// Says back the identity that left.
    LeaveAcknowledged(MemberIdentity),
    /// Asks who owns a name.
    NameQuery(NameQuery),
    /// Answers a query.
    NameAnswer(NameAnswer),
}

impl ControlMessage {
    /// Reads what a frame or a datagram holds.
    ///
    /// # Errors
    /// [`MalformedMessage`] names the first field that breaks a rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedMessage> {
        decode::control_message(bytes)
    }

    /// Appends the message, without a length.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let message = generated::ControlMessage::from(self);
        buffer.reserve(message.encoded_len());
        message.encode(buffer).expect("a BytesMut grows");
    }

    /// How many bytes `encode` appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        generated::ControlMessage::from(self).encoded_len()
    }
}

/// Who a member is: of two identities of one name the greater (session, bump) is the later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIdentity {
    /// Its name, as in its certificate.
    pub name: NodeName,
    /// Where it wants to be dialled. Only its IP address and port travel.
    pub address: SocketAddr,
    /// The run of its process.
    pub session: Session,
    /// Renewals within the run.
    pub bump: u32,
}

impl MemberIdentity {
    /// What orders the identities of one name.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        Generation {
            session: self.session,
            bump: self.bump,
        }
    }
}

/// Orders the identities of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The run of the process.
    pub session: Session,
    /// Renewals within the run.
    pub bump: u32,
}

/// What one node says of another's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It answers.
    Alive,
    /// It did not answer and may still refute, with a greater incarnation.
    Suspect,
    /// It failed. Final for this identity.
    Down,
    /// It left on purpose. Final for this identity.
    Left,
}

impl Health {
    /// Whether the member takes part: alive or suspect.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A change of one member, as failure detection tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberUpdate {
    /// Who.
    pub identity: MemberIdentity,
    /// Raised by the member alone, to refute a suspicion.
    pub incarnation: u16,
    /// What of it.
    pub health: Health,
}

/// One packet of failure detection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwimPacket {
    /// From whom, to whom, and what for.
    pub header: SwimHeader,
    /// What the sender tells on by the way.
    pub updates: Vec<MemberUpdate>,
}

/// From whom a packet is, to whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwimHeader {
    /// The sender.
    pub source: MemberIdentity,
    /// The sender's incarnation.
    pub incarnation: u16,
    /// Whom the sender means to reach.
    pub destination: MemberIdentity,
    /// What the packet asks or answers.
    pub kind: SwimKind,
}

/// What a packet of failure detection asks or answers. The number pairs an answer with its ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwimKind {
    /// Wants an `Ack`.
    Ping(u8),
    /// Answers a `Ping`.
    Ack(u8),
    /// Asks the destination to ping `target` in the source's place.
    PingRequest {
        /// Whom to ping.
        target: MemberIdentity,
        /// The number of the ping.
        probe: u8,
    },
    /// A ping in the place of `origin`.
    IndirectPing {
        /// Who wants to know.
        origin: MemberIdentity,
        /// The number of the ping.
        probe: u8,
    },
    /// Asks the destination to tell `target` that the source answered.
    IndirectAck {
        /// Who wants to know.
        target: MemberIdentity,
        /// The number of the ping.
        probe: u8,
    },
    /// Tells that `origin` answered the source.
    ForwardedAck {
        /// Who answered.
        origin: MemberIdentity,
        /// The number of the ping.
        probe: u8,
    },
    /// Carries updates only.
    Gossip,
    /// Tells the destination that the source holds it down.
    TurnUndead,
}

/// The labels of one member as it set them at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelling {
    /// The run of the member that set them.
    pub session: Session,
    /// Counts the changes within that run.
    pub version: u64,
    /// The labels.
    pub entries: Arc<Labels>,
}

/// All that one node knows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Who.
    pub identity: MemberIdentity,
    /// Raised by the member alone, to refute a suspicion.
    pub incarnation: u16,
    /// What of it.
    pub health: Health,
    /// Its labels, once known.
    pub labels: Option<Labelling>,
    /// How long ago the sender learnt that the member is down or left. It travels in seconds.
    pub gone_for: Duration,
}

/// Labels that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelChange {
    /// Whose labels.
    pub name: NodeName,
    /// The labels.
    pub labels: Labelling,
}

/// Changes, told to a few members at random.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rumour {
    /// Small changes of owners' sets.
    pub deltas: Vec<OwnerDelta>,
    /// Owners whose change is too large to be told; who lacks it pulls it from the sender.
    pub heads: Vec<OwnerHead>,
    /// Labels that changed.
    pub labels: Vec<LabelChange>,
}

/// Opens an exchange of all that two nodes know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The sender itself.
    pub sender: MemberRecord,
    /// Of all members that the sender knows.
    pub members_hash: u64,
    /// Of all owners' heads.
    pub names_hash: u64,
}

/// Ends the answer to a [`SyncRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// The sender itself.
    pub sender: MemberRecord,
    /// Of all members that the sender knows.
    pub members_hash: u64,
    /// Of all owners' heads.
    pub names_hash: u64,
    /// The hash of each bucket of heads; empty if the hashes of the names agree.
    pub name_buckets: Vec<u64>,
    /// Whether the sender is no newcomer itself.
    pub is_synced: bool,
}

/// Digests of the members that the sender knows, itself included, within a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDigest {
    /// Said back by the answer, and mixed into the digests.
    pub token: u32,
    /// Where the range of digests begins.
    pub first: u32,
    /// Where it ends; within the range.
    pub last: u32,
    /// The digest of each record in the range.
    pub digests: Vec<u32>,
}

/// Ends the answer to a [`MemberDigest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAnswer {
    /// Of the question.
    pub token: u32,
    /// The digests of the records that the sender lacks.
    pub unknown: Vec<u32>,
}

/// All heads that the sender holds in some buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameHeads {
    /// Which buckets.
    pub buckets: Vec<u16>,
    /// The heads.
    pub heads: Vec<OwnerHead>,
    /// Said back by the answer.
    pub token: u32,
}

/// Asks for what the sender lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePull {
    /// How far the sender's replicas reach; a version of zero where it has none.
    pub heads: Vec<OwnerHead>,
    /// Said back by the answer.
    pub token: u32,
    /// The sender lacks the certificates of these owners, too.
    pub certificates: bool,
}

/// Claims, in answer to [`NameHeads`] or [`NamePull`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What the asker lacked.
    pub deltas: Vec<OwnerDelta>,
    /// Owners of whom the sender holds more than it told here.
    pub heads: Vec<OwnerHead>,
    /// Of the question.
    pub token: u32,
    /// Not even all heads fitted: ask again once these are taken.
    pub truncated: bool,
    /// Of the owners that were asked for with a version of zero, and of all if that was asked for.
    pub certificates: Vec<OwnerCertificate>,
}

/// Asks who owns a name, as the receiver knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameQuery {
    /// Said back by the answer.
    pub query: u64,
    /// The name.
    pub name: EndpointName,
}

/// Answers a [`NameQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAnswer {
    /// Of the question.
    pub query: u64,
    /// Who owns the name, as the sender knows it.
    pub view: NameView,
}

/// Who owns a name, as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameView {
    /// A node that is alive or suspect.
    Owned {
        /// Which.
        owner: NodeName,
        /// When it claimed the name.
        stamp: Stamp,
    },
    /// Nobody reachable.
    Nobody,
    /// Unknown: the node has not heard all names yet.
    NotSynced,
    /// Unknown: the node was asked too much to look it up.
    Busy,
}

/// Why labels cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// There are too many.
    #[error("{count} labels; the most allowed is {LABELS_MAX}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A key is empty or too long.
    #[error("the label {key:?} has a key of {} bytes; allowed are 1 to {LABEL_KEY_LEN_MAX}", key.len())]
    Key {
        /// The key.
        key: String,
    },
    /// A value is too long.
    #[error(
        "the label {key:?} has a value of {length} bytes; the longest allowed is {LABEL_VALUE_LEN_MAX}"
    )]
    Value {
        /// The key.
        key: String,
        /// The value's length, in bytes.
        length: usize,
    },
    /// Together they are too long.
    #[error("the labels have {length} bytes together; the most allowed is {LABELS_LEN_MAX}")]
    TooLong {
        /// Their length, in bytes.
        length: usize,
    },
}

/// Checks labels against the bounds that let them travel.
///
/// # Errors
/// [`LabelsError`] names the first bound that they break.
pub fn check_labels(labels: &Labels) -> Result<(), LabelsError> {
    if labels.len() > LABELS_MAX {
        return Err(LabelsError::TooMany {
            count: labels.len(),
        });
    }
    let mut length = 0;
    for (key, value) in labels {
        if key.is_empty() || key.len() > LABEL_KEY_LEN_MAX {
            return Err(LabelsError::Key { key: key.clone() });
        }
        if value.len() > LABEL_VALUE_LEN_MAX {
            return Err(LabelsError::Value {
                key: key.clone(),
                length: value.len(),
            });
        }
        length += key.len() + value.len();
    }
    if length > LABELS_LEN_MAX {
        return Err(LabelsError::TooLong { length });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The messages by which nodes keep the members and the names, validated.
//!
//! What decodes keeps every rule of `control.proto`, so that nothing behind this border checks
//! again, but for two things that only the receiver knows: whether the sender may say it, and what
//! the directory thinks of the claims. A message that was decoded encodes and decodes to itself.
//! Frames are the caller's: `encode` writes what goes into one, or into a datagram.

mod decode;
mod protobuf;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use prost::Message;

use crate::config::Labels;
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{OwnerDelta, OwnerHead, Stamp};
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
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::claims::{Claim, ClaimState, Version};
    use crate::wire::malformed::{Fault, FieldFault};

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(message in message()) {
            let bytes = encoded(&message);
            prop_assert_eq!(bytes.len(), message.encoded_len());
            prop_assert_eq!(ControlMessage::decode(&bytes), Ok(message));
        }

        #[test]
        fn what_decodes_encodes_and_decodes_to_itself(
            message in message(),
            flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = encoded(&message).to_vec();
            for (index, value) in flips {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            if let Ok(message) = ControlMessage::decode(&bytes) {
                prop_assert_eq!(ControlMessage::decode(&encoded(&message)), Ok(message));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..256)) {
            let _ = ControlMessage::decode(&bytes);
        }
    }

    #[test]
    fn every_rule_is_kept_by_name() {
        let fault = |message: generated::ControlMessage| {
            ControlMessage::decode(&message.encode_to_vec())
                .unwrap_err()
                .to_string()
        };
        let of = |kind| generated::ControlMessage { kind: Some(kind) };
        use generated::control_message::Kind;

        assert_eq!(
            fault(generated::ControlMessage { kind: None }),
            "malformed ControlMessage: kind: is missing",
        );
        let identity = generated::MemberIdentity::from(&identity_of("n", 1));
        let bad = generated::MemberIdentity {
            name: String::new(),
            ..identity.clone()
        };
        assert!(fault(of(Kind::Leave(bad))).starts_with("malformed MemberIdentity: name:"));
        let port = generated::Address {
            ip: vec![1, 2, 3, 4],
            port: 0,
        };
        let bad = generated::MemberIdentity {
            address: Some(port),
            ..identity.clone()
        };
        assert_eq!(
            fault(of(Kind::Leave(bad))),
            "malformed MemberIdentity: address: 0 is not a port from 1 to 65535",
        );
        let record = generated::MemberRecord {
            identity: Some(identity),
            ..Default::default()
        };
        let unknown = of(Kind::Members(generated::MemberList {
            members: vec![record.clone()],
        }));
        assert_eq!(
            fault(unknown),
            "malformed MemberRecord: state: 0 is not a known value"
        );
        let many = vec![record; ENTRIES_MAX + 1];
        let error = ControlMessage::decode(
            &of(Kind::Members(generated::MemberList { members: many })).encode_to_vec(),
        );
        let limit = FieldFault::TooMany {
            count: ENTRIES_MAX + 1,
            limit: ENTRIES_MAX,
        };
        let fault = Fault::Field {
            field: "members",
            fault: limit,
        };
        assert_eq!(
            error,
            Err(MalformedMessage {
                message: "MemberList",
                fault
            })
        );
    }

    #[test]
    fn a_message_has_one_kind_and_a_delta_a_session() {
        use generated::control_message::Kind;
        let leave = encoded(&ControlMessage::Leave(identity_of("n", 1)));
        let twice = ControlMessage::decode(&[&leave[..], &leave].concat());
        assert_eq!(
            twice.unwrap_err().to_string(),
            "malformed ControlMessage: kind: has 2 entries; the most allowed is 1",
        );
        let nobody = generated::OwnerDelta {
            owner: "n".to_owned(),
            ..Default::default()
        };
        let names = generated::Names {
            deltas: vec![nobody],
            ..Default::default()
        };
        let kind = Some(Kind::Names(names));
        let decoded = ControlMessage::decode(&generated::ControlMessage { kind }.encode_to_vec());
        assert_eq!(
            decoded.unwrap_err().to_string(),
            "malformed OwnerDelta: session: is missing",
        );
    }

    #[test]
    fn queries_and_answers_keep_their_rules() {
        use generated::control_message::Kind;
        let fault = |kind| {
            let message = generated::ControlMessage { kind: Some(kind) };
            let decoded = ControlMessage::decode(&message.encode_to_vec());
            decoded.unwrap_err().to_string()
        };
        let answer = |view| generated::NameAnswer { query: 1, view };
        assert_eq!(
            fault(Kind::NameAnswer(answer(None))),
            "malformed NameAnswer: view: is missing",
        );
        let unknown = answer(Some(generated::name_answer::View::None(0)));
        assert_eq!(
            fault(Kind::NameAnswer(unknown)),
            "malformed NameAnswer: none: 0 is not a known value",
        );
        let nameless = generated::NameQuery::default();
        assert!(fault(Kind::NameQuery(nameless)).starts_with("malformed NameQuery: name:"));
    }

    #[test]
    fn a_packet_longer_than_any_node_sends_is_malformed() {
        let mut packet = SwimPacket {
            header: SwimHeader {
                source: identity_of("a", 1),
                incarnation: 0,
                destination: identity_of("b", 1),
                kind: SwimKind::Gossip,
            },
            updates: Vec::new(),
        };
        let decoded = |packet: &SwimPacket| {
            let message = ControlMessage::Swim(packet.clone());
            ControlMessage::decode(&encoded(&message)).map(drop)
        };
        let length = |packet: &SwimPacket| generated::SwimPacket::from(packet).encoded_len();
        while length(&packet) <= DATAGRAM_LEN_MAX {
            assert_eq!(decoded(&packet), Ok(()));
            packet.updates.push(MemberUpdate {
                identity: identity_of("a", 1),
                incarnation: 0,
                health: Health::Alive,
            });
        }
        let too_long = FieldFault::TooLong {
            length: length(&packet),
            limit: DATAGRAM_LEN_MAX,
        };
        assert_eq!(decoded(&packet), Err(too_long.at("ControlMessage", "swim")));
    }

    #[test]
    fn labels_have_bounds() {
        let labels = |count: usize, key: usize, value: usize| -> Labels {
            let entries = (0..count).map(|n| (format!("{n:0key$}"), "v".repeat(value)));
            entries.collect()
        };
        assert_eq!(check_labels(&labels(8, 128, 300)), Ok(()));
        assert_eq!(
            check_labels(&labels(65, 2, 0)),
            Err(LabelsError::TooMany { count: 65 })
        );
        assert!(matches!(
            check_labels(&labels(1, 129, 0)),
            Err(LabelsError::Key { .. })
        ));
        assert!(matches!(
            check_labels(&labels(1, 1, 513)),
            Err(LabelsError::Value { .. })
        ));
        assert_eq!(
            check_labels(&labels(9, 1, 500)),
            Err(LabelsError::TooLong { length: 4509 })
        );
    }

    fn encoded(message: &ControlMessage) -> BytesMut {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        bytes
    }

    fn identity_of(name: &str, session: u64) -> MemberIdentity {
        MemberIdentity {
            name: NodeName::new(name).unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], 4600)),
            session: Session(session),
            bump: 0,
        }
    }

    fn message() -> impl Strategy<Value = ControlMessage> {
        prop_oneof![
            (header(), vec(update(), 0..5))
                .prop_map(|(header, updates)| SwimPacket { header, updates })
                .prop_map(ControlMessage::Swim),
            rumour().prop_map(ControlMessage::Rumour),
            (record(), any::<u64>(), any::<u64>()).prop_map(
                |(sender, members_hash, names_hash)| {
                    ControlMessage::SyncRequest(SyncRequest {
                        sender,
                        members_hash,
                        names_hash,
                    })
                }
            ),
            (record(), any::<u64>(), vec(any::<u64>(), 0..=64)).prop_map(
                |(sender, members_hash, name_buckets)| ControlMessage::SyncReply(SyncReply {
                    sender,
                    members_hash,
                    names_hash: !members_hash,
                    name_buckets,
                    is_synced: members_hash % 2 == 0,
                })
            ),
            vec(record(), 0..5).prop_map(ControlMessage::Members),
            (any::<[u32; 3]>(), vec(any::<u32>(), 0..9)).prop_map(
                |([token, first, last], digests)| ControlMessage::MemberDigest(MemberDigest {
                    token,
                    first,
                    last,
                    digests,
                })
            ),
            (any::<u32>(), vec(any::<u32>(), 0..9)).prop_map(|(token, unknown)| {
                ControlMessage::MemberAnswer(MemberAnswer { token, unknown })
            }),
            (vec(0..256_u16, 0..9), vec(head(), 0..5), any::<u32>()).prop_map(
                |(buckets, heads, token)| ControlMessage::NameHeads(NameHeads {
                    buckets,
                    heads,
                    token,
                })
            ),
            (vec(head(), 0..5), any::<u32>())
                .prop_map(|(heads, token)| ControlMessage::NamePull(NamePull { heads, token })),
            (
                vec(delta(), 0..4),
                vec(head(), 0..5),
                any::<u32>(),
                any::<bool>()
            )
                .prop_map(|(deltas, heads, token, truncated)| ControlMessage::Names(
                    Names {
                        deltas,
                        heads,
                        token,
                        truncated
                    }
                )),
            identity().prop_map(ControlMessage::Leave),
            identity().prop_map(ControlMessage::LeaveAcknowledged),
            ("[a-z.]{1,40}", any::<u64>()).prop_map(|(name, query)| {
                let name = EndpointName::new(name).unwrap();
                ControlMessage::NameQuery(NameQuery { query, name })
            }),
            (any::<u64>(), view())
                .prop_map(|(query, view)| ControlMessage::NameAnswer(NameAnswer { query, view })),
        ]
    }

    fn view() -> impl Strategy<Value = NameView> {
        prop_oneof![
            (name(), any::<u64>(), any::<u32>()).prop_map(|(owner, unix_ms, counter)| {
                let stamp = Stamp { unix_ms, counter };
                NameView::Owned { owner, stamp }
            }),
            prop::sample::select(vec![NameView::Nobody, NameView::NotSynced, NameView::Busy]),
        ]
    }

    fn name() -> impl Strategy<Value = NodeName> {
        "[A-Za-z0-9.-]{1,128}".prop_map(|name| NodeName::new(name).unwrap())
    }

    fn identity() -> impl Strategy<Value = MemberIdentity> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
            any::<[u8; 16]>().prop_map(std::net::IpAddr::from),
        ];
        (name(), ip, 1..u16::MAX, any::<u64>(), any::<u32>()).prop_map(
            |(name, ip, port, session, bump)| MemberIdentity {
                name,
                address: SocketAddr::new(ip, port),
                session: Session(session),
                bump,
            },
        )
    }

    fn health() -> impl Strategy<Value = Health> {
        use Health::{Alive, Down, Left, Suspect};
        prop::sample::select(vec![Alive, Suspect, Down, Left])
    }

    fn update() -> impl Strategy<Value = MemberUpdate> {
        (identity(), any::<u16>(), health()).prop_map(|(identity, incarnation, health)| {
            MemberUpdate {
                identity,
                incarnation,
                health,
            }
        })
    }

    fn header() -> impl Strategy<Value = SwimHeader> {
        let kind = (0..8_u8, any::<u8>(), identity()).prop_map(|(kind, probe, other)| match kind {
            0 => SwimKind::Ping(probe),
            1 => SwimKind::Ack(probe),
            2 => SwimKind::PingRequest {
                target: other,
                probe,
            },
            3 => SwimKind::IndirectPing {
                origin: other,
                probe,
            },
            4 => SwimKind::IndirectAck {
                target: other,
                probe,
            },
            5 => SwimKind::ForwardedAck {
                origin: other,
                probe,
            },
            6 => SwimKind::Gossip,
            _ => SwimKind::TurnUndead,
        });
        (identity(), any::<u16>(), identity(), kind).prop_map(
            |(source, incarnation, destination, kind)| SwimHeader {
                source,
                incarnation,
                destination,
                kind,
            },
        )
    }

    fn labelling() -> impl Strategy<Value = Labelling> {
        let entries = btree_map("[a-z]{1,20}", "\\PC{0,30}", 0..6);
        (any::<u64>(), any::<u64>(), entries).prop_map(|(session, version, entries)| Labelling {
            session: Session(session),
            version,
            entries: Arc::new(entries),
        })
    }

    fn record() -> impl Strategy<Value = MemberRecord> {
        (update(), prop::option::of(labelling()), any::<u32>()).prop_map(
            |(update, labels, seconds)| MemberRecord {
                identity: update.identity,
                incarnation: update.incarnation,
                health: update.health,
                labels,
                gone_for: Duration::from_secs(seconds.into()),
            },
        )
    }

    fn rumour() -> impl Strategy<Value = Rumour> {
        let change = (name(), labelling()).prop_map(|(name, labels)| LabelChange { name, labels });
        (vec(delta(), 0..3), vec(head(), 0..3), vec(change, 0..3)).prop_map(
            |(deltas, heads, labels)| Rumour {
                deltas,
                heads,
                labels,
            },
        )
    }

    fn head() -> impl Strategy<Value = OwnerHead> {
        (name(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
            |(owner, session, version, floor)| OwnerHead {
                owner,
                session: Session(session),
                version: Version(version),
                floor: Version(floor),
            },
        )
    }

    fn delta() -> impl Strategy<Value = OwnerDelta> {
        let claim = (
            "[a-z.]{1,40}",
            any::<u64>(),
            any::<u64>(),
            any::<u32>(),
            prop::sample::select(vec![
                ClaimState::Exclusive,
                ClaimState::Shared,
                ClaimState::Released,
            ]),
        )
            .prop_map(|(name, version, unix_ms, counter, state)| Claim {
                name: EndpointName::new(name).unwrap(),
                version: Version(version),
                stamp: Stamp { unix_ms, counter },
                state,
            });
        (head(), any::<u64>(), vec(claim, 0..5)).prop_map(|(head, after, claims)| OwnerDelta {
            owner: head.owner,
            session: Session(head.session.0.max(1)),
            after: Version(after),
            upto: head.version,
            floor: head.floor,
            claims,
        })
    }
}

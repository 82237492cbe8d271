//! Messages as some node might send them: valid, about a few names, and otherwise anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use grinta_proto::wire::claims::{
    CertificateId, Claim, ClaimState, HeadProof, OwnerCertificate, OwnerDelta, OwnerHead, Root,
    SIGNATURE_LEN_MAX, Stamp, Version,
};
use grinta_proto::wire::control::{
    BUCKETS_MAX, ControlMessage, Health, LabelChange, Labelling, MemberAnswer, MemberDigest,
    MemberIdentity, MemberRecord, MemberUpdate, NameAnswer, NameHeads, NamePull, NameQuery,
    NameView, Names, Rumour, SwimHeader, SwimKind, SwimPacket, SyncReply, SyncRequest,
};
use grinta_proto::{EndpointName, Labels, NodeName, Session};

/// The nodes that messages are about. The first is the one that listens.
pub(crate) const NODES: [&str; 5] = ["alice", "bob", "mallory", "nobody", "ghost"];

/// A message of any kind.
pub(crate) fn message(u: &mut Unstructured<'_>) -> Result<ControlMessage> {
    Ok(match u.int_in_range(0..=13)? {
        0 => ControlMessage::Swim(swim_packet(u)?),
        1 => ControlMessage::Rumour(Rumour {
            deltas: some(u, delta)?,
            heads: some(u, head)?,
            labels: some(u, |u| {
                Ok(LabelChange {
                    name: node(u)?,
                    labels: labelling(u)?,
                })
            })?,
        }),
        2 => ControlMessage::SyncRequest(SyncRequest {
            sender: record(u)?,
            members_hash: u.arbitrary()?,
            names_hash: u.arbitrary()?,
        }),
        3 => ControlMessage::SyncReply(SyncReply {
            sender: record(u)?,
            members_hash: u.arbitrary()?,
            names_hash: u.arbitrary()?,
            name_buckets: some(u, |u| u.arbitrary())?,
            is_synced: u.arbitrary()?,
        }),
        4 => ControlMessage::Members(some(u, record)?),
        5 => ControlMessage::NameHeads(NameHeads {
            buckets: some(u, |u| u.int_in_range(0..=BUCKETS_MAX as u16 - 1))?,
            heads: some(u, head)?,
            token: u.arbitrary()?,
        }),
        6 => ControlMessage::NamePull(NamePull {
            heads: some(u, head)?,
            token: u.arbitrary()?,
            certificates: u.arbitrary()?,
        }),
        7 => ControlMessage::Names(Names {
            deltas: some(u, delta)?,
            heads: some(u, head)?,
            token: u.arbitrary()?,
            truncated: u.arbitrary()?,
            certificates: some(u, certificate)?,
        }),
        8 => ControlMessage::Leave(identity(u)?),
        9 => ControlMessage::LeaveAcknowledged(identity(u)?),
        10 => {
            let first = u.arbitrary()?;
            let last = u.int_in_range(first..=u32::MAX)?;
            ControlMessage::MemberDigest(MemberDigest {
                token: u.arbitrary()?,
                first,
                last,
                digests: some(u, |u| u.int_in_range(first..=last))?,
            })
        }
        11 => ControlMessage::MemberAnswer(MemberAnswer {
            token: u.arbitrary()?,
            unknown: some(u, |u| u.arbitrary())?,
        }),
        12 => ControlMessage::NameQuery(NameQuery {
            query: number(u)?,
            name: endpoint(u)?,
        }),
        _ => ControlMessage::NameAnswer(NameAnswer {
            query: number(u)?,
            view: view(u)?,
        }),
    })
}

/// A packet of failure detection.
pub(crate) fn swim_packet(u: &mut Unstructured<'_>) -> Result<SwimPacket> {
    let probe = u.arbitrary()?;
    let kind = match u.int_in_range(0..=7)? {
        0 => SwimKind::Ping(probe),
        1 => SwimKind::Ack(probe),
        2 => SwimKind::PingRequest {
            target: identity(u)?,
            probe,
        },
        3 => SwimKind::IndirectPing {
            origin: identity(u)?,
            probe,
        },
        4 => SwimKind::IndirectAck {
            target: identity(u)?,
            probe,
        },
        5 => SwimKind::ForwardedAck {
            origin: identity(u)?,
            probe,
        },
        6 => SwimKind::Gossip,
        _ => SwimKind::TurnUndead,
    };
    Ok(SwimPacket {
        header: SwimHeader {
            source: identity(u)?,
            incarnation: u.arbitrary()?,
            destination: identity(u)?,
            kind,
        },
        updates: some(u, |u| {
            Ok(MemberUpdate {
                identity: identity(u)?,
                incarnation: u.arbitrary()?,
                health: health(u)?,
            })
        })?,
    })
}

fn identity(u: &mut Unstructured<'_>) -> Result<MemberIdentity> {
    let index = u.choose_index(NODES.len())?;
    let host = if u.ratio(1_u8, 8_u8)? {
        u.int_in_range(1..=255)?
    } else {
        index as u8 + 1
    };
    Ok(MemberIdentity {
        name: NodeName::new(NODES[index]).expect("it is a name"),
        address: SocketAddr::from(([10, 0, 0, host], 7000)),
        session: session(u)?,
        bump: number(u)? as u32,
    })
}

fn node(u: &mut Unstructured<'_>) -> Result<NodeName> {
    Ok(NodeName::new(*u.choose(&NODES)?).expect("it is a name"))
}

/// Around those that nodes begin with, which is the interesting place, or any.
fn session(u: &mut Unstructured<'_>) -> Result<Session> {
    Ok(Session(match u.int_in_range(0..=7)? {
        0 => u.int_in_range(1..=u64::MAX)?,
        offset => SESSION + offset - 4,
    }))
}

/// Mostly small, seldom any.
fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    match u.arbitrary::<u8>()? {
        255 => u.arbitrary(),
        small => Ok(u64::from(small % 16)),
    }
}

fn health(u: &mut Unstructured<'_>) -> Result<Health> {
    let all = [Health::Alive, Health::Suspect, Health::Down, Health::Left];
    u.choose(&all).copied()
}

fn record(u: &mut Unstructured<'_>) -> Result<MemberRecord> {
    Ok(MemberRecord {
        identity: identity(u)?,
        incarnation: u.arbitrary()?,
        health: health(u)?,
        labels: if u.arbitrary()? {
            Some(labelling(u)?)
        } else {
            None
        },
        gone_for: Duration::from_secs(u.arbitrary::<u32>()?.into()),
    })
}

fn view(u: &mut Unstructured<'_>) -> Result<NameView> {
    Ok(match u.int_in_range(0..=3)? {
        0 => NameView::Owned {
            owner: node(u)?,
            stamp: Stamp {
                unix_ms: u.arbitrary()?,
                counter: u.arbitrary()?,
            },
        },
        1 => NameView::Nobody,
        2 => NameView::NotSynced,
        _ => NameView::Busy,
    })
}

fn labelling(u: &mut Unstructured<'_>) -> Result<Labelling> {
    let entries = some(u, |u| {
        let key = format!("key-{}", u.arbitrary::<u8>()?);
        Ok((key, u.arbitrary::<u16>()?.to_string()))
    })?;
    Ok(Labelling {
        session: session(u)?,
        version: number(u)?,
        entries: Arc::new(Labels::from_iter(entries)),
    })
}

fn head(u: &mut Unstructured<'_>) -> Result<OwnerHead> {
    Ok(OwnerHead {
        owner: node(u)?,
        session: session(u)?,
        version: Version(number(u)?),
        floor: Version(number(u)?),
    })
}

fn delta(u: &mut Unstructured<'_>) -> Result<OwnerDelta> {
    let after = number(u)?;
    let mut version = after;
    let claims = some(u, |u| {
        version = version.saturating_add(u.int_in_range(0..=3)?);
        Ok(Claim {
            name: endpoint(u)?,
            version: Version(version),
            stamp: Stamp {
                unix_ms: u.arbitrary()?,
                counter: u.arbitrary()?,
            },
            state: *u.choose(&[
                ClaimState::Exclusive,
                ClaimState::Shared,
                ClaimState::Released,
            ])?,
        })
    })?;
    Ok(OwnerDelta {
        owner: node(u)?,
        session: session(u)?,
        after: Version(after),
        upto: Version(version.saturating_add(number(u)?)),
        floor: Version(number(u)?),
        claims,
        proof: if u.arbitrary()? {
            Some(Box::new(proof(u)?))
        } else {
            None
        },
    })
}

fn proof(u: &mut Unstructured<'_>) -> Result<HeadProof> {
    Ok(HeadProof {
        root: Root(u.arbitrary()?),
        certificate: CertificateId(number(u)?),
        scheme: u.arbitrary()?,
        signature: vec![7; u.int_in_range(1..=SIGNATURE_LEN_MAX)?].into(),
    })
}

fn certificate(u: &mut Unstructured<'_>) -> Result<OwnerCertificate> {
    Ok(OwnerCertificate {
        owner: node(u)?,
        chain: vec![7; u.int_in_range(1..=100)?].into(),
    })
}

fn endpoint(u: &mut Unstructured<'_>) -> Result<EndpointName> {
    let name = format!("name-{}", u.int_in_range(0..=5)?);
    Ok(EndpointName::new(name).expect("it is a name"))
}

/// None to a few of something.
fn some<'a, T>(
    u: &mut Unstructured<'a>,
    mut one: impl FnMut(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=3)?).map(|_| one(u)).collect()
}

/// The session that nodes begin with here.
pub(crate) const SESSION: u64 = 1_800_000_000_000;

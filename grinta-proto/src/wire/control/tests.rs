//! Which bytes are control messages, and what each bound refuses.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::wire::claims::{
    CertificateId, Claim, ClaimState, HeadProof, Root, SIGNATURE_LEN_MAX, Version,
};
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
fn proofs_and_certificates_keep_their_rules() {
    use generated::control_message::Kind;
    let fault = |names: generated::Names| {
        let kind = Some(Kind::Names(names));
        let decoded = ControlMessage::decode(&generated::ControlMessage { kind }.encode_to_vec());
        decoded.unwrap_err().to_string()
    };
    let proven = |proof| generated::Names {
        deltas: vec![generated::OwnerDelta {
            owner: "n".to_owned(),
            session: 1,
            proof: Some(proof),
            ..Default::default()
        }],
        ..Default::default()
    };
    let good = generated::HeadProof {
        root: vec![0; 32],
        certificate: 1,
        scheme: 0x0807,
        signature: vec![1; 64],
    };
    let short = generated::HeadProof {
        root: vec![0; 31],
        ..good.clone()
    };
    assert_eq!(
        fault(proven(short)),
        "malformed HeadProof: root: has 31 bytes; it must have 32",
    );
    let long = generated::HeadProof {
        signature: vec![1; 1025],
        ..good.clone()
    };
    assert_eq!(
        fault(proven(long)),
        "malformed HeadProof: signature: has 1025 bytes; the longest allowed is 1024",
    );
    let unsigned = generated::HeadProof {
        signature: Vec::new(),
        ..good
    };
    assert_eq!(
        fault(proven(unsigned)),
        "malformed HeadProof: signature: is missing"
    );
    let certified = generated::Names {
        certificates: vec![generated::OwnerCertificate {
            owner: "n".to_owned(),
            chain: vec![0; 16 * 1024 + 1],
        }],
        ..Default::default()
    };
    assert_eq!(
        fault(certified),
        "malformed OwnerCertificate: chain: has 16385 bytes; the longest allowed is 16384",
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
        (record(), any::<u64>(), any::<u64>()).prop_map(|(sender, members_hash, names_hash)| {
            ControlMessage::SyncRequest(SyncRequest {
                sender,
                members_hash,
                names_hash,
            })
        }),
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
        (any::<[u32; 3]>(), vec(any::<u32>(), 0..9)).prop_map(|([token, first, last], digests)| {
            ControlMessage::MemberDigest(MemberDigest {
                token,
                first,
                last,
                digests,
            })
        }),
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
        (vec(head(), 0..5), any::<u32>(), any::<bool>()).prop_map(
            |(heads, token, certificates)| ControlMessage::NamePull(NamePull {
                heads,
                token,
                certificates,
            })
        ),
        names().prop_map(ControlMessage::Names),
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

fn names() -> impl Strategy<Value = Names> {
    let (deltas, heads) = (vec(delta(), 0..4), vec(head(), 0..5));
    let certificates = vec(certificate(), 0..3);
    (deltas, heads, any::<u32>(), any::<bool>(), certificates).prop_map(
        |(deltas, heads, token, truncated, certificates)| Names {
            deltas,
            heads,
            token,
            truncated,
            certificates,
        },
    )
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
    (identity(), any::<u16>(), health()).prop_map(|(identity, incarnation, health)| MemberUpdate {
        identity,
        incarnation,
        health,
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
    (update(), prop::option::of(labelling()), any::<u32>()).prop_map(|(update, labels, seconds)| {
        MemberRecord {
            identity: update.identity,
            incarnation: update.incarnation,
            health: update.health,
            labels,
            gone_for: Duration::from_secs(seconds.into()),
        }
    })
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
    let proof = prop::option::of(proof());
    (head(), any::<u64>(), vec(claim, 0..5), proof).prop_map(|(head, after, claims, proof)| {
        OwnerDelta {
            owner: head.owner,
            session: Session(head.session.0.max(1)),
            after: Version(after),
            upto: head.version,
            floor: head.floor,
            claims,
            proof: proof.map(Box::new),
        }
    })
}

fn proof() -> impl Strategy<Value = HeadProof> {
    let signature = vec(any::<u8>(), 1..=SIGNATURE_LEN_MAX);
    (any::<[u8; 32]>(), any::<u64>(), any::<u16>(), signature).prop_map(
        |(root, certificate, scheme, signature)| HeadProof {
            root: Root(root),
            certificate: CertificateId(certificate),
            scheme,
            signature: signature.into(),
        },
    )
}

fn certificate() -> impl Strategy<Value = OwnerCertificate> {
    (name(), vec(any::<u8>(), 1..200)).prop_map(|(owner, chain)| OwnerCertificate {
        owner,
        chain: chain.into(),
    })
}

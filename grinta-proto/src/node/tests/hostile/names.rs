//! Peers that tell too much, or what nobody said.

use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::StreamId;

use super::{NAMES_MAX, Siege, frame};
use crate::name::Session;
use crate::node::control::harness::Signer;
use crate::node::testing::{World, endpoint_name, node_name, signatory};
use crate::node::{Event, control};
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, OwnerHead, Stamp, Version};
use crate::wire::code::Code;
use crate::wire::control::{ControlMessage, MemberAnswer, Names, Rumour};

/// A claim of names from `after` on, signed.
fn claims(owner: &mut Signer, after: u64, count: u64) -> OwnerDelta {
    let known = owner.head();
    assert_eq!(known.version, Version(after));
    for number in after + 1..=after + count {
        owner.claim(endpoint_name(&format!("mallory.{number}")));
    }
    owner.delta(&known)
}

/// A claim by `owner` of its names from `after` on, which nobody signed.
fn unsigned(owner: &str, after: u64, count: u64) -> OwnerDelta {
    let claim = |version| Claim {
        name: endpoint_name(&format!("{owner}.{version}")),
        version: Version(version),
        stamp: Stamp::default(),
        state: ClaimState::Exclusive,
    };
    OwnerDelta {
        owner: node_name(owner),
        session: Session(1),
        after: Version(after),
        upto: Version(after + count),
        floor: Version(0),
        claims: (after + 1..=after + count).map(claim).collect(),
        proof: None,
    }
}

fn names(delta: OwnerDelta, told_of: u64) -> ControlMessage {
    let head = OwnerHead {
        owner: delta.owner.clone(),
        session: delta.session,
        version: Version(told_of),
        floor: delta.floor,
    };
    ControlMessage::Names(Names {
        heads: vec![head],
        deltas: vec![delta],
        token: 0,
        truncated: false,
        certificates: Vec::new(),
    })
}

#[test]
fn a_peer_that_holds_more_names_than_it_may_is_cut_off() {
    let most = NAMES_MAX as u64;
    let rumour = |delta| {
        ControlMessage::Rumour(Rumour {
            deltas: vec![delta],
            ..Rumour::default()
        })
    };
    for is_answer in [false, true] {
        let mut siege = Siege::of_few_names();
        let credentials = siege.world.credentials(&["mallory"]);
        let mut mallory = Signer::by(signatory(credentials), node_name("mallory"), Session(1));
        let within = claims(&mut mallory, 0, most);
        siege.tell(&ControlMessage::Names(mallory.names(within)));
        assert_eq!(siege.world.stranger("mallory").closed(), None);
        let known = siege.world.node("a").control.directory().names_held();
        assert_eq!(known, NAMES_MAX + 1);
        let excess = claims(&mut mallory, most, 1);
        siege.tell(&match is_answer {
            true => names(excess, most + 1),
            false => rumour(excess),
        });
        let counters = siege.world.node("a").counters();
        assert_eq!((counters.names_exceeded, counters.violations), (1, 0));
        siege.assert_closed(Code::TooManyNames);
    }
}

/// The stranger has a good certificate and would have the name of another: that one gives it up, it
/// says, by whatever signature it can come by.
#[test]
fn a_release_in_anothers_name_costs_the_connection_and_nobody_notices() {
    let release = |upto: Version, proof| {
        let claim = Claim {
            name: endpoint_name("service"),
            version: upto,
            stamp: Stamp::default(),
            state: ClaimState::Released,
        };
        OwnerDelta {
            after: Version(0),
            upto,
            claims: vec![claim],
            proof,
            ..unsigned("a", 0, 0)
        }
    };
    for (is_signed, code) in [(false, Code::ControlViolation), (true, Code::ForgedNames)] {
        let mut siege = Siege::greeted();
        siege.world.start("c", &["b"]);
        siege.world.join("c").unwrap();
        let service = endpoint_name("service");
        let held = siege
            .world
            .node("b")
            .control
            .directory()
            .head(&node_name("a"));
        // `a` serves the name; `b` is told.
        siege.world.greet("mallory", "b");
        siege.world.take_events("b");
        let proof = is_signed.then(|| {
            let credentials = siege.world.credentials(&["mallory"]);
            let mut mallory = Signer::by(signatory(credentials), node_name("a"), held.session);
            mallory.claim(service.clone());
            mallory.directory.release(&service);
            let certificate = {
                let known = siege.world.node("b").control.certificate(&node_name("a"));
                control::harness::certificate_id(&known.unwrap().chain)
            };
            let mut proof = mallory.proof();
            proof.certificate = certificate;
            Box::new(proof)
        });
        let delta = OwnerDelta {
            session: held.session,
            ..release(Version(held.version.0 + 1), proof)
        };
        siege.tell(&ControlMessage::Rumour(Rumour {
            deltas: vec![delta],
            ..Rumour::default()
        }));
        let node = siege.world.node("b");
        assert_eq!(node.counters().violations, 1);
        assert_eq!(node.control.directory().head(&node_name("a")), held);
        assert_eq!(
            node.control.directory().owner_of(&service),
            Some(&node_name("a"))
        );
        let named = |event: &Event| matches!(event, Event::Name(_));
        assert!(!siege.world.has_told("b", named), "not even for a moment");
        siege.assert_closed(code);
    }
}

/// It says nothing that is wrong, and never stops.
#[test]
fn a_peer_that_never_stops_talking_is_slowed_and_then_cut_off() {
    let mut world = World::new(1);
    for (name, neighbours) in [("a", &[][..]), ("b", &["a"])] {
        world.start_with(name, neighbours, |config| {
            config.limits.control_bytes_per_second_max = 64 * 1024;
        });
        world.join(name).unwrap();
    }
    let mut siege = Siege::around(world);
    siege.world.greet("mallory", "a");
    let mut message = BytesMut::new();
    ControlMessage::MemberAnswer(MemberAnswer {
        token: 1,
        unknown: vec![7; 1500],
    })
    .encode(&mut message);
    let message = frame(&message);
    let control = StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Bi, 0);
    let (mut said, mut begun) = (0, 0);
    let mut after = Vec::new();
    for second in 0..90 {
        for _ in 0..100 {
            let stranger = siege.world.stranger("mallory");
            if stranger.closed().is_some() {
                break;
            }
            // What does not go in now goes in later.
            let pushed = stranger.push(control, &message[begun..]);
            begun = (begun + pushed) % message.len();
            said += pushed;
            siege.world.run_for(Duration::from_millis(10));
        }
        siege.world.exchange(siege.honest);
        after.push(said);
        if siege.world.stranger("mallory").closed().is_some() {
            assert!(second >= 59, "not before it had its minute: {second}");
            break;
        }
    }
    // After the first seconds, in which its window fills, it is as slow as it may be.
    let late = (after[50] - after[30]) / 20;
    assert!(late <= 2 * 64 * 1024, "{late} B/s");
    assert_eq!(siege.world.node("a").counters().violations, 1);
    siege.assert_closed(Code::TooMuchControl);
}

#[test]
fn hearsay_of_too_many_names_costs_nothing_and_nobody() {
    let mut siege = Siege::of_few_names();
    let most = NAMES_MAX as u64;
    let before = siege.world.node("a").control.directory().names_held();
    for round in 0..50 {
        let all = names(unsigned("carol", round * most, most), 1_000_000);
        siege.tell(&all);
        let held = siege.world.node("a").control.directory().names_held();
        assert!(held - before <= 2 * NAMES_MAX, "{held}");
    }
    assert_eq!(siege.world.stranger("mallory").closed(), None);
    assert_eq!(siege.world.node("a").counters().names_exceeded, 0);
    siege.world.serve("b", "another", "a");
    siege.assert_peace();
}

//! What the wrapper adds to foca, each where nothing else would do.

use std::time::Duration;

use super::super::detection::Hearsay;
use super::super::harness::{World, address, name};
use super::super::*;
use super::{endpoint, seconds};
use crate::node::event::MemberState;
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, Stamp, Version};
use crate::wire::control::{
    DATAGRAM_LEN_MAX, MemberRecord, Rumour, SwimHeader, SwimKind, SwimPacket,
};

#[test]
fn patience_and_repetition_follow_the_size_of_the_fabric() {
    let mut world = World::of(80, 20);
    world.run(seconds(10));
    for index in 0..20 {
        let swim = &world.node(index).control.swim;
        assert_eq!(swim.suspicion(), Duration::from_millis(5200));
        assert_eq!(swim.tellings(), 8);
    }
    (10..20).for_each(|index| world.crash(index));
    world.run(seconds(60));
    assert!(world.is_whole());
    assert_eq!(world.node(0).control.swim.suspicion(), seconds(4));
}

#[test]
fn a_suspect_has_its_time_wherever_word_of_its_death_comes_from() {
    let mut world = World::of(81, 8);
    world.run(seconds(10));
    let identity = world.node(3).control.swim.identity().clone();
    world.crash(3);
    let hear = |world: &mut World, health| {
        let record = MemberRecord {
            identity: identity.clone(),
            incarnation: 0,
            health,
            labels: None,
            gone_for: Duration::ZERO,
        };
        let message = ControlMessage::Members(vec![record]);
        world
            .act(0, |control, now, _| {
                control.handle_message(now, &name(1), message)
            })
            .unwrap();
        world.node(0).control.member(&name(3)).unwrap().state
    };
    assert_eq!(hear(&mut world, Health::Down), MemberState::Suspect);
    world.cut(|index| u8::from(index == 0), 8);
    world.run(Duration::from_millis(3900));
    assert_eq!(hear(&mut world, Health::Down), MemberState::Suspect);
    world.run(Duration::from_millis(200));
    let state = hear(&mut world, Health::Down);
    assert!(matches!(state, MemberState::Down { .. }), "{state:?}");
}

#[test]
fn whoever_was_cut_off_from_a_member_takes_it_down_for_nobody_else() {
    for seed in 90..95 {
        let mut world = World::of(seed, 8);
        world.run(seconds(20));
        let of = |world: &World, index: usize| world.node(index).control.swim.identity().clone();
        // Node 0 lost node 3, the others see it.
        for other in [1, 2, 5, 6, 7] {
            let down = MemberUpdate {
                identity: of(&world, 3),
                incarnation: 0,
                health: Health::Down,
            };
            let packet = SwimPacket {
                header: SwimHeader {
                    source: of(&world, 0),
                    incarnation: 0,
                    destination: of(&world, other),
                    kind: SwimKind::Gossip,
                },
                updates: vec![down],
            };
            world
                .act(other, |control, now, _| {
                    control.handle_message(now, &name(0), ControlMessage::Swim(packet))
                })
                .unwrap();
        }
        world.run(seconds(30));
        for index in [1, 2, 5, 6, 7] {
            let story = world.story(index, 3);
            assert!(!story.contains(&"down"), "{index}: {story:?}");
        }
        assert_eq!(world.node(3).control.swim.identity().bump, 0);
        world.check();
    }
}

#[test]
fn a_full_packet_is_no_longer_for_being_doubted() {
    let mut world = World::of(96, 2);
    world.run(seconds(5));
    let of = |world: &World, index: usize| world.node(index).control.swim.identity().clone();
    let absent = |index| MemberIdentity {
        name: name(index),
        address: address(index),
        session: Session(1),
        bump: 0,
    };
    let known = |index| MemberRecord {
        identity: absent(index),
        incarnation: 300,
        health: Health::Alive,
        labels: None,
        gone_for: Duration::ZERO,
    };
    let members = ControlMessage::Members((2..60).map(known).collect());
    world
        .act(0, |control, now, _| {
            control.handle_message(now, &name(1), members)
        })
        .unwrap();
    // What is known here of a member that is said to be down is longer than what was said.
    let mut packet = SwimPacket {
        header: SwimHeader {
            source: of(&world, 1),
            incarnation: 0,
            destination: of(&world, 0),
            kind: SwimKind::Gossip,
        },
        updates: Vec::new(),
    };
    let is_full =
        |packet: &SwimPacket| ControlMessage::Swim(packet.clone()).encoded_len() > DATAGRAM_LEN_MAX;
    let mut indices = 2..60;
    while !is_full(&packet) {
        packet.updates.push(MemberUpdate {
            identity: absent(indices.next().unwrap()),
            incarnation: 0,
            health: Health::Down,
        });
    }
    packet.updates.pop();
    let said = packet.updates.len();
    world
        .act(0, |control, now, _| {
            control.handle_message(now, &name(1), ControlMessage::Swim(packet))
        })
        .unwrap();
    let control = &world.node(0).control;
    let suspects = (2..60).filter_map(|index| control.member(&name(index)));
    let suspects = suspects.filter(|member| member.state == MemberState::Suspect);
    let suspects = suspects.count();
    assert!((said / 2..said).contains(&suspects), "{suspects} of {said}");
}

#[test]
fn who_missed_a_refutation_gets_it_for_the_asking() {
    let mut world = World::of(95, 8);
    world.run(seconds(10));
    let of = |world: &World, index: usize| world.node(index).control.swim.identity().clone();
    let suspicion = |world: &World| SwimPacket {
        header: SwimHeader {
            source: of(world, 5),
            incarnation: 0,
            destination: of(world, 3),
            kind: SwimKind::Gossip,
        },
        updates: vec![MemberUpdate {
            identity: of(world, 3),
            incarnation: 0,
            health: Health::Suspect,
        }],
    };
    for _ in 0..10 {
        // Only the first is news to node 3, and the rest are as old.
        let message = ControlMessage::Swim(suspicion(&world));
        let told: Vec<_> = world.act(3, |control, now, _| {
            control.handle_message(now, &name(5), message).unwrap();
            std::iter::from_fn(|| control.poll_output()).collect()
        });
        let is_answer = |output: &ControlOutput| {
            let ControlOutput::Send { to, message, .. } = output else {
                return false;
            };
            let ControlMessage::Swim(packet) = message else {
                return false;
            };
            *to == name(5) && packet.header.incarnation == 1
        };
        assert!(told.iter().any(is_answer), "{told:?}");
    }
}

#[test]
fn a_ping_tells_a_suspect_that_it_is_one_and_gossip_does_not() {
    let mut world = World::of(100, 3);
    world.run(seconds(5));
    let of = |world: &World, index: usize| world.node(index).control.swim.identity().clone();
    let suspicion = MemberUpdate {
        identity: of(&world, 2),
        incarnation: 0,
        health: Health::Suspect,
    };
    let packet = |world: &World, (from, to), kind, updates| SwimPacket {
        header: SwimHeader {
            source: of(world, from),
            incarnation: 0,
            destination: of(world, to),
            kind,
        },
        updates,
    };
    let word = packet(&world, (1, 0), SwimKind::Gossip, vec![suspicion.clone()]);
    let ping = packet(&world, (0, 2), SwimKind::Ping(7), Vec::new());
    let gossip = packet(&world, (0, 2), SwimKind::Gossip, Vec::new());
    world.act(0, |control, now, _| {
        let word = ControlMessage::Swim(word);
        control.handle_message(now, &name(1), word).unwrap();
        // If gossip told suspects, and what they refute with is gossip, those who suspect each
        // other would do nothing else.
        for (packet, told) in [(ping, vec![suspicion]), (gossip, vec![])] {
            while control.poll_output().is_some() {}
            control.send_packet(packet, &Hearsay::default());
            let Some(ControlOutput::Send { message, .. }) = control.poll_output() else {
                panic!("nothing is sent");
            };
            let ControlMessage::Swim(sent) = message else {
                panic!("{message:?} is sent");
            };
            assert_eq!(sent.updates, told, "{:?}", sent.header.kind);
        }
    });
}

#[test]
fn one_meeting_of_two_halves_lets_all_renew_before_the_next_round() {
    for seed in 82..87 {
        let count = 40;
        let mut world = World::of(seed, count);
        world.run(seconds(20));
        world.cut(|index| (index % 2) as u8, count);
        world.run(seconds(60));
        world.heal();
        world.act(0, |control, now, _| {
            control.begin_exchange(now, &name(1), address(1));
        });
        world.run(Duration::from_millis(250));
        let renewed = (0..count)
            .filter(|&index| world.node(index).control.swim.identity().bump > 0)
            .count();
        assert!(renewed > count * 3 / 4, "{renewed} of {count}");
    }
}

#[test]
fn among_the_trusted_a_later_run_voids_the_names_of_the_earlier_in_the_same_moment() {
    let mut world = World::new(88);
    world.membership.verify_claims = false;
    world.boot_all(3);
    world.run(seconds(10));
    world
        .act(1, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(3));
    let resolve = |world: &World| world.node(0).control.resolve(&endpoint("svc"));
    assert!(matches!(resolve(&world), Resolution::Remote { .. }));
    let of = |world: &World, index: usize| world.node(index).control.swim.identity().clone();
    let later = MemberUpdate {
        identity: MemberIdentity {
            session: Session(2),
            ..of(&world, 1)
        },
        incarnation: 0,
        health: Health::Alive,
    };
    let packet = SwimPacket {
        header: SwimHeader {
            source: of(&world, 2),
            incarnation: 0,
            destination: of(&world, 0),
            kind: SwimKind::Gossip,
        },
        updates: vec![later],
    };
    world
        .act(0, |control, now, _| {
            control.handle_message(now, &name(2), ControlMessage::Swim(packet))
        })
        .unwrap();
    assert_eq!(resolve(&world), Resolution::NotFound);
}

#[test]
fn who_misses_a_change_pulls_it_from_whoever_told_the_next() {
    let mut world = World::of(89, 3);
    world.run(seconds(10));
    world
        .act(1, |control, now, unix| {
            control.claim(now, unix, endpoint("first"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(3));
    let claim = Claim {
        name: endpoint("third"),
        version: Version(3),
        stamp: Stamp {
            unix_ms: 1,
            counter: 0,
        },
        state: ClaimState::Exclusive,
    };
    let rumour = Rumour {
        deltas: vec![OwnerDelta {
            owner: name(1),
            session: Session(1),
            after: Version(2),
            upto: Version(3),
            floor: Version(0),
            claims: vec![claim],
            proof: None,
        }],
        ..Rumour::default()
    };
    world.sent.clear();
    world
        .act(0, |control, now, _| {
            control.handle_message(now, &name(2), ControlMessage::Rumour(rumour))
        })
        .unwrap();
    assert_eq!(world.sent.get("pull"), Some(&1));
}

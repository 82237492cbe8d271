//! Stories of members: how they come, go, come back, and are told apart.

use super::super::harness::{World, address, name};
use super::super::*;
use super::{endpoint, seconds};
use crate::node::event::MemberState;
use crate::wire::control::{MemberRecord, SwimHeader, SwimKind, SwimPacket, SyncRequest};

#[test]
fn nodes_that_start_together_find_each_other() {
    for (seed, count) in [(1, 2), (2, 20), (3, 50)] {
        let mut world = World::of(seed, count);
        world.run_until(seconds(20), "a whole fabric", World::is_whole);
        world.run(seconds(20));
        world.check();
        for index in 0..count {
            assert!(world.node(index).control.is_synced());
            for other in (0..count).filter(|&other| other != index) {
                assert_eq!(world.story(index, other), ["up"], "{index} about {other}");
            }
        }
    }
}

#[test]
fn a_quiet_fabric_says_little() {
    let mut world = World::of(4, 20);
    world.run(seconds(30));
    world.sent.clear();
    world.bytes = 0;
    world.run(seconds(60));
    assert!(
        !world.sent.contains_key("members"),
        "hashes agree: {:?}",
        world.sent
    );
    assert!(
        !world.sent.contains_key("heads"),
        "hashes agree: {:?}",
        world.sent
    );
    assert!(world.bytes / 60 / 20 < 1024, "{} bytes", world.bytes);
}

#[test]
fn a_crash_is_seen_and_a_leave_is_told_apart() {
    let mut world = World::of(5, 12);
    world.run(seconds(20));
    world.crash(3);
    world.act(4, |control, now, _| control.leave(now));
    world.run(seconds(1));
    assert!(world.node(4).has(&ControlEvent::Left));
    for index in world.indices().into_iter().filter(|&index| index != 4) {
        let member = world.node(index).control.member(&name(4)).unwrap();
        assert!(
            matches!(member.state, MemberState::Left { .. }),
            "{member:?}"
        );
    }
    // Every node probes each other within two rounds, then suspects for its multiple.
    world.run(seconds(2 * 11 + 6));
    for index in world.indices().into_iter().filter(|&index| index != 4) {
        let member = world.node(index).control.member(&name(3)).unwrap();
        assert!(
            matches!(member.state, MemberState::Down { .. }),
            "{member:?}"
        );
        assert_eq!(world.story(index, 4), ["up", "left"]);
    }
    world.check();
}

#[test]
fn who_left_can_come_back() {
    let mut world = World::of(6, 6);
    world.run(seconds(10));
    world.act(2, |control, now, _| control.leave(now));
    world.run(seconds(5));
    world.act(2, |control, now, _| control.join(now, &[address(0)]));
    world.run_until(seconds(10), "a return", World::is_whole);
    assert_eq!(world.story(0, 2), ["up", "left", "up"]);
    world.check();
}

#[test]
fn loss_of_one_in_twenty_makes_nobody_suspect() {
    let mut world = World::of(7, 20);
    world.loss = 50;
    world.run(seconds(120));
    assert!(world.is_whole());
    for index in 0..20 {
        for other in (0..20).filter(|&other| other != index) {
            assert_eq!(world.story(index, other), ["up"], "{index} about {other}");
        }
    }
    world.check();
}

#[test]
fn who_refutes_in_time_is_not_told_that_it_is_down() {
    for seed in 60..66 {
        let mut world = World::of(seed, 6);
        world.run(seconds(10));
        world.cut(|index| u8::from(index == 3), 6);
        world.run(seconds(3));
        world.heal();
        world.run(seconds(20));
        let stories: Vec<_> = [0, 1, 2, 4, 5].map(|index| world.story(index, 3)).into();
        assert!(
            stories.iter().any(|story| story.contains(&"suspected")),
            "{stories:?}"
        );
        assert!(
            stories.iter().all(|story| !story.contains(&"down")),
            "{stories:?}"
        );
        assert!(world.is_whole());
        assert_eq!(world.node(3).control.swim.identity().bump, 0);
        assert!(!world.sent.contains_key("turn undead"), "{:?}", world.sent);
        world.check();
    }
}

#[test]
fn a_frozen_process_that_wakes_suspects_nobody_whose_answer_waits() {
    for seed in 30..40 {
        let mut world = World::of(seed, 6);
        world.run(seconds(10) + Duration::from_millis(137 * seed));
        // Just after a probe arrived, before its answer is read.
        world.is_traced = true;
        let is_ping = |line: &String| line.contains(" n3>") && line.contains("kind: Ping(");
        while !world.trace.iter().any(is_ping) {
            world.trace.clear();
            world.run(Duration::from_micros(100));
        }
        world.is_traced = false;
        world.freeze(3);
        world.run(Duration::from_millis(2500));
        world.thaw(3);
        world.run(seconds(20));
        assert!(world.is_whole());
        for other in [0, 1, 2, 4, 5] {
            assert_eq!(world.story(3, other), ["up"]);
        }
        world.check();
    }
}

#[test]
fn nobody_has_a_node_write_to_itself() {
    let mut world = World::of(25, 3);
    world.run(seconds(10));
    let source = world.node(1).control.swim.identity().clone();
    let ours = world.node(0).control.swim.identity().clone();
    let kinds = [
        SwimKind::PingRequest {
            target: ours.clone(),
            probe: 1,
        },
        SwimKind::IndirectPing {
            origin: ours.clone(),
            probe: 1,
        },
        SwimKind::IndirectAck {
            target: ours.clone(),
            probe: 1,
        },
        // An earlier run of its own is no other node.
        SwimKind::IndirectAck {
            target: MemberIdentity {
                session: Session(ours.session.0 - 1),
                ..ours.clone()
            },
            probe: 1,
        },
    ];
    for kind in kinds {
        let header = SwimHeader {
            source: source.clone(),
            incarnation: 0,
            destination: ours.clone(),
            kind,
        };
        let packet = SwimPacket {
            header,
            updates: Vec::new(),
        };
        let outputs: Vec<_> = world.act(0, |control, now, _| {
            let message = ControlMessage::Swim(packet);
            let result = control.handle_message(now, &source.name, message);
            assert_eq!(result, Ok(()));
            std::iter::from_fn(|| control.poll_output()).collect()
        });
        for output in outputs {
            let is_own = matches!(&output, ControlOutput::Send { to, .. } if *to == ours.name);
            assert!(!is_own, "{output:?}");
        }
    }
}

#[test]
fn a_node_speaks_for_itself_alone() {
    let mut world = World::of(24, 4);
    world.run(seconds(10));
    let source = world.node(1).control.swim.identity().clone();
    let destination = world.node(0).control.swim.identity().clone();
    let kind = SwimKind::Ping(1);
    let header = SwimHeader {
        source: source.clone(),
        incarnation: 9,
        destination,
        kind,
    };
    let packet = SwimPacket {
        header,
        updates: Vec::new(),
    };
    let before: Vec<_> = world.node(0).control.members().collect();
    let messages = [
        ControlMessage::Swim(packet),
        ControlMessage::Leave(source.clone()),
        ControlMessage::SyncRequest(SyncRequest {
            sender: world.node(1).control.own_record(),
            members_hash: 0,
            names_hash: 0,
        }),
    ];
    for message in messages {
        let result = world.act(0, |control, now, _| {
            control.handle_message(now, &name(2), message)
        });
        let violation = Violation::ForeignSource {
            from: name(2),
            claimed: name(1),
        };
        assert_eq!(result, Err(violation));
    }
    assert_eq!(world.node(0).control.members().collect::<Vec<_>>(), before);
}

#[test]
fn the_dead_are_forgotten_by_all_at_the_same_time() {
    let mut world = World::new(25);
    world.membership.down_retention = seconds(600);
    (0..5).for_each(|index| world.boot(index, Session(1), &[0]));
    world.run(seconds(10));
    world.crash(3);
    world.run(seconds(300));
    // One who comes late hears of it, does not list it, and keeps it no longer than the others.
    world.boot(5, Session(1), &[0]);
    world.run(seconds(30));
    world.check();
    let control = &world.node(5).control;
    assert_eq!(control.member(&name(3)), None);
    assert_eq!(control.members.get(&name(3)).unwrap().health, Health::Down);
    world.run(seconds(320));
    for index in world.indices() {
        assert!(
            world.node(index).control.members.get(&name(3)).is_none(),
            "{index}"
        );
    }
}

#[test]
fn halves_find_each_other_and_nobody_dies_on_its_own_side() {
    let count = 20;
    let mut world = World::of(8, count);
    world.run(seconds(20));
    world.cut(|index| (index % 2) as u8, count);
    world.run(seconds(60));
    let down = |world: &World, index: usize| {
        let members = world.node(index).control.members();
        members
            .filter(|member| matches!(member.state, MemberState::Down { .. }))
            .count()
    };
    assert!((0..count).all(|index| down(&world, index) == count / 2));
    world.heal();
    world.run_until(seconds(15), "a heal", World::is_whole);
    world.run(seconds(30));
    world.check();
    assert!(world.is_whole());
    for index in 0..count {
        // Everybody was down for somebody, once; nobody renewed more often than that.
        assert_eq!(world.node(index).control.swim.identity().bump, 1);
        for other in (0..count).filter(|&other| other != index) {
            let story = world.story(index, other);
            let downs = story.iter().filter(|&&word| word == "down").count();
            let expected = usize::from(index % 2 != other % 2);
            assert_eq!(downs, expected, "{index} about {other}: {story:?}");
        }
    }
}

#[test]
fn labels_travel_and_change() {
    let mut world = World::of(14, 10);
    world.run(seconds(10));
    let labels: Labels = [("zone".to_owned(), "a".to_owned())].into();
    world
        .act(3, |control, now, _| control.set_labels(now, labels.clone()))
        .unwrap();
    world.run(seconds(3));
    for index in (0..10).filter(|&index| index != 3) {
        assert_eq!(
            *world.node(index).control.member(&name(3)).unwrap().labels,
            labels
        );
        assert_eq!(world.story(index, 3), ["up", "updated"]);
    }
    // Long ones go on a stream.
    let long: Labels = (0..20)
        .map(|n| (format!("key-{n}"), "v".repeat(150)))
        .collect();
    world
        .act(4, |control, now, _| control.set_labels(now, long.clone()))
        .unwrap();
    world.run(seconds(10));
    for index in (0..10).filter(|&index| index != 4) {
        assert_eq!(
            *world.node(index).control.member(&name(4)).unwrap().labels,
            long
        );
    }
    world.check();
}

#[test]
fn the_last_one_returns_to_the_seeds() {
    for seed in 15..21 {
        let mut world = World::of(seed, 2);
        world.run(seconds(10));
        world.crash(0);
        world.act(1, |control, now, _| control.handle_lost(now, &name(0)));
        let down = |world: &World| world.story(1, 0).contains(&"down");
        world.run_until(seconds(20), "a death", down);
        let death = world.now;
        world.run(seconds(30));
        let mut sought = world
            .connects
            .iter()
            .filter(|(time, _, to)| *time >= death && *to == address(0));
        assert!(
            sought
                .next()
                .is_some_and(|(time, _, _)| *time - death <= seconds(1))
        );
        world.boot(0, Session(2), &[]);
        world.run_until(seconds(20), "a return", World::is_whole);
        world.check();
    }
}

#[test]
fn a_seed_that_is_away_is_tried_again_soon() {
    for seed in 34..44 {
        let mut world = World::new(seed);
        world.cut(|index| index as u8, 2);
        world.boot(0, Session(1), &[]);
        world.boot(1, Session(1), &[0]);
        world.run(Duration::from_millis(800));
        world.heal();
        world.run(Duration::from_millis(2500));
        assert!(world.is_whole());
    }
}

#[test]
fn a_restart_elsewhere_is_found_at_its_new_address() {
    let mut world = World::of(27, 8);
    world.run(seconds(10));
    world.crash(3);
    world.boot_at(3, address(200), Session(2), &[0]);
    world.run_until(seconds(8), "a restart", World::is_whole);
    world.run(seconds(1));
    for index in world.indices().into_iter().filter(|&index| index != 3) {
        let member = world.node(index).control.member(&name(3)).unwrap();
        assert_eq!((member.address, member.session), (address(200), Session(2)));
        assert_eq!(world.story(index, 3), ["up", "updated"]);
    }
    world.check();
}

#[test]
fn who_is_forgotten_counts_as_left_everywhere_and_comes_back_as_a_later_run() {
    let mut world = World::of(29, 8);
    world.run(seconds(10));
    world
        .act(5, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(3));
    let forget = |world: &mut World, index| {
        world.act(1, |control, now, _| control.forget(now, &name(index)))
    };
    let present = ForgetError::Present { name: name(5) };
    assert_eq!(forget(&mut world, 5), Err(present));
    assert_eq!(forget(&mut world, 1), Err(ForgetError::Oneself));
    let unknown = ForgetError::Unknown { name: name(77) };
    assert_eq!(forget(&mut world, 77), Err(unknown));

    world.crash(5);
    world.run(seconds(40));
    assert_eq!(forget(&mut world, 5), Ok(()));
    assert_eq!(forget(&mut world, 5), Ok(()));
    world.run(Duration::from_millis(5));
    let others = world.indices();
    for &index in &others {
        let control = &world.node(index).control;
        let member = control.member(&name(5)).unwrap();
        assert!(matches!(member.state, MemberState::Left { .. }), "{index}");
        assert_eq!(control.directory().names_held(), 0);
        assert_eq!(control.resolve(&endpoint("svc")), Resolution::NotFound);
    }
    // One who held it down and was away at the time neither brings it back nor seeks it.
    world.run(seconds(60));
    for &index in &others {
        let story = world.story(index, 5);
        assert_eq!(story.last(), Some(&"left"), "{index}: {story:?}");
    }
    world.boot(5, Session(2), &[0]);
    world.run_until(seconds(8), "a return", World::is_whole);
    world.check();
}

#[test]
fn since_when_a_member_is_gone_is_what_its_last_event_says() {
    let mut world = World::of(33, 3);
    world.run(seconds(10));
    let identity = world.node(2).control.swim.identity().clone();
    world.crash(2);
    world.run(seconds(40));
    let since = |world: &World| {
        let member = world.node(0).control.member(&name(2)).unwrap();
        let MemberState::Down { since } = member.state else {
            panic!("{member:?}");
        };
        since
    };
    let seen = since(&world);
    let hear = |world: &mut World, session, bump, gone_for| {
        let record = MemberRecord {
            identity: MemberIdentity {
                session,
                bump,
                ..identity.clone()
            },
            incarnation: 0,
            health: Health::Down,
            labels: None,
            gone_for,
        };
        let message = ControlMessage::Members(vec![record]);
        world
            .act(0, |control, now, _| {
                control.handle_message(now, &name(1), message)
            })
            .unwrap();
        world.check();
    };
    // It had renewed itself once, which shows to nobody.
    hear(&mut world, identity.session, 1, seconds(5));
    assert_eq!(since(&world), seen);
    assert_eq!(world.story(0, 2).last(), Some(&"down"));
    // A later run of it has come and gone, while nobody told this node.
    let later = Session(identity.session.0 + 1);
    hear(&mut world, later, 0, seconds(3));
    assert_eq!(since(&world), world.now - seconds(3));
    assert_eq!(world.story(0, 2).last(), Some(&"updated"));
}

#[test]
fn word_that_a_member_left_does_not_hurt_it_where_it_is_alive() {
    let mut world = World::of(31, 8);
    world.run(seconds(10));
    world.cut(|index| u8::from(index < 3), 8);
    world.run(seconds(40));
    // An operator on one side gives up a node of the other, which is well.
    world
        .act(1, |control, now, _| control.forget(now, &name(5)))
        .unwrap();
    world.heal();
    world.run_until(seconds(15), "a heal", World::is_whole);
    world.run(seconds(20));
    assert!(world.is_whole());
    for index in [3, 4, 6, 7] {
        let story = world.story(index, 5);
        assert!(
            !story.contains(&"down") && !story.contains(&"left"),
            "{index}: {story:?}"
        );
    }
    world.check();
}

#[test]
fn a_seed_that_wants_to_be_dialled_elsewhere_is_dialled_there() {
    let mut world = World::new(32);
    world.lead(address(0), 0);
    world.boot_at(0, address(200), Session(1), &[]);
    (1..6).for_each(|index| world.boot(index, Session(1), &[0]));
    world.run(seconds(20));
    assert!(world.is_whole());
    world.connects.clear();
    world.run(seconds(60));
    assert_eq!(world.connects, []);
}

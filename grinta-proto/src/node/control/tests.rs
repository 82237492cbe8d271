//! Stories of whole fabrics of control tiers.

use super::harness::{World, address, name};
use super::*;
use crate::name::{EndpointName, Session};
use crate::node::event::MemberState;
use crate::wire::control::{SwimHeader, SwimKind, SwimPacket, SyncRequest};

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
fn loss_of_one_in_twenty_kills_nobody() {
    let mut world = World::of(7, 20);
    world.loss = 50;
    world.run(seconds(120));
    assert!(world.is_whole());
    for index in 0..20 {
        for other in 0..20 {
            assert!(
                !world.story(index, other).contains(&"down"),
                "{index} about {other}"
            );
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
fn what_a_node_never_said_of_itself_is_a_conflict_and_no_storm() {
    let mut world = World::of(22, 4);
    world.run(seconds(10));
    let clone = |address_: SocketAddr, session, bump, health| MemberRecord {
        identity: MemberIdentity {
            name: name(2),
            address: address_,
            session,
            bump,
        },
        incarnation: 0,
        health,
        labels: None,
        gone_for: Duration::ZERO,
    };
    let hear = |world: &mut World, record: MemberRecord| {
        let message = ControlMessage::Members(vec![record]);
        world
            .act(2, |control, now, _| {
                control.handle_message(now, &name(1), message)
            })
            .unwrap();
    };
    let conflicts = |world: &World| {
        let events = world.node(2).events.iter();
        events
            .filter(|(_, it)| matches!(it, ControlEvent::IdentityConflict { .. }))
            .count()
    };
    // An earlier run with a later session, once: a clock that went back.
    hear(&mut world, clone(address(9), Session(7), 3, Health::Alive));
    assert_eq!(world.node(2).control.identity().session, Session(8));
    assert_eq!(conflicts(&world), 0);
    // Again: somebody else lives under our name.
    hear(&mut world, clone(address(9), Session(9), 0, Health::Alive));
    assert_eq!(
        (world.node(2).control.identity().session, conflicts(&world)),
        (Session(8), 1)
    );
    hear(&mut world, clone(address(9), Session(8), 0, Health::Alive));
    hear(&mut world, clone(address(2), Session(8), 0, Health::Down));
    assert_eq!(
        (
            world.node(2).control.swim.identity().bump,
            conflicts(&world)
        ),
        (0, 1)
    );
}

#[test]
fn renewals_are_rationed() {
    let mut world = World::of(23, 3);
    world.run(seconds(10));
    for _ in 0..20 {
        let identity = world.node(2).control.swim.identity().clone();
        let update = MemberRecord {
            identity,
            incarnation: 0,
            health: Health::Down,
            labels: None,
            gone_for: Duration::ZERO,
        };
        let message = ControlMessage::Members(vec![update]);
        world
            .act(2, |control, now, _| {
                control.handle_message(now, &name(1), message)
            })
            .unwrap();
        world.run(Duration::from_millis(500));
    }
    assert_eq!(world.node(2).control.swim.identity().bump, 4);
    // They come back with time: a bad network exiles nobody.
    world.run(seconds(90));
    assert!(world.is_whole());
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
    world.retention = seconds(600);
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
fn a_restart_replaces_the_earlier_run_at_once() {
    let mut world = World::of(9, 8);
    world.run(seconds(10));
    world
        .act(3, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(3));
    world.crash(3);
    world.boot(3, Session(2), &[0]);
    world.run_until(seconds(8), "a restart", World::is_whole);
    world.run(seconds(6));
    for index in world.indices().into_iter().filter(|&index| index != 3) {
        assert_eq!(world.story(index, 3), ["up", "updated"]);
        // What the earlier run held went with it.
        assert_eq!(
            world.node(index).control.resolve(&endpoint("svc")),
            Resolution::NotFound
        );
    }
    world.check();
}

#[test]
fn a_clock_that_went_back_is_outlived() {
    let mut world = World::of(10, 6);
    world.run(seconds(10));
    world.crash(2);
    world.boot(2, Session(0), &[0]);
    world.run_until(seconds(10), "a restart in the past", World::is_whole);
    assert_eq!(world.node(2).control.identity().session, Session(2));
    let conflict = |(_, event): &(Instant, ControlEvent)| {
        matches!(event, ControlEvent::IdentityConflict { .. })
    };
    assert!(!world.node(2).events.iter().any(conflict));
    world.check();
}

#[test]
fn claims_resolve_everywhere_soon() {
    let mut world = World::of(11, 20);
    world.run(seconds(10));
    for index in 0..20 {
        for n in 0..10 {
            let name = endpoint(&format!("svc-{index}-{n}"));
            world
                .act(index, |control, now, unix| {
                    control.claim(now, unix, name, ClaimMode::Exclusive)
                })
                .unwrap();
        }
    }
    let all = |world: &World| {
        (0..20).all(|asker| {
            (0..20).all(|owner| {
                let name_ = endpoint(&format!("svc-{owner}-7"));
                match world.node(asker).control.resolve(&name_) {
                    Resolution::Remote {
                        owner: found,
                        address: at,
                        ..
                    } => found == name(owner) && at == address(owner),
                    Resolution::Local => asker == owner,
                    Resolution::Unreachable { .. }
                    | Resolution::NotFound
                    | Resolution::NotSynced => false,
                }
            })
        })
    };
    world.run_until(seconds(30), "names everywhere", all);
    let found = world.node(4).control.names("svc-3-", None, 100);
    assert_eq!((found.names.len(), found.next), (10, None));
    // One who comes later learns them all before it says that it is synced.
    world.boot(20, Session(1), &[0]);
    world.run_until(seconds(5), "a newcomer", |world| {
        world.node(20).control.is_synced()
    });
    assert_eq!(
        world.node(20).control.names("", None, 1000).names.len(),
        200
    );
    world.act(7, |control, now, _| {
        control.release(now, &endpoint("svc-7-7"))
    });
    world.run(seconds(3));
    for index in 0..21 {
        let resolution = world.node(index).control.resolve(&endpoint("svc-7-7"));
        assert_eq!(resolution, Resolution::NotFound);
    }
    world.check();
}

#[test]
fn a_newcomer_has_every_name_before_it_is_synced() {
    let mut world = World::of(26, 3);
    world.run(seconds(10));
    for index in 0..3 {
        world.act(index, |control, now, unix| {
            for n in 0..2000 {
                let name = endpoint(&format!("service-{n:05}.of-{index}"));
                control
                    .claim(now, unix, name, ClaimMode::Exclusive)
                    .unwrap();
            }
        });
    }
    let has_all =
        |world: &World, index: usize| world.node(index).control.directory().names_held() == 6000;
    world.run_until(seconds(10), "bulk", |world| {
        (0..3).all(|index| has_all(world, index))
    });
    world.boot(3, Session(1), &[0]);
    let is_synced = |world: &World| world.node(3).control.is_synced();
    world.run_until(seconds(5), "a newcomer", is_synced);
    assert!(has_all(&world, 3));
    world.check();
}

#[test]
fn a_tier_can_be_moved_to_another_thread() {
    const fn is_send<T: Send>() {}
    is_send::<Control>();
    is_send::<ControlOutput>();
}

#[test]
fn a_name_claimed_on_both_sides_of_a_cut_settles_and_the_loser_hears_it_once() {
    let count = 10;
    let mut world = World::of(12, count);
    world.run(seconds(10));
    world.cut(|index| (index % 2) as u8, count);
    world
        .act(2, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(40));
    world
        .act(3, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(5));
    assert_eq!(
        world.node(3).control.resolve(&endpoint("svc")),
        Resolution::Local
    );
    world.heal();
    world.run(seconds(20));
    assert!(world.is_whole());
    for index in (0..count).filter(|&index| index != 2) {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert!(
            matches!(&resolution, Resolution::Remote { owner, .. } if *owner == name(2)),
            "{index}: {resolution:?}",
        );
    }
    let lost = ControlEvent::NameLost {
        name: endpoint("svc"),
        winner: name(2),
    };
    assert_eq!(world.node(3).lost(), [&lost]);
    assert!(world.node(2).lost().is_empty());
    // The loser stands by, and takes over.
    world.act(2, |control, now, _| control.release(now, &endpoint("svc")));
    world.run(seconds(3));
    assert!(world.node(3).has(&ControlEvent::NamePromoted {
        name: endpoint("svc")
    }));
    world.check();
}

#[test]
fn the_names_of_the_down_are_unreachable_and_come_back_without_being_told() {
    let mut world = World::of(13, 8);
    world.run(seconds(10));
    world
        .act(5, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(3));
    world.cut(|index| u8::from(index == 5), 8);
    world.run(seconds(40));
    for index in (0..8).filter(|&index| index != 5) {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert!(
            matches!(resolution, Resolution::Unreachable { .. }),
            "{resolution:?}"
        );
    }
    world.sent.clear();
    world.heal();
    world.run_until(seconds(15), "a heal", World::is_whole);
    for index in (0..8).filter(|&index| index != 5) {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert!(
            matches!(resolution, Resolution::Remote { .. }),
            "{resolution:?}"
        );
    }
    assert!(!world.sent.contains_key("names"), "{:?}", world.sent);
    world.check();
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
    let mut world = World::of(15, 2);
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

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::of(seed, 8);
        world.is_traced = true;
        world.loss = 30;
        world.run(seconds(5));
        world
            .act(1, |control, now, unix| {
                control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
            })
            .unwrap();
        world.cut(|index| u8::from(index < 3), 8);
        world.run(seconds(20));
        world.heal();
        world.run(seconds(10));
        world
            .trace
            .into_iter()
            .map(|line| strip_instants(&line))
            .collect::<Vec<_>>()
    };
    assert_eq!(trace(16), trace(16));
    assert_ne!(trace(16), trace(17));
}

/// Instants print the machine's clock; all else of an event is the same in each run.
fn strip_instants(line: &str) -> String {
    let mut parts = line.split("Instant {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| {
        line + part.split_once('}').map_or("", |(_, rest)| rest)
    })
}

fn endpoint(name: &str) -> EndpointName {
    EndpointName::new(name).unwrap()
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

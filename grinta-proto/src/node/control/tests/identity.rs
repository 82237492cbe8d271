//! Stories of who a node is: its runs, clocks that went back, and namesakes.

use super::super::harness::{Signer, World, address, name};
use super::super::*;
use super::{endpoint, seconds};
use crate::wire::control::Rumour;

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
    // Earlier runs with later sessions: a clock that went back, more than once.
    let mut ours = Session(1);
    for session in [10_000, 20_000, 30_000, 40_000].map(Session) {
        hear(&mut world, clone(address(9), session, 3, Health::Alive));
        ours = world.node(2).control.identity().session;
        assert!(ours > session && ours.0 <= session.0 + 1000, "{ours:?}");
        assert_eq!(conflicts(&world), 0);
    }
    // Again: somebody else lives under our name.
    let theirs = Session(50_000);
    hear(&mut world, clone(address(9), theirs, 0, Health::Alive));
    assert_eq!(
        (world.node(2).control.identity().session, conflicts(&world)),
        (ours, 1)
    );
    hear(&mut world, clone(address(9), ours, 0, Health::Alive));
    hear(&mut world, clone(address(2), ours, 0, Health::Down));
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
    for _ in 0..10 {
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
    // They come back with time, and nobody else has the name: a bad network exiles nobody.
    world.run(seconds(10));
    assert!(world.is_whole());
    let conflict = |(_, event): &(Instant, ControlEvent)| {
        matches!(event, ControlEvent::IdentityConflict { .. })
    };
    assert!(!world.node(2).events.iter().any(conflict));
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
    assert!(world.node(2).control.identity().session > Session(1));
    let conflict = |(_, event): &(Instant, ControlEvent)| {
        matches!(event, ControlEvent::IdentityConflict { .. })
    };
    assert!(!world.node(2).events.iter().any(conflict));
    world.check();
}

#[test]
fn a_clock_that_went_back_below_two_runs_that_others_remember_is_outlived() {
    let mut world = World::of(33, 6);
    world.run(seconds(10));
    // Half of them learn of the second run, the others of the third.
    world.crash(2);
    world.cut(|index| u8::from(index % 2 == 0), 6);
    world.boot(2, Session(5), &[0]);
    world.run(seconds(5));
    world.crash(2);
    world.cut(|index| u8::from(index % 2 == 0 && index != 2), 6);
    world.boot(2, Session(9), &[1]);
    world.run(seconds(5));
    world.crash(2);
    world.heal();
    // The fourth run hears of the second first.
    world.boot(2, Session(0), &[0]);
    world.run_until(seconds(20), "a restart in the past", World::is_whole);
    assert!(world.node(2).control.identity().session > Session(9));
    let conflict = |(_, event): &(Instant, ControlEvent)| {
        matches!(event, ControlEvent::IdentityConflict { .. })
    };
    assert!(!world.node(2).events.iter().any(conflict));
    world.check();
}

#[test]
fn two_runs_that_outlive_the_same_one_are_told_apart() {
    let mut world = World::of(34, 4);
    world.run(seconds(10));
    let mut outlived = Vec::new();
    // Of the first run everybody knows, of the second only node 3.
    for reached in [3, 0] {
        world.crash(2);
        world.cut(|index| u8::from(index != reached && index != 2), 4);
        world.boot(2, Session(0), &[reached]);
        world.run(seconds(5));
        outlived.push(world.node(2).control.identity().session);
    }
    assert!(outlived.iter().all(|session| *session > Session(1)));
    assert_ne!(outlived[0], outlived[1]);
    world.heal();
    world.run_until(seconds(20), "a heal", World::is_whole);
    world.check();
}

#[test]
fn claims_of_our_session_that_we_never_made_are_an_earlier_runs() {
    let mut world = World::of(35, 3);
    world.run(seconds(10));
    let mut earlier = Signer::new(name(2), Session(1));
    earlier.claim(endpoint("svc"));
    let rumour = Rumour {
        deltas: vec![earlier.all()],
        ..Rumour::default()
    };
    world
        .act(2, |control, now, _| {
            control.handle_message(now, &name(1), ControlMessage::Rumour(rumour))
        })
        .unwrap();
    assert!(world.node(2).control.identity().session > Session(1));
    let conflict = |(_, event): &(Instant, ControlEvent)| {
        matches!(event, ControlEvent::IdentityConflict { .. })
    };
    assert!(!world.node(2).events.iter().any(conflict));
    world.run(seconds(10));
    assert!(world.is_whole());
    world.check();
}

#[test]
fn a_namesake_that_lives_is_a_conflict_at_both() {
    let mut world = World::of(28, 3);
    world.run(seconds(10));
    let namesake = Identity {
        name: name(2),
        address: address(9),
        session: Session(5),
    };
    world.act(2, |control, now, _| {
        control.handle_up(now, namesake.clone());
        control.handle_up(now, namesake.clone());
    });
    let conflict = ControlEvent::IdentityConflict {
        other: Some(namesake),
    };
    let told = world.node(2).events.iter();
    assert_eq!(told.filter(|(_, event)| *event == conflict).count(), 1);
}

//! What nodes tell of themselves: labels, leaves and returns, and a name that two go by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Labels;
use crate::name::Session;
use crate::node::control::{ForgetError, Resolution};
use crate::node::testing::{World, accepted, endpoint_name, node_name};
use crate::node::{
    DialCause, Event, HealthSnapshot, JoinError, JoinReport, Member, MemberEvent, MemberState,
    Presence,
};
use crate::wire::code::Code;
use crate::wire::control::{ControlMessage, Health, LabelsError, MemberIdentity, MemberRecord};

#[test]
fn labels_change_while_a_node_runs() {
    let mut world = World::of(1, &["a", "b"]);
    let labels = labels("zone", "north");
    world.run_for(Duration::from_secs(3));
    let begun = world.now;
    world.node("a").set_labels(labels.clone()).unwrap();
    for name in ["a", "b"] {
        let told = world.wait(name, "the labels of a", |event| match event {
            Event::Member(MemberEvent::Updated(member)) => Some(member.clone()),
            _ => None,
        });
        assert_eq!((told.name.as_str(), &*told.labels), ("a", &labels));
    }
    assert_eq!(*world.node("a").own_member().labels, labels);
    // They are told, not found by and by.
    assert!(world.now < begun + Duration::from_millis(10));

    let refused = world.node("a").set_labels(self::labels("", "no key"));
    assert!(matches!(refused, Err(LabelsError::Key { .. })));
    world.run_for(Duration::from_millis(100));
    assert_eq!(*world.node("a").own_member().labels, labels);
}

#[test]
fn members_show_their_round_trip_times_while_they_are_connected() {
    let mut world = World::of(1, &["a", "b"]);
    world.run_for(Duration::from_secs(1));
    let [b] = &world.node("a").members().collect::<Vec<_>>()[..] else {
        panic!("b alone");
    };
    let measured = b.round_trip_time.unwrap();
    assert!(measured >= Duration::from_millis(2) && measured < Duration::from_millis(10));
    world.crash("b");
    let down = world.wait("a", "b is down", down);
    assert_eq!(down.name, node_name("b"));
    world.until("nothing is left of it", |world| {
        let member = world.node("a").members().next().unwrap();
        member.round_trip_time.is_none().then_some(())
    });
}

#[test]
fn a_node_leaves_and_comes_back_with_its_names() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoint = world.serve("b", "service", "a");
    world.serve("a", "other", "b");
    let ends = world.flow("a", "b", (endpoint, "service"));
    let begun = world.now;
    world.node("b").leave();
    told(&mut world, "b", &Event::Left);
    assert!(world.now < begun + Duration::from_millis(100));
    assert_eq!(world.node("b").snapshot().presence, Presence::Left);
    for name in ["a", "b", "c"] {
        assert_eq!(world.wait(name, "b left", left).name, node_name("b"));
    }
    assert!(world.now < begun + Duration::from_secs(1));

    // What is open lives on, what is new is refused, and the rest is closed.
    world.exchange(ends);
    let resolution = world.node("a").resolve(&endpoint_name("service"));
    assert!(!matches!(resolution, Resolution::Remote { .. }));
    let abroad = world.dial("b", "other");
    let error = world.dialled("b", abroad).unwrap_err();
    assert_eq!(error.cause, DialCause::Left);
    let at_home = world.dial("b", "service");
    world.incoming("b", endpoint);
    world.node("b").cancel_dial(at_home);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.node("b").round_trip_times().count(), 1);
    world.exchange(ends);
    world.release(ends.dialler);
    world.release(ends.acceptor);
    world.until("b is connected to nobody", |world| {
        (world.connections("b") == 0).then_some(())
    });

    let report = world.join("b").unwrap();
    assert_eq!(report.reached, [("a".to_owned(), node_name("a"))]);
    for name in ["a", "b", "c"] {
        world.wait(name, "b is back", |event| match event {
            Event::Member(MemberEvent::Up(member)) => {
                (member.name.as_str() == "b" && member.state == MemberState::Alive).then_some(())
            }
            _ => None,
        });
    }
    world.until("its name is back", |world| {
        let resolution = world.node("c").resolve(&endpoint_name("service"));
        matches!(resolution, Resolution::Remote { .. }).then_some(())
    });
    let anew = world.flow("c", "b", (endpoint, "service"));
    world.exchange(anew);
    assert!(!world.has_told("a", |event| down(event).is_some()));
}

#[test]
fn a_node_comes_back_while_a_flow_has_outlived_its_leave() {
    let (mut world, ends) = World::with_flow(1);
    world.node("b").leave();
    told(&mut world, "b", &Event::Left);
    world.run_for(Duration::from_secs(1));
    world.join("b").unwrap();
    world.until("a holds b for alive", |world| {
        let member = world.node("a").members().next();
        member
            .is_some_and(|member| member.state.is_active())
            .then_some(())
    });
    world.exchange(ends);
    world.run_for(Duration::from_secs(3));
    world.exchange(ends);
}

#[test]
fn the_first_of_a_fabric_comes_back_through_members_it_knew() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.node("a").leave();
    told(&mut world, "a", &Event::Left);
    world.run_for(Duration::from_secs(1));
    let report = world.join("a").unwrap();
    assert_eq!(report.reached.len() + report.unreachable.len(), 2);
    world.until("all see it again", |world| {
        let active = |name: &str| {
            let members = world.node(name).members();
            members.filter(|member| member.state.is_active()).count()
        };
        (["a", "b", "c"].map(active) == [2, 2, 2]).then_some(())
    });
}

#[test]
fn a_leave_cuts_a_join_short_and_a_join_a_leave() {
    let mut world = World::of(1, &["a", "b"]);
    world.start("c", &["nobody"]);
    world.node("c").join();
    world.node("c").leave();
    assert_eq!(world.joined("c"), Err(JoinError::Left));
    told(&mut world, "c", &Event::Left);

    world.node("b").leave();
    world.node("b").join();
    told(&mut world, "b", &Event::Left);
    world.joined("b").unwrap();
    world.run_for(Duration::from_secs(3));
    let member = world.node("a").members().next().unwrap();
    assert_eq!(member.state, MemberState::Alive);
}

#[test]
fn a_node_alone_leaves_and_returns_at_once_and_shuts_down_after_a_leave() {
    let mut world = World::of(1, &["a"]);
    let begun = world.now;
    for _ in 0..2 {
        world.node("a").leave();
        told(&mut world, "a", &Event::Left);
    }
    assert_eq!(world.join("a"), Ok(JoinReport::default()));
    world.node("a").leave();
    told(&mut world, "a", &Event::Left);
    world.node("a").shutdown(Duration::from_secs(5));
    told(&mut world, "a", &Event::Closed);
    assert_eq!(world.now, begun);
}

#[test]
fn who_is_down_is_forgotten_with_its_names_and_comes_back_as_a_later_run() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let (b, service) = (node_name("b"), endpoint_name("service"));
    world.serve("b", "service", "a");
    world.serve("b", "another", "c");
    let session = world.session_of("a", "b");
    let present = ForgetError::Present { name: b.clone() };
    assert_eq!(world.node("a").forget(&b), Err(present));
    assert_eq!(
        world.node("a").forget(&node_name("a")),
        Err(ForgetError::Oneself)
    );
    let nobody = node_name("nobody");
    let unknown = ForgetError::Unknown {
        name: nobody.clone(),
    };
    assert_eq!(world.node("a").forget(&nobody), Err(unknown));

    world.crash("b");
    for name in ["a", "c"] {
        world.wait(name, "b is down", down);
        let resolution = world.node(name).resolve(&service);
        assert!(matches!(resolution, Resolution::Unreachable { .. }));
        world.until("it is sought in vain", |world| {
            let redials = world.node(name).snapshot().usage.redials;
            (redials.used == 1).then_some(())
        });
    }
    let begun = world.now;
    assert_eq!(world.node("a").forget(&b), Ok(()));
    assert_eq!(world.node("a").poll_timeout(), Some(begun));
    for name in ["a", "c"] {
        assert_eq!(world.wait(name, "b left", left).name, b);
        let node = world.node(name);
        assert_eq!(node.resolve(&service), Resolution::NotFound);
        let snapshot = node.snapshot();
        assert!(matches!(
            snapshot.members[1].health,
            HealthSnapshot::Left { .. }
        ));
        assert_eq!(snapshot.names.known, 0);
        assert_eq!(snapshot.usage.redials.used, 0);
    }
    assert!(world.now < begun + Duration::from_millis(10));
    assert_eq!(world.node("a").forget(&b), Ok(()));
    world.serve("c", "service", "a");
    // Nobody seeks it any more, once what was under way has failed.
    world.run_for(Duration::from_secs(5));
    let failed = world.node("a").counters().connections_failed;
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.node("a").counters().connections_failed, failed);

    world.start("b", &["c"]);
    world.join("b").unwrap();
    for name in ["a", "c"] {
        world.wait(name, "b is back", |event| match event {
            Event::Member(MemberEvent::Up(member)) => {
                (member.name == b && member.session > session).then_some(())
            }
            _ => None,
        });
    }
    world.serve("b", "another", "a");
}

#[test]
fn of_two_processes_under_one_name_the_later_goes_on_and_the_other_steps_aside() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let credentials = world.credentials(&["b"]);
    let endpoint = world.serve("b", "service", "a");
    world.run_for(Duration::from_secs(1));
    world.start_as("clone", &credentials, &["a"], |config| {
        config.node = node_name("b");
    });
    world.node("clone").join();
    for name in ["b", "clone"] {
        world.wait(name, "there is another", conflict);
        assert!(world.node(name).snapshot().identity_conflict.is_some());
    }
    world.run_for(Duration::from_secs(20));
    // Both are told once, and nothing is fought over.
    for name in ["b", "clone"] {
        assert!(!world.has_told(name, |event| conflict(event).is_some()));
        assert!(!world.has_told(name, |event| down(event).is_some()));
    }
    let session = world.session_of("a", "b");
    assert_eq!(world.node("clone").own_member().session, session);
    assert_eq!(world.node("clone").snapshot().presence, Presence::Present);
    assert!(world.node("a").identity_conflict().is_none());

    // Who was displaced serves its own process, and stays away.
    assert_eq!(world.node("b").snapshot().presence, Presence::Left);
    assert_eq!(world.join("b"), Err(JoinError::Displaced));
    let at_home = world.dial("b", "service");
    let incoming = world.incoming("b", endpoint);
    world.node("b").answer(incoming.id, accepted());
    world.dialled("b", at_home).unwrap();
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.session_of("a", "b"), session);

    // The other is a member as any: held down while it was cut off, it renews.
    world.take_events("a");
    world.cut("a", "clone");
    world.cut("c", "clone");
    world.wait("a", "the clone is down", down);
    world.heal();
    world.until("the clone is back", |world| {
        let mut members = world.node("a").members();
        members
            .any(|member| member.session == session && member.state == MemberState::Alive)
            .then_some(())
    });
}

#[test]
fn a_node_that_meets_itself_as_it_was_a_moment_ago_is_in_no_conflict() {
    // Half a millisecond is half of a datagram's way: one of these moments is between the Hello
    // and its arrival.
    for half_milliseconds in 0..16 {
        let mut world = World::new(1);
        world.start("b", &[]);
        world.join("b").unwrap();
        world.advertise("a", SocketAddr::from(([10, 9, 9, 9], 7000)));
        world.start("a", &["b"]);
        world.join("a").unwrap();
        let (now, inside) = (world.now, world.address("a"));
        world.node("a").contact(now, inside);
        world.run_for(half_milliseconds * Duration::from_micros(500));

        let now = world.now;
        let node = world.node("a");
        let own = node.control.identity();
        let session = Session(own.session.0 + 5);
        let later = MemberRecord {
            identity: MemberIdentity {
                name: own.name,
                address: own.address,
                session,
                bump: 0,
            },
            incarnation: 0,
            health: Health::Alive,
            labels: None,
            gone_for: Duration::ZERO,
        };
        let told = ControlMessage::Members(vec![later]);
        let told = node.control.handle_message(now, &node_name("b"), told);
        assert_eq!(told, Ok(()));
        world.run_for(Duration::from_secs(1));
        let node = world.node("a");
        assert!(node.own_member().session > session);
        assert_eq!(node.identity_conflict(), None, "{half_milliseconds}");
        assert!(node.counters().connections_failed >= 1);
    }
}

#[test]
fn two_processes_under_one_name_that_meet_face_to_face_both_learn_of_it() {
    let mut world = World::new(1);
    let credentials = world.credentials(&["b"]);
    world.start("b", &[]);
    world.join("b").unwrap();
    world.start_as("clone", &credentials, &["b"], |config| {
        config.node = node_name("b");
    });
    let error = world.join("clone").unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&Code::IdentityConflict.to_string()),
        "{error}"
    );
    for name in ["b", "clone"] {
        world.wait(name, "there is another", conflict);
    }
}

fn labels(key: &str, value: &str) -> Labels {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn told(world: &mut World, name: &'static str, expected: &Event) {
    world.wait(name, &format!("{expected:?}"), |event| {
        (event == expected).then_some(())
    });
}

fn left(event: &Event) -> Option<Member> {
    match event {
        Event::Member(MemberEvent::Left(member)) => Some(member.clone()),
        _ => None,
    }
}

fn down(event: &Event) -> Option<Member> {
    match event {
        Event::Member(MemberEvent::Down(member)) => Some(member.clone()),
        _ => None,
    }
}

fn conflict(event: &Event) -> Option<()> {
    matches!(event, Event::IdentityConflict(_)).then_some(())
}

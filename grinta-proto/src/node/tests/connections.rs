//! Which connections there are: made when they are wanted, kept, made again, closed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::node::testing::{World, node_name};
use crate::node::{Event, FlowLoss, FlowReadError, FlowWriteError, MemberEvent};
use crate::wire::code::Code;

#[test]
fn a_lost_connection_is_made_again_and_marks_nobody_down() {
    let mut world = World::of(1, &["a", "b"]);
    for _ in 0..5 {
        world.lose("a", "b");
        world.run_for(Duration::from_secs(1));
        for name in ["a", "b"] {
            assert_eq!(world.node(name).round_trip_times().count(), 1, "at {name}");
            assert!(!world.has_told(name, is_down), "at {name}");
        }
    }
    let counters = world.node("a").counters();
    assert!(counters.connections_closed >= 5);
    assert_eq!(counters.connections_lost, 0);
}

#[test]
fn a_connection_that_nothing_uses_is_kept_alive() {
    let mut world = World::new(1);
    for (name, neighbours) in [("a", &[][..]), ("b", &["a"][..])] {
        world.start_with(name, neighbours, |config| {
            config.membership.probe_interval = Duration::from_secs(100);
            config.membership.push_pull_interval = Duration::from_secs(100);
        });
        world.join(name).unwrap();
    }
    world.run_for(Duration::from_secs(30));
    for name in ["a", "b"] {
        let counters = world.node(name).counters();
        assert_eq!(counters.connections_established, 1, "at {name}");
        assert_eq!(counters.connections_closed + counters.connections_lost, 0);
        assert_eq!(world.node(name).round_trip_times().count(), 1);
    }
}

#[test]
fn who_cannot_be_reached_is_dialled_ever_more_rarely_and_at_odd_times() {
    let begun = |seed| {
        let mut world = World::of(seed, &["a", "b"]);
        world.cut("a", "b");
        world.wait("a", "b is down", |event| is_down(event).then_some(()));
        let (start, mut begun, mut before) = (world.now, Vec::new(), 1);
        while world.now < start + Duration::from_secs(120) {
            world.run_for(Duration::from_millis(10));
            let now = world.connections("a");
            if now > before {
                begun.push(world.now - start);
            }
            before = now;
        }
        world.heal();
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.node("a").round_trip_times().count(), 1);
        assert_eq!(world.node("a").redials.len(), 0);
        begun
    };
    let (one, other) = (begun(1), begun(2));
    assert!((4..=14).contains(&one.len()), "{one:?}");
    let gaps: Vec<_> = one.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[gaps.len() - 1] > 4 * gaps[0], "{gaps:?}");
    assert_ne!(one, other);
}

#[test]
fn who_fails_in_the_same_moment_is_dialled_again_in_different_ones_and_ever_later() {
    let mut world = World::of(1, &["a"]);
    let now = world.now;
    let node = world.node("a");
    let lost = ["b", "c", "d", "e"].map(node_name);
    let milliseconds = Duration::from_millis;
    for (least, most) in [(250, 375), (500, 750), (1000, 1500)] {
        for name in &lost {
            node.note_failure(now, name);
        }
        let delays: BTreeSet<_> = node
            .redials
            .values()
            .map(|it| it.not_before - now)
            .collect();
        assert!(delays.len() > 1, "{delays:?}");
        assert!(delays.first() >= Some(&milliseconds(least)), "{delays:?}");
        assert!(delays.last() <= Some(&milliseconds(most)), "{delays:?}");
    }
}

#[test]
fn a_member_that_is_down_is_disconnected_and_both_live_ends_of_its_flows_learn() {
    let (mut world, ends) = World::with_flow(1);
    world.write(ends.dialler, &[1; 100]).unwrap();
    world.run_for(Duration::from_millis(20));
    let begun = world.now;
    world.cut("a", "b");
    assert_eq!(world.read(ends.acceptor, 100).len(), 100);
    for end in [ends.dialler, ends.acceptor] {
        let lost = world.end(end);
        assert_eq!(lost, Err(FlowReadError::Lost(FlowLoss::Down)));
        let written = world.write(end, &[1]);
        assert_eq!(written, Err(FlowWriteError::Lost(FlowLoss::Down)));
    }
    // Membership decides, before the transport would.
    assert!(world.now < begun + Duration::from_secs(3));
    for name in ["a", "b"] {
        assert_eq!(world.node(name).round_trip_times().count(), 0);
    }
}

#[test]
fn a_restart_is_noticed_with_the_first_packet() {
    let (mut world, ends) = World::with_flow(1);
    world.crash("b");
    world.start("b", &[]);
    let begun = world.now;
    world.write(ends.dialler, b"anybody there?").unwrap();
    let lost = world.end(ends.dialler);
    assert_eq!(lost, Err(FlowReadError::Lost(FlowLoss::Restarted)));
    assert!(world.now <= begun + 2 * world.latency);
}

#[test]
fn a_node_that_moved_is_dialled_where_it_is_now() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.crash("b");
    world.run_for(Duration::from_millis(100));
    let credentials = world.credentials(&["b"]);
    world.start_as("elsewhere", &credentials, &["c"], |config| {
        config.node = node_name("b");
    });
    world.join("elsewhere").unwrap();
    let endpoint = world.claim("elsewhere", "service", 4).unwrap();
    let address = world.address("elsewhere");
    world.until("a knows where it is", |world| {
        let mut members = world.node("a").members();
        members
            .any(|member| member.address == address)
            .then_some(())
    });
    world.until("a knows what it serves", |world| {
        (world.node("a").snapshot().names.known == 1).then_some(())
    });
    let ends = world.flow("a", "elsewhere", (endpoint, "service"));
    world.exchange(ends);
    let snapshot = world.node("a").snapshot();
    let carrying = snapshot.connections.iter().find(|it| it.flows == 1);
    assert_eq!(carrying.unwrap().remote, address);
}

#[test]
fn handshakes_leave_no_timers_behind() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.run_for(Duration::from_millis(600));
    for name in ["a", "b", "c"] {
        assert_eq!(world.node(name).timers.len(), 0, "at {name}");
    }
}

#[test]
fn beyond_the_full_mesh_what_nothing_uses_is_closed_and_nobody_is_suspected() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = large(&names);
    let endpoint = world.serve("b", "service", "a");
    let ends = world.flow("a", "b", (endpoint, "service"));
    for name in names {
        world.take_events(name);
    }
    world.run_for(Duration::from_secs(20));
    for name in names {
        let told = world.take_events(name);
        let about = |event: &Event| matches!(event, Event::Member(_));
        assert!(!told.iter().any(about), "{name}: {told:?}");
        let counters = world.node(name).counters();
        assert!(counters.connections_closed > 20, "{name}: {counters:?}");
        assert_eq!(counters.connections_lost + counters.connections_failed, 0);
    }
    // A connection that carries a flow stays.
    world.exchange(ends);
}

#[test]
fn as_many_as_the_full_mesh_has_are_kept_unused() {
    let names = ["a", "b", "c"];
    let mut world = World::new(1);
    for name in names {
        world.start_with(name, &["a"], |config| {
            config.connection.full_mesh_max = 2;
            config.connection.unused_timeout = Duration::from_millis(20);
        });
        world.join(name).unwrap();
    }
    world.run_for(Duration::from_secs(10));
    for name in names {
        assert_eq!(world.node(name).round_trip_times().count(), 2, "at {name}");
        assert!(world.node(name).counters().connections_established <= 4);
    }
}

#[test]
fn no_more_are_closed_than_there_are_too_many() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = World::new(1);
    for name in names {
        world.start_with(name, &["a"], |config| {
            if name == "a" {
                config.connection.full_mesh_max = 2;
                config.connection.unused_timeout = Duration::from_millis(20);
            }
        });
        world.join(name).unwrap();
    }
    let end = world.now + Duration::from_secs(10);
    while world.now < end {
        world.run_for(Duration::from_millis(1));
        assert!(world.node("a").round_trip_times().count() >= 2);
    }
    assert!(world.node("a").counters().connections_closed > 10);
}

#[test]
fn a_flow_that_is_dialled_while_its_connection_is_closed_as_unused_is_not_lost() {
    let mut world = large(&["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    for closers in [&["a"][..], &["b"], &["a", "b"]] {
        world.until("they are connected", |world| {
            let up = |name: &str| world.node(name).round_trip_times().count() == 1;
            (["a", "b"].map(up) == [true, true]).then_some(())
        });
        let now = world.now;
        for (one, other) in [("a", "b"), ("b", "a")] {
            if closers.contains(&one) {
                let node = world.node(one);
                for key in node.connections.all_to(&node_name(other)) {
                    node.close(now, key, Code::Unused, "");
                }
            }
        }
        let ends = world.flow("a", "b", (endpoint, "service"));
        world.exchange(ends);
        world.release(ends.dialler);
        world.release(ends.acceptor);
    }
}

fn is_down(event: &Event) -> bool {
    matches!(event, Event::Member(MemberEvent::Down(_)))
}

/// Nodes that keep one unused connection each, and that not for long.
fn large(names: &[&'static str]) -> World {
    let mut world = World::new(1);
    for name in names {
        world.start_with(name, &["a"], |config| {
            config.connection.full_mesh_max = 1;
            config.connection.unused_timeout = Duration::from_millis(40);
        });
        world.join(name).unwrap();
    }
    world.until("all know each other", |world| {
        let full = |name: &&'static str| world.node(name).members().count() + 1 == names.len();
        names.iter().all(full).then_some(())
    });
    world
}

//! What a node costs that has nothing to do, what is left of what is over, and that a seed
//! repeats.

use std::time::Duration;

use crate::node::testing::{World, any_instant};
use crate::node::{Dialled, Event};

#[test]
fn an_idle_node_has_nothing_to_say_and_a_deadline_ahead() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    for name in ["a", "b", "c"] {
        let node = world.node(name);
        let mut buffer = Vec::new();
        while node.poll_event().is_some() {}
        assert_eq!(node.poll_transmit(now, 10, &mut buffer), None);
        assert!(!node.wants_turn());
        assert!(node.poll_timeout().is_some_and(|deadline| deadline > now));
        node.handle_timeout(now, Duration::from_secs(1_700_000_001));
        assert_eq!(node.poll_event(), None);
        assert_eq!(node.poll_transmit(now, 10, &mut buffer), None);
        assert!(node.poll_timeout().is_some_and(|deadline| deadline > now));
    }
}

#[test]
fn a_quiet_fabric_takes_few_turns() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let before = world.turns;
    world.run_for(Duration::from_secs(10));
    let turns = world.turns - before;
    // Five probes and two exchanges a second and node, each a few packets, with their answers.
    assert!(turns < 5000, "{turns} turns in ten seconds");
}

#[test]
fn a_thousand_flows_leave_nothing_behind() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    world.run_for(Duration::from_secs(3));
    let timers = ["a", "b"].map(|name| world.node(name).timers.len());
    for _ in 0..1000 {
        let ends = world.flow("a", "b", (endpoint, "service"));
        world.write(ends.dialler, b"once").unwrap();
        world.node("a").release_sender(ends.dialler.1);
        assert_eq!(world.read(ends.acceptor, 4), b"once");
        world.release(ends.acceptor);
        world.release(ends.dialler);
    }
    world.run_for(Duration::from_millis(20));
    for (name, timers) in ["a", "b"].into_iter().zip(timers) {
        let node = world.node(name);
        assert!(node.timers.len() <= timers, "{} timers", node.timers.len());
        assert_eq!(node.connections.open_flows(), 0);
        assert_nothing_under_way(&mut world, name);
    }
    assert_eq!(world.connections("a"), 1);
}

#[test]
fn nothing_is_left_when_all_is_over() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoint = world.serve("b", "service", "a");
    let ends = world.flow("a", "b", (endpoint, "service"));
    let unanswered = world.dial("c", "service");
    world.run_for(Duration::from_millis(20));
    world.node("b").shutdown(Duration::from_millis(200));
    world.wait("b", "closed", |event| {
        (*event == Event::Closed).then_some(())
    });
    assert!(world.dialled("c", unanswered).is_err());
    world.release(ends.dialler);
    world.release(ends.acceptor);
    world.node("c").shutdown(Duration::ZERO);
    world.wait("c", "closed", |event| {
        (*event == Event::Closed).then_some(())
    });
    world.run_for(Duration::from_secs(10));
    for name in ["a", "b", "c"] {
        assert_eq!(world.connections(name), 0, "at {name}");
        assert_nothing_under_way(&mut world, name);
        assert_eq!(world.node(name).timers.len(), 0, "at {name}");
    }
}

#[test]
fn a_node_asks_for_nothing_once_it_is_closed() {
    let mut world = World::of(1, &["a", "b"]);
    world.node("a").shutdown(Duration::ZERO);
    world.wait("a", "closed", |event| {
        (*event == Event::Closed).then_some(())
    });
    world.run_for(Duration::from_secs(10));
    let deadline = world.node("a").poll_timeout();
    assert_eq!(deadline, None);
}

#[test]
fn sleeps_end_in_their_order_or_not_at_all() {
    let mut world = World::of(1, &["a"]);
    let long = world.node("a").sleep(Duration::from_millis(20));
    let short = world.node("a").sleep(Duration::from_millis(10));
    let never = world.node("a").sleep(Duration::from_millis(15));
    world.run_for(Duration::from_millis(1));
    world.node("a").cancel_sleep(never);
    let mut woken = Vec::new();
    for _ in 0..2 {
        woken.push(world.wait("a", "a sleep ends", |event| match event {
            Event::Woken(id) => Some(*id),
            _ => None,
        }));
    }
    assert_eq!(woken, [short, long]);
    assert_nothing_under_way(&mut world, "a");
}

#[test]
fn what_repeats_is_told_once_for_all_that_was_missed_and_keeps_its_times() {
    let mut world = World::of(1, &["a"]);
    let begun = world.now;
    let tick = world.node("a").repeat(Duration::from_millis(10));
    let mut told = Vec::new();
    for frozen in [0, 0, 35, 0] {
        world.now += Duration::from_millis(frozen);
        world.wait("a", "a tick", |event| {
            (*event == Event::Woken(tick)).then_some(())
        });
        told.push((world.now - begun).as_millis());
    }
    assert_eq!(told, [10, 20, 55, 60]);
    world.node("a").cancel_sleep(tick);
    assert_nothing_under_way(&mut world, "a");
}

#[test]
fn the_same_seed_and_script_repeat_to_the_last_datagram() {
    let origin = any_instant();
    let run = |seed| {
        let mut world = World::beginning(seed, origin);
        world.loss = 10;
        for name in ["a", "b", "c"] {
            world.start(name, &["a"]);
            world.node(name).join();
        }
        let endpoint = world.claim("b", "service", 4).unwrap();
        world.until("the name is known", |world| {
            let name = crate::node::testing::endpoint_name("service");
            let resolution = world.node("c").resolve(&name);
            matches!(resolution, crate::node::control::Resolution::Remote { .. }).then_some(())
        });
        let dial = world.dial("c", "service");
        let there = world.accept("b", endpoint);
        let Dialled::Remote { flow, .. } = world.dialled("c", dial).unwrap() else {
            panic!("not remote");
        };
        world.write(("c", flow), &[1; 50_000]).unwrap();
        world.read(("b", there), 50_000);
        world.crash("a");
        world.run_for(Duration::from_secs(5));
        world.trace
    };
    let (first, second) = (run(7), run(7));
    for (one, other) in first.iter().zip(&second) {
        assert_eq!(one, other);
    }
    assert_eq!(first.len(), second.len());
    assert!(first.len() > 100);
    assert_ne!(run(8), first);
}

fn assert_nothing_under_way(world: &mut World, name: &'static str) {
    let node = world.node(name);
    assert_eq!(node.dials.len(), 0, "dials at {name}");
    assert_eq!(
        node.resolving.len(),
        0,
        "dials that wait for names at {name}"
    );
    assert_eq!(
        node.opening.len(),
        0,
        "dials that wait for streams at {name}"
    );
    assert_eq!(node.held.len(), 0, "messages held at {name}");
    assert_eq!(node.redials.len(), 0, "redials at {name}");
    assert_eq!(node.sleeps.len(), 0, "sleeps at {name}");
    assert_eq!(node.endpoints.waiting(), 0, "flows that wait at {name}");
    assert!(node.commands.is_empty(), "commands at {name}");
}

//! How nodes find each other.

use std::time::Duration;

use crate::config::Neighbour;
use crate::node::testing::{World, node_name};
use crate::node::{ConnectError, JoinError, JoinReport, Node};

#[test]
fn a_node_joins_by_address() {
    let mut world = World::new(1);
    world.start("a", &[]);
    world.start("b", &["a"]);
    assert_eq!(world.join("a"), Ok(JoinReport::default()));
    let report = world.join("b").unwrap();
    assert_eq!(report.reached, [("a".to_owned(), node_name("a"))]);
    assert!(report.unreachable.is_empty());
    world.run_for(Duration::from_secs(1));
    for (one, other) in [("a", "b"), ("b", "a")] {
        let members: Vec<_> = world.node(one).members().collect();
        assert_eq!(members.len(), 1, "{one} knows {members:?}");
        assert_eq!(members[0].name, node_name(other));
        assert_eq!(members[0].address, world.address(other));
    }
}

#[test]
fn of_two_nodes_that_dial_each_other_at_once_one_connection_is_left() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.start("a", &["b"]);
        world.start("b", &["a"]);
        world.node("a").join();
        world.node("b").join();
        for (name, other) in [("a", "b"), ("b", "a")] {
            let report = world.joined(name).unwrap();
            assert_eq!(report.reached, [(other.to_owned(), node_name(other))]);
        }
        world.run_for(Duration::from_secs(3));
        for name in ["a", "b"] {
            assert_eq!(world.connections(name), 1, "seed {seed}, at {name}");
        }
    }
}

#[test]
fn three_nodes_meet_through_one_seed() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoint = world.serve("c", "service", "b");
    let ends = world.flow("b", "c", (endpoint, "service"));
    world.exchange(ends);
}

#[test]
fn nodes_meet_over_a_lossy_network() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        world.loss = 20;
        for name in ["a", "b", "c"] {
            world.start(name, &["a"]);
            world.node(name).join();
        }
        world.until("all are members", |world| {
            let full = |name: &str| world.node(name).members().count() == 2;
            ["a", "b", "c"]
                .map(full)
                .iter()
                .all(|full| *full)
                .then_some(())
        });
    }
}

#[test]
fn a_dead_neighbour_is_reported_beside_those_that_answer() {
    let mut world = World::new(1);
    world.start("a", &[]);
    world.start("b", &["nobody", "a"]);
    let report = world.join("b").unwrap();
    assert_eq!(report.reached, [("a".to_owned(), node_name("a"))]);
    assert_eq!(
        report.unreachable,
        [("nobody".to_owned(), ConnectError::NoAnswer)]
    );
}

#[test]
fn a_join_without_any_answer_is_an_error_that_lists_all() {
    let mut world = World::new(1);
    world.start("b", &["nobody", "none"]);
    let unreachable = ["nobody", "none"].map(|host| (host.to_owned(), ConnectError::NoAnswer));
    assert_eq!(
        world.join("b"),
        Err(JoinError::NoneReachable {
            unreachable: unreachable.to_vec()
        })
    );
}

#[test]
fn ones_own_address_among_the_neighbours_counts_neither_way() {
    let mut world = World::new(1);
    world.start("a", &["a"]);
    assert_eq!(world.join("a"), Ok(JoinReport::default()));
    world.start("b", &["b", "nobody", "a"]);
    let report = world.join("b").unwrap();
    assert_eq!(report.reached, [("a".to_owned(), node_name("a"))]);
    assert_eq!(report.unreachable.len(), 1);
}

#[test]
fn ones_own_address_is_known_by_the_answer_where_it_is_not_the_advertised_one() {
    let mut world = World::new(1);
    let advertised = world.address("public");
    world.advertise("a", advertised);
    world.start("a", &["a"]);
    assert_eq!(world.join("a"), Ok(JoinReport::default()));
}

#[test]
fn a_node_that_was_found_before_it_joins_joins_all_the_same() {
    let mut world = World::new(1);
    world.start("a", &["b"]);
    world.start("b", &["a"]);
    world.join("a").unwrap();
    world.until("b knows a", |world| world.node("b").members().next());
    let report = world.join("b").unwrap();
    assert_eq!(report.reached, [("a".to_owned(), node_name("a"))]);
}

#[test]
fn one_joins_twice() {
    let mut world = World::new(1);
    world.start("a", &[]);
    world.start("b", &["a"]);
    for _ in 0..2 {
        let report = world.join("b").unwrap();
        assert_eq!(report.reached, [("a".to_owned(), node_name("a"))]);
    }
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.connections("b"), 1);
}

#[test]
fn a_join_under_way_is_not_begun_again() {
    let mut world = World::new(1);
    world.start("b", &["nobody"]);
    world.node("b").join();
    assert_eq!(world.join("b"), Err(JoinError::UnderWay));
}

#[test]
fn a_host_without_addresses_is_unreachable_at_once() {
    let mut world = World::new(1);
    world.start_with("b", &[], |config| {
        config.neighbours = vec![Neighbour {
            host: "nowhere:1".into(),
            addresses: Err("no such host".into()),
        }];
    });
    let begun = world.now;
    assert!(matches!(
        world.join("b"),
        Err(JoinError::NoneReachable { .. })
    ));
    assert_eq!(world.now, begun);
}

#[test]
fn whoever_is_back_is_connected_to_again() {
    let mut world = World::of(1, &["a", "b"]);
    world.cut("a", "b");
    world.until("they lose each other", |world| {
        (world.node("a").round_trip_times().count() == 0).then_some(())
    });
    world.heal();
    let up = |node: &Node| node.round_trip_times().count() == 1;
    world.until("they are connected", |world| {
        (up(world.node("a")) && up(world.node("b"))).then_some(())
    });
}

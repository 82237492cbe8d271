//! What a snapshot shows.

use crate::node::testing::{World, endpoint_name, node_name};
use crate::node::{ConnectionStage, EndpointStanding, FlowStage, HealthSnapshot, Level, OpenedBy};

#[test]
fn a_snapshot_shows_members_connections_endpoints_flows_and_dials() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoint = world.serve("b", "service", "a");
    let ends = world.flow("a", "b", (endpoint, "service"));
    world.exchange(ends);
    world.write(ends.dialler, &[1; 100]).unwrap();
    world.dial("a", "service");
    world.run_for(std::time::Duration::from_millis(20));
    world.write(ends.dialler, &[1; 100]).unwrap();

    let of_a = world.node("a").snapshot();
    let names: Vec<_> = of_a
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(of_a.synced);
    let [own, b, _] = &of_a.members[..] else {
        panic!("{:?}", of_a.members);
    };
    assert_eq!(b.health, HealthSnapshot::Alive);
    assert!(b.round_trip_time.is_some() && own.round_trip_time.is_none());

    let to_b = of_a
        .connections
        .iter()
        .find(|connection| connection.peer == Some(node_name("b")));
    let to_b = to_b.unwrap();
    assert_eq!(to_b.stage, ConnectionStage::Up);
    assert_eq!(to_b.flows, 2);
    assert_eq!(to_b.control_queue.limit, of_a.limits.control_queue_max);
    assert!(to_b.bytes_sent > 0 && to_b.bytes_received > 0);

    let [open, asking] = &of_a.flows[..] else {
        panic!("{:?}", of_a.flows);
    };
    assert_eq!(open.peer, Some(node_name("b")));
    assert_eq!(open.endpoint, Some(endpoint_name("service")));
    assert_eq!(
        (open.stage, open.opened_by),
        (FlowStage::Open, OpenedBy::Us)
    );
    let waiting = Level {
        used: 100,
        limit: of_a.limits.flow_send_buffer,
    };
    assert_eq!(open.send_buffer, Some(waiting));
    assert_eq!(asking.stage, FlowStage::Opening);
    assert_eq!(of_a.dials.len(), 1);
    assert_eq!(of_a.dials[0].endpoint, endpoint_name("service"));
    assert_eq!(of_a.usage.dials.used, 1);
    assert_eq!((of_a.names.own, of_a.names.known), (0, 1));

    let of_b = world.node("b").snapshot();
    assert_eq!(of_b.endpoints.len(), 1);
    let service = &of_b.endpoints[0];
    assert_eq!(service.standing, EndpointStanding::Owner);
    assert_eq!(service.accept_queue, Level { used: 1, limit: 4 });
    assert_eq!(of_b.flows[1].stage, FlowStage::Offered);
    assert_eq!(of_b.flows[1].opened_by, OpenedBy::Peer);
}

#[cfg(all(feature = "serde", feature = "json"))]
#[test]
fn a_snapshot_is_written_as_json() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    let written = serde_json::to_value(world.node("b").snapshot()).unwrap();
    assert_eq!(written["node"], "b");
    assert_eq!(written["members"][0]["health"], "alive");
    assert_eq!(written["endpoints"][0]["name"], "service");
    assert_eq!(written["endpoints"][0]["accept_queue"]["limit"], 4);
    assert_eq!(written["connections"][0]["stage"], "up");
}

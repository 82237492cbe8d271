//! Nodes that tell how they are, and those who ask.

use std::collections::BTreeMap;
use std::time::Duration;

use grinta_proto::{Caller, Fabric, Json, Raw, STATUS_ENDPOINT, Status};

use super::World;

node_stories! {
    all_that_tell_their_status_are_asked_at_once,
    a_status_ends_with_its_fabric,
}

timed_stories! {
    those_who_stay_and_ask_nothing_keep_nobody_out,
}

async fn all_that_tell_their_status_are_asked_at_once(world: &World) {
    let sides = world.sides().await;
    for node in [&sides.server, &sides.client] {
        tell(world, node).await;
    }
    let (mut client, mut server) = sides.bidi::<String, String, _>(Raw).await;
    client.send("message".to_owned()).await.unwrap();
    server.recv().await.unwrap().unwrap();
    // The one who tells of what it took when it looks for more.
    drop((client, server));

    // Both are known to both by now, or the dial waits until they are.
    let status = ask(&sides.client).await.call(()).await.unwrap();
    assert!(status.members_alive == 2 && status.members_down == 0);
    while sides.client.resolve_all(STATUS_ENDPOINT).unwrap().len() < 2 {
        let mut watch = sides.client.watch_names(STATUS_ENDPOINT);
        watch.next().await.unwrap();
    }
    let fan_out = sides.client.fan_out(STATUS_ENDPOINT);
    let mut outcomes = fan_out.call::<(), Status, _>(Json, ()).unwrap();
    let mut told = BTreeMap::new();
    while let Some(outcome) = outcomes.next().await {
        told.insert(outcome.node.to_string(), outcome.result.unwrap());
    }
    let (client, server) = (&told["client"], &told["server"]);
    assert_eq!((client.names.own, server.names.own), (1, 2));
    assert_eq!((client.connections, server.connections), (1, 1));
    assert!(client.counters.messages_sent >= 1);
    assert!(server.counters.messages_received >= 1);
    assert!(server.certificate_expires_in.is_some());
    assert_eq!(server.session, sides.server.snapshot().session.0);
}

async fn a_status_ends_with_its_fabric(world: &World) {
    let node = world.node("alone").await;
    let endpoint = node.endpoint(STATUS_ENDPOINT).shared().await.unwrap();
    let telling = world.spawn(endpoint.serve_status());
    node.shutdown().await;
    telling.await;
}

async fn those_who_stay_and_ask_nothing_keep_nobody_out(world: &World) {
    let sides = world.sides().await;
    tell(world, &sides.server).await;
    let mut idle = Vec::new();
    for _ in 0..16 {
        let caller = ask(&sides.client).await;
        caller.call(()).await.unwrap();
        idle.push(caller);
    }
    let begun = world.now();
    // It waits until one of them has stayed for as long as it may.
    let status = ask(&sides.client).await.call(()).await.unwrap();
    assert_eq!(status.members_alive, 2);
    assert!(world.now() - begun < Duration::from_secs(20));
    drop(idle);
}

async fn tell(world: &World, node: &Fabric) {
    let endpoint = node.endpoint(STATUS_ENDPOINT).shared().await.unwrap();
    drop(world.spawn(endpoint.serve_status()));
}

async fn ask(node: &Fabric) -> Caller<(), Status> {
    let dial = node.dial(STATUS_ENDPOINT).wait_for_name();
    dial.caller(Json).await.unwrap()
}

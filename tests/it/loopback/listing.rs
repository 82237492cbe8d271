//! The names of the fabric as a program lists and watches them.

use std::collections::BTreeMap;

use futures_lite::future::poll_once;
use grinta_proto::{
    EndpointName, Fabric, NameEvent, NameUpdate, NameWatch, NodeName, Standing, WatchError,
};

use super::World;

node_stories! {
    names_are_listed_in_pages,
    a_watch_tells_what_is_there_and_then_what_changes,
    a_watch_that_falls_behind_begins_anew,
    a_watch_ends_with_its_fabric,
}

async fn names_are_listed_in_pages(world: &World) {
    let server = world.node("server").await;
    let mut endpoints = Vec::new();
    for number in 0..10 {
        endpoints.push(server.endpoint(format!("svc.{number}")).await.unwrap());
    }
    endpoints.push(server.endpoint("other").await.unwrap());
    let client = world.node_beside("client", &server).await;
    let _standby = client.endpoint("svc.3").standby().await.unwrap();

    let mut listed = Vec::new();
    let mut scan = client.names("svc.").limit(4);
    loop {
        let page = scan.page();
        assert!(page.names.len() <= 4);
        listed.extend(page.names);
        let Some(next) = page.next else { break };
        scan = scan.after(next);
    }
    let names: Vec<_> = listed.iter().map(|listed| listed.name.as_str()).collect();
    let expected: Vec<_> = (0..10).map(|number| format!("svc.{number}")).collect();
    assert_eq!(names, expected);
    for listed in &listed {
        assert_eq!(listed.owner.as_str(), "server");
        assert!(!listed.is_suspect);
        assert_eq!(listed.standing.is_some(), listed.name.as_str() == "svc.3");
    }
    assert_eq!(client.names("").page().names.len(), 11);
    assert_eq!(client.names("no name").page().names.len(), 0);
}

async fn a_watch_tells_what_is_there_and_then_what_changes(world: &World) {
    let server = world.node("server").await;
    let _one = server.endpoint("svc.one").await.unwrap();
    let two = server.endpoint("svc.two").await.unwrap();
    let client = world.node_beside("client", &server).await;
    let mut watch = client.watch_names("svc.");
    let server_name: NodeName = "server".parse().unwrap();
    for name in ["svc.one", "svc.two"] {
        let appeared = appeared(name, &server_name);
        assert_eq!(watch.next().await, Ok(NameUpdate::Changed(appeared)));
    }
    assert_eq!(watch.next().await, Ok(NameUpdate::Complete));
    assert!(poll_once(watch.next()).await.is_none());

    let _other = server.endpoint("other").await.unwrap();
    let standby = client.endpoint("svc.two").standby().await.unwrap();
    drop(two);
    let moved = NameEvent::Moved {
        name: "svc.two".parse().unwrap(),
        previous: server_name.clone(),
        owner: "client".parse().unwrap(),
    };
    assert_eq!(watch.next().await, Ok(NameUpdate::Changed(moved)));
    assert_eq!(standby.standing(), Standing::Owner);
    drop(standby);
    let gone = NameEvent::Gone {
        name: "svc.two".parse().unwrap(),
        previous: "client".parse().unwrap(),
    };
    assert_eq!(watch.next().await, Ok(NameUpdate::Changed(gone)));
    let _three = server.endpoint("svc.three").await.unwrap();
    let appeared = appeared("svc.three", &server_name);
    assert_eq!(watch.next().await, Ok(NameUpdate::Changed(appeared)));
}

async fn a_watch_that_falls_behind_begins_anew(world: &World) {
    let builder = world.builder("server");
    let builder = builder.configure(|config| config.limits.watch_queue_max = 8);
    let server = world.start(builder).await.unwrap();
    server.join().await.unwrap();
    let _first = server.endpoint("first").await.unwrap();
    let mut watch = server.watch_names("");
    let mut folded = BTreeMap::new();
    fold_until_complete(&mut watch, &mut folded).await;
    assert_eq!(folded, listed(&server));

    let mut endpoints = Vec::new();
    for number in 0..20 {
        endpoints.push(server.endpoint(format!("n{number}")).await.unwrap());
    }
    endpoints.truncate(15);
    // The task of the watch did not look for all this time.
    let mut lags = 0;
    while folded != listed(&server) {
        match watch.next().await {
            Ok(NameUpdate::Changed(event)) => fold(&mut folded, event),
            Ok(_) => {}
            Err(WatchError::Lagged) => {
                folded.clear();
                lags += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(lags > 0, "it was slow");
}

async fn a_watch_ends_with_its_fabric(world: &World) {
    let server = world.node("server").await;
    let mut watch = server.watch_names("svc.");
    assert_eq!(watch.next().await, Ok(NameUpdate::Complete));
    server.shutdown().await;
    assert_eq!(watch.next().await, Err(WatchError::Closed));
}

fn appeared(name: &str, owner: &NodeName) -> NameEvent {
    NameEvent::Appeared {
        name: name.parse().unwrap(),
        owner: owner.clone(),
    }
}

async fn fold_until_complete(watch: &mut NameWatch, names: &mut BTreeMap<EndpointName, NodeName>) {
    while let NameUpdate::Changed(event) = watch.next().await.unwrap() {
        fold(names, event);
    }
}

fn fold(names: &mut BTreeMap<EndpointName, NodeName>, event: NameEvent) {
    match event {
        NameEvent::Appeared { name, owner }
        | NameEvent::Moved { name, owner, .. }
        | NameEvent::Reshared { name, owner } => {
            names.insert(name, owner);
        }
        NameEvent::Gone { name, .. } => {
            names.remove(&name);
        }
        _ => {}
    }
}

fn listed(fabric: &Fabric) -> BTreeMap<EndpointName, NodeName> {
    let page = fabric.names("").page();
    assert_eq!(page.next, None);
    let names = page.names.into_iter();
    names.map(|listed| (listed.name, listed.owner)).collect()
}

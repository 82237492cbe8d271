//! What a program does about its node's membership: leaves and returns, labels, a name that two
//! processes go by, and the snapshot of it all.

use std::future::pending;

use futures_lite::future::{or, zip};
use grinta_proto::{
    DialStage, EndpointStanding, ForgetError, HealthSnapshot, Labels, LabelsError, Member,
    MemberEvent, MemberState, MemberWatch, Presence, Raw, Resolution,
};

use super::World;

node_stories! {
    a_node_leaves_and_comes_back,
    labels_change_and_the_others_see_it,
    who_crashed_is_forgotten_and_its_name_is_free,
    whoever_has_anothers_name_is_told,
    a_snapshot_shows_what_there_is,
    a_leave_ends_when_the_fabric_does,
}

async fn a_node_leaves_and_comes_back(world: &World) {
    let sides = world.sides().await;
    let (mut client, mut server) = sides.bidi::<String, String, _>(Raw).await;
    let mut watch = sides.client.watch_members();
    sides.server.leave().await;
    assert_eq!(sides.server.snapshot().presence, Presence::Left);
    let left = next(&mut watch, |event| {
        if let MemberEvent::Left(member) = event {
            Some(member)
        } else {
            None
        }
    });
    assert_eq!(left.await.name, *sides.server.node());

    // What is open lives on.
    client.send("still here".to_owned()).await.unwrap();
    assert_eq!(server.recv().await.unwrap().as_deref(), Some("still here"));
    let dial = sides.client.dial("service").sender::<String, _>(Raw);
    assert_eq!(dial.await.unwrap_err().stage, DialStage::Resolve);

    sides.server.leave().await;
    sides.server.join().await.unwrap();
    let back = next(&mut watch, |event| {
        if let MemberEvent::Up(member) = event {
            Some(member)
        } else {
            None
        }
    });
    assert_eq!(back.await.state, MemberState::Alive);
    let dial = sides.dial().wait_for_name().sender::<String, _>(Raw);
    let accept = async {
        sides
            .endpoint
            .accept()
            .await
            .unwrap()
            .receiver::<String, _>(Raw)
            .unwrap();
        pending().await
    };
    or(async { dial.await.map(drop) }, accept).await.unwrap();
}

async fn labels_change_and_the_others_see_it(world: &World) {
    let sides = world.sides().await;
    let mut watch = sides.client.watch_members();
    let labels = Labels::from([("zone".to_owned(), "north".to_owned())]);
    sides.server.set_labels(labels.clone()).unwrap();
    let updated = next(&mut watch, |event| {
        if let MemberEvent::Updated(member) = event {
            Some(member)
        } else {
            None
        }
    });
    let updated = updated.await;
    assert_eq!(
        (&updated.name, &*updated.labels),
        (sides.server.node(), &labels)
    );
    let bad = Labels::from([(String::new(), String::new())]);
    let refused = sides.server.set_labels(bad);
    assert!(matches!(refused, Err(LabelsError::Key { .. })));
}

async fn who_crashed_is_forgotten_and_its_name_is_free(world: &World) {
    let (server, lifeline) = world.start_mortal(world.hasty_builder("server")).await;
    server.join().await.unwrap();
    let _endpoint = server.endpoint("service").await.unwrap();
    let neighbour = server.address().to_string();
    let client = world.hasty_builder("client").neighbour(neighbour);
    let client = world.start(client).await.unwrap();
    client.join().await.unwrap();
    let forgotten = client.forget(server.node());
    assert!(matches!(forgotten, Err(ForgetError::Present { .. })));

    let mut watch = client.watch_members();
    drop(lifeline);
    let down = next(&mut watch, |event| {
        if let MemberEvent::Down(member) = event {
            Some(member)
        } else {
            None
        }
    });
    assert_eq!(down.await.name, *server.node());
    let resolution = client.resolve("service").unwrap();
    assert!(matches!(resolution, Resolution::Unreachable { .. }));
    client.forget(server.node()).unwrap();
    let left = next(&mut watch, |event| {
        if let MemberEvent::Left(member) = event {
            Some(member)
        } else {
            None
        }
    });
    assert_eq!(left.await.name, *server.node());
    assert_eq!(client.resolve("service").unwrap(), Resolution::NotFound);
    client.endpoint("service").await.unwrap();
}

async fn whoever_has_anothers_name_is_told(world: &World) {
    let first = world.start(world.builder("twin")).await.unwrap();
    first.join().await.unwrap();
    let neighbour = first.address().to_string();
    let second = world.builder("twin").neighbour(neighbour);
    let second = world.start(second).await.unwrap();
    assert!(second.join().await.is_err());
    for twin in [&first, &second] {
        assert!(twin.identity_conflict().await.is_some());
        assert!(twin.snapshot().identity_conflict.is_some());
    }
    let alone = world.start(world.builder("alone")).await.unwrap();
    let (told, _) = zip(alone.identity_conflict(), alone.shutdown()).await;
    assert_eq!(told, None);
}

async fn a_snapshot_shows_what_there_is(world: &World) {
    let sides = world.sides().await;
    let (_client, _server) = sides.bidi::<String, String, _>(Raw).await;
    let snapshot = sides.server.snapshot();
    assert_eq!(snapshot.node, *sides.server.node());
    assert_eq!(snapshot.members.len(), 2);
    for member in &snapshot.members {
        assert_eq!(member.health, HealthSnapshot::Alive);
        let is_other = member.name != snapshot.node;
        assert_eq!(member.round_trip_time.is_some(), is_other);
    }
    assert_eq!(snapshot.endpoints[0].standing, EndpointStanding::Owner);
    assert_eq!(snapshot.connections.len(), 1);
    assert_eq!(snapshot.flows.len(), 1);
    let listed: Vec<Member> = sides.server.members();
    assert_eq!(listed.len(), 2);
}

async fn a_leave_ends_when_the_fabric_does(world: &World) {
    let (node, lifeline) = world.start_mortal(world.builder("node")).await;
    drop(lifeline);
    node.closed().await;
    node.leave().await;
}

/// The next event that `pick` looks for.
async fn next(watch: &mut MemberWatch, pick: impl Fn(MemberEvent) -> Option<Member>) -> Member {
    loop {
        if let Some(member) = pick(watch.next().await.unwrap()) {
            return member;
        }
    }
}

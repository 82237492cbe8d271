//! The ends of fabrics: orderly, sudden, and seen from the other side; and their clock.

use std::future::{IntoFuture, pending};
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{poll_once, zip};
use grinta_proto::{
    AcceptError, DialCause, Elapsed, EndpointError, Fabric, FlowLoss, JoinError, LocalSide, Member,
    MemberEvent, MemberWatch, Raw, ReceiveError, SendCause, WatchError,
};

use super::{Place, World};

flow_stories! {
    a_shutdown_lets_flows_drain,
    after_a_shutdown_handles_report_that_the_fabric_is_closed,
    a_shutdown_cuts_flows_that_do_not_drain,
    a_dropped_driver_breaks_every_flow,
    a_dropped_driver_ends_a_send_that_waits_for_room,
}

node_stories! {
    a_shutdown_tells_what_nobody_read_within_the_process,
    a_dropped_driver_ends_every_call_that_is_pending,
    the_last_handle_dropped_leaves,
    a_node_that_shuts_down_is_seen_to_leave,
    a_node_that_dies_breaks_its_flows_on_the_other_side,
    members_are_listed_and_watched,
    time_passes_on_the_clock_of_the_fabric,
}

async fn a_shutdown_lets_flows_drain(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let mut sent = 0;
    while sender.try_send(vec![0; 1024]).is_ok() {
        sent += 1;
    }
    drop(sender);
    let read = async {
        let mut received = 0;
        while let Some(message) = receiver.recv().await.unwrap() {
            assert_eq!(message.len(), 1024);
            received += 1;
        }
        assert_eq!(received, sent);
        drop(receiver);
    };
    let (report, ()) = zip(sides.client.shutdown(), read).await;
    // Within the process what is queued can be read after the shutdown as well.
    let undelivered = (
        report.flows_lost,
        report.bytes_lost,
        report.flows_unconfirmed,
    );
    assert_eq!(undelivered, (0, 0, 0), "{report:?}");
}

async fn a_shutdown_tells_what_nobody_read_within_the_process(world: &World) {
    let node = world.node("alone").await;
    let endpoint = node.endpoint("service").await.unwrap();
    let dial = node.dial("service").sender::<String, _>(Raw).into_future();
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (sender, mut receiver) = zip(dial, accept).await;
    let mut sender = sender.unwrap();
    for message in ["one", "two", "six"] {
        sender.send(message.to_owned()).await.unwrap();
    }
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
    let snapshot = node.snapshot();
    let [flow] = &snapshot.local_flows[..] else {
        panic!("{:?}", snapshot.local_flows);
    };
    assert_eq!(flow.endpoint.as_str(), "service");
    assert_eq!(flow.sender, LocalSide::Dialler);
    assert_eq!((flow.messages.used, flow.bytes.used), (2, 8));
    assert_eq!(flow.bytes.limit, snapshot.limits.local_queue_bytes_max);

    let report = node.shutdown().await;
    assert_eq!((report.flows_lost, report.flows_unconfirmed), (0, 0));
    let left = (report.local_flows_unread, report.local_messages_unread);
    assert_eq!((left, report.local_bytes_unread), ((1, 2), 8));
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "two");
}

async fn after_a_shutdown_handles_report_that_the_fabric_is_closed(world: &World) {
    let sides = world.sides().await;
    let mut watch = sides.client.watch_members();
    let endpoint = sides.client.endpoint("client-side").await.unwrap();
    sides.client.shutdown().await;

    sides.client.closed().await;
    sides.client.shutdown().await;
    assert_eq!(endpoint.accept().await.unwrap_err(), AcceptError::Closed);
    assert_eq!(
        sides.client.endpoint("new").await.unwrap_err(),
        EndpointError::Closed
    );
    assert_eq!(sides.client.join().await, Err(JoinError::ShuttingDown));
    let error = sides.dial().sender::<String, _>(Raw).await.unwrap_err();
    assert_eq!(error.cause, DialCause::ShuttingDown);
    assert!(!error.is_retryable());
    let end = loop {
        if let Err(end) = watch.next().await {
            break end;
        }
    };
    assert_eq!(end, WatchError::Closed);
    assert_eq!(watch.next().await, Err(WatchError::Closed));
    // Nobody is left to end it.
    sides.client.sleep(Duration::from_secs(1000)).await;
}

async fn a_shutdown_cuts_flows_that_do_not_drain(world: &World) {
    let grace = Duration::from_millis(50);
    let sides = world
        .sides_with(|builder| builder.grace_period(grace))
        .await;
    let (mut client, mut server) = sides.bidi::<String, String, _>(Raw).await;
    client.send("one".to_owned()).await.unwrap();
    sides.client.shutdown().await;
    // Both are told; what had arrived is still read.
    let lost = match server.recv().await {
        Ok(Some(message)) => {
            assert_eq!(message, "one");
            server.recv().await
        }
        other => other,
    };
    assert!(matches!(lost, Err(ReceiveError::Lost(_))), "{lost:?}");
    let error = client.send("two".to_owned()).await.unwrap_err();
    assert_eq!(error.cause, SendCause::Lost(FlowLoss::ShuttingDown));
    assert_eq!(error.into_message(), "two");
    let lost = client.recv().await;
    assert_eq!(lost, Err(ReceiveError::Lost(FlowLoss::ShuttingDown)));
}

async fn a_dropped_driver_ends_every_call_that_is_pending(world: &World) {
    let (node, lifeline) = world.start_mortal(world.builder("node")).await;
    node.join().await.unwrap();
    let endpoint = node.endpoint("service").await.unwrap();
    let deaf = node.endpoint("deaf").await.unwrap();
    let mut watch = node.watch_members();
    while poll_once(watch.next()).await.is_some() {}
    let dial = |name| node.dial(name).wait_for_name().sender::<String, _>(Raw);

    let mut watching = pin!(watch.next());
    let mut sleeping = pin!(node.sleep(Duration::from_secs(1000)));
    let mut closing = pin!(node.closed());
    let mut accepting = pin!(endpoint.accept());
    let mut dialling = dial("deaf").into_future();
    let mut waiting = dial("nobody").into_future();
    assert!(poll_once(&mut watching).await.is_none());
    assert!(poll_once(&mut sleeping).await.is_none());
    assert!(poll_once(&mut closing).await.is_none());
    assert!(poll_once(&mut accepting).await.is_none());
    assert!(poll_once(&mut dialling).await.is_none());
    assert!(poll_once(&mut waiting).await.is_none());

    drop(lifeline);
    closing.await;
    sleeping.await;
    assert_eq!(watching.await, Err(WatchError::Closed));
    assert_eq!(accepting.await.unwrap_err(), AcceptError::Closed);
    assert_eq!(dialling.await.unwrap_err().cause, DialCause::ShuttingDown);
    assert_eq!(waiting.await.unwrap_err().cause, DialCause::ShuttingDown);
    assert_eq!(node.join().await, Err(JoinError::ShuttingDown));
    assert_eq!(
        node.endpoint("more").await.unwrap_err(),
        EndpointError::Closed
    );
    // What waited at an endpoint is not accepted any more.
    if let Ok(incoming) = deaf.accept().await {
        let error = incoming.receiver::<String, _>(Raw).unwrap_err();
        assert!(matches!(
            error,
            AcceptError::Withdrawn | AcceptError::Closed
        ));
    }
}

async fn a_dropped_driver_breaks_every_flow(world: &World) {
    let (server, lifeline) = world.start_mortal(world.builder("server")).await;
    server.join().await.unwrap();
    let client = match world.place {
        Place::SameNode => server.clone(),
        Place::OtherNode => world.node_beside("client", &server).await,
    };
    let endpoint = server.endpoint("service").await.unwrap();
    let dial = client.dial("service").wait_for_name();
    let dial = async { dial.bidi::<Vec<u8>, Vec<u8>, _>(Raw).await.unwrap() };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.bidi::<Vec<u8>, Vec<u8>, _>(Raw).unwrap()
    };
    let (_client_flow, server_flow) = zip(dial, accept).await;
    let (mut sender, mut receiver) = server_flow.split();
    let mut receiving = pin!(receiver.recv());
    assert!(poll_once(&mut receiving).await.is_none());

    drop(lifeline);
    let cause = FlowLoss::ShuttingDown;
    assert_eq!(receiving.await, Err(ReceiveError::Lost(cause.clone())));
    server.closed().await;
    let error = sender.try_send(vec![1]).unwrap_err();
    assert_eq!(error.cause, SendCause::Lost(cause.clone()));
    let error = sender.send(vec![2]).await.unwrap_err();
    assert_eq!(error.cause, SendCause::Lost(cause.clone()));
    assert_eq!(error.into_message(), [2]);
    assert_eq!(sender.finish().await, Err(SendCause::Lost(cause)));
}

async fn a_dropped_driver_ends_a_send_that_waits_for_room(world: &World) {
    let (server, lifeline) = world.start_mortal(world.builder("server")).await;
    server.join().await.unwrap();
    let client = match world.place {
        Place::SameNode => server.clone(),
        Place::OtherNode => world.node_beside("client", &server).await,
    };
    let endpoint = server.endpoint("service").await.unwrap();
    let dial = client.dial("service").wait_for_name();
    let dial = async { dial.receiver::<Vec<u8>, _>(Raw).await.unwrap() };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.sender::<Vec<u8>, _>(Raw).unwrap()
    };
    let (_receiver, mut sender) = zip(dial, accept).await;
    let (fill, filled) = smol::channel::bounded(1);
    let sending = world.spawn(async move {
        loop {
            let message = vec![0; 4096];
            match poll_once(sender.send(message.clone())).await {
                Some(Ok(())) => {}
                Some(Err(error)) => return error.cause,
                None => {
                    let _ = fill.try_send(());
                    if let Err(error) = sender.send(message).await {
                        return error.cause;
                    }
                }
            }
        }
    });
    filled.recv().await.unwrap();
    drop(lifeline);
    assert_eq!(sending.await, SendCause::Lost(FlowLoss::ShuttingDown));
}

async fn the_last_handle_dropped_leaves(world: &World) {
    let sides = world.sides().await;
    let mut watch = sides.server.watch_members();
    let (sender, mut receiver) = sides.uni::<String, _>(Raw).await;
    drop(sides.client.clone());
    assert!(poll_once(receiver.recv()).await.is_none());
    drop(sides.client);
    drop(sender);
    sees_leave(&mut watch, "client").await;
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_node_that_shuts_down_is_seen_to_leave(world: &World) {
    let sides = world.sides().await;
    let mut watch = sides.client.watch_members();
    zip(sides.server.shutdown(), sees_leave(&mut watch, "server")).await;
    let names = active(&sides.client);
    assert_eq!(names, ["client"]);
}

async fn a_node_that_dies_breaks_its_flows_on_the_other_side(world: &World) {
    let hasty = world.hasty_builder("server");
    let (server, lifeline) = world.start_mortal(hasty).await;
    server.join().await.unwrap();
    let hasty = world.hasty_builder("client");
    let hasty = hasty.neighbour(server.address().to_string());
    let client = world.start(hasty).await.unwrap();
    client.join().await.unwrap();
    let endpoint = server.endpoint("service").await.unwrap();
    let dial = async {
        let dial = client.dial("service").wait_for_name();
        dial.bidi::<Vec<u8>, String, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.bidi::<String, Vec<u8>, _>(Raw).unwrap()
    };
    let (mut ours, mut theirs) = zip(dial, accept).await;
    theirs.send("last words".to_owned()).await.unwrap();
    assert_eq!(ours.recv().await.unwrap().unwrap(), "last words");
    drop(lifeline);

    let lost = ours.recv().await.unwrap_err();
    assert!(matches!(lost, ReceiveError::Lost(_)), "{lost:?}");
    let error = ours.send(vec![1]).await.unwrap_err();
    assert!(matches!(error.cause, SendCause::Lost(_)), "{error:?}");
    assert_eq!(error.into_message(), [1]);
    let finished = ours.sender.finish().await;
    assert!(matches!(finished, Err(SendCause::Lost(_))), "{finished:?}");
    let mut watch = client.watch_members();
    while active(&client).contains(&"server".to_owned()) {
        watch.next().await.unwrap();
    }
}

async fn members_are_listed_and_watched(world: &World) {
    let first = world.node("first").await;
    assert_eq!(active(&first), ["first"]);
    let mut watch = first.watch_members();
    let builder = world.builder("second").label("zone", "b");
    let builder = builder.neighbour(first.address().to_string());
    let second = world.start(builder).await.unwrap();
    second.join().await.unwrap();
    let third = world.node_beside("third", &second).await;

    let mut up = Vec::new();
    while up.len() < 3 {
        if let MemberEvent::Up(member) = watch.next().await.unwrap() {
            assert!(member.state.is_active());
            up.push(member.name.to_string());
        }
    }
    assert_eq!(up[0], "first");
    up.sort();
    assert_eq!(up, ["first", "second", "third"]);
    assert_eq!(active(&first), ["first", "second", "third"]);
    let members = first.members();
    assert_eq!(members[1].address, second.address());
    assert_eq!(members[2].address, third.address());
    while member_named(&first, "second").labels.is_empty() {
        watch.next().await.unwrap();
    }

    // A watch that begins late is told who is there already.
    let mut late = first.watch_members();
    for _ in 0..3 {
        assert!(matches!(late.next().await, Ok(MemberEvent::Up(_))));
    }
    third.shutdown().await;
    sees_leave(&mut watch, "third").await;
}

async fn time_passes_on_the_clock_of_the_fabric(world: &World) {
    let node = world.node("node").await;
    let limit = Duration::from_millis(30);
    let started = world.now();
    node.sleep(limit).await;
    assert!(world.now() - started >= limit);
    let elapsed = node.timeout(limit, pending::<()>()).await;
    assert_eq!(elapsed, Err(Elapsed { limit }));
    assert!(world.now() - started >= limit * 2);
    let long = Duration::from_secs(1000);
    assert_eq!(node.timeout(long, async { 7 }).await, Ok(7));
    assert_eq!(node.timeout(long, node.sleep(limit)).await, Ok(()));
    node.sleep(Duration::ZERO).await;
    assert!(poll_once(node.sleep(long)).await.is_none());
}

async fn sees_leave(watch: &mut MemberWatch, node: &str) {
    loop {
        let event = watch.next().await.unwrap();
        assert!(!matches!(event, MemberEvent::Down(_)), "{event:?}");
        if matches!(event, MemberEvent::Left(member) if member.name.as_str() == node) {
            return;
        }
    }
}

/// The members that take part, in order.
fn active(fabric: &Fabric) -> Vec<String> {
    let members = fabric.members().into_iter();
    members
        .filter(|member| member.state.is_active())
        .map(|member| member.name.to_string())
        .collect()
}

fn member_named(fabric: &Fabric, name: &str) -> Member {
    let mut members = fabric.members().into_iter();
    members.find(|member| member.name.as_str() == name).unwrap()
}

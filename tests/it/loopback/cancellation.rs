//! Futures that are dropped before they are ready lose nothing.

use std::future::IntoFuture;
use std::time::Duration;

use futures_lite::future::{poll_once, yield_now, zip};
use grinta_proto::{CallError, Code, Json, MemberEvent, NameEvent, NameUpdate, Raw, SendCause};

use super::World;

flow_stories! {
    a_dropped_recv_loses_no_message,
    a_dropped_send_sends_nothing_and_breaks_nothing,
    a_dropped_accept_loses_no_flow,
    a_dropped_dial_leaves_the_endpoint_free,
    a_dial_dropped_while_it_waits_for_a_name,
    an_endpoint_dropped_as_it_opens_gives_the_name_back,
    waits_at_a_flow_begin_anew_at_every_poll,
    waits_for_calls_begin_anew_at_every_poll,
}

node_stories! {
    waits_at_a_fabric_begin_anew_at_every_poll,
}

async fn a_dropped_recv_loses_no_message(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    assert_eq!(poll_once(receiver.recv()).await, None);
    let send = world.spawn(async move {
        for number in 0..2000_u32 {
            sender.send(long(number)).await.unwrap();
        }
    });
    let mut expected = 0;
    loop {
        // Polled once and dropped; only then waited for.
        let received = match poll_once(receiver.recv()).await {
            Some(received) => received,
            None => receiver.recv().await,
        };
        let Some(message) = received.unwrap() else {
            break;
        };
        assert_eq!(message, long(expected));
        expected += 1;
    }
    assert_eq!(expected, 2000);
    send.await;
}

async fn a_dropped_send_sends_nothing_and_breaks_nothing(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let mut sent = Vec::new();
    let mut dropped = 0;
    let mut number = 0;
    while dropped < 100 {
        // Some may still find room, as what was taken moves on to the receiving node.
        match poll_once(sender.send(long(number))).await {
            Some(Ok(())) => sent.push(number),
            Some(Err(error)) => panic!("{error}"),
            None => dropped += 1,
        }
        number += 1;
    }
    let last = number;
    sent.push(last);
    let send = async {
        sender.send(long(last)).await.unwrap();
        sender.finish().await.unwrap();
    };
    let read = async {
        for number in sent {
            assert_eq!(receiver.recv().await.unwrap(), Some(long(number)));
        }
        assert_eq!(receiver.recv().await, Ok(None));
    };
    zip(send, read).await;
}

async fn a_dropped_accept_loses_no_flow(world: &World) {
    let sides = world.sides().await;
    assert!(poll_once(sides.endpoint.accept()).await.is_none());
    let dial = async {
        for number in 0..50 {
            sides.say(&number.to_string()).await;
        }
    };
    let accept = async {
        for number in 0..50 {
            let incoming = loop {
                if let Some(incoming) = poll_once(sides.endpoint.accept()).await {
                    break incoming;
                }
                yield_now().await;
            };
            let mut receiver = incoming.unwrap().receiver::<String, _>(Raw).unwrap();
            assert_eq!(receiver.recv().await.unwrap(), Some(number.to_string()));
        }
    };
    zip(dial, accept).await;
}

async fn a_dropped_dial_leaves_the_endpoint_free(world: &World) {
    let sides = world.sides().await;
    for _ in 0..20 {
        let dial = sides.dial().sender::<String, _>(Raw).into_future();
        assert!(poll_once(dial).await.is_none());
    }
    zip(sides.say("here"), sides.hear("here")).await;
}

async fn a_dial_dropped_while_it_waits_for_a_name(world: &World) {
    let sides = world.sides().await;
    let dial = sides.client.dial("later").wait_for_name();
    let dial = dial.sender::<String, _>(Raw).into_future();
    assert!(poll_once(dial).await.is_none());
    let endpoint = sides.server.endpoint("later").await.unwrap();
    let dial = async {
        let dial = sides.client.dial("later").wait_for_name();
        dial.sender::<String, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (mut sender, mut receiver) = zip(dial, accept).await;
    sender.send("here".to_owned()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "here");
}

async fn an_endpoint_dropped_as_it_opens_gives_the_name_back(world: &World) {
    let sides = world.sides().await;
    let opening = sides.server.endpoint("other").into_future();
    drop(poll_once(opening).await);
    sides.server.endpoint("other").await.unwrap();
}

async fn waits_at_a_flow_begin_anew_at_every_poll(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let read = async {
        for number in 0..300 {
            let received = anew(async || receiver.recv().await).await;
            assert_eq!(received, Ok(Some(long(number))));
        }
        receiver.stop(3);
    };
    let send = async {
        for number in 0..300 {
            anew(async || sender.reserve().await.map(drop))
                .await
                .unwrap();
            sender.try_send(long(number)).unwrap();
        }
        let code = Code::User(3);
        let cause = anew(async || sender.closed().await).await;
        assert_eq!(cause, SendCause::Stopped { code });
    };
    zip(send, read).await;
    // A wait for the end that was given up has finished the flow.
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    sender.send(long(1)).await.unwrap();
    poll_once(sender.finish()).await;
    assert_eq!(receiver.recv().await, Ok(Some(long(1))));
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn waits_for_calls_begin_anew_at_every_poll(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let limit = Duration::from_millis(50);
    let call = async {
        assert_eq!(caller.call(1).await, Ok(11));
        let late = caller.call(2).deadline(limit).await.unwrap_err();
        assert!(matches!(late, CallError::TimedOut { .. }), "{late}");
        drop(caller);
    };
    let serve = async {
        let first = anew(async || calls.next().await).await.unwrap().unwrap();
        first.responder.respond(11).await.unwrap();
        let second = anew(async || calls.next().await).await.unwrap();
        let mut responder = second.unwrap().responder;
        anew(async || responder.abandoned().await).await;
        drop(responder);
        assert!(anew(async || calls.next().await).await.unwrap().is_none());
    };
    zip(call, serve).await;
}

async fn waits_at_a_fabric_begin_anew_at_every_poll(world: &World) {
    let server = world.node("server").await;
    let builder = world.builder("client");
    let builder = builder.neighbour(server.address().to_string());
    let client = world.start(builder).await.unwrap();
    // It goes on without its future, and may be done at once on a thread of its own.
    drop(poll_once(client.join()).await);
    let mut members = client.watch_members();
    loop {
        let event = anew(async || members.next().await).await.unwrap();
        if matches!(&event, MemberEvent::Up(member) if member.name.as_str() == "server") {
            break;
        }
    }
    let endpoint = server.endpoint("service").await.unwrap();
    let mut names = client.watch_names("serv");
    loop {
        let update = anew(async || names.next().await).await.unwrap();
        if matches!(update, NameUpdate::Changed(NameEvent::Appeared { .. })) {
            break;
        }
    }
    drop(poll_once(client.query("service").into_future()).await);
    let report = client.query("service").await.unwrap();
    assert_eq!(report.owner.as_ref(), Some(server.node()));
    let standing = endpoint.standing();
    assert!(
        poll_once(endpoint.standing_changed(&standing))
            .await
            .is_none()
    );
    assert!(poll_once(client.identity_conflict()).await.is_none());
    assert!(poll_once(client.closed()).await.is_none());
    let long = Duration::from_secs(1000);
    assert!(
        poll_once(client.timeout(long, client.sleep(long)))
            .await
            .is_none()
    );

    let mut members = server.watch_members();
    poll_once(client.leave()).await;
    loop {
        let event = anew(async || members.next().await).await.unwrap();
        if matches!(event, MemberEvent::Left(member) if member.name.as_str() == "client") {
            break;
        }
    }
    poll_once(server.shutdown()).await;
    anew(async || server.closed().await).await;
}

/// Waits with a new future for every poll.
async fn anew<T>(mut begin: impl AsyncFnMut() -> T) -> T {
    loop {
        if let Some(output) = poll_once(begin()).await {
            return output;
        }
        yield_now().await;
    }
}

/// Four kibibytes that begin with a number.
fn long(number: u32) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(4096, 0);
    message
}

//! Futures that are dropped before they are ready lose nothing.

use std::future::IntoFuture;

use futures_lite::future::{poll_once, yield_now, zip};
use grinta_proto::Raw;

use super::World;

flow_stories! {
    a_dropped_recv_loses_no_message,
    a_dropped_send_sends_nothing_and_breaks_nothing,
    a_dropped_accept_loses_no_flow,
    a_dropped_dial_leaves_the_endpoint_free,
    a_dial_dropped_while_it_waits_for_a_name,
    an_endpoint_dropped_as_it_opens_gives_the_name_back,
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

/// Four kibibytes that begin with a number.
fn long(number: u32) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(4096, 0);
    message
}

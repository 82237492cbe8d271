//! Faults that the original has, each as the story of a program that meets it.
//!
//! Of its other faults, an endpoint that never accepts is in `names`, a stream that is reset before
//! its first frame among the core's hostile peers, and IPv6 in `joining`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::future::{or, yield_now, zip};
use grinta_proto::{Codec, DialCause, DialStage, Raw};

use super::{PATIENCE, Sides, World};

flow_stories! {
    a_flow_that_closes_without_a_message_ends_cleanly,
    one_message_and_the_end_arrive,
    a_sender_dropped_with_a_full_queue_loses_nothing,
    a_slow_reader_at_the_end_of_a_flow_reads_it_all,
    a_buffer_reused_after_send_changes_nothing,
    a_dial_to_a_closed_endpoint_is_an_error,
    each_of_many_pending_dials_honours_its_deadline,
    a_dial_given_up_at_any_moment_harms_no_other,
}

node_stories! {
    twenty_first_uses_at_once_make_one_connection,
}

async fn a_flow_that_closes_without_a_message_ends_cleanly(world: &World) {
    let sides = world.sides().await;
    for _ in 0..20 {
        let dial = async { drop(sides.dial().sender::<String, _>(Raw).await.unwrap()) };
        let accept = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            let mut receiver = incoming.receiver::<String, _>(Raw).unwrap();
            assert_eq!(receiver.recv().await, Ok(None));
        };
        zip(dial, accept).await;
    }
}

async fn one_message_and_the_end_arrive(world: &World) {
    let sides = world.sides().await;
    for number in 0..50 {
        let accept = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            let mut receiver = incoming.receiver::<String, _>(Raw).unwrap();
            assert_eq!(receiver.recv().await, Ok(Some(number.to_string())));
            assert_eq!(receiver.recv().await, Ok(None));
        };
        zip(sides.say(&number.to_string()), accept).await;
    }
}

async fn a_sender_dropped_with_a_full_queue_loses_nothing(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let mut sent = 0;
    while sender.try_send(numbered(sent)).is_ok() {
        sent += 1;
    }
    drop(sender);
    for number in 0..sent {
        assert_eq!(receiver.recv().await, Ok(Some(numbered(number))));
    }
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_slow_reader_at_the_end_of_a_flow_reads_it_all(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    for number in 0..20 {
        sender.send(numbered(number)).await.unwrap();
    }
    sender.finish().await.unwrap();
    // The receiving node has it all, and the end, long before they are asked for.
    for number in 0..20 {
        sides.server.sleep(Duration::from_millis(5)).await;
        assert_eq!(receiver.recv().await, Ok(Some(numbered(number))));
    }
    sides.server.sleep(Duration::from_millis(5)).await;
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_buffer_reused_after_send_changes_nothing(world: &World) {
    let sides = world.sides().await;
    a_buffer_is_reused::<Bytes>(&sides).await;
    a_buffer_is_reused::<Vec<u8>>(&sides).await;
}

/// Sends from one buffer what is received as `T`, which on one node goes through a queue of values
/// or through the codecs.
async fn a_buffer_is_reused<T>(sides: &Sides)
where
    T: AsRef<[u8]> + Send + 'static,
    Raw: Codec<T>,
{
    // Short messages are gathered, long ones are shared with the transport.
    for length in [16, 4096, 100_000] {
        let send = async {
            let mut sender = sides.dial().sender::<Bytes, _>(Raw).await.unwrap();
            let mut buffer = BytesMut::with_capacity(length);
            for number in 0..10 {
                buffer.put_bytes(number, length);
                sender.send(buffer.split().freeze()).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let receive = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            let mut receiver = incoming.receiver::<T, _>(Raw).unwrap();
            let mut received = Vec::new();
            while let Some(message) = receiver.recv().await.unwrap() {
                received.push(message);
            }
            for (number, message) in (0..10).zip(&received) {
                let expected = vec![number; length];
                assert!(message.as_ref() == expected, "message {number} has changed");
            }
            assert_eq!(received.len(), 10);
        };
        zip(send, receive).await;
    }
}

async fn a_dial_to_a_closed_endpoint_is_an_error(world: &World) {
    let sides = world.sides().await;
    zip(sides.say("open"), sides.hear("open")).await;
    drop(sides.endpoint);
    let begun = world.now();
    let dial = sides.client.dial("service").sender::<String, _>(Raw);
    let error = dial.await.unwrap_err();
    assert!(
        (world.now() - begun) < PATIENCE,
        "it was told, not waited for"
    );
    assert!(
        matches!(
            error.cause,
            DialCause::NotFound { .. } | DialCause::Refused { .. }
        ),
        "{error:?}"
    );
}

async fn each_of_many_pending_dials_honours_its_deadline(world: &World) {
    let sides = world.sides().await;
    let opening = sides.server.endpoint("deaf").accept_queue(DIALS);
    let deaf = opening.await.unwrap();
    // The one flow that it takes: the name is known from here on.
    let known = async {
        let dial = sides.client.dial("deaf").wait_for_name();
        drop(dial.sender::<String, _>(Raw).await.unwrap());
    };
    let taken = async { drop(deaf.accept().await.unwrap().receiver::<String, _>(Raw)) };
    zip(known, taken).await;
    let (ended, ends) = smol::channel::unbounded();
    for number in (0..DIALS).rev() {
        let limit = Duration::from_millis(100 + 5 * number as u64);
        let dial = sides.client.dial("deaf").deadline(limit);
        let ended = ended.clone();
        drop(world.spawn(async move {
            let error = dial.sender::<String, _>(Raw).await.unwrap_err();
            let _ = ended.try_send((limit, error));
        }));
    }
    for _ in 0..DIALS {
        let (limit, error) = ends.recv().await.unwrap();
        assert_eq!(error.cause, DialCause::TimedOut { limit }, "{error}");
        assert_eq!(error.stage, DialStage::Accept);
        assert!(error.elapsed >= limit, "{error:?}");
        assert!(error.elapsed < limit + PATIENCE / 2, "{error:?}");
    }
}

async fn a_dial_given_up_at_any_moment_harms_no_other(world: &World) {
    let sides = world.sides().await;
    zip(sides.say("known"), sides.hear("known")).await;
    let (mut ours, mut theirs) = sides.bidi::<String, String, _>(Raw).await;
    for moments in 0..60 {
        let dial = async {
            let dial = sides.dial().sender::<String, _>(Raw);
            drop(dial.await);
        };
        let give_up = async {
            for _ in 0..moments {
                yield_now().await;
            }
        };
        or(dial, give_up).await;
    }
    ours.send("still here".to_owned()).await.unwrap();
    assert_eq!(theirs.recv().await.unwrap().unwrap(), "still here");
    zip(sides.say("after all"), sides.hear("after all")).await;
}

async fn twenty_first_uses_at_once_make_one_connection(world: &World) {
    let server = world.node("server").await;
    let endpoint = server.endpoint("service").await.unwrap();
    let builder = world.builder("client");
    let builder = builder.neighbour(server.address().to_string());
    let client = world.start(builder).await.unwrap();
    let uses: Vec<_> = (0..20_u32)
        .map(|number| {
            let client = client.clone();
            world.spawn(async move {
                let dial = client.dial("service").wait_for_name();
                let mut sender = dial.sender::<Vec<u8>, _>(Raw).await.unwrap();
                sender.send(numbered(number)).await.unwrap();
                sender.finish().await.unwrap();
            })
        })
        .collect();
    client.join().await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..20 {
        let incoming = endpoint.accept().await.unwrap();
        let mut receiver = incoming.receiver::<Vec<u8>, _>(Raw).unwrap();
        heard.push(receiver.recv().await.unwrap().unwrap());
        assert_eq!(receiver.recv().await, Ok(None));
    }
    for used in uses {
        used.await;
    }
    heard.sort();
    assert_eq!(heard, (0..20).map(numbered).collect::<Vec<_>>());
    assert_eq!(client.counters().connections_established, 1);
    assert_eq!(server.counters().connections_established, 1);
}

/// A kibibyte that begins with a number.
fn numbered(number: u32) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(1024, 0);
    message
}

/// One more than may wait by default.
const DIALS: usize = 65;

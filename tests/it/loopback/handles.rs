//! The interface of flows beyond sending and receiving one by one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use futures_lite::future::{poll_once, yield_now, zip};
use futures_sink::Sink;
use grinta_proto::{Code, Flow, Json, Raw, ReceiveError, Receiver, SendCause, Sender};

use super::World;

flow_stories! {
    bursts_arrive_whole_and_in_order,
    a_burst_that_does_not_fit_is_sent_as_it_is_read,
    a_burst_with_a_bad_message_stops_at_it,
    a_dropped_burst_leaves_what_was_not_sent,
    what_came_before_a_bad_message_is_received_first,
    a_permit_is_room_for_one_message,
    a_full_flow_has_no_room_until_it_is_read,
    a_sender_learns_that_it_is_closed,
    a_receiver_is_a_stream_that_ends_with_its_error,
    a_sender_is_a_sink,
    two_flows_joined_are_one,
    what_has_no_encoding_is_refused_everywhere,
}

async fn bursts_arrive_whole_and_in_order(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let length = |number: u32| (number as usize * 7919) % 6000;
    let message = move |number| vec![number as u8; length(number)];
    let send = world.spawn(async move {
        let mut messages: VecDeque<_> = (0..5000).map(message).collect();
        sender.send_many(&mut messages).await.unwrap();
        assert!(messages.is_empty());
        sender.send_many(&mut messages).await.unwrap();
        sender.finish().await.unwrap();
    });
    let mut received = Vec::new();
    assert_eq!(receiver.recv_many(&mut received, 0).await, Ok(0));
    loop {
        let before = received.len();
        let count = receiver.recv_many(&mut received, 100).await.unwrap();
        assert_eq!(received.len(), before + count);
        assert!(count <= 100);
        if count == 0 {
            break;
        }
    }
    send.await;
    assert_eq!(received.len(), 5000);
    for (number, received) in (0..).zip(received) {
        assert!(received == message(number), "message {number}");
    }
}

async fn a_burst_that_does_not_fit_is_sent_as_it_is_read(world: &World) {
    let limit = |config: &mut grinta_proto::Config| {
        config.limits.local_queue_max = 3;
        config.limits.flow_send_buffer = 1000;
    };
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (mut sender, mut receiver) = sides.uni::<u32, _>(Json).await;
    let send = async {
        let mut messages: VecDeque<_> = (0..1000).collect();
        sender.send_many(&mut messages).await.unwrap();
        sender.finish().await.unwrap();
    };
    let read = async {
        for number in 0..1000 {
            assert_eq!(receiver.recv().await, Ok(Some(number)));
        }
        assert_eq!(receiver.recv().await, Ok(None));
    };
    zip(send, read).await;
}

async fn a_burst_with_a_bad_message_stops_at_it(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.message_len_max = 100;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let mut messages: VecDeque<_> = [1, 100, 101, 2].map(|length| vec![0; length]).into();
    let (length, limit) = (101, 100);
    assert_eq!(
        sender.send_many(&mut messages).await,
        Err(SendCause::TooLong { length, limit })
    );
    assert_eq!(messages.pop_front().unwrap().len(), 101);
    sender.send_many(&mut messages).await.unwrap();
    sender.finish().await.unwrap();
    for length in [1, 100, 2] {
        assert_eq!(receiver.recv().await.unwrap().unwrap().len(), length);
    }
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_dropped_burst_leaves_what_was_not_sent(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Bytes, _>(Raw).await;
    let message = |number: u32| {
        let mut message = vec![0; 5000];
        message[..4].copy_from_slice(&number.to_be_bytes());
        Bytes::from(message)
    };
    let send = world.spawn(async move {
        let mut messages: VecDeque<_> = (0..2000).map(message).collect();
        // Every future is dropped after one poll.
        while poll_once(sender.send_many(&mut messages)).await.is_none() {
            yield_now().await;
        }
        assert!(messages.is_empty());
        sender.finish().await.unwrap();
    });
    let mut received = Vec::new();
    loop {
        match poll_once(receiver.recv_many(&mut received, 64)).await {
            Some(Ok(0)) => break,
            Some(count) => assert!(count.unwrap() > 0),
            None => yield_now().await,
        }
    }
    send.await;
    assert!(received == (0..2000).map(message).collect::<Vec<_>>());
}

async fn what_came_before_a_bad_message_is_received_first(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<Bytes, _>(Raw).await.unwrap() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (mut sender, mut receiver): (Sender<Bytes>, Receiver<String>) = zip(dial, accept).await;
    let mut messages: VecDeque<_> = [&b"one"[..], b"two", b"\xff"]
        .map(Bytes::from_static)
        .into();
    sender.send_many(&mut messages).await.unwrap();
    let mut received = Vec::new();
    let error = loop {
        match receiver.recv_many(&mut received, 10).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReceiveError::Decode(_)), "{error}");
    assert_eq!(received, ["one", "two"]);
    assert_eq!(
        receiver.recv_many(&mut received, 10).await,
        Err(ReceiveError::Stopped)
    );
}

async fn a_permit_is_room_for_one_message(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Bytes, _>(Raw).await;
    let message = Bytes::from(vec![1; 1024]);
    drop(sender.reserve().await.unwrap());
    let mut sent = 0;
    while let Ok(permit) = sender.try_reserve() {
        permit.send(message.clone()).unwrap();
        sent += 1;
    }
    assert_eq!(sender.try_reserve().unwrap_err(), SendCause::Full);
    assert!(!sender.is_closed());
    let reserve = async {
        // Dropped at every poll, until one is ready at once.
        while poll_once(sender.reserve()).await.is_none() {
            yield_now().await;
        }
        sender
            .reserve()
            .await
            .unwrap()
            .send(message.clone())
            .unwrap();
    };
    let read = async {
        for _ in 0..=sent {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), message);
        }
    };
    zip(reserve, read).await;

    drop(receiver);
    let code = Code::NoReader;
    sender.closed().await;
    assert_eq!(
        sender.reserve().await.unwrap_err(),
        SendCause::Stopped { code }
    );
}

async fn a_full_flow_has_no_room_until_it_is_read(world: &World) {
    let bytes = 10_000;
    let limit = |config: &mut grinta_proto::Config| {
        config.limits.flow_send_buffer = bytes;
        config.limits.local_queue_bytes_max = bytes;
    };
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    assert_eq!(sender.capacity(), bytes);
    let mut sent = 0;
    // A message takes its bytes and those of its length.
    while sender.capacity() > 0 {
        let before = sender.capacity();
        sender.try_send(vec![0; 998]).unwrap();
        assert!(sender.capacity() >= before.saturating_sub(1000));
        sent += 1;
    }
    assert!(sent >= 10);
    assert_eq!(
        sender.try_send(Vec::new()).unwrap_err().cause,
        SendCause::Full
    );
    for _ in 0..sent {
        receiver.recv().await.unwrap().unwrap();
    }
    drop(sender.reserve().await.unwrap());
    assert!(sender.capacity() > 0);
    drop(receiver);
    sender.closed().await;
    assert_eq!(sender.capacity(), 0);
}

async fn a_sender_learns_that_it_is_closed(world: &World) {
    let sides = world.sides().await;
    let (mut sender, receiver) = sides.uni::<String, _>(Raw).await;
    assert!(!sender.is_closed());
    assert!(poll_once(sender.closed()).await.is_none());
    let stop = async {
        yield_now().await;
        receiver.stop(9);
    };
    let (cause, ()) = zip(sender.closed(), stop).await;
    let code = Code::User(9);
    assert_eq!(cause, SendCause::Stopped { code });
    assert!(sender.is_closed());
    assert_eq!(sender.closed().await, SendCause::Stopped { code });
}

async fn a_receiver_is_a_stream_that_ends_with_its_error(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<u8, _>(Json).await;
    sender.send(1).await.unwrap();
    assert_eq!(next(&mut receiver).await, Some(Ok(1)));
    sender.reset(3);
    let code = Code::User(3);
    assert_eq!(
        next(&mut receiver).await,
        Some(Err(ReceiveError::Reset { code }))
    );
    assert_eq!(next(&mut receiver).await, None);

    let (mut sender, mut receiver) = sides.uni::<u8, _>(Json).await;
    sender.send(1).await.unwrap();
    drop(sender);
    assert_eq!(next(&mut receiver).await, Some(Ok(1)));
    assert_eq!(next(&mut receiver).await, None);
    assert_eq!(next(&mut receiver).await, None);
}

async fn a_sender_is_a_sink(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let send = async {
        for number in 0..500 {
            poll_fn(|cx| Pin::new(&mut sender).poll_ready(cx))
                .await
                .unwrap();
            Pin::new(&mut sender)
                .start_send(vec![number as u8; 4000])
                .unwrap();
        }
        poll_fn(|cx| Pin::new(&mut sender).poll_flush(cx))
            .await
            .unwrap();
        poll_fn(|cx| Pin::new(&mut sender).poll_close(cx))
            .await
            .unwrap();
        assert_eq!(
            poll_fn(|cx| Pin::new(&mut sender).poll_ready(cx)).await,
            Err(SendCause::Finished)
        );
    };
    let read = async {
        let mut expected = 0;
        while let Some(message) = next(&mut receiver).await {
            assert_eq!(message.unwrap(), vec![expected as u8; 4000]);
            expected += 1;
        }
        assert_eq!(expected, 500);
    };
    zip(send, read).await;
}

async fn two_flows_joined_are_one(world: &World) {
    let sides = world.sides().await;
    let (there, mut server_receiver) = sides.uni::<u8, _>(Json).await;
    let (mut server_sender, back) = sides.uni_back::<u16, _>(Json).await;
    let mut client = Flow::join(there, back);
    client.send(1).await.unwrap();
    assert_eq!(server_receiver.recv().await, Ok(Some(1)));
    server_sender.send(2).await.unwrap();
    assert_eq!(client.recv().await, Ok(Some(2)));
    assert!(!client.is_closed());
    assert!(client.capacity() > 0);
}

async fn what_has_no_encoding_is_refused_everywhere(world: &World) {
    type Table = std::collections::BTreeMap<Vec<u8>, u8>;
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Table, _>(Json).await;
    let error = sender.send(Table::from([(vec![1], 1)])).await.unwrap_err();
    assert!(matches!(error.cause, SendCause::Encode(_)), "{error}");
    sender.send(Table::new()).await.unwrap();
    assert_eq!(receiver.recv().await, Ok(Some(Table::new())));
}

async fn next<T: Send + 'static>(receiver: &mut Receiver<T>) -> Option<Result<T, ReceiveError>> {
    poll_fn(|cx| Pin::new(&mut *receiver).poll_next(cx)).await
}

//! Messages of every size, and what happens at the limits.

use bytes::Bytes;
use futures_lite::future::zip;
use grinta_proto::{Raw, ReceiveError, SendCause};

use super::World;

flow_stories! {
    messages_of_no_byte_and_of_one,
    a_hundred_thousand_tiny_messages,
    a_message_of_eight_mebibytes,
    a_message_over_the_limit_is_given_back_and_the_flow_goes_on,
    a_flow_that_nobody_reads_gets_full_and_loses_nothing,
    a_full_flow_takes_messages_again_once_it_is_read,
    a_receiver_that_does_not_wait,
}

async fn messages_of_no_byte_and_of_one(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    for message in [&b""[..], b"1", b"", b""] {
        sender.send(message.to_vec()).await.unwrap();
    }
    sender.finish().await.unwrap();
    for message in [&b""[..], b"1", b"", b""] {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), message);
    }
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_hundred_thousand_tiny_messages(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let send = world.spawn(async move {
        for number in 0..100_000_u32 {
            sender.send(number.to_be_bytes().to_vec()).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let mut expected = 0_u32;
    while let Some(message) = receiver.recv().await.unwrap() {
        assert_eq!(message, expected.to_be_bytes());
        expected += 1;
    }
    assert_eq!(expected, 100_000);
    send.await;
}

async fn a_message_of_eight_mebibytes(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Bytes, _>(Raw).await;
    let message: Vec<u8> = (0..MEBIBYTE * 2)
        .flat_map(|at| (at as u32).to_le_bytes())
        .collect();
    let message = Bytes::from(message);
    assert_eq!(message.len(), 8 * MEBIBYTE);
    let send = async {
        sender.send(message.clone()).await.unwrap();
        sender.finish().await.unwrap();
    };
    let receive = async {
        let received = receiver.recv().await.unwrap().unwrap();
        assert!(received == message, "what arrived is not what was sent");
        assert_eq!(receiver.recv().await, Ok(None));
    };
    zip(send, receive).await;
}

async fn a_message_over_the_limit_is_given_back_and_the_flow_goes_on(world: &World) {
    let limit = 1000;
    let sides = world
        .sides_with(|builder| builder.configure(|config| config.limits.message_len_max = limit))
        .await;
    let (mut sender, mut receiver) = sides.uni::<Bytes, _>(Raw).await;
    let long = Bytes::from(vec![1; limit + 1]);
    let length = long.len();

    let error = sender.send(long.clone()).await.unwrap_err();
    assert_eq!(error.cause, SendCause::TooLong { length, limit });
    assert_eq!(error.into_message(), long);
    let error = sender.try_send(long.clone()).unwrap_err();
    assert_eq!(error.cause, SendCause::TooLong { length, limit });
    assert_eq!(error.into_message(), long);

    sender.send(long.slice(1..)).await.unwrap();
    sender.finish().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), long.slice(1..));
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_flow_that_nobody_reads_gets_full_and_loses_nothing(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let mut accepted = 0_u32;
    loop {
        let message = numbered(accepted);
        match sender.try_send(message.clone()) {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert_eq!(error.cause, SendCause::Full);
                assert_eq!(error.into_message(), message);
                break;
            }
        }
        assert!(accepted < 100_000, "nothing holds the sender back");
    }
    let read = async {
        for number in 0..accepted {
            assert_eq!(receiver.recv().await.unwrap(), Some(numbered(number)));
        }
        assert_eq!(receiver.recv().await, Ok(None));
    };
    let (finished, ()) = zip(sender.finish(), read).await;
    finished.unwrap();
}

async fn a_full_flow_takes_messages_again_once_it_is_read(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let mut sent = 0_u32;
    while sender.try_send(numbered(sent)).is_ok() {
        sent += 1;
    }
    let total = sent + 3000;
    let send = async {
        for number in sent..total {
            sender.send(numbered(number)).await.unwrap();
        }
        sender.finish().await.unwrap();
    };
    let read = async {
        for number in 0..total {
            assert_eq!(receiver.recv().await.unwrap(), Some(numbered(number)));
        }
        assert_eq!(receiver.recv().await, Ok(None));
    };
    zip(send, read).await;
}

async fn a_receiver_that_does_not_wait(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    assert_eq!(receiver.try_recv(), Err(ReceiveError::Empty));
    sender.send(numbered(0)).await.unwrap();
    sender.send(numbered(1)).await.unwrap();
    sender.finish().await.unwrap();
    // The receiving node has it all by now, and so has the receiver.
    assert_eq!(receiver.try_recv(), Ok(Some(numbered(0))));
    assert_eq!(receiver.try_recv(), Ok(Some(numbered(1))));
    assert_eq!(receiver.try_recv(), Ok(None));
}

/// A kibibyte that begins with a number.
fn numbered(number: u32) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(1024, 0);
    message
}

const MEBIBYTE: usize = 1024 * 1024;

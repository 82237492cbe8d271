//! How flows end: finished, dropped, reset, stopped, or by a message that is none.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use futures_lite::future::{poll_once, zip};
use grinta_proto::{
    Code, Codec, CodecError, CodecId, CodecOperation, Raw, ReceiveError, Receiver, SendCause,
    Sender,
};

use super::World;

flow_stories! {
    finish_returns_once_the_receiving_node_has_all,
    a_dropped_sender_is_a_clean_end,
    a_dropped_finish_is_a_clean_end,
    a_dropped_receiver_stops_the_sender,
    a_stop_tells_its_code_to_the_sender,
    a_reset_tells_its_code_to_the_receiver,
    the_two_directions_of_a_flow_end_by_themselves,
    a_message_that_does_not_decode_ends_the_flow_on_both_sides,
    a_message_that_does_not_encode_is_given_back_and_the_flow_goes_on,
}

async fn finish_returns_once_the_receiving_node_has_all(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<String, _>(Raw).await;
    for number in 0..10 {
        sender.send(number.to_string()).await.unwrap();
    }
    sender.finish().await.unwrap();
    for number in 0..10 {
        assert_eq!(receiver.recv().await.unwrap(), Some(number.to_string()));
    }
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_dropped_sender_is_a_clean_end(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<String, _>(Raw).await;
    sender.send("last words".to_owned()).await.unwrap();
    drop(sender);
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "last words");
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_dropped_finish_is_a_clean_end(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<String, _>(Raw).await;
    sender.send("last words".to_owned()).await.unwrap();
    poll_once(sender.finish()).await;
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "last words");
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_dropped_receiver_stops_the_sender(world: &World) {
    let sides = world.sides().await;
    let (mut sender, receiver) = sides.uni::<Bytes, _>(Raw).await;
    drop(receiver);
    let code = Code::NoReader;
    assert_eq!(
        send_until_refused(&mut sender).await,
        SendCause::Stopped { code }
    );
    assert_eq!(sender.finish().await, Err(SendCause::Stopped { code }));
}

async fn a_stop_tells_its_code_to_the_sender(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Bytes, _>(Raw).await;
    sender.send(Bytes::from_static(b"one")).await.unwrap();
    assert!(receiver.recv().await.unwrap().is_some());
    receiver.stop(7);
    let code = Code::User(7);
    assert_eq!(
        send_until_refused(&mut sender).await,
        SendCause::Stopped { code }
    );
    let error = sender.try_send(Bytes::from_static(b"more")).unwrap_err();
    assert_eq!(error.cause, SendCause::Stopped { code });
    assert_eq!(error.into_message(), "more");
}

async fn a_reset_tells_its_code_to_the_receiver(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<String, _>(Raw).await;
    sender.send("one".to_owned()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
    sender.reset(u32::MAX);
    let code = Code::User(u32::MAX);
    assert_eq!(receiver.recv().await, Err(ReceiveError::Reset { code }));
    assert_eq!(receiver.recv().await, Err(ReceiveError::Reset { code }));
}

async fn the_two_directions_of_a_flow_end_by_themselves(world: &World) {
    let sides = world.sides().await;
    let (client, mut server) = sides.bidi::<String, String, _>(Raw).await;
    let (mut sender, mut receiver) = client.split();
    sender.send("question".to_owned()).await.unwrap();
    sender.finish().await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap(), "question");
    assert_eq!(server.recv().await, Ok(None));
    server.send("answer".to_owned()).await.unwrap();
    drop(server);
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "answer");
    assert_eq!(receiver.recv().await, Ok(None));

    let (client, mut server) = sides.bidi::<String, Bytes, _>(Raw).await;
    let (mut sender, receiver) = client.split();
    drop(receiver);
    let code = Code::NoReader;
    assert_eq!(
        send_until_refused(&mut server.sender).await,
        SendCause::Stopped { code }
    );
    sender.send("still here".to_owned()).await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap(), "still here");
}

async fn a_message_that_does_not_decode_ends_the_flow_on_both_sides(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<Bytes, _>(Raw).await.unwrap() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (mut sender, mut receiver): (Sender<Bytes>, Receiver<String>) = zip(dial, accept).await;
    sender.send(Bytes::from_static(b"text")).await.unwrap();
    sender.send(Bytes::from_static(b"\xff\xff")).await.unwrap();

    assert_eq!(receiver.recv().await.unwrap().unwrap(), "text");
    let error = receiver.recv().await.unwrap_err();
    let ReceiveError::Decode(fault) = error else {
        panic!("decoded: {error:?}");
    };
    assert_eq!(fault.operation, CodecOperation::Decode);
    assert_eq!(receiver.recv().await, Err(ReceiveError::Stopped));
    let code = Code::MessageMalformed;
    assert_eq!(
        send_until_refused(&mut sender).await,
        SendCause::Stopped { code }
    );
}

async fn a_message_that_does_not_encode_is_given_back_and_the_flow_goes_on(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<u8, _>(Even).await.unwrap() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.receiver::<u16, _>(Even).unwrap()
    };
    let (mut sender, mut receiver) = zip(dial, accept).await;
    let error = sender.send(3).await.unwrap_err();
    assert_eq!(
        error.cause,
        SendCause::Encode(CodecError::encode(EVEN, "odd"))
    );
    assert_eq!(error.into_message(), 3);
    sender.send(4).await.unwrap();
    sender.finish().await.unwrap();
    assert_eq!(receiver.recv().await, Ok(Some(4)));
    assert_eq!(receiver.recv().await, Ok(None));
}

/// Sends until the sender learns that it is in vain.
async fn send_until_refused(sender: &mut Sender<Bytes>) -> SendCause {
    let message = Bytes::from(vec![0; 1024]);
    loop {
        if let Err(error) = sender.send(message.clone()).await {
            assert_eq!(error.message, message);
            return error.cause;
        }
    }
}

/// Encodes even numbers only.
#[derive(Debug, Clone)]
struct Even;

const EVEN: CodecId = CodecId::from_static("even");

impl<T> Codec<T> for Even
where
    T: Copy + Into<u64> + TryFrom<u64, Error: Debug> + 'static,
{
    fn id(&self) -> CodecId {
        EVEN
    }

    fn encode(&self, message: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
        let number: u64 = (*message).into();
        if !number.is_multiple_of(2) {
            return Err(CodecError::encode(EVEN, "odd"));
        }
        buffer.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn decode(&self, frame: Bytes) -> Result<T, CodecError> {
        let bytes = frame[..].try_into().ok();
        let number = bytes
            .map(u64::from_be_bytes)
            .and_then(|number| number.try_into().ok());
        number.ok_or_else(|| CodecError::decode(EVEN, "no number"))
    }
}

//! Flows as they should be: directions, codecs, types, tasks.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::future::zip;
use grinta_proto::{
    AcceptError, Codec, CodecError, CodecId, DialCause, DialError, DialStage, Direction, Json,
    Postcard, Protobuf, Raw, RefusalReason,
};
use serde::{Deserialize, Serialize};

use super::{Sides, World};

flow_stories! {
    hello_world,
    a_flow_the_other_way,
    a_flow_both_ways,
    a_flow_both_ways_split_across_tasks,
    an_incoming_flow_tells_what_it_is,
    an_incoming_flow_tells_its_trace,
    raw_messages_of_every_kind,
    raw_messages_sent_as_one_kind_and_received_as_another,
    json_messages,
    json_messages_of_two_types_that_look_alike,
    postcard_messages,
    protobuf_messages,
    messages_of_a_codec_of_ones_own,
    another_codec_is_a_mismatch_on_both_sides,
    another_message_type_is_a_mismatch_on_both_sides,
    another_direction_is_a_mismatch_on_both_sides,
    an_endpoint_goes_on_after_a_mismatch,
}

async fn hello_world(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<String, _>(Raw).await;
    assert_eq!(*sender.path(), world.path_to("server"));
    assert_eq!(*receiver.path(), world.path_to("client"));

    sender.send("hello".to_owned()).await.unwrap();
    sender.send(", world!".to_owned()).await.unwrap();
    sender.finish().await.unwrap();

    assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
    assert_eq!(receiver.recv().await.unwrap().unwrap(), ", world!");
    assert_eq!(receiver.recv().await, Ok(None));
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_flow_the_other_way(world: &World) {
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni_back::<String, _>(Raw).await;
    assert_eq!(*sender.path(), world.path_to("client"));
    assert_eq!(*receiver.path(), world.path_to("server"));

    sender.send("news".to_owned()).await.unwrap();
    sender.finish().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "news");
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn a_flow_both_ways(world: &World) {
    let sides = world.sides().await;
    let (mut client, mut server) = sides.bidi::<String, Vec<u8>, _>(Raw).await;
    assert_eq!(*client.path(), world.path_to("server"));
    for round in ["one", "two", "three"] {
        client.send(round.to_owned()).await.unwrap();
        let request = server.recv().await.unwrap().unwrap();
        server.send(request.into_bytes()).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), round.as_bytes());
    }
}

async fn a_flow_both_ways_split_across_tasks(world: &World) {
    let sides = world.sides().await;
    let (client, server) = sides.bidi::<Vec<u8>, Vec<u8>, _>(Raw).await;
    let echo = world.spawn(async move {
        let (mut sender, mut receiver) = server.split();
        while let Some(message) = receiver.recv().await.unwrap() {
            sender.send(message).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let (mut sender, mut receiver) = client.split();
    let talk = world.spawn(async move {
        for number in 0..200_u8 {
            sender.send(vec![number; 100]).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let mut heard = Vec::new();
    while let Some(message) = receiver.recv().await.unwrap() {
        assert_eq!(message.len(), 100);
        heard.push(message[0]);
    }
    assert_eq!(heard, (0..200).collect::<Vec<u8>>());
    zip(echo, talk).await;
}

async fn an_incoming_flow_tells_what_it_is(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().receiver::<String, _>(Raw).await.unwrap() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        assert_eq!(incoming.endpoint().as_str(), "service");
        assert_eq!(incoming.direction(), Direction::Receive);
        assert_eq!(incoming.path(), world.path_to("client"));
        incoming.sender::<String, _>(Raw).unwrap()
    };
    zip(dial, accept).await;
}

async fn an_incoming_flow_tells_its_trace(world: &World) {
    let sides = world.sides().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let too_long = "0".repeat(65);
    for (said, heard) in [(trace, Some(trace)), ("", None), (&too_long, None)] {
        let dial = sides.dial().traceparent(said);
        let dial = async { dial.sender::<String, _>(Raw).await.unwrap() };
        let accept = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            assert_eq!(incoming.traceparent(), heard);
            incoming.receiver::<String, _>(Raw).unwrap()
        };
        zip(dial, accept).await;
    }
}

async fn raw_messages_of_every_kind(world: &World) {
    let sides = world.sides().await;
    arrives(&sides, Raw, Bytes::from_static(b"bytes")).await;
    arrives(&sides, Raw, b"a vector".to_vec()).await;
    arrives(&sides, Raw, "a string".to_owned()).await;
}

async fn raw_messages_sent_as_one_kind_and_received_as_another(world: &World) {
    let sides = world.sides().await;
    arrives_as(&sides, Raw, "text".to_owned(), Raw, b"text".to_vec()).await;
    arrives_as(&sides, Raw, b"text".to_vec(), Raw, "text".to_owned()).await;
    let bytes = Bytes::from_static(b"text");
    arrives_as(&sides, Raw, bytes.clone(), Raw, "text".to_owned()).await;
    arrives_as(&sides, Raw, "text".to_owned(), Raw, bytes).await;
}

async fn json_messages(world: &World) {
    let sides = world.sides().await;
    arrives(&sides, Json, reading()).await;
}

async fn json_messages_of_two_types_that_look_alike(world: &World) {
    let sides = world.sides().await;
    let expected = Summary {
        sensor: "attic".to_owned(),
    };
    arrives_as(&sides, Json, reading(), Json, expected).await;
}

async fn postcard_messages(world: &World) {
    let sides = world.sides().await;
    arrives(&sides, Postcard, reading()).await;
    let mirrored = Mirror {
        sensor: "attic".to_owned(),
        values: vec![1, 2, 3],
    };
    arrives_as(&sides, Postcard, reading(), Postcard, mirrored).await;
}

async fn protobuf_messages(world: &World) {
    let sides = world.sides().await;
    // A number by itself is a message of Protobuf's well-known wrapper types.
    arrives(&sides, Protobuf, 0x1234_5678_9abc_u64).await;
    arrives_as(
        &sides,
        Protobuf,
        "text".to_owned(),
        Protobuf,
        Bytes::from("text"),
    )
    .await;
}

async fn messages_of_a_codec_of_ones_own(world: &World) {
    let sides = world.sides().await;
    arrives(&sides, Sensor("t/1"), Celsius(-7)).await;
    arrives_as(
        &sides,
        Sensor("t/1"),
        Celsius(0),
        Sensor("t/1"),
        Kelvin(273),
    )
    .await;
    arrives_as(&sides, Sensor("t/1"), Celsius(0), Sensor(""), Kelvin(273)).await;
}

async fn another_codec_is_a_mismatch_on_both_sides(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<String, _>(Raw).await.unwrap_err() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Json).unwrap_err()
    };
    let (dialled, accepted) = zip(dial, accept).await;
    is_refused_as_mismatch(&dialled, "json");
    is_mismatch(&accepted, "bytes", "json");
}

async fn another_message_type_is_a_mismatch_on_both_sides(world: &World) {
    let sides = world.sides().await;
    let dial = async {
        let dial = sides.dial().sender::<Celsius, _>(Sensor("celsius/1"));
        dial.await.unwrap_err()
    };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        let accepted = incoming.receiver::<Celsius, _>(Sensor("celsius/2"));
        accepted.unwrap_err()
    };
    let (dialled, accepted) = zip(dial, accept).await;
    is_refused_as_mismatch(&dialled, "celsius/2");
    is_mismatch(&accepted, "celsius/1", "celsius/2");
}

async fn another_direction_is_a_mismatch_on_both_sides(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<String, _>(Raw).await.unwrap_err() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.bidi::<String, String, _>(Raw).unwrap_err()
    };
    let (dialled, accepted) = zip(dial, accept).await;
    is_refused_as_mismatch(&dialled, "sends");
    is_mismatch(&accepted, "sends", "receives");
}

async fn an_endpoint_goes_on_after_a_mismatch(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<String, _>(Json).await.unwrap_err() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap_err()
    };
    zip(dial, accept).await;
    arrives(&sides, Raw, "a better one".to_owned()).await;
}

/// Sends a message and receives it.
async fn arrives<T, C>(sides: &Sides, codec: C, message: T)
where
    T: Clone + PartialEq + std::fmt::Debug + Send + 'static,
    C: Codec<T> + Clone,
{
    arrives_as(sides, codec.clone(), message.clone(), codec, message).await;
}

/// Sends a message of one type and receives it as another.
async fn arrives_as<S, R, C, D>(sides: &Sides, sent_by: C, sent: S, received_by: D, expected: R)
where
    S: Send + 'static,
    R: PartialEq + std::fmt::Debug + Send + 'static,
    C: Codec<S>,
    D: Codec<R>,
{
    let send = async {
        let mut sender = sides.dial().sender::<S, _>(sent_by).await.unwrap();
        sender.send(sent).await.unwrap();
        sender.finish().await.unwrap();
    };
    let receive = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        let mut receiver = incoming.receiver::<R, _>(received_by).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), Some(expected));
        assert!(receiver.recv().await.unwrap().is_none());
    };
    zip(send, receive).await;
}

fn is_refused_as_mismatch(error: &DialError, named: &str) {
    assert_eq!(error.endpoint, "service");
    assert_eq!(error.stage, DialStage::Accept);
    assert!(!error.is_retryable());
    let DialCause::Refused {
        node,
        reason: RefusalReason::Mismatch,
        detail,
        ..
    } = &error.cause
    else {
        panic!("not a mismatch: {error:?}");
    };
    assert_eq!(node.as_str(), "server");
    assert!(detail.contains(named), "{error}");
}

fn is_mismatch(error: &AcceptError, asked_with: &str, expected_with: &str) {
    let AcceptError::Mismatch { asked, expected } = error else {
        panic!("not a mismatch: {error:?}");
    };
    assert!(asked.contains(asked_with), "{error}");
    assert!(expected.contains(expected_with), "{error}");
}

fn reading() -> Reading {
    Reading {
        sensor: "attic".to_owned(),
        values: vec![1, 2, 3],
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    values: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Mirror {
    sensor: String,
    values: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Summary {
    sensor: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Celsius(i32);

#[derive(Debug, Clone, PartialEq)]
struct Kelvin(i32);

/// Two bytes a temperature; tells the message type that it is given.
#[derive(Debug, Clone)]
struct Sensor(&'static str);

const SENSOR: CodecId = CodecId::from_static("sensor");

impl Codec<Celsius> for Sensor {
    fn id(&self) -> CodecId {
        SENSOR
    }

    fn message_type(&self) -> Cow<'static, str> {
        self.0.into()
    }

    fn encode(&self, message: &Celsius, buffer: &mut BytesMut) -> Result<(), CodecError> {
        buffer.put_i32(message.0 + 273);
        Ok(())
    }

    fn decode(&self, frame: Bytes) -> Result<Celsius, CodecError> {
        Codec::<Kelvin>::decode(self, frame).map(|Kelvin(degrees)| Celsius(degrees - 273))
    }
}

impl Codec<Kelvin> for Sensor {
    fn id(&self) -> CodecId {
        SENSOR
    }

    fn message_type(&self) -> Cow<'static, str> {
        self.0.into()
    }

    fn encode(&self, message: &Kelvin, buffer: &mut BytesMut) -> Result<(), CodecError> {
        buffer.put_i32(message.0);
        Ok(())
    }

    fn decode(&self, frame: Bytes) -> Result<Kelvin, CodecError> {
        let bytes = frame[..].try_into();
        let bytes = bytes.map_err(|_| CodecError::decode(SENSOR, "not four bytes"))?;
        Ok(Kelvin(i32::from_be_bytes(bytes)))
    }
}

//! The messages that open streams, validated: `Hello`, `OpenFlow` and `FlowAnswer`.
//!
//! What decodes keeps every rule of `stream.proto`, so that nothing behind this border checks
//! again. `encode` writes a whole frame, length included; `decode` takes what is in one. A message
//! that was decoded encodes and decodes to itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use prost::Message;

use crate::codec::{CodecId, MESSAGE_TYPE_LEN_MAX};
use crate::name::{EndpointName, FabricName, InvalidName, NodeName, Session};
use crate::wire::frame::length_len;
use crate::wire::generated;
use crate::wire::malformed::{FieldFault, MalformedMessage, decode_protobuf};

/// Longest trace context of an [`OpenFlow`], in bytes. The W3C's version 00 has 55.
pub const TRACEPARENT_LEN_MAX: usize = 64;

/// Longest detail of a refusal, in bytes: room for a sentence and two of the longest names.
pub const DETAIL_LEN_MAX: usize = 512;

/// The first frame in both directions of the control stream: who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version of the contract that the sender speaks. Any number decodes, so that a peer of
    /// another version is told so.
    pub protocol: u32,
    /// The fabric that the sender belongs to.
    pub fabric: FabricName,
    /// The sender's name. Its certificate has yet to agree.
    pub node: NodeName,
    /// The run of the sender's process.
    pub session: Session,
    /// Where the sender wants to be dialled. Only its IP address and port travel.
    pub address: SocketAddr,
}

impl Hello {
    /// Reads what a frame holds.
    ///
    /// # Errors
    /// [`MalformedMessage`] names the first field that breaks a rule.
    pub fn decode(frame: &[u8]) -> Result<Self, MalformedMessage> {
        let message: generated::Hello = decode_protobuf(HELLO, frame)?;
        let fault = |field| move |fault: FieldFault| fault.at(HELLO, field);
        Ok(Self {
            protocol: message.protocol,
            fabric: name(message.fabric, FabricName::new).map_err(fault("fabric"))?,
            node: name(message.node, NodeName::new).map_err(fault("node"))?,
            session: Session(message.session),
            address: decode_address(message.address).map_err(fault("address"))?,
        })
    }

    /// Appends the message as a frame.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let message = generated::Hello {
            protocol: self.protocol,
            fabric: self.fabric.as_str().to_owned(),
            node: self.node.as_str().to_owned(),
            session: self.session.0,
            address: Some(encode_address(self.address)),
        };
        encode_frame(&message, buffer);
    }
}

/// The first frame of the dialling side of a flow: to whom, and what will travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFlow {
    /// The name that is dialled.
    pub endpoint: EndpointName,
    /// Which way messages go. It says which of the two encodings are there.
    pub direction: Direction,
    /// How the messages from the dialling side are encoded.
    pub sends: Option<Encoding>,
    /// How the messages to the dialling side are encoded.
    pub receives: Option<Encoding>,
    /// The longest message that the dialling side takes, in bytes.
    pub message_len_max: u64,
    /// How long the dialling side will wait for the answer; `None` for ever. It travels in whole
    /// milliseconds, rounded up.
    pub timeout: Option<Duration>,
    /// The W3C trace context, or an empty string. One longer than [`TRACEPARENT_LEN_MAX`] does not
    /// travel: cut short, it would name another trace.
    pub traceparent: String,
}

impl OpenFlow {
    /// Reads what a frame holds.
    ///
    /// # Errors
    /// [`MalformedMessage`] names the first field that breaks a rule.
    pub fn decode(frame: &[u8]) -> Result<Self, MalformedMessage> {
        let message: generated::OpenFlow = decode_protobuf(OPEN_FLOW, frame)?;
        let fault = |field| move |fault: FieldFault| fault.at(OPEN_FLOW, field);
        let direction = Direction::decode(message.direction).map_err(fault("direction"))?;
        Ok(Self {
            endpoint: name(message.endpoint, EndpointName::new).map_err(fault("endpoint"))?,
            direction,
            sends: decode_encoding(message.sends, direction.sends()).map_err(fault("sends"))?,
            receives: decode_encoding(message.receives, direction.receives())
                .map_err(fault("receives"))?,
            message_len_max: message.message_len_max,
            timeout: (message.timeout_ms > 0).then(|| Duration::from_millis(message.timeout_ms)),
            traceparent: bounded(message.traceparent, TRACEPARENT_LEN_MAX)
                .map_err(fault("traceparent"))?,
        })
    }

    /// Appends the message as a frame.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let traceparent = match self.traceparent.len() {
            0..=TRACEPARENT_LEN_MAX => self.traceparent.clone(),
            _ => String::new(),
        };
        let message = generated::OpenFlow {
            endpoint: self.endpoint.as_str().to_owned(),
            direction: self.direction.encode().into(),
            sends: self.sends.as_ref().map(Encoding::encode),
            receives: self.receives.as_ref().map(Encoding::encode),
            message_len_max: self.message_len_max,
            timeout_ms: self.timeout.map_or(0, encode_timeout),
            traceparent,
        };
        encode_frame(&message, buffer);
    }
}

/// Which way the messages of a flow go, as seen by the side that dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the dialling to the accepting side only.
    Send,
    /// From the accepting to the dialling side only.
    Receive,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether the dialling side sends messages.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }

    /// Whether the dialling side receives messages.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    const fn encode(self) -> generated::Direction {
        match self {
            Self::Send => generated::Direction::Send,
            Self::Receive => generated::Direction::Receive,
            Self::Both => generated::Direction::Both,
        }
    }

    fn decode(value: i32) -> Result<Self, FieldFault> {
        match generated::Direction::try_from(value) {
            Ok(generated::Direction::Send) => Ok(Self::Send),
            Ok(generated::Direction::Receive) => Ok(Self::Receive),
            Ok(generated::Direction::Both) => Ok(Self::Both),
            Ok(generated::Direction::Unspecified) | Err(_) => Err(FieldFault::Unknown { value }),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Both => "both",
        })
    }
}

/// How the messages of one direction are encoded. One that exists keeps its limits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding {
    codec: CodecId,
    message_type: String,
}

impl Encoding {
    /// The encoding of messages of a type by a codec; the type is empty where the codec cannot
    /// tell it.
    ///
    /// # Errors
    /// [`FieldFault::TooLong`] if the type's name is longer than [`MESSAGE_TYPE_LEN_MAX`] bytes.
    pub fn new(codec: CodecId, message_type: impl Into<String>) -> Result<Self, FieldFault> {
        Ok(Self {
            codec,
            message_type: bounded(message_type.into(), MESSAGE_TYPE_LEN_MAX)?,
        })
    }

    /// The codec.
    #[must_use]
    pub const fn codec(&self) -> &CodecId {
        &self.codec
    }

    /// What is encoded, or an empty string.
    #[must_use]
    pub fn message_type(&self) -> &str {
        &self.message_type
    }

    /// Whether one side can read what the other writes: the codecs agree, and so do the types if
    /// both sides tell one.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let told = !self.message_type.is_empty() && !other.message_type.is_empty();
        self.codec == other.codec && (!told || self.message_type == other.message_type)
    }

    fn encode(&self) -> generated::Encoding {
        generated::Encoding {
            codec: self.codec.as_str().to_owned(),
            message_type: self.message_type.clone(),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message_type.is_empty() {
            write!(f, "{}", self.codec)
        } else {
            write!(f, "{} of {}", self.codec, self.message_type)
        }
    }
}

/// The first frame of the accepting side of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowAnswer {
    /// The flow is open.
    Accepted {
        /// The longest message that the accepting side takes, in bytes.
        message_len_max: u64,
    },
    /// The flow is refused, and the stream ends.
    Refused(Refusal),
}

/// That a flow is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// A code of the program that refuses, for the program that dialled.
    pub code: Option<u32>,
    /// For people: what was expected, or who holds the name now. At most 512 bytes of it travel.
    pub detail: String,
}

impl FlowAnswer {
    /// Reads what a frame holds.
    ///
    /// # Errors
    /// [`MalformedMessage`] names the first field that breaks a rule.
    pub fn decode(frame: &[u8]) -> Result<Self, MalformedMessage> {
        use generated::flow_answer::Answer;
        let message: generated::FlowAnswer = decode_protobuf(FLOW_ANSWER, frame)?;
        let fault = |field| move |fault: FieldFault| fault.at(FLOW_ANSWER, field);
        match message.answer {
            None => Err(FieldFault::Missing.at(FLOW_ANSWER, "answer")),
            Some(Answer::Accepted(accepted)) => Ok(Self::Accepted {
                message_len_max: accepted.message_len_max,
            }),
            Some(Answer::Refused(refused)) => Ok(Self::Refused(Refusal {
                reason: RefusalReason::decode(refused.reason).map_err(fault("refused.reason"))?,
                code: refused.code,
                detail: bounded(refused.detail, DETAIL_LEN_MAX).map_err(fault("refused.detail"))?,
            })),
        }
    }

    /// Appends the message as a frame.
    pub fn encode(&self, buffer: &mut BytesMut) {
        use generated::flow_answer::Answer;
        let answer = match self {
            Self::Accepted { message_len_max } => Answer::Accepted(generated::FlowAccepted {
                message_len_max: *message_len_max,
            }),
            Self::Refused(Refusal {
                reason,
                code,
                detail,
            }) => Answer::Refused(generated::FlowRefused {
                reason: reason.encode().into(),
                code: *code,
                detail: detail[..detail.floor_char_boundary(DETAIL_LEN_MAX)].to_owned(),
            }),
        };
        encode_frame(
            &generated::FlowAnswer {
                answer: Some(answer),
            },
            buffer,
        );
    }
}

impl Refusal {
    /// A refusal in words.
    pub fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            code: None,
            detail: detail.into(),
        }
    }

    /// With a code that the program at the other end knows what to do about.
    #[must_use]
    pub const fn code(mut self, code: u32) -> Self {
        self.code = Some(code);
        self
    }
}

/// In words: the endpoint does not take flows from that node.
impl From<String> for Refusal {
    fn from(detail: String) -> Self {
        Self::new(RefusalReason::NotAllowed, detail)
    }
}

/// Why a flow was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The node holds no such endpoint.
    NotFound,
    /// The endpoint's accept queue is full.
    Busy,
    /// The node is leaving the fabric.
    ShuttingDown,
    /// The endpoint does not take flows from this node.
    NotAllowed,
    /// The endpoint expects another codec, message type or direction.
    Mismatch,
    /// Another node holds the name now.
    Moved,
    /// The task that took the flow from the queue dropped it.
    Declined,
}

impl RefusalReason {
    const fn encode(self) -> generated::RefusalReason {
        match self {
            Self::NotFound => generated::RefusalReason::NotFound,
            Self::Busy => generated::RefusalReason::Busy,
            Self::ShuttingDown => generated::RefusalReason::ShuttingDown,
            Self::NotAllowed => generated::RefusalReason::NotAllowed,
            Self::Mismatch => generated::RefusalReason::Mismatch,
            Self::Moved => generated::RefusalReason::Moved,
            Self::Declined => generated::RefusalReason::Declined,
        }
    }

    fn decode(value: i32) -> Result<Self, FieldFault> {
        use generated::RefusalReason as Wire;
        match Wire::try_from(value) {
            Ok(Wire::NotFound) => Ok(Self::NotFound),
            Ok(Wire::Busy) => Ok(Self::Busy),
            Ok(Wire::ShuttingDown) => Ok(Self::ShuttingDown),
            Ok(Wire::NotAllowed) => Ok(Self::NotAllowed),
            Ok(Wire::Mismatch) => Ok(Self::Mismatch),
            Ok(Wire::Moved) => Ok(Self::Moved),
            Ok(Wire::Declined) => Ok(Self::Declined),
            Ok(Wire::Unspecified) | Err(_) => Err(FieldFault::Unknown { value }),
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotFound => "the node holds no such endpoint",
            Self::Busy => "the endpoint's accept queue is full",
            Self::ShuttingDown => "the node is leaving the fabric",
            Self::NotAllowed => "the endpoint does not take flows from this node",
            Self::Mismatch => "the endpoint expects another codec, message type or direction",
            Self::Moved => "another node holds the name now",
            Self::Declined => "the flow was accepted and then dropped",
        })
    }
}

/// The wire form of an address: its IP address and port.
pub(crate) fn encode_address(address: SocketAddr) -> generated::Address {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    generated::Address {
        ip,
        port: address.port().into(),
    }
}

/// Reads an address.
pub(crate) fn decode_address(
    address: Option<generated::Address>,
) -> Result<SocketAddr, FieldFault> {
    let Some(generated::Address { ip, port }) = address else {
        return Err(FieldFault::Missing);
    };
    let ip = if let Ok(octets) = <[u8; 4]>::try_from(&ip[..]) {
        IpAddr::from(octets)
    } else if let Ok(octets) = <[u8; 16]>::try_from(&ip[..]) {
        IpAddr::from(octets)
    } else {
        return Err(FieldFault::IpLength { length: ip.len() });
    };
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(SocketAddr::new(ip, port)),
        Ok(_) | Err(_) => Err(FieldFault::Port { port }),
    }
}

fn name<N>(
    name: String,
    parse: impl FnOnce(String) -> Result<N, InvalidName>,
) -> Result<N, FieldFault> {
    parse(name).map_err(FieldFault::Name)
}

fn decode_encoding(
    encoding: Option<generated::Encoding>,
    expected: bool,
) -> Result<Option<Encoding>, FieldFault> {
    match encoding {
        Some(encoding) if expected => {
            Encoding::new(CodecId::new(encoding.codec)?, encoding.message_type).map(Some)
        }
        Some(_) => Err(FieldFault::Unexpected),
        None if expected => Err(FieldFault::Missing),
        None => Ok(None),
    }
}

fn bounded(string: String, limit: usize) -> Result<String, FieldFault> {
    match string.len() {
        length if length > limit => Err(FieldFault::TooLong { length, limit }),
        _ => Ok(string),
    }
}

/// Rounds up, as zero stands for ever; what is beyond half a billion years is cut.
fn encode_timeout(timeout: Duration) -> u64 {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000).max(1);
    u64::try_from(milliseconds).unwrap_or(u64::MAX)
}

fn encode_frame(message: &impl Message, buffer: &mut BytesMut) {
    let length = message.encoded_len();
    buffer.reserve(length_len(length) + length);
    message
        .encode_length_delimited(buffer)
        .expect("the buffer grows as needed");
}

const HELLO: &str = "Hello";
const OPEN_FLOW: &str = "OpenFlow";
const FLOW_ANSWER: &str = "FlowAnswer";

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frame::FrameDecoder;

    #[test]
    fn hello_names_the_field_that_is_wrong() {
        let good = hello();
        assert!(Hello::decode(&good.encode_to_vec()).is_ok());
        let fault = |change: fn(&mut generated::Hello)| {
            let mut hello = good.clone();
            change(&mut hello);
            Hello::decode(&hello.encode_to_vec()).unwrap_err()
        };
        let address = |ip: &[u8], port| generated::Address {
            ip: ip.to_vec(),
            port,
        };
        assert_eq!(
            fault(|hello| hello.fabric.clear()),
            FieldFault::Name(InvalidName::Empty).at("Hello", "fabric"),
        );
        assert_eq!(
            fault(|hello| hello.node = "a".repeat(129)),
            FieldFault::Name(InvalidName::TooLong { length: 129 }).at("Hello", "node"),
        );
        assert_eq!(
            fault(|hello| hello.address = None),
            FieldFault::Missing.at("Hello", "address")
        );
        for (wrong, expected) in [
            (address(&[1; 5], 1), FieldFault::IpLength { length: 5 }),
            (address(&[], 1), FieldFault::IpLength { length: 0 }),
            (address(&[1; 4], 0), FieldFault::Port { port: 0 }),
            (address(&[1; 16], 65536), FieldFault::Port { port: 65536 }),
        ] {
            assert_eq!(decode_address(Some(wrong)), Err(expected));
        }
    }

    #[test]
    fn a_hello_of_another_protocol_still_decodes() {
        let other = generated::Hello {
            protocol: 7,
            ..hello()
        };
        assert_eq!(
            Hello::decode(&other.encode_to_vec()).map(|hello| hello.protocol),
            Ok(7)
        );
    }

    #[test]
    fn open_flow_names_the_field_that_is_wrong() {
        let good = open_flow();
        assert!(OpenFlow::decode(&good.encode_to_vec()).is_ok());
        let fault = |change: fn(&mut generated::OpenFlow)| {
            let mut open = good.clone();
            change(&mut open);
            OpenFlow::decode(&open.encode_to_vec()).unwrap_err()
        };
        let at = |fault: FieldFault, field| fault.at("OpenFlow", field);
        assert_eq!(
            fault(|open| open.endpoint = "a/b".into()),
            at(
                InvalidName::Character {
                    name: "a/b".into(),
                    character: '/'
                }
                .into(),
                "endpoint"
            ),
        );
        assert_eq!(
            fault(|open| open.direction = 0),
            at(FieldFault::Unknown { value: 0 }, "direction")
        );
        assert_eq!(
            fault(|open| open.direction = 4),
            at(FieldFault::Unknown { value: 4 }, "direction")
        );
        assert_eq!(
            fault(|open| open.sends = None),
            at(FieldFault::Missing, "sends")
        );
        assert_eq!(
            fault(|open| open.receives = None),
            at(FieldFault::Missing, "receives")
        );
        assert_eq!(
            fault(|open| open.direction = 1),
            at(FieldFault::Unexpected, "receives")
        );
        assert_eq!(
            fault(|open| open.direction = 2),
            at(FieldFault::Unexpected, "sends")
        );
        assert_eq!(
            fault(|open| open.sends.as_mut().unwrap().codec = "JSON".into()),
            at(CodecId::new("JSON").unwrap_err().into(), "sends"),
        );
        assert_eq!(
            fault(|open| open.sends.as_mut().unwrap().message_type = "t".repeat(257)),
            at(
                FieldFault::TooLong {
                    length: 257,
                    limit: 256
                },
                "sends"
            ),
        );
        assert_eq!(
            fault(|open| open.traceparent = "0".repeat(65)),
            at(
                FieldFault::TooLong {
                    length: 65,
                    limit: 64
                },
                "traceparent"
            ),
        );
    }

    #[test]
    fn flow_answer_names_the_field_that_is_wrong() {
        use generated::flow_answer::Answer;
        let refused = |reason, detail: String| {
            let answer = Answer::Refused(generated::FlowRefused {
                reason,
                detail,
                code: None,
            });
            FlowAnswer::decode(
                &generated::FlowAnswer {
                    answer: Some(answer),
                }
                .encode_to_vec(),
            )
        };
        let at = |fault: FieldFault, field| Err(fault.at("FlowAnswer", field));
        assert_eq!(FlowAnswer::decode(b""), at(FieldFault::Missing, "answer"));
        for value in [0, 8, -1] {
            let unknown = FieldFault::Unknown { value };
            assert_eq!(refused(value, String::new()), at(unknown, "refused.reason"));
        }
        assert!(refused(1, "d".repeat(512)).is_ok());
        assert_eq!(
            refused(1, "d".repeat(513)),
            at(
                FieldFault::TooLong {
                    length: 513,
                    limit: 512
                },
                "refused.detail"
            ),
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_told_from_a_wrong_field() {
        let error = Hello::decode(&[0xff; 20]).unwrap_err();
        assert!(matches!(
            error.fault,
            crate::wire::malformed::Fault::Undecodable { .. }
        ));
        assert!(
            error.to_string().starts_with("malformed Hello: "),
            "{error}"
        );
        let error = FieldFault::Port { port: 0 }.at("Hello", "address");
        assert_eq!(
            error.to_string(),
            "malformed Hello: address: 0 is not a port from 1 to 65535"
        );
    }

    #[test]
    fn what_does_not_fit_the_wire_is_cut_where_its_doc_says() {
        let detail = "é".repeat(300);
        let answer = FlowAnswer::Refused(Refusal::new(RefusalReason::Moved, detail));
        let detail = "é".repeat(256);
        let cut = FlowAnswer::Refused(Refusal::new(RefusalReason::Moved, detail));
        assert_eq!(
            FlowAnswer::decode(&unframe(|buffer| answer.encode(buffer))),
            Ok(cut)
        );

        let mut open = OpenFlow::decode(&open_flow().encode_to_vec()).unwrap();
        open.traceparent = "0".repeat(65);
        open.timeout = Some(Duration::from_nanos(1));
        let arrived = OpenFlow::decode(&unframe(|buffer| open.encode(buffer))).unwrap();
        assert_eq!(arrived.traceparent, "");
        assert_eq!(arrived.timeout, Some(Duration::from_millis(1)));

        open.timeout = Some(Duration::MAX);
        let arrived = OpenFlow::decode(&unframe(|buffer| open.encode(buffer))).unwrap();
        assert_eq!(arrived.timeout, Some(Duration::from_millis(u64::MAX)));
    }

    #[test]
    fn encodings_agree_unless_both_tell_and_differ() {
        let encoding = |codec, message_type| Encoding {
            codec: CodecId::from_static(codec),
            message_type: String::from(message_type),
        };
        assert!(encoding("json", "").agrees_with(&encoding("json", "A")));
        assert!(encoding("json", "A").agrees_with(&encoding("json", "A")));
        assert!(!encoding("json", "A").agrees_with(&encoding("json", "B")));
        assert!(!encoding("json", "").agrees_with(&encoding("bytes", "")));
        assert_eq!(encoding("json", "A").to_string(), "json of A");
    }

    proptest! {
        #[test]
        fn a_hello_decodes_to_itself(hello in any_hello()) {
            prop_assert_eq!(Hello::decode(&unframe(|buffer| hello.encode(buffer))), Ok(hello));
        }

        #[test]
        fn an_open_flow_decodes_to_itself(open in any_open_flow()) {
            prop_assert_eq!(OpenFlow::decode(&unframe(|buffer| open.encode(buffer))), Ok(open));
        }

        #[test]
        fn a_flow_answer_decodes_to_itself(answer in any_answer()) {
            let again = FlowAnswer::decode(&unframe(|buffer| answer.encode(buffer)));
            prop_assert_eq!(again, Ok(answer));
        }

        #[test]
        fn whatever_decodes_decodes_to_itself(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(hello) = Hello::decode(&bytes) {
                prop_assert_eq!(Hello::decode(&unframe(|buffer| hello.encode(buffer))), Ok(hello));
            }
            if let Ok(open) = OpenFlow::decode(&bytes) {
                prop_assert_eq!(OpenFlow::decode(&unframe(|buffer| open.encode(buffer))), Ok(open));
            }
            if let Ok(answer) = FlowAnswer::decode(&bytes) {
                let again = FlowAnswer::decode(&unframe(|buffer| answer.encode(buffer)));
                prop_assert_eq!(again, Ok(answer));
            }
        }
    }

    fn hello() -> generated::Hello {
        generated::Hello {
            protocol: 1,
            fabric: "default".into(),
            node: "node-1".into(),
            session: 5,
            address: Some(encode_address("192.0.2.1:7654".parse().unwrap())),
        }
    }

    fn open_flow() -> generated::OpenFlow {
        let encoding = || generated::Encoding {
            codec: "json".into(),
            message_type: "t".into(),
        };
        generated::OpenFlow {
            endpoint: "svc".into(),
            direction: 3,
            sends: Some(encoding()),
            receives: Some(encoding()),
            message_len_max: 1024,
            timeout_ms: 250,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        }
    }

    prop_compose! {
        fn any_hello()(
            protocol: u32,
            fabric in "[A-Za-z0-9.-]{1,128}",
            node in "[A-Za-z0-9.-]{1,128}",
            session: u64,
            ip: IpAddr,
            port in 1..=u16::MAX,
        ) -> Hello {
            Hello {
                protocol,
                fabric: FabricName::new(fabric).unwrap(),
                node: NodeName::new(node).unwrap(),
                session: Session(session),
                address: SocketAddr::new(ip, port),
            }
        }
    }

    prop_compose! {
        fn any_open_flow()(
            endpoint in "[A-Za-z0-9.-]{1,128}",
            direction in prop_oneof![
                Just(Direction::Send), Just(Direction::Receive), Just(Direction::Both)
            ],
            sends in any_encoding(),
            receives in any_encoding(),
            message_len_max: u64,
            timeout in option::of((1..=u64::MAX).prop_map(Duration::from_millis)),
            traceparent in "[ -~]{0,64}",
        ) -> OpenFlow {
            OpenFlow {
                endpoint: EndpointName::new(endpoint).unwrap(),
                direction,
                sends: direction.sends().then_some(sends),
                receives: direction.receives().then_some(receives),
                message_len_max,
                timeout,
                traceparent,
            }
        }
    }

    prop_compose! {
        fn any_encoding()(codec in "[a-z0-9-]{1,32}", message_type in "\\PC{0,64}") -> Encoding {
            Encoding::new(CodecId::new(codec).unwrap(), message_type).unwrap()
        }
    }

    fn any_answer() -> impl Strategy<Value = FlowAnswer> {
        let refused =
            (1..=7, any::<Option<u32>>(), "\\PC{0,128}").prop_map(|(reason, code, detail)| {
                FlowAnswer::Refused(Refusal {
                    reason: RefusalReason::decode(reason).unwrap(),
                    code,
                    detail,
                })
            });
        let accepted =
            any::<u64>().prop_map(|message_len_max| FlowAnswer::Accepted { message_len_max });
        prop_oneof![accepted, refused]
    }

    /// What is in the one frame that `encode` writes.
    fn unframe(encode: impl FnOnce(&mut BytesMut)) -> bytes::Bytes {
        let mut buffer = BytesMut::new();
        encode(&mut buffer);
        let mut decoder = FrameDecoder::new(64 * 1024);
        decoder.push(buffer.freeze());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert!(decoder.is_empty());
        frame
    }
}

//! Messages: what decodes is valid, costs little, and encodes to itself.

use std::fmt::Debug;

use arbitrary::Unstructured;
use bytes::BytesMut;
use grinta_proto::wire::control::ControlMessage;
use grinta_proto::wire::frame::FrameDecoder;
use grinta_proto::wire::malformed::MalformedMessage;
use grinta_proto::wire::stream::{FlowAnswer, Hello, OpenFlow};

use crate::budget::within_budget;
use crate::speech;

/// Any bytes, after one that says as which message: decoding is cheap, what decodes encodes to
/// itself, and to no more than what came.
///
/// # Panics
/// If a law is broken.
pub fn control_messages(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else {
        return;
    };
    match which % 5 {
        0 => assert_encodes_to_itself(bytes),
        1 => first_frame(bytes, Hello::decode, Hello::encode),
        2 => first_frame(bytes, OpenFlow::decode, OpenFlow::encode),
        3 => first_frame(bytes, FlowAnswer::decode, FlowAnswer::encode),
        _ => {
            // A message that some node might send, so that mutations begin close to the truth.
            let Ok(message) = speech::message(&mut Unstructured::new(bytes)) else {
                return;
            };
            let mut encoded = BytesMut::new();
            message.encode(&mut encoded);
            assert_eq!(encoded.len(), message.encoded_len());
            assert_eq!(ControlMessage::decode(&encoded).as_ref(), Ok(&message));
            assert_encodes_to_itself(&encoded);
        }
    }
}

/// What decodes as a control message encodes to itself, and to no more than what came.
pub(crate) fn assert_encodes_to_itself(bytes: &[u8]) {
    let Ok(message) = within_budget(bytes.len(), || ControlMessage::decode(bytes)) else {
        return;
    };
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded);
    assert_eq!(encoded.len(), message.encoded_len());
    // A list of one number may come without a length, and is written with one.
    assert!(encoded.len() <= bytes.len() + 1, "{message:?} grew");
    assert_eq!(ControlMessage::decode(&encoded), Ok(message));
}

/// `encode` writes a whole frame; the message is what is behind its length.
fn first_frame<M: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<M, MalformedMessage>,
    encode: impl Fn(&M, &mut BytesMut),
) {
    let Ok(message) = within_budget(bytes.len(), || decode(bytes)) else {
        return;
    };
    let mut frame = BytesMut::new();
    encode(&message, &mut frame);
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.push(frame.freeze());
    let encoded = decoder.next_frame().ok().flatten().expect("it is a frame");
    assert!(decoder.is_empty());
    assert!(encoded.len() <= bytes.len(), "{message:?} grew");
    assert_eq!(decode(&encoded), Ok(message));
}

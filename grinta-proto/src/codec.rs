//! Codecs: how the messages of a flow become bytes, and bytes become messages.
//!
//! A flow names the codec of each direction, and what it encodes, when it opens; two sides that do
//! not agree never exchange a message. Here are [`Raw`] bytes and text, [`Protobuf`], and behind
//! features `Json` and `Postcard`. Any other encoding is an implementation of [`Codec`] away.

use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};

/// Longest name of a message type, in bytes: room for a path with its parameters, or any digest.
pub const MESSAGE_TYPE_LEN_MAX: usize = 256;

/// Encodes and decodes messages of type `T`.
///
/// A codec holds no state of a flow: every message stands for itself, and one codec serves many
/// flows at once. It can be used as `Arc<dyn Codec<T>>`.
///
/// # Example
///
/// A codec for temperatures, two bytes each:
///
/// ```
/// use std::borrow::Cow;
///
/// use bytes::{BufMut, Bytes, BytesMut};
/// use grinta_proto::{Codec, CodecError, CodecId};
///
/// #[derive(Debug, PartialEq)]
/// struct Temperature {
///     decikelvin: u16,
/// }
///
/// #[derive(Debug, Clone, Copy)]
/// struct Sensor;
///
/// const SENSOR: CodecId = CodecId::from_static("sensor");
///
/// impl Codec<Temperature> for Sensor {
///     fn id(&self) -> CodecId {
///         SENSOR
///     }
///
///     fn message_type(&self) -> Cow<'static, str> {
///         "temperature/1".into()
///     }
///
///     fn encode(&self, message: &Temperature, buffer: &mut BytesMut) -> Result<(), CodecError> {
///         buffer.put_u16(message.decikelvin);
///         Ok(())
///     }
///
///     fn decode(&self, frame: Bytes) -> Result<Temperature, CodecError> {
///         let bytes = frame[..].try_into().map_err(|_| {
///             CodecError::decode(SENSOR, format_args!("{} bytes instead of 2", frame.len()))
///         })?;
///         Ok(Temperature { decikelvin: u16::from_be_bytes(bytes) })
///     }
/// }
///
/// let mut buffer = BytesMut::new();
/// Sensor.encode(&Temperature { decikelvin: 2931 }, &mut buffer)?;
/// assert_eq!(Sensor.decode(buffer.freeze())?, Temperature { decikelvin: 2931 });
/// assert_eq!(
///     Sensor.decode(Bytes::new()).unwrap_err().to_string(),
///     "the codec sensor could not decode a message: 0 bytes instead of 2",
/// );
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec<T>: Send + Sync + 'static {
    /// Names the encoding. The two sides of a flow must name the same.
    fn id(&self) -> CodecId;

    /// Tells what is encoded, where the codec can: a name, a version or a digest of the schema, of
    /// at most [`MESSAGE_TYPE_LEN_MAX`] bytes. Two sides that both tell must tell the same. An
    /// empty string, the default, agrees with all.
    fn message_type(&self) -> Cow<'static, str> {
        Cow::Borrowed("")
    }

    /// Appends the encoding of `message` to `buffer`, which may hold other messages.
    ///
    /// # Errors
    /// [`CodecError`] if the message has no encoding. What was appended by then is discarded.
    fn encode(&self, message: &T, buffer: &mut BytesMut) -> Result<(), CodecError>;

    /// How long the encoding of `message` is, in bytes. A flow within the process, whose values
    /// move as they are, holds it against the same limits as a flow to another node.
    ///
    /// By default the message is encoded to find out; tell it cheaper where that is possible.
    ///
    /// # Errors
    /// [`CodecError`] if the message has no encoding.
    fn encoded_len(&self, message: &T) -> Result<usize, CodecError> {
        let mut buffer = BytesMut::new();
        self.encode(message, &mut buffer)?;
        Ok(buffer.len())
    }

    /// The encoding of `message`, if the message already is or holds it: it is then sent without a
    /// copy, and [`encode`](Self::encode) is not called.
    fn encoded(&self, message: &T) -> Option<Bytes> {
        let _ = message;
        None
    }

    /// Decodes the message that fills `frame`. The message may keep slices of the frame; each keeps
    /// the buffer in which it arrived.
    ///
    /// # Errors
    /// [`CodecError`] if the frame is not exactly one message. The frame comes from a peer: no
    /// content of it may cause a panic.
    fn decode(&self, frame: Bytes) -> Result<T, CodecError>;
}

/// Names an encoding: 1 to 32 characters of `[a-z0-9-]`, for example `json`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodecId(Cow<'static, str>);

impl CodecId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`InvalidCodecId`] says which rule the string breaks.
    pub fn new(id: impl Into<Cow<'static, str>>) -> Result<Self, InvalidCodecId> {
        let id = id.into();
        if id.is_empty() {
            return Err(InvalidCodecId::Empty);
        }
        if id.len() > CODEC_ID_LEN_MAX {
            return Err(InvalidCodecId::TooLong { length: id.len() });
        }
        match id.chars().find(|c| !u8::try_from(*c).is_ok_and(is_allowed)) {
            Some(character) => Err(InvalidCodecId::Character {
                id: id.into_owned(),
                character,
            }),
            None => Ok(Self(id)),
        }
    }

    /// An id that is known when the program is written. In a `const`, a wrong one does not compile.
    ///
    /// # Panics
    /// If the string is not an id.
    #[must_use]
    pub const fn from_static(id: &'static str) -> Self {
        let bytes = id.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= CODEC_ID_LEN_MAX,
            "a codec's id needs 1 to 32 characters",
        );
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                is_allowed(bytes[at]),
                "a codec's id has characters of [a-z0-9-] only"
            );
            at += 1;
        }
        Self(Cow::Borrowed(id))
    }

    /// The id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a string is not the id of a codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCodecId {
    /// The string is empty.
    #[error("a codec's id is empty; it needs 1 to {CODEC_ID_LEN_MAX} characters of [a-z0-9-]")]
    Empty,
    /// The string is too long.
    #[error("a codec's id is {length} bytes long; the longest allowed is {CODEC_ID_LEN_MAX}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The string holds a character outside `[a-z0-9-]`.
    #[error("the codec's id {id:?} holds {character:?}; allowed are [a-z0-9-]")]
    Character {
        /// The whole string.
        id: String,
        /// The first character that is not allowed.
        character: char,
    },
}

/// A message that a codec could not encode or decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the codec {codec} could not {operation} a message: {reason}")]
#[non_exhaustive]
pub struct CodecError {
    /// Which codec.
    pub codec: CodecId,
    /// What it was asked to do.
    pub operation: CodecOperation,
    /// What failed, in the codec's words.
    pub reason: String,
}

impl CodecError {
    /// A message has no encoding: the sender's fault.
    #[must_use]
    pub fn encode(codec: CodecId, reason: impl fmt::Display) -> Self {
        Self {
            codec,
            operation: CodecOperation::Encode,
            reason: reason.to_string(),
        }
    }

    /// A frame is not a message: the peer's fault.
    #[must_use]
    pub fn decode(codec: CodecId, reason: impl fmt::Display) -> Self {
        Self {
            codec,
            operation: CodecOperation::Decode,
            reason: reason.to_string(),
        }
    }
}

/// What a codec was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodecOperation {
    /// To turn a message into bytes.
    Encode,
    /// To turn bytes into a message.
    Decode,
}

impl fmt::Display for CodecOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Encode => "encode",
            Self::Decode => "decode",
        })
    }
}

/// Messages that are their own encoding: [`Bytes`], sent and received without a copy, `Vec<u8>`,
/// and `String`, whose UTF-8 is checked on arrival. The three can be mixed: a flow may be opened
/// with one and accepted with another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn id(&self) -> CodecId {
        RAW
    }

    fn encode(&self, message: &Bytes, buffer: &mut BytesMut) -> Result<(), CodecError> {
        buffer.extend_from_slice(message);
        Ok(())
    }

    fn encoded_len(&self, message: &Bytes) -> Result<usize, CodecError> {
        Ok(message.len())
    }

    fn encoded(&self, message: &Bytes) -> Option<Bytes> {
        Some(message.clone())
    }

    fn decode(&self, frame: Bytes) -> Result<Bytes, CodecError> {
        Ok(frame)
    }
}

impl Codec<Vec<u8>> for Raw {
    fn id(&self) -> CodecId {
        RAW
    }

    fn encode(&self, message: &Vec<u8>, buffer: &mut BytesMut) -> Result<(), CodecError> {
        buffer.extend_from_slice(message);
        Ok(())
    }

    fn encoded_len(&self, message: &Vec<u8>) -> Result<usize, CodecError> {
        Ok(message.len())
    }

    fn decode(&self, frame: Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(frame.into())
    }
}

impl Codec<String> for Raw {
    fn id(&self) -> CodecId {
        RAW
    }

    fn encode(&self, message: &String, buffer: &mut BytesMut) -> Result<(), CodecError> {
        buffer.extend_from_slice(message.as_bytes());
        Ok(())
    }

    fn encoded_len(&self, message: &String) -> Result<usize, CodecError> {
        Ok(message.len())
    }

    fn decode(&self, frame: Bytes) -> Result<String, CodecError> {
        String::from_utf8(frame.into()).map_err(|error| CodecError::decode(RAW, error))
    }
}

/// Protobuf, for any [`prost::Message`]. Its `bytes::Bytes` fields are slices of the frame.
///
/// The wire format does not name its schema, so another message's bytes may decode as one's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protobuf;

impl<T: prost::Message + Default> Codec<T> for Protobuf {
    fn id(&self) -> CodecId {
        PROTOBUF
    }

    fn encode(&self, message: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
        message
            .encode(buffer)
            .map_err(|error| CodecError::encode(PROTOBUF, error))
    }

    fn encoded_len(&self, message: &T) -> Result<usize, CodecError> {
        Ok(message.encoded_len())
    }

    fn decode(&self, frame: Bytes) -> Result<T, CodecError> {
        T::decode(frame).map_err(|error| CodecError::decode(PROTOBUF, error))
    }
}

/// JSON, for any type that serde can serialize and deserialize.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn id(&self) -> CodecId {
        JSON
    }

    fn encode(&self, message: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
        serde_json::to_writer(bytes::BufMut::writer(buffer), message)
            .map_err(|error| CodecError::encode(JSON, error))
    }

    fn encoded_len(&self, message: &T) -> Result<usize, CodecError> {
        let mut counter = Counter(0);
        serde_json::to_writer(&mut counter, message)
            .map_err(|error| CodecError::encode(JSON, error))?;
        Ok(counter.0)
    }

    fn decode(&self, frame: Bytes) -> Result<T, CodecError> {
        serde_json::from_slice(&frame).map_err(|error| CodecError::decode(JSON, error))
    }
}

/// Postcard, for any type that serde can serialize and deserialize. A frame must be one message
/// from its first byte to its last.
///
/// The format does not describe itself: both sides need the same definition of the type, down to
/// the order of its fields.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Postcard {
    fn id(&self) -> CodecId {
        POSTCARD
    }

    fn encode(&self, message: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
        postcard::serialize_with_flavor(message, Appender(buffer))
            .map_err(|error| CodecError::encode(POSTCARD, error))
    }

    fn encoded_len(&self, message: &T) -> Result<usize, CodecError> {
        postcard::serialize_with_flavor(message, Counter(0))
            .map_err(|error| CodecError::encode(POSTCARD, error))
    }

    fn decode(&self, frame: Bytes) -> Result<T, CodecError> {
        let (message, rest) = postcard::take_from_bytes(&frame)
            .map_err(|error| CodecError::decode(POSTCARD, error))?;
        if !rest.is_empty() {
            let reason = format_args!("{} bytes are left after it", rest.len());
            return Err(CodecError::decode(POSTCARD, reason));
        }
        Ok(message)
    }
}

/// Lets postcard append to a buffer that it does not own.
#[cfg(feature = "postcard")]
struct Appender<'a>(&'a mut BytesMut);

#[cfg(feature = "postcard")]
impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Counts what is encoded, and keeps nothing of it.
#[cfg(any(feature = "json", feature = "postcard"))]
struct Counter(usize);

#[cfg(feature = "json")]
impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "postcard")]
impl postcard::ser_flavors::Flavor for Counter {
    type Output = usize;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 += bytes.len();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.0)
    }
}

const fn is_allowed(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

const CODEC_ID_LEN_MAX: usize = 32;
const RAW: CodecId = CodecId::from_static("bytes");
const PROTOBUF: CodecId = CodecId::from_static("protobuf");
#[cfg(feature = "json")]
const JSON: CodecId = CodecId::from_static("json");
#[cfg(feature = "postcard")]
const POSTCARD: CodecId = CodecId::from_static("postcard");

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_travel_without_a_copy() {
        let message = Bytes::from(vec![1, 2, 3]);
        let encoded = Raw.encoded(&message).unwrap();
        let decoded: Bytes = Raw.decode(encoded).unwrap();
        assert_eq!(decoded.as_ptr(), message.as_ptr());
        assert_eq!(Codec::<Vec<u8>>::encoded(&Raw, &vec![1]), None);
    }

    #[test]
    fn text_and_bytes_mix_unless_the_bytes_are_no_text() {
        let text = String::from("grüezi");
        assert_eq!(
            Codec::<Vec<u8>>::decode(&Raw, encode(&Raw, &text)).unwrap(),
            text.as_bytes()
        );
        assert_eq!(there_and_back(&Raw, &text), Ok(text));

        let error = Codec::<String>::decode(&Raw, Bytes::from_static(b"\xff")).unwrap_err();
        assert_eq!(error.operation, CodecOperation::Decode);
        assert_eq!(
            error.to_string(),
            "the codec bytes could not decode a message: \
             invalid utf-8 sequence of 1 bytes from index 0",
        );
    }

    #[test]
    fn encoding_appends() {
        let mut buffer = BytesMut::from("before ");
        Raw.encode(&String::from("after"), &mut buffer).unwrap();
        Protobuf.encode(&true, &mut buffer).unwrap();
        assert_eq!(buffer, b"before after\x08\x01"[..]);
    }

    #[test]
    fn protobuf_refuses_what_is_no_message() {
        let message = Pair {
            number: 7,
            text: "seven".into(),
        };
        assert_eq!(there_and_back(&Protobuf, &message), Ok(message));
        let error = Codec::<Pair>::decode(&Protobuf, Bytes::from_static(b"\x08")).unwrap_err();
        assert_eq!(
            (error.codec, error.operation),
            (PROTOBUF, CodecOperation::Decode)
        );
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_is_one_document_and_says_what_is_wrong() {
        let message = (7, String::from("seven"));
        assert_eq!(there_and_back(&Json, &message), Ok(message.clone()));
        assert_eq!(encode(&Json, &message), r#"[7,"seven"]"#);

        let trailing = Bytes::from_static(b"1 2");
        let error = Codec::<u8>::decode(&Json, trailing).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the codec json could not decode a message: trailing characters at line 1 column 3",
        );
        let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
        let error = Json.encode(&keys, &mut BytesMut::new()).unwrap_err();
        assert_eq!(
            (error.codec, error.operation),
            (JSON, CodecOperation::Encode)
        );
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn postcard_uses_the_whole_frame_and_leaves_what_was_in_the_buffer() {
        let message = (300_u16, String::from("seven"));
        assert_eq!(there_and_back(&Postcard, &message), Ok(message.clone()));

        let mut buffer = BytesMut::from("before");
        Postcard.encode(&message, &mut buffer).unwrap();
        assert_eq!(buffer, b"before\xac\x02\x05seven"[..]);

        let error = Codec::<bool>::decode(&Postcard, Bytes::from_static(b"\x01\x00")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the codec postcard could not decode a message: 1 bytes are left after it",
        );
        assert!(Codec::<bool>::decode(&Postcard, Bytes::new()).is_err());
    }

    #[test]
    fn a_length_is_told_without_the_encoding_and_so_is_what_has_none() {
        fn agrees<T>(codec: &impl Codec<T>, message: &T) {
            assert_eq!(codec.encoded_len(message), Ok(encode(codec, message).len()));
        }
        let pair = Pair {
            number: 300,
            text: "seven".into(),
        };
        agrees(&Raw, &String::from("grüezi"));
        agrees(&Raw, &Bytes::from_static(b"bytes"));
        agrees(&Protobuf, &pair);
        #[cfg(feature = "json")]
        {
            agrees(&Json, &(7, String::from("\"seven\"\n")));
            let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
            assert!(Json.encoded_len(&keys).is_err());
        }
        #[cfg(feature = "postcard")]
        agrees(&Postcard, &(300_u16, String::from("seven")));
    }

    #[test]
    fn codecs_are_told_apart_by_their_ids_and_shared_as_objects() {
        let shared: Arc<dyn Codec<String>> = Arc::new(Raw);
        assert_eq!(shared.id().as_str(), "bytes");
        assert_eq!(shared.message_type(), "");
        assert_eq!(Codec::<Pair>::id(&Protobuf).as_str(), "protobuf");
        #[cfg(feature = "json")]
        assert_eq!(Codec::<String>::id(&Json).as_str(), "json");
        #[cfg(feature = "postcard")]
        assert_eq!(Codec::<String>::id(&Postcard).as_str(), "postcard");
    }

    #[test]
    fn the_rules_of_an_id_and_their_edges() {
        assert_eq!(CodecId::new(""), Err(InvalidCodecId::Empty));
        assert_eq!(
            CodecId::new("a".repeat(33)),
            Err(InvalidCodecId::TooLong { length: 33 })
        );
        assert!(CodecId::new("a".repeat(32)).is_ok());
        assert_eq!(
            CodecId::new("Json"),
            Err(InvalidCodecId::Character {
                id: "Json".into(),
                character: 'J'
            }),
        );
    }

    proptest! {
        #[test]
        fn exactly_the_documented_ids_are_accepted(id in ".{0,40}") {
            let expected = (1..=32).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            prop_assert_eq!(CodecId::new(id).is_ok(), expected);
        }

        #[test]
        fn no_frame_makes_a_codec_panic(frame: Vec<u8>) {
            let frame = Bytes::from(frame);
            let _ = Codec::<String>::decode(&Raw, frame.clone());
            let _ = Codec::<Pair>::decode(&Protobuf, frame.clone());
            #[cfg(feature = "json")]
            let _ = Codec::<(u8, Vec<String>)>::decode(&Json, frame.clone());
            #[cfg(feature = "postcard")]
            let _ = Codec::<(u8, Vec<String>)>::decode(&Postcard, frame);
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Pair {
        #[prost(uint32, tag = "1")]
        number: u32,
        #[prost(string, tag = "2")]
        text: String,
    }

    fn encode<T>(codec: &impl Codec<T>, message: &T) -> Bytes {
        let mut buffer = BytesMut::new();
        codec.encode(message, &mut buffer).unwrap();
        buffer.freeze()
    }

    fn there_and_back<T>(codec: &impl Codec<T>, message: &T) -> Result<T, CodecError> {
        codec.decode(encode(codec, message))
    }
}

//! Requests and answers in their envelopes, and the codec that puts them there.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::codec::{Codec, CodecError, CodecId};
use crate::wire::call::CallHead;
use crate::wire::stream::DETAIL_LEN_MAX;

/// What the dialling side of a flow of calls sends.
#[derive(Debug)]
pub(crate) enum Ask<Q> {
    Call {
        id: u64,
        timeout: Option<Duration>,
        request: Q,
    },
    Cancel {
        id: u64,
    },
}

/// What the accepting side of a flow of calls sends.
#[derive(Debug)]
pub(crate) enum Reply<A> {
    Answer { id: u64, answer: A },
    Refusal { id: u64, code: u32, detail: String },
    Dropped { id: u64 },
}

/// Encodes messages in their envelopes.
pub(crate) struct Enveloping<T> {
    codec: Arc<dyn Codec<T>>,
}

impl<T: 'static> Enveloping<T> {
    pub(crate) fn new(codec: Arc<dyn Codec<T>>) -> Self {
        Self { codec }
    }

    /// The codec's id marked as that of calls. One of full length loses its end, on both sides
    /// alike.
    fn marked_id(&self) -> CodecId {
        let id = format!("call-{}", self.codec.id());
        let length = id.len().min(CODEC_ID_LEN_MAX);
        CodecId::new(id[..length].to_owned()).expect("a mark and the start of an id are an id")
    }

    fn malformed(&self) -> CodecError {
        CodecError::decode(self.marked_id(), "the envelope of a call is malformed")
    }
}

impl<Q: 'static> Codec<Ask<Q>> for Enveloping<Q> {
    fn id(&self) -> CodecId {
        self.marked_id()
    }

    fn message_type(&self) -> Cow<'static, str> {
        self.codec.message_type()
    }

    fn encode(&self, message: &Ask<Q>, buffer: &mut BytesMut) -> Result<(), CodecError> {
        message.head().encode(buffer);
        match message {
            Ask::Call { request, .. } => encode_body(&*self.codec, request, buffer),
            Ask::Cancel { .. } => Ok(()),
        }
    }

    fn encoded_len(&self, message: &Ask<Q>) -> Result<usize, CodecError> {
        let body = match message {
            Ask::Call { request, .. } => self.codec.encoded_len(request)?,
            Ask::Cancel { .. } => 0,
        };
        Ok(head_len(message.head()) + body)
    }

    fn decode(&self, mut frame: Bytes) -> Result<Ask<Q>, CodecError> {
        match CallHead::decode(&mut frame) {
            Some(CallHead::Call { id, timeout }) => Ok(Ask::Call {
                id,
                timeout,
                request: self.codec.decode(frame)?,
            }),
            Some(CallHead::Cancel { id }) => Ok(Ask::Cancel { id }),
            Some(CallHead::Answer { .. } | CallHead::Refusal { .. } | CallHead::Dropped { .. })
            | None => Err(self.malformed()),
        }
    }
}

impl<A: 'static> Codec<Reply<A>> for Enveloping<A> {
    fn id(&self) -> CodecId {
        self.marked_id()
    }

    fn message_type(&self) -> Cow<'static, str> {
        self.codec.message_type()
    }

    fn encode(&self, message: &Reply<A>, buffer: &mut BytesMut) -> Result<(), CodecError> {
        message.head().encode(buffer);
        match message {
            Reply::Answer { answer, .. } => encode_body(&*self.codec, answer, buffer),
            Reply::Refusal { detail, .. } => {
                buffer.extend_from_slice(detail.as_bytes());
                Ok(())
            }
            Reply::Dropped { .. } => Ok(()),
        }
    }

    fn encoded_len(&self, message: &Reply<A>) -> Result<usize, CodecError> {
        let body = match message {
            Reply::Answer { answer, .. } => self.codec.encoded_len(answer)?,
            Reply::Refusal { detail, .. } => detail.len(),
            Reply::Dropped { .. } => 0,
        };
        Ok(head_len(message.head()) + body)
    }

    fn decode(&self, mut frame: Bytes) -> Result<Reply<A>, CodecError> {
        match CallHead::decode(&mut frame) {
            Some(CallHead::Answer { id }) => Ok(Reply::Answer {
                id,
                answer: self.codec.decode(frame)?,
            }),
            Some(CallHead::Refusal { id, code }) if frame.len() <= DETAIL_LEN_MAX => {
                let detail = String::from_utf8(frame.into()).map_err(|_| self.malformed())?;
                Ok(Reply::Refusal { id, code, detail })
            }
            Some(CallHead::Dropped { id }) => Ok(Reply::Dropped { id }),
            Some(CallHead::Call { .. } | CallHead::Cancel { .. } | CallHead::Refusal { .. })
            | None => Err(self.malformed()),
        }
    }
}

impl<Q> Ask<Q> {
    const fn head(&self) -> CallHead {
        match self {
            Self::Call { id, timeout, .. } => CallHead::Call {
                id: *id,
                timeout: *timeout,
            },
            Self::Cancel { id } => CallHead::Cancel { id: *id },
        }
    }
}

impl<A> Reply<A> {
    const fn head(&self) -> CallHead {
        match self {
            Self::Answer { id, .. } => CallHead::Answer { id: *id },
            Self::Refusal { id, code, .. } => CallHead::Refusal {
                id: *id,
                code: *code,
            },
            Self::Dropped { id } => CallHead::Dropped { id: *id },
        }
    }
}

fn encode_body<T: 'static>(
    codec: &dyn Codec<T>,
    message: &T,
    buffer: &mut BytesMut,
) -> Result<(), CodecError> {
    match codec.encoded(message) {
        Some(body) => {
            buffer.extend_from_slice(&body);
            Ok(())
        }
        None => codec.encode(message, buffer),
    }
}

fn head_len(head: CallHead) -> usize {
    let mut head_bytes = Vec::with_capacity(HEAD_LEN_MAX);
    head.encode(&mut head_bytes);
    head_bytes.len()
}

/// As that of all codecs.
const CODEC_ID_LEN_MAX: usize = 32;
/// A kind and two varints.
const HEAD_LEN_MAX: usize = 21;

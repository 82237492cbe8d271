//! The envelope of calls: what stands before a request or an answer on a flow of calls.
//!
//! A call is a request from the dialling side and, in any order with others, one answer from the
//! accepting side. Each message of such a flow is one of these; numbers are protobuf varints in
//! their shortest form, `body` is what the flow's own codec makes of the program's message:
//!
//! | message | from | bytes |
//! |---|---|---|
//! | call | dialler | `1`, id, time-out in milliseconds or 0 for none, body |
//! | cancel | dialler | `2`, id |
//! | answer | acceptor | `3`, id, body |
//! | refusal | acceptor | `4`, id, code, detail as UTF-8 of at most 512 bytes |
//! | dropped | acceptor | `5`, id |
//!
//! Ids of calls ascend. A call is answered by at most one message; a cancelled one may be answered
//! or not. The codec's id on the wire is `call-` and the id of the flow's own, so that a flow of
//! calls and one of plain messages are never taken for each other.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use crate::wire::frame::{decode_varint, encode_varint};

/// What stands before the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallHead {
    /// A request; it has a body.
    Call { id: u64, timeout: Option<Duration> },
    /// The answer is not wanted any more.
    Cancel { id: u64 },
    /// An answer; it has a body.
    Answer { id: u64 },
    /// The program refused; the body is its words.
    Refusal { id: u64, code: u32 },
    /// The program dropped the request.
    Dropped { id: u64 },
}

impl CallHead {
    /// Appends it.
    pub(crate) fn encode(self, buffer: &mut impl BufMut) {
        match self {
            Self::Call { id, timeout } => {
                buffer.put_u8(CALL);
                encode_varint(id, buffer);
                encode_varint(timeout.map_or(0, milliseconds), buffer);
            }
            Self::Cancel { id } => {
                buffer.put_u8(CANCEL);
                encode_varint(id, buffer);
            }
            Self::Answer { id } => {
                buffer.put_u8(ANSWER);
                encode_varint(id, buffer);
            }
            Self::Refusal { id, code } => {
                buffer.put_u8(REFUSAL);
                encode_varint(id, buffer);
                encode_varint(code.into(), buffer);
            }
            Self::Dropped { id } => {
                buffer.put_u8(DROPPED);
                encode_varint(id, buffer);
            }
        }
    }

    /// Takes it off a message; the body is left. `None` if it is none.
    pub(crate) fn decode(message: &mut Bytes) -> Option<Self> {
        let kind = message.try_get_u8().ok()?;
        let id = take_varint(message)?;
        let head = match kind {
            CALL => {
                let timeout = take_varint(message)?;
                let timeout = (timeout > 0).then(|| Duration::from_millis(timeout));
                return Some(Self::Call { id, timeout });
            }
            ANSWER => return Some(Self::Answer { id }),
            REFUSAL => {
                let code = u32::try_from(take_varint(message)?).ok()?;
                return Some(Self::Refusal { id, code });
            }
            CANCEL => Self::Cancel { id },
            DROPPED => Self::Dropped { id },
            _ => return None,
        };
        message.is_empty().then_some(head)
    }
}

fn take_varint(message: &mut Bytes) -> Option<u64> {
    let (value, length) = decode_varint(message.iter().copied()).ok()??;
    message.advance(length);
    Some(value)
}

/// Whole milliseconds, rounded up, so that a time-out never becomes none.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

const CALL: u8 = 1;
const CANCEL: u8 = 2;
const ANSWER: u8 = 3;
const REFUSAL: u8 = 4;
const DROPPED: u8 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_head() -> impl Strategy<Value = CallHead> {
        prop_oneof![
            (any::<u64>(), proptest::option::of(1..u64::MAX)).prop_map(|(id, timeout)| {
                let timeout = timeout.map(Duration::from_millis);
                CallHead::Call { id, timeout }
            }),
            any::<u64>().prop_map(|id| CallHead::Cancel { id }),
            any::<u64>().prop_map(|id| CallHead::Answer { id }),
            any::<(u64, u32)>().prop_map(|(id, code)| CallHead::Refusal { id, code }),
            any::<u64>().prop_map(|id| CallHead::Dropped { id }),
        ]
    }

    #[test]
    fn a_time_out_is_rounded_up_and_never_becomes_none() {
        let timeout = Some(Duration::from_nanos(1));
        let mut buffer = Vec::new();
        CallHead::Call { id: 1, timeout }.encode(&mut buffer);
        let timeout = Some(Duration::from_millis(1));
        assert_eq!(
            CallHead::decode(&mut buffer.into()),
            Some(CallHead::Call { id: 1, timeout })
        );
    }

    #[test]
    fn what_has_no_body_may_not_have_one() {
        assert_eq!(
            CallHead::decode(&mut Bytes::from_static(&[CANCEL, 1, 0])),
            None
        );
        assert_eq!(CallHead::decode(&mut Bytes::from_static(&[6, 1])), None);
        assert_eq!(CallHead::decode(&mut Bytes::new()), None);
    }

    proptest! {
        #[test]
        fn a_head_decodes_to_itself_and_leaves_the_body(head in any_head(), body: Vec<u8>) {
            let has_body = !matches!(head, CallHead::Cancel { .. } | CallHead::Dropped { .. });
            let body = if has_body { body } else { Vec::new() };
            let mut buffer = Vec::new();
            head.encode(&mut buffer);
            buffer.extend_from_slice(&body);
            let mut message = Bytes::from(buffer);
            prop_assert_eq!(CallHead::decode(&mut message), Some(head));
            prop_assert_eq!(message, body);
        }

        #[test]
        fn no_message_makes_it_panic(message: Vec<u8>) {
            let _ = CallHead::decode(&mut message.into());
        }
    }
}

//! What messages consist of: a function of their flow and their number.

use bytes::{BufMut, Bytes, BytesMut};

use crate::draw::mix;

/// Message `number` of a flow: the two numbers, and bytes that follow from them.
pub(super) fn content(flow: u32, number: u32, length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(length.max(CONTENT_LEN_MIN) + 8);
    bytes.put_u32_le(flow);
    bytes.put_u32_le(number);
    let mut word = u64::from(flow) << 32 | u64::from(number);
    while bytes.len() < length {
        word = mix(word.wrapping_add(1));
        bytes.put_u64_le(word);
    }
    bytes.truncate(length.max(CONTENT_LEN_MIN));
    bytes.freeze()
}

/// The two numbers that a message begins with.
pub(super) fn numbers_of(message: &[u8]) -> Option<(u32, u32)> {
    let (flow, rest) = message.split_first_chunk()?;
    let number = rest.first_chunk()?;
    Some((u32::from_le_bytes(*flow), u32::from_le_bytes(*number)))
}

/// Every message has its numbers.
const CONTENT_LEN_MIN: usize = 8;

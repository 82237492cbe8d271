//! A look at the lists of a control message before anything is decoded.
//!
//! An entry that says nothing takes two bytes on the wire and far more than a hundred once it is
//! decoded, and only then is it found to be invalid. So a frame of such entries is refused here:
//! no entry is shorter than the shortest that is valid, and memory follows what arrived.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::wire::malformed::{FieldFault, MalformedMessage};

/// Refuses a `ControlMessage` with an entry that is shorter than any valid one. Of what is not
/// protobuf it says nothing: the decoder will.
pub(super) fn check(bytes: &[u8]) -> Result<(), MalformedMessage> {
    check_lists(bytes, CONTROL_MESSAGE)
}

/// A field that holds messages, and what is in them.
struct List {
    tag: u32,
    message: &'static str,
    field: &'static str,
    /// The length of the shortest valid message, in bytes.
    entry_len_min: usize,
    within: &'static [Self],
}

fn check_lists(mut bytes: &[u8], lists: &[List]) -> Result<(), MalformedMessage> {
    while !bytes.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut bytes) else {
            return Ok(());
        };
        if wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).is_err() {
                return Ok(());
            }
            continue;
        }
        let length = decode_varint(&mut bytes).map(usize::try_from);
        let Ok(Ok(length)) = length else {
            return Ok(());
        };
        let Some((entry, rest)) = bytes.split_at_checked(length) else {
            return Ok(());
        };
        bytes = rest;
        if let Some(list) = lists.iter().find(|list| list.tag == tag) {
            if length < list.entry_len_min {
                let limit = list.entry_len_min;
                return Err(FieldFault::TooShort { length, limit }.at(list.message, list.field));
            }
            check_lists(entry, list.within)?;
        }
    }
    Ok(())
}

const CONTROL_MESSAGE: &[List] = &[
    kind(1, &[list(2, "SwimPacket", "updates", UPDATE, &[])]),
    kind(
        2,
        &[
            list(1, "Rumour", "deltas", NAMED, CLAIMS),
            list(2, "Rumour", "heads", NAMED, &[]),
            list(3, "Rumour", "labels", NAMED, &[]),
        ],
    ),
    kind(5, &[list(1, "MemberList", "members", UPDATE, &[])]),
    kind(6, &[list(2, "NameHeads", "heads", NAMED, &[])]),
    kind(7, &[list(1, "NamePull", "heads", NAMED, &[])]),
    kind(
        8,
        &[
            list(1, "Names", "deltas", NAMED, CLAIMS),
            list(2, "Names", "heads", NAMED, &[]),
        ],
    ),
];

const CLAIMS: &[List] = &[list(6, "OwnerDelta", "claims", NAMED, &[])];

/// A name of one character.
const NAMED: usize = 3;
/// An identity of such a name with an IPv4 address and a port, and a state.
const UPDATE: usize = 17;

const fn kind(tag: u32, within: &'static [List]) -> List {
    list(tag, "ControlMessage", "kind", 0, within)
}

const fn list(
    tag: u32,
    message: &'static str,
    field: &'static str,
    entry_len_min: usize,
    within: &'static [List],
) -> List {
    List {
        tag,
        message,
        field,
        entry_len_min,
        within,
    }
}

//! What is wrong with a message that a peer sent: the message, the field and the fault.

use crate::codec::InvalidCodecId;
use crate::name::InvalidName;

/// A message that does not keep to the contract. The peer's fault; nothing of it was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {message}: {fault}")]
pub struct MalformedMessage {
    /// The message, by its name in the contract.
    pub message: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are not an encoding of the message.
    #[error("{reason}")]
    Undecodable {
        /// What the protobuf decoder says.
        reason: String,
    },
    /// One field breaks its rule.
    #[error("{field}: {fault}")]
    Field {
        /// The field, by its name in the contract.
        field: &'static str,
        /// The rule that it breaks.
        fault: FieldFault,
    },
}

/// Which rule a field breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldFault {
    /// It must be there.
    #[error("is missing")]
    Missing,
    /// Another field says that it must not be there.
    #[error("must be absent")]
    Unexpected,
    /// It is not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// It has too many entries.
    #[error("has {count} entries; the most allowed is {limit}")]
    TooMany {
        /// How many it has.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Its number is too large.
    #[error("is {value}; the greatest allowed is {limit}")]
    TooLarge {
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not the id of a codec.
    #[error(transparent)]
    CodecId(#[from] InvalidCodecId),
    /// It is too long.
    #[error("has {length} bytes; the longest allowed is {limit}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// It has another length than it must have.
    #[error("has {length} bytes; it must have {expected}")]
    Length {
        /// Its length, in bytes.
        length: usize,
        /// The length that it must have, in bytes.
        expected: usize,
    },
    /// It is not an IP address.
    #[error("has {length} bytes; an IP address has 4 or 16")]
    IpLength {
        /// Its length, in bytes.
        length: usize,
    },
    /// It is not a port that can be dialled.
    #[error("{port} is not a port from 1 to 65535")]
    Port {
        /// Its value.
        port: u32,
    },
    /// It holds a value that the contract does not know, or none.
    #[error("{value} is not a known value")]
    Unknown {
        /// Its number.
        value: i32,
    },
}

impl FieldFault {
    /// The fault of `message`, in `field`.
    #[must_use]
    pub const fn at(self, message: &'static str, field: &'static str) -> MalformedMessage {
        MalformedMessage {
            message,
            fault: Fault::Field { field, fault: self },
        }
    }
}

/// Decodes the protobuf form of `message`, before anything in it is looked at.
pub(super) fn decode_protobuf<M: prost::Message + Default>(
    message: &'static str,
    bytes: &[u8],
) -> Result<M, MalformedMessage> {
    M::decode(bytes).map_err(|error| undecodable(message, &error))
}

/// The fault of bytes that are no encoding of `message`.
pub(super) fn undecodable(message: &'static str, error: &prost::DecodeError) -> MalformedMessage {
    MalformedMessage {
        message,
        fault: Fault::Undecodable {
            reason: error.to_string(),
        },
    }
}

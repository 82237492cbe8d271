//! Application error codes: what a QUIC connection or stream is closed with.
//!
//! Their numbers are part of the contract and never change meaning. Those below 0x100 are the
//! fabric's own, grouped with gaps: connections from 0x00, streams from 0x40. A program's code `n`
//! travels as `0x100 + n`, so that any `u32` fits, small ones stay short, and neither can be taken
//! for the other.

use std::fmt;

/// A number that is none of the fabric's codes, nor one of a program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0:#x} is not a code of this version; the peer may be of a later one")]
pub struct UnknownCode(
    /// The number.
    pub u64,
);

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a connection or a stream was closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])+ $name,)+
            /// A stream: a program's own code.
            User(u32),
            /// A number that means nothing to this version, from a peer of a later one. It is for
            /// reading only: nothing is closed with it.
            Unknown(u64),
        }

        impl Code {
            /// The number that travels. Every one fits a QUIC integer.
            #[must_use]
            pub const fn to_wire(self) -> u64 {
                match self {
                    $(Self::$name => $number,)+
                    Self::User(code) => USER_BASE + code as u64,
                    Self::Unknown(number) if number > QUIC_MAX => QUIC_MAX,
                    Self::Unknown(number) => number,
                }
            }

            /// What a number that arrived means.
            #[must_use]
            pub fn from_wire(number: u64) -> Self {
                Self::try_from(number).unwrap_or(Self::Unknown(number))
            }
        }

        impl TryFrom<u64> for Code {
            type Error = UnknownCode;

            fn try_from(number: u64) -> Result<Self, UnknownCode> {
                match number {
                    $($number => Ok(Self::$name),)+
                    _ => number
                        .checked_sub(USER_BASE)
                        .and_then(|code| u32::try_from(code).ok())
                        .map(Self::User)
                        .ok_or(UnknownCode(number)),
                }
            }
        }

        impl fmt::Display for Code {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.pad($text),)+
                    Self::User(code) => write!(f, "the program closed it with code {code}"),
                    Self::Unknown(number) => write!(f, "{}", UnknownCode(*number)),
                }
            }
        }

        #[cfg(test)]
        const OWN: &[Code] = &[$(Code::$name),+];
    };
}

codes! {
    /// A connection: closed in good order.
    Closed = 0x00, "closed in good order";
    /// A connection: the node left the fabric.
    Left = 0x01, "the node left the fabric";
    /// A connection: another one to the same peer is kept.
    Duplicate = 0x02, "another connection to this peer is kept";
    /// A connection: the closing node holds the other for failed.
    Down = 0x03, "the node that closed it holds the other for down";
    /// A connection: nothing used it, and the node has many.
    Unused = 0x04, "nothing used the connection";

    /// A connection: the certificate does not carry the name that the node goes by.
    NameNotCertified = 0x10, "the node's certificate does not carry its name";
    /// A connection: another node was dialled than the one that answered.
    NameMismatch = 0x11, "another node answered than the one that was dialled";
    /// A connection: two live nodes go by one name.
    IdentityConflict = 0x12, "another live node goes by this name";
    /// A connection: the nodes belong to different fabrics.
    WrongFabric = 0x13, "the nodes belong to different fabrics";
    /// A connection: the nodes speak different versions of the contract.
    WrongProtocol = 0x14, "the nodes speak different versions of the protocol";
    /// A connection: the node's certificate was revoked.
    Revoked = 0x15, "the node's certificate was revoked";
    /// A connection: a rule of the program keeps the node out.
    NotAdmitted = 0x16, "a rule of the program keeps the node out";

    /// A connection: a control message broke the contract.
    ControlViolation = 0x20, "a control message broke the protocol";
    /// A connection: the handshake was not complete in time.
    HandshakeTimeout = 0x21, "the handshake was not complete in time";
    /// A connection: the node has as many as it may have.
    TooManyConnections = 0x22, "the node has as many connections as it may have";
    /// A connection: the peer holds more names than a node may.
    TooManyNames = 0x23, "the node holds more names than one may";
    /// A connection: the peer told names of a node that this one did not sign.
    ForgedNames = 0x24, "names were told that their owner did not sign";
    /// A connection: the peer said more than a node has to say, for too long.
    TooMuchControl = 0x25, "the node sent more control messages than one has to send";
    /// A connection: the node's own fault.
    Internal = 0x2f, "the node that closed it failed inside";

    /// A stream: the handle at the other end was dropped before the flow was finished.
    Cancelled = 0x40, "the handle at the other end was dropped";
    /// A stream: nobody reads what is sent; the receiver was dropped, or there is none.
    NoReader = 0x41, "nobody reads what is sent";
    /// A stream: the flow was accepted and then dropped.
    Declined = 0x42, "the flow was accepted and then dropped";
    /// A stream: the dialling side waited for the answer as long as it would.
    TimedOut = 0x43, "the dialling side stopped waiting for the answer";
    /// A stream: the node is leaving the fabric.
    ShuttingDown = 0x44, "the node is leaving the fabric";

    /// A stream: the first frame is longer than the limit.
    FirstFrameTooLong = 0x50, "the first frame is longer than the limit";
    /// A stream: the first frame broke the contract.
    FirstFrameMalformed = 0x51, "the first frame broke the protocol";
    /// A stream: the first frame was not complete in time.
    FirstFrameTimeout = 0x52, "the first frame was not complete in time";
    /// A stream: it ended inside its first frame.
    FirstFrameTruncated = 0x53, "the stream ended inside its first frame";

    /// A stream: a message is longer than the receiving side takes.
    MessageTooLong = 0x60, "a message is longer than the receiving side takes";
    /// A stream: the codec could not decode a message, or a frame's length broke the contract.
    MessageMalformed = 0x61, "a message could not be decoded";
}

impl From<Code> for u64 {
    fn from(code: Code) -> Self {
        code.to_wire()
    }
}

const USER_BASE: u64 = 0x100;
const QUIC_MAX: u64 = (1 << 62) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_numbers_are_pinned() {
        let pinned = OWN
            .iter()
            .map(|&code| (code.to_wire(), format!("{code:?}")));
        let pinned: Vec<_> = pinned
            .map(|(number, name)| format!("{number:02x} {name}"))
            .collect();
        assert_eq!(
            pinned,
            [
                "00 Closed",
                "01 Left",
                "02 Duplicate",
                "03 Down",
                "04 Unused",
                "10 NameNotCertified",
                "11 NameMismatch",
                "12 IdentityConflict",
                "13 WrongFabric",
                "14 WrongProtocol",
                "15 Revoked",
                "16 NotAdmitted",
                "20 ControlViolation",
                "21 HandshakeTimeout",
                "22 TooManyConnections",
                "23 TooManyNames",
                "24 ForgedNames",
                "25 TooMuchControl",
                "2f Internal",
                "40 Cancelled",
                "41 NoReader",
                "42 Declined",
                "43 TimedOut",
                "44 ShuttingDown",
                "50 FirstFrameTooLong",
                "51 FirstFrameMalformed",
                "52 FirstFrameTimeout",
                "53 FirstFrameTruncated",
                "60 MessageTooLong",
                "61 MessageMalformed",
            ],
        );
    }

    #[test]
    fn the_numbers_ascend_below_those_of_programs_and_round_trip() {
        assert!(OWN.is_sorted_by(|a, b| a.to_wire() < b.to_wire()));
        for &code in OWN {
            assert!(code.to_wire() < USER_BASE);
            assert_eq!(Code::try_from(u64::from(code)), Ok(code));
            assert!(!code.to_string().is_empty());
        }
    }

    #[test]
    fn the_codes_of_programs_have_edges() {
        assert_eq!(Code::User(0).to_wire(), 0x100);
        assert_eq!(Code::try_from(0x1_0000_00ff), Ok(Code::User(u32::MAX)));
        assert_eq!(
            Code::try_from(0x1_0000_0100),
            Err(UnknownCode(0x1_0000_0100))
        );
        assert_eq!(Code::try_from(0xff), Err(UnknownCode(0xff)));
        assert_eq!(Code::try_from(u64::MAX), Err(UnknownCode(u64::MAX)));
    }

    #[test]
    fn a_code_of_a_later_version_is_kept_for_reading() {
        assert_eq!(Code::from_wire(0x40), Code::Cancelled);
        assert_eq!(Code::from_wire(0x7f), Code::Unknown(0x7f));
        assert_eq!(Code::from_wire(0x7f).to_wire(), 0x7f);
        assert!(Code::from_wire(0x7f).to_string().contains("0x7f"));
        let greatest = quinn_proto::VarInt::MAX.into_inner();
        assert_eq!(Code::Unknown(u64::MAX).to_wire(), greatest);
    }

    proptest! {
        #[test]
        fn every_code_of_a_program_round_trips_as_a_quic_integer(code: u32) {
            let number = Code::User(code).to_wire();
            prop_assert_eq!(Code::try_from(number), Ok(Code::User(code)));
            prop_assert!(quinn_proto::VarInt::from_u64(number).is_ok());
        }
    }
}

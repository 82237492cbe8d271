//! Names and identities, parsed once at the border and trusted inside.
//!
//! A [`NodeName`], an [`EndpointName`] or a [`FabricName`] that exists is valid: one to 128
//! characters of `[A-Za-z0-9.-]`. The three are different types so that one is never taken for
//! another. They are cheap to clone (one shared string) and order as their bytes do.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name, in bytes. A name travels in every gossip update about its holder, and eight of
/// the longest updates still fit a datagram of 1,200 bytes.
pub const NAME_LEN_MAX: usize = 128;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The string is empty.
    #[error("a name is empty; it needs 1 to {NAME_LEN_MAX} characters of [A-Za-z0-9.-]")]
    Empty,
    /// The string is longer than [`NAME_LEN_MAX`] bytes.
    #[error("a name is {length} bytes long; the longest allowed is {NAME_LEN_MAX}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The string holds a character outside `[A-Za-z0-9.-]`.
    #[error("the name {name:?} holds {character:?}; allowed are [A-Za-z0-9.-]")]
    Character {
        /// The whole string.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            /// [`InvalidName`] says which rule the string breaks.
            pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
                parse(name.as_ref()).map(Self)
            }

            /// The name as a string.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// The name of a node: its identity, proved by its certificate.
    NodeName
}

name_type! {
    /// The name of an endpoint.
    EndpointName
}

name_type! {
    /// The name of a fabric. Nodes of different fabrics refuse each other.
    FabricName
}

impl Default for FabricName {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

/// One run of a node's process. Orders restarts: the greater session is the later run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Session(pub u64);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

fn parse(name: &str) -> Result<Arc<str>, InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(InvalidName::TooLong { length: name.len() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    match name.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(InvalidName::Character {
            name: name.to_owned(),
            character,
        }),
        None => Ok(Arc::from(name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rules_and_their_edges() {
        assert_eq!(NodeName::new(""), Err(InvalidName::Empty));
        assert_eq!(
            NodeName::new("a".repeat(129)),
            Err(InvalidName::TooLong { length: 129 })
        );
        assert_eq!(
            EndpointName::new("a/b"),
            Err(InvalidName::Character {
                name: "a/b".into(),
                character: '/'
            }),
        );
        assert!(EndpointName::new("é").is_err());
        assert_eq!(EndpointName::new("A-z.09").unwrap().as_str(), "A-z.09");
        assert!(FabricName::new("a".repeat(128)).is_ok());
    }

    proptest! {
        #[test]
        fn exactly_the_documented_set_is_accepted(name in ".{0,140}") {
            let expected = (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
            prop_assert_eq!(EndpointName::new(&name).is_ok(), expected);
        }
    }
}

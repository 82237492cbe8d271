//! Signatures of owners' heads: what is signed, and whoever can sign and verify it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::name::{EndpointName, FabricName, NodeName};
use crate::wire::claims::{OwnerHead, Root};

/// Signs in this node's name, and verifies what others signed in theirs. It performs no effects, and
/// answers the same question the same way, but for the randomness of some signatures.
pub trait Notary: fmt::Debug + Send + Sync {
    /// The certificate by which others verify what this node signs, with all that leads from it to
    /// a CA, as `OwnerCertificate` has it.
    fn chain(&self) -> Bytes;

    /// Signs a statement. `None` if the key cannot.
    fn sign(&self, statement: &[u8]) -> Option<Signature>;

    /// Whether a chain certifies a node of this name at `unix_time`, the time since the Unix epoch.
    fn is_certified(&self, node: &NodeName, chain: &[u8], unix_time: Duration) -> bool;

    /// Of these names, those that the holder of a certificate may not hold, and why. All nodes say
    /// the same.
    fn forbidden(
        &self,
        _node: &NodeName,
        _chain: &[u8],
        _names: &mut dyn Iterator<Item = &EndpointName>,
    ) -> BTreeMap<EndpointName, String> {
        BTreeMap::new()
    }

    /// Whether the holder of a certificate signed a statement.
    fn is_signed(&self, chain: &[u8], statement: &[u8], signature: &Signature) -> bool;
}

/// What a key makes of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How it is made, as TLS 1.3 numbers it.
    pub scheme: u16,
    /// The signature.
    pub bytes: Bytes,
}

/// What an owner signs of its set at a head.
pub(super) fn statement(fabric: &FabricName, head: &OwnerHead, root: Root) -> Vec<u8> {
    let mut statement = CONTEXT.to_vec();
    for name in [fabric.as_str(), head.owner.as_str()] {
        let length = u16::try_from(name.len()).expect("names are short");
        statement.extend(length.to_be_bytes());
        statement.extend(name.as_bytes());
    }
    for number in [head.session.0, head.version.0, head.floor.0] {
        statement.extend(number.to_be_bytes());
    }
    statement.extend(root.0);
    statement
}

/// What TLS 1.3 signs with the same key begins with 64 spaces.
const CONTEXT: &[u8] = b"grinta owner head 1\0";

//! Names are signed with the key that a node shows in TLS, and verified as its certificates are.

use std::time::Duration;

use bytes::Bytes;

use crate::name::NodeName;
use crate::node::control::{Notary, Signature};
use crate::tls::Credentials;

impl Notary for Credentials {
    fn chain(&self) -> Bytes {
        self.chain_der().into()
    }

    fn sign(&self, statement: &[u8]) -> Option<Signature> {
        let (scheme, signature) = Self::sign(self, statement)?;
        Some(Signature {
            scheme,
            bytes: signature.into(),
        })
    }

    fn is_certified(&self, node: &NodeName, chain: &[u8], unix_time: Duration) -> bool {
        self.certifies(node, chain, unix_time)
    }

    fn is_signed(&self, chain: &[u8], statement: &[u8], signature: &Signature) -> bool {
        self.verifies(chain, statement, signature.scheme, &signature.bytes)
    }
}

//! Signatures that cost next to nothing: a node's key is its name, and no node of this tier lies.

use std::time::Duration;

use bytes::Bytes;
use grinta_proto::NodeName;
use grinta_proto::node::control::{Notary, Signature};
use ring::hmac;

/// Signs as one node. Certificates and signatures are as long as those of real ones.
#[derive(Debug)]
pub(super) struct Seal(pub(super) NodeName);

impl Notary for Seal {
    fn chain(&self) -> Bytes {
        chain(&self.0).into()
    }

    fn sign(&self, statement: &[u8]) -> Option<Signature> {
        let bytes = hmac::sign(&key(&chain(&self.0)), statement);
        Some(Signature {
            scheme: 0x0807,
            bytes: Bytes::copy_from_slice(bytes.as_ref()),
        })
    }

    fn is_certified(&self, node: &NodeName, certificate: &[u8], _unix_time: Duration) -> bool {
        chain(node) == certificate
    }

    fn is_signed(&self, certificate: &[u8], statement: &[u8], signature: &Signature) -> bool {
        hmac::verify(&key(certificate), statement, &signature.bytes).is_ok()
    }
}

fn chain(node: &NodeName) -> Vec<u8> {
    let mut chain = node.as_str().as_bytes().to_vec();
    chain.resize(CHAIN_LEN, 0);
    chain
}

fn key(chain: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA512, chain)
}

/// As one of a certificate for an Ed25519 key, and no intermediates.
const CHAIN_LEN: usize = 500;

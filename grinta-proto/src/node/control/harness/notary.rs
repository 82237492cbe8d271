//! A notary of no cost: whose keys follow from their names, so that nobody may see them. And owners
//! that do not run, whose sets others tell.

use std::time::Duration;

use bytes::Bytes;
use ring::hmac;

use super::super::directory::{ClaimMode, Directory, DirectoryLimits};
use super::super::notary::statement;
use super::super::proofs::id_of;
use super::super::{Notary, Signature};
use super::UNIX;
use crate::name::{EndpointName, FabricName, NodeName, Session};
use crate::wire::claims::{
    CertificateId, HeadProof, OwnerCertificate, OwnerDelta, OwnerHead, Version,
};
use crate::wire::control::Names;

/// Signs as one node. Certificates and signatures are as long as those of real ones.
#[derive(Debug, Clone)]
pub(in crate::node::control) struct Seal {
    node: NodeName,
    /// Tells the keys of one node apart.
    key: u8,
    /// The key whose certificates are no good.
    pub(in crate::node::control) distrusted: Option<u8>,
}

impl Seal {
    pub(in crate::node::control) fn new(node: NodeName, key: u8) -> Self {
        Self {
            node,
            key,
            distrusted: None,
        }
    }
}

impl Notary for Seal {
    fn chain(&self) -> Bytes {
        let mut chain = self.node.as_str().as_bytes().to_vec();
        chain.resize(CHAIN_LEN - 1, 0);
        chain.push(self.key);
        chain.into()
    }

    fn sign(&self, statement: &[u8]) -> Option<Signature> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, &self.chain());
        let bytes = Bytes::copy_from_slice(hmac::sign(&key, statement).as_ref());
        Some(Signature {
            scheme: 0x0807,
            bytes,
        })
    }

    fn is_certified(&self, node: &NodeName, chain: &[u8], _unix_time: Duration) -> bool {
        let Some(&key) = chain.last() else {
            return false;
        };
        Self::new(node.clone(), key).chain() == chain && self.distrusted != Some(key)
    }

    fn is_signed(&self, chain: &[u8], statement: &[u8], signature: &Signature) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA512, chain);
        hmac::verify(&key, statement, &signature.bytes).is_ok()
    }
}

/// An owner, its set and its key, without a node around it.
#[derive(Debug)]
pub(in crate::node) struct Signer {
    pub(in crate::node) directory: Directory,
    pub(in crate::node) seal: Box<dyn Notary>,
}

impl Signer {
    pub(in crate::node) fn new(node: NodeName, session: Session) -> Self {
        let seal = Seal::new(node.clone(), 1);
        Self::by(Box::new(seal), node, session)
    }

    pub(in crate::node) fn by(seal: Box<dyn Notary>, node: NodeName, session: Session) -> Self {
        let directory = Directory::new(node, session, DirectoryLimits::default());
        Self { directory, seal }
    }

    pub(in crate::node) fn claim(&mut self, name: EndpointName) {
        let claimed = self.directory.claim(name, ClaimMode::Exclusive, UNIX);
        claimed.unwrap();
    }

    pub(in crate::node) fn head(&self) -> OwnerHead {
        self.directory.head(self.directory.local())
    }

    /// Its signature of its set as it is.
    pub(in crate::node) fn proof(&mut self) -> HeadProof {
        let (head, root) = (self.head(), self.directory.local_root());
        let signature = self
            .seal
            .sign(&statement(&FabricName::default(), &head, root))
            .unwrap();
        HeadProof {
            root,
            certificate: id_of(&self.seal.chain()),
            scheme: signature.scheme,
            signature: signature.bytes,
        }
    }

    /// What a replica lacks that reaches to `known`, signed.
    pub(in crate::node) fn delta(&mut self, known: &OwnerHead) -> OwnerDelta {
        let delta = self.directory.delta_for(known, usize::MAX).unwrap();
        OwnerDelta {
            proof: Some(Box::new(self.proof())),
            ..delta
        }
    }

    /// All of it, signed.
    pub(in crate::node) fn all(&mut self) -> OwnerDelta {
        let known = OwnerHead {
            version: Version(0),
            ..self.head()
        };
        self.delta(&known)
    }

    pub(in crate::node) fn certificate(&self) -> OwnerCertificate {
        OwnerCertificate {
            owner: self.directory.local().clone(),
            chain: self.seal.chain(),
        }
    }

    /// A delta on its way, with the certificate.
    pub(in crate::node) fn names(&self, delta: OwnerDelta) -> Names {
        Names {
            deltas: vec![delta],
            heads: Vec::new(),
            token: 0,
            truncated: false,
            certificates: vec![self.certificate()],
        }
    }
}

/// Tells a certificate from others.
pub(in crate::node) fn certificate_id(chain: &[u8]) -> CertificateId {
    id_of(chain)
}

/// As one of a certificate for an Ed25519 key, and no intermediates.
const CHAIN_LEN: usize = 500;

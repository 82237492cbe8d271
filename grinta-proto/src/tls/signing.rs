//! Signatures with a node's key besides those of its handshakes, and their verification by its
//! certificate.

use std::time::Duration;

use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use super::names::{alternative_names, certified_names};
use super::verifier::Role;
use super::{Credentials, PeerVerifier};
use crate::name::NodeName;

/// What a key makes of a message: the number of the scheme in TLS 1.3, and the signature.
pub(crate) type Signed = (u16, Vec<u8>);

impl Credentials {
    /// Signs a message, which must not be one that TLS signs.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Signed> {
        let algorithms = &self.provider().signature_verification_algorithms;
        let signer = self
            .certified()
            .key
            .choose_scheme(&algorithms.supported_schemes())?;
        let signature = signer.sign(message).ok()?;
        Some((signer.scheme().into(), signature))
    }

    /// Whether a chain in DER, leaf first, certifies a node of this name at `unix_time`, the time
    /// since the Unix epoch.
    pub(crate) fn certifies(&self, node: &NodeName, chain: &[u8], unix_time: Duration) -> bool {
        let time = UnixTime::since_unix_epoch(unix_time);
        let Some(chain) = split(chain) else {
            return false;
        };
        let Some((leaf, intermediates)) = chain.split_first() else {
            return false;
        };
        certified_names(leaf).is_ok_and(|names| names.contains(node))
            && self
                .verifier()
                .verify(leaf, intermediates, time, Role::Server)
                .is_ok()
    }

    /// Whether the holder of the first certificate of a chain signed a message.
    pub(crate) fn verifies(
        &self,
        chain: &[u8],
        message: &[u8],
        scheme: u16,
        signature: &[u8],
    ) -> bool {
        let leaf = split(chain).and_then(|chain| chain.into_iter().next());
        leaf.is_some_and(|leaf| {
            self.verifier()
                .is_signed(&leaf, message, scheme.into(), signature)
        })
    }

    /// The subject alternative names of the first certificate of a chain in DER.
    pub(crate) fn alternative_names(chain: &[u8]) -> Vec<String> {
        let leaf = split(chain).and_then(|chain| chain.into_iter().next());
        let names = leaf.and_then(|leaf| alternative_names(&leaf).ok());
        names.unwrap_or_default()
    }

    /// The certificates of the node in DER, one behind the other, leaf first.
    pub(crate) fn chain_der(&self) -> Vec<u8> {
        let chain = self.certificate_chain().iter();
        chain.flat_map(|it| it.iter().copied()).collect()
    }
}

impl PeerVerifier {
    fn is_signed(
        &self,
        leaf: &CertificateDer<'_>,
        message: &[u8],
        scheme: SignatureScheme,
        signature: &[u8],
    ) -> bool {
        let mut known = self.algorithms().mapping.iter();
        let algorithm = known.find(|(known, _)| *known == scheme);
        let Some(&algorithm) = algorithm.and_then(|(_, algorithms)| algorithms.first()) else {
            return false;
        };
        EndEntityCert::try_from(leaf)
            .is_ok_and(|leaf| leaf.verify_signature(algorithm, message, signature).is_ok())
    }
}

/// Takes certificates apart that stand one behind the other. `None` if they are no sequences.
fn split(mut chain: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut certificates = Vec::new();
    while !chain.is_empty() {
        let (certificate, rest) = chain.split_at_checked(sequence_len(chain)?)?;
        certificates.push(CertificateDer::from(certificate));
        chain = rest;
    }
    Some(certificates)
}

/// The length of the ASN.1 sequence that some bytes begin with, its header included.
fn sequence_len(bytes: &[u8]) -> Option<usize> {
    let [0x30, first, rest @ ..] = bytes else {
        return None;
    };
    let count = usize::from(first & 0x7f);
    if first & 0x80 == 0 {
        return Some(2 + count);
    }
    let length = rest.get(..count).filter(|_| (1..=3).contains(&count))?;
    let length = length
        .iter()
        .fold(0, |length, &byte| length << 8 | usize::from(byte));
    Some(2 + count + length)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaf, NOW, TestCa};
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn what_a_node_signs_is_verified_by_its_certificate_alone() {
        let ca = TestCa::new("ca");
        let (one, two) = (ca.node("one"), ca.node("two"));
        let (scheme, signature) = one.sign(b"so it is").unwrap();
        let verifies = |chain: &Credentials, message, scheme| {
            two.verifies(&chain.chain_der(), message, scheme, &signature)
        };
        assert!(verifies(&one, b"so it is", scheme));
        assert!(!verifies(&one, b"so it was", scheme));
        assert!(!verifies(&two, b"so it is", scheme));
        assert!(!verifies(&one, b"so it is", 0x0401));
        assert!(!two.verifies(b"no certificate", b"so it is", scheme, &signature));
        assert!(!two.verifies(b"", b"so it is", scheme, &signature));
    }

    #[test]
    fn a_chain_certifies_the_names_that_stand_in_it_while_it_is_valid() {
        let ca = TestCa::new("ca");
        let (one, stranger) = (ca.node("one"), TestCa::new("other").node("one"));
        let chain = one.chain_der();
        assert!(one.certifies(&name("one"), &chain, NOW));
        assert!(!one.certifies(&name("two"), &chain, NOW));
        assert!(!one.certifies(&name("one"), &stranger.chain_der(), NOW));
        assert!(!one.certifies(&name("one"), &chain[1..], NOW));
        assert!(!one.certifies(&name("one"), &chain[..chain.len() - 1], NOW));
        assert!(!one.certifies(&name("one"), b"", NOW));
        let leaf = Leaf::default().dns("short").valid(NOW - DAY, NOW);
        let short = ca.credentials(&leaf).chain_der();
        assert!(one.certifies(&name("short"), &short, NOW));
        assert!(!one.certifies(&name("short"), &short, NOW + DAY));
    }

    #[test]
    fn a_chain_is_taken_apart_as_it_was_put_together() {
        let ca = TestCa::new("ca");
        let credentials = ca.node("one");
        let mut chain = credentials.chain_der();
        chain.extend_from_slice(&chain.clone());
        let parts = split(&chain).unwrap();
        assert_eq!(parts.len(), 2 * credentials.certificate_chain().len());
        let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
        assert_eq!(parts.concat(), chain);
        for bad in [
            &[0x30][..],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
            &[0x30, 0x80],
            &[0x31, 0],
        ] {
            assert_eq!(split(bad), None);
        }
    }
}

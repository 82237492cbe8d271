//! Certificates for honest nodes and for attackers, the same in every run: Ed25519 keys of given
//! seeds, which sign without randomness.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use grinta_proto::{Credentials, Der};

/// A CA, and what it takes to issue with it.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key.
pub(crate) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// Until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// For longer than any simulation.
    Good,
    /// Since before the simulation's start it is not.
    Expired,
}

impl Ca {
    /// The CA of a seed.
    pub(crate) fn new(seed: u8) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("simulated fabric");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = key_pair([seed; 32]);
        let certificate = params.self_signed(&key).expect("the parameters are plain");
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for the node `name`, with a key that follows from it.
    pub(crate) fn issue(&self, name: &str, validity: Validity) -> Leaf {
        let mut params =
            CertificateParams::new(vec![name.to_owned()]).expect("the name is a DNS name");
        params.distinguished_name = subject(name);
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let mut seed = [7; 32];
        for (place, byte) in seed.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        let key = key_pair(seed);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are plain");
        Leaf {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// What a node needs that goes by a certificate, and trusts this CA and others.
    pub(crate) fn credentials(&self, leaf: &Leaf, others: &[&Self]) -> Credentials {
        let trusted = others.iter().map(|ca| ca.certificate.clone());
        Credentials::from_der(Der {
            ca: trusted.chain([self.certificate.clone()]).collect(),
            certificate: vec![leaf.certificate.clone()],
            key: leaf.key(),
        })
        .expect("the certificate and the key are good")
    }
}

impl Leaf {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// RFC 8410: a PKCS #8 Ed25519 key is this and its seed.
fn key_pair(seed: [u8; 32]) -> KeyPair {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend(seed);
    KeyPair::try_from(der).expect("any seed makes a key")
}

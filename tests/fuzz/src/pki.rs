//! Certificates that are the same in every run: Ed25519 keys of given seeds, which sign without
//! randomness.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use grinta_proto::{Credentials, Der};

/// A CA, and what it takes to issue with it.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

/// A certificate and its key.
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    key: Vec<u8>,
    /// Both, as a file would have them.
    pub(crate) pem: String,
}

impl Ca {
    /// The CA of a seed.
    pub(crate) fn new(seed: u8) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("fuzzed fabric");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key_pair(seed);
        let certificate = params.self_signed(&key).expect("the parameters are plain");
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for the node `name`, with the key of a seed.
    pub(crate) fn issue(&self, name: &str, seed: u8) -> Leaf {
        let mut params =
            CertificateParams::new(vec![name.to_owned()]).expect("the name is a DNS name");
        params.distinguished_name = subject(name);
        let key = key_pair(seed);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are plain");
        Leaf {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            pem: certificate.pem() + &key.serialize_pem(),
        }
    }

    /// A list that revokes one certificate.
    pub(crate) fn revocation_list(&self) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(7),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params
            .signed_by(&self.issuer)
            .expect("the CA may sign lists");
        list.der().to_vec()
    }

    /// What a node needs that goes by a certificate of this CA.
    pub(crate) fn credentials(&self, leaf: &Leaf) -> Credentials {
        Credentials::from_der(Der {
            ca: vec![self.certificate.clone()],
            certificate: vec![leaf.certificate.clone()],
            key: leaf.key(),
        })
        .expect("the certificate and the key are good")
    }
}

impl Leaf {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// RFC 8410: a PKCS #8 Ed25519 key is this and its seed.
fn key_pair(seed: u8) -> KeyPair {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend([seed; 32]);
    KeyPair::try_from(der).expect("any seed makes a key")
}

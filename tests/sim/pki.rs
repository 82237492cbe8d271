//! Certificates that are the same in every run, for honest nodes and for others: Ed25519 keys of
//! given seeds, which sign without randomness. And a verifier that asks for none of them.

use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicClientConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName as SubjectDer, Error, SignatureScheme,
};

use grinta_proto::{Credentials, Der};

/// A CA, and what it takes to issue with it.
#[derive(Debug)]
pub struct Ca {
    seed: u8,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Leaf {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
}

/// Until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For longer than any simulation.
    Good,
    /// Since before the simulation's start it is not.
    Expired,
}

impl Ca {
    /// The CA of a seed.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("simulated fabric");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key_pair([seed; 32]);
        let certificate = params.self_signed(&key).expect("the parameters are plain");
        Self {
            seed,
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Its own certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for the node `name`, with a key that follows from the CA and the name.
    ///
    /// # Panics
    /// If the name is no DNS name.
    #[must_use]
    pub fn issue(&self, name: &str, validity: Validity) -> Leaf {
        let mut params =
            CertificateParams::new(vec![name.to_owned()]).expect("the name is a DNS name");
        params.distinguished_name = subject(name);
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let mut seed = [self.seed ^ 6; 32];
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
            pem: certificate.pem() + &key.serialize_pem(),
        }
    }

    /// A list that revokes one certificate, which nobody has.
    #[must_use]
    pub fn revocation_list(&self) -> Vec<u8> {
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

    /// What a node needs that goes by a certificate, and trusts this CA and others.
    ///
    /// # Panics
    /// If the certificate is of another CA.
    #[must_use]
    pub fn credentials(&self, leaf: &Leaf, others: &[&Self]) -> Credentials {
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
    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Both, as a file has them.
    #[must_use]
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// The key, in PKCS #8.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

/// Believes everybody, as a client and as a server.
#[derive(Debug)]
pub struct Gullible {
    provider: Arc<CryptoProvider>,
}

impl Gullible {
    /// With the signatures that a provider knows.
    #[must_use]
    pub const fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }

    /// TLS for a client that shows this certificate, if any, and believes everybody; `clock` tells
    /// TLS the time, which nobody here asks for.
    ///
    /// # Panics
    /// If the provider cannot do TLS 1.3 over QUIC.
    #[must_use]
    pub fn client(
        self: &Arc<Self>,
        leaf: Option<&Leaf>,
        clock: Arc<dyn TimeProvider>,
    ) -> Arc<QuicClientConfig> {
        let builder = ClientConfig::builder_with_details(Arc::clone(&self.provider), clock)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as _);
        let mut client = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => builder
                .with_client_auth_cert(vec![leaf.certificate().clone()], leaf.key())
                .expect("the key is the certificate's"),
        };
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Arc::new(QuicClientConfig::try_from(client).expect("the provider does QUIC"))
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let known = self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Gullible {
    fn root_hint_subjects(&self) -> &[SubjectDer] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
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

/// What the default fabric's nodes speak.
pub const PROTOCOL: &[u8] = b"grinta/1/default";

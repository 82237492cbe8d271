//! The judge of a peer's certificate, in both roles of the handshake.
//!
//! It answers whether the chain leads to one of our CAs at the given time, for the role at hand,
//! with nothing on it revoked. It looks at no name: who the peer may be is the node's question.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ExtendedKeyPurpose,
    OtherError, PeerIncompatible, SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// Verifies peers against a fixed set of CAs and revocation lists.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    anchors: Arc<[TrustAnchor<'static>]>,
    revocations: Arc<[CertRevocationList<'static>]>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What the peer does in the handshake, which its certificate must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

impl PeerVerifier {
    pub(super) fn new(
        anchors: Vec<TrustAnchor<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            anchors: anchors.into(),
            revocations: Arc::default(),
            algorithms,
        }
    }

    pub(super) fn with_algorithms(&self, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let (anchors, revocations) = (Arc::clone(&self.anchors), Arc::clone(&self.revocations));
        Self {
            anchors,
            revocations,
            algorithms,
        }
    }

    pub(super) fn with_revocations(&self, lists: Vec<CertRevocationList<'static>>) -> Self {
        let (anchors, algorithms) = (Arc::clone(&self.anchors), self.algorithms);
        Self {
            anchors,
            revocations: lists.into(),
            algorithms,
        }
    }

    pub(super) const fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    pub(super) fn anchor_count(&self) -> usize {
        self.anchors.len()
    }

    /// Verifies a chain, leaf first, for one role.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        time: UnixTime,
        role: Role,
    ) -> Result<(), CertificateError> {
        let certificate = EndEntityCert::try_from(leaf).map_err(certificate_error)?;
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let revocations: Vec<_> = self.revocations.iter().collect();
        // Lists are given by the operator, not fetched, so that a CA without one is no attack:
        // it is the CA's way of having revoked nothing.
        let revocation = RevocationOptionsBuilder::new(&revocations)
            .ok()
            .map(|options| {
                options
                    .with_status_policy(UnknownStatusPolicy::Allow)
                    .build()
            });
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                time,
                usage,
                revocation,
                None,
            )
            .map(drop)
            .map_err(certificate_error)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Role::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    /// No hints: a node has one certificate and presents it, and hints would name our CAs to
    /// whoever asks.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Role::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refuse_tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
}

/// Turns webpki's verdict into rustls's, which decides the alert that the peer is sent.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "webpki's enum is non-exhaustive"
)]
fn certificate_error(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => {
            CertificateError::BadEncoding
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        webpki::Error::InvalidCertValidity => CertificateError::Expired,
        // A CA of the same name but with another key is another CA.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            CertificateError::UnknownIssuer
        }
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::RequiredEkuNotFoundContext(context) => {
            CertificateError::InvalidPurposeContext {
                required: purpose(context.required.oid_values().collect()),
                presented: context.present.into_iter().map(purpose).collect(),
            }
        }
        webpki::Error::EmptyEkuExtension => CertificateError::InvalidPurpose,
        webpki::Error::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        webpki::Error::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

fn purpose(oid: Vec<usize>) -> ExtendedKeyPurpose {
    match oid.as_slice() {
        KeyUsage::CLIENT_AUTH_REPR => ExtendedKeyPurpose::ClientAuth,
        KeyUsage::SERVER_AUTH_REPR => ExtendedKeyPurpose::ServerAuth,
        _ => ExtendedKeyPurpose::Other(oid),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::ExtendedKeyUsagePurpose::{self, ClientAuth, ServerAuth};
    use rustls::AlertDescription;

    use super::super::testing::{DAY, Leaf, NOW, TestCa};
    use super::*;

    fn verdict(
        ours: &TestCa,
        theirs: &TestCa,
        leaf: &Leaf,
        role: Role,
    ) -> Option<CertificateError> {
        let (certificate, _) = theirs.issue(leaf);
        let time = UnixTime::since_unix_epoch(NOW);
        ours.node("us")
            .verifier()
            .verify(&certificate, &[], time, role)
            .err()
    }

    fn both_roles(ours: &TestCa, theirs: &TestCa, leaf: &Leaf) -> Option<CertificateError> {
        let client = verdict(ours, theirs, leaf, Role::Client);
        let server = verdict(ours, theirs, leaf, Role::Server);
        assert_eq!(client, server);
        client
    }

    fn unix(time: Duration) -> UnixTime {
        UnixTime::since_unix_epoch(time)
    }

    #[test]
    fn a_certificate_of_our_ca_is_accepted_in_both_roles() {
        let ca = TestCa::new("ours");
        assert_eq!(both_roles(&ca, &ca, &Leaf::default().dns("peer")), None);
    }

    #[test]
    fn another_ca_is_an_unknown_issuer_even_under_the_same_name() {
        let ours = TestCa::new("ours");
        let leaf = Leaf::default().dns("peer");
        let stranger = TestCa::new("stranger");
        assert_eq!(
            both_roles(&ours, &stranger, &leaf),
            Some(CertificateError::UnknownIssuer)
        );
        let impostor = TestCa::with_key_of("ours", "another key");
        assert_eq!(
            both_roles(&ours, &impostor, &leaf),
            Some(CertificateError::UnknownIssuer)
        );
    }

    #[test]
    fn validity_is_judged_at_the_given_time_to_the_second() {
        let ca = TestCa::new("ours");
        let leaf = Leaf::default().dns("peer");
        let ends_now = leaf.clone().valid(NOW - DAY, NOW);
        let ended = leaf.clone().valid(NOW - DAY, NOW - Duration::from_secs(1));
        let starts_now = leaf.clone().valid(NOW, NOW + DAY);
        let starts_later = leaf.valid(NOW + Duration::from_secs(1), NOW + DAY);
        assert_eq!(both_roles(&ca, &ca, &ends_now), None);
        assert_eq!(both_roles(&ca, &ca, &starts_now), None);
        assert_eq!(
            both_roles(&ca, &ca, &ended),
            Some(CertificateError::ExpiredContext {
                time: unix(NOW),
                not_after: unix(NOW - Duration::from_secs(1)),
            })
        );
        assert_eq!(
            both_roles(&ca, &ca, &starts_later),
            Some(CertificateError::NotValidYetContext {
                time: unix(NOW),
                not_before: unix(NOW + Duration::from_secs(1)),
            })
        );
    }

    #[test]
    fn a_certificate_is_good_for_the_roles_that_it_names() {
        let ca = TestCa::new("ours");
        let of = |usages: &[ExtendedKeyUsagePurpose]| Leaf::default().dns("peer").usages(usages);
        let wrong = |required, presented: &[ExtendedKeyPurpose]| {
            Some(CertificateError::InvalidPurposeContext {
                required,
                presented: presented.to_vec(),
            })
        };
        let only_server = of(&[ServerAuth]);
        assert_eq!(verdict(&ca, &ca, &only_server, Role::Server), None);
        assert_eq!(
            verdict(&ca, &ca, &only_server, Role::Client),
            wrong(
                ExtendedKeyPurpose::ClientAuth,
                &[ExtendedKeyPurpose::ServerAuth]
            )
        );
        let only_client = of(&[ClientAuth]);
        assert_eq!(verdict(&ca, &ca, &only_client, Role::Client), None);
        assert_eq!(
            verdict(&ca, &ca, &only_client, Role::Server),
            wrong(
                ExtendedKeyPurpose::ServerAuth,
                &[ExtendedKeyPurpose::ClientAuth]
            )
        );
    }

    #[test]
    fn intermediates_are_followed_when_the_peer_sends_them() {
        let root = TestCa::new("root");
        let intermediate = root.intermediate("intermediate");
        let (leaf, _) = intermediate.issue(&Leaf::default().dns("peer"));
        let verifier = Arc::clone(root.node("us").verifier());
        let sent = [intermediate.certificate()];
        assert_eq!(
            verifier.verify(&leaf, &sent, unix(NOW), Role::Client),
            Ok(())
        );
        assert_eq!(
            verifier.verify(&leaf, &[], unix(NOW), Role::Client),
            Err(CertificateError::UnknownIssuer)
        );
    }

    #[test]
    fn the_bytes_of_a_stranger_never_panic() {
        let ca = TestCa::new("ours");
        let (good, _) = ca.issue(&Leaf::default().dns("peer"));
        let verifier = Arc::clone(ca.node("us").verifier());
        for index in 0..good.len() {
            let mut bytes = good.to_vec();
            bytes[index] ^= 0x41;
            let mangled = CertificateDer::from(bytes);
            assert!(
                verifier
                    .verify(&mangled, &[], unix(NOW), Role::Client)
                    .is_err()
            );
            let cut = CertificateDer::from(&good[..index]);
            assert!(verifier.verify(&cut, &[], unix(NOW), Role::Server).is_err());
        }
    }

    #[test]
    fn each_refusal_sends_the_alert_that_names_it() {
        let ca = TestCa::new("ours");
        let leaf = Leaf::default().dns("peer");
        let alert = |theirs: &TestCa, leaf: &Leaf| {
            verdict(&ca, theirs, leaf, Role::Client).map(AlertDescription::from)
        };
        let expired = leaf.clone().valid(NOW - 2 * DAY, NOW - DAY);
        let early = leaf.clone().valid(NOW + DAY, NOW + 2 * DAY);
        let server_only = leaf.clone().usages(&[ServerAuth]);
        assert_eq!(
            alert(&TestCa::new("other"), &leaf),
            Some(AlertDescription::UnknownCA)
        );
        assert_eq!(
            alert(&ca, &expired),
            Some(AlertDescription::CertificateExpired)
        );
        assert_eq!(
            alert(&ca, &early),
            Some(AlertDescription::CertificateExpired)
        );
        assert_eq!(
            alert(&ca, &server_only),
            Some(AlertDescription::UnsupportedCertificate)
        );
    }

    #[test]
    fn a_client_certificate_is_asked_for_and_required() {
        let credentials = TestCa::new("ours").node("us");
        let verifier = credentials.verifier();
        assert!(verifier.offer_client_auth());
        assert!(verifier.client_auth_mandatory());
        assert!(ClientCertVerifier::root_hint_subjects(verifier.as_ref()).is_empty());
    }
}

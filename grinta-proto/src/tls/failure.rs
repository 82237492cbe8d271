//! Explains a failed handshake to the one who has to mend it.
//!
//! QUIC reports a failure of TLS as an alert number, ours or the peer's. An operator needs to know
//! whose certificate it is about and what to do; [`TlsFailure`] says that.

use std::fmt;

use quinn_proto::{ConnectionError, TransportErrorCode};
use rustls::{AlertDescription, CertificateError};

/// Why TLS did not let a connection come about.
///
/// `Peer…`: we refused the peer's certificate. `Ours…`: the peer refused ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The peer's certificate was issued by none of our CAs.
    #[error(
        "the peer's certificate is not signed by a CA that we trust; issue both nodes' \
        certificates from one CA, or add the peer's CA to ours"
    )]
    PeerUntrusted,
    /// The peer's certificate, or one that issued it, has expired by our clock.
    #[error("the peer's certificate has expired ({detail}); renew it, or correct our clock")]
    PeerExpired {
        /// The times compared.
        detail: String,
    },
    /// The peer's certificate, or one that issued it, is not valid yet by our clock.
    #[error(
        "the peer's certificate is not valid yet ({detail}); correct our clock, or the clock \
        of its CA"
    )]
    PeerNotYetValid {
        /// The times compared.
        detail: String,
    },
    /// The peer's certificate, or one that issued it, is on one of our revocation lists.
    #[error(
        "the peer's certificate is revoked; issue it a new one, with a new key, if it is to \
        come back"
    )]
    PeerRevoked,
    /// The peer presented no certificate.
    #[error("the peer presented no certificate; give it credentials: every node needs its own")]
    PeerWithoutCertificate,
    /// The peer's certificate is not meant for its role in the handshake.
    #[error(
        "the peer's certificate lacks an extended key usage ({detail}); issue it with both \
        serverAuth and clientAuth"
    )]
    PeerWrongUsage {
        /// The usages it has.
        detail: String,
    },
    /// The peer's certificate is refused for another reason.
    #[error("the peer's certificate is refused ({detail}); issue it again")]
    PeerOther {
        /// What the verification says.
        detail: String,
    },
    /// The peer trusts no CA of our certificate.
    #[error(
        "the peer does not trust the CA of our certificate; issue both nodes' certificates \
        from one CA, or add our CA to the peer's"
    )]
    OursUntrusted,
    /// Our certificate has expired, or is not valid yet, by the peer's clock.
    #[error(
        "the peer finds our certificate expired or not valid yet; renew it, or correct the \
        peer's clock"
    )]
    OursExpired,
    /// The peer has our certificate on one of its revocation lists.
    #[error(
        "the peer has our certificate on a revocation list; have a new one issued, with a \
        new key"
    )]
    OursRevoked,
    /// The peer received no certificate from us.
    #[error("the peer received no certificate from us; a proxy that ends TLS may stand between")]
    OursMissing,
    /// Our certificate is not meant for our role in the handshake.
    #[error(
        "the peer finds that our certificate lacks an extended key usage; issue it with both \
        serverAuth and clientAuth"
    )]
    OursWrongUsage,
    /// The peer refused our certificate for another reason.
    #[error(
        "the peer refused our certificate ({alert}{}); its log may say more",
        After(detail)
    )]
    OursOther {
        /// The alert it sent.
        alert: TlsAlert,
        /// What it said, if anything.
        detail: String,
    },
    /// The two ends speak no common protocol.
    #[error(
        "the two ends speak no common protocol; check that both are nodes of one fabric and \
        run compatible versions"
    )]
    NoCommonProtocol,
    /// We broke off the handshake for a reason that is no certificate.
    #[error(
        "we broke off the TLS handshake ({alert}{}); the other end may be no node or run an \
        incompatible version",
        After(detail)
    )]
    Aborted {
        /// The alert we sent.
        alert: TlsAlert,
        /// What was wrong.
        detail: String,
    },
    /// The peer broke off the handshake for a reason that is no certificate.
    #[error(
        "the peer broke off the TLS handshake ({alert}{}); it may be no node or run an \
        incompatible version",
        After(detail)
    )]
    AbortedByPeer {
        /// The alert it sent.
        alert: TlsAlert,
        /// What it said, if anything.
        detail: String,
    },
}

/// The number of a TLS alert, as [RFC 8446, section 6](https://www.rfc-editor.org/rfc/rfc8446#section-6)
/// assigns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsAlert(pub u8);

impl TlsFailure {
    /// Explains why a connection was lost, if TLS was the reason.
    pub(crate) fn explain(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::TransportError(ours) => {
                alert(ours.code).map(|alert| Self::sent_by_us(alert, &ours.reason))
            }
            ConnectionError::ConnectionClosed(theirs) => {
                alert(theirs.error_code).map(|alert| Self::sent_by_peer(alert, &theirs.reason))
            }
            ConnectionError::VersionMismatch
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => None,
        }
    }

    /// Explains the verdict on a peer's certificate outside a handshake.
    pub(super) fn of_peer_certificate(error: CertificateError) -> Self {
        let reason = rustls::Error::from(error.clone()).to_string();
        Self::sent_by_us(AlertDescription::from(error), &reason)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls's enum has an open end"
    )]
    fn sent_by_us(alert: AlertDescription, reason: &str) -> Self {
        let verdict = reason.strip_prefix(CERTIFICATE_REASON);
        let detail = verdict.unwrap_or(reason).to_owned();
        match alert {
            AlertDescription::UnknownCA => Self::PeerUntrusted,
            // One alert stands for both ends of the validity; only the reason tells them apart.
            AlertDescription::CertificateExpired if detail.starts_with(NOT_YET_VALID_REASON) => {
                Self::PeerNotYetValid { detail }
            }
            AlertDescription::CertificateExpired => Self::PeerExpired { detail },
            AlertDescription::CertificateRevoked => Self::PeerRevoked,
            AlertDescription::CertificateRequired => Self::PeerWithoutCertificate,
            AlertDescription::UnsupportedCertificate => Self::PeerWrongUsage { detail },
            AlertDescription::NoApplicationProtocol => Self::NoCommonProtocol,
            _ if verdict.is_some() => Self::PeerOther { detail },
            _ => Self::Aborted {
                alert: alert.into(),
                detail,
            },
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls's enum has an open end"
    )]
    fn sent_by_peer(alert: AlertDescription, reason: &[u8]) -> Self {
        match alert {
            AlertDescription::UnknownCA => Self::OursUntrusted,
            AlertDescription::CertificateExpired => Self::OursExpired,
            AlertDescription::CertificateRevoked => Self::OursRevoked,
            AlertDescription::CertificateRequired => Self::OursMissing,
            AlertDescription::UnsupportedCertificate => Self::OursWrongUsage,
            AlertDescription::NoApplicationProtocol => Self::NoCommonProtocol,
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::OursOther {
                alert: alert.into(),
                detail: printable(reason),
            },
            _ => Self::AbortedByPeer {
                alert: alert.into(),
                detail: printable(reason),
            },
        }
    }
}

impl From<AlertDescription> for TlsAlert {
    fn from(alert: AlertDescription) -> Self {
        Self(alert.into())
    }
}

impl fmt::Display for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match AlertDescription::from(self.0).as_str() {
            Some(name) => write!(f, "alert {}, {name}", self.0),
            None => write!(f, "alert {}", self.0),
        }
    }
}

/// The alert in a transport error code, if it carries one:
/// [RFC 9001, section 4.8](https://www.rfc-editor.org/rfc/rfc9001#section-4.8).
fn alert(code: TransportErrorCode) -> Option<AlertDescription> {
    let code = u64::from(code);
    let alert = code.checked_sub(u64::from(TransportErrorCode::crypto(0)))?;
    u8::try_from(alert).ok().map(AlertDescription::from)
}

/// What a peer said, made safe to print: it is not to be trusted yet.
fn printable(reason: &[u8]) -> String {
    let reason = &reason[..reason.len().min(REASON_LEN_MAX)];
    String::from_utf8_lossy(reason).escape_debug().to_string()
}

/// Writes what follows in a sentence, if there is anything.
struct After<'a>(&'a str);

impl fmt::Display for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0)
        }
    }
}

/// How rustls introduces a verdict of the verifier.
const CERTIFICATE_REASON: &str = "invalid peer certificate: ";

/// How rustls tells a certificate of tomorrow from one of yesterday.
const NOT_YET_VALID_REASON: &str = "certificate not valid yet";

/// How much of a peer's words is kept, in bytes: a sentence.
const REASON_LEN_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use rustls::pki_types::UnixTime;

    use super::super::Credentials;
    use super::super::testing::{DAY, Handshake, Leaf, NOW, TestCa};
    use super::*;

    /// What each end is told when `client` dials `server`.
    fn failures(client: &Credentials, server: &Credentials) -> (TlsFailure, TlsFailure) {
        explained(Handshake::between(client, server))
    }

    fn explained(handshake: Handshake) -> (TlsFailure, TlsFailure) {
        let explain = |error: Option<ConnectionError>| {
            TlsFailure::explain(&error.expect("the handshake fails")).expect("because of TLS")
        };
        (
            explain(handshake.client_error()),
            explain(handshake.server_error()),
        )
    }

    fn expired(ca: &TestCa) -> Credentials {
        ca.credentials(
            &Leaf::default()
                .dns("expired")
                .valid(NOW - 2 * DAY, NOW - DAY),
        )
    }

    fn early(ca: &TestCa) -> Credentials {
        ca.credentials(&Leaf::default().dns("early").valid(NOW + DAY, NOW + 2 * DAY))
    }

    #[test]
    fn two_nodes_of_one_ca_shake_hands_and_see_each_other() {
        let ca = TestCa::new("ca");
        let (client, server) = (ca.node("one"), ca.node("two"));
        let handshake = Handshake::between(&client, &server);
        assert_eq!(handshake.client_error(), None);
        assert_eq!(handshake.server_error(), None);
        assert_eq!(
            handshake.peer_of_client().unwrap(),
            server.certificate_chain()
        );
        assert_eq!(
            handshake.peer_of_server().unwrap(),
            client.certificate_chain()
        );
        assert_eq!(handshake.server_name_seen(), None);
    }

    #[test]
    fn without_a_ca_in_common_the_client_refuses_first() {
        let client = TestCa::new("one").node("one");
        let server = TestCa::new("two").node("two");
        assert_eq!(
            failures(&client, &server),
            (TlsFailure::PeerUntrusted, TlsFailure::OursUntrusted)
        );
    }

    #[test]
    fn a_client_of_a_ca_that_the_server_does_not_trust_is_refused() {
        let (common, other) = (TestCa::new("common"), TestCa::new("other"));
        let client = other.credentials_trusting(&Leaf::default().dns("one"), &common);
        let server = common.node("two");
        assert_eq!(
            failures(&client, &server),
            (TlsFailure::OursUntrusted, TlsFailure::PeerUntrusted)
        );
    }

    #[test]
    fn two_cas_of_one_name_are_still_two_cas() {
        let ours = TestCa::with_key_of("the ca", "one key");
        let theirs = TestCa::with_key_of("the ca", "another key");
        assert_eq!(
            failures(&ours.node("one"), &theirs.node("two")),
            (TlsFailure::PeerUntrusted, TlsFailure::OursUntrusted)
        );
    }

    #[test]
    fn an_expired_certificate_is_refused_in_either_role() {
        let ca = TestCa::new("ca");
        let detail = format!(
            "certificate expired: verification time {} (UNIX), but certificate is not valid after \
             {} (86400 seconds ago)",
            NOW.as_secs(),
            (NOW - DAY).as_secs(),
        );
        let peer = TlsFailure::PeerExpired { detail };
        assert_eq!(
            failures(&ca.node("one"), &expired(&ca)),
            (peer.clone(), TlsFailure::OursExpired)
        );
        assert_eq!(
            failures(&expired(&ca), &ca.node("two")),
            (TlsFailure::OursExpired, peer)
        );
    }

    #[test]
    fn a_certificate_of_tomorrow_is_told_from_one_of_yesterday() {
        let ca = TestCa::new("ca");
        let (client, server) = failures(&ca.node("one"), &early(&ca));
        assert!(
            matches!(client, TlsFailure::PeerNotYetValid { .. }),
            "{client:?}"
        );
        assert_eq!(server, TlsFailure::OursExpired);
        let (client, server) = failures(&early(&ca), &ca.node("two"));
        assert_eq!(client, TlsFailure::OursExpired);
        assert!(
            matches!(server, TlsFailure::PeerNotYetValid { .. }),
            "{server:?}"
        );
    }

    #[test]
    fn a_client_without_a_certificate_is_refused() {
        let ca = TestCa::new("ca");
        let (client, server) = (ca.node("one"), ca.node("two"));
        assert_eq!(
            explained(Handshake::without_client_certificate(&client, &server)),
            (TlsFailure::OursMissing, TlsFailure::PeerWithoutCertificate)
        );
    }

    #[test]
    fn a_certificate_for_the_other_role_is_refused() {
        let ca = TestCa::new("ca");
        let client_only = ca.credentials(&Leaf::default().dns("a").usages(&[ClientAuth]));
        let server_only = ca.credentials(&Leaf::default().dns("b").usages(&[ServerAuth]));
        let wrong = |detail: &str| TlsFailure::PeerWrongUsage {
            detail: detail.to_owned(),
        };
        let no_server = "certificate does not allow extended key usage for server authentication, \
                         allows client authentication";
        let no_client = "certificate does not allow extended key usage for client authentication, \
                         allows server authentication";
        assert_eq!(
            failures(&ca.node("one"), &client_only),
            (wrong(no_server), TlsFailure::OursWrongUsage)
        );
        assert_eq!(
            failures(&server_only, &ca.node("two")),
            (TlsFailure::OursWrongUsage, wrong(no_client))
        );
    }

    #[test]
    fn a_revoked_certificate_is_refused_in_either_role() {
        let ca = TestCa::new("ca");
        let honest = ca
            .node("honest")
            .with_revocation_lists(&[ca.revoking("revoked")])
            .unwrap();
        let revoked = ca.node("revoked");
        assert_eq!(
            failures(&honest, &revoked),
            (TlsFailure::PeerRevoked, TlsFailure::OursRevoked)
        );
        assert_eq!(
            failures(&revoked, &honest),
            (TlsFailure::OursRevoked, TlsFailure::PeerRevoked)
        );
        assert_eq!(
            Handshake::between(&honest, &ca.node("other")).client_error(),
            None
        );
    }

    #[test]
    fn different_protocols_are_no_matter_of_certificates() {
        let ca = TestCa::new("ca");
        let (client, server) = (ca.node("one"), ca.node("two"));
        assert_eq!(
            explained(Handshake::speaking(
                b"grinta/1",
                b"grinta/2",
                &client,
                &server
            )),
            (TlsFailure::NoCommonProtocol, TlsFailure::NoCommonProtocol)
        );
    }

    #[test]
    fn a_loss_without_tls_is_not_explained() {
        let elsewhere = [
            ConnectionError::TimedOut,
            ConnectionError::Reset,
            ConnectionError::VersionMismatch,
            ConnectionError::LocallyClosed,
            closed_by_peer(TransportErrorCode::PROTOCOL_VIOLATION, b""),
        ];
        for error in elsewhere {
            assert_eq!(TlsFailure::explain(&error), None, "{error}");
        }
    }

    #[test]
    fn the_words_of_a_peer_are_short_and_printable() {
        let shout = [b'\x1b'; 500];
        let explained =
            TlsFailure::explain(&closed_by_peer(TransportErrorCode::crypto(46), &shout));
        let Some(TlsFailure::OursOther {
            alert: TlsAlert(46),
            detail,
        }) = explained
        else {
            panic!("{explained:?}");
        };
        assert_eq!(detail, "\\u{1b}".repeat(REASON_LEN_MAX));
    }

    #[test]
    fn an_alert_without_a_certificate_to_blame_says_who_broke_off() {
        let theirs = TlsFailure::explain(&closed_by_peer(TransportErrorCode::crypto(40), b"no"));
        assert_eq!(
            theirs.unwrap().to_string(),
            "the peer broke off the TLS handshake (alert 40, HandshakeFailure: no); it may be no \
             node or run an incompatible version"
        );
        let ours = TlsFailure::sent_by_us(AlertDescription::DecryptError, "cannot decrypt");
        let expected = TlsFailure::Aborted {
            alert: TlsAlert(51),
            detail: "cannot decrypt".to_owned(),
        };
        assert_eq!(ours, expected);
        assert_eq!(TlsAlert(200).to_string(), "alert 200");
    }

    #[test]
    fn a_connected_peer_can_be_judged_again() {
        let ca = TestCa::new("ca");
        let us = ca.node("us");
        let leaf = Leaf::default().dns("peer").valid(NOW - DAY, NOW + DAY);
        let (certificate, _) = ca.issue(&leaf);
        let chain = [certificate];
        assert_eq!(us.recheck(&chain, NOW), Ok(()));
        let later = us.recheck(&chain, NOW + 2 * DAY).unwrap_err();
        assert!(matches!(later, TlsFailure::PeerExpired { .. }), "{later}");
        let elsewhere = TestCa::new("other").node("us");
        assert_eq!(
            elsewhere.recheck(&chain, NOW),
            Err(TlsFailure::PeerUntrusted)
        );
        let revoking = us
            .clone()
            .with_revocation_lists(&[ca.revoking("peer")])
            .unwrap();
        assert_eq!(revoking.recheck(&chain, NOW), Err(TlsFailure::PeerRevoked));
        let nothing = us.recheck(&[], NOW).unwrap_err();
        assert_eq!(
            nothing,
            TlsFailure::PeerOther {
                detail: "BadEncoding".to_owned()
            }
        );
    }

    #[test]
    fn the_words_of_rustls_that_tell_the_two_ends_of_validity_apart_still_hold() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let early = CertificateError::NotValidYetContext {
            time: at(1),
            not_before: at(2),
        };
        let late = CertificateError::ExpiredContext {
            time: at(2),
            not_after: at(1),
        };
        let early = TlsFailure::of_peer_certificate(early);
        let late = TlsFailure::of_peer_certificate(late);
        assert!(
            matches!(early, TlsFailure::PeerNotYetValid { .. }),
            "{early:?}"
        );
        assert!(matches!(late, TlsFailure::PeerExpired { .. }), "{late:?}");
    }

    fn closed_by_peer(code: TransportErrorCode, reason: &[u8]) -> ConnectionError {
        ConnectionError::ConnectionClosed(quinn_proto::ConnectionClose {
            error_code: code,
            frame_type: None,
            reason: bytes::Bytes::copy_from_slice(reason),
        })
    }
}

//! Trust: who a node is, whom it believes, and why a handshake failed.
//!
//! Every connection is mutual TLS 1.3, and a certificate proves the *name of a node*, never a host
//! or an address. The handshake answers one question only: was the peer's certificate issued by a
//! CA of this fabric, and is it valid now, for its role, and not revoked? Which name it may use is
//! read afterwards with [`certified_names`] and compared by the node with what it dialled and with
//! what the peer says of itself.
//!
//! What can never happen here:
//! - A connection without a verified certificate on both sides.
//! - A resumed session or early data: both would skip the verification of a revoked peer.
//! - A clock read: the time of a verification comes from the [`SharedClock`] that the node sets.
//!
//! [`Credentials`] holds a node's certificate and trust, [`verifier`] judges the peer's,
//! [`TlsFailure`] explains a refusal in the words of the one who has to mend it, and the feature
//! `development` makes credentials on the spot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn_proto::crypto;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

mod credentials;
#[cfg(feature = "development")]
mod development;
mod error;
mod failure;
mod files;
mod names;
mod origin;
mod signing;
#[cfg(test)]
pub(crate) mod testing;
mod verifier;

pub use credentials::{Credentials, Der, Pem};
#[cfg(feature = "development")]
pub use development::{DevelopmentCa, DevelopmentError};
pub use error::CredentialsError;
pub(crate) use error::Utc;
pub use failure::{TlsAlert, TlsFailure};
pub use files::PemFiles;
pub(crate) use names::alternative_names;
pub use names::{MalformedCertificate, certified_names};
pub use origin::{Origin, Part};
use verifier::PeerVerifier;

/// What QUIC needs to shake hands in either role.
#[derive(Clone)]
pub(crate) struct TlsConfigs {
    /// For connections that this node opens. The server name given to `connect` is neither sent
    /// nor checked.
    pub(crate) client: Arc<dyn crypto::ClientConfig>,
    /// For connections that this node accepts.
    pub(crate) server: Arc<dyn crypto::ServerConfig>,
}

impl TlsConfigs {
    /// Builds both roles from one set of credentials. `protocol` is the ALPN name that both ends
    /// must share; `clock` tells the wall clock at each verification.
    ///
    /// # Errors
    /// [`CredentialsError::Provider`] if the cryptography provider cannot do TLS 1.3 over QUIC.
    pub(crate) fn new(
        credentials: &Credentials,
        protocol: &[u8],
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, CredentialsError> {
        let provider = credentials.provider();
        let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(credentials.certified())));
        let verifier = Arc::clone(credentials.verifier());

        let mut client =
            ClientConfig::builder_with_details(Arc::clone(provider), Arc::clone(&clock))
                .with_protocol_versions(&[&TLS13])
                .map_err(unusable_provider)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
                .with_client_cert_resolver(Arc::clone(&resolver) as _);
        client.alpn_protocols = vec![protocol.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;

        let mut server = ServerConfig::builder_with_details(Arc::clone(provider), clock)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable_provider)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        server.alpn_protocols = vec![protocol.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        Ok(Self {
            client: Arc::new(QuicClientConfig::try_from(client).map_err(unusable_provider)?),
            server: Arc::new(QuicServerConfig::try_from(server).map_err(unusable_provider)?),
        })
    }
}

/// The wall clock that certificates are judged by: seconds since the Unix epoch, set by the node
/// as time passes and read by TLS at each verification.
#[derive(Debug, Default)]
pub(crate) struct SharedClock {
    unix_seconds: AtomicU64,
}

impl SharedClock {
    /// A clock that shows `unix_time` until it is set.
    pub(crate) fn new(unix_time: Duration) -> Self {
        Self {
            unix_seconds: AtomicU64::new(unix_time.as_secs()),
        }
    }

    /// What it shows.
    pub(crate) fn unix_time(&self) -> Duration {
        Duration::from_secs(self.unix_seconds.load(Ordering::Relaxed))
    }

    /// Moves the clock, in either direction.
    pub(crate) fn set(&self, unix_time: Duration) {
        self.unix_seconds
            .store(unix_time.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for SharedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.unix_time()))
    }
}

fn unusable_provider(error: impl std::fmt::Display) -> CredentialsError {
    CredentialsError::Provider {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{DAY, Handshake, Leaf, NOW, TestCa};
    use super::*;

    #[test]
    fn the_clock_shows_what_it_was_set_to_in_whole_seconds() {
        let clock = SharedClock::new(Duration::from_millis(1_999));
        assert_eq!(clock.current_time().unwrap().as_secs(), 1);
        clock.set(Duration::from_secs(7));
        assert_eq!(clock.current_time().unwrap().as_secs(), 7);
        clock.set(Duration::from_secs(3));
        assert_eq!(clock.current_time().unwrap().as_secs(), 3);
    }

    #[test]
    fn a_provider_without_the_suite_of_initial_packets_is_refused() {
        let credentials = TestCa::new("a").node("one");
        let mut provider = credentials.provider().as_ref().clone();
        provider
            .cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()).contains("CHACHA20"));
        let credentials = credentials
            .with_crypto_provider(Arc::new(provider))
            .unwrap();
        let clock = Arc::new(SharedClock::new(NOW));
        let error = TlsConfigs::new(&credentials, b"test", clock).err().unwrap();
        assert!(
            matches!(error, CredentialsError::Provider { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_peer_that_was_accepted_before_is_verified_anew() {
        let ca = TestCa::new("ca");
        let clock = Arc::new(SharedClock::new(NOW));
        // Soon enough for a session to be resumed, if there were one.
        let soon = NOW + Duration::from_secs(60);
        let lapsing = Leaf::default().dns("lapsing").valid(NOW - DAY, soon);
        let configs = |credentials: &Credentials| {
            TlsConfigs::new(credentials, b"test", Arc::clone(&clock) as _).unwrap()
        };
        let client = configs(&ca.credentials(&lapsing));
        let server = configs(&ca.node("lasting"));
        assert_eq!(Handshake::with(&client, &server).server_error(), None);
        assert_eq!(Handshake::with(&client, &server).server_error(), None);
        clock.set(soon + Duration::from_secs(1));
        let refused = Handshake::with(&client, &server);
        let client = TlsFailure::explain(&refused.client_error().unwrap());
        let server = TlsFailure::explain(&refused.server_error().unwrap());
        assert_eq!(client, Some(TlsFailure::OursExpired));
        assert!(
            matches!(server, Some(TlsFailure::PeerExpired { .. })),
            "{server:?}"
        );
    }
}

//! Credentials while a node runs: its own are replaced, and the peers' are judged anew.

use std::sync::Arc;
use std::time::Instant;

use crate::node::event::ConnectError;
use crate::node::peer::PeerKey;
use crate::node::{Command, Node};
use crate::tls::{Credentials, CredentialsError, TlsFailure};
use crate::wire::code::Code;

impl Node {
    /// Proves the node's name with other credentials, and judges others by them, from the next
    /// handshake on. The cryptography stays the one that the node began with.
    ///
    /// Connections that are up stay up: a certificate that was renewed, or a CA that is trusted no
    /// more, ends no flow. Only nodes whose certificates the new revocation lists name are cut off
    /// with [`Code::Revoked`].
    ///
    /// # Errors
    /// [`CredentialsError`] if they cannot prove the node's name now; the old ones stay.
    pub fn replace_credentials(
        &mut self,
        credentials: Credentials,
    ) -> Result<(), CredentialsError> {
        let cryptography = Arc::clone(self.credentials.provider());
        let credentials = credentials.with_crypto_provider(cryptography)?;
        credentials.check(&self.config.node, self.clock.unix_time())?;
        self.connections.replace_credentials(&credentials)?;
        self.credentials = credentials;
        self.commands.push_back(Command::JudgePeers);
        Ok(())
    }

    /// Cuts off whom the revocation lists name. Who has yet to prove itself, by a handshake that
    /// began under the old lists, is judged when it has.
    pub(super) fn judge_peers(&mut self, now: Instant) {
        for key in self.connections.keys() {
            self.judge_peer(now, key);
        }
        self.to_judge = self.connections.newest();
    }

    /// Judges a peer that said who it is. Returns whether it may stay.
    pub(super) fn judge_greeted(&mut self, now: Instant, key: PeerKey) -> bool {
        self.to_judge < Some(key) || self.judge_peer(now, key)
    }

    fn judge_peer(&mut self, now: Instant, key: PeerKey) -> bool {
        let Some(peer) = self.connections.get(key).filter(|peer| !peer.is_lost()) else {
            return true;
        };
        let chain = peer.certificate_chain();
        let verdict = self.credentials.recheck(&chain, self.clock.unix_time());
        if verdict != Err(TlsFailure::PeerRevoked) {
            return true;
        }
        let was_coming_up = peer.is_coming_up();
        tracing::warn!(
            target: "grinta::quic",
            peer = peer.name().map(tracing::field::display),
            remote = %peer.remote(),
            "cut off: its certificate was revoked"
        );
        self.close(now, key, Code::Revoked, "");
        if was_coming_up {
            let error = ConnectError::Tls(TlsFailure::PeerRevoked);
            self.handle_failed(now, key, &error);
        }
        false
    }
}

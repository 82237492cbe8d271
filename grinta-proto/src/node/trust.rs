//! Trust while a node runs: its own credentials expire and are replaced, peers are judged by theirs
//! and by the program's rule.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::admission::{Admission, Applicant};
use crate::node::event::ConnectError;
use crate::node::peer::{Peer, PeerKey};
use crate::node::{Command, Node};
use crate::tls::{Credentials, CredentialsError, TlsFailure, Utc};
use crate::wire::code::Code;
use crate::wire::stream::Hello;

/// What was said of the end of the node's own certificate.
#[derive(Debug)]
pub(super) struct Expiry {
    told: Ageing,
    /// When to look at it again.
    pub(super) look_at: Instant,
}

impl Expiry {
    /// Nothing was said, and it is time to look.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            told: Ageing::Fresh,
            look_at: now,
        }
    }
}

/// How old a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ageing {
    Fresh,
    Overdue,
    Expired,
}

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
        self.expiry = Expiry::new(self.now);
        self.commands.push_back(Command::JudgePeers);
        Ok(())
    }

    /// Asks `admission` about each node that connects, or is dialled, from now on.
    pub fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Asks the program's rule about a peer that said who it is. Returns whether it may take part.
    pub(super) fn admit(&mut self, now: Instant, key: PeerKey, hello: &Hello) -> bool {
        let chain = self.connections.get(key).map(Peer::certificate_chain);
        let Some(certificate) = chain.as_deref().and_then(<[_]>::first) else {
            return false;
        };
        let applicant = Applicant {
            node: &hello.node,
            address: hello.address,
            certificate,
        };
        let Err(reason) = self.admission.judge(&applicant) else {
            return true;
        };
        self.close(now, key, Code::NotAdmitted, &reason);
        let node = hello.node.clone();
        let error = ConnectError::NotAdmitted { node, reason };
        self.handle_failed(now, key, &error);
        false
    }

    /// Says so once when the certificate is overdue to be renewed, and once when it has expired. The
    /// wall clock may be set meanwhile, so it is looked at every hour, by a turn that is taken anyway.
    pub(super) fn watch_expiry(&mut self, now: Instant) {
        self.expiry.look_at = now + CLOCK_CHECK_INTERVAL;
        let Some((expires_at, overdue_from)) = self
            .credentials
            .expires_at()
            .zip(self.credentials.overdue_from())
        else {
            return;
        };
        let unix_time = self.clock.unix_time();
        let (ageing, next) = if unix_time > expires_at {
            (Ageing::Expired, CLOCK_CHECK_INTERVAL)
        } else if unix_time >= overdue_from {
            (Ageing::Overdue, expires_at - unix_time)
        } else {
            (Ageing::Fresh, overdue_from - unix_time)
        };
        let told = std::mem::replace(&mut self.expiry.told, ageing);
        if ageing > told {
            let expires_at = Utc(expires_at);
            match ageing {
                Ageing::Fresh => {}
                Ageing::Overdue => {
                    tracing::warn!(target: "grinta::quic", %expires_at, "this node's certificate expires; renew it");
                }
                Ageing::Expired => {
                    tracing::error!(target: "grinta::quic", %expires_at, "this node's certificate has expired: it cannot connect to others any more; renew it");
                }
            }
        }
        // A second later the clock, which shows whole seconds, is past the moment.
        let next = (next + Duration::from_secs(1)).min(CLOCK_CHECK_INTERVAL);
        self.expiry.look_at = now + next;
    }

    /// Cuts off whom the revocation lists name. Who has yet to prove itself, by a handshake that
    /// began under the old lists, is judged when it has.
    pub(super) fn judge_peers(&mut self, now: Instant) {
        self.renew_notary(now);
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

/// How often the wall clock is looked at for the end of the certificate.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(3600);

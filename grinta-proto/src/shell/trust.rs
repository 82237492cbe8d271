//! Credentials of a fabric that runs: handed over, or followed in their files.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use crate::shell::fabric::Fabric;
use crate::shell::shared::Shared;
use crate::shell::sleep::Sleep;
use crate::tls::{Credentials, CredentialsError, PemFiles};

impl Fabric {
    /// Proves this node's name with other credentials, and judges others by them, from the next
    /// handshake on: for a certificate that was renewed, a change of CAs, or new revocation lists.
    ///
    /// Connections that are up stay up, and their flows with them; only nodes whose certificates
    /// the revocation lists name are cut off, with [`Code::Revoked`](crate::Code::Revoked). To
    /// change the CA of a running fabric, first let every node trust both, then give each a
    /// certificate of the new one, then take the old one away.
    ///
    /// # Errors
    /// [`CredentialsError`] if they cannot prove this node's name now; the old ones stay.
    pub fn replace_credentials(&self, credentials: Credentials) -> Result<(), CredentialsError> {
        self.shared().replace_credentials(credentials)
    }

    /// Follows files: looks at them now and then every `interval`, and when they hold something
    /// else [replaces the credentials](Self::replace_credentials). Spawn it once; it ends with the
    /// fabric, and does not keep it open.
    ///
    /// What cannot be used, twice in a row, is told in the log once until it can: whoever writes
    /// the files may be at it. The credentials in use stay meanwhile. The files are read by the
    /// task itself; on a network's file system that may hold up its thread.
    ///
    /// # Cancel safety
    /// Safe: no credentials are replaced in part.
    pub fn follow_credentials(
        &self,
        files: PemFiles,
        interval: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(self.shared());
        let mut follower = Follower {
            files,
            used: None,
            failures: 0,
        };
        async move {
            loop {
                follower.look(&shared);
                let sleep = Sleep::new(&shared, interval);
                poll_fn(|cx| sleep.poll(cx)).await;
                if shared.with(|state| state.is_closed) {
                    return;
                }
            }
        }
    }
}

impl Shared {
    fn replace_credentials(&self, credentials: Credentials) -> Result<(), CredentialsError> {
        self.with(|state| state.node.replace_credentials(credentials))
    }
}

/// Who follows files.
struct Follower {
    files: PemFiles,
    /// The fingerprint of what is in use.
    used: Option<[u8; 32]>,
    /// How often in a row what was found could not be used.
    failures: u32,
}

impl Follower {
    fn look(&mut self, shared: &Shared) {
        let Err(error) = self.follow(shared) else {
            self.failures = 0;
            return;
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures == 2 {
            tracing::warn!(target: "grinta::quic", %error, "credentials not replaced");
        }
    }

    fn follow(&mut self, shared: &Shared) -> Result<(), CredentialsError> {
        let contents = self.files.read()?;
        let found = Some(contents.fingerprint());
        if found == self.used {
            return Ok(());
        }
        shared.replace_credentials(Credentials::from_contents(&contents)?)?;
        if std::mem::replace(&mut self.used, found).is_some() {
            tracing::info!(target: "grinta::quic", "the credentials were replaced");
        }
        Ok(())
    }
}

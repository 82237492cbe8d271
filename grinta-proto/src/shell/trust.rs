//! Credentials of a fabric that runs: handed over, or followed in their files.

use crate::shell::fabric::Fabric;
use crate::tls::{Credentials, CredentialsError};

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
        self.shared()
            .with(|state| state.node.replace_credentials(credentials))
    }
}

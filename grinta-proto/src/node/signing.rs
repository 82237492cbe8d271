//! Names are signed with the key that a node shows in TLS, verified as its certificates are, and held
//! as the program's rule says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::name::{EndpointName, NodeName};
use crate::node::Node;
use crate::node::control::{Notary, Signature};
use crate::tls::Credentials;

/// A node that claims a name.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Claimant<'a> {
    /// The node; its certificate is good for it.
    pub node: &'a NodeName,
    /// The subject alternative names of its certificate, as they stand there: the DNS names, then the
    /// URIs.
    pub alternative_names: &'a [String],
    /// The name that it claims.
    pub name: &'a EndpointName,
}

/// Which names a certificate may claim; by default all.
#[derive(Clone, Default)]
pub struct Claimable(Option<Arc<dyn Rule>>);

trait Rule: Send + Sync {
    fn judge(&self, claimant: &Claimant<'_>) -> Result<(), String>;
}

impl Claimable {
    /// Lets those claim a name for whom `rule` says so.
    pub fn by(rule: impl Fn(&Claimant<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(rule)))
    }
}

impl<F> Rule for F
where
    F: Fn(&Claimant<'_>) -> Result<(), String> + Send + Sync,
{
    fn judge(&self, claimant: &Claimant<'_>) -> Result<(), String> {
        self(claimant)
    }
}

impl fmt::Debug for Claimable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.is_some() { "by a rule" } else { "all" };
        f.debug_tuple("Claimable").field(&what).finish()
    }
}

/// What signs and judges for a node.
#[derive(Debug)]
pub(super) struct Signatory {
    pub(super) credentials: Credentials,
    pub(super) claimable: Claimable,
}

impl Notary for Signatory {
    fn chain(&self) -> Bytes {
        self.credentials.chain_der().into()
    }

    fn sign(&self, statement: &[u8]) -> Option<Signature> {
        let (scheme, signature) = self.credentials.sign(statement)?;
        Some(Signature {
            scheme,
            bytes: signature.into(),
        })
    }

    fn is_certified(&self, node: &NodeName, chain: &[u8], unix_time: Duration) -> bool {
        self.credentials.certifies(node, chain, unix_time)
    }

    fn forbidden(
        &self,
        node: &NodeName,
        chain: &[u8],
        names: &mut dyn Iterator<Item = &EndpointName>,
    ) -> BTreeMap<EndpointName, String> {
        let Claimable(Some(rule)) = &self.claimable else {
            return BTreeMap::new();
        };
        let alternative_names = &Credentials::alternative_names(chain);
        let judged = names.filter_map(|name| {
            let claimant = Claimant {
                node,
                alternative_names,
                name,
            };
            Some((name.clone(), rule.judge(&claimant).err()?))
        });
        judged.collect()
    }

    fn is_signed(&self, chain: &[u8], statement: &[u8], signature: &Signature) -> bool {
        self.credentials
            .verifies(chain, statement, signature.scheme, &signature.bytes)
    }
}

impl Node {
    /// Asks `claimable` which names a certificate may claim, from now on, of this node and of others.
    pub fn set_claimable(&mut self, claimable: Claimable) {
        self.claimable = claimable;
        self.renew_notary(self.now);
    }

    /// Signs and judges by the credentials and the rule that the node has.
    pub(super) fn renew_notary(&mut self, now: Instant) {
        let notary = Signatory {
            credentials: self.credentials.clone(),
            claimable: self.claimable.clone(),
        };
        self.control.replace_notary(now, Box::new(notary));
    }
}

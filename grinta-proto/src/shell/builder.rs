//! How a node is described and put together.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::config::{Config, Neighbour};
use crate::name::{FabricName, InvalidName, NodeName};
use crate::node::{Admission, Applicant, Claimable, Claimant, Node, NodeError, SocketInfo};
use crate::shell::driver::Driver;
use crate::shell::fabric::{Fabric, Handle};
use crate::shell::io::Io;
use crate::shell::shared::Shared;
use crate::tls::{Credentials, CredentialsError};

/// Says what a node is to be. A driver crate starts it.
///
/// Mistakes in names come to light at the start.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until a driver crate starts it"]
pub struct Builder {
    config: Result<Config, InvalidName>,
    listen: SocketAddr,
    advertise: Option<SocketAddr>,
    neighbours: Vec<String>,
    credentials: Option<Credentials>,
    admission: Admission,
    claimable: Claimable,
    dial_timeout: Duration,
    grace_period: Duration,
}

/// Why a node could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node's or the fabric's name is no name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// No credentials were given.
    #[error("no credentials: give the builder some, as `Credentials::from_pem_files`")]
    NoCredentials,
    /// The configuration, the labels or the credentials do not do.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The socket could not be bound.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// Others could not dial the address that would be advertised.
    #[error(
        "listening on {address}, which nobody can dial: say with `advertise` where others reach this node"
    )]
    NotDialable {
        /// The address.
        address: SocketAddr,
    },
    /// There is no runtime to run on.
    #[error("no {runtime} runtime is running on this thread: start the node inside one")]
    NoRuntime {
        /// Which.
        runtime: &'static str,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness: {reason}")]
    NoEntropy {
        /// What it said.
        reason: String,
    },
}

impl Builder {
    pub(super) fn new(node: impl AsRef<str>) -> Self {
        Self {
            config: NodeName::new(node).map(Config::new),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            neighbours: Vec::new(),
            credentials: None,
            admission: Admission::default(),
            claimable: Claimable::default(),
            dial_timeout: DIAL_TIMEOUT,
            grace_period: GRACE_PERIOD,
        }
    }

    /// The fabric to belong to; `default` unless said. Nodes of another are refused.
    pub fn fabric(mut self, name: impl AsRef<str>) -> Self {
        match FabricName::new(name) {
            Ok(name) => self.configure(|config| config.fabric = name),
            Err(error) => {
                self.config = Err(error);
                self
            }
        }
    }

    /// The address to listen on; 127.0.0.1 with a free port unless said.
    pub const fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The address at which other nodes dial this one; the one that it listens on unless said.
    pub const fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// What the node proves its name with, and whom it trusts.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Lets only those nodes take part for which `rule` says so; all that a trusted CA certifies
    /// unless said. The rule sees a node's name, address and certificate, whoever of the two
    /// dialled, before anything that it says counts. Its error reaches the other node as
    /// [`ConnectError::Refused`](crate::ConnectError::Refused) with
    /// [`Code::NotAdmitted`](crate::Code::NotAdmitted).
    ///
    /// It must be the same at all nodes, or they disagree about who is a member. It runs in the
    /// driver, and should not take long. [`rules`](crate::rules) has some ready-made.
    pub fn admit<F, E>(mut self, rule: F) -> Self
    where
        F: Fn(&Applicant<'_>) -> Result<(), E> + Send + Sync + 'static,
        E: Into<String>,
    {
        self.admission = Admission::by(move |applicant| rule(applicant).map_err(E::into));
        self
    }

    /// Lets a certificate claim only those names for which `rule` says so; all unless said. A claim of
    /// this node that the rule forbids is refused with
    /// [`ClaimError::Forbidden`](crate::ClaimError::Forbidden); one of another node counts for
    /// nothing, whatever that node thinks of it.
    ///
    /// It must be the same at all nodes, or they disagree about who owns what; and `verify_claims` must
    /// not be off, for without it nobody knows whose certificate a claim is made by. The rule runs in
    /// the driver, once for each claim, and should not take long. [`rules`](crate::rules) has some
    /// ready-made.
    pub fn admit_claims<F, E>(mut self, rule: F) -> Self
    where
        F: Fn(&Claimant<'_>) -> Result<(), E> + Send + Sync + 'static,
        E: Into<String>,
    {
        self.claimable = Claimable::by(move |claimant| rule(claimant).map_err(E::into));
        self
    }

    /// Changes the credentials that were given, if any were, for driver crates: a simulator brings a
    /// cryptography of its own.
    ///
    /// # Errors
    /// [`StartError::Node`] with what `change` said.
    pub fn change_credentials(
        mut self,
        change: impl FnOnce(Credentials) -> Result<Credentials, CredentialsError>,
    ) -> Result<Self, StartError> {
        let changed = self.credentials.take().map(change).transpose();
        self.credentials = changed.map_err(NodeError::from)?;
        Ok(self)
    }

    /// Adds a place, `host:port`, where a member of the fabric may be found.
    pub fn neighbour(mut self, host: impl Into<String>) -> Self {
        self.neighbours.push(host.into());
        self
    }

    /// Adds a label, by which programs choose among nodes.
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configure(|config| {
            config.labels.insert(key.into(), value.into());
        })
    }

    /// How long a dial may take in all unless it says otherwise. Default 10 s.
    pub const fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = timeout;
        self
    }

    /// How long open flows may drain at the shutdown. Default 5 s.
    pub const fn grace_period(mut self, grace: Duration) -> Self {
        self.grace_period = grace;
        self
    }

    /// Timings for wide-area networks.
    pub fn wan(self) -> Self {
        self.configure(|config| *config = config.clone().wan())
    }

    /// Timings for local networks in which a failure must be known within seconds.
    pub fn fast(self) -> Self {
        self.configure(|config| *config = config.clone().fast())
    }

    /// Timings for tests on one machine.
    pub fn test(self) -> Self {
        self.configure(|config| *config = config.clone().test())
    }

    /// Changes any timing or limit.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        if let Ok(config) = &mut self.config {
            change(config);
        }
        self
    }

    /// The address to listen on, for driver crates.
    #[must_use]
    pub const fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Looks the neighbours up, all at once, with the runtime's own resolver; for driver crates. One
    /// that does not resolve is no error: the node knows it as such, with the reason.
    ///
    /// # Cancel safety
    /// Dropping the future drops the look-ups.
    pub async fn look_up<F>(&self, resolve: impl Fn(String) -> F) -> Vec<Neighbour>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let mut waiting: Vec<_> = self
            .neighbours
            .iter()
            .map(|host| (host, Box::pin(resolve(host.clone()))))
            .collect();
        let mut found: BTreeMap<String, Neighbour> = BTreeMap::new();
        poll_fn(|cx| {
            waiting.retain_mut(|(host, lookup)| {
                let Poll::Ready(addresses) = lookup.as_mut().poll(cx) else {
                    return true;
                };
                let host = host.clone();
                let addresses = addresses.map_err(|error| error.to_string());
                found.insert(host.clone(), Neighbour { host, addresses });
                false
            });
            if waiting.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        found.into_values().collect()
    }

    /// Puts a fabric together, for driver crates: `io` is bound to the address to listen on, `seed`
    /// is random, `neighbours` are looked up. The driver has to be run for anything to happen.
    ///
    /// # Errors
    /// [`StartError`] if names or credentials do not do.
    pub fn assemble<I: Io>(
        self,
        io: I,
        seed: [u8; 32],
        neighbours: Vec<Neighbour>,
    ) -> Result<(Fabric, Driver<I>), StartError> {
        let mut config = self.config?;
        config.neighbours = neighbours;
        let credentials = self.credentials.ok_or(StartError::NoCredentials)?;
        let local_address = io.local_address();
        let address = self.advertise.unwrap_or(local_address);
        if address.ip().is_unspecified() || address.port() == 0 {
            return Err(StartError::NotDialable { address });
        }
        let socket = SocketInfo {
            advertised_address: address,
            may_fragment: io.capabilities().may_fragment,
        };
        let node_name = config.node.clone();
        let mut node = Node::new(config, &credentials, socket, seed, io.now(), io.unix_time())?;
        node.set_admission(self.admission);
        node.set_claimable(self.claimable);
        let shared = Shared::new(node);
        let driver = Driver::new(Arc::clone(&shared), io);
        let handle = Handle {
            shared,
            node: node_name,
            local_address,
            address,
            dial_timeout: self.dial_timeout,
            grace_period: self.grace_period,
        };
        Ok((Fabric::new(handle), driver))
    }
}

impl StartError {
    /// The socket could not be bound; for driver crates.
    #[must_use]
    pub fn bind(address: SocketAddr, error: &io::Error) -> Self {
        let reason = if error.kind() == io::ErrorKind::AddrInUse {
            format!("{error}; stop the other process, or listen on port 0 for a free one")
        } else {
            error.to_string()
        };
        Self::Bind { address, reason }
    }

    /// There is no runtime on this thread; for driver crates.
    #[must_use]
    pub const fn no_runtime(runtime: &'static str) -> Self {
        Self::NoRuntime { runtime }
    }

    /// The system gave no randomness; for driver crates.
    #[must_use]
    pub fn no_entropy(error: &io::Error) -> Self {
        Self::NoEntropy {
            reason: error.to_string(),
        }
    }
}

/// A connection, a certificate check and an answer take milliseconds; a lost first packet costs a
/// second, an unreachable node is given up after five.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a busy flow needs to drain, and what an operator waits at the most.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

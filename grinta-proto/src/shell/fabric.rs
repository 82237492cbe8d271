//! The handle on a fabric, and how one is built.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::{Config, Labels, Neighbour};
use crate::name::{EndpointName, FabricName, InvalidName, NodeName};
use crate::node::control::{ForgetError, Holder, Resolution};
use crate::node::{
    Admission, Applicant, Counters, IdentityConflict, JoinError, JoinReport, Member, Node,
    NodeError, ShutdownReport, Snapshot, SocketInfo, list,
};
use crate::shell::dial::Dial;
use crate::shell::driver::Driver;
use crate::shell::endpoint::OpenEndpoint;
use crate::shell::fan_out::FanOut;
use crate::shell::io::Io;
use crate::shell::local::LocalFlow;
use crate::shell::members::MemberWatch;
use crate::shell::names::{NameScan, NameWatch};
use crate::shell::query::Query;
use crate::shell::shared::{Shared, State};
use crate::shell::sleep::Sleep;
use crate::tls::{Credentials, CredentialsError};
use crate::wire::control::LabelsError;

/// A handle on a fabric: opens endpoints, dials them, and tells about the members.
///
/// Cheap to clone. When the last handle is dropped the node leaves the fabric by itself; endpoints
/// and flows do not keep it.
#[derive(Clone)]
pub struct Fabric {
    handle: Arc<Handle>,
}

/// What the last [`Fabric`] drops.
struct Handle {
    shared: Arc<Shared>,
    node: NodeName,
    local_address: SocketAddr,
    address: SocketAddr,
    dial_timeout: Duration,
    grace_period: Duration,
}

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
    dial_timeout: Duration,
    grace_period: Duration,
}

/// A wait that lasted longer than it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done within {:.1} s", limit.as_secs_f32())]
pub struct Elapsed {
    /// What it was given.
    pub limit: Duration,
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

impl Fabric {
    /// Begins to say what a node is to be. `node` is its name, which must be in its certificate.
    pub fn builder(node: impl AsRef<str>) -> Builder {
        Builder {
            config: NodeName::new(node).map(Config::new),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            neighbours: Vec::new(),
            credentials: None,
            admission: Admission::default(),
            dial_timeout: DIAL_TIMEOUT,
            grace_period: GRACE_PERIOD,
        }
    }

    /// This node's name.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.handle.node
    }

    /// The address that the node's socket is bound to.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.handle.local_address
    }

    /// The address at which other nodes dial this one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.handle.address
    }

    /// Contacts the neighbours and takes over what they know of members and names. Without
    /// neighbours the node is the first of its fabric and others join it; after a
    /// [`leave`](Self::leave) it then asks members that it knew.
    ///
    /// Done once every neighbour has answered or failed; once one has answered, the others have
    /// half a second more. Those that did not answer are in the report, and are warned about in the
    /// log. The node goes on looking for them, also after an error.
    ///
    /// # Errors
    /// [`JoinError`] if none answered, or a join is under way.
    ///
    /// # Cancel safety
    /// When the future is dropped the join goes on; its report is lost.
    pub async fn join(&self) -> Result<JoinReport, JoinError> {
        self.shared().with(|state| {
            if state.is_closed {
                return Err(JoinError::ShuttingDown);
            }
            if std::mem::replace(&mut state.join.is_under_way, true) {
                return Err(JoinError::UnderWay);
            }
            state.join.result = None;
            state.node.join();
            Ok(())
        })?;
        let joined = poll_fn(|cx| self.shared().with(|state| poll_joined(state, cx))).await;
        if let Ok(report) = &joined
            && !report.unreachable.is_empty()
        {
            let unreachable = list(&report.unreachable);
            tracing::warn!(target: "grinta::member", unreachable, "some neighbours did not answer");
        }
        joined
    }

    /// Leaves the fabric and stays: the others are told, and this returns once some of them have
    /// said that they know, or two probe intervals have passed. They list this node as left, not
    /// as down, and its names are not served meanwhile.
    ///
    /// Flows that are open live on until they end. Other nodes are refused new ones, and dials to
    /// them fail with [`DialCause::Left`](crate::DialCause::Left); endpoints stay open, and can be
    /// dialled within this process. A [`join`](Self::join) brings the node back, with its
    /// endpoints.
    ///
    /// # Cancel safety
    /// When the future is dropped the leave goes on.
    pub async fn leave(&self) {
        let before = self.shared().with(|state| {
            state.node.leave();
            state.leave.departures
        });
        poll_fn(|cx| {
            self.shared().with(|state| {
                if state.is_closed || state.leave.departures != before {
                    return Poll::Ready(());
                }
                state.leave.waiters.register(cx);
                Poll::Pending
            })
        })
        .await;
    }

    /// Replaces this node's labels. The others hear of it within a few rounds of gossip, as
    /// [`MemberEvent::Updated`](crate::MemberEvent::Updated).
    ///
    /// # Errors
    /// [`LabelsError`] names the bound that the labels break; nothing changed.
    pub fn set_labels(&self, labels: Labels) -> Result<(), LabelsError> {
        self.shared().with(|state| state.node.set_labels(labels))
    }

    /// Gives up a member that is down and will not come back, on the operator's word: it counts as
    /// left, here at once and elsewhere as soon as the others hear of it, nobody seeks it any more,
    /// and its names are free. Like any that left it stays in the list of members for a time. A
    /// node that holds it alive doubts the word; a later run of it may join as any other. Does
    /// nothing to one that has left.
    ///
    /// # Errors
    /// [`ForgetError`] says why it is not given up; nothing changed.
    pub fn forget(&self, node: &NodeName) -> Result<(), ForgetError> {
        self.shared().with(|state| state.node.forget(node))
    }

    /// Waits until another live process shows itself under this node's name: two processes were
    /// started with one certificate, and one of them must go. At once if that has happened;
    /// `None` if the fabric is closed first.
    ///
    /// Both are told. The fabric takes the one that was started last for the node; it goes on as
    /// before. The other is as after a [`leave`](Self::leave), for good: the
    /// [`snapshot`](Self::snapshot) shows it as left, it serves its own process alone, and a
    /// [`join`](Self::join) fails with [`JoinError::Displaced`]. Its flows with other nodes break, as
    /// after a restart, where that one takes its place. Two that cannot reach each other are told
    /// as far as others show them.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn identity_conflict(&self) -> Option<IdentityConflict> {
        poll_fn(|cx| {
            self.shared().with(|state| {
                let conflict = state.node.identity_conflict();
                if conflict.is_some() || state.is_closed {
                    return Poll::Ready(conflict);
                }
                state.conflict.register(cx);
                Poll::Pending
            })
        })
        .await
    }

    /// The members that are known, this node among them, in the order of their names.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared().with(|state| state.members())
    }

    /// Watches the members: first those that are known, then every change.
    #[must_use]
    pub fn watch_members(&self) -> MemberWatch {
        MemberWatch::new(Arc::clone(self.shared()))
    }

    /// Opens an endpoint: claims its name, and takes flows once this is awaited.
    pub fn endpoint(&self, name: impl AsRef<str>) -> OpenEndpoint {
        OpenEndpoint::new(Arc::clone(self.shared()), name.as_ref())
    }

    /// Dials an endpoint by its name, wherever it is.
    pub fn dial(&self, endpoint: impl AsRef<str>) -> Dial {
        Dial::new(
            Arc::clone(self.shared()),
            endpoint.as_ref(),
            self.handle.dial_timeout,
        )
    }

    /// Calls all nodes that serve a name, or sends them a message, and brings what becomes of it at
    /// each.
    pub fn fan_out(&self, endpoint: impl AsRef<str>) -> FanOut {
        FanOut::new(
            Arc::clone(self.shared()),
            endpoint.as_ref(),
            self.handle.dial_timeout,
        )
    }

    /// Asks other members who owns a name, each by what it knows itself, once this is awaited. The
    /// first answer that names an owner decides, or a vote.
    pub fn query(&self, name: impl AsRef<str>) -> Query {
        Query::new(Arc::clone(self.shared()), name.as_ref())
    }

    /// Who holds a name, as far as this node knows now.
    ///
    /// # Errors
    /// [`InvalidName`] if the name is none.
    pub fn resolve(&self, name: impl AsRef<str>) -> Result<Resolution, InvalidName> {
        let name = EndpointName::new(name)?;
        Ok(self.shared().with(|state| state.node.resolve(&name)))
    }

    /// All who serve a name, as far as this node knows now: its owner first, then the others if it
    /// is shared. Empty for a name that nobody reachable serves.
    ///
    /// # Errors
    /// [`InvalidName`] if the name is none.
    pub fn resolve_all(&self, name: impl AsRef<str>) -> Result<Vec<Holder>, InvalidName> {
        let name = EndpointName::new(name)?;
        Ok(self.shared().with(|state| state.node.holders(&name)))
    }

    /// The names that begin with `prefix`, in pages, as far as this node knows them.
    pub fn names(&self, prefix: impl AsRef<str>) -> NameScan {
        NameScan::new(Arc::clone(self.shared()), prefix.as_ref())
    }

    /// Watches the names that begin with `prefix`: first those that are there, then every change.
    #[must_use]
    pub fn watch_names(&self, prefix: impl AsRef<str>) -> NameWatch {
        NameWatch::new(Arc::clone(self.shared()), prefix.as_ref())
    }

    /// What the node has counted since its start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared().with(|state| *state.node.counters())
    }

    /// What the node is and holds at this moment: members, connections, names, endpoints, flows,
    /// dials, and whatever is bounded next to its limit. With the feature `serde` it can be
    /// written out in any format.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (mut snapshot, local_flows) = self
            .shared()
            .with(|state| (state.node.snapshot(), state.local_flows()));
        snapshot.local_flows = local_flows.iter().map(LocalFlow::snapshot).collect();
        snapshot
    }

    /// Sleeps on the fabric's own clock: the runtime's, or the simulator's. Ends early if the
    /// fabric is closed.
    ///
    /// # Cancel safety
    /// Dropping the future ends the sleep.
    pub async fn sleep(&self, duration: Duration) {
        let sleep = Sleep::new(self.shared(), duration);
        poll_fn(|cx| sleep.poll(cx)).await;
    }

    /// Waits for `future`, for `limit` at the most, on the fabric's own clock.
    ///
    /// # Errors
    /// [`Elapsed`] if it took longer.
    ///
    /// # Cancel safety
    /// As that of `future`, which is dropped when time is up.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep(limit));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Elapsed { limit })),
        })
        .await
    }

    /// Leaves the fabric in order: tells the other nodes, refuses new flows, lets open flows drain
    /// for at most the grace period, then closes all connections and the socket. Returns what was
    /// not delivered by then, which is nothing if every sender was finished and every receiver
    /// read on; see [`Sender::finish`](crate::Sender::finish).
    ///
    /// # Cancel safety
    /// When the future is dropped the shutdown goes on.
    pub async fn shutdown(&self) -> ShutdownReport {
        let grace = self.handle.grace_period;
        self.shared().with(|state| state.node.shutdown(grace));
        self.closed().await;
        self.shared().with(|state| state.shutdown_report)
    }

    /// Waits until the fabric is closed, whoever closes it.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn closed(&self) {
        poll_fn(|cx| {
            self.shared().with(|state| {
                if state.is_closed {
                    return Poll::Ready(());
                }
                state.closing.register(cx);
                Poll::Pending
            })
        })
        .await;
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Builder {
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
        Ok((
            Fabric {
                handle: Arc::new(handle),
            },
            driver,
        ))
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

impl Drop for Handle {
    fn drop(&mut self) {
        let grace = self.grace_period;
        self.shared.with(|state| state.node.shutdown(grace));
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric")
            .field("node", &self.handle.node)
            .field("local_address", &self.handle.local_address)
            .finish_non_exhaustive()
    }
}

fn poll_joined(state: &mut State, cx: &Context<'_>) -> Poll<Result<JoinReport, JoinError>> {
    if let Some(result) = state.join.result.take() {
        return Poll::Ready(result);
    }
    if state.is_closed {
        return Poll::Ready(Err(JoinError::ShuttingDown));
    }
    state.join.waker.register(cx);
    Poll::Pending
}

/// A connection, a certificate check and an answer take milliseconds; a lost first packet costs a
/// second, an unreachable node is given up after five.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a busy flow needs to drain, and what an operator waits at the most.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

//! The handle on a fabric.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::Labels;
use crate::name::{EndpointName, InvalidName, NodeName};
use crate::node::control::{ForgetError, Holder, Resolution};
use crate::node::{
    Counters, IdentityConflict, JoinError, JoinReport, Member, ShutdownReport, Snapshot, list,
};
use crate::shell::builder::Builder;
use crate::shell::dial::Dial;
use crate::shell::endpoint::OpenEndpoint;
use crate::shell::fan_out::FanOut;
use crate::shell::members::MemberWatch;
use crate::shell::names::{NameScan, NameWatch};
use crate::shell::query::Query;
use crate::shell::shared::{Shared, State};
use crate::shell::sleep::{Interval, Sleep};
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
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) node: NodeName,
    pub(super) local_address: SocketAddr,
    pub(super) address: SocketAddr,
    pub(super) dial_timeout: Duration,
    pub(super) grace_period: Duration,
}

/// A wait that lasted longer than it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done within {:.1} s", limit.as_secs_f32())]
pub struct Elapsed {
    /// What it was given.
    pub limit: Duration,
}

impl Fabric {
    /// Begins to say what a node is to be. `node` is its name, which must be in its certificate.
    pub fn builder(node: impl AsRef<str>) -> Builder {
        Builder::new(node)
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
        self.shared().with(|state| state.counters())
    }

    /// What the node is and holds at this moment: members, connections, names, endpoints, flows,
    /// dials, and whatever is bounded next to its limit. With the feature `serde` it can be
    /// written out in any format.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared().snapshot()
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

    /// Ticks after each `period` from now on, on the fabric's own clock: where a task is late, the
    /// ticks that follow stay where they are, and those that it missed are one. A period below 1 ms is
    /// taken for 1 ms.
    #[must_use]
    pub fn interval(&self, period: Duration) -> Interval {
        Interval::new(self.shared(), period)
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

    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle: Arc::new(handle),
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
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

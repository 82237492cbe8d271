//! Cluster queries: who owns a name, as other members know it.

use std::collections::BTreeSet;
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::name::{EndpointName, InvalidName, NodeName};
use crate::node::control::{QueryError, QueryId, QueryMode, QueryReport, QueryRequest};
use crate::share::{InvalidShare, Share};
use crate::shell::shared::{QuerySlot, Shared, State};

/// Asks members who owns a name: made by [`Fabric::query`](crate::Fabric::query), awaited for the
/// [`QueryReport`].
///
/// Each member answers from its own replica of the names. For most programs
/// [`Fabric::resolve`](crate::Fabric::resolve) is the better question: it costs nothing.
///
/// # Cancel safety
/// Dropping the future gives the query up.
#[must_use = "nobody is asked until this is awaited"]
pub struct Query {
    shared: Arc<Shared>,
    name: Result<EndpointName, InvalidName>,
    mode: Result<QueryMode, InvalidShare>,
    nodes: Option<BTreeSet<NodeName>>,
    timeout: Duration,
}

impl Query {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        Self {
            shared,
            name: EndpointName::new(name),
            mode: Ok(QueryMode::First),
            nodes: None,
            timeout: TIMEOUT,
        }
    }

    /// The first answer that names an owner decides; the default. That nobody owns the name is the
    /// result once all have answered, are gone or out of time, and one at least said so.
    pub fn first(mut self) -> Self {
        self.mode = Ok(QueryMode::First);
        self
    }

    /// A vote decides: the owner that most name, of several the one with the lowest node name. At
    /// least the share `participation`, from 0 to 1, of those asked has to have a view, which who is
    /// not synced or too busy has not; 0.67 is a good one.
    pub fn vote(mut self, participation: f64) -> Self {
        let participation = Share::new(participation);
        self.mode = participation.map(|participation| QueryMode::Vote { participation });
        self
    }

    /// Asks these nodes, of which this one may be one; all other members that are alive or suspect
    /// unless said. Those that are no such members count as asked and silent.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = NodeName>) -> Self {
        self.nodes = Some(nodes.into_iter().collect());
        self
    }

    /// How long the answers may take. Default 1 s.
    pub const fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn ask(self) -> Result<QueryReport, QueryError> {
        let request = QueryRequest {
            name: self.name?,
            mode: self.mode?,
            nodes: self.nodes,
            timeout: self.timeout,
        };
        let id = self.shared.with(|state| {
            let id = state.node.query(request);
            state.queries.insert(id, QuerySlot::default());
            id
        });
        let asked = Asked {
            shared: self.shared,
            id,
        };
        poll_fn(|cx| asked.shared.with(|state| poll_answered(state, id, cx))).await
    }
}

impl IntoFuture for Query {
    type Output = Result<QueryReport, QueryError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

/// A query under way; dropping it gives it up.
struct Asked {
    shared: Arc<Shared>,
    id: QueryId,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.queries.remove(&self.id);
            state.node.cancel_query(self.id);
        });
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("nodes", &self.nodes)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn poll_answered(
    state: &mut State,
    id: QueryId,
    cx: &Context<'_>,
) -> Poll<Result<QueryReport, QueryError>> {
    let is_closed = state.is_closed;
    match state.queries.get_mut(&id) {
        Some(slot) => match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None if is_closed => Poll::Ready(Err(QueryError::ShuttingDown)),
            None => {
                slot.waker.register(cx);
                Poll::Pending
            }
        },
        None => Poll::Ready(Err(QueryError::ShuttingDown)),
    }
}

/// Members answer within a round trip; a second also covers a connection that has to be made.
const TIMEOUT: Duration = Duration::from_secs(1);

//! Fan-out: one request or message to all nodes that serve a name.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::stream::Stream;

use crate::codec::Codec;
use crate::name::{EndpointName, NodeName};
use crate::node::control::Holder;
use crate::node::{DialCause, DialError};
use crate::shell::call::CallError;
use crate::shell::dial::{Dial, not_begun};
use crate::shell::flow::SendCause;
use crate::shell::shared::Shared;
use crate::shell::sleep::Sleep;

/// A fan-out to be made: from [`Fabric::fan_out`](crate::Fabric::fan_out), through one of
/// [`call`](Self::call) and [`send`](Self::send).
///
/// It goes to the nodes that are known to serve the name at that moment, this one among them if it
/// does: one, unless the name is shared. Each is dialled by itself, and what becomes of one does not
/// concern the others.
///
/// ```
/// use std::time::Duration;
///
/// use grinta_proto::{Fabric, Json};
///
/// # type Failure = Box<dyn std::error::Error>;
/// async fn total(fabric: &Fabric) -> Result<u64, Failure> {
///     let fan_out = fabric.fan_out("shard").deadline(Duration::from_secs(1));
///     let mut outcomes = fan_out.call::<String, u64, _>(Json, "count".to_owned())?;
///     let mut total = 0;
///     while let Some(outcome) = outcomes.next().await {
///         match outcome.result {
///             Ok(count) => total += count,
///             Err(error) => eprintln!("{}: {error}", outcome.node),
///         }
///     }
///     Ok(total)
/// }
/// ```
#[must_use = "a fan-out does nothing until something is called or sent"]
pub struct FanOut {
    shared: Arc<Shared>,
    endpoint: String,
    limit: Duration,
    nodes_max: usize,
    at_once: usize,
}

/// What becomes of a fan-out at each node, as it comes.
///
/// It is a [`Stream`], too. Nothing goes on while nobody waits for the [`next`](Self::next) outcome.
/// Dropping it gives up what has no outcome yet: dials are withdrawn, and who has a request is told
/// that its answer is not wanted any more.
#[must_use = "nothing goes out until somebody waits for the outcomes"]
pub struct Outcomes<T> {
    limit: Duration,
    timer: Arc<Sleep>,
    at_once: usize,
    /// Those whose turn is still to come.
    waiting: VecDeque<NodeName>,
    under_way: Vec<(NodeName, Attempt<T>)>,
    begin: Begin<T>,
}

/// Goes to one node, within what is left of the time.
struct Begin<T>(Box<dyn Fn(NodeName, Arc<Sleep>) -> Attempt<T> + Send>);

/// One node, from the dial to the outcome.
struct Attempt<T>(Pin<Box<dyn Future<Output = Result<T, FanOutError>> + Send>>);

/// What became of a fan-out at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<T> {
    /// The node.
    pub node: NodeName,
    /// Its answer; for a message, that the node has it.
    pub result: Result<T, FanOutError>,
}

/// Why a fan-out failed at one node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FanOutError {
    /// The node could not be dialled, or did not take the flow.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It took the flow, and there is no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It took the flow, and the message is not known to have arrived.
    #[error(transparent)]
    Send(#[from] SendCause),
    /// The message was sent, and time ran out before the node was known to have it. It may arrive
    /// yet.
    #[error("not known to have arrived within {:.1} s", limit.as_secs_f32())]
    Unconfirmed {
        /// The time that the fan-out was given.
        limit: Duration,
    },
    /// Time ran out before it was the node's turn: see [`FanOut::at_once`].
    #[error("not begun within {:.1} s: others were slow", limit.as_secs_f32())]
    NoTurn {
        /// The time that the fan-out was given.
        limit: Duration,
    },
}

impl FanOutError {
    /// Whether the node may have acted on the request or message. If not, it can be sent again
    /// without a thought.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::Dial(_) | Self::NoTurn { .. } => false,
            Self::Call(error) => error.may_have_run(),
            Self::Send(cause) => match cause {
                SendCause::TooLong { .. } | SendCause::Encode(_) | SendCause::Full => false,
                SendCause::Stopped { .. } | SendCause::Finished | SendCause::Lost(_) => true,
            },
            Self::Unconfirmed { .. } => true,
        }
    }
}

#[expect(
    clippy::result_large_err,
    reason = "it is the error of a dial, given once for all nodes"
)]
impl FanOut {
    pub(crate) fn new(shared: Arc<Shared>, endpoint: &str, limit: Duration) -> Self {
        Self {
            shared,
            endpoint: endpoint.to_owned(),
            limit,
            nodes_max: usize::MAX,
            at_once: AT_ONCE,
        }
    }

    /// How long it may take in all, counted from when it is called or sent; the default is the
    /// fabric's dial time-out.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Goes to so many nodes at the most: to those that have served the name longest.
    pub const fn nodes(mut self, nodes: usize) -> Self {
        self.nodes_max = nodes;
        self
    }

    /// How many nodes are under way at once, at least 1; the others wait for their turn. Default 32.
    pub const fn at_once(mut self, nodes: usize) -> Self {
        self.at_once = if nodes == 0 { 1 } else { nodes };
        self
    }

    /// Calls each node with the request, over a flow of its own: as
    /// [`Dial::caller`](crate::Dial::caller) and [`Caller::call`](crate::Caller::call).
    ///
    /// # Errors
    /// [`DialError`] if nobody is known to serve the name. What happens at a node is in its outcome.
    pub fn call<Q, A, C>(self, codec: C, request: Q) -> Result<Outcomes<A>, DialError>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        C: Codec<Q> + Codec<A> + Clone,
    {
        self.begin(move |dial, timer| {
            let dial = dial.caller::<Q, A, C>(codec.clone());
            let request = request.clone();
            Attempt(Box::pin(async move {
                let caller = dial.await?;
                Ok(caller.call(request).deadline(timer.left()).await?)
            }))
        })
    }

    /// Sends each node the message, as the only one of a flow of its own: as
    /// [`Dial::sender`](crate::Dial::sender), [`Sender::send`](crate::Sender::send) and
    /// [`Sender::finish`](crate::Sender::finish).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn send<T, C>(self, codec: C, message: T) -> Result<Outcomes<()>, DialError>
    where
        T: Clone + Send + 'static,
        C: Codec<T> + Clone,
    {
        let limit = self.limit;
        self.begin(move |dial, timer| {
            let dial = dial.sender::<T, C>(codec.clone());
            let message = message.clone();
            Attempt(Box::pin(async move {
                let mut sender = dial.await?;
                let mut sending = pin!(async {
                    sender.send(message).await.map_err(|error| error.cause)?;
                    sender.finish().await
                });
                poll_fn(|cx| match sending.as_mut().poll(cx) {
                    Poll::Ready(sent) => Poll::Ready(sent.map_err(FanOutError::from)),
                    Poll::Pending if timer.poll(cx).is_ready() => {
                        Poll::Ready(Err(FanOutError::Unconfirmed { limit }))
                    }
                    Poll::Pending => Poll::Pending,
                })
                .await
            }))
        })
    }

    fn begin<T>(
        self,
        attempt: impl Fn(Dial, Arc<Sleep>) -> Attempt<T> + Send + 'static,
    ) -> Result<Outcomes<T>, DialError> {
        let waiting = self.holders()?;
        let Self {
            shared,
            endpoint,
            limit,
            at_once,
            ..
        } = self;
        let timer = Arc::new(Sleep::new(&shared, limit));
        let begin = move |node, timer: Arc<Sleep>| {
            let dial = Dial::new(Arc::clone(&shared), &endpoint, timer.left());
            attempt(dial.at(node), timer)
        };
        Ok(Outcomes {
            limit,
            timer,
            at_once,
            waiting,
            under_way: Vec::new(),
            begin: Begin(Box::new(begin)),
        })
    }

    /// The nodes that serve the name now.
    fn holders(&self) -> Result<VecDeque<NodeName>, DialError> {
        let invalid = |cause| not_begun(&self.endpoint, cause);
        let name = EndpointName::new(&self.endpoint)
            .map_err(|error| invalid(DialCause::InvalidName(error)))?;
        let holders = self.shared.with(|state| {
            if state.is_closed {
                return Err(DialCause::ShuttingDown);
            }
            let holders = state.node.holders(&name).into_iter();
            let names = holders.map(|holder| match holder {
                Holder::Local => state.node.name().clone(),
                Holder::Remote { node, .. } => node,
            });
            let names: VecDeque<_> = names.take(self.nodes_max).collect();
            if names.is_empty() && self.nodes_max > 0 {
                return Err(state.node.explain_unheld(&name));
            }
            Ok(names)
        });
        holders.map_err(invalid)
    }
}

impl<T> Outcomes<T> {
    /// The next outcome, of whichever node comes first; `None` once each has had one.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no outcome is lost.
    pub async fn next(&mut self) -> Option<Outcome<T>> {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    /// How many outcomes are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome<T>>> {
        let is_over = self.timer.poll(cx).is_ready();
        while !is_over && self.under_way.len() < self.at_once {
            let Some(node) = self.waiting.pop_front() else {
                break;
            };
            let attempt = (self.begin.0)(node.clone(), Arc::clone(&self.timer));
            self.under_way.push((node, attempt));
        }
        for index in 0..self.under_way.len() {
            let (_, attempt) = &mut self.under_way[index];
            if let Poll::Ready(result) = attempt.0.as_mut().poll(cx) {
                let (node, _) = self.under_way.swap_remove(index);
                return Poll::Ready(Some(Outcome { node, result }));
            }
        }
        if is_over && let Some(node) = self.waiting.pop_front() {
            let result = Err(FanOutError::NoTurn { limit: self.limit });
            return Poll::Ready(Some(Outcome { node, result }));
        }
        if self.under_way.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl<T> Stream for Outcomes<T> {
    type Item = Outcome<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_outcome(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left(), Some(self.left()))
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut")
            .field("endpoint", &self.endpoint)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Outcomes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes")
            .field("limit", &self.limit)
            .field("waiting", &self.waiting.len())
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

/// Nodes under way at once: each is looked at whenever one has news.
const AT_ONCE: usize = 32;

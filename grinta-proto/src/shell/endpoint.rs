//! Endpoints: named places at which tasks take flows.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::codec::Codec;
use crate::name::{EndpointName, InvalidName, NodeName};
use crate::node::control::ClaimMode;
use crate::node::{self as core, EndpointId, EndpointRefusal, IncomingId, Origin};
use crate::shell::ends::{Codecs, Encodings, Ends, MessageLimits};
use crate::shell::flow::{Flow, Path, Receiver, Sender};
use crate::shell::shared::{EndpointSlot, Shared, State};
use crate::wire::stream::{Direction, FlowAnswer, RefusalReason};

/// A named place of this node at which flows are taken.
///
/// Dropping it releases the name and refuses the flows that wait; open flows live on.
pub struct Endpoint {
    shared: Arc<Shared>,
    id: EndpointId,
    name: EndpointName,
}

/// Opens an endpoint: made by [`Fabric::endpoint`](crate::Fabric::endpoint), awaited for the
/// [`Endpoint`].
#[must_use = "an endpoint is opened when this is awaited"]
pub struct OpenEndpoint {
    shared: Arc<Shared>,
    name: Result<EndpointName, InvalidName>,
    accept_queue_max: Option<usize>,
    mode: ClaimMode,
}

/// A flow that was dialled and waits to be accepted or refused. Dropping it refuses it.
pub struct Incoming {
    shared: Arc<Shared>,
    incoming: core::Incoming,
    is_answered: bool,
}

/// Why an endpoint could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The name is no name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The node refused it.
    #[error("cannot open {name}: {refusal}")]
    Refused {
        /// The name.
        name: EndpointName,
        /// Why.
        refusal: EndpointRefusal,
    },
    /// The fabric is closed.
    #[error("the fabric is closed")]
    Closed,
}

/// Why there is no flow to accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Another node owns the name by now, and new flows go there. Said once; the endpoint stays
    /// and takes flows again should the name come back.
    #[error("{name} is owned by {winner} now; new flows go there")]
    NameLost {
        /// The name.
        name: EndpointName,
        /// Its owner.
        winner: NodeName,
    },
    /// The dialler asks for something else than the accepting task. It was refused.
    #[error("the dialler {asked}, this endpoint {expected}")]
    Mismatch {
        /// What the dialler asks for.
        asked: String,
        /// What the accepting task asked for.
        expected: String,
    },
    /// The codec's description breaks a rule.
    #[error("the codec's message type {reason}")]
    InvalidCodec {
        /// Which.
        reason: String,
    },
    /// The dialler has given up meanwhile.
    #[error("the dialler has given up")]
    Withdrawn,
    /// The fabric is closed.
    #[error("the fabric is closed")]
    Closed,
}

impl OpenEndpoint {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        Self {
            shared,
            name: EndpointName::new(name),
            accept_queue_max: None,
            mode: ClaimMode::Exclusive,
        }
    }

    /// How many flows may wait to be accepted; further ones are refused as busy. At least 1; the
    /// default is `accept_queue_max` of the fabric's limits.
    pub fn accept_queue(mut self, flows: usize) -> Self {
        self.accept_queue_max = Some(flows.max(1));
        self
    }

    /// Serves the name beside all other nodes that share it. Refused while a node serves it alone.
    pub fn shared(mut self) -> Self {
        self.mode = ClaimMode::Shared;
        self
    }

    async fn open(self) -> Result<Endpoint, EndpointError> {
        let name = self.name?;
        let refused = |refusal| EndpointError::Refused {
            name: name.clone(),
            refusal,
        };
        let id = self.shared.with(|state| {
            if state.is_closed {
                return Err(EndpointError::Closed);
            }
            let limit = state.node.limits().accept_queue_max;
            let queue_max = self.accept_queue_max.unwrap_or(limit);
            let id = state
                .node
                .open_endpoint(&name, queue_max, self.mode)
                .map_err(refused)?;
            state.endpoints.insert(id, EndpointSlot::default());
            Ok(id)
        })?;
        // From here on dropping the future releases the name.
        let endpoint = Endpoint {
            shared: self.shared,
            id,
            name: name.clone(),
        };
        let opened = poll_fn(|cx| endpoint.shared.with(|state| poll_opened(state, id, cx))).await?;
        opened.map_err(refused)?;
        Ok(endpoint)
    }
}

impl IntoFuture for OpenEndpoint {
    type Output = Result<Endpoint, EndpointError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl Endpoint {
    /// The endpoint's name.
    #[must_use]
    pub const fn name(&self) -> &EndpointName {
        &self.name
    }

    /// Takes the flow that has waited longest.
    ///
    /// # Errors
    /// [`AcceptError::NameLost`] once when another node has come to own the name,
    /// [`AcceptError::Closed`] when the fabric is closed.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no flow is lost.
    pub async fn accept(&self) -> Result<Incoming, AcceptError> {
        let incoming = poll_fn(|cx| self.shared.with(|state| self.poll_accept(state, cx))).await?;
        Ok(Incoming {
            shared: Arc::clone(&self.shared),
            incoming,
            is_answered: false,
        })
    }

    fn poll_accept(
        &self,
        state: &mut State,
        cx: &Context<'_>,
    ) -> Poll<Result<core::Incoming, AcceptError>> {
        if let Some(incoming) = state.node.take_incoming(self.id) {
            return Poll::Ready(Ok(incoming));
        }
        if state.is_closed {
            return Poll::Ready(Err(AcceptError::Closed));
        }
        let Some(slot) = state.endpoints.get_mut(&self.id) else {
            return Poll::Ready(Err(AcceptError::Closed));
        };
        if let Some(winner) = slot.lost_to.take() {
            return Poll::Ready(Err(AcceptError::NameLost {
                name: self.name.clone(),
                winner,
            }));
        }
        slot.waiters.register(cx);
        Poll::Pending
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.node.close_endpoint(self.id);
            state.endpoints.remove(&self.id);
        });
    }
}

impl Incoming {
    /// The endpoint that was dialled.
    #[must_use]
    pub const fn endpoint(&self) -> &EndpointName {
        &self.incoming.open.endpoint
    }

    /// Which way the messages go, as the dialler sees it.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.incoming.open.direction
    }

    /// Where the dialler is.
    #[must_use]
    pub fn path(&self) -> Path {
        match &self.incoming.origin {
            Origin::Local { .. } => Path::Local,
            Origin::Remote { node, .. } => Path::Remote { node: node.clone() },
        }
    }

    /// Accepts a flow on which the dialler only sends.
    ///
    /// # Errors
    /// [`AcceptError`] if the dialler asks for something else, which refuses it, or has given up.
    pub fn receiver<T, C>(self, codec: C) -> Result<Receiver<T>, AcceptError>
    where
        T: Send + 'static,
        C: Codec<T>,
    {
        let codecs: Codecs<(), T> = Codecs {
            sends: None,
            receives: Some(Arc::new(codec)),
        };
        self.accept(codecs)?.receiver.ok_or(AcceptError::Withdrawn)
    }

    /// Accepts a flow on which the dialler only receives.
    ///
    /// # Errors
    /// [`AcceptError`] if the dialler asks for something else, which refuses it, or has given up.
    pub fn sender<T, C>(self, codec: C) -> Result<Sender<T>, AcceptError>
    where
        T: Send + 'static,
        C: Codec<T>,
    {
        let codecs: Codecs<T, ()> = Codecs {
            sends: Some(Arc::new(codec)),
            receives: None,
        };
        self.accept(codecs)?.sender.ok_or(AcceptError::Withdrawn)
    }

    /// Accepts a flow that goes both ways: this side sends `S` and receives `R`.
    ///
    /// # Errors
    /// [`AcceptError`] if the dialler asks for something else, which refuses it, or has given up.
    pub fn bidi<S, R, C>(self, codec: C) -> Result<Flow<S, R>, AcceptError>
    where
        S: Send + 'static,
        R: Send + 'static,
        C: Codec<S> + Codec<R> + Clone,
    {
        let codecs: Codecs<S, R> = Codecs {
            sends: Some(Arc::new(codec.clone())),
            receives: Some(Arc::new(codec)),
        };
        let Ends { sender, receiver } = self.accept(codecs)?;
        let (sender, receiver) = sender.zip(receiver).ok_or(AcceptError::Withdrawn)?;
        Ok(Flow { sender, receiver })
    }

    /// Refuses the flow. `detail` tells the dialler more, in at most 512 bytes.
    pub fn refuse(mut self, reason: RefusalReason, detail: &str) {
        self.answer_refused(reason, detail.to_owned());
    }

    fn accept<S, R>(mut self, codecs: Codecs<S, R>) -> Result<Ends<S, R>, AcceptError>
    where
        S: Send + 'static,
        R: Send + 'static,
    {
        let expected = codecs
            .encodings()
            .map_err(|fault| AcceptError::InvalidCodec {
                reason: fault.to_string(),
            })?;
        let open = &self.incoming.open;
        let asked = Encodings {
            sends: open.sends.clone(),
            receives: open.receives.clone(),
        };
        if !expected.matches(&asked) {
            let (asked, expected) = (asked.describe(), expected.describe());
            self.answer_refused(RefusalReason::Mismatch, format!("it {expected}"));
            return Err(AcceptError::Mismatch { asked, expected });
        }
        self.is_answered = true;
        let shared = Arc::clone(&self.shared);
        self.shared.with(|state| {
            if state.is_closed {
                return Err(AcceptError::Closed);
            }
            let received = state.node.limits().message_len_max;
            let limits = MessageLimits {
                sent: open.message_len_max,
                received,
            };
            let accepted = FlowAnswer::Accepted {
                message_len_max: received as u64,
            };
            let id: IncomingId = self.incoming.id;
            match &self.incoming.origin {
                Origin::Remote { flow, node } => {
                    if !state.node.answer(id, accepted) {
                        return Err(AcceptError::Withdrawn);
                    }
                    let path = Path::Remote { node: node.clone() };
                    Ok(codecs.over_connection(&shared, state, *flow, &path, limits))
                }
                Origin::Local { dial } => {
                    let types = state.dials.get(dial).and_then(|slot| slot.types);
                    let types = types.ok_or(AcceptError::Withdrawn)?;
                    let (ends, queues) = codecs.make_queues(state, types, limits);
                    if let Some(slot) = state.dials.get_mut(dial) {
                        slot.queues = Some(queues);
                    }
                    if !state.node.answer(id, accepted) {
                        return Err(AcceptError::Withdrawn);
                    }
                    Ok(ends)
                }
            }
        })
    }

    fn answer_refused(&mut self, reason: RefusalReason, detail: String) {
        self.is_answered = true;
        let answer = FlowAnswer::Refused { reason, detail };
        self.shared
            .with(|state| state.node.answer(self.incoming.id, answer));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer_refused(RefusalReason::Declined, String::new());
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenEndpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("endpoint", self.endpoint())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

fn poll_opened(
    state: &mut State,
    id: EndpointId,
    cx: &Context<'_>,
) -> Poll<Result<Result<(), EndpointRefusal>, EndpointError>> {
    let is_closed = state.is_closed;
    let Some(slot) = state.endpoints.get_mut(&id) else {
        return Poll::Ready(Err(EndpointError::Closed));
    };
    if let Some(opened) = slot.opened.take() {
        return Poll::Ready(Ok(opened));
    }
    if is_closed {
        return Poll::Ready(Err(EndpointError::Closed));
    }
    slot.waiters.register(cx);
    Poll::Pending
}

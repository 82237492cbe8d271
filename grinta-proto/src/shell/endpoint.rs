//! Endpoints: named places at which tasks take flows.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::codec::Codec;
use crate::config::Labels;
use crate::name::{EndpointName, InvalidName, NodeName};
use crate::node::control::Confirmation;
use crate::node::{
    self as core, Claiming, EndpointId, EndpointRefusal, IncomingId, Origin, Standing,
};
use crate::share::{InvalidShare, Share};
use crate::shell::call::{Ask, Calls, Enveloping, Reply};
use crate::shell::ends::{Codecs, Encodings, Ends, MessageLimits};
use crate::shell::flow::{Flow, Path, Receiver, Sender};
use crate::shell::shared::{EndpointSlot, Shared, State};
use crate::wire::stream::{Direction, FlowAnswer, Refusal, RefusalReason};

/// A named place of this node at which flows are taken.
///
/// Dropping it releases the name and refuses the flows that wait; open flows live on.
pub struct Endpoint {
    pub(super) shared: Arc<Shared>,
    id: EndpointId,
    name: EndpointName,
    admission: Option<Admission>,
}

/// Opens an endpoint: made by [`Fabric::endpoint`](crate::Fabric::endpoint), awaited for the
/// [`Endpoint`].
#[must_use = "an endpoint is opened when this is awaited"]
pub struct OpenEndpoint {
    shared: Arc<Shared>,
    name: Result<EndpointName, InvalidName>,
    accept_queue_max: Option<usize>,
    admission: Option<Admission>,
    claiming: Result<Claiming, InvalidShare>,
    confirm_timeout: Duration,
}

/// Says of a flow whether it may come in, or why not.
#[expect(
    clippy::type_complexity,
    reason = "it is written out once, and this is its name"
)]
struct Admission(Box<dyn Fn(&Incoming) -> Result<(), Refusal> + Send + Sync>);

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
    /// The share of members that are to confirm the claim is none.
    #[error(transparent)]
    InvalidShare(#[from] InvalidShare),
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
            admission: None,
            claiming: Ok(Claiming::Exclusive),
            confirm_timeout: CONFIRM_TIMEOUT,
        }
    }

    /// Stands by while another node serves the name: the endpoint opens at once, takes no flows, and
    /// takes over by itself when that node gives the name up or is down. Takes the place of
    /// [`confirmed`](Self::confirmed), as that does of this.
    pub fn standby(mut self) -> Self {
        self.claiming = Ok(Claiming::Standby);
        self
    }

    /// Opens once a share, from 0 to 1, of the other members that are alive or suspect has said that
    /// it sees this node as the owner of the name; flows wait until then. A member that knows an
    /// older claim refuses ours. If time runs out the name is given up again.
    pub fn confirmed(mut self, share: f64) -> Self {
        self.claiming = Share::new(share).map(|share| {
            let timeout = self.confirm_timeout;
            Claiming::Confirmed(Confirmation { share, timeout })
        });
        self
    }

    /// How long members have to confirm the claim. Default 5 s.
    pub fn confirm_timeout(mut self, timeout: Duration) -> Self {
        self.confirm_timeout = timeout;
        if let Ok(Claiming::Confirmed(confirmation)) = &mut self.claiming {
            confirmation.timeout = timeout;
        }
        self
    }

    /// How many flows may wait to be accepted; further ones are refused as busy. At least 1; the
    /// default is `accept_queue_max` of the fabric's limits.
    pub fn accept_queue(mut self, flows: usize) -> Self {
        self.accept_queue_max = Some(flows.max(1));
        self
    }

    /// Serves the name beside all other nodes that share it. Refused while a node serves it alone.
    /// Takes the place of [`standby`](Self::standby) and [`confirmed`](Self::confirmed).
    pub fn shared(mut self) -> Self {
        self.claiming = Ok(Claiming::Shared);
        self
    }

    /// Asks `admit` about each flow before [`Endpoint::accept`] returns it. An error refuses the
    /// flow, and the accepting task does not see it: a [`Refusal`], which may carry a code of the
    /// program, or just a word to the dialler, which stands for
    /// [`NotAllowed`](RefusalReason::NotAllowed).
    ///
    /// It runs in the task that accepts, and should not take long.
    pub fn admit<F, E>(mut self, admit: F) -> Self
    where
        F: Fn(&Incoming) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Refusal>,
    {
        let admit = move |incoming: &Incoming| admit(incoming).map_err(E::into);
        self.admission = Some(Admission(Box::new(admit)));
        self
    }

    async fn open(self) -> Result<Endpoint, EndpointError> {
        let name = self.name?;
        let claiming = self.claiming?;
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
                .open_endpoint(&name, queue_max, claiming)
                .map_err(refused)?;
            state.endpoints.insert(id, EndpointSlot::default());
            Ok(id)
        })?;
        // From here on dropping the future releases the name.
        let endpoint = Endpoint {
            shared: self.shared,
            id,
            name: name.clone(),
            admission: self.admission,
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

    /// Whether the endpoint owns its name or stands by for another node's.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.with(|state| self.standing_in(state))
    }

    /// Waits until the standing is another than `known`, and tells which; `None` if the fabric is
    /// closed.
    ///
    /// # Cancel safety
    /// Safe: ask again with the standing that is known.
    pub async fn standing_changed(&self, known: &Standing) -> Option<Standing> {
        poll_fn(|cx| {
            self.shared.with(|state| {
                let standing = self.standing_in(state);
                if standing != *known {
                    return Poll::Ready(Some(standing));
                }
                match state.endpoints.get_mut(&self.id) {
                    Some(slot) if !state.is_closed => {
                        slot.waiters.register(cx);
                        Poll::Pending
                    }
                    Some(_) | None => Poll::Ready(None),
                }
            })
        })
        .await
    }

    fn standing_in(&self, state: &State) -> Standing {
        let standing = state.node.standing(self.id);
        standing.expect("an endpoint is open").clone()
    }

    /// Takes the flow that has waited longest. At an endpoint that stands by it waits.
    ///
    /// # Errors
    /// [`AcceptError::NameLost`] once when another node has come to own the name,
    /// [`AcceptError::Closed`] when the fabric is closed.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no flow is lost.
    pub async fn accept(&self) -> Result<Incoming, AcceptError> {
        loop {
            let incoming =
                poll_fn(|cx| self.shared.with(|state| self.poll_accept(state, cx))).await?;
            let incoming = Incoming {
                shared: Arc::clone(&self.shared),
                incoming,
                is_answered: false,
            };
            match self.admit(&incoming) {
                Ok(()) => return Ok(incoming),
                Err(refusal) => incoming.refuse(refusal),
            }
        }
    }

    fn admit(&self, incoming: &Incoming) -> Result<(), Refusal> {
        match &self.admission {
            Some(Admission(admit)) => admit(incoming),
            None => Ok(()),
        }
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

    /// The node that dials: this one, or as the other's certificate names it.
    #[must_use]
    pub fn node(&self) -> NodeName {
        match &self.incoming.origin {
            Origin::Local { .. } => self.shared.with(|state| state.node.name().clone()),
            Origin::Remote { node, .. } => node.clone(),
        }
    }

    /// The labels of the node that dials, as far as they are known by now: it says them of itself.
    #[must_use]
    pub fn labels(&self) -> Arc<Labels> {
        self.shared.with(|state| match &self.incoming.origin {
            Origin::Local { .. } => state.node.own_member().labels,
            Origin::Remote { node, .. } => state
                .node
                .members()
                .find(|member| member.name == *node)
                .map(|member| member.labels)
                .unwrap_or_default(),
        })
    }

    /// The trace that the flow belongs to, as its dialler says
    /// ([`Dial::traceparent`](crate::Dial::traceparent)); `None` if it says nothing. It comes from
    /// the other program: what is not the value of a W3C `traceparent` header is to be ignored.
    #[must_use]
    pub const fn traceparent(&self) -> Option<&str> {
        let traceparent = self.incoming.open.traceparent.as_str();
        match traceparent.is_empty() {
            true => None,
            false => Some(traceparent),
        }
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
        let codec = Arc::new(codec);
        let codecs: Codecs<S, R> = Codecs {
            sends: Some(Arc::clone(&codec) as _),
            receives: Some(codec),
        };
        Ok(self.accept(codecs)?.into_flow())
    }

    /// Accepts a flow of calls: the dialler sends requests of type `Q`, each of which is answered
    /// with an `A`.
    ///
    /// # Errors
    /// [`AcceptError`] if the dialler asks for something else, which refuses it, or has given up.
    pub fn calls<Q, A, C>(self, codec: C) -> Result<Calls<Q, A>, AcceptError>
    where
        Q: Send + 'static,
        A: Send + 'static,
        C: Codec<Q> + Codec<A> + Clone,
    {
        let shared = Arc::clone(&self.shared);
        let answers: Arc<dyn Codec<A>> = Arc::new(codec.clone());
        let requests: Arc<dyn Codec<Q>> = Arc::new(codec);
        let codecs: Codecs<Reply<A>, Ask<Q>> = Codecs {
            sends: Some(Arc::new(Enveloping::new(answers))),
            receives: Some(Arc::new(Enveloping::new(requests))),
        };
        Ok(Calls::new(shared, self.accept(codecs)?.into_flow()))
    }

    /// Refuses the flow. The dialler learns why from
    /// [`DialCause::Refused`](crate::DialCause::Refused).
    pub fn refuse(mut self, refusal: impl Into<Refusal>) {
        self.answer_refused(refusal.into());
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
        if !expected.matches(open) {
            let asked = Encodings {
                sends: open.sends.clone(),
                receives: open.receives.clone(),
            };
            let (asked, expected) = (asked.describe(), expected.describe());
            let detail = format!("it {expected}");
            self.answer_refused(Refusal::new(RefusalReason::Mismatch, detail));
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
                    Ok(codecs.over_connection(&shared, *flow, &path, limits))
                }
                Origin::Local { dial } => {
                    let types = state.dials.get(dial).and_then(|slot| slot.types);
                    let types = types.ok_or(AcceptError::Withdrawn)?;
                    let (ends, queues) = codecs.make_queues(state, &open.endpoint, types, limits);
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

    fn answer_refused(&mut self, refusal: Refusal) {
        self.is_answered = true;
        let answer = FlowAnswer::Refused(refusal);
        self.shared
            .with(|state| state.node.answer(self.incoming.id, answer));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer_refused(Refusal::new(RefusalReason::Declined, ""));
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

/// Members confirm within a round trip; one that is down is found out within this time.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

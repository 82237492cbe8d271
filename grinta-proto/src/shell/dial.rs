//! Dials: from a name to the ends of a flow.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Codec;
use crate::name::{EndpointName, NodeName};
use crate::node::{
    Choice, DialCause, DialError, DialId, DialRequest, DialStage, Dialled, UnknownName,
};
use crate::shell::call::{Ask, Caller, Enveloping, Reply};
use crate::shell::ends::{Codecs, Ends, MessageLimits};
use crate::shell::flow::{Flow, Path, Receiver, Sender};
use crate::shell::shared::{DialSlot, Shared, State};
use crate::wire::stream::{OpenFlow, TRACEPARENT_LEN_MAX};

/// A dial to be made: from [`Fabric::dial`](crate::Fabric::dial), through one of
/// [`sender`](Self::sender), [`receiver`](Self::receiver) and [`bidi`](Self::bidi), awaited for the
/// ends of the flow.
#[must_use = "a dial is made when this is awaited"]
pub struct Dial<K = Untyped> {
    plan: Plan,
    kind: K,
}

/// Whom to dial, and how.
pub(crate) struct Plan {
    shared: Arc<Shared>,
    endpoint: String,
    timeout: Duration,
    unknown_name: UnknownName,
    choice: Choice,
    at: Option<NodeName>,
    traceparent: String,
}

/// A dial that does not yet say what it sends and receives.
#[derive(Debug)]
pub struct Untyped(());

/// A dial of a flow on which this side only sends.
pub struct SendOnly<T>(Arc<dyn Codec<T>>);

/// A dial of a flow on which this side only receives.
pub struct ReceiveOnly<T>(Arc<dyn Codec<T>>);

/// A dial of a flow that goes both ways.
pub struct BothWays<S, R> {
    sends: Arc<dyn Codec<S>>,
    receives: Arc<dyn Codec<R>>,
}

/// A dial of a flow of calls.
pub struct Asking<Q, A> {
    requests: Arc<dyn Codec<Q>>,
    answers: Arc<dyn Codec<A>>,
}

/// A dial of a flow on which this side sends one message.
pub struct Requesting<S, R> {
    pub(crate) message: S,
    pub(crate) sends: Arc<dyn Codec<S>>,
    pub(crate) receives: Arc<dyn Codec<R>>,
}

impl Dial {
    pub(crate) fn new(shared: Arc<Shared>, endpoint: &str, timeout: Duration) -> Self {
        let plan = Plan {
            shared,
            endpoint: endpoint.to_owned(),
            timeout,
            unknown_name: UnknownName::Fail,
            choice: Choice::Owner,
            at: None,
            traceparent: String::new(),
        };
        let kind = Untyped(());
        Self { plan, kind }
    }

    /// A flow on which this side only sends.
    pub fn sender<T, C>(self, codec: C) -> Dial<SendOnly<T>>
    where
        T: Send + 'static,
        C: Codec<T>,
    {
        self.with_kind(SendOnly(Arc::new(codec)))
    }

    /// A flow on which this side only receives.
    pub fn receiver<T, C>(self, codec: C) -> Dial<ReceiveOnly<T>>
    where
        T: Send + 'static,
        C: Codec<T>,
    {
        self.with_kind(ReceiveOnly(Arc::new(codec)))
    }

    /// A flow that goes both ways: this side sends `S` and receives `R`.
    pub fn bidi<S, R, C>(self, codec: C) -> Dial<BothWays<S, R>>
    where
        S: Send + 'static,
        R: Send + 'static,
        C: Codec<S> + Codec<R> + Clone,
    {
        let codec = Arc::new(codec);
        self.with_kind(BothWays {
            sends: Arc::clone(&codec) as _,
            receives: codec,
        })
    }

    /// A flow of calls: this side sends requests of type `Q`, each of which is answered with an `A`.
    pub fn caller<Q, A, C>(self, codec: C) -> Dial<Asking<Q, A>>
    where
        Q: Send + 'static,
        A: Send + 'static,
        C: Codec<Q> + Codec<A> + Clone,
    {
        let requests = Arc::new(codec.clone());
        self.with_kind(Asking {
            requests,
            answers: Arc::new(codec),
        })
    }

    /// A flow on which this side sends `message` and no more, and receives `R`: an exchange in one
    /// round trip. The endpoint accepts it as any flow that goes both ways, and finds the message in
    /// it, and the end behind that.
    ///
    /// To another node a message of less than 4 KiB goes together with the dial; a longer one waits
    /// for the answer to that. What becomes of the flow after it was accepted, the receiver tells.
    ///
    /// # Errors
    /// [`RequestError`](crate::RequestError) gives the message back, and says why there is no flow or
    /// why the flow cannot carry it.
    ///
    /// # Cancel safety
    /// When the future is dropped the dial is given up. The endpoint's task may have received the
    /// message; it finds that nobody reads its answers.
    ///
    /// ```
    /// use grinta_proto::{Fabric, Raw};
    ///
    /// # type Failure = Box<dyn std::error::Error>;
    /// async fn serve(fabric: &Fabric) -> Result<(), Failure> {
    ///     let endpoint = fabric.endpoint("upper").await?;
    ///     let mut flow = endpoint.accept().await?.bidi::<String, String, _>(Raw)?;
    ///     while let Some(word) = flow.recv().await? {
    ///         flow.send(word.to_uppercase()).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// async fn shout(fabric: &Fabric) -> Result<(), Failure> {
    ///     let word = "hey".to_owned();
    ///     let mut answers = fabric.dial("upper").request::<_, String, _>(Raw, word).await?;
    ///     assert_eq!(answers.recv().await?.as_deref(), Some("HEY"));
    ///     Ok(())
    /// }
    /// ```
    pub fn request<S, R, C>(self, codec: C, message: S) -> Dial<Requesting<S, R>>
    where
        S: Send + 'static,
        R: Send + 'static,
        C: Codec<S> + Codec<R> + Clone,
    {
        let codec = Arc::new(codec);
        self.with_kind(Requesting {
            message,
            sends: Arc::clone(&codec) as _,
            receives: codec,
        })
    }

    fn with_kind<K>(self, kind: K) -> Dial<K> {
        let plan = self.plan;
        Dial { plan, kind }
    }
}

impl<K> Dial<K> {
    /// How long the dial may take in all; the default is the fabric's dial time-out.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.plan.timeout = timeout;
        self
    }

    /// Waits for the name to be claimed, as long as the dial may take, instead of failing at once
    /// when nobody holds it.
    pub fn wait_for_name(mut self) -> Self {
        self.plan.unknown_name = UnknownName::Wait;
        self
    }

    /// Whom to dial of several nodes that share the name; the default is its owner.
    pub fn choose(mut self, choice: Choice) -> Self {
        self.plan.choice = choice;
        self
    }

    /// Dials this node alone, whoever else serves the name, and fails at once if it does not:
    /// [`DialCause::NotAt`]. Takes the place of [`choose`](Self::choose) and
    /// [`wait_for_name`](Self::wait_for_name).
    pub fn at(mut self, node: NodeName) -> Self {
        self.plan.at = Some(node);
        self
    }

    /// The trace that the flow belongs to, for
    /// [`Incoming::traceparent`](crate::Incoming::traceparent) at the other end: the value of a W3C
    /// `traceparent` header, as any tracing library writes it. One longer than 64 bytes is no such
    /// value, and does not count.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        let traceparent = traceparent.into();
        if traceparent.len() <= TRACEPARENT_LEN_MAX {
            self.plan.traceparent = traceparent;
        }
        self
    }

    /// The parts, for who makes a future of them.
    pub(crate) fn into_parts(self) -> (Plan, K) {
        (self.plan, self.kind)
    }
}

impl Plan {
    /// Dials; what is `early` goes with it to another node, with the end behind it.
    pub(crate) async fn open<S, R>(
        self,
        codecs: Codecs<S, R>,
        early: Option<Bytes>,
    ) -> Result<Ends<S, R>, DialError>
    where
        S: Send + 'static,
        R: Send + 'static,
    {
        let Self {
            shared,
            endpoint,
            timeout,
            unknown_name,
            choice,
            at,
            traceparent,
            ..
        } = self;
        let invalid = |cause| not_begun(&endpoint, cause);
        let name =
            EndpointName::new(&endpoint).map_err(|error| invalid(DialCause::InvalidName(error)))?;
        let encodings = codecs.encodings().map_err(|fault| {
            invalid(DialCause::InvalidCodec {
                reason: fault.to_string(),
            })
        })?;
        let Some(direction) = encodings.direction() else {
            return Err(invalid(DialCause::InvalidCodec {
                reason: "is missing".to_owned(),
            }));
        };
        let types = codecs.types();
        let begun = shared.with(|state| {
            if state.is_closed {
                return None;
            }
            let open = OpenFlow {
                endpoint: name,
                direction,
                sends: encodings.sends,
                receives: encodings.receives,
                message_len_max: state.node.limits().message_len_max as u64,
                timeout: Some(timeout),
                traceparent,
            };
            let id = state.node.dial(DialRequest {
                open,
                early,
                timeout,
                unknown_name,
                choice,
                at,
            });
            let slot = DialSlot {
                types: Some(types),
                ..DialSlot::default()
            };
            state.dials.insert(id, Box::new(slot));
            Some(id)
        });
        let Some(id) = begun else {
            return Err(invalid(DialCause::ShuttingDown));
        };
        let mut under_way = UnderWay {
            shared,
            id,
            codecs: Some(codecs),
        };
        let ends = poll_fn(|cx| under_way.poll(cx)).await;
        match ends {
            Some(ends) => ends,
            None => Err(invalid(DialCause::ShuttingDown)),
        }
    }
}

impl<T: Send + 'static> IntoFuture for Dial<SendOnly<T>> {
    type Output = Result<Sender<T>, DialError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let codecs: Codecs<T, ()> = Codecs {
            sends: Some(Arc::clone(&self.kind.0)),
            receives: None,
        };
        Box::pin(async move {
            let ends = self.plan.open(codecs, None).await?;
            Ok(ends.sender.expect("a side that sends has a sender"))
        })
    }
}

impl<T: Send + 'static> IntoFuture for Dial<ReceiveOnly<T>> {
    type Output = Result<Receiver<T>, DialError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let codecs: Codecs<(), T> = Codecs {
            sends: None,
            receives: Some(Arc::clone(&self.kind.0)),
        };
        Box::pin(async move {
            let ends = self.plan.open(codecs, None).await?;
            Ok(ends.receiver.expect("a side that receives has a receiver"))
        })
    }
}

impl<S: Send + 'static, R: Send + 'static> IntoFuture for Dial<BothWays<S, R>> {
    type Output = Result<Flow<S, R>, DialError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let codecs = Codecs {
            sends: Some(Arc::clone(&self.kind.sends)),
            receives: Some(Arc::clone(&self.kind.receives)),
        };
        Box::pin(async move { Ok(self.plan.open(codecs, None).await?.into_flow()) })
    }
}

impl<Q: Send + 'static, A: Send + 'static> IntoFuture for Dial<Asking<Q, A>> {
    type Output = Result<Caller<Q, A>, DialError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let shared = Arc::clone(&self.plan.shared);
        let codecs: Codecs<Ask<Q>, Reply<A>> = Codecs {
            sends: Some(Arc::new(Enveloping::new(Arc::clone(&self.kind.requests)))),
            receives: Some(Arc::new(Enveloping::new(Arc::clone(&self.kind.answers)))),
        };
        Box::pin(async move {
            Ok(Caller::new(
                shared,
                self.plan.open(codecs, None).await?.into_flow(),
            ))
        })
    }
}

/// The error of a dial that the node never saw.
pub(crate) fn not_begun(endpoint: &str, cause: DialCause) -> DialError {
    DialError {
        endpoint: endpoint.to_owned(),
        stage: DialStage::Resolve,
        cause,
        attempts: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

/// A dial that has begun. Dropping it gives the dial up, or the flow that it ended in.
struct UnderWay<S: Send + 'static, R: Send + 'static> {
    shared: Arc<Shared>,
    id: DialId,
    codecs: Option<Codecs<S, R>>,
}

impl<S: Send + 'static, R: Send + 'static> UnderWay<S, R> {
    /// The ends, or why there are none; `None` if the fabric is closed.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Ends<S, R>, DialError>>> {
        let shared = Arc::clone(&self.shared);
        shared.with(|state| {
            let is_closed = state.is_closed;
            let Some(slot) = state.dials.get_mut(&self.id) else {
                return Poll::Ready(None);
            };
            match slot.result.take() {
                Some(Ok(dialled)) => Poll::Ready(self.conclude(state, dialled).map(Ok)),
                Some(Err(error)) => {
                    state.dials.remove(&self.id);
                    Poll::Ready(Some(Err(error)))
                }
                None if is_closed => Poll::Ready(None),
                None => {
                    slot.waker.register(cx);
                    Poll::Pending
                }
            }
        })
    }

    fn conclude(&mut self, state: &mut State, dialled: Dialled) -> Option<Ends<S, R>> {
        let slot = state.dials.remove(&self.id)?;
        let codecs = self.codecs.take()?;
        let received = state.node.limits().message_len_max;
        match dialled {
            Dialled::Local { message_len_max } => {
                let limits = MessageLimits {
                    sent: message_len_max,
                    received,
                };
                Some(codecs.take_queues(slot.queues?, limits))
            }
            Dialled::Remote {
                flow,
                node,
                message_len_max,
            } => {
                let limits = MessageLimits {
                    sent: message_len_max,
                    received,
                };
                let path = Path::Remote { node };
                Some(codecs.over_connection(&self.shared, flow, &path, limits))
            }
        }
    }
}

impl<S: Send + 'static, R: Send + 'static> Drop for UnderWay<S, R> {
    fn drop(&mut self) {
        if self.codecs.is_none() {
            // It has ended in a flow.
            return;
        }
        let shared = Arc::clone(&self.shared);
        let unclaimed = shared.with(|state| {
            let result = state.dials.get_mut(&self.id)?.result.take();
            match result {
                Some(Ok(dialled)) => self.conclude(state, dialled),
                Some(Err(_)) => {
                    state.dials.remove(&self.id);
                    None
                }
                None => {
                    state.dials.remove(&self.id);
                    state.node.cancel_dial(self.id);
                    None
                }
            }
        });
        // Ends that nobody waits for any more end their flow as they are dropped, which takes the
        // lock that was just released.
        drop(unclaimed);
    }
}

impl<K> fmt::Debug for Dial<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("endpoint", &self.plan.endpoint)
            .field("timeout", &self.plan.timeout)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendOnly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendOnly")
    }
}

impl<T> fmt::Debug for ReceiveOnly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiveOnly")
    }
}

impl<Q, A> fmt::Debug for Asking<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

impl<S, R> fmt::Debug for BothWays<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BothWays")
    }
}

impl<S, R> fmt::Debug for Requesting<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requesting")
    }
}

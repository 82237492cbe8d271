//! The side that calls.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::mutant::mutant;
use crate::shell::call::lobby::Lobby;
use crate::shell::call::{Ask, CallError, Reply};
use crate::shell::flow::{Flow, Path, ReceiveError, Receiver, SendCause, Sender};
use crate::shell::shared::Shared;
use crate::shell::sleep::Sleep;

/// Calls the other end of a flow: sends requests of type `Q`, each of which gets one answer of
/// type `A`.
///
/// Cheap to clone, and for many tasks at once: their calls share the flow, and the answer to one
/// does not wait for the answer to another. When the last clone is dropped and no call is under
/// way, the flow is finished.
///
/// ```
/// use std::time::Duration;
///
/// use grinta_proto::{Caller, Fabric, Raw, Request};
///
/// # type Failure = Box<dyn std::error::Error>;
/// async fn serve(fabric: &Fabric) -> Result<(), Failure> {
///     let endpoint = fabric.endpoint("upper").await?;
///     let mut calls = endpoint.accept().await?.calls::<String, String, _>(Raw)?;
///     while let Some(Request { message, responder }) = calls.next().await? {
///         if message.is_empty() {
///             responder.refuse(1, "nothing to do");
///         } else {
///             responder.respond(message.to_uppercase()).await?;
///         }
///     }
///     Ok(())
/// }
///
/// async fn shout(fabric: &Fabric) -> Result<(), Failure> {
///     let caller: Caller<String, String> = fabric.dial("upper").caller(Raw).await?;
///     let limit = Duration::from_secs(1);
///     assert_eq!(caller.call("hey".to_owned()).deadline(limit).await?, "HEY");
///     Ok(())
/// }
/// ```
pub struct Caller<Q, A> {
    hub: Arc<Hub<Q, A>>,
}

/// A call to be made: from [`Caller::call`], awaited for the answer.
///
/// # Cancel safety
/// When the future is dropped before it is ready, the other side is told that the answer is not
/// wanted any more, if the request was sent.
#[must_use = "a call is made when this is awaited"]
pub struct Call<Q, A> {
    hub: Arc<Hub<Q, A>>,
    request: Q,
    limit: Option<Duration>,
}

/// What the calls of one flow share.
struct Hub<Q, A> {
    shared: Arc<Shared>,
    in_flight_max: usize,
    path: Path,
    lobby: Arc<Lobby>,
    state: Mutex<State<Q, A>>,
}

struct State<Q, A> {
    sender: Sender<Ask<Q>>,
    receiver: Receiver<Reply<A>>,
    issued: u64,
    /// The calls that were sent and whose tasks wait for the answer, or have yet to fetch it.
    sent: BTreeMap<u64, Option<Answered<A>>>,
    /// Nothing more comes.
    end: Option<End>,
}

type Answered<A> = Result<A, CallError>;

/// How the direction from the other side ended.
#[derive(Debug, Clone)]
enum End {
    Finished,
    Broken(ReceiveError),
}

impl<Q: Send + 'static, A: Send + 'static> Caller<Q, A> {
    pub(crate) fn new(shared: Arc<Shared>, flow: Flow<Ask<Q>, Reply<A>>) -> Self {
        let path = flow.path().clone();
        let (sender, receiver) = flow.split();
        let in_flight_max = shared.with(|state| state.node.limits().calls_in_flight_max);
        let state = State {
            sender,
            receiver,
            issued: 0,
            sent: BTreeMap::new(),
            end: None,
        };
        Self {
            hub: Arc::new(Hub {
                shared,
                in_flight_max,
                path,
                lobby: Arc::default(),
                state: Mutex::new(state),
            }),
        }
    }

    /// Calls with a request. Waits for its turn while as many calls are under way as the limit
    /// `calls_in_flight_max` allows, or the flow is full.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::may_have_run`] tells whether the request may have been acted on.
    pub fn call(&self, request: Q) -> Call<Q, A> {
        Call {
            hub: Arc::clone(&self.hub),
            request,
            limit: None,
        }
    }

    /// Which way the calls go.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.hub.path
    }
}

impl<Q: Send + 'static, A: Send + 'static> Call<Q, A> {
    /// How long the call may take in all, from when it is first polled. The time that is left
    /// travels with the request, so that the other side can stop in time. Without it, the call
    /// takes as long as the flow lives.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl<Q: Send + 'static, A: Send + 'static> IntoFuture for Call<Q, A> {
    type Output = Result<A, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut under_way = UnderWay::new(self.hub, self.request, self.limit);
            poll_fn(|cx| under_way.poll(cx)).await
        })
    }
}

/// A call that has begun. Dropping it gives it up.
struct UnderWay<Q: Send + 'static, A: Send + 'static> {
    hub: Arc<Hub<Q, A>>,
    id: u64,
    timer: Option<(Duration, Sleep)>,
    stage: Stage<Q>,
}

enum Stage<Q> {
    /// It waits for its turn to be sent.
    Waiting(Q),
    /// It was sent.
    Sent,
    Over,
}

impl<Q: Send + 'static, A: Send + 'static> UnderWay<Q, A> {
    fn new(hub: Arc<Hub<Q, A>>, request: Q, limit: Option<Duration>) -> Self {
        let timer = limit.map(|limit| (limit, Sleep::new(&hub.shared, limit)));
        let id = {
            let mut state = hub.lock();
            state.issued += 1;
            state.issued
        };
        Self {
            hub,
            id,
            timer,
            stage: Stage::Waiting(request),
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<A, CallError>> {
        let hub = Arc::clone(&self.hub);
        // Registered before the flow is looked at, a task misses nothing.
        let is_its_turn = match self.stage {
            Stage::Waiting(_) => hub.lobby.queue_sender(self.id, cx),
            Stage::Sent | Stage::Over => {
                hub.lobby.queue_reader(self.id, cx);
                false
            }
        };
        let waker = hub.lobby.waker();
        let mut state = hub.lock();
        if hub.lobby.take_news() {
            state.pump(&hub.lobby, &waker);
        }
        if is_its_turn && let Err(error) = self.try_send(&mut state, &waker, cx) {
            return self.conclude(state, Err(error));
        }
        if let Some(answered) = self.answer(&mut state) {
            return self.conclude(state, answered);
        }
        drop(state);
        if let Some((limit, sleep)) = &self.timer
            && sleep.poll(cx).is_ready()
        {
            let error = CallError::TimedOut {
                limit: *limit,
                was_sent: matches!(self.stage, Stage::Sent),
            };
            self.give_up();
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Sends the request, if that is possible by now.
    fn try_send(
        &mut self,
        state: &mut State<Q, A>,
        waker: &Waker,
        cx: &Context<'_>,
    ) -> Result<(), CallError> {
        if state.end.is_some() || state.in_flight() >= self.hub.in_flight_max {
            return Ok(());
        }
        match state.sender.poll_room(&Context::from_waker(waker)) {
            Poll::Pending => return Ok(()),
            Poll::Ready(room) => room.map_err(CallError::NotSent)?,
        }
        let Stage::Waiting(request) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("only a call that waits has a turn");
        };
        let ask = Ask::Call {
            id: self.id,
            timeout: self.timer.as_ref().map(|(_, sleep)| sleep.left()),
            request,
        };
        if let Err(error) = state.sender.try_send(ask) {
            self.stage = Stage::Waiting(error.message.into_request());
            return Err(CallError::NotSent(error.cause));
        }
        self.stage = Stage::Sent;
        state.sent.insert(self.id, None);
        self.hub.lobby.queue_reader(self.id, cx);
        self.hub.lobby.leave_sender(self.id);
        Ok(())
    }

    /// The answer, or that none will come.
    fn answer(&self, state: &mut State<Q, A>) -> Option<Result<A, CallError>> {
        let was_sent = match self.stage {
            Stage::Waiting(_) => false,
            Stage::Sent => true,
            Stage::Over => return None,
        };
        if let Some(answered) = state.sent.get_mut(&self.id).and_then(Option::take) {
            return Some(answered);
        }
        match &state.end {
            None => None,
            Some(End::Broken(error)) if was_sent => Some(Err(CallError::Broken(error.clone()))),
            Some(End::Broken(ReceiveError::Lost(loss))) => {
                Some(Err(CallError::NotSent(SendCause::Lost(loss.clone()))))
            }
            Some(End::Finished | End::Broken(_)) => Some(Err(CallError::Ended { was_sent })),
        }
    }

    fn conclude(
        &mut self,
        mut state: MutexGuard<'_, State<Q, A>>,
        answered: Result<A, CallError>,
    ) -> Poll<Result<A, CallError>> {
        state.sent.remove(&self.id);
        drop(state);
        self.leave();
        Poll::Ready(answered)
    }

    /// The answer is not wanted any more.
    fn give_up(&mut self) {
        if matches!(self.stage, Stage::Sent) {
            let mut state = self.hub.lock();
            let is_unanswered = matches!(state.sent.remove(&self.id), Some(None));
            if is_unanswered && state.end.is_none() {
                // It may be in vain. A few bytes for a call that had to wait for room, so bounded.
                let _ = state.sender.send_regardless(Ask::Cancel { id: self.id });
            }
        }
        self.leave();
    }

    /// Lets the next in.
    fn leave(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Waiting(_) => self.hub.lobby.leave_sender(self.id),
            Stage::Sent => {
                self.hub.lobby.leave_reader(self.id);
                if !mutant!(WakeLostOnCancel) {
                    self.hub.lobby.wake_sender();
                }
            }
            Stage::Over => {}
        }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Drop for UnderWay<Q, A> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<Q, A> Hub<Q, A> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Send + 'static, A: Send + 'static> State<Q, A> {
    /// Takes all answers that have arrived, for whomever they are.
    fn pump(&mut self, lobby: &Lobby, waker: &Waker) {
        let mut cx = Context::from_waker(waker);
        while self.end.is_none() {
            match self.receiver.poll_recv(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(Some(reply))) => self.take(reply, lobby),
                Poll::Ready(Ok(None)) => self.end = Some(End::Finished),
                Poll::Ready(Err(error)) => self.end = Some(End::Broken(error)),
            }
            if self.end.is_some() {
                lobby.wake_all();
            }
        }
    }

    fn take(&mut self, reply: Reply<A>, lobby: &Lobby) {
        let (id, answered) = match reply {
            Reply::Answer { id, answer } => (id, Ok(answer)),
            Reply::Refusal { id, code, detail } => (id, Err(CallError::Refused { code, detail })),
            Reply::Dropped { id } => (id, Err(CallError::Dropped)),
        };
        // Else it was given up meanwhile.
        if let Some(unanswered @ None) = self.sent.get_mut(&id) {
            *unanswered = Some(answered);
            lobby.wake_reader(id);
        }
    }

    /// How many calls count against the limit: also those whose task has yet to fetch the answer,
    /// which takes memory here.
    fn in_flight(&self) -> usize {
        self.sent.len()
    }
}

impl<Q> Ask<Q> {
    fn into_request(self) -> Q {
        match self {
            Self::Call { request, .. } => request,
            Self::Cancel { .. } => unreachable!("a request comes back as one"),
        }
    }
}

impl<Q, A> Clone for Caller<Q, A> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
        }
    }
}

impl<Q, A> fmt::Debug for Caller<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("path", &self.hub.path)
            .finish_non_exhaustive()
    }
}

impl<Q, A> fmt::Debug for Call<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("path", &self.hub.path)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

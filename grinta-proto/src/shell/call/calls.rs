//! The side that is called.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::codec::{CodecError, CodecId};
use crate::shell::call::lobby::Lobby;
use crate::shell::call::{Ask, Reply};
use crate::shell::flow::{Flow, Path, ReceiveError, Receiver, SendCause, SendError, Sender};
use crate::shell::shared::Shared;
use crate::shell::sleep::Sleep;
use crate::wire::code::Code;
use crate::wire::stream::DETAIL_LEN_MAX;

/// The requests that arrive on a flow of calls.
///
/// While nobody asks for the [`next`](Self::next), requests wait in the flow and the callers with
/// them; nor is it seen that a caller gives up. Requests that were handed out can be answered after
/// this is dropped; the others are not answered.
pub struct Calls<Q, A> {
    receiver: Receiver<Ask<Q>>,
    desk: Arc<Desk<A>>,
    last_id: Option<u64>,
}

/// A request, and what answers it.
#[derive(Debug)]
pub struct Request<Q, A: Send + 'static> {
    /// What the caller asks.
    pub message: Q,
    /// Answers it.
    pub responder: Responder<A>,
}

/// Answers one request. Dropping it tells the caller that there will be no answer.
pub struct Responder<A: Send + 'static> {
    desk: Arc<Desk<A>>,
    id: u64,
    timer: Option<Sleep>,
    is_answered: bool,
}

/// What the requests of one flow share.
struct Desk<A> {
    shared: Arc<Shared>,
    path: Path,
    lobby: Arc<Lobby>,
    sender: Mutex<Sender<Reply<A>>>,
    open: Mutex<BTreeMap<u64, Interest>>,
}

/// Whether the caller of a request that was handed out still wants the answer.
#[derive(Debug)]
enum Interest {
    Wanted(Option<Waker>),
    Unwanted,
}

impl<Q: Send + 'static, A: Send + 'static> Calls<Q, A> {
    pub(crate) fn new(shared: Arc<Shared>, flow: Flow<Reply<A>, Ask<Q>>) -> Self {
        let path = flow.path().clone();
        let (sender, receiver) = flow.split();
        let desk = Desk {
            shared,
            path,
            lobby: Arc::default(),
            sender: Mutex::new(sender),
            open: Mutex::default(),
        };
        Self {
            receiver,
            desk: Arc::new(desk),
            last_id: None,
        }
    }

    /// The next request; `None` once the callers have finished the flow.
    ///
    /// Requests can be answered in any order and by any task: hand them to as many tasks as are to
    /// work at once.
    ///
    /// # Errors
    /// [`ReceiveError`] says how the flow broke. The requests that were handed out are then
    /// [abandoned](Responder::abandoned).
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no request is lost.
    pub async fn next(&mut self) -> Result<Option<Request<Q, A>>, ReceiveError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Which way the calls come.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.desk.path
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Request<Q, A>>, ReceiveError>> {
        loop {
            match self.receiver.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(Ask::Cancel { id }))) => self.desk.lose_interest(id),
                Poll::Ready(Ok(Some(Ask::Call {
                    id,
                    timeout,
                    request,
                }))) => {
                    if self.last_id.is_some_and(|last| id <= last) {
                        self.receiver.stop_with(Code::MessageMalformed);
                        self.desk.lose_all_interest();
                        return Poll::Ready(Err(out_of_order().into()));
                    }
                    self.last_id = Some(id);
                    return Poll::Ready(Ok(Some(Request {
                        message: request,
                        responder: Responder::new(&self.desk, id, timeout),
                    })));
                }
                Poll::Ready(Ok(None)) => {
                    self.desk.lose_all_interest();
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Err(error)) => {
                    self.desk.lose_all_interest();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<A: Send + 'static> Responder<A> {
    fn new(desk: &Arc<Desk<A>>, id: u64, timeout: Option<Duration>) -> Self {
        desk.open().insert(id, Interest::Wanted(None));
        Self {
            desk: Arc::clone(desk),
            id,
            timer: timeout.map(|timeout| Sleep::new(&desk.shared, timeout)),
            is_answered: false,
        }
    }

    /// Answers the request, waiting for room in the flow.
    ///
    /// # Errors
    /// [`SendError`] gives the answer back: it has no encoding or is too long, of which the caller
    /// learns as of a dropped request; or the flow broke, or the caller has given up
    /// ([`SendCause::Stopped`] with [`Code::Cancelled`]).
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent: the caller learns
    /// that there will be none.
    pub async fn respond(mut self, answer: A) -> Result<(), SendError<A>> {
        let mut answer = Some(answer);
        let mut turn = Turn {
            lobby: Arc::clone(&self.desk.lobby),
            id: self.id,
        };
        let sent = poll_fn(|cx| self.poll_respond(cx, &mut turn, &mut answer)).await;
        drop(turn);
        sent.map_err(|cause| SendError {
            message: answer.expect("an answer that was refused was not taken"),
            cause,
        })
    }

    /// Refuses the request: the caller gets `code`, and of `detail` 512 bytes at the most.
    pub fn refuse(mut self, code: u32, detail: &str) {
        let detail = detail[..detail.floor_char_boundary(DETAIL_LEN_MAX)].to_owned();
        let id = self.id;
        self.reply_regardless(Reply::Refusal { id, code, detail });
    }

    /// Waits until the answer is not wanted any more: the caller has given up, its time has run
    /// out, or the flow is over. That the caller gave up and that the flow is over is seen only
    /// while a task asks for the [`Calls::next`].
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn abandoned(&mut self) {
        poll_fn(|cx| {
            if self.poll_timer(cx).is_ready() {
                return Poll::Ready(());
            }
            match self.desk.open().get_mut(&self.id) {
                Some(Interest::Wanted(waker)) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(Interest::Unwanted) | None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Whether the answer is not wanted any more: see [`abandoned`](Self::abandoned).
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let is_late = self.is_late();
        let open = self.desk.open();
        is_late || !matches!(open.get(&self.id), Some(Interest::Wanted(_)))
    }

    /// How long the caller still waits, as of the fabric's last turn; `None` if it waits as long as
    /// the flow lives.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.timer.as_ref().map(Sleep::left)
    }

    fn is_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    fn poll_timer(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.timer {
            Some(timer) => timer.poll(cx),
            None => Poll::Pending,
        }
    }

    fn poll_respond(
        &mut self,
        cx: &Context<'_>,
        turn: &mut Turn,
        answer: &mut Option<A>,
    ) -> Poll<Result<(), SendCause>> {
        if self.is_abandoned() {
            let code = Code::Cancelled;
            return Poll::Ready(Err(SendCause::Stopped { code }));
        }
        if !turn.lobby.queue_sender(turn.id, cx) {
            return Poll::Pending;
        }
        let waker = turn.lobby.waker();
        let mut sender = self.desk.sender();
        match sender.poll_room(&Context::from_waker(&waker)) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(cause)) => return Poll::Ready(Err(cause)),
            Poll::Ready(Ok(())) => {}
        }
        let Some(message) = answer.take() else {
            return Poll::Pending;
        };
        let reply = Reply::Answer {
            id: self.id,
            answer: message,
        };
        let sent = sender.try_send(reply);
        drop(sender);
        Poll::Ready(match sent {
            Ok(()) => {
                self.settle();
                Ok(())
            }
            Err(SendError { message, cause }) => {
                *answer = message.into_answer();
                Err(cause)
            }
        })
    }

    /// Says that there is no answer. That takes a few bytes of a flow that had room for the
    /// request, and at most once for each, so it need not wait.
    fn reply_regardless(&mut self, reply: Reply<A>) {
        let interest = self.settle();
        if matches!(interest, Some(Interest::Wanted(_))) {
            // Whether the flow is gone is of no interest any more.
            let _ = self.desk.sender().send_regardless(reply);
        }
    }

    fn settle(&mut self) -> Option<Interest> {
        self.is_answered = true;
        self.desk.open().remove(&self.id)
    }
}

/// A place among those who want to send; dropping it lets the next one in.
struct Turn {
    lobby: Arc<Lobby>,
    id: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lobby.leave_sender(self.id);
    }
}

impl<A> Desk<A> {
    fn lose_interest(&self, id: u64) {
        let interest = self
            .open()
            .get_mut(&id)
            .map(|interest| std::mem::replace(interest, Interest::Unwanted));
        if let Some(Interest::Wanted(Some(waker))) = interest {
            waker.wake();
        }
    }

    fn lose_all_interest(&self) {
        let open = std::mem::take(&mut *self.open());
        for interest in open.into_values() {
            if let Interest::Wanted(Some(waker)) = interest {
                waker.wake();
            }
        }
        self.lobby.wake_all();
    }

    fn sender(&self) -> MutexGuard<'_, Sender<Reply<A>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Interest>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Reply<A> {
    fn into_answer(self) -> Option<A> {
        match self {
            Self::Answer { answer, .. } => Some(answer),
            Self::Refusal { .. } | Self::Dropped { .. } => None,
        }
    }
}

impl<A: Send + 'static> Drop for Responder<A> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        if self.is_late() {
            // The caller has the same deadline, and says itself that its time is up.
            self.settle();
            return;
        }
        let id = self.id;
        self.reply_regardless(Reply::Dropped { id });
    }
}

impl<Q, A> fmt::Debug for Calls<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("path", &self.desk.path)
            .finish_non_exhaustive()
    }
}

impl<A: Send + 'static> fmt::Debug for Responder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("path", &self.desk.path)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn out_of_order() -> CodecError {
    let codec = CodecId::from_static("call");
    CodecError::decode(codec, "the ids of calls do not ascend")
}

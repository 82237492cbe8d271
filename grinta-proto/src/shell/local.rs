//! In-process flows: one bounded queue per direction.
//!
//! Values move as they are when both sides use one type. When the types differ the messages pass
//! through the codecs, as they would between two nodes, so that moving an endpoint to another node
//! changes nothing. The accepting side knows both types and makes the queues.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Context;

use bytes::Bytes;

use crate::name::EndpointName;
use crate::node::{FlowLoss, FlowReadError, FlowWriteError, Level, LocalFlowSnapshot, LocalSide};
use crate::shell::waiters::{WakerSlot, Wakes};
use crate::wire::code::Code;
use crate::wire::frame::length_len;

/// The queues of an in-process flow, by direction; their types are known to their ends.
#[derive(Clone, Default)]
pub(crate) struct LocalQueues {
    pub(crate) from_dialler: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) to_dialler: Option<Arc<dyn Any + Send + Sync>>,
}

/// A message that passes through the codecs though it stays in the process.
#[derive(Debug)]
pub(crate) struct Encoded(pub(crate) Bytes);

/// How much a queue holds before its sender waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    pub(crate) messages: usize,
    /// Counted as the messages would travel: their encodings, each with its length before it.
    pub(crate) bytes: usize,
}

/// What a sender wants when there is no room.
#[derive(Clone, Copy)]
pub(crate) enum Room<'a, 'w> {
    /// To be woken when there is.
    Awaited(&'a Context<'w>),
    /// To be told.
    Now,
    /// To have it taken all the same: it is short, and something else bounds how often that is.
    Waived,
}

/// A bounded queue with one sender and one receiver.
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    limits: QueueLimits,
}

/// Something that ends when its fabric does.
pub(crate) trait Breakable: Any + Send + Sync + fmt::Debug {
    /// Nothing more passes; what is queued can still be read.
    fn break_off(&self, loss: FlowLoss, wakes: &mut Wakes);

    /// How much was sent and not read: messages, and bytes as they would travel.
    fn levels(&self) -> (Level, Level);
}

/// A direction of an in-process flow, as its fabric knows it.
#[derive(Debug)]
pub(crate) struct LocalFlow<Q> {
    /// The endpoint that was dialled.
    pub(crate) endpoint: EndpointName,
    pub(crate) sender: LocalSide,
    pub(crate) queue: Q,
}

impl LocalFlow<Weak<dyn Breakable>> {
    /// The same with its queue, unless both its ends are gone. Queues hold foreign values: drop it
    /// outside the fabric's lock.
    pub(crate) fn upgrade(&self) -> Option<LocalFlow<Arc<dyn Breakable>>> {
        Some(LocalFlow {
            endpoint: self.endpoint.clone(),
            sender: self.sender,
            queue: self.queue.upgrade()?,
        })
    }
}

impl LocalFlow<Arc<dyn Breakable>> {
    pub(crate) fn snapshot(&self) -> LocalFlowSnapshot {
        let (messages, bytes) = self.queue.levels();
        LocalFlowSnapshot {
            endpoint: self.endpoint.clone(),
            sender: self.sender,
            messages,
            bytes,
        }
    }
}

struct QueueState<T> {
    /// Each with the bytes that it counts for.
    messages: VecDeque<(usize, T)>,
    bytes: usize,
    reader: WakerSlot,
    writer: WakerSlot,
    end: End,
}

/// How a queue's direction stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Open,
    /// The sender is done.
    Finished,
    /// The sender gave it up.
    Reset(Code),
    /// The receiver wants no more.
    Stopped(Code),
    /// The fabric is closed.
    Lost(FlowLoss),
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: QueueLimits) -> Arc<Self> {
        let state = QueueState {
            messages: VecDeque::new(),
            bytes: 0,
            reader: WakerSlot::default(),
            writer: WakerSlot::default(),
            end: End::Open,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            limits,
        })
    }

    /// Takes the message out of `message`, whose encoding has `length` bytes, and queues it.
    /// `Blocked` without room.
    pub(crate) fn push(
        &self,
        room: Room<'_, '_>,
        length: usize,
        message: &mut Option<T>,
    ) -> Result<(), FlowWriteError> {
        self.push_up_to(1, room, || Some((length, message.take()?)))
    }

    /// Takes messages off the front of `messages` as long as there is room; `lengths` tells how
    /// long the encoding is of each that is to be taken. `Blocked` when some are left.
    pub(crate) fn push_many(
        &self,
        room: Room<'_, '_>,
        lengths: &mut VecDeque<usize>,
        messages: &mut VecDeque<T>,
    ) -> Result<(), FlowWriteError> {
        self.push_up_to(lengths.len(), room, || {
            let length = lengths.pop_front()?;
            Some((length, messages.pop_front()?))
        })
    }

    fn push_up_to(
        &self,
        count: usize,
        room: Room<'_, '_>,
        mut next: impl FnMut() -> Option<(usize, T)>,
    ) -> Result<(), FlowWriteError> {
        let mut state = self.lock();
        let mut reader = None;
        let mut pushed = Ok(());
        for _ in 0..count {
            if let Err(error) = state.room(self.limits, room) {
                pushed = Err(error);
                break;
            }
            let Some((length, message)) = next() else {
                break;
            };
            let bytes = length + length_len(length);
            state.bytes += bytes;
            state.messages.push_back((bytes, message));
            reader = reader.or_else(|| state.reader.take());
        }
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        pushed
    }

    /// How many bytes fit before a sender has to wait; `Blocked` if none or no message does.
    pub(crate) fn room(&self, room: Room<'_, '_>) -> Result<usize, FlowWriteError> {
        self.lock().room(self.limits, room)
    }

    /// Takes the next message; `None` at the end. `Blocked` while there is none; with a context
    /// its task is woken when that changes.
    pub(crate) fn pop(&self, cx: Option<&Context<'_>>) -> Result<Option<T>, FlowReadError> {
        let mut popped = None;
        self.pop_while(cx, |message| {
            popped = Some(message);
            ControlFlow::Break(())
        })?;
        Ok(popped)
    }

    /// Takes at most `limit` messages, at least one unless at the end.
    pub(crate) fn pop_many(
        &self,
        cx: Option<&Context<'_>>,
        messages: &mut Vec<T>,
        limit: usize,
    ) -> Result<(), FlowReadError> {
        let full = messages.len().saturating_add(limit);
        self.pop_while(cx, |message| {
            messages.push(message);
            if messages.len() < full {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    }

    fn pop_while(
        &self,
        cx: Option<&Context<'_>>,
        mut take: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), FlowReadError> {
        let mut state = self.lock();
        if state.messages.is_empty() {
            return state.nothing_queued(cx);
        }
        while let Some((bytes, message)) = state.messages.pop_front() {
            state.bytes -= bytes;
            if take(message).is_break() {
                break;
            }
        }
        // A sender that waits is woken when half is free, not once for each message.
        let is_half_free = state.messages.len() <= self.limits.messages / 2
            && state.bytes <= self.limits.bytes / 2;
        let writer = is_half_free.then(|| state.writer.take()).flatten();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// No more will be pushed; the end follows what is queued.
    pub(crate) fn finish(&self) {
        self.end(End::Finished, Messages::Keep);
    }

    /// How the sending direction ended, if it has; else the task of the context is woken when it
    /// does.
    pub(crate) fn sent(&self, cx: Option<&Context<'_>>) -> Option<Result<(), FlowWriteError>> {
        let mut state = self.lock();
        if let (End::Open, Some(cx)) = (&state.end, cx) {
            state.writer.register(cx);
        }
        match &state.end {
            End::Open => None,
            End::Finished => Some(Ok(())),
            End::Reset(_) => Some(Err(FlowWriteError::Finished)),
            End::Stopped(code) => Some(Err(FlowWriteError::Stopped(*code))),
            End::Lost(loss) => Some(Err(FlowWriteError::Lost(loss.clone()))),
        }
    }

    /// Gives the direction up: what was not read will not be.
    pub(crate) fn reset(&self, code: Code) {
        self.end(End::Reset(code), Messages::Drop);
    }

    /// The receiver wants no more.
    pub(crate) fn stop(&self, code: Code) {
        self.end(End::Stopped(code), Messages::Drop);
    }

    fn end(&self, end: End, messages: Messages) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let dropped = state.end(end, messages, &mut wakes);
        drop(state);
        wakes.wake();
        // Values may run foreign code as they drop, so they do it outside the lock.
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of queued messages at an end.
enum Messages {
    Keep,
    Drop,
}

impl<T> QueueState<T> {
    fn room(&mut self, limits: QueueLimits, room: Room<'_, '_>) -> Result<usize, FlowWriteError> {
        match &self.end {
            End::Open => {}
            End::Finished | End::Reset(_) => return Err(FlowWriteError::Finished),
            End::Stopped(code) => return Err(FlowWriteError::Stopped(*code)),
            End::Lost(loss) => return Err(FlowWriteError::Lost(loss.clone())),
        }
        if self.messages.len() < limits.messages && self.bytes < limits.bytes {
            return Ok(limits.bytes - self.bytes);
        }
        match room {
            Room::Awaited(cx) => {
                self.writer.register(cx);
                Err(FlowWriteError::Blocked)
            }
            Room::Now => Err(FlowWriteError::Blocked),
            Room::Waived => Ok(0),
        }
    }

    fn nothing_queued(&mut self, cx: Option<&Context<'_>>) -> Result<(), FlowReadError> {
        match &self.end {
            End::Open => {
                if let Some(cx) = cx {
                    self.reader.register(cx);
                }
                Err(FlowReadError::Blocked)
            }
            End::Finished => Ok(()),
            End::Reset(code) => Err(FlowReadError::Reset(*code)),
            End::Stopped(_) => Err(FlowReadError::Stopped),
            End::Lost(loss) => Err(FlowReadError::Lost(loss.clone())),
        }
    }

    fn end(&mut self, end: End, messages: Messages, wakes: &mut Wakes) -> VecDeque<(usize, T)> {
        // What a finished sender left can still be refused, until it is read.
        let may_change = match &self.end {
            End::Open => true,
            End::Finished => !self.messages.is_empty(),
            End::Reset(_) | End::Stopped(_) | End::Lost(_) => false,
        };
        if !may_change {
            return VecDeque::new();
        }
        self.end = end;
        self.reader.wake_into(wakes);
        self.writer.wake_into(wakes);
        match messages {
            Messages::Keep => VecDeque::new(),
            Messages::Drop => {
                self.bytes = 0;
                std::mem::take(&mut self.messages)
            }
        }
    }
}

impl<T: Send + 'static> Breakable for Queue<T> {
    fn break_off(&self, loss: FlowLoss, wakes: &mut Wakes) {
        let mut state = self.lock();
        if state.end == End::Open {
            state.end = End::Lost(loss);
            state.reader.wake_into(wakes);
            state.writer.wake_into(wakes);
        }
    }

    fn levels(&self) -> (Level, Level) {
        let state = self.lock();
        let level = |used, limit| Level { used, limit };
        (
            level(state.messages.len(), self.limits.messages),
            level(state.bytes, self.limits.bytes),
        )
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("queued", &state.messages.len())
            .field("bytes", &state.bytes)
            .field("limits", &self.limits)
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LocalQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalQueues")
            .field("from_dialler", &self.from_dialler.is_some())
            .field("to_dialler", &self.to_dialler.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn limits(messages: usize) -> QueueLimits {
        QueueLimits {
            messages,
            bytes: 1024,
        }
    }

    fn push(queue: &Queue<u32>, message: u32) -> Result<(), FlowWriteError> {
        queue.push(Room::Now, 4, &mut Some(message))
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let queue = Queue::new(limits(1));
        assert_eq!(push(&queue, 1), Ok(()));
        let mut message = Some(2);
        assert_eq!(
            queue.push(Room::Now, 4, &mut message),
            Err(FlowWriteError::Blocked)
        );
        assert_eq!(message, Some(2));
        assert_eq!(queue.pop(None), Ok(Some(1)));
        assert_eq!(queue.push(Room::Now, 4, &mut message), Ok(()));
    }

    #[test]
    fn bytes_fill_a_queue_too_and_a_longer_message_is_taken_alone() {
        let queue = Queue::new(QueueLimits {
            messages: 100,
            bytes: 10,
        });
        assert_eq!(queue.room(Room::Now), Ok(10));
        assert_eq!(push(&queue, 1), Ok(()));
        assert_eq!(queue.room(Room::Now), Ok(5));
        assert_eq!(queue.push(Room::Now, 1000, &mut Some(2)), Ok(()));
        assert_eq!(push(&queue, 3), Err(FlowWriteError::Blocked));
        assert_eq!(queue.push(Room::Waived, 4, &mut Some(3)), Ok(()));
        let mut popped = Vec::new();
        assert_eq!(queue.pop_many(None, &mut popped, 2), Ok(()));
        assert_eq!(popped, [1, 2]);
        assert_eq!(queue.room(Room::Now), Ok(5));
    }

    #[test]
    fn a_burst_goes_in_as_far_as_there_is_room_and_the_rest_stays() {
        let queue = Queue::new(limits(2));
        let mut messages = VecDeque::from([1, 2, 3]);
        let mut lengths = VecDeque::from([4, 4, 4]);
        let blocked = Err(FlowWriteError::Blocked);
        assert_eq!(
            queue.push_many(Room::Now, &mut lengths, &mut messages),
            blocked
        );
        assert_eq!((&messages, &lengths), (&[3].into(), &[4].into()));
        assert_eq!(queue.pop(None), Ok(Some(1)));
        assert_eq!(
            queue.push_many(Room::Now, &mut lengths, &mut messages),
            Ok(())
        );
        assert!(messages.is_empty());
    }

    #[test]
    fn a_clean_end_comes_after_all_was_read() {
        let queue = Queue::new(limits(4));
        push(&queue, 1).unwrap();
        queue.finish();
        assert_eq!(push(&queue, 2), Err(FlowWriteError::Finished));
        assert_eq!(queue.pop(None), Ok(Some(1)));
        assert_eq!(queue.pop(None), Ok(None));
        assert_eq!(queue.sent(None), Some(Ok(())));
    }

    #[test]
    fn a_finished_sender_learns_that_nobody_read_what_it_sent() {
        let queue = Queue::new(limits(4));
        push(&queue, 1).unwrap();
        queue.finish();
        queue.stop(Code::NoReader);
        assert_eq!(
            queue.sent(None),
            Some(Err(FlowWriteError::Stopped(Code::NoReader)))
        );
    }

    #[test]
    fn a_reset_drops_what_was_queued_and_a_closed_fabric_does_not() {
        let queue = Queue::new(limits(4));
        push(&queue, 1).unwrap();
        queue.reset(Code::Cancelled);
        assert_eq!(queue.pop(None), Err(FlowReadError::Reset(Code::Cancelled)));

        let queue = Queue::new(limits(4));
        push(&queue, 1).unwrap();
        let mut wakes = Wakes::default();
        queue.break_off(FlowLoss::ShuttingDown, &mut wakes);
        wakes.wake();
        assert_eq!(queue.pop(None), Ok(Some(1)));
        assert_eq!(
            queue.pop(None),
            Err(FlowReadError::Lost(FlowLoss::ShuttingDown))
        );
    }
}

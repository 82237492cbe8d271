//! In-process flows: one bounded queue per direction.
//!
//! Values move as they are when both sides use one type. When the types differ the messages pass
//! through the codecs, as they would between two nodes, so that moving an endpoint to another node
//! changes nothing. The accepting side knows both types and makes the queues.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use bytes::Bytes;

use crate::node::{FlowLoss, FlowReadError, FlowWriteError};
use crate::shell::waiters::{WakerSlot, Wakes};
use crate::wire::code::Code;

/// The queues of an in-process flow, by direction; their types are known to their ends.
#[derive(Clone, Default)]
pub(crate) struct LocalQueues {
    pub(crate) from_dialler: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) to_dialler: Option<Arc<dyn Any + Send + Sync>>,
}

/// A message that passes through the codecs though it stays in the process.
#[derive(Debug)]
pub(crate) struct Encoded(pub(crate) Bytes);

/// A bounded queue with one sender and one receiver.
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    capacity: usize,
}

/// Something that ends when its fabric does.
pub(crate) trait Breakable: Any + Send + Sync + fmt::Debug {
    /// Nothing more passes; what is queued can still be read.
    fn break_off(&self, loss: FlowLoss, wakes: &mut Wakes);
}

struct QueueState<T> {
    messages: VecDeque<T>,
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
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let state = QueueState {
            messages: VecDeque::new(),
            reader: WakerSlot::default(),
            writer: WakerSlot::default(),
            end: End::Open,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            capacity: capacity.max(1),
        })
    }

    /// Takes the message out of `message` and queues it. `Blocked` while the queue is full; with
    /// a context its task is woken when that changes.
    pub(crate) fn push(
        &self,
        cx: Option<&Context<'_>>,
        message: &mut Option<T>,
    ) -> Result<(), FlowWriteError> {
        let mut state = self.lock();
        match &state.end {
            End::Open if state.messages.len() >= self.capacity => {
                if let Some(cx) = cx {
                    state.writer.register(cx);
                }
                Err(FlowWriteError::Blocked)
            }
            End::Open => {
                state.messages.extend(message.take());
                let reader = state.reader.take();
                drop(state);
                if let Some(reader) = reader {
                    reader.wake();
                }
                Ok(())
            }
            End::Finished | End::Reset(_) => Err(FlowWriteError::Finished),
            End::Stopped(code) => Err(FlowWriteError::Stopped(*code)),
            End::Lost(loss) => Err(FlowWriteError::Lost(loss.clone())),
        }
    }

    /// Takes the next message; `None` at the end. `Blocked` while there is none; with a context
    /// its task is woken when that changes.
    pub(crate) fn pop(&self, cx: Option<&Context<'_>>) -> Result<Option<T>, FlowReadError> {
        let mut state = self.lock();
        if let Some(message) = state.messages.pop_front() {
            // A sender that waits is woken when half is free, not once for each message.
            let writer = (state.messages.len() <= self.capacity / 2)
                .then(|| state.writer.take())
                .flatten();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Ok(Some(message));
        }
        match &state.end {
            End::Open => {
                if let Some(cx) = cx {
                    state.reader.register(cx);
                }
                Err(FlowReadError::Blocked)
            }
            End::Finished => Ok(None),
            End::Reset(code) => Err(FlowReadError::Reset(*code)),
            End::Stopped(_) => Err(FlowReadError::Stopped),
            End::Lost(loss) => Err(FlowReadError::Lost(loss.clone())),
        }
    }

    /// No more will be pushed; the end follows what is queued.
    pub(crate) fn finish(&self) {
        self.end(End::Finished, Messages::Keep);
    }

    /// How the sending direction ended, if it has.
    pub(crate) fn sent(&self) -> Option<Result<(), FlowWriteError>> {
        match &self.lock().end {
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
    fn end(&mut self, end: End, messages: Messages, wakes: &mut Wakes) -> VecDeque<T> {
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
            Messages::Drop => std::mem::take(&mut self.messages),
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
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("queued", &state.messages.len())
            .field("capacity", &self.capacity)
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

    fn push(queue: &Queue<u32>, message: u32) -> Result<(), FlowWriteError> {
        queue.push(None, &mut Some(message))
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let queue = Queue::new(1);
        assert_eq!(push(&queue, 1), Ok(()));
        let mut message = Some(2);
        assert_eq!(queue.push(None, &mut message), Err(FlowWriteError::Blocked));
        assert_eq!(message, Some(2));
        assert_eq!(queue.pop(None), Ok(Some(1)));
        assert_eq!(queue.push(None, &mut message), Ok(()));
    }

    #[test]
    fn a_clean_end_comes_after_all_was_read() {
        let queue = Queue::new(4);
        push(&queue, 1).unwrap();
        queue.finish();
        assert_eq!(push(&queue, 2), Err(FlowWriteError::Finished));
        assert_eq!(queue.pop(None), Ok(Some(1)));
        assert_eq!(queue.pop(None), Ok(None));
        assert_eq!(queue.sent(), Some(Ok(())));
    }

    #[test]
    fn a_finished_sender_learns_that_nobody_read_what_it_sent() {
        let queue = Queue::new(4);
        push(&queue, 1).unwrap();
        queue.finish();
        queue.stop(Code::NoReader);
        assert_eq!(
            queue.sent(),
            Some(Err(FlowWriteError::Stopped(Code::NoReader)))
        );
    }

    #[test]
    fn a_reset_drops_what_was_queued_and_a_closed_fabric_does_not() {
        let queue = Queue::new(4);
        push(&queue, 1).unwrap();
        queue.reset(Code::Cancelled);
        assert_eq!(queue.pop(None), Err(FlowReadError::Reset(Code::Cancelled)));

        let queue = Queue::new(4);
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

//! The ends of flows as the futures crates know them: a `Stream` and a `Sink`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::stream::{FusedStream, Stream};
use futures_sink::Sink;

use crate::shell::flow::{ReceiveError, Receiver, SendCause, Sender};

impl<T: Send + 'static> Stream for Receiver<T> {
    type Item = Result<T, ReceiveError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.is_stream_over {
            return Poll::Ready(None);
        }
        receiver.poll_recv(cx).map(|received| {
            receiver.is_stream_over = !matches!(received, Ok(Some(_)));
            received.transpose()
        })
    }
}

impl<T: Send + 'static> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.is_stream_over
    }
}

/// Flushing is at once: what was sent is on its way without it. Closing is as
/// [`finish`](Sender::finish): it waits until the receiving node has it all.
impl<T: Send + 'static> Sink<T> for Sender<T> {
    type Error = SendCause;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendCause>> {
        self.poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: T) -> Result<(), SendCause> {
        self.get_mut()
            .try_send(message)
            .map_err(|error| error.cause)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendCause>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendCause>> {
        self.get_mut().poll_finish(cx)
    }
}

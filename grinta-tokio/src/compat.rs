//! The byte streams of flows as tokio's traits know them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use tokio::io::ReadBuf;

/// A [`ByteStream`](crate::ByteStream), [`ByteReader`](crate::ByteReader) or
/// [`ByteWriter`](crate::ByteWriter), or anything else with the traits of `futures-io`, with the
/// traits of `tokio::io` instead: `AsyncRead`, `AsyncBufRead` and `AsyncWrite`.
///
/// ```
/// use bytes::Bytes;
/// use grinta_tokio::{ByteStream, Compat, Flow};
/// use tokio::io::AsyncBufReadExt;
///
/// async fn first_line(flow: Flow<Bytes, Bytes>) -> std::io::Result<String> {
///     let mut stream = Compat::new(ByteStream::from(flow));
///     let mut line = String::new();
///     stream.read_line(&mut line).await?;
///     Ok(line)
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compat<T> {
    inner: T,
}

impl<T> Compat<T> {
    /// Gives `inner` tokio's traits.
    pub const fn new(inner: T) -> Self {
        Self { inner }
    }

    /// What was given them.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: AsyncRead + Unpin> tokio::io::AsyncRead for Compat<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let length = ready!(Pin::new(&mut self.inner).poll_read(cx, unfilled))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncBufRead + Unpin> tokio::io::AsyncBufRead for Compat<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().inner).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, length: usize) {
        Pin::new(&mut self.inner).consume(length);
    }
}

impl<T: AsyncWrite + Unpin> tokio::io::AsyncWrite for Compat<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

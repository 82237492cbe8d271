//! Requests: dials that carry the one message that their side sends.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;

use crate::node::DialError;
use crate::shell::dial::{Dial, Requesting};
use crate::shell::ends::Codecs;
use crate::shell::flow::{Path, Receiver, SendCause, SendError, short_frame};
use crate::wire::code::Code;

/// A request that has no answer, and why. The message is given back.
///
/// Whether the endpoint's task has received it all the same is not known where the dial timed out or
/// broke: it may have gone with the dial.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestError<S> {
    /// The message.
    pub message: S,
    /// What went wrong.
    pub cause: RequestCause,
}

/// What was wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestCause {
    /// There is no flow.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// There is a flow, which does not take the message. The endpoint's task sees it break.
    #[error(transparent)]
    Send(#[from] SendCause),
}

impl<S: Send + 'static, R: Send + 'static> IntoFuture for Dial<Requesting<S, R>> {
    type Output = Result<Receiver<R>, RequestError<S>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (plan, requesting) = self.into_parts();
            let Requesting {
                message,
                sends,
                receives,
            } = requesting;
            let early = match short_frame(&*sends, &message) {
                Ok(early) => early,
                Err(cause) => return Err(refused(message, cause)),
            };
            let codecs = Codecs {
                sends: Some(sends),
                receives: Some(receives),
            };
            let (mut sender, receiver) = match plan.open(codecs, early.clone()).await {
                Ok(ends) => ends.into_flow().split(),
                Err(error) => return Err(refused(message, error)),
            };
            let sent = match (early, sender.path()) {
                (Some(frame), Path::Remote { .. }) => sender
                    .check_sent(&frame)
                    .map_err(|cause| SendError { message, cause }),
                (Some(_), Path::Local) | (None, _) => sender.try_send(message),
            };
            match sent {
                Err(SendError {
                    message,
                    cause: cause @ (SendCause::TooLong { .. } | SendCause::Encode(_)),
                }) => {
                    sender.reset_with(Code::MessageTooLong);
                    Err(refused(message, cause))
                }
                // The endpoint's task has accepted it and reads no further: what it answers tells.
                Ok(()) | Err(_) => Ok(receiver),
            }
        })
    }
}

fn refused<S>(message: S, cause: impl Into<RequestCause>) -> RequestError<S> {
    let cause = cause.into();
    RequestError { message, cause }
}

impl<S> fmt::Debug for RequestError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestError")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for RequestError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl<S> std::error::Error for RequestError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

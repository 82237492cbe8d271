//! Calls: requests that are answered, over one flow.
//!
//! A [`Caller`] sends many requests over one flow without waiting for the answers, which come back
//! in any order; a [`Calls`] hands them out at the other end, each with the [`Responder`] that
//! answers it. Nothing is spawned: whoever waits for an answer reads the flow for all.
//!
//! `wire/call.rs` specifies what travels.

mod caller;
mod calls;
mod envelope;
mod lobby;

use std::time::Duration;

use crate::shell::flow::{ReceiveError, SendCause};

pub use self::caller::{Call, Caller};
pub use self::calls::{Calls, Request, Responder};
pub(crate) use self::envelope::{Ask, Enveloping, Reply};

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request was not sent. The flow may go on: the cause says so.
    #[error("the request was not sent: {0}")]
    NotSent(#[source] SendCause),
    /// Time ran out. The other side was told, if it has the request.
    #[error("no answer within {:.1} s", limit.as_secs_f32())]
    TimedOut {
        /// The time that the call was given.
        limit: Duration,
        /// Whether the request was on its way.
        was_sent: bool,
    },
    /// The other side's program refused the request.
    #[error("refused with code {code}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Refused {
        /// Its code.
        code: u32,
        /// Its words.
        detail: String,
    },
    /// The other side's program dropped the request without an answer.
    #[error("the request was dropped without an answer")]
    Dropped,
    /// The other side ended the flow in good order before it answered.
    #[error("the flow ended before the answer")]
    Ended {
        /// Whether the request was on its way.
        was_sent: bool,
    },
    /// The flow broke while the answer was waited for.
    #[error("no answer: {0}")]
    Broken(#[source] ReceiveError),
}

impl CallError {
    /// Whether the other side may have acted on the request, in whole or in part. If not, it can be
    /// made again without a thought.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::NotSent(_) => false,
            Self::TimedOut { was_sent, .. } | Self::Ended { was_sent } => *was_sent,
            Self::Refused { .. } | Self::Dropped | Self::Broken(_) => true,
        }
    }
}

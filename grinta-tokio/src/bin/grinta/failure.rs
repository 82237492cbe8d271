//! What can go wrong, and what the shell is told of it.

use std::process::ExitCode;
use std::{fmt, io};

use grinta_tokio::{
    CallError, DialCause, DialError, EndpointError, JoinError, ReceiveError, SendCause, StartError,
};

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    what: String,
}

/// What is told apart by exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Other,
    Start,
    Join,
    NotFound,
    Refused,
    Broken,
    Interrupted,
}

impl Failure {
    pub(crate) fn new(kind: Kind, what: impl fmt::Display) -> Self {
        Self {
            kind,
            what: what.to_string(),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Other => 1,
            Kind::Start => 3,
            Kind::Join => 4,
            Kind::NotFound => 5,
            Kind::Refused => 6,
            Kind::Broken => 7,
            Kind::Interrupted => 130,
        })
    }

    pub(crate) fn is_interruption(&self) -> bool {
        self.kind == Kind::Interrupted
    }

    /// Whether there is nothing to say.
    pub(crate) const fn is_silent(&self) -> bool {
        self.what.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Kind::Start, error)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        Self::new(Kind::Join, error)
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        Self::new(kind_of(&error.cause), error)
    }
}

/// What the cause of a failed dial comes to for a shell.
const fn kind_of(cause: &DialCause) -> Kind {
    match cause {
        DialCause::NotFound { .. }
        | DialCause::NotAt { .. }
        | DialCause::Unreachable { .. }
        | DialCause::Connect { .. }
        | DialCause::TimedOut { .. } => Kind::NotFound,
        DialCause::Refused { .. } => Kind::Refused,
        DialCause::Ended { .. } | DialCause::Broken { .. } => Kind::Broken,
        _ => Kind::Other,
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        Self::new(Kind::Refused, error)
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        Self::new(Kind::Broken, error)
    }
}

impl From<SendCause> for Failure {
    fn from(cause: SendCause) -> Self {
        Self::new(Kind::Broken, cause)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(Kind::Broken, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        let is_of_a_flow = inner.is_some_and(|it| it.is::<ReceiveError>() || it.is::<SendCause>());
        match error.kind() {
            _ if is_of_a_flow => Self::new(Kind::Broken, error),
            // Whoever read the output has seen enough.
            io::ErrorKind::BrokenPipe => Self::new(Kind::Other, ""),
            _ => Self::new(Kind::Other, error),
        }
    }
}

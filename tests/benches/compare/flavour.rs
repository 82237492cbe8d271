//! The runtimes under which both sides are measured.

use std::sync::Arc;

use clap::ValueEnum;
use grinta_proto::{Builder, Fabric, StartError};

/// A runtime, and how it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    /// tokio with a worker for each core.
    Tokio,
    /// tokio on one thread.
    TokioCurrent,
    /// smol's global executor.
    Smol,
}

/// A runtime that is set up.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// smol's needs no handle.
    tokio: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Runs `future` as a task, which may spawn others, and waits for it.
    pub(crate) fn run<T, F>(&self, future: F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        match &self.tokio {
            Some(tokio) => tokio
                .block_on(tokio.spawn(future))
                .expect("a task of a benchmark does not panic"),
            None => smol::block_on(smol::spawn(future)),
        }
    }
}

impl Flavour {
    pub(crate) const fn all() -> [Self; 3] {
        [Self::Tokio, Self::TokioCurrent, Self::Smol]
    }

    /// As the command line and the names of the rows have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::TokioCurrent => "tokio-current",
            Self::Smol => "smol",
        }
    }

    /// Sets the runtime up.
    pub(crate) fn runtime(self) -> Runtime {
        let tokio = match self {
            Self::Tokio => Some(tokio::runtime::Builder::new_multi_thread()),
            Self::TokioCurrent => Some(tokio::runtime::Builder::new_current_thread()),
            Self::Smol => None,
        };
        let tokio = tokio.map(|mut builder| {
            let built = builder.enable_all().build();
            built.expect("the system grants threads and sockets")
        });
        Runtime { tokio }
    }

    /// Spawns a task from within [`Runtime::run`].
    pub(crate) fn spawn(self, future: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Tokio | Self::TokioCurrent => drop(tokio::spawn(future)),
            Self::Smol => smol::spawn(future).detach(),
        }
    }

    /// Starts a node of Grinta.
    pub(crate) async fn start(self, builder: Builder) -> Result<Fabric, StartError> {
        match self {
            Self::Tokio | Self::TokioCurrent => grinta_tokio::Start::start(builder).await,
            Self::Smol => grinta_smol::Start::start(builder).await,
        }
    }

    /// The same runtime for quinn.
    pub(crate) fn quinn(self) -> Arc<dyn quinn::Runtime> {
        match self {
            Self::Tokio | Self::TokioCurrent => Arc::new(quinn::TokioRuntime),
            Self::Smol => Arc::new(quinn::SmolRuntime),
        }
    }
}

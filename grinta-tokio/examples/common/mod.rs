//! What the smaller examples share: nodes that trust each other, and how a program ends.

use std::process::ExitCode;

use grinta_proto::{Builder, DevelopmentCa, Fabric};

/// Whatever goes wrong, told to a person.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The nodes of one process, which trust each other and nobody else.
pub(crate) struct Nodes(DevelopmentCa);

impl Nodes {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(DevelopmentCa::in_memory()?))
    }

    /// The first node of a fabric.
    pub(crate) fn first(&self, name: &str) -> Result<Builder, Failure> {
        let credentials = self.0.issue(&name.parse()?)?;
        Ok(Fabric::builder(name).credentials(credentials))
    }

    /// A node that joins another.
    pub(crate) fn beside(&self, other: &Fabric, name: &str) -> Result<Builder, Failure> {
        Ok(self.first(name)?.neighbour(other.address().to_string()))
    }
}

/// Tells a person what went wrong, and the shell that something did.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

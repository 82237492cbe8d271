//! Tests of Grinta through its public interface, and of its source tree.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::path::{Path, PathBuf};

mod generated;
mod loopback;
mod packages;
mod tidy;

/// The root of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

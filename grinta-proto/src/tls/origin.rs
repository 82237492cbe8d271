//! Where a certificate or key came from, so that an error can name the file to mend.

use std::fmt;
use std::path::{Path, PathBuf};

/// One of the things that credentials are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The certificates of the CAs whose nodes are trusted.
    Ca,
    /// The node's own certificate, and the intermediates up to its CA.
    Certificate,
    /// The private key of the node's certificate.
    Key,
    /// What the CAs have revoked.
    RevocationList,
}

/// One part of the credentials and the file it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    part: Part,
    file: Option<PathBuf>,
}

impl Origin {
    pub(super) fn memory(part: Part) -> Self {
        Self { part, file: None }
    }

    pub(super) fn file(part: Part, path: &Path) -> Self {
        Self {
            part,
            file: Some(path.to_owned()),
        }
    }

    /// Which part of the credentials it is.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part
    }

    /// The file it was read from; none if it was given in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.part {
            Part::Ca => "CA",
            Part::Certificate => "certificate",
            Part::Key => "key",
            Part::RevocationList => "revocation list",
        })?;
        match &self.file {
            Some(path) => write!(f, " file {}", path.display()),
            None => f.write_str(" given in memory"),
        }
    }
}

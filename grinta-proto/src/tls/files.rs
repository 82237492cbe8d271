//! The files that credentials are read from.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ring::digest;

use super::error::CredentialsError;
use super::origin::{Origin, Part};

/// The files that credentials are read from, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// The CAs whose nodes are trusted: one certificate or more.
    pub ca: PathBuf,
    /// The node's certificate, followed by the intermediates up to its CA, if there are any.
    pub certificate: PathBuf,
    /// The private key of the certificate, not encrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// What the CAs have revoked, one list or more in each file; usually there are none. See
    /// [`Credentials::with_revocation_lists`](crate::Credentials::with_revocation_lists).
    pub revocation_lists: Vec<PathBuf>,
}

/// What the files held at one moment.
pub(crate) struct Contents {
    pub(super) ca: Content,
    pub(super) certificate: Content,
    pub(super) key: Content,
    pub(super) revocation_lists: Vec<Content>,
}

/// A file and what it held.
pub(super) struct Content {
    pub(super) origin: Origin,
    pub(super) pem: Vec<u8>,
}

impl PemFiles {
    /// Reads all files.
    pub(crate) fn read(&self) -> Result<Contents, CredentialsError> {
        let lists = self.revocation_lists.iter();
        Ok(Contents {
            ca: Content::read(Part::Ca, &self.ca)?,
            certificate: Content::read(Part::Certificate, &self.certificate)?,
            key: Content::read(Part::Key, &self.key)?,
            revocation_lists: lists
                .map(|path| Content::read(Part::RevocationList, path))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Contents {
    /// The same for the same contents, and for no others.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let files = [&self.ca, &self.certificate, &self.key];
        let mut hash = digest::Context::new(&digest::SHA256);
        for file in files.into_iter().chain(&self.revocation_lists) {
            hash.update(&file.pem.len().to_le_bytes());
            hash.update(&file.pem);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        fingerprint
    }
}

impl Content {
    fn read(part: Part, path: &Path) -> Result<Self, CredentialsError> {
        let origin = Origin::file(part, path);
        let mut pem = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LEN_MAX + 1).read_to_end(&mut pem));
        match read {
            Err(error) => Err(CredentialsError::Unreadable {
                origin,
                kind: error.kind(),
                message: error.to_string(),
            }),
            Ok(_) if pem.len() as u64 > LEN_MAX => Err(CredentialsError::TooLarge {
                origin,
                limit: LEN_MAX,
            }),
            Ok(_) => Ok(Self { origin, pem }),
        }
    }
}

/// The most that is read of a file, in bytes. A certificate takes about two thousand, so that
/// this holds hundreds of CAs, and pointing at the wrong file fills no memory. A revoked
/// certificate takes some forty.
const LEN_MAX: u64 = 1 << 20;

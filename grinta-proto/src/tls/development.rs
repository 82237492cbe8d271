//! Credentials for development, made on the spot. Never for production.
//!
//! A [`DevelopmentCa`] is one Ed25519 key. Its certificate, and the key and certificate of each
//! node, are functions of that key and the node's name: a node that restarts is the same node, and
//! two processes that share the key trust each other. Whoever can read the key can be any node.
//!
//! Several processes of one user share the key as a file in a directory of their own. The file
//! appears complete or not at all, and is never replaced: it is written beside its place and linked
//! into it, which the file system grants to one process only; the others read what that one wrote.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, ffi::OsString, fmt};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use rustls::pki_types::{CertificateDer, DnsName, PrivatePkcs8KeyDer};

use super::credentials::{Credentials, Der};
use crate::name::NodeName;

/// A CA for development: issues credentials to any node that asks.
///
/// What it issues is valid from 1975 to 4096, so that no clock is needed, and is the same each time
/// for the same key and node.
#[derive(Clone)]
pub struct DevelopmentCa {
    key: Arc<KeyPair>,
    certificate: CertificateDer<'static>,
    directory: Option<PathBuf>,
}

/// Why there are no development credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DevelopmentError {
    /// None of the variables that say where a user's state belongs is set.
    #[error(
        "there is no place for development credentials; set XDG_RUNTIME_DIR or HOME to an \
        absolute path, or name a directory"
    )]
    NoDirectory,
    /// The file system refused. Nothing was left behind.
    #[error("cannot {action} {}: {message}; check its permissions, or name another directory",
        path.display())]
    FileSystem {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What kind of failure it was.
        kind: io::ErrorKind,
        /// The operating system's words.
        message: String,
    },
    /// Others than its owner may read or write the directory or the key in it.
    #[error("{} is open to other users (mode {mode:03o}); run chmod go-rwx on it, or remove it if \
        they may have read it", path.display())]
    NotPrivate {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key's file does not hold a key.
    #[error("{} holds no Ed25519 key ({message}); remove it to have a new one made",
        path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// The system gives no random bytes for a key.
    #[error("the system gives no random bytes for a key; check /dev/urandom or getrandom")]
    NoRandomness,
    /// A certificate could not be made.
    #[error("cannot issue a certificate to {subject}: {message}; please report it")]
    Issue {
        /// For whom.
        subject: String,
        /// What the library says.
        message: String,
    },
}

impl Credentials {
    /// Makes credentials for one node with a CA of its own, which exists in memory only.
    ///
    /// No other node trusts them: for a fabric of one, as in a first try. For several nodes in a
    /// process see [`DevelopmentCa::in_memory`], for several processes [`DevelopmentCa::open`].
    ///
    /// # Errors
    /// [`DevelopmentError`] if the system has no randomness.
    pub fn development(node: &NodeName) -> Result<Self, DevelopmentError> {
        DevelopmentCa::in_memory()?.issue(node)
    }
}

impl DevelopmentCa {
    /// Makes a CA that exists in memory only: the nodes it issues to trust each other and no one
    /// else.
    ///
    /// # Errors
    /// [`DevelopmentError`] if the system has no randomness.
    pub fn in_memory() -> Result<Self, DevelopmentError> {
        Self::from_seed(random_seed()?)
    }

    /// Makes the CA of a seed: the same seed gives the same CA, whose nodes have the same keys.
    /// For tests that must be repeatable; whoever knows the seed can be any node.
    ///
    /// # Errors
    /// [`DevelopmentError::Issue`] if its certificate cannot be made.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, DevelopmentError> {
        Self::with_key(
            key_pair(seed).map_err(|error| cannot_issue(&CA_SUBJECT, &error))?,
            None,
        )
    }

    /// Opens the CA of a directory, and makes both if they are not there. All processes that open
    /// the same directory get the same CA, also when they start at once.
    ///
    /// The directory must be its owner's alone. Remove it to make a new CA.
    ///
    /// # Errors
    /// [`DevelopmentError::NotPrivate`] if other users may read or write the directory or the key
    /// (not checked on systems without Unix permissions), or else what the file system refused.
    pub fn open(directory: &Path) -> Result<Self, DevelopmentError> {
        create_directory(directory)?;
        let path = directory.join(KEY_FILE);
        let pem = match read_key(&path)? {
            Some(pem) => pem,
            None => {
                publish_new_key(directory, &path)?;
                read_key(&path)?.ok_or_else(|| {
                    let gone = io::Error::from(io::ErrorKind::NotFound);
                    file_system_error("read", &path)(gone)
                })?
            }
        };
        let key = KeyPair::from_pem_and_sign_algo(&pem, &PKCS_ED25519).map_err(|error| {
            DevelopmentError::Malformed {
                path,
                message: error.to_string(),
            }
        })?;
        Self::with_key(key, Some(directory.to_owned()))
    }

    /// Where the development CA of this user belongs: `grinta/development-ca` under
    /// `$XDG_RUNTIME_DIR`, else `$XDG_STATE_HOME`, else `$HOME/.local/state`.
    ///
    /// # Errors
    /// [`DevelopmentError::NoDirectory`] if none of them is set to an absolute path.
    pub fn default_directory() -> Result<PathBuf, DevelopmentError> {
        directory_of(|variable| env::var_os(variable))
    }

    /// Issues credentials to a node: a certificate with its name as a `spiffe://` URI and, where
    /// it is one, as a DNS name. Says so in the log, every time.
    ///
    /// # Errors
    /// [`DevelopmentError::Issue`] if the certificate cannot be made.
    pub fn issue(&self, node: &NodeName) -> Result<Credentials, DevelopmentError> {
        let key = key_pair(self.derive(node)).map_err(|error| cannot_issue(node, &error))?;
        let ca_params = ca_params(&self.key);
        let issuer = Issuer::from_params(&ca_params, self.key.as_ref());
        let certificate = node_params(node)
            .and_then(|params| params.signed_by(&key, &issuer))
            .map_err(|error| cannot_issue(node, &error))?;
        let credentials = Credentials::from_der(Der {
            ca: vec![self.certificate.clone()],
            certificate: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
        .map_err(|error| cannot_issue(node, &error))?;
        match &self.directory {
            Some(directory) => tracing::info!(
                target: "grinta::trust",
                %node,
                directory = %directory.display(),
                "DEVELOPMENT CREDENTIALS: whoever can read this directory can join the fabric \
                 as any node",
            ),
            None => tracing::info!(
                target: "grinta::trust",
                %node,
                "DEVELOPMENT CREDENTIALS of a CA in memory: never use them in production",
            ),
        }
        Ok(credentials)
    }

    fn with_key(key: KeyPair, directory: Option<PathBuf>) -> Result<Self, DevelopmentError> {
        let certificate = ca_params(&key)
            .self_signed(&key)
            .map_err(|error| cannot_issue(&CA_SUBJECT, &error))?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: Arc::new(key),
            directory,
        })
    }

    fn derive(&self, node: &NodeName) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.serialized_der());
        let mut context = hmac::Context::with_key(&key);
        context.update(b"grinta development node key ");
        context.update(node.as_str().as_bytes());
        let mut seed = [0; 32];
        seed.copy_from_slice(context.sign().as_ref());
        seed
    }
}

impl fmt::Debug for DevelopmentCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentCa")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn ca_params(key: &KeyPair) -> CertificateParams {
    // The name carries the key, so that two development CAs are never taken for one another.
    let fingerprint = hex(&digest::digest(&digest::SHA256, key.public_key_raw()).as_ref()[..8]);
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(format!("{CA_SUBJECT} {fingerprint}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn node_params(node: &NodeName) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Grinta development node".to_owned());
    if DnsName::try_from(node.as_str()).is_ok() {
        params
            .subject_alt_names
            .push(SanType::DnsName(Ia5String::try_from(node.as_str())?));
    }
    let uri = format!("spiffe://development/node/{node}");
    params
        .subject_alt_names
        .push(SanType::URI(Ia5String::try_from(uri)?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

fn common_name(name: String) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn random_seed() -> Result<[u8; 32], DevelopmentError> {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| DevelopmentError::NoRandomness)?;
    Ok(seed)
}

fn key_pair(seed: [u8; 32]) -> Result<KeyPair, rcgen::Error> {
    let der = PrivatePkcs8KeyDer::from([PKCS8_ED25519_PREFIX.as_slice(), &seed].concat());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
}

fn create_directory(directory: &Path) -> Result<(), DevelopmentError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(directory)
        .map_err(file_system_error("create", directory))?;
    let metadata = fs::metadata(directory).map_err(file_system_error("inspect", directory))?;
    require_private(directory, &metadata)
}

/// Reads the key's file, if it is there.
fn read_key(path: &Path) -> Result<Option<String>, DevelopmentError> {
    let failed = file_system_error("read", path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    require_private(path, &file.metadata().map_err(&failed)?)?;
    let mut pem = String::new();
    file.take(KEY_FILE_LEN_MAX)
        .read_to_string(&mut pem)
        .map_err(failed)?;
    Ok(Some(pem))
}

/// Makes a key and puts it at `path`, unless another process was faster.
fn publish_new_key(directory: &Path, path: &Path) -> Result<(), DevelopmentError> {
    let key = key_pair(random_seed()?).map_err(|error| cannot_issue(&CA_SUBJECT, &error))?;
    // Named by the key, no two processes write the same file.
    let draft = directory.join(format!("{KEY_FILE}.{}", hex(&key.public_key_raw()[..8])));
    let published = write_key(&draft, &key).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(file_system_error("create", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    });
    let removed = match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_system_error("remove", &draft)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    };
    published.and(removed)
}

fn write_key(draft: &Path, key: &KeyPair) -> Result<(), DevelopmentError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(draft)
        .and_then(|mut file| {
            file.write_all(key.serialize_pem().as_bytes())?;
            file.sync_all()
        })
        .map_err(file_system_error("write", draft))
}

#[cfg(unix)]
fn require_private(path: &Path, metadata: &fs::Metadata) -> Result<(), DevelopmentError> {
    let mode = std::os::unix::fs::MetadataExt::mode(metadata) & 0o777;
    if mode & 0o077 != 0 {
        return Err(DevelopmentError::NotPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn require_private(_path: &Path, _metadata: &fs::Metadata) -> Result<(), DevelopmentError> {
    Ok(())
}

fn directory_of(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, DevelopmentError> {
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_RUNTIME_DIR")
        .or_else(|| absolute("XDG_STATE_HOME"))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .ok_or(DevelopmentError::NoDirectory)?;
    Ok(state.join("grinta/development-ca"))
}

fn file_system_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DevelopmentError {
    move |error| DevelopmentError::FileSystem {
        action,
        path: path.to_owned(),
        kind: error.kind(),
        message: error.to_string(),
    }
}

fn cannot_issue(subject: &impl fmt::Display, error: &impl fmt::Display) -> DevelopmentError {
    DevelopmentError::Issue {
        subject: subject.to_string(),
        message: error.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const CA_SUBJECT: &str = "Grinta development CA";

const KEY_FILE: &str = "ca.key";

/// The most that is read of a key's file, in bytes; an Ed25519 key takes about 120.
const KEY_FILE_LEN_MAX: u64 = 4_096;

/// What precedes the 32 bytes of an Ed25519 key in PKCS #8
/// ([RFC 8410, section 7](https://www.rfc-editor.org/rfc/rfc8410#section-7)).
const PKCS8_ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::super::certified_names;
    use super::super::testing::{Handshake, NOW};
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    /// A place for a CA whose directory does not exist yet.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state/development-ca");
        (parent, directory)
    }

    fn files_in(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn one_call_gives_a_node_credentials_that_hold() {
        let credentials = Credentials::development(&node("laptop")).unwrap();
        assert_eq!(credentials.check(&node("laptop"), NOW), Ok(()));
        let year_3000 = Duration::from_secs(32_503_680_000);
        assert_eq!(credentials.check(&node("laptop"), year_3000), Ok(()));
    }

    #[test]
    fn the_nodes_of_one_ca_trust_each_other_and_those_of_two_do_not() {
        let ca = DevelopmentCa::in_memory().unwrap();
        let (one, two) = (
            ca.issue(&node("one")).unwrap(),
            ca.issue(&node("two")).unwrap(),
        );
        assert_eq!(Handshake::between(&one, &two).client_error(), None);
        let stranger = Credentials::development(&node("two")).unwrap();
        assert!(Handshake::between(&one, &stranger).client_error().is_some());
    }

    #[test]
    fn any_node_name_can_be_certified() {
        let ca = DevelopmentCa::from_seed([1; 32]).unwrap();
        for name in [
            "db-1.internal",
            "Shouted",
            "-odd-",
            "a..b",
            "1.2.3.4",
            &"x".repeat(128),
        ] {
            let credentials = ca.issue(&node(name)).unwrap();
            assert_eq!(credentials.check(&node(name), NOW), Ok(()), "{name}");
            let names = certified_names(&credentials.certificate_chain()[0]).unwrap();
            assert_eq!(names, [node(name)]);
        }
    }

    #[test]
    fn a_seed_gives_the_same_bytes_each_time() {
        let issue = |seed, name| {
            let credentials = DevelopmentCa::from_seed(seed)
                .unwrap()
                .issue(&node(name))
                .unwrap();
            (
                credentials.certificate_chain().to_vec(),
                credentials.derive("any"),
            )
        };
        assert_eq!(issue([1; 32], "one"), issue([1; 32], "one"));
        assert_ne!(issue([1; 32], "one").1, issue([1; 32], "two").1);
        assert_ne!(issue([1; 32], "one").1, issue([2; 32], "one").1);
    }

    #[test]
    fn a_directory_gives_the_same_ca_again_and_a_node_the_same_key() {
        let (_parent, directory) = place();
        let first = DevelopmentCa::open(&directory).unwrap();
        let second = DevelopmentCa::open(&directory).unwrap();
        assert_eq!(first.certificate, second.certificate);
        let before = first.issue(&node("one")).unwrap();
        let after_restart = second.issue(&node("one")).unwrap();
        assert_eq!(before.derive("reset"), after_restart.derive("reset"));
        assert_eq!(
            Handshake::between(&before, &after_restart).client_error(),
            None
        );
        assert_eq!(files_in(&directory), [KEY_FILE]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "stands for several processes")]
    fn processes_that_start_at_once_end_up_with_one_ca() {
        for _ in 0..20 {
            let (_parent, directory) = place();
            let barrier = Arc::new(Barrier::new(8));
            let processes: Vec<_> = (0..8)
                .map(|_| {
                    let (barrier, directory) = (Arc::clone(&barrier), directory.clone());
                    std::thread::spawn(move || {
                        barrier.wait();
                        DevelopmentCa::open(&directory).unwrap().certificate
                    })
                })
                .collect();
            let mut certificates: Vec<_> = processes
                .into_iter()
                .map(|process| process.join().unwrap())
                .collect();
            certificates.dedup();
            assert_eq!(certificates.len(), 1);
            assert_eq!(files_in(&directory), [KEY_FILE]);
        }
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let (_parent, directory) = place();
        DevelopmentCa::open(&directory).unwrap();
        let path = directory.join(KEY_FILE);
        let before = fs::read(&path).unwrap();
        publish_new_key(&directory, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(files_in(&directory), [KEY_FILE]);
    }

    #[cfg(unix)]
    #[test]
    fn directory_and_key_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (_parent, directory) = place();
        DevelopmentCa::open(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(directory.parent().unwrap()), 0o700);
        assert_eq!(mode(&directory.join(KEY_FILE)), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn what_others_can_read_or_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_parent, directory) = place();
        DevelopmentCa::open(&directory).unwrap();
        let key = directory.join(KEY_FILE);
        for (path, private) in [(&directory, 0o700), (&key, 0o600)] {
            for open in [0o040, 0o020, 0o004, 0o002, 0o001] {
                let mode = private | open;
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                let error = DevelopmentCa::open(&directory).unwrap_err();
                assert_eq!(
                    error,
                    DevelopmentError::NotPrivate {
                        path: path.clone(),
                        mode
                    }
                );
            }
            fs::set_permissions(path, fs::Permissions::from_mode(private)).unwrap();
        }
        assert!(DevelopmentCa::open(&directory).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_holds_no_key_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let (_parent, directory) = place();
        DevelopmentCa::open(&directory).unwrap();
        let path = directory.join(KEY_FILE);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = DevelopmentCa::open(&directory).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(
            matches!(error, DevelopmentError::Malformed { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DevelopmentCa::open(&path).unwrap_err();
        let DevelopmentError::FileSystem {
            action: "create",
            path: named,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(named, path);
    }

    #[cfg(unix)]
    #[test]
    fn the_default_directory_follows_the_users_variables() {
        let with = |variables: &[(&str, &str)]| {
            let lookup = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| OsString::from(value))
            };
            directory_of(lookup).map(|path| path.to_str().unwrap().to_owned())
        };
        let (run, state, home) = (
            ("XDG_RUNTIME_DIR", "/run/me"),
            ("XDG_STATE_HOME", "/state"),
            ("HOME", "/users/me"),
        );
        assert_eq!(
            with(&[run, state, home]).unwrap(),
            "/run/me/grinta/development-ca"
        );
        assert_eq!(
            with(&[state, home]).unwrap(),
            "/state/grinta/development-ca"
        );
        assert_eq!(
            with(&[home]).unwrap(),
            "/users/me/.local/state/grinta/development-ca"
        );
        let (empty, relative) = (("XDG_RUNTIME_DIR", ""), ("XDG_STATE_HOME", "state"));
        assert_eq!(
            with(&[empty, relative, home]).unwrap(),
            "/users/me/.local/state/grinta/development-ca"
        );
        assert_eq!(with(&[empty]), Err(DevelopmentError::NoDirectory));
    }

    #[test]
    fn a_ca_prints_no_key() {
        let ca = DevelopmentCa::from_seed([7; 32]).unwrap();
        assert_eq!(format!("{ca:?}"), "DevelopmentCa { directory: None, .. }");
    }
}

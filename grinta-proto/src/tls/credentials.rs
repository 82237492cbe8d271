//! A node's certificate, its key, and the CAs it trusts.
//!
//! Credentials are complete or not there at all: each constructor parses everything, matches the
//! key with the certificate, and names the file and the fix when it cannot. What depends on the
//! time and on the node's name is [`Credentials::check`], which a node calls at its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use rustls::crypto::{CryptoProvider, ring as ring_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime,
};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};

use super::error::CredentialsError;
use super::failure::TlsFailure;
use super::files::{Contents, PemFiles};
use super::names::certified_names;
use super::origin::{Origin, Part};
use super::verifier::{PeerVerifier, Role};
use crate::name::NodeName;

/// Who a node is and whom it trusts: its certificate chain, its private key and its CAs.
///
/// Cheap to clone, and never changed: a running node is given new ones, see
/// [`Fabric::replace_credentials`](crate::Fabric::replace_credentials).
///
/// The certificate names the node, in a DNS name or as the last segment of a `spiffe://` URI (see
/// [`certified_names`]), and is allowed to be both a TLS server and a TLS client. No IP addresses
/// and no host names are needed. Only the given CAs are trusted, never the public web's; when a CA
/// certificate itself expires is not looked at.
#[derive(Clone)]
pub struct Credentials {
    certified: Arc<CertifiedKey>,
    key: Arc<PrivateKeyDer<'static>>,
    verifier: Arc<PeerVerifier>,
    provider: Arc<CryptoProvider>,
    origins: Arc<Origins>,
}

/// Credentials in memory, in PEM.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// The CAs whose nodes are trusted: one certificate or more.
    pub ca: &'a [u8],
    /// The node's certificate, followed by the intermediates up to its CA, if there are any.
    pub certificate: &'a [u8],
    /// The private key of the certificate, not encrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key: &'a [u8],
}

/// The parts of credentials, in DER.
#[derive(Debug)]
pub struct Der {
    /// The CAs whose nodes are trusted: one certificate or more.
    pub ca: Vec<CertificateDer<'static>>,
    /// The node's certificate, followed by the intermediates up to its CA, if there are any.
    pub certificate: Vec<CertificateDer<'static>>,
    /// The private key of the certificate.
    pub key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads credentials from PEM files.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file and the way out.
    pub fn from_pem_files(files: &PemFiles) -> Result<Self, CredentialsError> {
        Self::from_contents(&files.read()?)
    }

    /// Parses credentials from what their files held.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file and the way out.
    pub(crate) fn from_contents(contents: &Contents) -> Result<Self, CredentialsError> {
        let Contents {
            ca,
            certificate,
            key,
            revocation_lists,
        } = contents;
        let origins = Origins {
            ca: ca.origin.clone(),
            certificate: certificate.origin.clone(),
            key: key.origin.clone(),
        };
        let pem = Pem {
            ca: &ca.pem,
            certificate: &certificate.pem,
            key: &key.pem,
        };
        let credentials = Self::parse(pem, origins)?;
        let mut lists = Vec::new();
        for file in revocation_lists {
            for list in sections::<CertificateRevocationListDer<'_>>(&file.pem, &file.origin)? {
                let parsed = OwnedCertRevocationList::from_der(&list);
                lists.push(
                    parsed
                        .map_err(|error| malformed(&file.origin, error))?
                        .into(),
                );
            }
        }
        Ok(credentials.revoking(lists))
    }

    /// Parses credentials from PEM.
    ///
    /// # Errors
    /// [`CredentialsError`] names the part and the way out.
    pub fn from_pem(pem: Pem<'_>) -> Result<Self, CredentialsError> {
        Self::parse(pem, Origins::memory())
    }

    /// Takes credentials in DER.
    ///
    /// # Errors
    /// [`CredentialsError`] names the part and the way out.
    pub fn from_der(der: Der) -> Result<Self, CredentialsError> {
        Self::assemble(der, Origins::memory())
    }

    /// Replaces the cryptography, which is *ring* unless told otherwise. It must offer
    /// `TLS_AES_128_GCM_SHA256`, which QUIC begins every connection with.
    ///
    /// # Errors
    /// [`CredentialsError::UnsupportedKey`] if the provider cannot sign with the key.
    pub fn with_crypto_provider(
        self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CredentialsError> {
        let chain = self.certified.cert.clone();
        let certified = certify(chain, &self.key, &provider, &self.origins)?;
        let verifier = self
            .verifier
            .with_algorithms(provider.signature_verification_algorithms);
        Ok(Self {
            certified: Arc::new(certified),
            verifier: Arc::new(verifier),
            provider,
            ..self
        })
    }

    /// Replaces the certificate revocation lists, of which there are none at first.
    ///
    /// A certificate, or an intermediate, on the list of its issuer is refused. An issuer without a
    /// list has revoked nothing, and a list past its next update still counts.
    ///
    /// # Errors
    /// [`CredentialsError::MalformedRevocationList`] if one cannot be parsed.
    pub fn with_revocation_lists(
        self,
        lists: &[CertificateRevocationListDer<'_>],
    ) -> Result<Self, CredentialsError> {
        let parse = |(index, list): (usize, &CertificateRevocationListDer<'_>)| {
            OwnedCertRevocationList::from_der(list)
                .map(CertRevocationList::from)
                .map_err(|error| CredentialsError::MalformedRevocationList {
                    index,
                    message: error.to_string(),
                })
        };
        let lists = lists
            .iter()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()?;
        Ok(self.revoking(lists))
    }

    fn revoking(self, lists: Vec<CertRevocationList<'static>>) -> Self {
        Self {
            verifier: Arc::new(self.verifier.with_revocations(lists)),
            ..self
        }
    }

    /// Checks that peers which trust the same CAs would accept these credentials for `node` at
    /// `unix_time`, the time since the Unix epoch.
    ///
    /// # Errors
    /// [`CredentialsError`] says why they would not, names the file, and how to mend it.
    pub fn check(&self, node: &NodeName, unix_time: Duration) -> Result<(), CredentialsError> {
        let time = UnixTime::since_unix_epoch(unix_time);
        for role in [Role::Server, Role::Client] {
            self.verify(&self.certified.cert, time, role)
                .map_err(|error| self.refusal(error, role, unix_time))?;
        }
        let names = self.names();
        if !names.contains(node) {
            let certificate = self.origins.certificate.clone();
            return Err(CredentialsError::NameMissing {
                certificate,
                node: node.clone(),
                names,
            });
        }
        Ok(())
    }

    /// Judges again the certificate chain of a connected peer, leaf first, at `unix_time`: after
    /// the CAs or revocation lists were replaced, or because it may have expired meanwhile.
    ///
    /// # Errors
    /// [`TlsFailure`] says why a handshake would now be refused.
    pub fn recheck(
        &self,
        chain: &[CertificateDer<'_>],
        unix_time: Duration,
    ) -> Result<(), TlsFailure> {
        let time = UnixTime::since_unix_epoch(unix_time);
        for role in [Role::Server, Role::Client] {
            self.verify(chain, time, role)
                .map_err(TlsFailure::of_peer_certificate)?;
        }
        Ok(())
    }

    /// The names of nodes that the certificate proves.
    #[must_use]
    pub fn names(&self) -> Vec<NodeName> {
        let leaf = self.certified.cert.first();
        leaf.and_then(|leaf| certified_names(leaf).ok())
            .unwrap_or_default()
    }

    /// The last second at which the node's certificate is valid, since the Unix epoch.
    #[must_use]
    pub fn expires_at(&self) -> Option<Duration> {
        // The verification tells when a certificate ends only by finding it expired, and it looks
        // at the leaf's validity before anything else.
        let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        match self.verify(&self.certified.cert, end_of_time, Role::Server) {
            Err(CertificateError::ExpiredContext { not_after, .. }) => Some(since_epoch(not_after)),
            Err(_) | Ok(()) => None,
        }
    }

    /// From when on the certificate is overdue to be renewed, since the Unix epoch: the last fifth of
    /// its life. Those who renew by themselves do so when a third is left.
    pub(crate) fn overdue_from(&self) -> Option<Duration> {
        let expires_at = self.expires_at()?;
        // As for the end: the beginning is told by finding the certificate not valid yet.
        let beginning = UnixTime::since_unix_epoch(Duration::ZERO);
        let valid_from = match self.verify(&self.certified.cert, beginning, Role::Server) {
            Err(CertificateError::NotValidYetContext { not_before, .. }) => since_epoch(not_before),
            Err(_) | Ok(()) => Duration::ZERO,
        };
        Some(expires_at - expires_at.saturating_sub(valid_from) / 5)
    }

    /// How many CAs are trusted.
    pub(crate) fn ca_count(&self) -> usize {
        self.verifier.anchor_count()
    }

    /// The node's certificate chain, leaf first.
    #[must_use]
    pub fn certificate_chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Derives a secret from the private key: the same for the same key and label, so that it
    /// survives a restart, and without use for whoever does not hold the key.
    pub(crate) fn derive(&self, label: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, label.as_bytes()).as_ref());
        secret
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    pub(super) fn verifier(&self) -> &Arc<PeerVerifier> {
        &self.verifier
    }

    fn parse(pem: Pem<'_>, origins: Origins) -> Result<Self, CredentialsError> {
        let der = Der {
            ca: sections(pem.ca, &origins.ca)?,
            certificate: sections(pem.certificate, &origins.certificate)?,
            key: private_key(pem.key, &origins.key)?,
        };
        Self::assemble(der, origins)
    }

    fn assemble(der: Der, origins: Origins) -> Result<Self, CredentialsError> {
        let missing = |origin: &Origin| CredentialsError::Missing {
            origin: origin.clone(),
            found: vec![],
        };
        if der.ca.is_empty() {
            return Err(missing(&origins.ca));
        }
        let Some(leaf) = der.certificate.first() else {
            return Err(missing(&origins.certificate));
        };
        certified_names(leaf).map_err(|error| malformed(&origins.certificate, error.message))?;
        let provider = Arc::new(default_provider());
        let anchors = anchors(&der.ca, &origins.ca)?;
        let certified = certify(der.certificate, &der.key, &provider, &origins)?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self {
            certified: Arc::new(certified),
            key: Arc::new(der.key),
            verifier: Arc::new(PeerVerifier::new(anchors, algorithms)),
            provider,
            origins: Arc::new(origins),
        })
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        time: UnixTime,
        role: Role,
    ) -> Result<(), CertificateError> {
        match chain.split_first() {
            Some((leaf, intermediates)) => self.verifier.verify(leaf, intermediates, time, role),
            None => Err(CertificateError::BadEncoding),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls's enum is non-exhaustive"
    )]
    fn refusal(
        &self,
        error: CertificateError,
        role: Role,
        unix_time: Duration,
    ) -> CredentialsError {
        let certificate = self.origins.certificate.clone();
        match error {
            CertificateError::UnknownIssuer => CredentialsError::Untrusted {
                certificate,
                ca: self.origins.ca.clone(),
            },
            CertificateError::ExpiredContext { not_after, .. } => {
                let not_after = since_epoch(not_after);
                CredentialsError::Expired {
                    certificate,
                    unix_time,
                    not_after,
                }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                let not_before = since_epoch(not_before);
                CredentialsError::NotYetValid {
                    certificate,
                    unix_time,
                    not_before,
                }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                let missing = match role {
                    Role::Client => "clientAuth",
                    Role::Server => "serverAuth",
                };
                CredentialsError::WrongUsage {
                    certificate,
                    missing,
                }
            }
            CertificateError::Revoked => CredentialsError::Revoked { certificate },
            CertificateError::Other(error) => CredentialsError::Unverifiable {
                certificate,
                message: error.to_string(),
            },
            error => CredentialsError::Unverifiable {
                certificate,
                message: error.to_string(),
            },
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("names", &self.names())
            .field("certificate", &self.origins.certificate.to_string())
            .field("ca", &self.origins.ca.to_string())
            .field("ca_count", &self.ca_count())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem")
            .field("ca_len", &self.ca.len())
            .field("certificate_len", &self.certificate.len())
            .finish_non_exhaustive()
    }
}

struct Origins {
    ca: Origin,
    certificate: Origin,
    key: Origin,
}

impl Origins {
    fn memory() -> Self {
        Self {
            ca: Origin::memory(Part::Ca),
            certificate: Origin::memory(Part::Certificate),
            key: Origin::memory(Part::Key),
        }
    }
}

/// The cryptography of *ring*, without what no node needs of it: TLS 1.2 suites and key exchanges
/// slower than the one that every node has. AES-128 comes first, being what QUIC starts with
/// anyway and the cheapest wherever there is hardware for it.
fn default_provider() -> CryptoProvider {
    use ring_provider::{cipher_suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..ring_provider::default_provider()
    }
}

/// All sections of one kind, of which there has to be one.
fn sections<T: PemObject>(pem: &[u8], origin: &Origin) -> Result<Vec<T>, CredentialsError> {
    let sections = T::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(origin, error))?;
    if sections.is_empty() {
        return Err(CredentialsError::Missing {
            origin: origin.clone(),
            found: labels(pem),
        });
    }
    Ok(sections)
}

fn private_key(pem: &[u8], origin: &Origin) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    match PrivateKeyDer::pem_slice_iter(pem).next() {
        Some(key) => key.map_err(|error| malformed(origin, error)),
        None => Err(CredentialsError::Missing {
            origin: origin.clone(),
            found: labels(pem),
        }),
    }
}

fn anchors(
    ca: &[CertificateDer<'static>],
    origin: &Origin,
) -> Result<Vec<TrustAnchor<'static>>, CredentialsError> {
    ca.iter()
        .map(|certificate| {
            let anchor = anchor_from_trusted_cert(certificate);
            anchor
                .map(|anchor| anchor.to_owned())
                .map_err(|error| malformed(origin, error))
        })
        .collect()
}

fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    origins: &Origins,
) -> Result<CertifiedKey, CredentialsError> {
    let signing_key = provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| CredentialsError::UnsupportedKey {
            origin: origins.key.clone(),
            message: error.to_string(),
        })?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(CredentialsError::KeyMismatch {
                key: origins.key.clone(),
                certificate: origins.certificate.clone(),
            })
        }
        Err(error) => Err(malformed(&origins.certificate, error)),
    }
}

/// The labels of a PEM file's sections, for a message: few, short and printable.
fn labels(pem: &[u8]) -> Vec<String> {
    pem.split(|&byte| byte == b'\n' || byte == b'\r')
        .filter_map(|line| {
            line.trim_ascii()
                .strip_prefix(b"-----BEGIN ")?
                .strip_suffix(b"-----")
        })
        .filter(|label| label.len() <= LABEL_LEN_MAX)
        .take(LABELS_MAX)
        .map(|label| label.escape_ascii().to_string())
        .collect()
}

fn malformed(origin: &Origin, error: impl fmt::Display) -> CredentialsError {
    CredentialsError::Malformed {
        origin: origin.clone(),
        message: error.to_string(),
    }
}

fn since_epoch(time: UnixTime) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// A PEM file without the wanted section is described by its first few.
const LABELS_MAX: usize = 4;

/// The longest label of a PEM section that is told, in bytes; the known ones are shorter.
const LABEL_LEN_MAX: usize = 40;

#[cfg(test)]
mod tests;

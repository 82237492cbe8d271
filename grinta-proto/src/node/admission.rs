//! Whom a node lets in, beyond what certificates prove: a rule of the program's.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::name::NodeName;
use crate::tls;

/// A node at the other end of a new connection, which has proved who it is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Applicant<'a> {
    /// The name that it goes by; its certificate is good for it.
    pub node: &'a NodeName,
    /// Where it says that others dial it.
    pub address: SocketAddr,
    /// Its certificate, which a trusted CA issued.
    pub certificate: &'a CertificateDer<'a>,
}

impl Applicant<'_> {
    /// The subject alternative names of its certificate, as they stand there: the DNS names, then
    /// the URIs.
    #[must_use]
    pub fn alternative_names(&self) -> Vec<String> {
        tls::alternative_names(self.certificate).unwrap_or_default()
    }
}

/// Which nodes may take part; by default all that certificates let in.
#[derive(Clone, Default)]
pub struct Admission(Option<Arc<dyn Rule>>);

trait Rule: Send + Sync {
    fn judge(&self, applicant: &Applicant<'_>) -> Result<(), String>;
}

impl Admission {
    /// Lets in for whom `rule` says so; its error is for the other node, and for our log.
    pub fn by(rule: impl Fn(&Applicant<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(rule)))
    }

    pub(super) fn judge(&self, applicant: &Applicant<'_>) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |rule| rule.judge(applicant))
    }
}

impl<F> Rule for F
where
    F: Fn(&Applicant<'_>) -> Result<(), String> + Send + Sync,
{
    fn judge(&self, applicant: &Applicant<'_>) -> Result<(), String> {
        self(applicant)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.is_some() { "by a rule" } else { "all" };
        f.debug_tuple("Admission").field(&what).finish()
    }
}

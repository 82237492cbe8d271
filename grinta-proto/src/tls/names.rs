//! The names of nodes that a certificate proves.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::name::NodeName;

/// A certificate that cannot be read as X.509 version 3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be read ({message}); issue it as X.509 version 3")]
pub struct MalformedCertificate {
    /// What the parser says.
    pub message: String,
}

/// Reads which nodes a certificate speaks for: each DNS name among its subject alternative names
/// that is a [`NodeName`], then the last path segment of each `spiffe://` URI that is one.
///
/// The names are exact: a wildcard is none, letter case counts, and the subject's common name is
/// never looked at. This proves nothing by itself; the chain must have been verified.
///
/// # Errors
/// [`MalformedCertificate`] if the certificate is not X.509.
pub fn certified_names(leaf: &CertificateDer<'_>) -> Result<Vec<NodeName>, MalformedCertificate> {
    let certificate = parse(leaf)?;
    let dns = certificate.valid_dns_names();
    let spiffe = certificate.valid_uri_names().filter_map(spiffe_name);
    let mut names = Vec::new();
    for name in dns
        .chain(spiffe)
        .filter_map(|name| NodeName::new(name).ok())
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// All subject alternative names of a certificate that are DNS names, then those that are URIs.
///
/// # Errors
/// [`MalformedCertificate`] if the certificate is not X.509.
pub(crate) fn alternative_names(
    leaf: &CertificateDer<'_>,
) -> Result<Vec<String>, MalformedCertificate> {
    let certificate = parse(leaf)?;
    let dns = certificate.valid_dns_names();
    let names = dns.chain(certificate.valid_uri_names());
    Ok(names.map(str::to_owned).collect())
}

fn parse<'a>(leaf: &'a CertificateDer<'_>) -> Result<EndEntityCert<'a>, MalformedCertificate> {
    EndEntityCert::try_from(leaf).map_err(|error| MalformedCertificate {
        message: error.to_string(),
    })
}

fn spiffe_name(uri: &str) -> Option<&str> {
    let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    if trust_domain.is_empty() {
        return None;
    }
    path.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaf, TestCa};
    use super::*;

    fn names_of(leaf: Leaf) -> Vec<String> {
        let (certificate, _) = TestCa::new("names").issue(&leaf);
        let names = certified_names(&certificate).unwrap();
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dns_names_and_the_last_segment_of_spiffe_uris_are_names() {
        let leaf = Leaf::default()
            .dns("db-1.internal")
            .uri("spiffe://prod/ns/default/node/db-1")
            .uri("spiffe://prod/Cache");
        assert_eq!(names_of(leaf), ["db-1.internal", "db-1", "Cache"]);
    }

    #[test]
    fn a_name_given_twice_counts_once() {
        let leaf = Leaf::default()
            .dns("db")
            .uri("spiffe://prod/node/db")
            .uri("spiffe://x/db");
        assert_eq!(names_of(leaf), ["db"]);
    }

    #[test]
    fn what_is_not_a_name_is_left_out() {
        let leaf = Leaf::default()
            .dns("*.internal")
            .uri("https://prod/node/web")
            .uri("spiffe://prod")
            .uri("spiffe://prod/")
            .uri("spiffe:///node/nobody")
            .uri("spiffe://prod/node/a?b")
            .uri("SPIFFE://prod/node/shouted");
        assert_eq!(names_of(leaf), [""; 0]);
    }

    #[test]
    fn letter_case_is_kept() {
        let leaf = Leaf::default().uri("spiffe://prod/node/Db-1");
        assert_eq!(names_of(leaf), ["Db-1"]);
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        let error = certified_names(&CertificateDer::from(&b"nonsense"[..])).unwrap_err();
        assert!(error.to_string().contains("X.509"), "{error}");
    }
}

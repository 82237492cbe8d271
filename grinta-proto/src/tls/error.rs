//! Why credentials cannot be used, in words that name the file and the way out.

use std::time::Duration;
use std::{fmt, io};

use super::origin::{Origin, Part};
use crate::name::NodeName;

/// Why credentials cannot be used. Always the caller's to mend; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file could not be read.
    #[error("cannot read the {origin}: {message}; {}", remedy(*kind))]
    Unreadable {
        /// Which file.
        origin: Origin,
        /// What kind of failure it was.
        kind: io::ErrorKind,
        /// The operating system's words.
        message: String,
    },
    /// A file is larger than any certificate or key.
    #[error("the {origin} is larger than {limit} bytes; check that it is the right PEM file")]
    TooLarge {
        /// Which file.
        origin: Origin,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// A part does not hold what it should.
    #[error("the {origin} holds no {}{}; {}",
        wanted(origin.part()), Instead(found), remedy_missing(origin.part(), found))]
    Missing {
        /// Which part.
        origin: Origin,
        /// The labels of the PEM sections it holds instead.
        found: Vec<String>,
    },
    /// A part cannot be parsed.
    #[error("the {origin} is malformed: {message}; issue or copy it again")]
    Malformed {
        /// Which part.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// The key is of a kind that the cryptography provider cannot sign with.
    #[error("the {origin} cannot be used: {message}; use an Ed25519, ECDSA P-256 or RSA key")]
    UnsupportedKey {
        /// Which key.
        origin: Origin,
        /// What the provider says.
        message: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the {key} does not belong to the {certificate}; give the key that the certificate \
        was issued for, and put the node's own certificate first"
    )]
    KeyMismatch {
        /// The key.
        key: Origin,
        /// The certificate.
        certificate: Origin,
    },
    /// The certificate does not lead to any of the given CAs.
    #[error(
        "the {certificate} is not signed by any CA in the {ca}; add the CA that issued it, or \
        append the intermediates up to that CA to the certificate"
    )]
    Untrusted {
        /// The certificate.
        certificate: Origin,
        /// The CAs.
        ca: Origin,
    },
    /// The certificate, or one that issued it, has expired.
    #[error("the {certificate} expired on {} and the clock says {}; renew it or correct the clock",
        Utc(*not_after), Utc(*unix_time))]
    Expired {
        /// The certificate.
        certificate: Origin,
        /// The time of the check, since the Unix epoch.
        unix_time: Duration,
        /// The last second it was valid, since the Unix epoch.
        not_after: Duration,
    },
    /// The certificate, or one that issued it, is not valid yet.
    #[error("the {certificate} is valid from {} and the clock says {}; wait or correct the clock",
        Utc(*not_before), Utc(*unix_time))]
    NotYetValid {
        /// The certificate.
        certificate: Origin,
        /// The time of the check, since the Unix epoch.
        unix_time: Duration,
        /// The first second it is valid, since the Unix epoch.
        not_before: Duration,
    },
    /// The certificate may not be used in both roles; every node is a server and a client.
    #[error(
        "the {certificate} lacks the extended key usage {missing}; issue it with both \
        serverAuth and clientAuth"
    )]
    WrongUsage {
        /// The certificate.
        certificate: Origin,
        /// `serverAuth` or `clientAuth`.
        missing: &'static str,
    },
    /// The certificate is on one of our own revocation lists.
    #[error("the {certificate} is revoked; issue a new one with a new key")]
    Revoked {
        /// The certificate.
        certificate: Origin,
    },
    /// The certificate cannot be verified for a reason that is none of the above.
    #[error("the {certificate} cannot be verified: {message}; issue it again")]
    Unverifiable {
        /// The certificate.
        certificate: Origin,
        /// What the verification says.
        message: String,
    },
    /// The certificate does not name the node.
    #[error(
        "the {certificate} is for {}, not for node {node}; rename the node, or issue the \
        certificate with the DNS name {node} or the URI spiffe://<fabric>/node/{node}",
        Nodes(names)
    )]
    NameMissing {
        /// The certificate.
        certificate: Origin,
        /// The name of the node.
        node: NodeName,
        /// The names that the certificate does prove.
        names: Vec<NodeName>,
    },
    /// A revocation list cannot be parsed.
    #[error("revocation list {index} is malformed: {message}; download or issue it again")]
    MalformedRevocationList {
        /// Its place among those given, from zero.
        index: usize,
        /// What the parser says.
        message: String,
    },
    /// The cryptography provider cannot do TLS 1.3 over QUIC.
    #[error(
        "the cryptography provider cannot be used: {message}; \
        give one with TLS_AES_128_GCM_SHA256 and a key exchange for TLS 1.3"
    )]
    Provider {
        /// What is missing.
        message: String,
    },
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::NotFound {
        "check the path"
    } else if kind == io::ErrorKind::PermissionDenied {
        "let the user of this process read it"
    } else {
        "check that it is a file"
    }
}

fn wanted(part: Part) -> &'static str {
    match part {
        Part::Ca | Part::Certificate => "certificate",
        Part::Key => "private key",
        Part::RevocationList => "revocation list",
    }
}

fn remedy_missing(part: Part, found: &[String]) -> &'static str {
    match part {
        Part::Ca => "give the certificates of the CAs to trust",
        Part::Certificate => "give the node's certificate",
        Part::Key if found.iter().any(|label| label.starts_with("ENCRYPTED")) => {
            "decrypt it, for example with openssl pkey"
        }
        Part::Key => "give the private key of the node's certificate",
        Part::RevocationList => "give the PEM section X509 CRL that the CA publishes",
    }
}

/// Writes what a PEM file holds instead of the wanted, if it holds anything.
struct Instead<'a>(&'a [String]);

impl fmt::Display for Instead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " but {}", self.0.join(", "))
    }
}

/// Writes the nodes that a certificate is for.
struct Nodes<'a>(&'a [NodeName]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str("no node");
        };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|item| write!(f, ", {item}"))
    }
}

/// Writes a time since the Unix epoch as a date, which is what a certificate's issuer thinks in.
pub(crate) struct Utc(pub(crate) Duration);

impl fmt::Display for Utc {
    /// The days become a date in years that begin in March, so that the leap day comes last;
    /// the arithmetic is that of the proleptic Gregorian calendar.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let days = seconds / SECONDS_PER_DAY + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
        let (era, day_of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_400_YEARS: u64 = 146_097;
const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_calendar_has_them() {
        let date = |seconds| Utc(Duration::from_secs(seconds)).to_string();
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(951_868_800), "2000-03-01 00:00 UTC");
        assert_eq!(date(1_709_164_800), "2024-02-29 00:00 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
        assert_eq!(date(253_402_300_799), "9999-12-31 23:59 UTC");
        assert!(!date(u64::MAX).is_empty());
    }
}

//! Certificates and credentials.

use std::sync::LazyLock;
use std::time::Duration;

use grinta_proto::{Credentials, CredentialsError, Der, Pem, certified_names};
use grinta_tests::pki::{Ca, Validity};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::budget::within_budget;

/// Any bytes, after one that says where they stand: in a certificate, a chain, a key, a revocation
/// list, or a file. They are refused, or they prove names; no chain but the CA's own is accepted.
///
/// # Panics
/// If a law is broken.
pub fn certificate(data: &[u8]) {
    let Some((&place, bytes)) = data.split_first() else {
        return;
    };
    let genuine = &*GENUINE;
    match place % 6 {
        0 => {
            let leaf = CertificateDer::from(bytes);
            let names = within_budget(bytes.len(), || certified_names(&leaf));
            let names = names.unwrap_or_default();
            for (index, name) in names.iter().enumerate() {
                assert_eq!(name.as_str().parse().as_ref(), Ok(name));
                assert!(!names[..index].contains(name), "{name} is told twice");
            }
        }
        1 => {
            let pem = Pem {
                ca: bytes,
                certificate: bytes,
                key: bytes,
            };
            judge(Credentials::from_pem(pem));
        }
        2 => judge(Credentials::from_der(Der {
            ca: vec![bytes.to_vec().into()],
            certificate: genuine.credentials.certificate_chain().to_vec(),
            key: genuine.key.clone_key(),
        })),
        3 => judge(Credentials::from_der(Der {
            ca: vec![genuine.ca.clone()],
            certificate: vec![bytes.to_vec().into()],
            key: genuine.key.clone_key(),
        })),
        4 => {
            let own = genuine.credentials.certificate_chain();
            let chain: Vec<_> = own.iter().cloned().chain([bytes.into()]).collect();
            let _ = genuine.credentials.recheck(&chain, NOW);
            if genuine.credentials.recheck(&[bytes.into()], NOW).is_ok() {
                let names = certified_names(&CertificateDer::from(bytes));
                assert_eq!(
                    names,
                    Ok(genuine.credentials.names()),
                    "a CA never issued it"
                );
            }
        }
        _ => {
            let list = CertificateRevocationListDer::from(bytes);
            let credentials = genuine.credentials.clone();
            if let Ok(credentials) = credentials.with_revocation_lists(&[list]) {
                judge(Ok(credentials));
            }
        }
    }
}

/// What can be asked of credentials does not panic, and an error names a way out.
fn judge(credentials: Result<Credentials, CredentialsError>) {
    match credentials {
        Ok(credentials) => {
            let names = credentials.names();
            let _ = credentials.expires_at();
            for name in &names {
                let _ = credentials.check(name, NOW);
            }
            let _ = credentials.recheck(credentials.certificate_chain(), NOW);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is as it should be.
struct Genuine {
    credentials: Credentials,
    ca: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let ca = Ca::new(1);
    let leaf = ca.issue("node", Validity::Good);
    Genuine {
        credentials: ca.credentials(&leaf, &[]),
        key: leaf.key(),
        ca: ca.certificate().clone(),
    }
});

const NOW: Duration = Duration::from_secs(1_800_000_000);

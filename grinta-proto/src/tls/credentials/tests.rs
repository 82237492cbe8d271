//! What makes credentials, and what each mistake is told as.

use std::{fs, io};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::super::testing::{DAY, Leaf, NOW, TestCa};
use super::*;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for chunk in der.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| {
            bits << 8 | u32::from(*chunk.get(i).unwrap_or(&0))
        });
        for i in 0..4 {
            let digit = alphabet[(bits >> (18 - 6 * i) & 63) as usize];
            body.push(if i > chunk.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The files of a node, as an operator would have them.
struct Files {
    _directory: tempfile::TempDir,
    paths: PemFiles,
}

impl Files {
    fn of(ca: &TestCa, leaf: &Leaf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = PemFiles {
            ca: directory.path().join("ca.pem"),
            certificate: directory.path().join("node.pem"),
            key: directory.path().join("node.key"),
            revocation_lists: vec![],
        };
        let (certificate, key) = ca.issue(leaf);
        fs::write(&paths.ca, pem("CERTIFICATE", &ca.certificate())).unwrap();
        fs::write(&paths.certificate, pem("CERTIFICATE", &certificate)).unwrap();
        fs::write(&paths.key, pem("PRIVATE KEY", key.secret_der())).unwrap();
        Self {
            _directory: directory,
            paths,
        }
    }

    /// Adds a file with revocation lists.
    fn add_list(&mut self, lists: &[CertificateRevocationListDer<'_>]) {
        let number = self.paths.revocation_lists.len();
        let path = self.paths.ca.with_file_name(format!("{number}.crl"));
        let contents: String = lists.iter().map(|list| pem("X509 CRL", list)).collect();
        fs::write(&path, contents).unwrap();
        self.paths.revocation_lists.push(path);
    }

    fn error(&self) -> CredentialsError {
        Credentials::from_pem_files(&self.paths).unwrap_err()
    }
}

#[test]
fn files_make_credentials_that_hold_for_their_node() {
    let files = Files::of(&TestCa::new("ca"), &Leaf::default().dns("db"));
    let credentials = Credentials::from_pem_files(&files.paths).unwrap();
    assert_eq!(credentials.names(), [node("db")]);
    assert_eq!(credentials.check(&node("db"), NOW), Ok(()));
}

#[test]
fn one_file_may_hold_everything_and_several_cas() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let (certificate, key) = ca.issue(&Leaf::default().dns("db"));
    let everything = [
        pem("PRIVATE KEY", key.secret_der()),
        pem("CERTIFICATE", &certificate),
        pem("CERTIFICATE", &other.certificate()),
        pem("CERTIFICATE", &ca.certificate()),
    ]
    .concat();
    let all = everything.as_bytes();
    let credentials = Credentials::from_pem(Pem {
        ca: all,
        certificate: all,
        key: all,
    })
    .unwrap();
    assert_eq!(credentials.verifier().anchor_count(), 3);
    assert_eq!(credentials.check(&node("db"), NOW), Ok(()));
}

#[test]
fn an_intermediate_belongs_to_the_certificate() {
    let root = TestCa::new("root");
    let intermediate = root.intermediate("intermediate");
    let (leaf, key) = intermediate.issue(&Leaf::default().dns("db"));
    let with = |certificate: Vec<_>| {
        let der = Der {
            ca: vec![root.certificate()],
            certificate,
            key: key.clone_key(),
        };
        Credentials::from_der(der).unwrap().check(&node("db"), NOW)
    };
    assert_eq!(with(vec![leaf.clone(), intermediate.certificate()]), Ok(()));
    assert!(matches!(
        with(vec![leaf]),
        Err(CredentialsError::Untrusted { .. })
    ));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let files = Files::of(&TestCa::new("ca"), &Leaf::default().dns("db"));
    fs::remove_file(&files.paths.key).unwrap();
    let error = files.error();
    let CredentialsError::Unreadable { origin, kind, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (origin.part(), origin.path()),
        (Part::Key, Some(files.paths.key.as_path()))
    );
    assert_eq!(*kind, io::ErrorKind::NotFound);
    let message = error.to_string();
    let start = format!("cannot read the key file {}: ", files.paths.key.display());
    assert!(message.starts_with(&start), "{message}");
    assert!(message.ends_with("; check the path"), "{message}");
}

#[test]
fn a_file_without_end_fills_no_memory() {
    let files = Files::of(&TestCa::new("ca"), &Leaf::default().dns("db"));
    fs::write(&files.paths.ca, vec![b'\n'; (1 << 20) + 1]).unwrap();
    let error = files.error();
    assert!(
        matches!(
            error,
            CredentialsError::TooLarge {
                limit: 1_048_576,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn swapped_files_are_told_by_what_they_hold() {
    let mut files = Files::of(&TestCa::new("ca"), &Leaf::default().dns("db"));
    let PemFiles {
        certificate, key, ..
    } = &mut files.paths;
    std::mem::swap(certificate, key);
    assert_eq!(
        files.error().to_string(),
        format!(
            "the certificate file {} holds no certificate but PRIVATE KEY; \
             give the node's certificate",
            files.paths.certificate.display()
        )
    );
}

#[test]
fn an_encrypted_key_is_told_apart() {
    let files = Files::of(&TestCa::new("ca"), &Leaf::default().dns("db"));
    fs::write(&files.paths.key, pem("ENCRYPTED PRIVATE KEY", b"secret")).unwrap();
    assert_eq!(
        files.error().to_string(),
        format!(
            "the key file {} holds no private key but ENCRYPTED PRIVATE KEY; \
             decrypt it, for example with openssl pkey",
            files.paths.key.display()
        )
    );
}

#[test]
fn an_empty_part_is_missing() {
    let (certificate, key) = TestCa::new("ca").issue(&Leaf::default().dns("db"));
    let der = Der {
        ca: vec![],
        certificate: vec![certificate],
        key,
    };
    assert_eq!(
        Credentials::from_der(der).unwrap_err().to_string(),
        "the CA given in memory holds no certificate; \
         give the certificates of the CAs to trust"
    );
}

#[test]
fn malformed_parts_are_named() {
    let ca = TestCa::new("ca");
    let leaf = Leaf::default().dns("db");
    let broken = [
        (Part::Ca, pem("CERTIFICATE", b"no certificate")),
        (Part::Ca, "-----BEGIN CERTIFICATE-----\nAAAA".to_owned()),
        (Part::Certificate, pem("CERTIFICATE", b"no certificate")),
        (
            Part::Certificate,
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".to_owned(),
        ),
        (Part::Key, "-----BEGIN PRIVATE KEY-----\nAAAA".to_owned()),
        (Part::RevocationList, pem("X509 CRL", b"no list")),
    ];
    for (part, content) in broken {
        let mut files = Files::of(&ca, &leaf);
        files.add_list(&[]);
        let path = match part {
            Part::Ca => &files.paths.ca,
            Part::Certificate => &files.paths.certificate,
            Part::Key => &files.paths.key,
            Part::RevocationList => &files.paths.revocation_lists[0],
        };
        fs::write(path, content).unwrap();
        let error = files.error();
        let CredentialsError::Malformed { origin, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(origin.part(), part);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_key_of_an_unknown_kind_is_unsupported() {
    let files = Files::of(&TestCa::new("ca"), &Leaf::default().dns("db"));
    fs::write(&files.paths.key, pem("PRIVATE KEY", b"no key")).unwrap();
    let error = files.error();
    assert!(
        matches!(error, CredentialsError::UnsupportedKey { .. }),
        "{error}"
    );
}

#[test]
fn the_key_of_another_certificate_is_found_out() {
    let ca = TestCa::new("ca");
    let (certificate, _) = ca.issue(&Leaf::default().dns("one"));
    let (_, key) = ca.issue(&Leaf::default().dns("two"));
    let der = Der {
        ca: vec![ca.certificate()],
        certificate: vec![certificate],
        key,
    };
    let error = Credentials::from_der(der).unwrap_err();
    assert!(
        matches!(error, CredentialsError::KeyMismatch { .. }),
        "{error}"
    );
}

#[test]
fn a_certificate_that_peers_would_refuse_fails_the_check() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let leaf = Leaf::default().dns("db");
    let of = |leaf: &Leaf| ca.credentials(leaf).check(&node("db"), NOW).unwrap_err();
    let certificate = Origin::memory(Part::Certificate);
    assert_eq!(
        ca.credentials_trusting(&leaf, &other)
            .check(&node("db"), NOW),
        Err(CredentialsError::Untrusted {
            certificate: certificate.clone(),
            ca: Origin::memory(Part::Ca),
        })
    );
    assert_eq!(
        of(&leaf.clone().valid(NOW - 2 * DAY, NOW - DAY)).to_string(),
        "the certificate given in memory expired on 2023-11-13 22:13 UTC and the clock says \
         2023-11-14 22:13 UTC; renew it or correct the clock"
    );
    assert_eq!(
        of(&leaf.clone().valid(NOW + DAY, NOW + 2 * DAY)),
        CredentialsError::NotYetValid {
            certificate: certificate.clone(),
            unix_time: NOW,
            not_before: NOW + DAY,
        }
    );
    for (has, missing) in [(ClientAuth, "serverAuth"), (ServerAuth, "clientAuth")] {
        let error = of(&leaf.clone().usages(&[has]));
        let certificate = certificate.clone();
        assert_eq!(
            error,
            CredentialsError::WrongUsage {
                certificate,
                missing
            }
        );
    }
}

#[test]
fn a_certificate_without_any_extended_key_usage_serves_both_roles() {
    let credentials = TestCa::new("ca").credentials(&Leaf::default().dns("db").usages(&[]));
    assert_eq!(credentials.check(&node("db"), NOW), Ok(()));
}

#[test]
fn a_ca_certificate_is_no_certificate_of_a_node() {
    let ca = TestCa::new("ca");
    let key = ca.key_der();
    let der = Der {
        ca: vec![ca.certificate()],
        certificate: vec![ca.certificate()],
        key,
    };
    let error = Credentials::from_der(der)
        .unwrap()
        .check(&node("ca"), NOW)
        .unwrap_err();
    assert!(
        matches!(error, CredentialsError::Unverifiable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("CaUsedAsEndEntity"), "{error}");
}

#[test]
fn a_name_that_the_certificate_lacks_is_listed_against_those_it_has() {
    let credentials = TestCa::new("ca").credentials(&Leaf::default().dns("db").dns("cache"));
    assert_eq!(credentials.check(&node("cache"), NOW), Ok(()));
    assert_eq!(
        credentials.check(&node("DB"), NOW).unwrap_err().to_string(),
        "the certificate given in memory is for db, cache, not for node DB; rename the node, \
         or issue the certificate with the DNS name DB or the URI spiffe://<fabric>/node/DB"
    );
    let nameless = TestCa::new("ca").credentials(&Leaf::default());
    let message = nameless.check(&node("db"), NOW).unwrap_err().to_string();
    assert!(
        message.contains("is for no node, not for node db"),
        "{message}"
    );
}

#[test]
fn our_own_revocation_lists_hold_for_us_too() {
    let ca = TestCa::new("ca");
    let credentials = ca
        .node("db")
        .with_revocation_lists(&[ca.revoking("db")])
        .unwrap();
    let error = credentials.check(&node("db"), NOW).unwrap_err();
    assert!(matches!(error, CredentialsError::Revoked { .. }), "{error}");
    let lifted = credentials.with_revocation_lists(&[]).unwrap();
    assert_eq!(lifted.check(&node("db"), NOW), Ok(()));
}

#[test]
fn a_malformed_revocation_list_is_counted_from_zero() {
    let ca = TestCa::new("ca");
    let lists = [
        ca.revoking("x"),
        CertificateRevocationListDer::from(&b"nonsense"[..]),
    ];
    let error = ca.node("db").with_revocation_lists(&lists).unwrap_err();
    let CredentialsError::MalformedRevocationList { index: 1, .. } = error else {
        panic!("{error}");
    };
}

#[test]
fn revocation_lists_are_read_from_files_too() {
    let (ca, other) = (TestCa::new("ca"), TestCa::new("other"));
    let mut files = Files::of(&ca, &Leaf::default().dns("db"));
    files.add_list(&[other.revoking("x"), ca.revoking("x")]);
    files.add_list(&[other.revoking("y")]);
    let credentials = Credentials::from_pem_files(&files.paths).unwrap();
    let verdict = |name| {
        let (certificate, _) = ca.issue(&Leaf::default().dns(name));
        credentials.recheck(&[certificate], NOW)
    };
    assert_eq!(verdict("x"), Err(TlsFailure::PeerRevoked));
    assert_eq!(verdict("y"), Ok(()));

    files.add_list(&[]);
    assert_eq!(
        files.error().to_string(),
        format!(
            "the revocation list file {} holds no revocation list; \
             give the PEM section X509 CRL that the CA publishes",
            files.paths.revocation_lists[2].display()
        )
    );
}

#[test]
fn the_end_of_validity_is_that_of_the_nodes_own_certificate() {
    let root = TestCa::new("root");
    let intermediate = root.intermediate("intermediate");
    let leaf = Leaf::default().dns("db").valid(NOW - DAY, NOW + 30 * DAY);
    let (certificate, key) = intermediate.issue(&leaf);
    let certificate = vec![certificate, intermediate.certificate()];
    let der = Der {
        ca: vec![root.certificate()],
        certificate,
        key,
    };
    let credentials = Credentials::from_der(der).unwrap();
    assert_eq!(credentials.expires_at(), Some(NOW + 30 * DAY));
}

#[test]
fn derived_secrets_depend_on_the_key_and_the_label_and_nothing_else() {
    let ca = TestCa::new("ca");
    let secret = ca.node("db").derive("reset");
    assert_eq!(TestCa::new("other").node("db").derive("reset"), secret);
    assert_ne!(ca.node("db").derive("connection id"), secret);
    assert_ne!(ca.node("cache").derive("reset"), secret);
}

#[test]
fn nothing_secret_is_ever_printed() {
    let ca = TestCa::new("ca");
    let (certificate, key) = ca.issue(&Leaf::default().dns("db"));
    let secret = key.secret_der()[16..].to_vec();
    let key_pem = pem("PRIVATE KEY", key.secret_der());
    let pem = Pem {
        ca: b"",
        certificate: b"",
        key: key_pem.as_bytes(),
    };
    let der = Der {
        ca: vec![ca.certificate()],
        certificate: vec![certificate],
        key,
    };
    let mut printed = format!("{pem:?} {der:?}");
    let credentials = Credentials::from_der(der).unwrap();
    printed += &format!("{credentials:?} {credentials:#?}");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let decimal = format!("{:?}", &secret[..4]);
    let base64 = key_pem.lines().nth(1).unwrap();
    for spelling in [&hex, decimal.trim_matches(['[', ']']), &base64[32..40]] {
        assert!(
            !printed.to_lowercase().contains(&spelling.to_lowercase()),
            "{printed}"
        );
    }
    assert!(printed.contains("names: [\"db\"]"), "{printed}");
}

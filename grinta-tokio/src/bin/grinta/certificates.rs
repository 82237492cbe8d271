//! `grinta cert`: a CA for a fabric, and certificates for its nodes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use grinta_tokio::{NodeName, certified_names};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::arguments::{Cert, CertCommand, Issue};
use crate::failure::{Failure, Kind};
use crate::output::{print, print_json, say};

pub(crate) fn run(cert: &Cert) -> Result<(), Failure> {
    match &cert.command {
        CertCommand::Ca { out, days } => make_ca(out, *days),
        CertCommand::Issue(issue) => {
            let key = KeyPair::generate_for(&PKCS_ED25519).map_err(other)?;
            let (certificate, key_file) = issue.files();
            let signed = issue.certificate(&key)?;
            fs::create_dir_all(&issue.out).map_err(|error| at(&issue.out, &error))?;
            write_new(&key_file, &key.serialize_pem(), Access::Owner)?;
            write_new(&certificate, &signed, Access::All)?;
            say(format_args!(
                "{} and {}",
                certificate.display(),
                key_file.display()
            ));
            Ok(())
        }
        CertCommand::Renew(issue) => {
            let (certificate, key_file) = issue.files();
            let key = KeyPair::from_pem(&read(&key_file)?).map_err(|error| {
                Failure::new(Kind::Other, format!("{}: {error}", key_file.display()))
            })?;
            replace(&certificate, &issue.certificate(&key)?)?;
            say(certificate.display());
            Ok(())
        }
        CertCommand::Inspect { file, json } => inspect(file, *json),
    }
}

fn make_ca(directory: &Path, days: u32) -> Result<(), Failure> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(other)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Grinta CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut params, days);
    let certificate = params.self_signed(&key).map_err(other)?;
    fs::create_dir_all(directory).map_err(|error| at(directory, &error))?;
    let (certificate_file, key_file) = (directory.join(CA_FILE), directory.join(CA_KEY_FILE));
    write_new(&key_file, &key.serialize_pem(), Access::Owner)?;
    write_new(&certificate_file, &certificate.pem(), Access::All)?;
    say(format_args!(
        "{} is for all nodes; {} stays here: whoever has it can be any node",
        certificate_file.display(),
        key_file.display(),
    ));
    Ok(())
}

impl Issue {
    /// The files of the certificate and of the key.
    fn files(&self) -> (PathBuf, PathBuf) {
        let file = |kind| self.out.join(format!("{}.{kind}", self.name));
        (file("pem"), file("key"))
    }

    /// A certificate for a node's key, as PEM.
    fn certificate(&self, key: &KeyPair) -> Result<String, Failure> {
        let ca_key_file = self.ca.join(CA_KEY_FILE);
        let ca_key = KeyPair::from_pem(&read(&ca_key_file)?).map_err(|error| {
            Failure::new(Kind::Other, format!("{}: {error}", ca_key_file.display()))
        })?;
        let ca = read(&self.ca.join(CA_FILE))?;
        let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).map_err(other)?;
        let params = node_params(&self.name, self.days)?;
        let certificate = params.signed_by(key, &issuer).map_err(other)?;
        Ok(certificate.pem())
    }
}

fn node_params(node: &NodeName, days: u32) -> Result<CertificateParams, Failure> {
    let text = |text: &str| Ia5String::try_from(text).map_err(other);
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Grinta node");
    if DnsName::try_from(node.as_str()).is_ok() {
        let name = SanType::DnsName(text(node.as_str())?);
        params.subject_alt_names.push(name);
    }
    let uri = SanType::URI(text(&format!("spiffe://grinta/node/{node}"))?);
    params.subject_alt_names.push(uri);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    // A list that revokes a certificate must not hit the one that a key gets afterwards.
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(other)?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    limit(&mut params, days);
    Ok(params)
}

/// Valid from an hour ago, for clocks differ.
fn limit(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(days.into());
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn inspect(file: &Path, as_json: bool) -> Result<(), Failure> {
    let malformed = |error: &dyn std::fmt::Display| {
        Failure::new(Kind::Other, format!("{}: {error}", file.display()))
    };
    let der = CertificateDer::from_pem_slice(read(file)?.as_bytes());
    let der = der.map_err(|error| malformed(&error))?;
    let nodes = certified_names(&der).map_err(|error| malformed(&error))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| malformed(&error))?;
    let validity = certificate.validity();
    let now = OffsetDateTime::now_utc();
    let (begin, end) = (
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    );
    let days_left = (end - now).whole_days();
    let nodes: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
    if as_json {
        return print_json(&json!({
            "nodes": nodes,
            "ca": certificate.is_ca(),
            "issuer": certificate.issuer().to_string(),
            "serial": certificate.raw_serial_as_string(),
            "not_before": begin.unix_timestamp(),
            "not_after": end.unix_timestamp(),
            "days_left": days_left,
            "valid": validity.is_valid(),
        }));
    }
    let line = |what: &str, value: &dyn std::fmt::Display| print(format_args!("{what:<8}{value}"));
    match (certificate.is_ca(), nodes.is_empty()) {
        (true, _) => line("is", &"a CA")?,
        (false, true) => line("nodes", &"none: it has neither a DNS name nor a SPIFFE URI")?,
        (false, false) => line("nodes", &nodes.join(", "))?,
    }
    line("issuer", &certificate.issuer())?;
    line("serial", &certificate.raw_serial_as_string())?;
    line("from", &begin)?;
    line("until", &end)?;
    let left = match (begin > now, days_left) {
        (true, _) => "not valid yet".to_owned(),
        (false, days) if end < now => format!("expired {} days ago", -days),
        (false, days) => format!("{days} days"),
    };
    line("left", &left)
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Owner,
    All,
}

/// Writes a file that is not there yet: keys are not replaced by accident.
fn write_new(path: &Path, text: &str, access: Access) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let what = format!("{} exists; move it away first", path.display());
            Failure::new(Kind::Other, what)
        }
        _ => at(path, &error),
    })?;
    file.write_all(text.as_bytes())
        .map_err(|error| at(path, &error))
}

/// Replaces a file whole: whoever reads it gets the old one or the new one.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("pem.new");
    fs::write(&new, text).map_err(|error| at(&new, &error))?;
    fs::rename(&new, path).map_err(|error| at(path, &error))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| at(path, &error))
}

fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Other, format!("{}: {error}", path.display()))
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Other, error)
}

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca.key";

//! Trust: certificates, rules, and what changes while a fabric runs.
//!
//! Every connection is mutual TLS 1.3; there is no other mode. What a certificate proves is a node's
//! *name*: a DNS name or the last part of a `spiffe://` URI among its subject alternative names. Hosts
//! and addresses prove nothing and are not in it. A node cannot be started under a name that its
//! certificate does not have.
//!
//! # Credentials
//!
//! A CA's certificate, the node's chain and its key, as PEM files, as bytes, or made on the spot for
//! development (feature `development`, which no production build should have):
//!
//! ```no_run
//! use grinta_proto::{Credentials, Fabric, PemFiles, rules};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let files = PemFiles {
//!     ca: "ca.pem".into(),
//!     certificate: "node-2.pem".into(),
//!     key: "node-2.key".into(),
//!     revocation_lists: vec!["ca.crl".into()],
//! };
//! let builder = Fabric::builder("node-2")
//!     .credentials(Credentials::from_pem_files(&files)?)
//!     // Who takes part at all, beyond having a certificate.
//!     .admit(rules::only_certified_under(["spiffe://prod/"]))
//!     // Who may claim which names. The same at all nodes.
//!     .admit_claims(rules::only_names_of([("node-1", "ledger"), ("node-2", "ledger")]));
//! # drop(builder);
//! # Ok(())
//! # }
//! ```
//!
//! `grinta cert ca` and `grinta cert issue NAME` make such files.
//!
//! # Who may do what
//!
//! | question | answered by |
//! |---|---|
//! | May it take part? | its certificate, and [`Builder::admit`](crate::Builder::admit) |
//! | May it claim this name? | [`Builder::admit_claims`](crate::Builder::admit_claims) |
//! | May it open a flow to this endpoint? | [`OpenEndpoint::admit`](crate::OpenEndpoint::admit) |
//! | Does it speak for another? | no: names count only as their owner signed them |
//!
//! [`rules`](crate::rules) has ready-made rules. Labels are what a node says of itself: good for
//! choosing among nodes that are trusted, and no proof.
//!
//! # Changes
//!
//! Certificates are short-lived and rotated. [`Fabric::follow_credentials`](crate::Fabric::follow_credentials)
//! looks at the files every so often, [`Fabric::replace_credentials`](crate::Fabric::replace_credentials)
//! takes credentials from anywhere. New ones count from the next handshake on, and no flow ends, but for
//! those with nodes that a new revocation list names. A change of CA takes three steps, each on all
//! nodes before the next: trust both, issue from the new one, trust the new one alone.
//!
//! The log says when a certificate is overdue to be renewed, and
//! [`Snapshot::certificate`](crate::Snapshot::certificate) shows what is left of it.
//!
//! Next: [operations](super::operations).

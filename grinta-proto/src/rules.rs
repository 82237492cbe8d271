//! Ready-made rules: who may take part ([`Builder::admit`](crate::Builder::admit)), which names a
//! certificate may claim ([`Builder::admit_claims`](crate::Builder::admit_claims)), and whose flows an
//! endpoint takes ([`OpenEndpoint::admit`](crate::OpenEndpoint::admit)).
//!
//! A name and a certificate are proved; labels are what a node says of itself, good for choosing
//! among nodes that are trusted and for nothing else.

use std::collections::BTreeSet;

use crate::node::{Applicant, Claimant};
use crate::shell::endpoint::Incoming;

/// Lets the nodes of these names take part.
///
/// ```
/// # use grinta_proto::{Fabric, rules};
/// let builder = Fabric::builder("node-1").admit(rules::only_nodes(["node-1", "node-2"]));
/// ```
pub fn only_nodes<N: Into<String>>(
    names: impl IntoIterator<Item = N>,
) -> impl Fn(&Applicant<'_>) -> Result<(), String> + Send + Sync + 'static {
    let names = set(names);
    move |applicant| listed(&names, applicant.node.as_str())
}

/// Lets those nodes take part whose certificate has a subject alternative name, a DNS name or a URI,
/// that begins with one of these.
///
/// ```
/// # use grinta_proto::{Fabric, rules};
/// let rule = rules::only_certified_under(["spiffe://prod/web/", "spiffe://prod/db/"]);
/// let builder = Fabric::builder("node-1").admit(rule);
/// ```
pub fn only_certified_under<P: Into<String>>(
    prefixes: impl IntoIterator<Item = P>,
) -> impl Fn(&Applicant<'_>) -> Result<(), String> + Send + Sync + 'static {
    let prefixes = set(prefixes);
    move |applicant| {
        let names = applicant.alternative_names();
        let is_under = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if names.iter().any(is_under) {
            return Ok(());
        }
        Err(format!(
            "its certificate is for {names:?}, nothing of which begins with one of {prefixes:?}"
        ))
    }
}

/// Lets each node claim the names that stand beside it, and no others.
///
/// ```
/// # use grinta_proto::{Fabric, rules};
/// let rule = rules::only_names_of([("node-1", "ledger"), ("node-1", "audit"), ("node-2", "ledger")]);
/// let builder = Fabric::builder("node-1").admit_claims(rule);
/// ```
pub fn only_names_of<N: Into<String>, E: Into<String>>(
    names: impl IntoIterator<Item = (N, E)>,
) -> impl Fn(&Claimant<'_>) -> Result<(), String> + Send + Sync + 'static {
    let names = names
        .into_iter()
        .map(|(node, name)| (node.into(), name.into()));
    let names: BTreeSet<(String, String)> = names.collect();
    move |claimant| {
        let Claimant { node, name, .. } = claimant;
        let pair = (node.as_str().to_owned(), name.as_str().to_owned());
        if names.contains(&pair) {
            return Ok(());
        }
        Err(format!("{name} is not on the list of {node}"))
    }
}

/// Lets those nodes whose certificate has a subject alternative name, a DNS name or a URI, that begins
/// with the first of a pair claim the names that begin with the second.
///
/// ```
/// # use grinta_proto::{Fabric, rules};
/// let rule = rules::only_names_under([("spiffe://prod/web/", "web."), ("spiffe://prod/db/", "db.")]);
/// let builder = Fabric::builder("node-1").admit_claims(rule);
/// ```
pub fn only_names_under<C: Into<String>, E: Into<String>>(
    prefixes: impl IntoIterator<Item = (C, E)>,
) -> impl Fn(&Claimant<'_>) -> Result<(), String> + Send + Sync + 'static {
    let prefixes = prefixes
        .into_iter()
        .map(|(one, two)| (one.into(), two.into()));
    let prefixes: BTreeSet<(String, String)> = prefixes.collect();
    move |claimant| {
        let names = claimant.alternative_names;
        let granted = prefixes.iter().filter_map(|(certified, prefix)| {
            let is_certified = names.iter().any(|name| name.starts_with(certified));
            is_certified.then_some(prefix)
        });
        let granted: BTreeSet<_> = granted.collect();
        let name = claimant.name.as_str();
        if granted.iter().any(|prefix| name.starts_with(*prefix)) {
            return Ok(());
        }
        Err(format!(
            "a certificate for {names:?} holds names that begin with one of {granted:?}, and {name} does not"
        ))
    }
}

/// Takes flows from the nodes of these names.
///
/// ```
/// # use grinta_proto::{Fabric, rules};
/// # fn open(fabric: &Fabric) {
/// let endpoint = fabric.endpoint("ledger").admit(rules::only_from(["teller-1", "teller-2"]));
/// # }
/// ```
pub fn only_from<N: Into<String>>(
    names: impl IntoIterator<Item = N>,
) -> impl Fn(&Incoming) -> Result<(), String> + Send + Sync + 'static {
    let names = set(names);
    move |incoming| listed(&names, incoming.node().as_str())
}

/// Takes flows from nodes that have a label of this value, as far as their labels are known.
///
/// ```
/// # use grinta_proto::{Fabric, rules};
/// # fn open(fabric: &Fabric) {
/// let endpoint = fabric.endpoint("ledger").admit(rules::only_labelled("role", "teller"));
/// # }
/// ```
pub fn only_labelled(
    key: impl Into<String>,
    value: impl Into<String>,
) -> impl Fn(&Incoming) -> Result<(), String> + Send + Sync + 'static {
    let (key, value) = (key.into(), value.into());
    move |incoming| match incoming.labels().get(&key) {
        Some(theirs) if *theirs == value => Ok(()),
        Some(theirs) => Err(format!("the label {key} is {theirs}, not {value}")),
        None => Err(format!("there is no label {key}; it has to be {value}")),
    }
}

fn set<N: Into<String>>(names: impl IntoIterator<Item = N>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

fn listed(names: &BTreeSet<String>, name: &str) -> Result<(), String> {
    if names.contains(name) {
        return Ok(());
    }
    Err(format!("{name} is not on the list"))
}

//! Ready-made rules: who may take part ([`Builder::admit`](crate::Builder::admit)), and whose flows
//! an endpoint takes ([`OpenEndpoint::admit`](crate::OpenEndpoint::admit)).
//!
//! A name and a certificate are proved; labels are what a node says of itself, good for choosing
//! among nodes that are trusted and for nothing else.

use std::collections::BTreeSet;

use crate::node::Applicant;
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

//! Rumours: changes of names and labels, told to a few members at random until enough were told.
//!
//! The queue is keyed by owner, so it is never longer than the owners that changed, however many
//! names did. A rumour carries a small change inline; of a large one it tells the head, and who
//! lacks it pulls it. Nothing depends on a rumour arriving: push and pull repairs what is missed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message;

use super::directory::{CLAIM_OVERHEAD, Directory};
use super::proofs::Proofs;
use crate::mutant::mutant;
use crate::name::NodeName;
use crate::whim::whim;
use crate::wire::claims::{HeadProof, OwnerCertificate, OwnerDelta, OwnerHead, ROOT_LEN, Version};
use crate::wire::control::{DATAGRAM_LEN_MAX, LabelChange, Labelling, Rumour};
use crate::wire::generated;

/// What is yet to be told, and what was asked for.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    owners: BTreeMap<NodeName, OwnerRumour>,
    labels: BTreeMap<NodeName, u32>,
    asked: BTreeMap<NodeName, Instant>,
}

/// A change of one owner's set.
#[derive(Debug, Clone, Copy)]
struct OwnerRumour {
    /// The others are taken to reach to here.
    since: Version,
    /// How many more members are to be told.
    tellings: u32,
}

impl Rumours {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.labels.is_empty()
    }

    /// An owner's set changed beyond `since`. A change that is still being told is told along.
    pub(super) fn tell_owner(&mut self, owner: NodeName, since: Version, tellings: u32) {
        let rumour = self
            .owners
            .entry(owner)
            .or_insert(OwnerRumour { since, tellings });
        *rumour = OwnerRumour {
            since: rumour.since.min(since),
            tellings,
        };
    }

    /// The version of an owner that the others are taken to reach while its change is being told.
    pub(super) fn since(&self, owner: &NodeName) -> Option<Version> {
        self.owners.get(owner).map(|rumour| rumour.since)
    }

    /// A member's labels changed.
    pub(super) fn tell_labels(&mut self, name: NodeName, tellings: u32) {
        self.labels.insert(name, tellings);
    }

    /// Nothing more is told of a member.
    pub(super) fn forget(&mut self, name: &NodeName) {
        self.owners.remove(name);
        self.labels.remove(name);
        self.asked.remove(name);
    }

    /// Composes a rumour for `listeners` members and counts it as told. What was told least goes
    /// first. Labels too long for a datagram go alone; the caller sees it by the length.
    pub(super) fn compose(
        &mut self,
        listeners: u32,
        directory: &Directory,
        proofs: Option<&Proofs>,
        labels_of: impl Fn(&NodeName) -> Option<Labelling>,
    ) -> Rumour {
        let mut rumour = Rumour::default();
        let mut room = DATAGRAM_LEN_MAX - MESSAGE_OVERHEAD;
        for name in least_told(self.labels.iter().map(|(name, left)| (*left, name))) {
            let Some(labels) = labels_of(&name) else {
                self.labels.remove(&name);
                continue;
            };
            let length = labels_len(&name, &labels);
            let is_alone = rumour.labels.is_empty() && length > room;
            if length <= room || is_alone {
                rumour.labels.push(LabelChange {
                    name: name.clone(),
                    labels,
                });
                tell(&mut self.labels, &name, listeners);
                room = room.saturating_sub(length);
            }
        }
        let owners = self
            .owners
            .iter()
            .map(|(owner, rumour)| (rumour.tellings, owner));
        for owner in least_told(owners) {
            let since = self.owners[&owner].since;
            let head = directory.head(&owner);
            let proof = proofs.and_then(|proofs| proofs.of(&head));
            if proofs.is_some() && proof.is_none() {
                // Our own head is signed a little later; another's is of no use any more.
                if owner != *directory.local() {
                    self.owners.remove(&owner);
                }
                continue;
            }
            let told = if let Some((delta, length)) = inline(directory, &head, since, proof, room) {
                rumour.deltas.push(delta);
                length
            } else {
                let length = head_len(&head);
                if length > room {
                    break;
                }
                rumour.heads.push(head);
                length
            };
            room -= told;
            let entry = self
                .owners
                .get_mut(&owner)
                .expect("listed from the same queue");
            if !mutant!(RumoursNeverEnd) {
                entry.tellings = entry.tellings.saturating_sub(listeners);
            }
            if entry.tellings == 0 {
                self.owners.remove(&owner);
            }
        }
        rumour
    }

    /// Whether to ask for an owner's set now: not while another was asked a moment ago.
    pub(super) fn may_ask(&mut self, now: Instant, owner: &NodeName, patience: Duration) -> bool {
        match self.asked.get(owner) {
            Some(asked) if now.saturating_duration_since(*asked) < patience => false,
            None if self.asked.len() >= ASKED_MAX => {
                self.asked
                    .retain(|_, asked| now.saturating_duration_since(*asked) < patience);
                false
            }
            Some(_) | None => {
                self.asked.insert(owner.clone(), now);
                true
            }
        }
    }

    /// An owner's set was answered.
    pub(super) fn answered(&mut self, owner: &NodeName) {
        self.asked.remove(owner);
    }
}

/// At most what one head takes in a message, in bytes.
pub(super) fn head_len(head: &OwnerHead) -> usize {
    head.owner.as_str().len() + 40
}

/// At most what one certificate takes in a message, in bytes.
pub(super) fn certificate_len(certificate: &OwnerCertificate) -> usize {
    certificate.owner.as_str().len() + 12 + certificate.chain.len()
}

/// At most what one delta takes in a message, in bytes.
pub(super) fn delta_len(delta: &OwnerDelta) -> usize {
    let claims = delta
        .claims
        .iter()
        .map(|claim| claim.name.as_str().len() + CLAIM_OVERHEAD);
    let proof = delta.proof.as_ref();
    let proof = proof.map_or(0, |proof| proof.signature.len() + ROOT_LEN + 20);
    delta.owner.as_str().len() + 60 + proof + claims.sum::<usize>()
}

/// What one delta takes in a message, in bytes.
fn exact_delta_len(delta: &OwnerDelta) -> usize {
    let length = generated::OwnerDelta::from(delta).encoded_len();
    length + prost::length_delimiter_len(length) + 1
}

/// At most what labels take in a message, in bytes.
pub(super) fn labels_len(name: &NodeName, labels: &Labelling) -> usize {
    let entries = labels
        .entries
        .iter()
        .map(|(key, value)| key.len() + value.len() + 10);
    name.as_str().len() + 40 + entries.sum::<usize>()
}

/// The whole change beyond `since`, if it is small and there is room for it.
fn inline(
    directory: &Directory,
    head: &OwnerHead,
    since: Version,
    proof: Option<&HeadProof>,
    room: usize,
) -> Option<(OwnerDelta, usize)> {
    if whim!(HeadsAlone) {
        return None;
    }
    let theirs = OwnerHead {
        version: since.min(head.version),
        ..head.clone()
    };
    // The directory counts more bytes for a claim than most take.
    let mut delta = directory.delta_for(&theirs, 2 * room)?;
    delta.proof = proof.map(|proof| Box::new(proof.clone()));
    let length = exact_delta_len(&delta);
    (delta.upto == head.version && length <= room).then_some((delta, length))
}

fn least_told<'a>(queue: impl Iterator<Item = (u32, &'a NodeName)>) -> Vec<NodeName> {
    let mut queue: Vec<_> = queue.collect();
    #[cfg(grinta_mutants)]
    if mutant!(UnorderedIteration) {
        let queue = std::collections::HashSet::<_>::from_iter(queue).into_iter();
        return queue.map(|(_, name)| name.clone()).collect();
    }
    queue.sort_by(|(left, a), (right, b)| right.cmp(left).then_with(|| a.cmp(b)));
    queue
        .into_iter()
        .take(ENTRIES_TRIED)
        .map(|(_, name)| name.clone())
        .collect()
}

fn tell(queue: &mut BTreeMap<NodeName, u32>, name: &NodeName, listeners: u32) {
    if let Some(left) = queue.get_mut(name) {
        *left = left.saturating_sub(listeners);
        if *left == 0 {
            queue.remove(name);
        }
    }
}

/// The tags and lengths around the lists of a rumour.
const MESSAGE_OVERHEAD: usize = 12;

/// Owners asked for at a time. Who has to ask for more hears of them by push and pull.
const ASKED_MAX: usize = 4096;

/// More than fit one datagram.
const ENTRIES_TRIED: usize = 64;

//! A digest of all that an owner's set holds, which the owner signs.
//!
//! It has two levels, so that a change of a large set costs what changed and not the set: the claims
//! of 256 versions that follow each other are a *group*, and the root is made of the groups'
//! digests. Those that did not change are remembered. The contract (`HeadProof`) has every byte.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest;

use super::owners::{Entry, Owner};
use crate::name::EndpointName;
use crate::wire::claims::{Claim, ClaimState, ROOT_LEN, Root, Stamp, Version};

/// The groups of one owner's claims that are not empty.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<u64, Group>);

#[derive(Debug, Default)]
struct Group {
    claims: u16,
    /// Unless it changed since it was last asked for.
    digest: Option<Digest>,
}

type Digest = [u8; ROOT_LEN];

impl Groups {
    pub(super) fn note_added(&mut self, version: Version) {
        let group = self.0.entry(group_of(version)).or_default();
        group.claims += 1;
        group.digest = None;
    }

    pub(super) fn note_removed(&mut self, version: Version) {
        let number = group_of(version);
        let Some(group) = self.0.get_mut(&number) else {
            return;
        };
        group.claims -= 1;
        group.digest = None;
        if group.claims == 0 {
            self.0.remove(&number);
        }
    }

    /// Asserts that each group knows how many claims it has.
    pub(super) fn check_invariants(&self, claims: &BTreeMap<Version, Entry>) {
        let mut counts: BTreeMap<u64, u16> = BTreeMap::new();
        for &version in claims.keys() {
            *counts.entry(group_of(version)).or_default() += 1;
        }
        let known: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|(&it, group)| (it, group.claims))
            .collect();
        assert_eq!(counts, known, "the groups drifted");
    }
}

impl Owner {
    /// The digest of the set as it is.
    pub(super) fn root(&mut self) -> Root {
        self.root_with(&BTreeSet::new(), &[])
    }

    /// The digest that the set would have without what is `gone` and with `news`, later than all
    /// else and in the order of their versions.
    pub(super) fn root_with(&mut self, gone: &BTreeSet<Version>, news: &[Claim]) -> Root {
        let changed = gone.iter().copied();
        let changed = changed.chain(news.iter().map(|claim| claim.version));
        let changed: BTreeSet<_> = changed.map(group_of).collect();
        let groups = self.groups.0.keys().copied();
        let groups: BTreeSet<_> = groups.chain(changed.iter().copied()).collect();
        let mut root = Hasher::new();
        for number in groups {
            let is_changed = changed.contains(&number);
            let known = self.groups.0.get(&number);
            if let Some(digest) = known.and_then(|it| it.digest).filter(|_| !is_changed) {
                root.group(number, &digest);
                continue;
            }
            let mut hasher = Hasher::new();
            let mut is_empty = true;
            let (after, upto) = bounds(number);
            for (version, entry) in self.claims_in(after, upto) {
                if !gone.contains(&version) {
                    hasher.claim(version, entry.stamp(), entry.state, &entry.name);
                    is_empty = false;
                }
            }
            let first = news.partition_point(|claim| group_of(claim.version) < number);
            for claim in news[first..]
                .iter()
                .take_while(|it| group_of(it.version) == number)
            {
                hasher.claim(claim.version, claim.stamp, claim.state, &claim.name);
                is_empty = false;
            }
            let digest = hasher.finish();
            if !is_empty {
                root.group(number, &digest);
            }
            if let Some(group) = self.groups.0.get_mut(&number).filter(|_| !is_changed) {
                group.digest = Some(digest);
            }
        }
        Root(root.finish())
    }
}

/// The digest of a set of these claims alone, in the order of their versions.
pub(super) fn root_of(claims: &[Claim]) -> Root {
    let mut root = Hasher::new();
    for group in claims.chunk_by(|a, b| group_of(a.version) == group_of(b.version)) {
        let mut hasher = Hasher::new();
        for claim in group {
            hasher.claim(claim.version, claim.stamp, claim.state, &claim.name);
        }
        root.group(group_of(group[0].version), &hasher.finish());
    }
    Root(root.finish())
}

struct Hasher(digest::Context);

impl Hasher {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    fn group(&mut self, number: u64, digest: &Digest) {
        self.0.update(&number.to_be_bytes());
        self.0.update(digest);
    }

    fn claim(&mut self, version: Version, stamp: Stamp, state: ClaimState, name: &EndpointName) {
        let name = name.as_str().as_bytes();
        let length = u16::try_from(name.len()).expect("names are short");
        self.0.update(&version.0.to_be_bytes());
        self.0.update(&stamp.unix_ms.to_be_bytes());
        self.0.update(&stamp.counter.to_be_bytes());
        self.0.update(&[match state {
            ClaimState::Exclusive => 1,
            ClaimState::Shared => 2,
            ClaimState::Released => 3,
        }]);
        self.0.update(&length.to_be_bytes());
        self.0.update(name);
    }

    fn finish(self) -> Digest {
        let mut digest = [0; ROOT_LEN];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

const fn group_of(version: Version) -> u64 {
    version.0 / GROUP
}

/// The versions of a group: after the first, up to the second.
const fn bounds(number: u64) -> (Version, Version) {
    let first = number * GROUP;
    // No claim has version zero.
    (
        Version(first.saturating_sub(1)),
        Version(first + (GROUP - 1)),
    )
}

/// Versions of a group: a digest over so many claims costs about as much as one over the digests of
/// so many groups, at a set of 65,536 names.
const GROUP: u64 = 256;

//! The owners that a replica knows: for each its session, how far its set reaches, and its claims
//! by version; and over all of them the digests by which two replicas compare.

use std::collections::{BTreeMap, BTreeSet};
use std::ops;

use super::root::Groups;
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{Claim, ClaimState, OwnerHead, Stamp, Version};

/// How many groups the owners fall into for [`bucket_hashes`]. At a thousand owners the hashes
/// and the heads of one group take about the same space, half a kilobyte.
///
/// [`bucket_hashes`]: super::Directory::bucket_hashes
pub const BUCKETS: usize = 64;

/// Stands for an owner inside the directory, where a name would cost four times the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnerId(u32);

/// The directory's own node is the first of its owners, for good.
pub(super) const LOCAL: OwnerId = OwnerId(0);

/// All owners, by id and by name.
#[derive(Debug, Default)]
pub(super) struct Owners {
    slots: Vec<Option<Owner>>,
    vacant: Vec<OwnerId>,
    by_name: BTreeMap<NodeName, OwnerId>,
    buckets: Buckets,
}

/// What a replica holds of one owner.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) name: NodeName,
    pub(super) session: Session,
    pub(super) version: Version,
    pub(super) floor: Version,
    pub(super) reachable: bool,
    /// How far the watchers were told of the latest verdict about the owner; `None` if they know.
    pub(super) telling: Option<Telling>,
    /// Only the marker is left: the head stands, its claims were given up.
    pub(super) dropped: bool,
    /// Claims that their owner denied when it was dialled.
    pub(super) stale: BTreeSet<Version>,
    pub(super) tally: Tally,
    pub(super) groups: Groups,
    claims: BTreeMap<Version, Entry>,
    name_hash: u64,
    digest: u64,
}

/// A claim without its version, its stamp laid out flat: half of a replica's memory is these.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: EndpointName,
    unix_ms: u64,
    counter: u32,
    /// As its owner has it.
    pub(super) state: ClaimState,
    /// The owner may not hold the name: the claim is told on, and counts for nothing.
    pub(super) is_forbidden: bool,
}

/// A verdict about an owner that is being told, name by name: who the watchers take to be
/// reachable depends on the version of the claim. Verdicts that change meanwhile only turn the
/// boundary round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Telling {
    /// Claims up to this version are told as `below`, later ones as the opposite.
    pub(super) boundary: Version,
    /// Whether the owner is told as reachable for the claims up to the boundary.
    pub(super) below: bool,
}

/// The claims that hold a name, and those that released one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) held: Weight,
    pub(super) released: Weight,
}

/// How many claims there are, and how many bytes their names take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) names: usize,
    pub(super) bytes: usize,
}

/// Digests of the owners, each bucket's and the whole's: sums, so that order is nothing.
#[derive(Debug)]
struct Buckets {
    sums: [u64; BUCKETS],
    total: u64,
    /// The owners of each, in the order of their names.
    owners: [Vec<OwnerId>; BUCKETS],
}

impl Owners {
    pub(super) fn find(&self, name: &NodeName) -> Option<OwnerId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Adds an owner that is not known, unreachable and with nothing claimed.
    pub(super) fn add(&mut self, name: NodeName, session: Session) -> OwnerId {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            OwnerId(u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 owners"))
        });
        self.by_name.insert(name.clone(), id);
        let owner = Owner::new(name, session);
        let owners = &self.buckets.owners[owner.bucket()];
        let place = owners.partition_point(|&other| self[other].name < owner.name);
        self.buckets.owners[owner.bucket()].insert(place, id);
        self.slots[id.0 as usize] = Some(owner);
        self.rehash(id);
        id
    }

    /// Removes an owner whose claims have been cleared.
    pub(super) fn remove(&mut self, id: OwnerId) {
        let Some(owner) = self.slots[id.0 as usize].take() else {
            return;
        };
        assert!(
            owner.claims.is_empty(),
            "{} is forgotten with claims in the index",
            owner.name
        );
        self.buckets.replace(owner.bucket(), owner.digest, 0);
        self.buckets.owners[owner.bucket()].retain(|&other| other != id);
        self.by_name.remove(&owner.name);
        self.vacant.push(id);
    }

    /// Brings the digests up to date. Due after each change of an owner's head.
    pub(super) fn rehash(&mut self, id: OwnerId) {
        let owner = &mut self[id];
        let (old, new) = (owner.digest, owner.compute_digest());
        owner.digest = new;
        let bucket = owner.bucket();
        self.buckets.replace(bucket, old, new);
    }

    pub(super) fn hash(&self) -> u64 {
        self.buckets.total
    }

    pub(super) fn bucket_hashes(&self) -> &[u64; BUCKETS] {
        &self.buckets.sums
    }

    /// All owners in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OwnerId, &Owner)> {
        self.by_name.values().map(|&id| (id, &self[id]))
    }

    /// The owners in a bucket in the order of their names.
    pub(super) fn in_bucket(&self, bucket: usize) -> impl Iterator<Item = &Owner> {
        let owners = self.buckets.owners.get(bucket);
        owners.into_iter().flatten().map(|&id| &self[id])
    }

    /// Asserts that names, ids and digests agree.
    pub(super) fn check_invariants(&self) {
        let mut buckets = Buckets::default();
        for (name, &id) in &self.by_name {
            let owner = &self[id];
            assert_eq!(*name, owner.name, "an owner is filed under another's name");
            assert_eq!(
                owner.digest,
                owner.compute_digest(),
                "{name} was not rehashed"
            );
            buckets.replace(owner.bucket(), 0, owner.digest);
            buckets.owners[owner.bucket()].push(id);
            owner.check_invariants();
        }
        assert_eq!(buckets.owners, self.buckets.owners, "a bucket drifted");
        assert_eq!(buckets.sums, self.buckets.sums, "bucket sums drifted");
        assert_eq!(buckets.total, self.buckets.total, "the sum of all drifted");
        assert_eq!(
            self.slots.len(),
            self.by_name.len() + self.vacant.len(),
            "a slot leaked"
        );
    }
}

impl ops::Index<OwnerId> for Owners {
    type Output = Owner;

    fn index(&self, id: OwnerId) -> &Owner {
        self.slots[id.0 as usize]
            .as_ref()
            .expect("an id lives as long as its owner's record")
    }
}

impl ops::IndexMut<OwnerId> for Owners {
    fn index_mut(&mut self, id: OwnerId) -> &mut Owner {
        self.slots[id.0 as usize]
            .as_mut()
            .expect("an id lives as long as its owner's record")
    }
}

impl Owner {
    fn new(name: NodeName, session: Session) -> Self {
        Self {
            name_hash: name.as_str().bytes().fold(FNV_OFFSET, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
            }),
            name,
            session,
            version: Version(0),
            floor: Version(0),
            reachable: false,
            telling: None,
            dropped: false,
            stale: BTreeSet::new(),
            tally: Tally::default(),
            groups: Groups::default(),
            claims: BTreeMap::new(),
            digest: 0,
        }
    }

    pub(super) fn head(&self) -> OwnerHead {
        OwnerHead {
            owner: self.name.clone(),
            session: self.session,
            version: self.version,
            floor: self.floor,
        }
    }

    /// Whether the replica is being refilled: what it holds past `version` awaits confirmation.
    pub(super) fn is_refilling(&self) -> bool {
        self.version < self.floor
    }

    /// Takes the next version for what the owner is about to say.
    pub(super) fn next_version(&mut self) -> Version {
        self.version = Version(self.version.0 + 1);
        self.version
    }

    /// The claims that hold a name, in the order of their versions.
    pub(super) fn held(&self) -> impl Iterator<Item = &Entry> {
        self.claims.values().filter(|entry| entry.state.is_held())
    }

    pub(super) fn claim_at(&self, version: Version) -> Option<&Entry> {
        self.claims.get(&version)
    }

    pub(super) fn claims_in(
        &self,
        after: Version,
        upto: Version,
    ) -> impl Iterator<Item = (Version, &Entry)> {
        let bounds = (ops::Bound::Excluded(after), ops::Bound::Included(upto));
        let claims = (after < upto).then(|| self.claims.range(bounds));
        claims
            .into_iter()
            .flatten()
            .map(|(&version, entry)| (version, entry))
    }

    /// The last of the claims past `version`: one that awaits confirmation, if a refill reached
    /// there.
    pub(super) fn last_claim_past(&self, version: Version) -> Option<Version> {
        let (&last, _) = self.claims.last_key_value()?;
        (last > version).then_some(last)
    }

    pub(super) fn insert(&mut self, version: Version, entry: Entry) {
        self.tally.add(entry.state, &entry.name);
        self.groups.note_added(version);
        let displaced = self.claims.insert(version, entry);
        assert!(
            displaced.is_none(),
            "{} makes two claims at {version:?}",
            self.name
        );
    }

    pub(super) fn remove(&mut self, version: Version) -> Option<Entry> {
        let entry = self.claims.remove(&version)?;
        self.tally.subtract(entry.state, &entry.name);
        self.groups.note_removed(version);
        Some(entry)
    }

    /// The verdict about the owner turned. It counts at once; the watchers are told of it claim by
    /// claim.
    pub(super) fn turn(&mut self) {
        self.reachable = !self.reachable;
        if self.telling.is_none() && !self.claims.is_empty() {
            self.telling = Some(Telling {
                boundary: Version(0),
                below: self.reachable,
            });
        }
    }

    /// Whether the watchers take the owner to be reachable for its claim at `version`.
    pub(super) fn is_told_reachable(&self, version: Version) -> bool {
        match self.telling {
            None => self.reachable,
            Some(Telling { boundary, below }) => (version <= boundary) == below,
        }
    }

    /// The next claim for which the watchers are to be told the latest verdict.
    pub(super) fn next_untold(&self) -> Option<(Version, &Entry)> {
        let Telling { boundary, below } = self.telling?;
        let untold = if below == self.reachable {
            let above = (ops::Bound::Excluded(boundary), ops::Bound::Unbounded);
            self.claims.range(above).next()
        } else {
            self.claims.range(..=boundary).next_back()
        };
        untold.map(|(&version, entry)| (version, entry))
    }

    /// The watchers are told the latest verdict for the claim at `version`, which
    /// [`Owner::next_untold`] named.
    pub(super) fn set_told(&mut self, version: Version) {
        if let Some(telling) = &mut self.telling {
            telling.boundary = if telling.below == self.reachable {
                version
            } else {
                Version(version.0 - 1)
            };
        }
    }

    /// Takes all claims out, for the caller to unlink.
    pub(super) fn take_claims(&mut self) -> BTreeMap<Version, Entry> {
        self.tally = Tally::default();
        self.groups = Groups::default();
        self.stale.clear();
        std::mem::take(&mut self.claims)
    }

    /// The group that the owner falls into, the same on every node.
    pub(super) fn bucket(&self) -> usize {
        usize::try_from(mix(self.name_hash) % BUCKETS as u64).expect("less than BUCKETS")
    }

    /// A dropped owner counts for nothing, and one that said nothing, so that a node that never knew
    /// it compares as equal.
    fn compute_digest(&self) -> u64 {
        if self.dropped || self.version.max(self.floor) == Version(0) {
            return 0;
        }
        [self.session.0, self.version.0, self.floor.0]
            .into_iter()
            .fold(self.name_hash, |hash, number| {
                mix(hash.wrapping_add(GOLDEN_RATIO) ^ number)
            })
    }

    fn check_invariants(&self) {
        let mut tally = Tally::default();
        for (&version, entry) in &self.claims {
            let name = &entry.name;
            tally.add(entry.state, name);
            assert!(
                version > Version(0),
                "{}: {name} is claimed at version 0",
                self.name
            );
            assert!(
                version <= self.version || self.is_refilling(),
                "{}: {name} is claimed at {version:?}, past {:?}",
                self.name,
                self.version,
            );
            assert!(
                entry.state.is_held() || version > self.floor,
                "{}: the release of {name} at {version:?} outlives the floor {:?}",
                self.name,
                self.floor,
            );
        }
        assert_eq!(tally, self.tally, "the tally of {} drifted", self.name);
        self.groups.check_invariants(&self.claims);
        assert!(
            !self.dropped || self.claims.is_empty(),
            "{} was dropped, not emptied",
            self.name
        );
        for version in &self.stale {
            assert!(
                self.claims.contains_key(version),
                "{}: no claim {version:?}",
                self.name
            );
        }
    }
}

impl Entry {
    pub(super) fn new(name: EndpointName, stamp: Stamp, state: ClaimState) -> Self {
        Self {
            name,
            unix_ms: stamp.unix_ms,
            counter: stamp.counter,
            state,
            is_forbidden: false,
        }
    }

    /// What the claim comes to.
    pub(super) fn effect(&self) -> ClaimState {
        effect(self.state, self.is_forbidden)
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            unix_ms: self.unix_ms,
            counter: self.counter,
        }
    }

    pub(super) fn to_claim(&self, version: Version) -> Claim {
        Claim {
            name: self.name.clone(),
            version,
            stamp: self.stamp(),
            state: self.state,
        }
    }
}

impl Weight {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            names: self.names + other.names,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(super) fn without(self, part: Self) -> Self {
        Self {
            names: self.names - part.names,
            bytes: self.bytes - part.bytes,
        }
    }
}

/// What a claim comes to. One that is forbidden frees the name, as a release does.
pub(super) const fn effect(state: ClaimState, is_forbidden: bool) -> ClaimState {
    if is_forbidden {
        ClaimState::Released
    } else {
        state
    }
}

impl Tally {
    pub(super) fn total(self) -> Weight {
        self.held.and(self.released)
    }

    pub(super) fn add(&mut self, state: ClaimState, name: &EndpointName) {
        let weight = self.of(state);
        weight.names += 1;
        weight.bytes += name.as_str().len();
    }

    pub(super) fn subtract(&mut self, state: ClaimState, name: &EndpointName) {
        let weight = self.of(state);
        weight.names -= 1;
        weight.bytes -= name.as_str().len();
    }

    fn of(&mut self, state: ClaimState) -> &mut Weight {
        match state {
            ClaimState::Exclusive | ClaimState::Shared => &mut self.held,
            ClaimState::Released => &mut self.released,
        }
    }
}

impl Buckets {
    fn replace(&mut self, bucket: usize, old: u64, new: u64) {
        for sum in [&mut self.sums[bucket], &mut self.total] {
            *sum = sum.wrapping_sub(old).wrapping_add(new);
        }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            sums: [0; BUCKETS],
            total: 0,
            owners: std::array::from_fn(|_| Vec::new()),
        }
    }
}

/// SplitMix64's finaliser: every bit of the input reaches every bit of the result.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_small_as_its_fields() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn the_hash_tells_each_part_of_a_head_and_no_order() {
        let heads = [
            ("a", 1, 5, 0),
            ("b", 1, 5, 0),
            ("a", 2, 5, 0),
            ("a", 1, 6, 0),
            ("a", 1, 5, 1),
        ];
        let mut hashes: Vec<_> = heads.iter().map(|&head| owners(&[head]).hash()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), heads.len());
        let (a, b) = (("a", 1, 5, 2), ("b", 3, 8, 0));
        assert_eq!(owners(&[a, b]).hash(), owners(&[b, a]).hash());
        assert_ne!(
            owners(&[a, b]).hash(),
            owners(&[("a", 3, 8, 0), ("b", 1, 5, 2)]).hash()
        );
    }

    #[test]
    fn owners_spread_over_the_buckets() {
        let mut filled = [0_usize; BUCKETS];
        for number in 0..6_400 {
            let name = NodeName::new(format!("node-{number}")).unwrap();
            filled[Owner::new(name, Session(1)).bucket()] += 1;
        }
        assert!(
            filled.iter().all(|&owners| (50..=150).contains(&owners)),
            "{filled:?}"
        );
    }

    #[test]
    fn a_forgotten_owner_leaves_no_trace_in_the_digests() {
        let mut owners = owners(&[("a", 1, 5, 0)]);
        let before = (owners.hash(), *owners.bucket_hashes());
        let id = owners.add(NodeName::new("b").unwrap(), Session(9));
        assert_eq!(owners.hash(), before.0, "it has said nothing");
        owners[id].version = Version(1);
        owners.rehash(id);
        assert_ne!(owners.hash(), before.0);
        owners.remove(id);
        assert_eq!((owners.hash(), *owners.bucket_hashes()), before);
        owners.check_invariants();
    }

    fn owners(heads: &[(&str, u64, u64, u64)]) -> Owners {
        let mut owners = Owners::default();
        for &(name, session, version, floor) in heads {
            let id = owners.add(NodeName::new(name).unwrap(), Session(session));
            owners[id].version = Version(version);
            owners[id].floor = Version(floor);
            owners.rehash(id);
        }
        owners
    }
}

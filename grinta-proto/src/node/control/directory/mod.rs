//! The directory: who holds which name, as one node knows it.
//!
//! Every node replicates, for every owner, that owner's own versioned set of names. This is that
//! data structure: claims, merge, digests, deltas and questions. It knows no network, no clock and
//! no gossip; `node::control::gossip` carries what it says.
//!
//! # The algebra
//!
//! Only its owner changes a set. Each change takes the next *version* and replaces what the owner
//! said of that name before. A replica at version `v` holds every claim up to `v` that the owner
//! has not changed since, so any prefix of a delta is a valid state, and a transfer can stop
//! anywhere and resume.
//!
//! An owner forgets its releases by raising its *floor*: it has none at or below it. A replica
//! whose *horizon* (the greater of its version and its floor) reaches the floor of another goes on
//! from its version. One that is behind may have missed a release that nobody remembers. It starts
//! again from version zero and compares: what it holds in the range that a piece of the live set
//! covers, and the piece does not tell, is void; what lies beyond stays until its turn comes. So
//! names do not blink while a replica is refilled, and a refill resumes where it was cut, as long
//! as the floor does not move again; [`Directory::collect`] moves it seldom for that reason.
//!
//! A later *session* of an owner voids all that the earlier ones said, at once. An earlier session
//! changes nothing. Replicas thus form a join-semilattice, ordered by session, floor and version:
//! they converge whatever the order, the duplication and the cuts of what they are told.
//!
//! # Who owns a name
//!
//! A pure function of the claims and of which owners are reachable: the oldest stamp, then the
//! lowest node name. All claimants but the owner stand by. An owner that is not reachable is
//! hidden, its claims dormant; its return moves no names. What an owner denies when it is dialled
//! ([`Directory::mark_stale`]) is skipped when we look for a place to dial, and by nothing else,
//! for other nodes do not know of it.
//!
//! # Limits
//!
//! [`DirectoryLimits`] bound the names held. As many releases again may be remembered.

mod change;
mod clock;
mod index;
mod lookup;
mod merge;
mod owners;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use change::{Change, Standing};
pub use clock::STAMP_LEAD_MAX;
pub use lookup::{Listing, Located, NEAR_WALK_MAX, Page, Resolution, SCAN_WALK_MAX};
pub use merge::{Applied, CLAIM_OVERHEAD, Refusal};
pub use owners::BUCKETS;

use self::change::Changes;
use self::clock::HybridClock;
use self::index::{Index, Succession};
use self::owners::{LOCAL, Owners, Tally};
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{Claim, ClaimState, OwnerHead, Version};

/// One node's replica of all owners' sets of names, its own among them.
#[derive(Debug)]
pub struct Directory {
    limits: DirectoryLimits,
    owners: Owners,
    index: Index,
    totals: Tally,
    clock: HybridClock,
    /// What we last told of each name that we hold.
    standings: BTreeMap<EndpointName, Standing>,
    changes: Changes,
}

/// Bounds on what a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// Names that all owners together hold. Default 1,000,000: a replica of a quarter gigabyte at
    /// the most, while as many releases are remembered about twice that.
    pub names_max: usize,
    /// Names that one owner holds. Default 100,000.
    pub names_per_owner_max: usize,
    /// Owners that are known by their claims alone. Default 16,384: eight times the members that
    /// a fabric is made for, as those that went down are remembered too.
    pub owners_max: usize,
}

/// What a claim is for, and what becomes of it if another serves the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ClaimMode {
    /// To serve the name alone; refused while another serves it.
    #[default]
    Exclusive,
    /// To serve the name alone; while another serves it the claim stands by, and takes over
    /// ([`Change::Promoted`]) when all older ones are released or go down.
    Standby,
}

/// Why a name was not claimed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another node serves the name.
    #[error("the name {name} is served by {owner}; release it there, or choose another name")]
    Taken {
        /// The name.
        name: EndpointName,
        /// Who serves it.
        owner: NodeName,
    },
    /// This node holds the name already.
    #[error("the name {name} is already held by this node; release it first")]
    AlreadyHeld {
        /// The name.
        name: EndpointName,
    },
    /// A limit of names is reached.
    #[error("the directory's limit of {limit} names is reached; release some, or raise the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl Directory {
    /// A directory that knows of `local` alone, in its run `session`, with nothing claimed. No run
    /// is session zero: it is taken as one.
    #[must_use]
    pub fn new(local: NodeName, session: Session, limits: DirectoryLimits) -> Self {
        let mut owners = Owners::default();
        let id = owners.add(local, session.max(Session(1)));
        assert_eq!(id, LOCAL, "the local node is the first owner");
        owners[LOCAL].reachable = true;
        Self {
            limits,
            owners,
            index: Index::default(),
            totals: Tally::default(),
            clock: HybridClock::default(),
            standings: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// The name of the directory's own node.
    #[must_use]
    pub fn local(&self) -> &NodeName {
        &self.owners[LOCAL].name
    }

    /// Begins a later run of the local node: voids all its claims, here at once and elsewhere as
    /// soon as it is told. A `session` that is not later is replaced by the successor of the
    /// present one. Returns the session that began.
    pub fn restart(&mut self, session: Session) -> Session {
        let present = self.owners[LOCAL].session;
        let session = session.max(Session(present.0.saturating_add(1)));
        self.standings.clear();
        self.begin_session(LOCAL, session);
        self.changes.forget_all_ours();
        session
    }

    /// Claims a name as `mode` says, and returns what the claim has come to. `unix_time` is the
    /// wall clock, as the time since the Unix epoch.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing changed.
    pub fn claim(
        &mut self,
        name: EndpointName,
        mode: ClaimMode,
        unix_time: Duration,
    ) -> Result<Standing, ClaimError> {
        if self.standings.contains_key(&name) {
            return Err(ClaimError::AlreadyHeld { name });
        }
        if let Some(owner) = self.owner_of(&name) {
            match mode {
                ClaimMode::Standby => {}
                ClaimMode::Exclusive => {
                    let owner = owner.clone();
                    return Err(ClaimError::Taken { name, owner });
                }
            }
        }
        if let Some(limit) = self.limit_reached(LOCAL, &name, ClaimState::Held) {
            return Err(ClaimError::TooMany { limit });
        }
        let rivals = self.index.get(&name);
        let is_served = rivals.is_some_and(|rivals| rivals.winner(&self.owners).is_some());
        let rival = rivals.and_then(|rivals| rivals.latest_stamp(&self.owners));
        let stamp = self.clock.stamp(unix_time, rival);
        let version = self.next_version();
        self.store(
            LOCAL,
            &Claim {
                name: name.clone(),
                version,
                stamp,
                state: ClaimState::Held,
            },
        );
        self.owners.rehash(LOCAL);
        let standing = if is_served {
            Standing::Standby
        } else {
            Standing::Owner
        };
        self.standings.insert(name, standing);
        Ok(standing)
    }

    /// Gives a name up. False if this node does not hold it.
    pub fn release(&mut self, name: &EndpointName) -> bool {
        if self.standings.remove(name).is_none() {
            return false;
        }
        let holder = self
            .index
            .get(name)
            .and_then(|candidates| candidates.of(LOCAL));
        let stamp = holder
            .expect("every name we hold is in the index")
            .stamp(&self.owners);
        let version = self.next_version();
        let state = ClaimState::Released;
        self.store(
            LOCAL,
            &Claim {
                name: name.clone(),
                version,
                stamp,
                state,
            },
        );
        self.changes.forget_ours(name);
        // Half is kept, so that the floor moves once in many releases.
        if self.owners[LOCAL].tally.released > self.limits.names_per_owner_max {
            self.forget_releases(self.limits.names_per_owner_max / 2);
        }
        self.owners.rehash(LOCAL);
        true
    }

    /// What our claim of a name has come to; `None` if we hold none.
    #[must_use]
    pub fn standing(&self, name: &EndpointName) -> Option<Standing> {
        self.standings
            .contains_key(name)
            .then(|| self.standing_of(name))
    }

    /// The names that this node holds or stands by for, in order.
    pub fn held(&self) -> impl Iterator<Item = &EndpointName> {
        self.standings.keys()
    }

    /// Forgets our own oldest releases but `keep`, by raising our floor, and returns how many.
    ///
    /// A replica that is behind the floor has to be refilled. So the floor waits until the
    /// releases outnumber both the names we hold and twice `keep`: the next time it moves, as many
    /// changes have been made as a refill has to carry.
    pub fn collect(&mut self, keep: usize) -> usize {
        let Tally { held, released } = self.owners[LOCAL].tally;
        if released <= held.max(keep.saturating_mul(2)) {
            return 0;
        }
        self.forget_releases(keep);
        self.owners.rehash(LOCAL);
        released - self.owners[LOCAL].tally.released
    }

    /// A member is up (alive or suspect), in its run `session`. Its claims count from now on, and
    /// those of its earlier runs are void. Unless they were dropped, its names come back without
    /// being told again.
    ///
    /// An owner counts as unreachable until this is said of it: what late replicas tell of nodes
    /// that nobody remembers owns nothing.
    pub fn set_reachable(&mut self, member: &NodeName, session: Session) {
        let id = match self.owners.find(member) {
            Some(LOCAL) => return,
            Some(id) => id,
            None => self.owners.add(member.clone(), session),
        };
        if session > self.owners[id].session {
            self.begin_session(id, session);
        }
        let owner = &mut self.owners[id];
        if owner.dropped {
            owner.dropped = false;
            (owner.version, owner.floor) = (Version(0), Version(0));
            self.owners.rehash(id);
        }
        if !self.owners[id].reachable {
            self.owners[id].reachable = true;
            self.note_claims_of(id, Succession::reversed);
        }
    }

    /// A member is down or left. Its claims are dormant: kept and told, but nobody's answer.
    pub fn set_unreachable(&mut self, member: &NodeName) {
        let Some(id) = self.owners.find(member).filter(|&id| id != LOCAL) else {
            return;
        };
        if self.owners[id].reachable {
            self.note_claims_of(id, |without| without);
            self.owners[id].reachable = false;
        }
    }

    /// Drops the dormant claims of an unreachable owner, and keeps how far they went: what late
    /// replicas tell of them is not taken back. Does nothing for a reachable owner.
    pub fn drop_contents(&mut self, owner: &NodeName) {
        let Some(id) = self.owners.find(owner) else {
            return;
        };
        if !self.owners[id].reachable {
            self.clear(id);
            self.owners[id].dropped = true;
            self.owners.rehash(id);
        }
    }

    /// Forgets an owner altogether. Does nothing for the local node.
    pub fn forget(&mut self, owner: &NodeName) {
        let Some(id) = self.owners.find(owner).filter(|&id| id != LOCAL) else {
            return;
        };
        self.clear(id);
        self.owners.remove(id);
    }

    /// Takes the next change: first what became of our own claims, then who owns which name.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<Change> {
        while let Some(name) = self.changes.pop_ours() {
            let standing = self.standing_of(&name);
            let Some(told) = self.standings.get_mut(&name) else {
                continue;
            };
            if std::mem::replace(told, standing) == standing {
                continue;
            }
            return Some(match (standing, self.owner_of(&name).cloned()) {
                (Standing::Standby, Some(winner)) => Change::Lost { name, winner },
                (Standing::Owner, _) | (Standing::Standby, None) => Change::Promoted { name },
            });
        }
        while let Some((name, told)) = self.changes.pop_told() {
            match (told, self.owner_of(&name).cloned()) {
                (None, None) => {}
                (None, Some(owner)) => return Some(Change::Appeared { name, owner }),
                (Some(previous), None) => return Some(Change::Gone { name, previous }),
                (Some(previous), Some(owner)) => {
                    return Some(Change::Moved {
                        name,
                        previous,
                        owner,
                    });
                }
            }
        }
        None
    }

    /// How far this replica reaches for each owner, in the order of the owners' names. Among them
    /// are the markers of dropped owners, which no hash counts.
    pub fn heads(&self) -> impl Iterator<Item = OwnerHead> {
        self.owners.iter().map(|(_, owner)| owner.head())
    }

    /// How far this replica reaches for one owner: what to send to ask for more. For an owner
    /// that is not known, the head that asks for everything.
    #[must_use]
    pub fn head(&self, owner: &NodeName) -> OwnerHead {
        match self.owners.find(owner) {
            Some(id) => self.owners[id].head(),
            None => OwnerHead::unknown(owner.clone()),
        }
    }

    /// A digest of all heads: two replicas with the same one are equal.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.owners.hash()
    }

    /// A digest of the heads in each bucket.
    #[must_use]
    pub fn bucket_hashes(&self) -> &[u64; BUCKETS] {
        self.owners.bucket_hashes()
    }

    /// The heads in a bucket, in the order of the owners' names. None for a bucket out of range.
    pub fn heads_in(&self, bucket: usize) -> impl Iterator<Item = OwnerHead> {
        let owners = self
            .owners
            .iter()
            .filter(move |(_, owner)| owner.bucket() == bucket);
        owners.map(|(_, owner)| owner.head())
    }

    /// How many names are held, by all owners together; a name counts once for each.
    #[must_use]
    pub fn names_held(&self) -> usize {
        self.totals.held
    }

    /// How many releases are remembered, of all owners together.
    #[must_use]
    pub fn releases_kept(&self) -> usize {
        self.totals.released
    }

    /// How many changes wait for [`Directory::poll_change`], at most.
    #[must_use]
    pub fn changes_pending(&self) -> usize {
        self.changes.len()
    }

    /// Asserts that the sets, the index, the digests and the pending changes agree. Walks all
    /// there is: for tests and the simulator.
    ///
    /// # Panics
    /// If they do not.
    pub fn check_invariants(&self) {
        self.owners.check_invariants();
        let (mut indexed, mut totals) = (0, Tally::default());
        for (name, candidates) in self.index.iter() {
            candidates.check_invariants(&self.owners, name);
            for holder in candidates.iter() {
                indexed += 1;
                totals.add(holder.state);
            }
        }
        let owned: usize = self
            .owners
            .iter()
            .map(|(_, owner)| owner.tally.total())
            .sum();
        assert_eq!(
            indexed, owned,
            "the index and the sets hold different numbers of claims"
        );
        assert_eq!(totals, self.totals, "the totals drifted");
        assert!(
            !self.owners[LOCAL].is_refilling(),
            "our own set is being refilled"
        );
        assert_eq!(
            self.standings.len(),
            self.owners[LOCAL].tally.held,
            "standings drifted"
        );
        for name in self.standings.keys() {
            let ours = self
                .index
                .get(name)
                .and_then(|candidates| candidates.of(LOCAL));
            assert!(
                ours.is_some_and(index::Holder::is_held),
                "{name} has a standing and no claim"
            );
        }
        for (name, told) in self.changes.told() {
            assert_ne!(
                told,
                self.owner_of(name),
                "{name} waits to be told and has not changed"
            );
        }
    }

    fn next_version(&mut self) -> Version {
        let owner = &mut self.owners[LOCAL];
        owner.version = Version(owner.version.0 + 1);
        owner.version
    }

    fn standing_of(&self, name: &EndpointName) -> Standing {
        let winner = self
            .index
            .get(name)
            .and_then(|candidates| candidates.winner(&self.owners));
        if winner == Some(LOCAL) {
            Standing::Owner
        } else {
            Standing::Standby
        }
    }

    fn forget_releases(&mut self, keep: usize) {
        let owner = &self.owners[LOCAL];
        let Some(last) = owner.tally.released.saturating_sub(keep).checked_sub(1) else {
            return;
        };
        let (floor, _) = owner
            .claims_in(owner.floor, owner.version)
            .filter(|(_, entry)| entry.state == ClaimState::Released)
            .nth(last)
            .expect("all releases counted lie above the floor");
        self.raise_floor(LOCAL, floor);
    }

    /// Notes the changes that an owner's coming or going makes to the names it holds; `direct`
    /// says which way. The owner must be reachable at the time.
    fn note_claims_of(&mut self, id: owners::OwnerId, direct: fn(Succession) -> Succession) {
        let Self {
            owners,
            index,
            changes,
            ..
        } = self;
        let owner = &owners[id];
        for (_, entry) in owner.claims_in(Version(0), Version(u64::MAX)) {
            let Some(candidates) = index.get(&entry.name) else {
                continue;
            };
            let change = direct(candidates.succession_without(owners, id));
            note(changes, owners, &entry.name, change);
        }
    }
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            names_max: 1_000_000,
            names_per_owner_max: 100_000,
            owners_max: 16_384,
        }
    }
}

/// Notes that a name changed hands, if it did.
fn note(changes: &mut Changes, owners: &Owners, name: &EndpointName, change: Succession) {
    let Succession { before, after } = change;
    if before == after {
        return;
    }
    let named = |id: Option<_>| id.map(|id| &owners[id].name);
    changes.note(name, named(before), named(after));
    if before == Some(LOCAL) || after == Some(LOCAL) {
        changes.note_ours(name);
    }
}

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
//! Owners may sign what they say (`proven`). A replica then takes nothing by itself: it is given what
//! leads from one version that its owner signed to a later one, all at once.
//!
//! A later *session* of an owner voids all that the earlier ones said, at once. An earlier session
//! changes nothing. Replicas thus form a join-semilattice, ordered by session, floor and version:
//! they converge whatever the order, the duplication and the cuts of what they are told.
//!
//! # Who owns a name
//!
//! A pure function of the claims and of which owners are reachable: the oldest stamp, then the
//! lowest node name. A claim says whether its owner would serve the name alone or share it. If the
//! owner's claim is shared, all shared claims of reachable owners serve the name beside it; all
//! other claimants stand by. An owner that is not reachable is hidden, its claims dormant; its
//! return moves no names. What an owner denies when it is dialled
//! ([`Directory::mark_stale`]) is skipped when we look for a place to dial, and by nothing else,
//! for other nodes do not know of it.
//!
//! # Limits
//!
//! [`DirectoryLimits`] bound what a claim may add, by names and by the bytes of names. Replicas of
//! one owner are bounded at twice that, `limits` says why. An honest owner stays within its bound
//! at every replica; of one that does not, a replica takes what fits, in the order of versions, and
//! stops: the set is valid, its owner's other names are not known there, and all other owners'
//! sets converge as ever. It takes no more of that owner until the owner is back within its limit
//! or begins a new session, and both void what is held.

mod change;
mod claiming;
mod clock;
mod index;
mod limits;
mod lookup;
mod merge;
mod owners;
mod proven;
mod root;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use change::{Change, Standing};
pub use claiming::{ClaimError, ClaimMode};
pub use clock::STAMP_LEAD_MAX;
pub use limits::{DirectoryLimits, NameLimit};
pub use lookup::{Listing, Located, NEAR_WALK_MAX, Page, Resolution, SCAN_WALK_MAX};
pub use merge::{Applied, CLAIM_OVERHEAD, Refusal};
pub(super) use merge::{is_beyond, is_well_formed};
pub use owners::BUCKETS;
pub use proven::{Basis, Preview, Update};

use self::change::Changes;
use self::clock::HybridClock;
use self::index::{Holder, Index};
use self::owners::{Entry, LOCAL, Owner, OwnerId, Owners, Tally};
use crate::mutant::mutant;
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{OwnerHead, Version};

/// One node's replica of all owners' sets of names, its own among them.
#[derive(Debug)]
pub struct Directory {
    limits: DirectoryLimits,
    /// Whether runs of owners are taken from what they signed, or said themselves, alone.
    is_proven: bool,
    owners: Owners,
    index: Index,
    totals: Tally,
    clock: HybridClock,
    /// The names we hold of which we last told that others serve them.
    standbys: BTreeSet<EndpointName>,
    /// Owners of whom the watchers were not told all of the latest verdict.
    telling: BTreeSet<OwnerId>,
    changes: Changes,
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
            is_proven: false,
            owners,
            index: Index::default(),
            totals: Tally::default(),
            clock: HybridClock::default(),
            standbys: BTreeSet::new(),
            telling: BTreeSet::new(),
            changes: Changes::default(),
        }
    }

    /// The name of the directory's own node.
    #[must_use]
    pub fn local(&self) -> &NodeName {
        &self.owners[LOCAL].name
    }

    /// A member is up (alive or suspect), in its run `session`. Its claims count from now on, and
    /// those of its earlier runs are void, unless [proofs](Directory::require_proofs) are required.
    /// Unless they were dropped, its names come back without being told again.
    ///
    /// An owner counts as unreachable until this is said of it: what late replicas tell of nodes
    /// that nobody remembers owns nothing.
    pub fn set_reachable(&mut self, member: &NodeName, session: Session) {
        let id = match self.owners.find(member) {
            Some(LOCAL) => return,
            Some(id) => id,
            None if self.is_proven => self.owners.add(member.clone(), Session(0)),
            None => self.owners.add(member.clone(), session),
        };
        if session > self.owners[id].session && !self.is_proven {
            self.begin_session(id, session);
        }
        let owner = &mut self.owners[id];
        if owner.dropped {
            owner.dropped = false;
            (owner.version, owner.floor) = (Version(0), Version(0));
            self.owners.rehash(id);
        }
        if !self.owners[id].reachable {
            self.turn(id);
        }
    }

    /// A member is down or left. Its claims are dormant: kept and told, but nobody's answer.
    pub fn set_unreachable(&mut self, member: &NodeName) {
        let Some(id) = self.owners.find(member).filter(|&id| id != LOCAL) else {
            return;
        };
        if self.owners[id].reachable {
            self.turn(id);
        }
        if mutant!(NamesNotRestored) {
            self.clear(id);
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
        self.telling.remove(&id);
        self.owners.remove(id);
    }

    /// Lets the changes that the latest verdicts about owners make follow them, for at most
    /// `claims` claims. Who owns what follows a verdict at once, whatever is told of it.
    pub fn tell_verdicts(&mut self, claims: usize) {
        for _ in 0..claims {
            let Some(&id) = self.telling.first() else {
                return;
            };
            let Some((version, entry)) = self.owners[id].next_untold() else {
                self.owners[id].telling = None;
                self.telling.remove(&id);
                continue;
            };
            let name = entry.name.clone();
            let candidates = self.index.get(&name).expect("every claim is in the index");
            let before = candidates.told_service(&self.owners);
            self.owners[id].set_told(version);
            let change = candidates.succession(&self.owners, before, id);
            self.changes.note(&self.owners, &name, change);
        }
    }

    /// Whether verdicts or changes wait to be told.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.telling.is_empty() || self.changes.len() > 0
    }

    /// Takes the next change: first what became of our own claims, then who owns which name. Those
    /// that come of a verdict about an owner are there after [`Directory::tell_verdicts`].
    #[must_use]
    pub fn poll_change(&mut self) -> Option<Change> {
        while let Some(name) = self.changes.pop_ours() {
            let Some(standing) = self.standing(&name) else {
                continue;
            };
            let is_news = match standing {
                Standing::Owner => self.standbys.remove(&name),
                Standing::Standby => self.standbys.insert(name.clone()),
            };
            if !is_news {
                continue;
            }
            if standing == Standing::Standby && mutant!(LoserNotTold) {
                continue;
            }
            return Some(match (standing, self.owner_of(&name).cloned()) {
                (Standing::Standby, Some(winner)) => Change::Lost { name, winner },
                (Standing::Owner, _) | (Standing::Standby, None) => Change::Promoted { name },
            });
        }
        while let Some((name, untold)) = self.changes.pop_untold() {
            match (untold.previous, untold.owner) {
                (None, None) => {}
                (None, Some(owner)) => return Some(Change::Appeared { name, owner }),
                (Some(previous), None) => return Some(Change::Gone { name, previous }),
                (Some(previous), Some(owner)) if previous == owner => {
                    return Some(Change::Reshared { name, owner });
                }
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
        self.owners.in_bucket(bucket).map(Owner::head)
    }

    /// How many names are held, by all owners together; a name counts once for each.
    #[must_use]
    pub fn names_held(&self) -> usize {
        self.totals.held.names
    }

    /// How many releases are remembered, of all owners together.
    #[must_use]
    pub fn releases_kept(&self) -> usize {
        self.totals.released.names
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
                let claim = self.owners[holder.owner].claim_at(holder.version);
                totals.add(claim.map_or(holder.state, |it| it.state), name);
            }
        }
        let owned: usize = self
            .owners
            .iter()
            .map(|(_, owner)| owner.tally.total().names)
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
        for name in &self.standbys {
            assert!(
                self.standing(name).is_some(),
                "{name} has a standing and no claim"
            );
        }
        for (name, untold) in self.changes.untold() {
            assert!(
                untold.is_reshared || untold.previous != untold.owner,
                "{name} waits to be told and has not changed"
            );
            assert_eq!(
                untold.owner.as_ref(),
                self.told_owner_of(name),
                "{name} has another owner than is to be told"
            );
        }
        for (id, owner) in self.owners.iter() {
            assert_eq!(
                owner.telling.is_some(),
                self.telling.contains(&id),
                "{} is told of by nobody",
                owner.name
            );
        }
    }

    fn is_reachable(&self, holder: &Holder) -> bool {
        self.owners[holder.owner].reachable
    }

    /// Who owns a name, as the watchers are told.
    fn told_owner_of(&self, name: &EndpointName) -> Option<&NodeName> {
        let service = self.index.get(name)?.told_service(&self.owners);
        Some(&self.owners[service.owner?].name)
    }

    fn turn(&mut self, id: OwnerId) {
        let owner = &mut self.owners[id];
        owner.turn();
        if owner.telling.is_some() && !self.telling.insert(id) {
            // Nothing will be told of the verdict that was taken back, and what we claimed
            // meanwhile was judged by it.
            for Entry { name, .. } in self.owners[LOCAL].held() {
                let rivals = self.index.get(name);
                if rivals.is_some_and(|rivals| rivals.of(id).is_some()) {
                    self.changes.note_ours(name);
                }
            }
        }
    }
}

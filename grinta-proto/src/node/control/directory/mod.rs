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
mod clock;
mod index;
mod limits;
mod lookup;
mod merge;
mod owners;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use change::{Change, Standing};
pub use clock::STAMP_LEAD_MAX;
pub use limits::{DirectoryLimits, NameLimit};
pub use lookup::{Listing, Located, NEAR_WALK_MAX, Page, Resolution, SCAN_WALK_MAX};
pub use merge::{Applied, CLAIM_OVERHEAD, Refusal};
pub use owners::BUCKETS;

use self::change::Changes;
use self::clock::HybridClock;
use self::index::{Holder, Index};
use self::owners::{LOCAL, OwnerId, Owners, Tally};
use crate::mutant::mutant;
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
    /// Owners of whom the watchers were not told all of the latest verdict.
    telling: BTreeSet<OwnerId>,
    changes: Changes,
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
    /// To serve the name beside all others that share it; refused while another serves it alone.
    Shared,
}

/// Why a name was not claimed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another node serves the name alone.
    #[error("the name {name} is served by {owner}; release it there, or choose another name")]
    Taken {
        /// The name.
        name: EndpointName,
        /// Who serves it.
        owner: NodeName,
    },
    /// Other nodes share the name, and the claim would not.
    #[error("the name {name} is shared by {owner} and maybe others; share it, or choose another")]
    Shared {
        /// The name.
        name: EndpointName,
        /// Who owns it, of those who share it.
        owner: NodeName,
    },
    /// This node holds the name already.
    #[error("the name {name} is already held by this node; release it first")]
    AlreadyHeld {
        /// The name.
        name: EndpointName,
    },
    /// A limit on names is reached.
    #[error("`{limit}` is reached ({most}); release some names, or raise it at all nodes")]
    TooMany {
        /// Which limit.
        limit: NameLimit,
        /// Its value.
        most: usize,
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
            telling: BTreeSet::new(),
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

    /// Begins a later run of the local node as [`Directory::restart`] does, and claims anew what it
    /// held. A name that somebody else serves by now is told as lost.
    pub fn renew(&mut self, session: Session, unix_time: Duration) -> Session {
        let standings = std::mem::take(&mut self.standings);
        let held: Vec<_> = standings
            .keys()
            .map(|name| {
                let ours = self.index.get(name).and_then(|it| it.of(LOCAL));
                let ours = ours.expect("every name we hold is in the index");
                (name.clone(), ours.state)
            })
            .collect();
        let session = self.restart(session);
        for (name, state) in held {
            self.place(&name, state, unix_time);
            self.changes.note_ours(&name);
        }
        self.standings = standings;
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
        let rivals = self.index.get(&name);
        if rivals
            .and_then(|rivals| rivals.of(LOCAL))
            .is_some_and(Holder::is_held)
        {
            return Err(ClaimError::AlreadyHeld { name });
        }
        let first = rivals.and_then(|rivals| rivals.servers(|it| self.is_reachable(it)).next());
        let state = match mode {
            ClaimMode::Exclusive | ClaimMode::Standby => ClaimState::Exclusive,
            ClaimMode::Shared => ClaimState::Shared,
        };
        let standing = match first {
            None => Standing::Owner,
            Some(first) if first.is_shared() && mode == ClaimMode::Shared => Standing::Owner,
            Some(_) if mode == ClaimMode::Standby => Standing::Standby,
            Some(first) => {
                let owner = self.owners[first.owner].name.clone();
                return Err(match first.state {
                    ClaimState::Shared => ClaimError::Shared { name, owner },
                    ClaimState::Exclusive | ClaimState::Released => {
                        ClaimError::Taken { name, owner }
                    }
                });
            }
        };
        if let Some(limit) = self.limit_of_claims(&name) {
            let most = self.limits.most(limit);
            return Err(ClaimError::TooMany { limit, most });
        }
        self.place(&name, state, unix_time);
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
        while self
            .limits
            .exceeded_by_releases(self.owners[LOCAL].tally.released)
        {
            self.forget_releases(self.owners[LOCAL].tally.released.names / 2);
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
        if released.names <= held.names.max(keep.saturating_mul(2)) {
            return 0;
        }
        self.forget_releases(keep);
        self.owners.rehash(LOCAL);
        released.names - self.owners[LOCAL].tally.released.names
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
            let change = candidates.succession(&self.owners, before);
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
            let standing = self.standing_of(&name);
            let Some(told) = self.standings.get_mut(&name) else {
                continue;
            };
            if std::mem::replace(told, standing) == standing {
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
        while let Some((name, last)) = self.changes.pop_told() {
            match (last.owner, self.told_owner_of(&name).cloned()) {
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
        let owners = self
            .owners
            .iter()
            .filter(move |(_, owner)| owner.bucket() == bucket);
        owners.map(|(_, owner)| owner.head())
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
                totals.add(holder.state, name);
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
        assert_eq!(
            self.standings.len(),
            self.owners[LOCAL].tally.held.names,
            "standings drifted"
        );
        for name in self.standings.keys() {
            let ours = self
                .index
                .get(name)
                .and_then(|candidates| candidates.of(LOCAL));
            assert!(
                ours.is_some_and(Holder::is_held),
                "{name} has a standing and no claim"
            );
        }
        for (name, last) in self.changes.told() {
            assert!(
                last.is_reshared || last.owner.as_ref() != self.told_owner_of(name),
                "{name} waits to be told and has not changed"
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

    /// Makes a claim of ours, younger than all claims of the name that are known.
    fn place(&mut self, name: &EndpointName, state: ClaimState, unix_time: Duration) {
        let rivals = self.index.get(name);
        let rival = rivals.and_then(|rivals| rivals.latest_stamp(&self.owners));
        let stamp = self.clock.stamp(unix_time, rival);
        let version = self.next_version();
        let claim = Claim {
            name: name.clone(),
            version,
            stamp,
            state,
        };
        self.store(LOCAL, &claim);
        self.owners.rehash(LOCAL);
    }

    fn next_version(&mut self) -> Version {
        let owner = &mut self.owners[LOCAL];
        owner.version = Version(owner.version.0 + 1);
        owner.version
    }

    fn standing_of(&self, name: &EndpointName) -> Standing {
        let candidates = self.index.get(name);
        let serves = candidates.is_some_and(|candidates| {
            let mut servers = candidates.servers(|holder| self.is_reachable(holder));
            servers.any(|holder| holder.owner == LOCAL)
        });
        if serves {
            Standing::Owner
        } else {
            Standing::Standby
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
            for name in self.standings.keys() {
                let rivals = self.index.get(name);
                if rivals.is_some_and(|rivals| rivals.of(id).is_some()) {
                    self.changes.note_ours(name);
                }
            }
        }
    }

    fn forget_releases(&mut self, keep: usize) {
        let owner = &self.owners[LOCAL];
        let Some(last) = owner
            .tally
            .released
            .names
            .saturating_sub(keep)
            .checked_sub(1)
        else {
            return;
        };
        let (floor, _) = owner
            .claims_in(owner.floor, owner.version)
            .filter(|(_, entry)| entry.state == ClaimState::Released)
            .nth(last)
            .expect("all releases counted lie above the floor");
        self.raise_floor(LOCAL, floor);
    }
}

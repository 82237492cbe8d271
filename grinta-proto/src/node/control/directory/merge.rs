//! How replicas learn from each other: deltas in, deltas out.

use super::index::{Filed, Holder};
use super::owners::{Entry, LOCAL, OwnerId, effect};
use super::{Directory, NameLimit};
use crate::mutant::mutant;
use crate::name::Session;
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, OwnerHead, Version};

/// What a claim takes in a delta besides its name, in bytes: more than its encoding ever does.
pub const CLAIM_OVERHEAD: usize = 40;

/// What a delta did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It told nothing new.
    Nothing,
    /// The replica reaches further. Worth telling others.
    Advanced,
    /// The delta does not join what is held; at the most, a later session was learnt from it. Ask
    /// for what follows this head.
    Gap {
        /// How far this replica reaches.
        known: OwnerHead,
    },
    /// The delta was applied up to a limit; the rest was left.
    Full {
        /// The limit.
        limit: NameLimit,
    },
    /// Nothing was applied.
    Refused(Refusal),
}

/// Why a delta was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It tells of an earlier run of the owner.
    #[error("the delta tells of an earlier session than {known}")]
    StaleSession {
        /// The latest session known.
        known: Session,
    },
    /// Its versions are out of range or out of order.
    #[error("the delta's versions are out of range or out of order")]
    Malformed,
    /// It tells of this node, which knows better.
    #[error("the delta tells this node of itself")]
    Ourselves,
    /// It tells of this node more than it ever said: another node has its name, or somebody lies,
    /// or an earlier run had a later session. [`Directory::restart`] with a later session voids it.
    #[error("the delta tells of this node what it never said; begin a session after {session}")]
    Disowned {
        /// The session told of.
        session: Session,
    },
    /// It tells of an owner that is not known, and too many are.
    #[error("the directory's limit of {limit} owners is reached")]
    TooManyOwners {
        /// The limit.
        limit: usize,
    },
}

impl Directory {
    /// Merges what another node tells of an owner. Any input leaves a valid state.
    pub fn apply(&mut self, delta: &OwnerDelta) -> Applied {
        if delta.owner == *self.local() {
            return Applied::Refused(self.refuse_news_of_ourselves(delta));
        }
        if !is_well_formed(delta) {
            return Applied::Refused(Refusal::Malformed);
        }
        let (id, is_new) = match self.owners.find(&delta.owner) {
            Some(id) => (id, delta.session > self.owners[id].session),
            None if self.owners.len() >= self.limits.owners_max => {
                let limit = self.limits.owners_max;
                return Applied::Refused(Refusal::TooManyOwners { limit });
            }
            None => (self.owners.add(delta.owner.clone(), delta.session), true),
        };
        let known = self.owners[id].session;
        if delta.session < known && !mutant!(OlderSessionAccepted) {
            return Applied::Refused(Refusal::StaleSession { known });
        }
        if delta.session != known {
            self.begin_session(id, delta.session);
        }
        let applied = self.join(id, delta);
        self.owners.rehash(id);
        if is_new && applied == Applied::Nothing {
            Applied::Advanced
        } else {
            applied
        }
    }

    /// What this replica has for a node whose replica of an owner reaches to `theirs`: a delta
    /// whose claims take about `budget` bytes, at least one claim if there is any. `None` if there
    /// is nothing to tell, or nothing that would join.
    ///
    /// Each claim counts with its name and [`CLAIM_OVERHEAD`].
    #[must_use]
    pub fn delta_for(&self, theirs: &OwnerHead, budget: usize) -> Option<OwnerDelta> {
        let owner = &self.owners[self.owners.find(&theirs.owner)?];
        if owner.dropped || theirs.session > owner.session {
            return None;
        }
        let is_new = theirs.session < owner.session;
        let (version, floor) = if is_new {
            (Version(0), Version(0))
        } else {
            (theirs.version, theirs.floor)
        };
        let joins = version.max(floor) >= owner.floor;
        if !joins && owner.is_refilling() {
            return None;
        }
        if joins && !is_new && version >= owner.version && floor >= owner.floor {
            return None;
        }
        let after = if joins {
            version.min(owner.version)
        } else {
            Version(0)
        };
        let mut delta = OwnerDelta {
            owner: owner.name.clone(),
            session: owner.session,
            after,
            upto: owner.version,
            floor: owner.floor,
            claims: Vec::new(),
            proof: None,
        };
        let mut spent = 0_usize;
        for (version, entry) in owner.claims_in(after, owner.version) {
            spent = spent.saturating_add(entry.name.as_str().len() + CLAIM_OVERHEAD);
            if let Some(last) = delta.claims.last().filter(|_| spent > budget) {
                delta.upto = last.version;
                break;
            }
            delta.claims.push(entry.to_claim(version));
        }
        let is_behind_their_floor = delta.floor < floor && delta.upto < floor;
        (!is_behind_their_floor).then_some(delta)
    }

    /// Whether another's replica reaches beyond ours, and we would take what it has: nothing of
    /// ourselves, and of an owner whose contents were dropped a later session alone.
    #[must_use]
    pub fn lacks(&self, theirs: &OwnerHead) -> bool {
        let Some(id) = self.owners.find(&theirs.owner) else {
            return true;
        };
        let ours = &self.owners[id];
        let is_wanted = !ours.dropped || theirs.session > ours.session;
        id != LOCAL && is_wanted && is_beyond(theirs, &ours.head())
    }

    /// Whether a head tells of this node more than it ever said; see [`Refusal::Disowned`].
    #[must_use]
    pub fn disowns(&self, head: &OwnerHead) -> bool {
        let ours = &self.owners[LOCAL];
        head.owner == ours.name
            && (head.session, head.version.max(head.floor)) > (ours.session, ours.version)
    }

    fn refuse_news_of_ourselves(&self, delta: &OwnerDelta) -> Refusal {
        let head = OwnerHead {
            owner: delta.owner.clone(),
            session: delta.session,
            version: delta.upto,
            floor: delta.floor,
        };
        if self.disowns(&head) {
            Refusal::Disowned {
                session: delta.session,
            }
        } else {
            Refusal::Ourselves
        }
    }

    /// Merges a delta of the session that is known.
    fn join(&mut self, id: OwnerId, delta: &OwnerDelta) -> Applied {
        let owner = &mut self.owners[id];
        if owner.dropped {
            owner.version = owner.version.max(delta.upto);
            owner.floor = owner.floor.max(delta.floor);
            return Applied::Nothing;
        }
        let is_known = delta.floor <= owner.floor && delta.upto <= owner.version;
        let is_behind_our_floor = delta.floor < owner.floor && delta.upto < owner.floor;
        if is_known || is_behind_our_floor {
            #[cfg(grinta_mutants)]
            self.take_old_claims(id, delta);
            return Applied::Nothing;
        }
        if delta.floor > owner.version.max(owner.floor) {
            if delta.after > Version(0) {
                return Applied::Gap {
                    known: owner.head(),
                };
            }
            owner.version = Version(0);
            owner.stale.clear();
        } else if delta.after > owner.version {
            return Applied::Gap {
                known: owner.head(),
            };
        }
        self.raise_floor(id, delta.floor);
        self.take_claims(id, delta)
    }

    /// Takes what a replica without versions would take for news.
    #[cfg(grinta_mutants)]
    fn take_old_claims(&mut self, id: OwnerId, delta: &OwnerDelta) {
        for claim in &delta.claims {
            let known = self
                .index
                .get(&claim.name)
                .and_then(|it| it.of(id))
                .copied();
            let is_empty = !known.is_some_and(|known| known.is_held());
            let is_taken = match claim.state.is_held() {
                true => is_empty && mutant!(OldClaimTaken),
                false => !is_empty && mutant!(OldReleaseTaken),
            };
            if is_taken {
                self.erase(id, known.map_or(claim.version, |known| known.version));
                self.store(id, claim);
            }
        }
    }

    /// Takes the claims past the replica's version, up to a limit.
    fn take_claims(&mut self, id: OwnerId, delta: &OwnerDelta) -> Applied {
        let reached = self.owners[id].version;
        if delta.upto <= reached {
            return Applied::Advanced;
        }
        self.owners[id].stale.clear();
        let news = delta
            .claims
            .partition_point(|claim| claim.version <= reached);
        for claim in &delta.claims[news..] {
            self.void_untold(id, claim.version);
            if let Err(limit) = self.make_room(id, claim) {
                return Applied::Full { limit };
            }
            self.clock.observe(claim.stamp);
            self.store(id, claim);
            self.owners[id].version = claim.version;
        }
        self.void_untold(id, delta.upto);
        self.owners[id].version = delta.upto;
        Applied::Advanced
    }

    /// While a replica is refilled, voids what it still holds from its version to `upto`: the live
    /// set, which has been told that far, does not tell it.
    fn void_untold(&mut self, id: OwnerId, upto: Version) {
        let owner = &self.owners[id];
        if !owner.is_refilling() {
            return;
        }
        let void: Vec<_> = owner
            .claims_in(owner.version, upto)
            .map(|(version, _)| version)
            .collect();
        for version in void {
            self.erase(id, version);
        }
    }

    /// Puts one claim, at the owner's version or beyond, in the place of the earlier one.
    pub(super) fn store(&mut self, id: OwnerId, claim: &Claim) {
        self.store_as(id, claim, false);
    }

    /// As [`Directory::store`], of a claim that the owner may be forbidden.
    pub(super) fn store_as(&mut self, id: OwnerId, claim: &Claim, is_forbidden: bool) {
        // Told by a replica with a lower floor. What it releases is void already: this replica was
        // refilled past the floor, and the live set does not tell it.
        if claim.state == ClaimState::Released && claim.version <= self.owners[id].floor {
            return;
        }
        let place = self.index.place(claim.name.clone());
        let holder = Holder {
            version: claim.version,
            owner: id,
            state: effect(claim.state, is_forbidden),
        };
        if let Some(filed) = place.file(&self.owners, claim.stamp, holder) {
            self.enter_as(filed, claim.state, is_forbidden);
        }
    }

    /// Enters a claim that was filed in its owner's set.
    pub(super) fn enter(&mut self, filed: Filed) {
        let state = filed.holder.state;
        self.enter_as(filed, state, false);
    }

    fn enter_as(&mut self, filed: Filed, state: ClaimState, is_forbidden: bool) {
        let Filed {
            name,
            stamp,
            holder,
            replaced,
            change,
        } = filed;
        let owner = &mut self.owners[holder.owner];
        if let Some(replaced) = replaced.and_then(|version| owner.remove(version)) {
            self.totals.subtract(replaced.state, &replaced.name);
        }
        self.totals.add(state, &name);
        self.changes.note(&self.owners, &name, change);
        let mut entry = Entry::new(name, stamp, state);
        entry.is_forbidden = is_forbidden;
        self.owners[holder.owner].insert(holder.version, entry);
    }

    /// Raises a floor and forgets the releases that it passes.
    pub(super) fn raise_floor(&mut self, id: OwnerId, floor: Version) {
        let owner = &mut self.owners[id];
        let passed = owner.floor;
        if floor <= passed {
            return;
        }
        owner.floor = floor;
        let releases: Vec<_> = owner
            .claims_in(passed, floor)
            .filter(|(_, entry)| entry.state == ClaimState::Released)
            .map(|(version, _)| version)
            .collect();
        for version in releases {
            self.erase(id, version);
        }
    }

    /// Voids all that an owner said and begins its `session` with nothing claimed.
    pub(super) fn begin_session(&mut self, id: OwnerId, session: Session) {
        self.clear(id);
        let owner = &mut self.owners[id];
        owner.session = session;
        owner.dropped = false;
        (owner.version, owner.floor) = (Version(0), Version(0));
        self.owners.rehash(id);
    }

    /// Removes all claims of an owner.
    pub(super) fn clear(&mut self, id: OwnerId) {
        for entry in self.owners[id].take_claims().into_values() {
            self.unlink(id, &entry);
        }
    }

    pub(super) fn erase(&mut self, id: OwnerId, version: Version) {
        if let Some(entry) = self.owners[id].remove(version) {
            self.unlink(id, &entry);
        }
    }

    fn unlink(&mut self, id: OwnerId, entry: &Entry) {
        self.totals.subtract(entry.state, &entry.name);
        let change = self.index.remove(&self.owners, id, &entry.name);
        self.changes.note(&self.owners, &entry.name, change);
    }
}

/// Whether `theirs` tells more of one owner than `ours`.
pub(in crate::node::control) fn is_beyond(theirs: &OwnerHead, ours: &OwnerHead) -> bool {
    theirs.session > ours.session
        || theirs.session == ours.session
            && (theirs.version > ours.version || theirs.floor > ours.floor)
}

/// Whether the versions of a delta are in range and in order.
pub(in crate::node::control) fn is_well_formed(delta: &OwnerDelta) -> bool {
    let mut last = delta.after;
    delta.after <= delta.upto
        && delta
            .claims
            .iter()
            .all(|claim| std::mem::replace(&mut last, claim.version) < claim.version)
        && last <= delta.upto
}

//! A replica that goes from one version that its owner signed to a later one, and is never between.

use std::collections::BTreeSet;

use super::merge::Refusal;
use super::owners::{Entry, LOCAL, OwnerId, Tally, Weight};
use super::root::root_of;
use super::{Directory, NameLimit};
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{Claim, ClaimState, Root, Version};

/// All that leads from what is held of an owner to a later version of its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Whose set.
    pub owner: NodeName,
    /// Which run of the owner.
    pub session: Session,
    /// What the claims come on top of.
    pub basis: Basis,
    /// Where it leads to.
    pub version: Version,
    /// The floor of that version.
    pub floor: Version,
    /// The claims in the order of their versions, one for a name.
    pub claims: Vec<Claim>,
}

/// What an update comes on top of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Nothing: it is the whole set.
    Nothing,
    /// What is held, in the same session.
    Held,
}

/// What would come of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preview {
    /// The digest of the set that comes of it.
    pub root: Root,
    /// The limit that the set would exceed.
    pub excess: Option<NameLimit>,
}

impl Directory {
    /// From now on a run of an owner voids the earlier ones only when it is told by
    /// [`Directory::commit`] or [`Directory::begin`].
    pub fn require_proofs(&mut self) {
        self.is_proven = true;
    }

    /// The digest of the local node's set.
    pub fn local_root(&mut self) -> Root {
        self.owners[LOCAL].root()
    }

    /// The local node takes a version without a claim.
    pub fn advance(&mut self) {
        self.owners[LOCAL].next_version();
        self.owners.rehash(LOCAL);
    }

    /// An owner itself says that it is in its run `session`: what it said in earlier ones is void,
    /// also what is told of them afterwards.
    pub fn begin(&mut self, owner: &NodeName, session: Session) {
        match self.owners.find(owner) {
            Some(LOCAL) => {}
            Some(id) if session > self.owners[id].session => self.begin_session(id, session),
            Some(_) => {}
            None if self.owners.len() < self.limits.owners_max => {
                self.owners.add(owner.clone(), session);
            }
            None => {}
        }
    }

    /// What would come of an update, which changes nothing yet.
    ///
    /// # Errors
    /// [`Refusal::TooManyOwners`] if it tells of one that is not known.
    pub fn preview(&mut self, update: &Update) -> Result<Preview, Refusal> {
        let limit = self.limits.owners_max;
        let id = self.owners.find(&update.owner);
        if id.is_none() && self.owners.len() >= limit {
            return Err(Refusal::TooManyOwners { limit });
        }
        let before = id.map_or_else(Tally::default, |id| self.owners[id].tally);
        let news = self.news(id, update);
        let (root, after) = match (update.basis, id) {
            (Basis::Held, Some(id)) => {
                let gone = self.gone(id, update.floor, &news);
                let owner = &mut self.owners[id];
                let mut tally = before;
                for entry in gone.iter().filter_map(|&version| owner.claim_at(version)) {
                    tally.subtract(entry.state, &entry.name);
                }
                (owner.root_with(&gone, &news), added(tally, &news))
            }
            (Basis::Held | Basis::Nothing, _) => (root_of(&news), added(Tally::default(), &news)),
        };
        let excess = self.excess(before, after);
        Ok(Preview { root, excess })
    }

    /// Goes where an update leads. Claims of the names that are `forbidden` to the owner count for
    /// nothing.
    pub fn commit(&mut self, update: &Update, forbidden: &BTreeSet<EndpointName>) {
        let id = match self.owners.find(&update.owner) {
            Some(id) => id,
            None => self.owners.add(update.owner.clone(), update.session),
        };
        assert_ne!(id, LOCAL, "nobody else changes our own set");
        if self.owners[id].session != update.session {
            self.begin_session(id, update.session);
        }
        let news = self.news(Some(id), update);
        match update.basis {
            Basis::Nothing => self.keep(id, &news),
            Basis::Held => self.raise_floor(id, update.floor),
        }
        let owner = &mut self.owners[id];
        owner.stale.clear();
        (owner.version, owner.floor) = (update.version, update.floor);
        for claim in &news {
            self.clock.observe(claim.stamp);
            self.store_as(id, claim, forbidden.contains(&claim.name));
        }
        self.owners.rehash(id);
    }

    /// The names that an owner holds, those that it is forbidden included.
    pub fn held_by(&self, owner: &NodeName) -> impl Iterator<Item = &EndpointName> {
        let id = self.owners.find(owner).into_iter();
        id.flat_map(|id| self.owners[id].held().map(|entry| &entry.name))
    }

    /// Of all names that an owner holds, these are forbidden to it from now on, and no others.
    pub fn forbid(&mut self, owner: &NodeName, forbidden: &BTreeSet<EndpointName>) {
        let Some(id) = self.owners.find(owner).filter(|&id| id != LOCAL) else {
            return;
        };
        let claims = self.owners[id].claims_in(Version(0), Version(u64::MAX));
        let changed = claims.filter(|(_, entry)| {
            entry.state.is_held() && entry.is_forbidden != forbidden.contains(&entry.name)
        });
        let changed: Vec<_> = changed.map(|(version, it)| it.to_claim(version)).collect();
        for claim in changed {
            self.erase(id, claim.version);
            self.store_as(id, &claim, forbidden.contains(&claim.name));
        }
    }

    /// The claims of an update that are held once it is committed, and are not held yet.
    fn news(&self, id: Option<OwnerId>, update: &Update) -> Vec<Claim> {
        let reached = match (update.basis, id) {
            (Basis::Held, Some(id)) => self.owners[id].version,
            (Basis::Held | Basis::Nothing, _) => Version(0),
        };
        let is_news = |claim: &&Claim| {
            let is_void = claim.state == ClaimState::Released && claim.version <= update.floor;
            claim.version > reached && !is_void
        };
        update.claims.iter().filter(is_news).cloned().collect()
    }

    /// The versions of what is replaced by news, and of the releases that a floor passes.
    fn gone(&self, id: OwnerId, floor: Version, news: &[Claim]) -> BTreeSet<Version> {
        let owner = &self.owners[id];
        let replaced = news.iter().filter_map(|claim| {
            let held = self.index.get(&claim.name)?.of(id)?;
            Some(held.version)
        });
        let passed = owner.claims_in(owner.floor, floor);
        let passed = passed.filter(|(_, entry)| entry.state == ClaimState::Released);
        replaced.chain(passed.map(|(version, _)| version)).collect()
    }

    /// Erases all that an owner holds and these claims do not tell.
    fn keep(&mut self, id: OwnerId, claims: &[Claim]) {
        let owner = &self.owners[id];
        let is_told = |version: Version, entry: &Entry| {
            let place = claims.binary_search_by_key(&version, |claim| claim.version);
            place.is_ok_and(|place| entry.to_claim(version) == claims[place])
        };
        let void: Vec<_> = owner
            .claims_in(Version(0), Version(u64::MAX))
            .filter(|(version, entry)| !is_told(*version, entry))
            .map(|(version, _)| version)
            .collect();
        for version in void {
            self.erase(id, version);
        }
    }

    /// The limit that an owner's set would exceed. What its owner signed keeps the owner's limits at
    /// every version; all sets together may be in any mixture of versions, as `limits` says.
    fn excess(&self, before: Tally, after: Tally) -> Option<NameLimit> {
        let none = Weight::default();
        let all = self.totals.total().without(before.total());
        let all = all.and(after.total());
        self.limits
            .exceeded(after.held, none, 1)
            .or_else(|| self.limits.exceeded(after.released, none, 1))
            .or_else(|| self.limits.exceeded(none, all, 2))
    }
}

fn added(mut tally: Tally, claims: &[Claim]) -> Tally {
    for claim in claims {
        tally.add(claim.state, &claim.name);
    }
    tally
}

//! From a name to those who claim it.
//!
//! Most names have one claimant ever, so that case takes 16 bytes and knows only where to look
//! further. Where there are several they are kept in the order in which they own the name: the
//! oldest stamp first, then the lowest node name. The owner is the first of them that holds the
//! name and is reachable. If it shares the name, all who share it and are reachable serve it too.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::slice;

use super::owners::{LOCAL, OwnerId, Owners};
use crate::name::EndpointName;
use crate::wire::claims::{ClaimState, Stamp, Version};

/// All names that anyone holds or released, in order.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: BTreeMap<EndpointName, Candidates>,
}

/// One owner's claim of a name, as the index sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) version: Version,
    pub(super) owner: OwnerId,
    pub(super) state: ClaimState,
}

/// Those who claim one name.
#[derive(Debug)]
pub(super) enum Candidates {
    One(Holder),
    Many(Box<Rivals>),
}

/// Two claims or more, one per owner, in the order in which they own the name.
#[derive(Debug)]
pub(super) struct Rivals(Vec<Ranked>);

#[derive(Debug, Clone, Copy)]
struct Ranked {
    stamp: Stamp,
    holder: Holder,
}

/// The place of one name in the index, looked up once to judge a claim and to file it.
pub(super) struct Place<'a>(btree_map::Entry<'a, EndpointName, Candidates>);

/// What a claim did to its name.
#[derive(Debug)]
pub(super) struct Filed {
    /// The name as the index shares it.
    pub(super) name: EndpointName,
    pub(super) stamp: Stamp,
    pub(super) holder: Holder,
    /// The claim of the same owner that was replaced.
    pub(super) replaced: Option<Version>,
    pub(super) change: Succession,
}

/// Who serves a name, in short: around a change of one claim or of one owner's verdict, two of
/// these are equal exactly if the same nodes serve the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Service {
    /// Who owns the name.
    pub(super) owner: Option<OwnerId>,
    /// How many serve it, the owner among them.
    pub(super) servers: usize,
}

/// Who serves a name before a change and who after it, as the watchers are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Succession {
    pub(super) before: Service,
    pub(super) after: Service,
    /// Whether this node claims the name, and the change is another's.
    pub(super) concerns_us: bool,
}

impl Index {
    pub(super) fn place(&mut self, name: EndpointName) -> Place<'_> {
        Place(self.names.entry(name))
    }

    /// Removes an owner's claim of a name.
    pub(super) fn remove(
        &mut self,
        owners: &Owners,
        id: OwnerId,
        name: &EndpointName,
    ) -> Succession {
        let Some(candidates) = self.names.get_mut(name) else {
            return Succession::default();
        };
        let before = candidates.told_service(owners);
        match candidates {
            Candidates::One(holder) if holder.owner == id => {
                self.names.remove(name);
                return Succession {
                    before,
                    ..Succession::default()
                };
            }
            Candidates::One(_) => {}
            Candidates::Many(rivals) => {
                rivals.0.retain(|ranked| ranked.holder.owner != id);
                if let [last] = rivals.0[..] {
                    *candidates = Candidates::One(last.holder);
                }
            }
        }
        candidates.succession(owners, before, id)
    }

    pub(super) fn get(&self, name: &EndpointName) -> Option<&Candidates> {
        self.names.get(name)
    }

    /// The names from `start` on, in order.
    pub(super) fn from<'a>(
        &'a self,
        start: Bound<&'a str>,
    ) -> impl Iterator<Item = (&'a EndpointName, &'a Candidates)> {
        self.names.range::<str, _>((start, Bound::Unbounded))
    }

    /// The names before `end`, backwards.
    pub(super) fn before<'a>(
        &'a self,
        end: &'a str,
    ) -> impl Iterator<Item = (&'a EndpointName, &'a Candidates)> {
        self.names
            .range::<str, _>((Bound::Unbounded, Bound::Excluded(end)))
            .rev()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&EndpointName, &Candidates)> {
        self.names.iter()
    }
}

impl Place<'_> {
    pub(super) fn name(&self) -> &EndpointName {
        self.0.key()
    }

    /// Those who claim the name, if anybody does.
    pub(super) fn candidates(&self) -> Option<&Candidates> {
        match &self.0 {
            btree_map::Entry::Vacant(_) => None,
            btree_map::Entry::Occupied(occupied) => Some(occupied.get()),
        }
    }

    /// The claim of one owner, if that holds the name.
    pub(super) fn held_by(&self, id: OwnerId) -> Option<&Holder> {
        self.candidates()?.of(id).filter(|holder| holder.is_held())
    }

    /// Files a claim in the place of the owner's earlier one. `None` and no change if the owner's
    /// filed claim is as late or later.
    pub(super) fn file(self, owners: &Owners, stamp: Stamp, holder: Holder) -> Option<Filed> {
        match self.0 {
            btree_map::Entry::Vacant(vacant) => {
                let name = vacant.key().clone();
                let candidates = vacant.insert(Candidates::One(holder));
                let before = Service::default();
                Some(Filed {
                    name,
                    stamp,
                    holder,
                    replaced: None,
                    change: candidates.succession(owners, before, holder.owner),
                })
            }
            btree_map::Entry::Occupied(mut occupied) => {
                let name = occupied.key().clone();
                let candidates = occupied.get_mut();
                let replaced = candidates.of(holder.owner).map(|earlier| earlier.version);
                if replaced.is_some_and(|version| version >= holder.version) {
                    return None;
                }
                let before = candidates.told_service(owners);
                candidates.put(owners, Ranked { stamp, holder });
                Some(Filed {
                    name,
                    stamp,
                    holder,
                    replaced,
                    change: candidates.succession(owners, before, holder.owner),
                })
            }
        }
    }
}

impl Candidates {
    /// The claims in the order in which they own the name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Holder> {
        let (one, many): (_, slice::Iter<'_, Ranked>) = match self {
            Self::One(holder) => (Some(holder), [].iter()),
            Self::Many(rivals) => (None, rivals.0.iter()),
        };
        one.into_iter().chain(many.map(|ranked| &ranked.holder))
    }

    /// The claim of one owner.
    pub(super) fn of(&self, id: OwnerId) -> Option<&Holder> {
        self.iter().find(|holder| holder.owner == id)
    }

    /// The latest stamp of those who hold the name.
    pub(super) fn latest_stamp(&self, owners: &Owners) -> Option<Stamp> {
        self.iter()
            .filter(|holder| holder.is_held())
            .map(|holder| holder.stamp(owners))
            .max()
    }

    /// Who owns the name.
    pub(super) fn winner(&self, owners: &Owners) -> Option<OwnerId> {
        self.servers(|holder| owners[holder.owner].reachable)
            .next()
            .map(|holder| holder.owner)
    }

    /// Those who serve the name if it is served by whom `can_serve` says: the first who holds it,
    /// and if that one shares it, all others who share it.
    pub(super) fn servers(
        &self,
        can_serve: impl Fn(&Holder) -> bool,
    ) -> impl Iterator<Item = &Holder> {
        let mut holders = self
            .iter()
            .filter(move |holder| holder.is_held() && can_serve(holder));
        let first = holders.next();
        let is_shared = first.is_some_and(Holder::is_shared);
        let others = is_shared.then(|| holders.filter(|holder| holder.is_shared()));
        first.into_iter().chain(others.into_iter().flatten())
    }

    /// Who serves the name as the watchers are told.
    pub(super) fn told_service(&self, owners: &Owners) -> Service {
        let mut servers =
            self.servers(|holder| owners[holder.owner].is_told_reachable(holder.version));
        let owner = servers.next().map(|holder| holder.owner);
        Service {
            owner,
            servers: usize::from(owner.is_some()) + servers.count(),
        }
    }

    /// What a change of one owner's did to the name, which was served as `before` says.
    pub(super) fn succession(
        &self,
        owners: &Owners,
        before: Service,
        changed: OwnerId,
    ) -> Succession {
        Succession {
            before,
            after: self.told_service(owners),
            concerns_us: changed != LOCAL && self.of(LOCAL).is_some(),
        }
    }

    fn put(&mut self, owners: &Owners, new: Ranked) {
        match self {
            Self::One(holder) if holder.owner == new.holder.owner => *holder = new.holder,
            Self::One(holder) => {
                let mut rivals = Rivals(vec![Ranked {
                    stamp: holder.stamp(owners),
                    holder: *holder,
                }]);
                rivals.insert(owners, new);
                *self = Self::Many(Box::new(rivals));
            }
            Self::Many(rivals) => {
                rivals
                    .0
                    .retain(|ranked| ranked.holder.owner != new.holder.owner);
                rivals.insert(owners, new);
            }
        }
    }

    /// Asserts that there is one claim per owner, in order, and that each is in its owner's set.
    pub(super) fn check_invariants(&self, owners: &Owners, name: &EndpointName) {
        for holder in self.iter() {
            let owner = &owners[holder.owner];
            let entry = owner.claim_at(holder.version);
            assert!(
                entry.is_some_and(|entry| entry.name == *name && entry.effect() == holder.state),
                "{name} is indexed at {:?} of {}, where there is {entry:?}",
                holder.version,
                owner.name,
            );
        }
        let Self::Many(rivals) = self else { return };
        assert!(rivals.0.len() > 1, "{name} has {} rivals", rivals.0.len());
        for pair in rivals.0.windows(2) {
            assert!(
                pair[0].rank(owners) < pair[1].rank(owners),
                "{name} is out of order: {pair:?}"
            );
        }
        for ranked in &rivals.0 {
            assert_eq!(
                ranked.stamp,
                ranked.holder.stamp(owners),
                "{name} has another stamp"
            );
        }
    }
}

impl Rivals {
    fn insert(&mut self, owners: &Owners, new: Ranked) {
        let place = self
            .0
            .partition_point(|ranked| ranked.rank(owners) < new.rank(owners));
        self.0.insert(place, new);
    }
}

impl Ranked {
    fn rank<'a>(&self, owners: &'a Owners) -> (Stamp, &'a str) {
        (self.stamp, owners[self.holder.owner].name.as_str())
    }
}

impl Holder {
    pub(super) fn is_held(&self) -> bool {
        self.state.is_held()
    }

    pub(super) fn is_shared(&self) -> bool {
        self.state == ClaimState::Shared
    }

    pub(super) fn stamp(&self, owners: &Owners) -> Stamp {
        let claim = owners[self.owner].claim_at(self.version);
        claim
            .expect("every indexed claim is in its owner's set")
            .stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_one_claimant_costs_sixteen_bytes() {
        assert_eq!(size_of::<Holder>(), 16);
        assert_eq!(size_of::<Candidates>(), 16);
    }
}

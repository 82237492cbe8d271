//! From a name to those who claim it.
//!
//! Most names have one claimant ever, so that case takes 16 bytes and knows only where to look
//! further. Where there are several they are kept in the order in which they own the name: the
//! oldest stamp first, then the lowest node name. The owner is the first of them that holds the
//! name and is reachable.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::slice;

use super::owners::{OwnerId, Owners};
use crate::name::EndpointName;
use crate::wire::claims::{Claim, ClaimState, Stamp, Version};

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

/// What a claim did to its name.
#[derive(Debug)]
pub(super) struct Filed {
    /// The name as the index shares it.
    pub(super) name: EndpointName,
    /// The claim of the same owner that was replaced.
    pub(super) replaced: Option<Version>,
    pub(super) change: Succession,
}

/// Who owned a name before a change and who owns it after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Succession {
    pub(super) before: Option<OwnerId>,
    pub(super) after: Option<OwnerId>,
}

impl Index {
    /// Files a claim in the place of the owner's earlier one. `None` and no change if the owner's
    /// filed claim is as late or later.
    pub(super) fn file(&mut self, owners: &Owners, id: OwnerId, claim: &Claim) -> Option<Filed> {
        let holder = Holder {
            version: claim.version,
            owner: id,
            state: claim.state,
        };
        match self.names.entry(claim.name.clone()) {
            btree_map::Entry::Vacant(vacant) => {
                let name = vacant.key().clone();
                let candidates = vacant.insert(Candidates::One(holder));
                let change = Succession {
                    before: None,
                    after: candidates.winner(owners),
                };
                Some(Filed {
                    name,
                    replaced: None,
                    change,
                })
            }
            btree_map::Entry::Occupied(mut occupied) => {
                let name = occupied.key().clone();
                let candidates = occupied.get_mut();
                let replaced = candidates.of(id).map(|holder| holder.version);
                if replaced.is_some_and(|version| version >= claim.version) {
                    return None;
                }
                let before = candidates.winner(owners);
                candidates.put(
                    owners,
                    Ranked {
                        stamp: claim.stamp,
                        holder,
                    },
                );
                let change = Succession {
                    before,
                    after: candidates.winner(owners),
                };
                Some(Filed {
                    name,
                    replaced,
                    change,
                })
            }
        }
    }

    /// Removes an owner's claim of a name.
    pub(super) fn remove(
        &mut self,
        owners: &Owners,
        id: OwnerId,
        name: &EndpointName,
    ) -> Succession {
        let Some(candidates) = self.names.get_mut(name) else {
            return Succession {
                before: None,
                after: None,
            };
        };
        let before = candidates.winner(owners);
        let after = match candidates {
            Candidates::One(holder) if holder.owner != id => before,
            Candidates::One(_) => {
                self.names.remove(name);
                None
            }
            Candidates::Many(rivals) => {
                rivals.0.retain(|ranked| ranked.holder.owner != id);
                if let [last] = rivals.0[..] {
                    *candidates = Candidates::One(last.holder);
                }
                candidates.winner(owners)
            }
        };
        Succession { before, after }
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
        self.iter()
            .find(|holder| holder.is_held() && owners[holder.owner].reachable)
            .map(|holder| holder.owner)
    }

    /// How the name changes hands if the reachable `id` ceases to be reachable.
    pub(super) fn succession_without(&self, owners: &Owners, id: OwnerId) -> Succession {
        let mut reachable = self
            .iter()
            .filter(|holder| holder.is_held() && owners[holder.owner].reachable)
            .map(|holder| holder.owner);
        let before = reachable.next();
        let after = if before == Some(id) {
            reachable.next()
        } else {
            before
        };
        Succession { before, after }
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
                entry.is_some_and(|entry| entry.name == *name && entry.state == holder.state),
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
        match self.state {
            ClaimState::Held => true,
            ClaimState::Released => false,
        }
    }

    pub(super) fn stamp(&self, owners: &Owners) -> Stamp {
        let claim = owners[self.owner].claim_at(self.version);
        claim
            .expect("every indexed claim is in its owner's set")
            .stamp()
    }
}

impl Succession {
    /// The same change the other way round.
    pub(super) fn reversed(self) -> Self {
        Self {
            before: self.after,
            after: self.before,
        }
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

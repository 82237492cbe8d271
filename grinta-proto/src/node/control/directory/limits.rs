//! Bounds on what a directory holds, and who has to keep which.
//!
//! An owner keeps the bounds at its claims, where it knows all: it holds no more names than the
//! limit, and remembers no more releases than that. A replica that catches up lacks the latest
//! releases while it takes names that were claimed earlier than they, so it may hold more for a
//! time than the owner ever did. It never holds a name that the owner neither holds nor remembers
//! as released; but for a refill, where names that await confirmation give way to those that are
//! told. So twice the limit bounds the replica of an honest owner, held and released together, and
//! whoever needs more is not one.
//!
//! Where owners sign, replicas are never between two versions, and each owner's set keeps the limit as
//! it is. Nothing is taken of a set that does not.
//!
//! Whether an owner holds more than it may shows exactly where a replica has come to where the
//! owner is: [`Directory::breach`].

use std::fmt;

use super::Directory;
use super::owners::{OwnerId, Weight};
use crate::config::Limits;
use crate::name::{EndpointName, NodeName};
use crate::wire::claims::{Claim, ClaimState};

/// Bounds on what a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// [`Limits::names_max`].
    pub names_max: usize,
    /// [`Limits::name_bytes_max`].
    pub name_bytes_max: usize,
    /// [`Limits::names_per_node_max`].
    pub names_per_owner_max: usize,
    /// [`Limits::name_bytes_per_node_max`].
    pub name_bytes_per_owner_max: usize,
    /// Owners that are known by their claims alone. Default 16,384: eight times the members that
    /// a fabric is made for, as those that went down are remembered too.
    pub owners_max: usize,
}

/// A limit on names, by its field of [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NameLimit {
    /// [`Limits::names_per_node_max`].
    NamesPerNode,
    /// [`Limits::name_bytes_per_node_max`].
    NameBytesPerNode,
    /// [`Limits::names_max`].
    Names,
    /// [`Limits::name_bytes_max`].
    NameBytes,
}

impl NameLimit {
    /// Whether it is one node's own to keep, and not that of all together.
    #[must_use]
    pub const fn is_per_node(self) -> bool {
        match self {
            Self::NamesPerNode | Self::NameBytesPerNode => true,
            Self::Names | Self::NameBytes => false,
        }
    }
}

impl fmt::Display for NameLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NamesPerNode => "names_per_node_max",
            Self::NameBytesPerNode => "name_bytes_per_node_max",
            Self::Names => "names_max",
            Self::NameBytes => "name_bytes_max",
        })
    }
}

impl DirectoryLimits {
    /// The value of a limit.
    #[must_use]
    pub const fn most(&self, limit: NameLimit) -> usize {
        match limit {
            NameLimit::NamesPerNode => self.names_per_owner_max,
            NameLimit::NameBytesPerNode => self.name_bytes_per_owner_max,
            NameLimit::Names => self.names_max,
            NameLimit::NameBytes => self.name_bytes_max,
        }
    }

    /// Whether an owner has to forget some of its releases.
    pub(super) const fn exceeded_by_releases(&self, released: Weight) -> bool {
        released.names > self.names_per_owner_max || released.bytes > self.name_bytes_per_owner_max
    }

    /// The first limit that a further claim of ours would exceed.
    pub(super) fn exceeded_by_claim(
        &self,
        name: &EndpointName,
        ours: Weight,
        all: Weight,
    ) -> Option<NameLimit> {
        self.exceeded(ours.with(name), all.with(name), 1)
    }

    /// The first limit that so many names would exceed, `times` as large as it is.
    pub(super) fn exceeded(&self, owner: Weight, all: Weight, times: usize) -> Option<NameLimit> {
        let weighed = [
            (NameLimit::NamesPerNode, owner.names),
            (NameLimit::NameBytesPerNode, owner.bytes),
            (NameLimit::Names, all.names),
            (NameLimit::NameBytes, all.bytes),
        ];
        let exceeded = weighed
            .into_iter()
            .find(|&(limit, weight)| weight > self.most(limit).saturating_mul(times));
        exceeded.map(|(limit, _)| limit)
    }
}

impl Directory {
    /// The bounds on what this directory holds.
    #[must_use]
    pub const fn limits(&self) -> &DirectoryLimits {
        &self.limits
    }

    /// The limit that an owner breaks, if our replica of it is at the version where the owner
    /// itself is. Anywhere else it may break one for a time, through no fault of the owner.
    #[must_use]
    pub fn breach(&self, owner: &NodeName) -> Option<NameLimit> {
        let owner = &self.owners[self.owners.find(owner)?];
        let all = Weight::default();
        self.limits.exceeded(owner.tally.held, all, 1)
    }

    /// Makes room for what an owner is told to claim, if need be at the cost of names of the same
    /// owner that await confirmation, the last ones first.
    ///
    /// # Errors
    /// The limit that the claim would exceed nevertheless.
    pub(super) fn make_room(&mut self, id: OwnerId, claim: &Claim) -> Result<(), NameLimit> {
        while let Some(limit) = self.limit_of_replica(id, claim) {
            let owner = &self.owners[id];
            let unconfirmed = owner
                .last_claim_past(claim.version)
                .filter(|_| owner.is_refilling());
            self.erase(id, unconfirmed.ok_or(limit)?);
        }
        Ok(())
    }

    fn limit_of_replica(&self, id: OwnerId, claim: &Claim) -> Option<NameLimit> {
        let [owner, all] = [self.owners[id].tally.total(), self.totals.total()];
        let name = &claim.name;
        let limit = self.limits.exceeded(owner.with(name), all.with(name), 2)?;
        let is_void = claim.state == ClaimState::Released && claim.version <= self.owners[id].floor;
        let replaces = self.index.get(name).is_some_and(|it| it.of(id).is_some());
        (!is_void && !replaces).then_some(limit)
    }
}

impl Weight {
    /// The weight with one name more.
    fn with(self, name: &EndpointName) -> Self {
        Self {
            names: self.names + 1,
            bytes: self.bytes + name.as_str().len(),
        }
    }
}

impl From<&Limits> for DirectoryLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            names_max: limits.names_max,
            name_bytes_max: limits.name_bytes_max,
            names_per_owner_max: limits.names_per_node_max,
            name_bytes_per_owner_max: limits.name_bytes_per_node_max,
            owners_max: OWNERS_MAX,
        }
    }
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

const OWNERS_MAX: usize = 16_384;

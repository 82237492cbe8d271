//! What changed, for those who watch and for the claimants among us.
//!
//! A change is kept per name, as who owned the name when it was last told: whatever happens until
//! the next poll folds into one change or none. So a reader that stays away costs at most one
//! entry for each name that existed at its last poll or exists now.
//!
//! The watchers' view of who is reachable follows the verdicts name by name, in the slices of
//! [`Directory::tell_verdicts`](super::Directory::tell_verdicts): a verdict about an owner of many
//! names costs nothing at once. What is told always folds to that view, which ends as the truth.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::index::{Service, Succession};
use super::owners::Owners;
use crate::name::{EndpointName, NodeName};

/// A change of who owns a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A name that nobody reachable owned has an owner.
    Appeared {
        /// The name.
        name: EndpointName,
        /// Who owns it.
        owner: NodeName,
    },
    /// A name went to another owner.
    Moved {
        /// The name.
        name: EndpointName,
        /// Who owned it.
        previous: NodeName,
        /// Who owns it.
        owner: NodeName,
    },
    /// Of those who share a name, some began or ceased to serve it; its owner stayed. Their set may
    /// be the same again by now.
    Reshared {
        /// The name.
        name: EndpointName,
        /// Its owner.
        owner: NodeName,
    },
    /// Nobody reachable owns the name any more.
    Gone {
        /// The name.
        name: EndpointName,
        /// Who owned it.
        previous: NodeName,
    },
    /// Our claim of a name gave way to an older one, with which it cannot share the name. It stands
    /// by from now on. Told once per loss.
    Lost {
        /// The name.
        name: EndpointName,
        /// Who owns it.
        winner: NodeName,
    },
    /// Our claim, which stood by, serves the name now.
    Promoted {
        /// The name.
        name: EndpointName,
    },
}

/// What a claim of our own has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// We serve the name: alone, or beside others that share it.
    Owner,
    /// Others serve it; we take over when they release it or go down.
    Standby,
}

/// Names whose owner may differ from what was told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Always another service than was told.
    untold: BTreeMap<EndpointName, Untold>,
    /// Names of ours that we may have gained or lost.
    ours: BTreeSet<EndpointName>,
}

/// How the service of a name differs from what was told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold {
    /// Who owned it when it was last told.
    pub(super) previous: Option<NodeName>,
    /// Who owns it now.
    pub(super) owner: Option<NodeName>,
    /// Whether those who share it have changed since.
    pub(super) is_reshared: bool,
}

impl Changes {
    /// Notes that another owns a name or that others serve it.
    pub(super) fn note(&mut self, owners: &Owners, name: &EndpointName, change: Succession) {
        let Succession {
            before,
            after,
            concerns_us,
        } = change;
        // Our own claims are judged by the verdicts themselves, not by what was told of them.
        if concerns_us {
            self.ours.insert(name.clone());
        }
        if before == after {
            return;
        }
        let named = |service: Service| service.owner.map(|id| owners[id].name.clone());
        let is_shared = before.servers.max(after.servers) > 1;
        match self.untold.entry(name.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Untold {
                    previous: named(before),
                    owner: named(after),
                    is_reshared: is_shared,
                });
            }
            Entry::Occupied(mut occupied) => {
                let untold = occupied.get_mut();
                untold.owner = named(after);
                untold.is_reshared |= is_shared;
                if untold.previous == untold.owner && !untold.is_reshared {
                    occupied.remove();
                }
            }
        }
    }

    pub(super) fn note_ours(&mut self, name: &EndpointName) {
        self.ours.insert(name.clone());
    }

    pub(super) fn forget_ours(&mut self, name: &EndpointName) {
        self.ours.remove(name);
    }

    pub(super) fn forget_all_ours(&mut self) {
        self.ours.clear();
    }

    pub(super) fn pop_ours(&mut self) -> Option<EndpointName> {
        self.ours.pop_first()
    }

    pub(super) fn pop_untold(&mut self) -> Option<(EndpointName, Untold)> {
        self.untold.pop_first()
    }

    pub(super) fn untold(&self) -> impl Iterator<Item = (&EndpointName, &Untold)> {
        self.untold.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.untold.len() + self.ours.len()
    }
}

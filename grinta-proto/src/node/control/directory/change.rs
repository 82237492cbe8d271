//! What changed, for those who watch and for the claimants among us.
//!
//! A change is kept per name, as who owned the name when it was last told: whatever happens until
//! the next poll folds into one change or none. So a reader that stays away costs at most one
//! entry for each name that existed at its last poll or exists now.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Nobody reachable owns the name any more.
    Gone {
        /// The name.
        name: EndpointName,
        /// Who owned it.
        previous: NodeName,
    },
    /// Our claim of a name gave way to an older one. It stands by from now on. Told once per loss.
    Lost {
        /// The name.
        name: EndpointName,
        /// Who owns it.
        winner: NodeName,
    },
    /// Our claim, which stood by, owns the name now.
    Promoted {
        /// The name.
        name: EndpointName,
    },
}

/// What a claim of our own has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// We own the name.
    Owner,
    /// Another owns it; we take over when they release it or go down.
    Standby,
}

/// Names whose owner may differ from what was told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Who owned the name when it was last told; always another than now.
    told: BTreeMap<EndpointName, Option<NodeName>>,
    /// Names that we gained or lost.
    ours: BTreeSet<EndpointName>,
}

impl Changes {
    /// Notes that a name went from `before` to `after`.
    pub(super) fn note(
        &mut self,
        name: &EndpointName,
        before: Option<&NodeName>,
        after: Option<&NodeName>,
    ) {
        match self.told.get(name) {
            None => {
                self.told.insert(name.clone(), before.cloned());
            }
            Some(told) if told.as_ref() == after => {
                self.told.remove(name);
            }
            Some(_) => {}
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

    pub(super) fn pop_told(&mut self) -> Option<(EndpointName, Option<NodeName>)> {
        self.told.pop_first()
    }

    pub(super) fn told(&self) -> impl Iterator<Item = (&EndpointName, Option<&NodeName>)> {
        self.told.iter().map(|(name, told)| (name, told.as_ref()))
    }

    pub(super) fn len(&self) -> usize {
        self.told.len() + self.ours.len()
    }
}

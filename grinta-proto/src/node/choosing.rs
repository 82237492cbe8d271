//! Which of several nodes that share a name a dial goes to.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;

use crate::name::{EndpointName, NodeName};
use crate::node::Node;
use crate::node::control::Holder;
use crate::node::dial::{Choice, DialId};

/// Who was dialled last of those that share a name, for dials that take turns.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeMap<EndpointName, NodeName>);

impl Node {
    /// Whom a dial of a shared name goes to next. `None` if the name is not shared, or all who
    /// share it were tried.
    pub(super) fn choose(&mut self, dial: DialId) -> Option<Holder> {
        let request = &self.dials.get(&dial)?.request;
        let (name, choice) = (request.open.endpoint.clone(), request.choice);
        let mut holders = self.untried(dial);
        if holders.iter().any(|holder| !is_suspect(holder)) {
            holders.retain(|holder| !is_suspect(holder));
        }
        if holders.is_empty() {
            return None;
        }
        let index = match choice {
            Choice::Owner => 0,
            Choice::Random => self.rng.random_range(0..holders.len()),
            Choice::RoundRobin => {
                holders.sort_by(|a, b| self.holder_name(a).cmp(self.holder_name(b)));
                let last = self.turns.0.get(&name);
                let next = holders
                    .iter()
                    .position(|holder| last.is_none_or(|last| self.holder_name(holder) > last));
                next.unwrap_or(0)
            }
            Choice::Nearest => {
                let nearest =
                    (0..holders.len()).min_by_key(|&index| self.distance(&holders[index]));
                nearest.unwrap_or(0)
            }
        };
        let chosen = holders.swap_remove(index);
        if choice == Choice::RoundRobin {
            let chosen = self.holder_name(&chosen).clone();
            self.turns.take(name, chosen);
        }
        Some(chosen)
    }

    /// Whether a dial of a shared name has another node to go to, `failed` aside.
    pub(super) fn has_another(&self, dial: DialId, failed: &NodeName) -> bool {
        let mut untried = self.untried(dial).into_iter();
        untried.any(|holder| self.holder_name(&holder) != failed)
    }

    fn untried(&self, dial: DialId) -> Vec<Holder> {
        let Some(dial) = self.dials.get(&dial) else {
            return Vec::new();
        };
        let mut holders = self.control.holders(&dial.request.open.endpoint);
        if holders.len() > 1 {
            holders.retain(|holder| !dial.has_tried(self.holder_name(holder)));
        } else {
            holders.clear();
        }
        holders
    }

    pub(super) fn holder_name<'a>(&'a self, holder: &'a Holder) -> &'a NodeName {
        match holder {
            Holder::Local => &self.config.node,
            Holder::Remote { node, .. } => node,
        }
    }

    /// How far a holder is: for [`Choice::Nearest`], to be compared only.
    fn distance(&self, holder: &Holder) -> Duration {
        match holder {
            Holder::Local => Duration::ZERO,
            Holder::Remote { node, .. } => {
                let peer = self
                    .connections
                    .up(node)
                    .and_then(|key| self.connections.get(key));
                peer.map_or(Duration::MAX, |peer| peer.round_trip_time())
            }
        }
    }
}

impl Turns {
    fn take(&mut self, name: EndpointName, chosen: NodeName) {
        if self.0.len() >= TURNS_MAX && !self.0.contains_key(&name) {
            self.0.pop_first();
        }
        self.0.insert(name, chosen);
    }
}

fn is_suspect(holder: &Holder) -> bool {
    matches!(holder, Holder::Remote { suspect: true, .. })
}

/// Names whose turns are kept: one that is forgotten begins anew.
const TURNS_MAX: usize = 4096;

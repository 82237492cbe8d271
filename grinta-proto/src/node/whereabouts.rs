//! Where names were sought last, and where nodes are by now, for when the holder of a name restarts.
//!
//! A node that restarts voids all claims of its earlier run at once, while those of its new run take
//! some gossip to arrive. A dial in between asks the node itself whether it holds the name again,
//! which costs the round trip of the dial's first frame and nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::name::{EndpointName, NodeName, Session};
use crate::node::dial::{DialCause, DialId};
use crate::node::event::{FlowLoss, Member};
use crate::node::peer::PeerKey;
use crate::node::{Node, Phase};
use crate::wire::code::Code;

/// Whom dials asked for names last, and in which of its runs. Of those that were not asked for
/// lately some are forgotten.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    recent: BTreeMap<EndpointName, (NodeName, Session)>,
    /// What was recent until there was too much of it.
    older: BTreeMap<EndpointName, (NodeName, Session)>,
}

impl Node {
    /// The node that held a dial's name, if it has restarted since and the dial has not had its
    /// answer; and where it is now.
    pub(super) fn restarted_holder(&self, dial: DialId) -> Option<(NodeName, SocketAddr)> {
        if self.phase != Phase::Running {
            return None;
        }
        let dial = self.dials.get(&dial)?;
        let (node, session) = self.whereabouts.find(&dial.request.open.endpoint)?;
        let has_answered = dial.attempts.iter().any(|attempt| {
            attempt.node == *node && matches!(attempt.cause, DialCause::Refused { .. })
        });
        let member = self.control.member(node)?;
        // Its names may come to be void before it is heard to be up again.
        let named = self.control.directory().head(node).session;
        let is_later = member.session.max(named) > session;
        let is_back = member.state.is_active() && is_later && !has_answered;
        is_back.then_some((member.name, member.address))
    }

    /// Whether gossip knows of a later run of a node, elsewhere, than a connection leads to. What
    /// gossip says is verified by a connection to that one, and closes none before.
    pub(super) fn is_outdated(&self, node: &NodeName, key: PeerKey) -> bool {
        let member = self.control.member(node);
        member.is_some_and(|it| {
            self.connections
                .is_outdated(node, key, it.session, it.address)
        })
    }

    /// Gossip tells where a member is. Dials that have asked an earlier run of it, or try to connect
    /// to where that was, turn to this one: nobody may be left to answer them.
    pub(super) fn handle_whereabouts(&mut self, now: Instant, member: &Member) {
        let node = &member.name;
        for id in self.dials_connecting_to(node) {
            self.drive_dial(now, id);
        }
        let Some(key) = self.connections.up(node) else {
            return;
        };
        if !self.is_outdated(node, key) {
            return;
        }
        for id in self.opening.remove(node).unwrap_or_default() {
            self.drive_dial(now, id);
        }
        for (id, flow) in self.dials_asking_over(key) {
            if let Some(peer) = self.connections.touch(key) {
                peer.abort(flow.stream, Code::Cancelled);
            }
            let cause = DialCause::Broken {
                node: node.clone(),
                loss: FlowLoss::Restarted,
            };
            self.retry_dial(now, id, cause);
        }
    }
}

impl Whereabouts {
    pub(super) fn note(&mut self, name: &EndpointName, node: &NodeName, session: Session) {
        if let Some((known, latest)) = self.recent.get_mut(name) {
            if known != node {
                *known = node.clone();
            }
            *latest = session;
            return;
        }
        if self.recent.len() >= RECENT_MAX {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(name.clone(), (node.clone(), session));
    }

    /// The name as it is kept.
    pub(super) fn known(&self, name: &EndpointName) -> Option<&EndpointName> {
        let (known, _) = self.recent.get_key_value(name)?;
        Some(known)
    }

    fn find(&self, name: &EndpointName) -> Option<(&NodeName, Session)> {
        let found = self.recent.get(name).or_else(|| self.older.get(name))?;
        Some((&found.0, found.1))
    }
}

/// Names that are remembered at least: more than a program dials at a time, in half a megabyte.
const RECENT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_names_are_remembered_and_the_number_is_bounded() {
        let mut whereabouts = Whereabouts::default();
        let name = |number: usize| EndpointName::new(number.to_string()).unwrap();
        let node: NodeName = "node".parse().unwrap();
        for number in 0..3 * RECENT_MAX {
            whereabouts.note(&name(number), &node, Session(1));
            let oldest = (number + 1).saturating_sub(RECENT_MAX);
            assert!(whereabouts.find(&name(oldest)).is_some());
        }
        assert!(whereabouts.find(&name(0)).is_none());
        assert!(whereabouts.recent.len() + whereabouts.older.len() <= 2 * RECENT_MAX);
        whereabouts.note(&name(7), &node, Session(2));
        assert_eq!(whereabouts.find(&name(7)), Some((&node, Session(2))));
    }
}

//! What tests look at in a [`World`].

use super::*;
use crate::node::event::{MemberEvent, MemberState};

impl World {
    /// Every node sees every other one as `Alive`, and nobody else.
    pub(in super::super) fn is_whole(&self) -> bool {
        let others = self.nodes.len().saturating_sub(1);
        let mut nodes = self.nodes.values();
        nodes.all(|node| node.control.members.active_count() == others)
            && self.nodes.keys().all(|&index| self.sees_all(index))
    }

    fn sees_all(&self, index: usize) -> bool {
        let alive = self
            .node(index)
            .control
            .members()
            .filter(|member| member.state == MemberState::Alive);
        let mut seen: Vec<_> = alive
            .map(|member| (index_of(&member.name), member.session))
            .collect();
        seen.sort_unstable();
        let others = self.nodes.iter().filter(|(other, _)| **other != index);
        let others = others.map(|(other, node)| (*other, node.control.session()));
        others.eq(seen)
    }

    /// The events of a node about members, as short words.
    pub(in super::super) fn story(&self, index: usize, about: usize) -> Vec<&'static str> {
        let about = name(about);
        self.member_events(index)
            .filter(|(_, _, member)| member.name == about)
            .map(|(_, word, _)| word)
            .collect()
    }

    /// The events of a node about members: when, what as a short word, and about whom.
    pub(in super::super) fn member_events(
        &self,
        index: usize,
    ) -> impl Iterator<Item = (Instant, &'static str, &Member)> {
        let events = self.node(index).events.iter();
        events.filter_map(|(time, event)| {
            let ControlEvent::Member(event) = event else {
                return None;
            };
            let (word, member) = match event {
                MemberEvent::Up(member) => ("up", member),
                MemberEvent::Suspected(member) => ("suspected", member),
                MemberEvent::Refuted(member) => ("refuted", member),
                MemberEvent::Updated(member) => ("updated", member),
                MemberEvent::Down(member) => ("down", member),
                MemberEvent::Left(member) => ("left", member),
            };
            Some((*time, word, member))
        })
    }

    /// Drops what the nodes told their programs.
    pub(in super::super) fn forget_events(&mut self) {
        for node in self.nodes.values_mut() {
            node.events = Vec::new();
        }
    }

    /// Asserts what holds at any moment: the events of each node fold to its members.
    pub(in super::super) fn check(&self) {
        for (&index, node) in &self.nodes {
            let mut folded = BTreeMap::new();
            for (_, _, member) in self.member_events(index) {
                folded.insert(&member.name, member.clone());
            }
            let listed: Vec<_> = node.control.members().collect();
            assert_eq!(folded.into_values().collect::<Vec<_>>(), listed);
            node.control.directory().check_invariants();
        }
    }
}

impl Node {
    pub(in super::super) fn lost(&self) -> Vec<&ControlEvent> {
        let events = self.events.iter().map(|(_, event)| event);
        events
            .filter(|event| matches!(event, ControlEvent::NameLost { .. }))
            .collect()
    }

    pub(in super::super) fn has(&self, wanted: &ControlEvent) -> bool {
        self.events.iter().any(|(_, event)| event == wanted)
    }
}

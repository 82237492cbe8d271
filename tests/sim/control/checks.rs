//! Whether what all nodes hold is the case, looked at from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grinta_proto::node::control::Control;
use grinta_proto::node::control::directory::Standing;
use grinta_proto::wire::claims::{OwnerDelta, OwnerHead, Version};
use grinta_proto::wire::control::{ControlMessage, SwimKind};
use grinta_proto::{EndpointName, MemberState, NodeName};

use super::{Node, World, index};
use crate::claims;
use crate::marks::sometimes;
use crate::oracle::{self, Finding, HEAL_BOUND, crash_bound, gist, node_of, word};
use crate::plan::NodeId;
use crate::verdict::Invariant;

impl World<'_> {
    /// What holds at any moment.
    pub(super) fn check_now(&mut self) {
        if self.plan.nodes > NODES_LOOKED_AT_CLOSELY {
            return;
        }
        let mut finding = None;
        // Only if who owns what may have changed.
        let own_sets = self.is_changed().then(|| self.own_sets());
        for id in self.plan.node_ids() {
            let Some(control) = &self.nodes[index(id)].control else {
                continue;
            };
            let found = self
                .check_fold(id, control)
                .and_then(|()| check_owners(control))
                .and_then(|()| match &own_sets {
                    Some(own_sets) => check_claims(control, own_sets),
                    None => Ok(()),
                });
            sometimes!(
                control.session() > self.nodes[index(id)].session,
                SessionRaised
            );
            finding =
                finding.or_else(|| found.err().map(|(invariant, what)| (invariant, id, what)));
        }
        if let Some((invariant, id, what)) = finding {
            self.fail(invariant, format!("at {id}: {what}"));
        }
        if own_sets.is_some() {
            for id in self.plan.node_ids() {
                self.look_at_replica(id);
            }
        }
    }

    /// Whether who owns what may have changed anywhere since this was asked last.
    fn is_changed(&mut self) -> bool {
        let nodes = self.nodes.iter();
        let hashes = nodes.map(|node| Some(node.control.as_ref()?.directory().hash()));
        let state = (self.oracle.member_events, hashes.collect());
        let is_changed = state != self.oracle.seen;
        self.oracle.seen = state;
        is_changed
    }

    /// What a node holds is within its bounds, after each thing that it does.
    pub(super) fn check_bounds(&mut self, id: NodeId) {
        let Some(control) = &self.nodes[index(id)].control else {
            return;
        };
        let (directory, limits) = (control.directory(), &self.limits);
        let bounds = [
            ("names", directory.names_held(), limits.names_max),
            ("releases", directory.releases_kept(), limits.names_max),
            (
                "changes to tell",
                directory.changes_pending(),
                limits.names_max,
            ),
        ];
        let broken = bounds.into_iter().find(|(_, used, limit)| used > limit);
        if let Some((what, used, limit)) = broken {
            let what = format!("{id} holds {used} {what}, and {limit} are allowed");
            self.fail(Invariant::R1, what);
        }
    }

    /// What each node that runs has said of its names.
    fn own_sets(&self) -> BTreeMap<NodeName, OwnerDelta> {
        let running = self.nodes.iter().filter_map(|node| node.control.as_ref());
        let sets = running.filter_map(|control| claims::own_set(control.directory()));
        sets.map(|set| (set.owner.clone(), set)).collect()
    }

    /// What holds of a node's replica of the directory after each message.
    pub(super) fn look_at_replica(&mut self, id: NodeId) {
        let Some(control) = &self.nodes[index(id)].control else {
            return;
        };
        if self.plan.nodes > NODES_LOOKED_AT_CLOSELY {
            return;
        }
        let found = self.check_replica(id, control);
        let heads = control.directory().heads();
        let heads = heads.map(|head| (head.owner.clone(), head)).collect();
        let view = &mut self.oracle.views[index(id)];
        view.heads = heads;
        view.returned.clear();
        if let Err((invariant, what)) = found {
            self.fail(invariant, format!("at {id}: {what}"));
        }
    }

    /// The events so far fold to the list of members.
    fn check_fold(&self, id: NodeId, control: &Control) -> Result<(), Finding> {
        let told = self.oracle.views[index(id)].members.values();
        let told: Vec<_> = told.map(gist).collect();
        let listed: Vec<_> = control.members().map(|member| gist(&member)).collect();
        if told == listed {
            return Ok(());
        }
        Err((Invariant::M5, format!("told {told:?}, lists {listed:?}")))
    }

    /// A replica never goes back, nor beyond its owner.
    fn check_replica(&self, id: NodeId, control: &Control) -> Result<(), Finding> {
        if control.directory().changes_pending() > 0 {
            return Err((Invariant::D10, "a change of names waits unheard".to_owned()));
        }
        control.directory().check_invariants();
        let view = &self.oracle.views[index(id)];
        for head in control.directory().heads() {
            let before = view.heads.get(&head.owner);
            let before = before.filter(|head| !view.returned.contains(&head.owner));
            if before.is_some_and(|before| {
                let rank = |head: &OwnerHead| (head.session, head.floor);
                rank(before) > rank(&head)
                    || (rank(before) == rank(&head) && before.version > head.version)
            }) {
                let what = format!("goes back from {before:?} to {head:?}");
                return Err((Invariant::D9, what));
            }
            let owner = &self.nodes[index(node_of(&head.owner))];
            let Some(owner) = &owner.control else {
                continue;
            };
            let own = owner.directory().head(&head.owner);
            if own.session == head.session && head.version > own.version {
                return Err((Invariant::D9, format!("{head:?} is beyond {own:?}")));
            }
        }
        Ok(())
    }

    /// Whoever ran throughout holds a crashed node down, if nothing else went wrong.
    pub(super) fn check_crash(&mut self, id: NodeId, run: u64, since: Duration) {
        let crashed = &self.nodes[index(id)];
        if crashed.runs != run || crashed.control.is_some() {
            return;
        }
        if !self
            .oracle
            .is_calm_since(Some(since.saturating_sub(HEAL_BOUND)))
        {
            return;
        }
        let name = crashed.name.clone();
        let late = self.plan.node_ids().find(|&other| {
            let node = &self.nodes[index(other)];
            let is_meant = node.takes_part() && self.oracle.has_run_since(other, since);
            let control = node.control.as_ref().filter(|_| is_meant);
            let seen = control.and_then(|control| control.member(&name));
            seen.is_some_and(|member| member.state.is_active())
        });
        if let Some(late) = late {
            let bound = crash_bound(self.plan.nodes);
            let what = format!("{late} holds {name} alive {bound:?} after its crash");
            self.fail(Invariant::M3, what);
        }
    }

    /// After a heal: all agree on members and names.
    pub(super) fn check_whole(&mut self) {
        if let Err((invariant, what)) = self.check_members().and_then(|()| self.check_names()) {
            self.fail(invariant, what);
        }
    }

    /// After the healing of the core: its nodes agree on each other and on the names that are theirs
    /// alone, whatever is wrong elsewhere.
    pub(super) fn check_core(&mut self) {
        let found = self.check_members_of_core();
        let found = found.and_then(|()| self.check_names_of_core());
        if let Err((invariant, what)) = found {
            self.fail(invariant, what);
        }
    }

    fn check_members_of_core(&self) -> Result<(), Finding> {
        for &id in &self.plan.core {
            let control = self.nodes[index(id)].control.as_ref();
            let control = control.ok_or_else(|| (Invariant::M4, format!("{id} does not run")))?;
            let members = control
                .members()
                .map(|member| (node_of(&member.name), member.state));
            oracle::check_core(&self.plan.core, id, &members.collect())?;
            let long_gone = self.nodes.iter().filter(|node| self.is_long_gone(node));
            for node in long_gone {
                let seen = control.member(&node.name);
                if seen.is_some_and(|member| member.state.is_active()) {
                    let what = format!("{id} holds {} alive long after its crash", node.name);
                    return Err((Invariant::M3, what));
                }
            }
        }
        Ok(())
    }

    /// Whether a node has not run for so long, with the core healed, that all there know.
    fn is_long_gone(&self, node: &Node) -> bool {
        let bound = crash_bound(self.plan.nodes) + HEAL_BOUND;
        let healed_at = self.core_healed_at.unwrap_or(self.now);
        let gone_at = node.ended_at.map(|ended| ended.max(healed_at));
        node.control.is_none() && gone_at.is_some_and(|gone| self.now >= gone + bound)
    }

    fn check_names_of_core(&self) -> Result<(), Finding> {
        let of_core = || {
            let ids = self.plan.core.iter();
            ids.filter_map(|&id| Some((id, self.nodes[index(id)].control.as_ref()?)))
        };
        for &owner in &self.plan.core {
            let name = &self.nodes[index(owner)].name;
            // In which run an owner is that has said nothing is nobody's business.
            let said = |head: &OwnerHead| head.version.max(head.floor) > Version(0);
            let head = |control: &Control| Some(control.directory().head(name)).filter(said);
            let mut heads = of_core().map(|(id, control)| (id, head(control)));
            if let Some((first, head)) = heads.next()
                && let Some((other, _)) = heads.find(|(_, other)| *other != head)
            {
                let what = format!("{first} and {other} know other names of {owner}");
                return Err((Invariant::D1, what));
            }
        }
        for name in self.oracle.names_of_core(&self.plan.core) {
            let holds = |control: &Control| control.directory().held().any(|held| held == name);
            let holders = of_core().filter(|(_, control)| holds(control));
            let holders: BTreeSet<_> = holders.map(|(id, _)| id).collect();
            let holders = Some(&holders).filter(|holders| !holders.is_empty());
            let found = of_core().map(|(id, control)| (id, control.resolve(name)));
            oracle::check_owner(name, holders, found)?;
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), Finding> {
        let there: BTreeSet<_> = self.plan.node_ids().collect();
        for id in self.plan.node_ids() {
            let Some(control) = &self.nodes[index(id)].control else {
                return Err((Invariant::M4, format!("{id} does not run")));
            };
            let mut seen = BTreeSet::from([id]);
            for member in control.members() {
                let about = node_of(&member.name);
                match member.state {
                    MemberState::Alive => seen.insert(about),
                    MemberState::Suspect => {
                        let what = format!("{id} suspects {about} after the heal");
                        return Err((Invariant::M4, what));
                    }
                    MemberState::Down { .. } | MemberState::Left { .. } => {
                        let what =
                            format!("{id} holds {about} {} after the heal", word(member.state));
                        return Err((Invariant::M2, what));
                    }
                };
            }
            if let Some(missing) = there.difference(&seen).next() {
                return Err((Invariant::M4, format!("{id} does not know {missing}")));
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), Finding> {
        let controls = || {
            let nodes = self.nodes.iter();
            nodes.filter_map(|node| Some((&node.name, node.control.as_ref()?)))
        };
        let mut hashes = controls().map(|(name, control)| (name, control.directory().hash()));
        if let Some((first, hash)) = hashes.next()
            && let Some((other, _)) = hashes.find(|(_, other)| *other != hash)
        {
            let what = format!("the replicas of {first} and {other} differ");
            return Err((Invariant::D1, what));
        }
        self.check_losers()?;
        let mut holders: BTreeMap<EndpointName, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, control) in controls() {
            for name in control.directory().held() {
                holders
                    .entry(name.clone())
                    .or_default()
                    .insert(node_of(node));
            }
        }
        for name in self.oracle.claimants.keys() {
            let found = controls().map(|(node, control)| (node_of(node), control.resolve(name)));
            oracle::check_owner(name, holders.get(name), found)?;
        }
        Ok(())
    }

    /// Whoever claimed a name knows whether it is its own.
    fn check_losers(&self) -> Result<(), Finding> {
        for node in &self.nodes {
            let Some(control) = &node.control else {
                continue;
            };
            for name in control.directory().held() {
                let stands_by = control.directory().standing(name) == Some(Standing::Standby);
                if stands_by != node.knows_better.contains(name) {
                    let what = format!("{} was not told what its claim of {name} is", node.name);
                    return Err((Invariant::D4, what));
                }
            }
        }
        Ok(())
    }

    /// Who tells another that it is down must hold it down.
    pub(super) fn check_undead(
        &self,
        from: NodeId,
        to: NodeId,
        message: &ControlMessage,
    ) -> Result<(), String> {
        if let ControlMessage::Swim(packet) = message
            && packet.header.kind == SwimKind::TurnUndead
            && let Some(control) = &self.nodes[index(from)].control
            && let Some(member) = control.member(&self.nodes[index(to)].name)
            && member.state.is_active()
        {
            return Err(format!(
                "{from} tells {to} that it is down, and holds it active"
            ));
        }
        Ok(())
    }
}

/// Who owns which name follows from the claims, and the claims are their owners'.
fn check_claims(
    control: &Control,
    own_sets: &BTreeMap<NodeName, OwnerDelta>,
) -> Result<(), Finding> {
    let directory = control.directory();
    let sets = claims::sets(directory);
    let is_reachable = |node: &NodeName| {
        let member = control.member(node);
        node == directory.local() || member.is_some_and(|member| member.state.is_active())
    };
    claims::check_owners(directory, &sets, is_reachable)?;
    for (owner, set) in &sets {
        if let Some(own) = own_sets.get(owner) {
            claims::check_prefix(set, own)?;
        }
    }
    Ok(())
}

/// Those who are down own nothing.
fn check_owners(control: &Control) -> Result<(), Finding> {
    let page = control.directory().scan("", None, usize::MAX);
    for listing in page.listings {
        let Some(member) = control.member(&listing.owner) else {
            continue;
        };
        if !member.state.is_active() {
            let state = word(member.state);
            let what = format!("{} is {}'s, who is {state}", listing.name, listing.owner);
            return Err((Invariant::D8, what));
        }
    }
    Ok(())
}

/// In larger fabrics only what is cheap is looked at on the way.
const NODES_LOOKED_AT_CLOSELY: u32 = 50;

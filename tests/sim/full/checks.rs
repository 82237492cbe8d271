//! Whether what the nodes show is the case, looked at through their public handles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grinta_proto::{Counters, EndpointName, Fabric, MemberState, Resolution, Snapshot};

use super::errors::ErrorWatch;
use super::ledger::{Judged, Run, Situation};
use super::{Stage, first_place};
use crate::host::TURN_DURATION;
use crate::io::{levels, over_limit};
use crate::marks::sometimes;
use crate::oracle::{self, Finding, HEAL_BOUND, crash_bound, gist, name_of, node_of, word};
use crate::plan::{Action, Fault, HostFault, NodeId};
use crate::simulation::Simulation;
use crate::verdict::Invariant;

impl Stage {
    /// What holds at any moment.
    pub(super) fn check_now(&self) {
        let is_calm = self.oracle.borrow().is_calm(self.now());
        self.found(self.check_flows(|ledger, situation| ledger.check(situation), is_calm));
        for id in self.plan.node_ids() {
            let Some(fabric) = self.fabric(id) else {
                continue;
            };
            let snapshot = fabric.snapshot();
            note_counters(&snapshot.counters);
            let found = check_limits(&snapshot).and_then(|()| check_owners(&fabric));
            self.found(found.map_err(|(invariant, what)| (invariant, format!("at {id}: {what}"))));
        }
        if let Some(what) = self.hosts[0].world.over_limit() {
            self.fail(Invariant::R1, what);
        }
        if let Some(address) = self.hosts[0].world.restless() {
            let what = format!("{address} sets its timer to the present, again and again");
            self.fail(Invariant::R2, what);
        }
    }

    fn check_flows(
        &self,
        check: impl FnOnce(&super::Ledger, &Situation<'_>) -> Result<(), Finding>,
        is_calm: bool,
    ) -> Result<(), Finding> {
        let ended = self.ended.borrow();
        let nodes = self.nodes.borrow();
        let awake_since = |(id, number): Run| {
            let node = &nodes[id.index()];
            let is_awake = node.runs == number && node.is_running && !node.is_frozen;
            is_awake.then_some(node.awake_since)
        };
        let ended_at = |run: Run| ended.get(&run).copied();
        let situation = Situation {
            now: self.now(),
            awake_since: &awake_since,
            ended_at: &ended_at,
            latency: self.latency(),
            turns: self.turns(),
            is_calm,
            judged: match self.core_healed_at.get() {
                None => Judged::All,
                Some(_) => Judged::Core(&self.plan.core),
            },
        };
        check(&self.ledger.borrow(), &situation)
    }

    /// How long what was sent may be under way in the worst weather of the plan.
    fn latency(&self) -> Duration {
        let of_step = |action: &Action| match action {
            Action::Operate(_) => Duration::ZERO,
            Action::Disturb { fault, lasts } => {
                let lasts = lasts.unwrap_or_else(|| self.plan.chaos_end());
                fault.latency(self.plan.link.latency + self.plan.link.spread, lasts)
            }
        };
        // A connection waits three probe time-outs of several round trips.
        self.plan
            .steps
            .iter()
            .map(|step| 10 * of_step(&step.action))
            .sum()
    }

    /// How long a task may wait for its turn at the slowest host of the plan.
    fn turns(&self) -> Duration {
        let slowness = self.plan.steps.iter().map(|step| match &step.action {
            Action::Disturb {
                fault: Fault::Host(_, HostFault::Slow(times)),
                ..
            } => *times,
            Action::Disturb { .. } | Action::Operate(_) => 0,
        });
        TURN_DURATION * slowness.max().unwrap_or(0) * TURNS_AHEAD
    }

    /// Whoever ran throughout holds a crashed node down, if nothing else went wrong.
    pub(super) fn check_crash(&self, run: Run, since: Duration) {
        let (id, number) = run;
        let is_back = self.with_node(id, |node| node.runs != number);
        let before = since.saturating_sub(HEAL_BOUND);
        if is_back || !self.oracle.borrow().is_calm_since(Some(before)) {
            return;
        }
        let name = name_of(id);
        for other in self.plan.node_ids() {
            let ran_throughout = self.oracle.borrow().has_run_since(other, since);
            let Some((_, fabric)) = self.at_work(other).filter(|_| ran_throughout) else {
                continue;
            };
            let seen = fabric
                .members()
                .into_iter()
                .find(|member| member.name == name);
            if seen.is_some_and(|member| member.state.is_active()) {
                let bound = crash_bound(self.plan.nodes);
                let what = format!("{other} holds {id} alive {bound:?} after its crash");
                self.fail(Invariant::M3, what);
            }
        }
    }

    /// After a heal: all agree on members and names.
    pub(super) fn check_whole(&self) {
        self.found(self.check_members().and_then(|()| self.check_names()));
    }

    /// After the healing of the core: its nodes agree on each other and on the names that are theirs
    /// alone, whatever is wrong elsewhere.
    pub(super) fn check_core(&self) {
        self.found(
            self.check_members_of_core()
                .and_then(|()| self.check_names_of_core()),
        );
    }

    fn check_members_of_core(&self) -> Result<(), Finding> {
        for &id in &self.plan.core {
            let fabric = self.fabric(id);
            let fabric = fabric.ok_or_else(|| (Invariant::M4, format!("{id} does not run")))?;
            let members = fabric.members();
            let seen = members
                .iter()
                .map(|member| (node_of(&member.name), member.state));
            oracle::check_core(&self.plan.core, id, &seen.collect())?;
            for member in members.iter().filter(|member| member.state.is_active()) {
                if self.is_long_gone(node_of(&member.name)) {
                    let what = format!("{id} holds {} alive long after its end", member.name);
                    return Err((Invariant::M3, what));
                }
            }
        }
        Ok(())
    }

    /// Whether a node has not run for so long, with the core healed, that all there know.
    fn is_long_gone(&self, id: NodeId) -> bool {
        let bound = crash_bound(self.plan.nodes) + HEAL_BOUND;
        let healed_at = self.core_healed_at.get().unwrap_or_else(|| self.now());
        let (is_running, run) = self.with_node(id, |node| (node.is_running, (id, node.runs)));
        let ended_at = self.ended.borrow().get(&run).copied();
        let gone_at = ended_at.map(|ended| ended.max(healed_at));
        !is_running && gone_at.is_some_and(|gone| self.now() >= gone + bound)
    }

    fn check_names_of_core(&self) -> Result<(), Finding> {
        let core = &self.plan.core;
        let oracle = self.oracle.borrow();
        for name in oracle.names_of_core(core) {
            let serves = |id: &NodeId| self.with_node(*id, |node| node.serves.contains_key(name));
            let holders: BTreeSet<_> = core.iter().copied().filter(serves).collect();
            let holders = Some(&holders).filter(|holders| !holders.is_empty());
            let found = core.iter().filter_map(|&id| {
                let resolved = self.fabric(id)?.resolve(name.as_str());
                Some((id, resolved.expect("a plan's names are names")))
            });
            oracle::check_owner(name, holders, found)?;
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), Finding> {
        for id in self.plan.node_ids() {
            let Some(fabric) = self.fabric(id) else {
                return Err((Invariant::M4, format!("{id} does not run")));
            };
            let mut seen = BTreeSet::new();
            for member in fabric.members() {
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
            let there: BTreeSet<_> = self.plan.node_ids().collect();
            if let Some(missing) = there.difference(&seen).next() {
                return Err((Invariant::M4, format!("{id} does not know {missing}")));
            }
            self.check_fold(id, &fabric)?;
        }
        Ok(())
    }

    /// The events so far fold to the list of members.
    fn check_fold(&self, id: NodeId, fabric: &Fabric) -> Result<(), Finding> {
        let oracle = self.oracle.borrow();
        let told: Vec<_> = oracle.views[id.index()]
            .members
            .values()
            .map(gist)
            .collect();
        let members = fabric.members();
        let others = members.iter().filter(|member| member.name != name_of(id));
        let listed: Vec<_> = others.map(gist).collect();
        if told == listed {
            return Ok(());
        }
        Err((
            Invariant::M5,
            format!("{id} was told {told:?}, and lists {listed:?}"),
        ))
    }

    fn check_names(&self) -> Result<(), Finding> {
        let mut holders: BTreeMap<EndpointName, BTreeSet<NodeId>> = BTreeMap::new();
        for (id, node) in self.plan.node_ids().zip(self.nodes.borrow().iter()) {
            for name in node.serves.keys() {
                holders.entry(name.clone()).or_default().insert(id);
            }
        }
        self.check_losers()?;
        let claimed: Vec<_> = self.oracle.borrow().claimants.keys().cloned().collect();
        for name in claimed {
            let found = self.plan.node_ids().filter_map(|id| {
                let resolved = self.fabric(id)?.resolve(name.as_str());
                Some((id, resolved.expect("a plan's names are names")))
            });
            oracle::check_owner(&name, holders.get(&name), found)?;
        }
        Ok(())
    }

    /// Whoever serves a name that another node owns was told.
    fn check_losers(&self) -> Result<(), Finding> {
        for (id, node) in self.plan.node_ids().zip(self.nodes.borrow().iter()) {
            let Some(fabric) = &node.fabric else {
                continue;
            };
            for (name, service) in &node.serves {
                let resolved = fabric.resolve(name.as_str());
                let resolved = resolved.expect("a plan's names are names");
                if let Resolution::Remote { owner, .. } = resolved
                    && !service.knows_better.get()
                {
                    let what = format!("{id} was not told that {name} is {owner}'s");
                    return Err((Invariant::D4, what));
                }
            }
        }
        Ok(())
    }

    /// All flows that anybody is done with are over.
    pub(super) fn check_settled(&self) {
        self.found(self.check_flows(|ledger, situation| ledger.check_settled(situation), true));
    }

    /// Who does nothing sends little.
    pub(super) fn check_idle(&self, duration: Duration) {
        // Where somebody was at first the others look for it for ever.
        let is_elsewhere = |(id, node): (NodeId, &super::Node)| node.address != first_place(id);
        let nodes = self.nodes.borrow();
        let mut all = self.plan.node_ids().zip(nodes.iter());
        if self.ledger.borrow().open_flows() > 0 || all.any(is_elsewhere) {
            return;
        }
        let others = u64::from(self.plan.nodes) - 1;
        let budget = IDLE_BYTES + others * IDLE_BYTES_PER_PEER;
        for (host, before) in self.hosts.iter().zip(self.sent_before_calm.borrow().iter()) {
            let sent = (host.bytes_sent() - before) / duration.as_secs().max(1);
            if sent > budget {
                let what = format!(
                    "{} sends {sent} B/s among {others} others, and nothing happens; {budget} are expected",
                    host.name()
                );
                self.fail(Invariant::R6, what);
            }
        }
    }

    /// Nothing is left after the shutdown.
    pub(super) fn check_over(&self, simulation: &Simulation) {
        let left = |what: String| self.fail(Invariant::R3, what);
        for id in self.plan.node_ids() {
            if self.fabric(id).is_some() {
                left(format!("{id} has not shut down"));
            }
        }
        if simulation.sockets() > 0 {
            left(format!("{} sockets are bound", simulation.sockets()));
        }
        if simulation.tasks() > 0 {
            let tasks = simulation.task_names().join(", ");
            left(format!("these tasks have not ended: {tasks}"));
        }
    }

    /// What each node is and holds, a line for each.
    pub(super) fn describe_nodes(&self) -> Vec<String> {
        let describe = |id: NodeId| {
            let (runs, fabric, state) = self.with_node(id, |node| {
                let state = match node {
                    super::Node {
                        is_running: false, ..
                    } => "does not run",
                    super::Node {
                        is_frozen: true, ..
                    } => "is frozen",
                    super::Node { has_left: true, .. } => "has left",
                    super::Node { .. } => "runs",
                };
                (node.runs, node.fabric.clone(), state)
            });
            let held = fabric.map(|fabric| {
                let mut members = fabric.members();
                members.retain(|member| member.name != name_of(id));
                let names = fabric.names("").page().names.into_iter();
                let names = names.map(|listed| (listed.name, listed.owner)).collect();
                oracle::Held { members, names }
            });
            oracle::account(id, runs, state, held)
        };
        self.plan.node_ids().map(describe).collect()
    }

    /// Nothing was logged as an error.
    pub(super) fn check_log(&self, errors: &ErrorWatch) {
        if let Some(words) = errors.first() {
            self.fail(Invariant::P4, words);
        }
    }
}

/// Notes what a node has counted that is counted seldom.
fn note_counters(counters: &Counters) {
    sometimes!(counters.slow_consumers > 0, SlowConsumer);
    sometimes!(counters.connections_lost > 0, ConnectionLost);
    sometimes!(counters.connections_refused > 0, ConnectionRefused);
    sometimes!(counters.violations > 0, PeerCutOff);
    sometimes!(counters.flows_refused > 0, FlowRefused);
    sometimes!(counters.control_messages_dropped > 0, ControlDropped);
}

/// Everything that is bounded is within its bound.
fn check_limits(snapshot: &Snapshot) -> Result<(), Finding> {
    let control = snapshot
        .connections
        .iter()
        .map(|connection| ("a control queue", connection.control_queue));
    let waiting = snapshot
        .endpoints
        .iter()
        .map(|endpoint| ("an accept queue", endpoint.accept_queue));
    let local = snapshot
        .local_flows
        .iter()
        .map(|flow| ("a local queue", flow.messages));
    let whole = levels(&snapshot.usage).into_iter();
    let all = whole.chain(control).chain(waiting).chain(local);
    if let Some(what) = over_limit(all) {
        return Err((Invariant::R1, what));
    }
    // A message longer than the limit is taken alone.
    let limit = snapshot.limits.flow_send_buffer + MESSAGE_LEN_MAX;
    for flow in &snapshot.flows {
        if let Some(level) = flow.send_buffer
            && level.used > limit
        {
            let what = format!("a send buffer: {} of {}", level.used, level.limit);
            return Err((Invariant::R1, what));
        }
    }
    Ok(())
}

/// Those who are down own nothing.
fn check_owners(fabric: &Fabric) -> Result<(), Finding> {
    let active: BTreeSet<_> = fabric
        .members()
        .into_iter()
        .filter(|member| member.state.is_active() || member.name == *fabric.node())
        .map(|member| member.name)
        .collect();
    for listing in fabric.names("").page().names {
        if !active.contains(&listing.owner) {
            let what = format!("{} is {}'s, who is not there", listing.name, listing.owner);
            return Err((Invariant::D8, what));
        }
    }
    Ok(())
}

/// Turns of other tasks, and of its own, that a task may have to wait for.
const TURNS_AHEAD: u32 = 300;

/// What an idle node sends, in bytes each second: probes and push/pull.
const IDLE_BYTES: u64 = 600;

/// What it sends for each other node: packets that keep connections alive.
const IDLE_BYTES_PER_PEER: u64 = 100;

/// The longest message that a plan sends.
const MESSAGE_LEN_MAX: usize = 1 << 20;

//! What is the case, what nodes make of it, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grinta_proto::node::control::{Control, ControlEvent, Resolution};
use grinta_proto::wire::claims::OwnerHead;
use grinta_proto::wire::control::{ControlMessage, SwimKind};
use grinta_proto::{EndpointName, Member, MemberEvent, MemberState, NameEvent, NodeName, Session};

use super::{World, index};
use crate::plan::{Fault, NodeId, Plan};
use crate::verdict::Invariant;

/// Follows all events and knows the plan.
#[derive(Debug)]
pub(super) struct Oracle {
    views: Vec<View>,
    running: BTreeSet<NodeId>,
    /// The latest session of runs that ended.
    ended: BTreeMap<NodeId, Session>,
    left: BTreeMap<NodeId, Duration>,
    claimants: BTreeMap<EndpointName, BTreeSet<NodeName>>,
    /// Faults under way that excuse a false alarm, and when the last one ended.
    disruptions: u32,
    disrupted_at: Option<Duration>,
}

/// What one run of a node has told.
#[derive(Debug, Default)]
struct View {
    members: BTreeMap<NodeName, Member>,
    lost: BTreeSet<EndpointName>,
    heads: BTreeMap<NodeName, OwnerHead>,
    /// How often a timer was armed for the instant at which it was armed.
    busy: (Duration, u32),
}

type Finding = (Invariant, String);

impl Oracle {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            views: plan.node_ids().map(|_| View::default()).collect(),
            running: BTreeSet::new(),
            ended: BTreeMap::new(),
            left: BTreeMap::new(),
            claimants: BTreeMap::new(),
            disruptions: 0,
            disrupted_at: None,
        }
    }

    pub(super) fn started(&mut self, id: NodeId) {
        self.views[index(id)] = View::default();
        self.started_again(id);
    }

    /// The same run takes part again after it had left.
    pub(super) fn started_again(&mut self, id: NodeId) {
        self.running.insert(id);
        self.left.remove(&id);
    }

    pub(super) fn stopped(&mut self, id: NodeId, session: Session) {
        self.running.remove(&id);
        let ended = self.ended.entry(id).or_insert(session);
        *ended = session.max(*ended);
    }

    pub(super) fn leaves(&mut self, now: Duration, id: NodeId) {
        self.running.remove(&id);
        self.left.insert(id, now);
        self.views[index(id)].lost.clear();
    }

    pub(super) fn has_left(&self, id: NodeId) -> bool {
        self.left.contains_key(&id)
    }

    pub(super) fn claims(&mut self, id: NodeId, name: &EndpointName) {
        let claimants = self.claimants.entry(name.clone()).or_default();
        claimants.insert(name_of(id));
        self.views[index(id)].lost.remove(name);
    }

    pub(super) fn released(&mut self, id: NodeId, name: &EndpointName) {
        self.views[index(id)].lost.remove(name);
    }

    pub(super) fn fault_begins(&mut self, fault: &Fault) {
        self.disruptions += u32::from(is_disruptive(fault));
    }

    pub(super) fn fault_ends(&mut self, now: Duration, fault: &Fault) {
        if is_disruptive(fault) {
            self.disruptions -= 1;
            self.disrupted_at = Some(now);
        }
    }

    /// Whether nothing has gone wrong for so long that a false alarm has no excuse.
    fn is_calm(&self, now: Duration) -> bool {
        self.is_calm_since(now.checked_sub(HEAL_BOUND))
    }

    /// Whether nothing has gone wrong since then, or ever for `None`.
    fn is_calm_since(&self, then: Option<Duration>) -> bool {
        let ended = self.disrupted_at;
        self.disruptions == 0 && ended.is_none_or(|ended| then.is_some_and(|then| ended <= then))
    }

    /// A node's next timer is set.
    pub(super) fn armed(&mut self, now: Duration, id: NodeId, at: Duration) -> Result<(), String> {
        let (instant, times) = &mut self.views[index(id)].busy;
        if at > now || *instant != now {
            (*instant, *times) = (now, 0);
            return Ok(());
        }
        *times += 1;
        if *times > TURNS_PER_INSTANT_MAX {
            return Err(format!(
                "{id} sets its timer to the present, again and again"
            ));
        }
        Ok(())
    }

    pub(super) fn hear(
        &mut self,
        now: Duration,
        id: NodeId,
        event: &ControlEvent,
    ) -> Result<(), Finding> {
        match event {
            ControlEvent::Member(event) => self.hear_of_member(now, id, event),
            ControlEvent::NameLost { name, .. } => {
                if self.views[index(id)].lost.insert(name.clone()) {
                    return Ok(());
                }
                Err((Invariant::D4, format!("told twice that {name} is lost")))
            }
            ControlEvent::NamePromoted { name } => {
                self.views[index(id)].lost.remove(name);
                self.check_claimant(name, &name_of(id))
            }
            ControlEvent::Name(
                NameEvent::Appeared { name, owner } | NameEvent::Moved { name, owner, .. },
            ) => self.check_claimant(name, owner),
            ControlEvent::IdentityConflict { .. } | ControlEvent::Displaced => {
                // A node that is held down again and again takes it for another with its name.
                if !self.is_calm_since(now.checked_sub(RENEWAL_WINDOW)) {
                    return Ok(());
                }
                let what = "told that another node has its name, and none has";
                Err((Invariant::P3, what.to_owned()))
            }
            ControlEvent::Synced
            | ControlEvent::Left
            | ControlEvent::NameRenewed { .. }
            | ControlEvent::Name(_)
            | ControlEvent::Queried { .. }
            | ControlEvent::Confirmed { .. } => Ok(()),
            _ => Ok(()),
        }
    }

    fn check_claimant(&self, name: &EndpointName, owner: &NodeName) -> Result<(), Finding> {
        let claimants = self.claimants.get(name);
        if claimants.is_some_and(|claimants| claimants.contains(owner)) {
            return Ok(());
        }
        let what = format!("{owner} owns {name}, which it never claimed");
        Err((Invariant::D6, what))
    }

    fn hear_of_member(
        &mut self,
        now: Duration,
        id: NodeId,
        event: &MemberEvent,
    ) -> Result<(), Finding> {
        let (member, kind) = parts(event);
        let before = self.views[index(id)].members.get(&member.name);
        let was = before.map(|before| before.state);
        let is_active = was.is_some_and(MemberState::is_active);
        let is_in_order = match kind {
            "up" => !is_active,
            "suspected" => was == Some(MemberState::Alive),
            "refuted" => was == Some(MemberState::Suspect),
            "down" => is_active || is_newer(member, before),
            // One that was held down may turn out to have left on purpose.
            "left" => is_active || matches!(was, Some(MemberState::Down { .. })),
            _ => was.is_some(),
        };
        if !is_in_order {
            let was = was.map_or("nothing", word);
            let what = format!("{} is told {kind} after {was}", member.name);
            return Err((Invariant::M5, what));
        }
        if before.is_some_and(|before| before.session > member.session) {
            let what = format!("the session of {} goes back", member.name);
            return Err((Invariant::M7, what));
        }
        let about = node_of(&member.name);
        if kind == "down" && self.is_calm(now) && !self.views[index(id)].members.is_empty() {
            if self
                .left
                .get(&about)
                .is_some_and(|left| now - *left < HEAL_BOUND)
            {
                let what = format!("{} left and is held down", member.name);
                return Err((Invariant::M6, what));
            }
            let is_this_run = self.ended.get(&about) < Some(&member.session);
            if is_this_run && self.running.contains(&about) && self.running.contains(&id) {
                let what = format!("{} runs and is held down", member.name);
                return Err((Invariant::M1, what));
            }
        }
        let mut member = member.clone();
        if kind == "updated" {
            // What becomes of its state is told next.
            member.state = was.unwrap_or(member.state);
        }
        let members = &mut self.views[index(id)].members;
        members.insert(member.name.clone(), member);
        Ok(())
    }
}

impl World<'_> {
    /// What holds at any moment.
    pub(super) fn check_now(&mut self) {
        if self.plan.nodes > NODES_LOOKED_AT_CLOSELY {
            return;
        }
        let mut finding = None;
        for id in self.plan.node_ids() {
            let Some(control) = &self.nodes[index(id)].control else {
                continue;
            };
            let found = self
                .check_fold(id, control)
                .and_then(|()| check_owners(control));
            let found = found.and_then(|()| self.check_replica(id, control));
            finding =
                finding.or_else(|| found.err().map(|(invariant, what)| (invariant, id, what)));
        }
        if let Some((invariant, id, what)) = finding {
            self.fail(invariant, format!("at {id}: {what}"));
        }
        for id in self.plan.node_ids() {
            if let Some(control) = &self.nodes[index(id)].control {
                let heads = control.directory().heads();
                let heads = heads.map(|head| (head.owner.clone(), head)).collect();
                self.oracle.views[index(id)].heads = heads;
            }
        }
    }

    /// The events so far fold to the list of members. Since when one is gone is left out: what
    /// others knew earlier corrects it without an event.
    fn check_fold(&self, id: NodeId, control: &Control) -> Result<(), Finding> {
        let told = self.oracle.views[index(id)].members.values();
        let told: Vec<_> = told.map(line).collect();
        let listed: Vec<_> = control.members().map(|member| line(&member)).collect();
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
        for head in control.directory().heads() {
            let before = self.oracle.views[index(id)].heads.get(&head.owner);
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
            let control = node.control.as_ref().filter(|_| node.takes_part());
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
        let mut holders: BTreeMap<EndpointName, BTreeSet<NodeName>> = BTreeMap::new();
        for (node, control) in controls() {
            for name in control.directory().held() {
                holders
                    .entry(name.clone())
                    .or_default()
                    .insert(node.clone());
            }
        }
        for name in self.oracle.claimants.keys() {
            let mut owners = BTreeSet::new();
            for (node, control) in controls() {
                let owner = match control.resolve(name) {
                    Resolution::Local => Some(node.clone()),
                    Resolution::Remote { owner, .. } => Some(owner),
                    Resolution::NotFound => None,
                    Resolution::Unreachable { owner, .. } => {
                        let what = format!("{name} at {node} is the unreachable {owner}'s");
                        return Err((Invariant::D2, what));
                    }
                    Resolution::NotSynced => {
                        return Err((Invariant::D2, format!("{node} is not synced")));
                    }
                };
                match (&owner, holders.get(name)) {
                    (None, None) => {}
                    (Some(owner), Some(holders)) if holders.contains(owner) => {}
                    (None, Some(holders)) => {
                        let what = format!("{name} is held by {holders:?}, and {node} finds none");
                        return Err((Invariant::D2, what));
                    }
                    (Some(owner), _) => {
                        let what = format!("{name} at {node} is {owner}'s, which does not hold it");
                        return Err((Invariant::D3, what));
                    }
                }
                owners.insert(owner);
            }
            if owners.len() > 1 {
                return Err((
                    Invariant::D1,
                    format!("the owners of {name} are {owners:?}"),
                ));
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

/// Whether a fault excuses that somebody who runs is held down for a while.
fn is_disruptive(fault: &Fault) -> bool {
    match fault {
        Fault::Crash(_)
        | Fault::Move(_)
        | Fault::SetBack(_)
        | Fault::ClockAhead(..)
        | Fault::ClockBehind(..)
        | Fault::Duplicate(_) => false,
        Fault::Pause(_)
        | Fault::Cut(..)
        | Fault::CutOneWay(..)
        | Fault::Flap(..)
        | Fault::Ring
        | Fault::Reorder(_) => true,
        Fault::SlowLinks(_, _, by) | Fault::Latency(by) | Fault::Jitter(by) => *by > LATENCY_BORNE,
        Fault::Loss(share) => *share > LOSS_BORNE,
    }
}

/// Within what a crash is known everywhere: until somebody probes it, a probe, the suspicion, and
/// the spreading of the word.
pub(super) fn crash_bound(nodes: u32) -> Duration {
    PROBE_INTERVAL * (2 * nodes) + suspicion(nodes) + Duration::from_secs(3)
}

/// How long a suspect has to refute, with the default configuration.
fn suspicion(nodes: u32) -> Duration {
    PROBE_INTERVAL * 4 * nodes.max(10).ilog10().saturating_add(u32::from(nodes > 10))
}

/// A control event in a few words, without instants.
pub(super) fn summary(event: &ControlEvent) -> String {
    if let ControlEvent::Member(event) = event {
        let (member, kind) = parts(event);
        return format!("{kind} {} {}", member.name, member.session.0);
    }
    format!("{event:?}")
}

fn parts(event: &MemberEvent) -> (&Member, &'static str) {
    match event {
        MemberEvent::Up(member) => (member, "up"),
        MemberEvent::Suspected(member) => (member, "suspected"),
        MemberEvent::Refuted(member) => (member, "refuted"),
        MemberEvent::Updated(member) => (member, "updated"),
        MemberEvent::Down(member) => (member, "down"),
        MemberEvent::Left(member) => (member, "left"),
        other => unreachable!("the simulator does not know {other:?}"),
    }
}

/// Whether this is a later run of a member.
fn is_newer(member: &Member, before: Option<&Member>) -> bool {
    before.is_some_and(|before| before.session < member.session)
}

/// A member in a few words.
fn line(member: &Member) -> String {
    format!(
        "{} {} {}",
        member.name,
        member.session.0,
        word(member.state)
    )
}

/// A state without its instant, which differs from run to run.
const fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down { .. } => "down",
        MemberState::Left { .. } => "left",
    }
}

fn name_of(id: NodeId) -> NodeName {
    NodeName::new(id.to_string()).expect("a letter and digits")
}

fn node_of(name: &NodeName) -> NodeId {
    let number = name
        .as_str()
        .strip_prefix('n')
        .and_then(|digits| digits.parse().ok());
    NodeId(number.expect("all nodes are named by their ids"))
}

/// After a heal all views are whole within two rounds of push and pull and 5 s.
pub(super) const HEAL_BOUND: Duration = Duration::from_secs(15);

/// Within what a node counts how often it was held down.
const RENEWAL_WINDOW: Duration = Duration::from_secs(60);

/// The default of `MembershipConfig`.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Latency and jitter that the failure detection bears: a round trip within a probe's time-out of
/// 500 ms, several times over.
const LATENCY_BORNE: Duration = Duration::from_millis(40);

/// Loss that the failure detection bears, of a million.
const LOSS_BORNE: u32 = 50_000;

/// Turns of one node at one instant after which its work is held to be unbounded.
const TURNS_PER_INSTANT_MAX: u32 = 1000;

/// In larger fabrics only what is cheap is looked at on the way.
const NODES_LOOKED_AT_CLOSELY: u32 = 50;

//! What is the case, and whether what nodes tell agrees with it: the same for both tiers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem::discriminant;
use std::time::Duration;

use grinta_proto::node::control::{ControlEvent, Resolution};
use grinta_proto::wire::claims::OwnerHead;
use grinta_proto::{EndpointName, Member, MemberEvent, MemberState, NameEvent, NodeName, Session};

use crate::marks::sometimes;
use crate::plan::{Fault, HostFault, NodeId, Plan, Weather};
use crate::scene::{Claimed, Happening, Life, Scenes};
use crate::verdict::Invariant;

/// Follows all events and knows the plan.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) views: Vec<View>,
    /// Events of members, of all nodes together.
    pub(crate) member_events: u64,
    /// The events of members and the hashes of all directories when they were looked at last.
    pub(crate) seen: (u64, Vec<Option<u64>>),
    /// The nodes that run, and since when.
    running: BTreeMap<NodeId, Duration>,
    /// The latest session of runs that ended.
    ended: BTreeMap<NodeId, Session>,
    left: BTreeMap<NodeId, Duration>,
    /// Who left and came back in the same run: others may have dropped what it claimed.
    rejoined: BTreeSet<NodeId>,
    pub(crate) claimants: BTreeMap<EndpointName, BTreeSet<NodeName>>,
    /// Faults under way that excuse a false alarm, and when the last one ended.
    disruptions: u32,
    disrupted_at: Option<Duration>,
    /// The disruptive faults that have begun.
    begun: Vec<Begun>,
    /// When somebody last held a node down: its connections are then gone.
    held_down: BTreeMap<NodeId, Duration>,
    pub(crate) scenes: Scenes,
}

/// A fault that excuses a false alarm.
#[derive(Debug)]
struct Begun {
    fault: Fault,
    lasts: Option<Duration>,
    ended: Option<Duration>,
    /// Whether the core is spared: a cut that it goes through parts nobody from all others.
    is_partial: bool,
}

/// What one run of a node has told.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) members: BTreeMap<NodeName, Member>,
    /// Those who are back after they had left, since the replica was looked at: what they claimed
    /// was dropped.
    pub(crate) returned: BTreeSet<NodeName>,
    /// Those who left while this node did not take part.
    missed: BTreeSet<NodeId>,
    /// Those of whom a later run was told, and not yet what it is.
    renewed: BTreeSet<NodeName>,
    pub(crate) lost: BTreeSet<EndpointName>,
    pub(crate) heads: BTreeMap<NodeName, OwnerHead>,
    /// How often a timer was armed for the instant at which it was armed.
    busy: (Duration, u32),
}

pub(crate) type Finding = (Invariant, String);

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            views: plan.node_ids().map(|_| View::default()).collect(),
            member_events: 0,
            seen: (0, Vec::new()),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            left: BTreeMap::new(),
            rejoined: BTreeSet::new(),
            claimants: BTreeMap::new(),
            disruptions: 0,
            disrupted_at: None,
            begun: Vec::new(),
            held_down: BTreeMap::new(),
            scenes: Scenes::new(),
        }
    }

    pub(crate) fn started(&mut self, now: Duration, id: NodeId) {
        self.views[id.index()] = View::default();
        self.left.remove(&id);
        self.rejoined.remove(&id);
        self.started_again(now, id);
    }

    /// The same run takes part again after it had left.
    pub(crate) fn started_again(&mut self, now: Duration, id: NodeId) {
        self.lives(now, id, Life::Runs);
        self.running.insert(id, now);
        if self.left.remove(&id).is_some() {
            self.rejoined.insert(id);
        }
    }

    /// Whether a node has taken part ever since: whoever came later hears of what was before at
    /// second hand.
    pub(crate) fn has_run_since(&self, id: NodeId, since: Duration) -> bool {
        self.running.get(&id).is_some_and(|&start| start <= since)
    }

    /// The names that only nodes of the core ever claimed.
    pub(crate) fn names_of_core(&self, core: &[NodeId]) -> impl Iterator<Item = &EndpointName> {
        let is_its_own =
            |claimants: &BTreeSet<NodeName>| claimants.iter().all(|it| core.contains(&node_of(it)));
        let names = self.claimants.iter();
        names.filter_map(move |(name, claimants)| is_its_own(claimants).then_some(name))
    }

    /// What becomes of a node's process.
    pub(crate) fn lives(&mut self, now: Duration, node: NodeId, life: Life) {
        self.scenes.tell(now, || Happening::Life { node, life });
    }

    pub(crate) fn stopped(&mut self, now: Duration, id: NodeId, session: Session) {
        self.lives(now, id, Life::Ended);
        self.running.remove(&id);
        let ended = self.ended.entry(id).or_insert(session);
        *ended = session.max(*ended);
    }

    pub(crate) fn leaves(&mut self, now: Duration, id: NodeId) {
        self.lives(now, id, Life::Left);
        self.running.remove(&id);
        self.left.insert(id, now);
        let running = &self.running;
        for (other, view) in (0..).map(NodeId).zip(&mut self.views) {
            if !running.contains_key(&other) {
                view.missed.insert(id);
            }
        }
        self.views[id.index()].lost.clear();
    }

    pub(crate) fn has_left(&self, id: NodeId) -> bool {
        self.left.contains_key(&id)
    }

    pub(crate) fn claims(&mut self, id: NodeId, name: &EndpointName) {
        let claimants = self.claimants.entry(name.clone()).or_default();
        claimants.insert(name_of(id));
        self.views[id.index()].lost.remove(name);
    }

    /// What becomes of a node's claim.
    pub(crate) fn stands(
        &mut self,
        now: Duration,
        node: NodeId,
        name: &EndpointName,
        standing: Claimed,
    ) {
        self.scenes.tell(now, || Happening::Claim {
            node,
            name: name.clone(),
            standing,
        });
    }

    pub(crate) fn released(&mut self, now: Duration, id: NodeId, name: &EndpointName) {
        self.stands(now, id, name, Claimed::Released);
        self.views[id.index()].lost.remove(name);
    }

    pub(crate) fn fault_begins(&mut self, now: Duration, fault: &Fault, lasts: Option<Duration>) {
        self.scenes.tell(now, || Happening::FaultBegins {
            fault: fault.to_string(),
            nodes: fault.nodes(),
        });
        if is_disruptive(fault) {
            self.disruptions += 1;
            self.begun.push(Begun {
                fault: fault.clone(),
                lasts,
                ended: None,
                is_partial: false,
            });
        }
    }

    pub(crate) fn fault_ends(&mut self, now: Duration, fault: &Fault) {
        self.scenes.tell(now, || Happening::FaultEnds {
            fault: fault.to_string(),
        });
        if is_disruptive(fault) {
            self.disruptions -= 1;
            self.disrupted_at = Some(now);
            let mut begun = self.begun.iter_mut();
            if let Some(it) = begun.find(|it| it.fault == *fault && it.ended.is_none()) {
                it.ended = Some(now);
            }
        }
    }

    /// What is wrong now stays so, but for the core.
    pub(crate) fn faults_stay(&mut self) {
        for it in self.begun.iter_mut().filter(|it| it.ended.is_none()) {
            it.lasts = None;
            it.is_partial = true;
        }
    }

    /// Whether nothing has gone wrong for so long that a false alarm has no excuse.
    pub(crate) fn is_calm(&self, now: Duration) -> bool {
        self.is_calm_since(now.checked_sub(HEAL_BOUND))
    }

    /// Whether nothing has gone wrong for so long that keeps one from hearing the other: cuts leave
    /// those be who are on one side, and who freezes for so short a time that nobody holds it down
    /// has read what waits for it before it judges anybody.
    fn has_no_excuse(&self, now: Duration, one: NodeId, about: NodeId) -> bool {
        let held_down = self.held_down.get(&one);
        let is_connected = held_down.is_none_or(|at| now - *at > HEAL_BOUND);
        self.begun.iter().all(|it| {
            let is_past = it.ended.is_some_and(|ended| now - ended > HEAL_BOUND);
            let leaves_be = if let Fault::Cut(some, rest) = &it.fault {
                let is_of_all = some.len() + rest.len() == self.views.len();
                is_of_all && !it.is_partial && some.contains(&one) == some.contains(&about)
            } else if let Fault::Pause(id) = it.fault {
                let is_short = it.lasts.is_some_and(|lasts| lasts <= FREEZE_BORNE);
                id != about && (id != one || is_connected && is_short)
            } else if let Fault::Host(id, HostFault::Cycles { frozen, .. }) = it.fault {
                id != about && (id != one || is_connected && frozen <= FREEZE_BORNE)
            } else {
                false
            };
            is_past || leaves_be
        })
    }

    /// Whether nothing has gone wrong since then, or ever for `None`.
    pub(crate) fn is_calm_since(&self, then: Option<Duration>) -> bool {
        let ended = self.disrupted_at;
        self.disruptions == 0 && ended.is_none_or(|ended| then.is_some_and(|then| ended <= then))
    }

    /// A node's next timer is set.
    pub(crate) fn armed(&mut self, now: Duration, id: NodeId, at: Duration) -> Result<(), String> {
        let (instant, times) = &mut self.views[id.index()].busy;
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

    pub(crate) fn hear(
        &mut self,
        now: Duration,
        id: NodeId,
        event: &ControlEvent,
    ) -> Result<(), Finding> {
        match event {
            ControlEvent::Member(event) => self.hear_of_member(now, id, event),
            ControlEvent::NameLost { name, .. } => {
                sometimes!(true, NameLost);
                self.stands(now, id, name, Claimed::Waits);
                if self.views[id.index()].lost.insert(name.clone()) {
                    return Ok(());
                }
                Err((Invariant::D4, format!("told twice that {name} is lost")))
            }
            ControlEvent::NamePromoted { name } => {
                sometimes!(true, NamePromoted);
                self.stands(now, id, name, Claimed::Owner);
                self.views[id.index()].lost.remove(name);
                self.check_claimant(name, &name_of(id))
            }
            ControlEvent::Name(
                told @ (NameEvent::Appeared { name, owner } | NameEvent::Moved { name, owner, .. }),
            ) => {
                sometimes!(matches!(told, NameEvent::Moved { .. }), NameMoved);
                self.check_claimant(name, owner)
            }
            ControlEvent::Name(NameEvent::Gone { .. }) => {
                sometimes!(true, NameGone);
                Ok(())
            }
            ControlEvent::IdentityConflict { .. } | ControlEvent::Displaced => {
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
        let before = self.views[id.index()].members.get(&member.name);
        let was = before.map(|before| before.state);
        let is_active = was.is_some_and(MemberState::is_active);
        let is_newer = is_newer(member, before);
        // Who left may have come back and been lost again before this node heard of either.
        let has_left = matches!(was, Some(MemberState::Left { .. }));
        let is_back = has_left && self.rejoined.contains(&node_of(&member.name));
        let is_renewed = self.views[id.index()].renewed.contains(&member.name);
        let is_in_order = match kind {
            "up" => !is_active,
            "suspected" => was == Some(MemberState::Alive),
            "refuted" => was == Some(MemberState::Suspect),
            "down" => is_active || is_renewed || is_newer || is_back,
            // One that was held down may turn out to have left on purpose.
            "left" => is_active || is_renewed || matches!(was, Some(MemberState::Down { .. })),
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
        let was_down = matches!(was, Some(MemberState::Down { .. }));
        let runs = self.running.contains_key(&about);
        sometimes!(kind == "suspected", Suspected);
        sometimes!(kind == "refuted", Refuted);
        sometimes!(kind == "down" && runs, FalseDown);
        sometimes!(kind == "down" && !runs, TrueDown);
        sometimes!(kind == "up" && was_down, UpAfterDown);
        sometimes!(kind == "up" && has_left, UpAfterLeft);
        sometimes!(kind == "left" && was_down, LeftAfterDown);
        sometimes!(kind == "updated" && is_newer, LaterRun);
        if kind == "down" {
            self.check_down(now, id, about, member)?;
            self.held_down.insert(about, now);
        }
        let renewed = &mut self.views[id.index()].renewed;
        if kind == "updated" && is_newer {
            renewed.insert(member.name.clone());
        } else if kind != "updated" {
            renewed.remove(&member.name);
        }
        // Who was not there as it left was told nothing of it.
        let has_missed_it = was.is_none() && self.rejoined.contains(&about);
        if kind == "up" && (matches!(was, Some(MemberState::Left { .. })) || has_missed_it) {
            self.views[id.index()].returned.insert(member.name.clone());
        }
        let mut member = member.clone();
        if kind == "updated" {
            // What becomes of its state is told next, unless it came and went unheard.
            let is_told_next = |was: &MemberState| discriminant(was) != discriminant(&member.state);
            member.state = was.filter(is_told_next).unwrap_or(member.state);
        }
        self.scenes.tell(now, || Happening::View {
            node: id,
            about,
            kind,
            seen: member.state.into(),
        });
        self.member_events += 1;
        let members = &mut self.views[id.index()].members;
        members.insert(member.name.clone(), member);
        Ok(())
    }

    /// Whether a node may hold a member down.
    fn check_down(
        &self,
        now: Duration,
        id: NodeId,
        about: NodeId,
        member: &Member,
    ) -> Result<(), Finding> {
        let view = &self.views[id.index()];
        if view.members.is_empty() {
            return Ok(());
        }
        let left = self.left.get(&about);
        // Who was not there is told by others, and doubts it as it would doubt a Down.
        if !view.missed.contains(&about)
            && self.is_calm(now)
            && left.is_some_and(|left| now - *left < HEAL_BOUND)
        {
            let what = format!("{} left and is held down", member.name);
            return Err((Invariant::M6, what));
        }
        let is_this_run = self.ended.get(&about) < Some(&member.session);
        let both_run = self.running.contains_key(&about) && self.running.contains_key(&id);
        if is_this_run && both_run && self.has_no_excuse(now, id, about) {
            let invariant = if self.is_calm(now) {
                Invariant::M1
            } else {
                Invariant::M4
            };
            return Err((invariant, format!("{} runs and is held down", member.name)));
        }
        Ok(())
    }
}

/// Whether a node of the core takes all others of the core for members, whatever others say of them.
pub(crate) fn check_core(
    core: &[NodeId],
    id: NodeId,
    members: &BTreeMap<NodeId, MemberState>,
) -> Result<(), Finding> {
    for about in core.iter().filter(|&&about| about != id) {
        match members.get(about) {
            Some(MemberState::Alive | MemberState::Suspect) => {}
            Some(state @ (MemberState::Down { .. } | MemberState::Left { .. })) => {
                let what = format!("{id} holds {about} {}, both of the core", word(*state));
                return Err((Invariant::M2, what));
            }
            None => {
                let what = format!("{id} does not know {about}, both of the core");
                return Err((Invariant::M4, what));
            }
        }
    }
    Ok(())
}

/// The name that a node of the core claims once that is healed.
pub(crate) fn name_in_core(id: NodeId) -> EndpointName {
    EndpointName::new(format!("core-{id}")).expect("letters, a dash and digits")
}

/// Whether all who look a name up find one owner, and that one of those who hold it.
pub(crate) fn check_owner(
    name: &EndpointName,
    holders: Option<&BTreeSet<NodeId>>,
    found: impl Iterator<Item = (NodeId, Resolution)>,
) -> Result<(), Finding> {
    let mut owners = BTreeSet::new();
    for (id, resolution) in found {
        let owner = match resolution {
            Resolution::Local => Some(id),
            Resolution::Remote { owner, .. } => Some(node_of(&owner)),
            Resolution::NotFound => None,
            Resolution::Unreachable { owner, .. } => {
                let what = format!("{name} at {id} is the unreachable {owner}'s");
                return Err((Invariant::D2, what));
            }
            Resolution::NotSynced => {
                return Err((Invariant::D2, format!("{id} is not synced")));
            }
        };
        match (owner, holders) {
            (None, None) => {}
            (Some(owner), Some(holders)) if holders.contains(&owner) => {}
            (None, Some(holders)) => {
                let what = format!("{name} is held by {holders:?}, and {id} finds none");
                return Err((Invariant::D2, what));
            }
            (Some(owner), _) => {
                let what = format!("{name} at {id} is {owner}'s, which does not hold it");
                return Err((Invariant::D3, what));
            }
        }
        owners.insert(owner);
    }
    if owners.len() > 1 {
        let what = format!("the owners of {name} are {owners:?}");
        return Err((Invariant::D1, what));
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
        | Fault::Swap(..)
        | Fault::LosePacket(..)
        | Fault::Duplicate(_)
        | Fault::Weather(Weather::Replay(..) | Weather::MarkEcn(_))
        | Fault::Host(_, HostFault::Drift(_))
        | Fault::Attack(..) => false,
        Fault::Pause(_)
        | Fault::RollingRestart(_)
        | Fault::Host(
            _,
            HostFault::Cycles { .. }
            | HostFault::Slow(_)
            | HostFault::Rebind
            | HostFault::RefuseSends(_),
        )
        | Fault::Cut(..)
        | Fault::CutOneWay(..)
        | Fault::Flap(..)
        | Fault::Jam(..)
        | Fault::Ring
        | Fault::Swizzle(_)
        | Fault::Reorder(_)
        | Fault::Weather(
            Weather::LongTail(_)
            | Weather::Bursts(_)
            | Weather::Swap(_)
            | Weather::Splice(_)
            | Weather::Rate(..)
            | Weather::Evict(_)
            | Weather::Mtu(_),
        ) => true,
        Fault::Weather(Weather::Exponential(mean)) => 5 * *mean > LATENCY_BORNE,
        Fault::SlowLinks(_, _, by) | Fault::Latency(by) | Fault::Jitter(by) => *by > LATENCY_BORNE,
        Fault::Loss(share)
        | Fault::Weather(
            Weather::Flip(share) | Weather::Truncate(share) | Weather::Garbage(share),
        ) => *share > LOSS_BORNE,
    }
}

/// Within what a crash is known everywhere: until somebody probes it, a probe, the suspicion, and
/// the spreading of the word.
pub(crate) fn crash_bound(nodes: u32) -> Duration {
    PROBE_INTERVAL * (2 * nodes) + suspicion(nodes) + Duration::from_secs(3)
}

/// How long a suspect has to refute, with the default configuration.
fn suspicion(nodes: u32) -> Duration {
    PROBE_INTERVAL * 4 * nodes.max(10).ilog10().saturating_add(u32::from(nodes > 10))
}

/// A control event in a few words, without instants.
pub(crate) fn summary(event: &ControlEvent) -> String {
    if let ControlEvent::Member(event) = event {
        let (member, kind) = parts(event);
        return format!("{kind} {} {}", member.name, member.session.0);
    }
    format!("{event:?}")
}

pub(crate) fn parts(event: &MemberEvent) -> (&Member, &'static str) {
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

/// What a node that runs holds.
pub(crate) struct Held {
    pub(crate) members: Vec<Member>,
    /// Names and their owners.
    pub(crate) names: Vec<(EndpointName, NodeName)>,
}

/// What a node is and holds, in a line; `held` is nothing, if it does not run.
pub(crate) fn account(
    node: impl fmt::Display,
    runs: u64,
    state: &str,
    held: Option<Held>,
) -> String {
    let Some(Held { members, names }) = held else {
        return format!("{node} (run {runs}) {state}");
    };
    let members: Vec<_> = members.iter().map(line).collect();
    let names = names
        .iter()
        .map(|(name, owner)| format!("{name} of {owner}"));
    let names: Vec<_> = names.collect();
    let (members, names) = (members.join(", "), names.join(", "));
    format!("{node} (run {runs}) {state}; sees {members}; knows {names}")
}

/// What the events about a member have to fold to.
pub(crate) fn gist(member: &Member) -> (NodeName, Session, MemberState) {
    (member.name.clone(), member.session, member.state)
}

/// A state without its instant, which differs from run to run.
pub(crate) const fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down { .. } => "down",
        MemberState::Left { .. } => "left",
    }
}

pub(crate) fn name_of(id: NodeId) -> NodeName {
    NodeName::new(id.to_string()).expect("a letter and digits")
}

pub(crate) fn node_of(name: &NodeName) -> NodeId {
    let number = name
        .as_str()
        .strip_prefix('n')
        .and_then(|digits| digits.parse().ok());
    NodeId(number.expect("all nodes are named by their ids"))
}

/// After a heal all views are whole within two rounds of push and pull and 5 s.
pub(crate) const HEAL_BOUND: Duration = Duration::from_secs(15);

/// For how long the core has to live with what is wrong elsewhere.
pub(crate) const CORE_LIVES: Duration = Duration::from_secs(15);

/// The default of `MembershipConfig`.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Latency and jitter that the failure detection bears: a round trip within a probe's time-out of
/// 500 ms, several times over.
const LATENCY_BORNE: Duration = Duration::from_millis(40);

/// For how long a node may be frozen that then takes nobody for gone: its connections last, which
/// were kept alive a few seconds earlier and end when they are idle for 15 s.
const FREEZE_BORNE: Duration = Duration::from_secs(8);

/// Loss that the failure detection bears, of a million.
const LOSS_BORNE: u32 = 50_000;

/// Turns of one node at one instant after which its work is held to be unbounded.
const TURNS_PER_INSTANT_MAX: u32 = 1000;

#[cfg(test)]
mod tests;

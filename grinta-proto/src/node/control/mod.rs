//! Membership and names without QUIC: who the members are, who holds which name, and what nodes
//! tell each other to agree on both.
//!
//! [`Control`] is a state machine of typed messages. It knows no packet, connection, clock or
//! randomness: the node above maps its outputs to datagrams and streams, a simulator hands them
//! from one to the next. Failure detection is foca's (`swim`), the members as a program sees them
//! are `members`, the names are `directory`; `sync` compares both with one node at a time, and
//! `gossip` tells changes to a few at random; `proving` takes of both what owners signed and no more
//! (`notary` is who signs, `proofs` what is known of the signatures). `resolve` asks members about a
//! name, and `confirm` has them confirm a claim.
//!
//! Call [`Control::handle_timeout`] after all messages of a turn. A process that was frozen wakes
//! with the answers to its probes already in its socket; its timers must not judge before them.

mod confirm;
mod detection;
pub mod directory;
mod event;
mod gossip;
#[cfg(test)]
pub(in crate::node) mod harness;
mod identity;
mod leave;
mod members;
mod names;
mod notary;
mod proofs;
mod proving;
#[cfg(test)]
mod query_tests;
mod resolve;
mod seeds;
mod swim;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use self::confirm::{ConfirmError, Confirmation};
use self::directory::{Change, Directory, DirectoryLimits};
pub use self::directory::{ClaimError, ClaimMode, NameLimit};
pub use self::event::{
    Channel, ControlEvent, ControlOutput, Holder, Identity, ListedName, NamePage, Resolution,
    Violation,
};
use self::gossip::Rumours;
use self::identity::Guard;
pub use self::leave::ForgetError;
use self::leave::Life;
use self::members::{Entry, Members};
pub use self::notary::{Notary, Signature};
use self::proofs::Proofs;
use self::resolve::Questions;
pub use self::resolve::{QueryError, QueryId, QueryMode, QueryReport, QueryRequest};
use self::seeds::Seeds;
use self::swim::{Swim, SwimTimer};
use self::sync::Exchange;
use crate::config::{Config, Labels, MembershipConfig};
use crate::mutant::mutant;
use crate::name::{EndpointName, FabricName, NodeName, Session};
use crate::node::event::{Member, NameEvent};
use crate::node::timers::{TimerKey, Timers};
use crate::wire::control::{
    ControlMessage, Health, Labelling, LabelsError, MemberIdentity, MemberRecord, MemberUpdate,
    check_labels,
};

/// A node's part in membership and names.
pub struct Control {
    config: MembershipConfig,
    /// Most bytes of one message on a stream.
    message_len: usize,
    rng: StdRng,
    swim: Swim,
    members: Members,
    labels: Labelling,
    fabric: FabricName,
    directory: Directory,
    /// Unless all members are trusted with names.
    proofs: Option<Proofs>,
    rumours: Rumours,
    /// Names that their owners, when dialled, said they do not hold.
    denied: BTreeMap<NodeName, BTreeSet<EndpointName>>,
    questions: Questions,
    guard: Guard,
    seeds: Seeds,
    exchanges: BTreeMap<NodeName, Exchange>,
    connected: BTreeMap<NodeName, SocketAddr>,
    life: Life,
    is_synced: bool,
    /// Armed while this node has met newcomers alone.
    newcomers_timer: Option<TimerKey>,
    /// The wall clock as it was last told.
    wall: (Instant, Duration),
    gossip_timer: Option<TimerKey>,
    /// When changes were last told to a few members.
    gossiped: Option<Instant>,
    changes_timer: Option<TimerKey>,
    push_pull_timer: Option<TimerKey>,
    /// How many more rounds of push and pull come soon.
    early_rounds: u32,
    /// No probe is judged before.
    judgement: Instant,
    timers: Timers<ControlTimer>,
    outputs: VecDeque<ControlOutput>,
}

#[derive(Debug)]
enum ControlTimer {
    Swim(SwimTimer),
    Gossip,
    TellChanges,
    PushPull,
    Newcomers,
    Seek,
    LeaveBound,
    Remind(MemberUpdate),
    DropContents(MemberIdentity),
    /// Number of the question.
    QueryBound(u64),
    ConfirmBound(u64),
    ConfirmAgain(u64),
}

impl Control {
    /// A node that knows of itself alone. `seed` is all its randomness, `unix_time` the wall clock
    /// as the time since the Unix epoch. Without neighbours in `config` it is synced at once.
    ///
    /// Labels that [`check_labels`] refuses are left out.
    #[must_use]
    pub fn new(
        config: &Config,
        identity: Identity,
        seed: [u8; 32],
        now: Instant,
        unix_time: Duration,
    ) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let swim_rng = StdRng::from_rng(&mut rng);
        let Identity {
            name,
            address,
            session,
        } = identity;
        let entries =
            check_labels(&config.labels).map_or_else(|_| Labels::new(), |()| config.labels.clone());
        let membership = config.membership.clone();
        let own = MemberIdentity {
            name: name.clone(),
            address,
            session,
            bump: 0,
        };
        let mut control = Self {
            message_len: (config.limits.control_frame_len_max / 2)
                .clamp(MESSAGE_LEN_MIN, MESSAGE_LEN_MAX),
            swim: Swim::new(own, &membership, swim_rng),
            config: membership,
            rng,
            members: Members::default(),
            labels: Labelling {
                session,
                version: 1,
                entries: Arc::new(entries),
            },
            directory: Directory::new(name, session, DirectoryLimits::from(&config.limits)),
            fabric: config.fabric.clone(),
            proofs: None,
            rumours: Rumours::default(),
            denied: BTreeMap::new(),
            questions: Questions::new(&config.limits),
            guard: Guard::default(),
            seeds: Seeds::default(),
            exchanges: BTreeMap::new(),
            connected: BTreeMap::new(),
            life: Life::Present,
            is_synced: false,
            newcomers_timer: None,
            wall: (now, unix_time),
            gossip_timer: None,
            gossiped: None,
            changes_timer: None,
            push_pull_timer: None,
            early_rounds: 0,
            judgement: now,
            timers: Timers::new(),
            outputs: VecDeque::new(),
        };
        if config.neighbours.is_empty() {
            control.set_synced();
        }
        control.begin_rounds(now);
        control
    }

    /// A connection to a certified peer is up.
    pub fn handle_up(&mut self, now: Instant, peer: Identity) {
        let ours = self.swim.identity();
        if peer.name == ours.name {
            if (peer.session, peer.address) != (ours.session, ours.address) {
                let verdict = self.guard.report();
                self.follow(now, verdict, Some(peer));
            }
            return;
        }
        self.connected.insert(peer.name.clone(), peer.address);
        self.begin_run(&peer);
        let is_known = self.members.get(&peer.name).is_some_and(|entry| {
            entry.health.is_active() && entry.identity.session == peer.session
        });
        if !is_known || !self.is_synced || self.seeds.is_seeking() {
            self.begin_exchange(now, &peer.name, peer.address);
        }
        self.ask_again(&peer.name);
        self.settle(now);
    }

    /// Of two connections to a peer one ended, with what was under way on it.
    pub fn handle_rerouted(&mut self, now: Instant, peer: &NodeName) {
        self.ask_again(peer);
        self.settle(now);
    }

    /// The connection to a peer ended. That alone marks nobody down.
    pub fn handle_lost(&mut self, _now: Instant, peer: &NodeName) {
        self.connected.remove(peer);
        self.exchanges.remove(peer);
        self.questions.forget(peer);
        if let Some(proofs) = &mut self.proofs {
            proofs.forget_teller(peer);
        }
    }

    /// A message came from a certified peer.
    ///
    /// # Errors
    /// [`Violation`] says what the peer may not say.
    pub fn handle_message(
        &mut self,
        now: Instant,
        from: &NodeName,
        message: ControlMessage,
    ) -> Result<(), Violation> {
        check_speaker(from, &message)?;
        let before = self.swim.identity().generation();
        let mut handled = Ok(());
        match (&self.life, message) {
            (Life::Left, _) => return Ok(()),
            (_, ControlMessage::LeaveAcknowledged(identity)) => {
                self.handle_leave_acknowledged(now, from, &identity);
            }
            (_, ControlMessage::Leave(identity)) => self.handle_leave(now, from, identity),
            (Life::Leaving { .. }, _) => return Ok(()),
            (Life::Present, ControlMessage::Swim(packet)) => self.handle_swim(now, packet),
            (Life::Present, ControlMessage::Rumour(rumour)) => {
                handled = self.handle_rumour(now, from, rumour);
            }
            (Life::Present, ControlMessage::SyncRequest(request)) => {
                self.handle_sync_request(now, from, &request);
            }
            (Life::Present, ControlMessage::SyncReply(reply)) => {
                self.handle_sync_reply(now, from, &reply);
            }
            (Life::Present, ControlMessage::Members(records)) => self.merge(now, &records),
            (Life::Present, ControlMessage::MemberDigest(digest)) => {
                self.handle_member_digest(now, from, &digest);
            }
            (Life::Present, ControlMessage::MemberAnswer(answer)) => {
                self.handle_member_answer(now, from, &answer);
            }
            (Life::Present, ControlMessage::NameHeads(heads)) => {
                self.handle_name_heads(from, &heads);
            }
            (Life::Present, ControlMessage::NamePull(pull)) => self.handle_name_pull(from, &pull),
            (Life::Present, ControlMessage::Names(names)) => {
                handled = self.handle_names(now, from, &names);
            }
            (Life::Present, ControlMessage::NameQuery(query)) => {
                self.handle_name_query(now, from, &query);
            }
            (Life::Present, ControlMessage::NameAnswer(answer)) => {
                self.handle_name_answer(from, answer);
            }
        }
        if self.swim.identity().generation() != before {
            // Whoever made us renew holds our earlier identity down and waits for this one.
            self.send(
                from,
                ControlMessage::Members(vec![self.own_record()]),
                Channel::Stream,
            );
            self.tell_the_down();
        }
        self.settle(now);
        handled
    }

    /// Time passed: fires what is due. To be called after all messages of a turn.
    pub fn handle_timeout(&mut self, now: Instant, unix_time: Duration) {
        #[cfg(grinta_mutants)]
        let now = if mutant!(ClockRead) {
            Instant::now()
        } else {
            now
        };
        self.wall = (now, unix_time);
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                ControlTimer::Swim(timer) => self.handle_swim_timer(now, timer),
                ControlTimer::Gossip => self.gossip(now),
                ControlTimer::TellChanges => self.changes_timer = None,
                ControlTimer::PushPull => self.push_pull(now),
                ControlTimer::Newcomers => self.count_on_newcomers(now),
                ControlTimer::Seek => self.seek(now),
                ControlTimer::LeaveBound => self.finish_leave(),
                ControlTimer::Remind(suspect) => self.remind(now, suspect),
                ControlTimer::DropContents(identity) => {
                    if self.members.departure(&identity).is_some() {
                        self.directory.drop_contents(&identity.name);
                    }
                }
                ControlTimer::QueryBound(number) => self.expire_query(number),
                ControlTimer::ConfirmBound(number) => self.expire_confirmation(number),
                ControlTimer::ConfirmAgain(number) => self.confirm_again(now, number),
            }
        }
        self.settle(now);
    }

    /// Joins the fabric through any of `seeds`: they are tried until one has told all it knows,
    /// and again whenever no member is left. A node that left comes back. Without seeds, and
    /// without any so far, the node is synced at once. One that is displaced stays away.
    pub fn join(&mut self, now: Instant, seeds: &[SocketAddr]) {
        if self.is_displaced() {
            return;
        }
        if matches!(self.life, Life::Leaving { .. }) {
            self.finish_leave();
        }
        let returns = matches!(self.life, Life::Left);
        if returns {
            self.life = Life::Present;
            let ours = self.swim.identity();
            let bump = ours.bump.saturating_add(1);
            let identity = MemberIdentity {
                bump,
                ..ours.clone()
            };
            self.change_identity(now, identity);
            self.begin_rounds(now);
        }
        self.seeds.add(seeds, self.swim.identity().address);
        let is_alone = self.members.active_count() == 0;
        if !self.seeds.is_empty() {
            self.is_synced &= !returns && !is_alone;
            self.begin_seeking(now, Duration::ZERO);
        } else if !self.is_synced {
            self.set_synced();
        }
        self.settle(now);
    }

    /// Replaces this node's labels.
    ///
    /// # Errors
    /// [`LabelsError`] names the bound that the labels break; nothing changed.
    pub fn set_labels(&mut self, now: Instant, labels: Labels) -> Result<(), LabelsError> {
        check_labels(&labels)?;
        if *self.labels.entries != labels {
            self.labels.version += 1;
            self.labels.entries = Arc::new(labels);
            let name = self.swim.identity().name.clone();
            self.rumours.tell_labels(name, self.swim.tellings());
            self.settle(now);
        }
        Ok(())
    }

    /// The names of all claims, for what the methods here do not answer.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Who this node is at present. Its session is greater than the one it began with if an
    /// earlier run had a later one.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let MemberIdentity {
            name,
            address,
            session,
            bump: _,
        } = self.swim.identity().clone();
        Identity {
            name,
            address,
            session,
        }
    }

    /// The run of this node's process, as [`Control::identity`] has it.
    #[must_use]
    pub fn session(&self) -> Session {
        self.swim.identity().session
    }

    /// The other members, in the order of their names. The events so far fold to them, but for
    /// those forgotten: one that is gone is listed for as long as the configuration says.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.members.listed()
    }

    /// One member; `None` for this node and for those never heard of.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<Member> {
        self.members
            .get(name)
            .filter(|entry| entry.is_listed())
            .map(Entry::member)
    }

    /// How often a member came back in the run in which it was held down.
    #[must_use]
    pub const fn failed_falsely(&self) -> u64 {
        self.members.failed_falsely()
    }

    /// Whether a name that is not found is nowhere.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Whether the others take another node for the later run of this one.
    #[must_use]
    pub const fn is_displaced(&self) -> bool {
        self.guard.is_displaced()
    }

    /// What to do next.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<ControlOutput> {
        self.outputs.pop_front()
    }

    /// Whether [`Control::poll_output`] has something.
    #[must_use]
    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// When to call [`Control::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.life {
            Life::Present | Life::Leaving { .. } => self.timers.deadline(),
            Life::Left if mutant!(TimerLeftOnClose) => self.timers.deadline(),
            // What is armed are the ends of memories. A return catches up with them.
            Life::Left => None,
        }
    }
}

impl Control {
    /// After every turn: what became of names, and whether there is something to tell.
    fn settle(&mut self, now: Instant) {
        self.tell_changes(now);
        let has_news = !self.rumours.is_empty() && self.members.active_count() > 0;
        if has_news && self.gossip_timer.is_none() && matches!(self.life, Life::Present) {
            // The first news after a silence goes out at once, with what comes along meanwhile.
            let interval = self.config.gossip_interval;
            let rested = self.gossiped.map_or(now, |last| last + interval);
            let delay = rested.saturating_duration_since(now).max(interval / 20);
            let key = self.timers.arm(now, delay, ControlTimer::Gossip);
            self.gossip_timer = Some(key);
        }
    }

    /// Tells what became of names, so many at a time that no turn takes long; the next goes on.
    fn tell_changes(&mut self, now: Instant) {
        self.directory.tell_verdicts(CHANGES_PER_TURN);
        for _ in 0..CHANGES_PER_TURN {
            let Some(change) = self.directory.poll_change() else {
                break;
            };
            let event = match change {
                Change::Appeared { name, owner } => {
                    ControlEvent::Name(NameEvent::Appeared { name, owner })
                }
                Change::Moved {
                    name,
                    previous,
                    owner,
                } => ControlEvent::Name(NameEvent::Moved {
                    name,
                    previous,
                    owner,
                }),
                Change::Reshared { name, owner } => {
                    ControlEvent::Name(NameEvent::Reshared { name, owner })
                }
                Change::Gone { name, previous } => {
                    ControlEvent::Name(NameEvent::Gone { name, previous })
                }
                Change::Lost { name, winner } if self.lose_unconfirmed(&name, &winner) => continue,
                Change::Lost { name, winner } => ControlEvent::NameLost { name, winner },
                Change::Promoted { name } => ControlEvent::NamePromoted { name },
            };
            self.outputs.push_back(ControlOutput::Event(event));
        }
        self.weigh_confirming();
        if self.directory.has_changes() && self.changes_timer.is_none() {
            let timer = ControlTimer::TellChanges;
            self.changes_timer = Some(self.timers.arm(now, Duration::ZERO, timer));
        }
    }

    /// Arms the first round of push and pull at a random moment, so that nodes that start together
    /// spread out. The first few come soon: while a fabric starts, rumours alone miss somebody.
    fn begin_rounds(&mut self, now: Instant) {
        self.early_rounds = EARLY_ROUNDS;
        let first = self.jittered(self.config.push_pull_interval / EARLY_SHARE, 0..=100);
        let timer = self.timers.arm(now, first, ControlTimer::PushPull);
        self.push_pull_timer = Some(timer);
    }

    fn set_synced(&mut self) {
        self.is_synced = true;
        if let Some(timer) = self.newcomers_timer.take() {
            self.timers.disarm(timer);
        }
        self.outputs
            .push_back(ControlOutput::Event(ControlEvent::Synced));
    }

    fn own_record(&self) -> MemberRecord {
        MemberRecord {
            identity: self.swim.identity().clone(),
            incarnation: self.swim.incarnation(),
            health: Health::Alive,
            labels: Some(self.labels.clone()),
            gone_for: Duration::ZERO,
        }
    }

    /// Sends to a peer wherever it was last seen.
    fn send(&mut self, to: &NodeName, message: ControlMessage, channel: Channel) {
        let known = self.members.get(to).map(|entry| entry.identity.address);
        if let Some(address) = self.connected.get(to).copied().or(known) {
            self.outputs.push_back(ControlOutput::Send {
                to: to.clone(),
                address,
                message,
                channel,
            });
        }
    }

    fn send_to(&mut self, to: &MemberIdentity, message: ControlMessage, channel: Channel) {
        let MemberIdentity { name, address, .. } = to.clone();
        self.outputs.push_back(ControlOutput::Send {
            to: name,
            address,
            message,
            channel,
        });
    }

    /// A share of `duration`, drawn between two percentages.
    fn jittered(&mut self, duration: Duration, percent: RangeInclusive<u32>) -> Duration {
        duration * self.rng.random_range(percent) / 100
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("identity", self.swim.identity())
            .field("life", &self.life)
            .field("members", &self.members.len())
            .field("names", &self.directory.names_held())
            .finish_non_exhaustive()
    }
}

/// A node speaks for itself alone.
fn check_speaker(from: &NodeName, message: &ControlMessage) -> Result<(), Violation> {
    let claimed = match message {
        ControlMessage::Swim(packet) => &packet.header.source,
        ControlMessage::SyncRequest(request) => &request.sender.identity,
        ControlMessage::SyncReply(reply) => &reply.sender.identity,
        ControlMessage::Leave(identity) => identity,
        ControlMessage::Rumour(_)
        | ControlMessage::Members(_)
        | ControlMessage::MemberDigest(_)
        | ControlMessage::MemberAnswer(_)
        | ControlMessage::NameHeads(_)
        | ControlMessage::NamePull(_)
        | ControlMessage::Names(_)
        | ControlMessage::NameQuery(_)
        | ControlMessage::NameAnswer(_)
        | ControlMessage::LeaveAcknowledged(_) => return Ok(()),
    };
    if claimed.name == *from {
        return Ok(());
    }
    Err(Violation::ForeignSource {
        from: from.clone(),
        claimed: claimed.name.clone(),
    })
}

/// Rounds of push and pull that come soon after the start.
const EARLY_ROUNDS: u32 = 5;

/// The share of the interval after which they come.
const EARLY_SHARE: u32 = 5;
/// Changes of names that are told in one turn: about a millisecond's work.
const CHANGES_PER_TURN: usize = 1024;

/// Longest message on a stream, in bytes: half of a control frame, as lengths are estimates.
const MESSAGE_LEN_MAX: usize = 32 * 1024;

/// Shortest limit of a message on a stream, in bytes: a few of the longest members fit.
const MESSAGE_LEN_MIN: usize = 8 * 1024;

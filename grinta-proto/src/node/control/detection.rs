//! Failure detection, from foca's decisions to events, timers and messages; and what others say
//! about this node itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::identity::{Guard, Verdict};
use super::leave::Life;
use super::members::Entry;
use super::swim::{self, Outcome, SwimTimer};
use super::{Channel, Control, ControlEvent, ControlOutput, ControlTimer, Identity};
use crate::mutant::mutant;
use crate::name::{NodeName, Session};
use crate::node::event::MemberEvent;
use crate::wire::claims::Version;
use crate::wire::control::{
    ControlMessage, DATAGRAM_LEN_MAX, Health, MemberIdentity, MemberUpdate, SwimHeader, SwimKind,
    SwimPacket,
};

/// What others say that foca has no word for.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    /// Who left on purpose.
    pub(super) left: Vec<MemberIdentity>,
    /// For how long members are gone.
    pub(super) gone_for: BTreeMap<NodeName, Duration>,
}

impl Control {
    pub(super) fn handle_swim(&mut self, now: Instant, mut packet: SwimPacket) {
        let ours = self.swim.identity().clone();
        let header = &packet.header;
        let mut verdicts = Vec::new();
        let mut judge = |guard: &mut Guard, theirs: &MemberIdentity, health| {
            let verdict = guard.judge(now, &ours, theirs, health);
            verdicts.push((verdict, theirs.clone()));
            verdict == Verdict::Pass
        };
        let is_death = header.kind == SwimKind::TurnUndead && header.destination == ours;
        if is_death && !judge(&mut self.guard, &ours, Health::Down) {
            packet.header.kind = SwimKind::Gossip;
        }
        let room = MEMBERS_MAX.saturating_sub(self.members.len());
        let patience = self.swim.suspicion();
        let (guard, members) = (&mut self.guard, &self.members);
        let mut left = Vec::new();
        packet.updates.retain_mut(|update| {
            if update.identity.name == ours.name {
                return judge(guard, &update.identity, update.health);
            }
            match update.health {
                Health::Alive | Health::Suspect => {}
                // It is in its own words, relayed by those whom it told.
                Health::Left => left.push(update.identity.clone()),
                Health::Down => *update = members.doubted(now, patience, update.clone()),
            }
            members.is_news(update) && (room > 0 || members.get(&update.identity.name).is_some())
        });
        let is_suspected = packet.updates.iter().any(|update| update.identity == ours);
        let outcome = self.swim.handle_packet(&packet);
        self.absorb(
            now,
            outcome,
            &Hearsay {
                left,
                ..Hearsay::default()
            },
        );
        if is_suspected && matches!(self.life, Life::Present) {
            self.refute(&packet.header.source);
        }
        for (verdict, theirs) in verdicts {
            self.follow(now, verdict, Some(shown(&theirs)));
        }
    }

    /// Answers whoever says that this node is suspect. foca tells its refutation to a few at
    /// random, and who misses that would hold on to a suspicion that all others have dropped.
    fn refute(&mut self, suspecter: &MemberIdentity) {
        self.say(suspecter, SwimKind::Gossip, Vec::new());
    }

    /// Sends what foca would not say by itself.
    fn say(&mut self, to: &MemberIdentity, kind: SwimKind, updates: Vec<MemberUpdate>) {
        let header = SwimHeader {
            source: self.swim.identity().clone(),
            incarnation: self.swim.incarnation(),
            destination: to.clone(),
            kind,
        };
        let packet = SwimPacket { header, updates };
        self.send_to(to, ControlMessage::Swim(packet), Channel::Datagram);
    }

    pub(super) fn handle_swim_timer(&mut self, now: Instant, timer: SwimTimer) {
        if let foca::Timer::RemoveDown(identity) = &timer {
            let identity = identity.identity();
            if self.members.forget(identity) {
                self.directory.forget(&identity.name);
                self.rumours.forget(&identity.name);
                if let Some(proofs) = &mut self.proofs {
                    proofs.forget(&identity.name);
                }
            }
        }
        // A process that was frozen, or has no time, fires the second stage of a probe late, maybe
        // with the judgement of it: whom it asks for help then must have the time to answer.
        if let foca::Timer::SendIndirectProbe { .. } = &timer
            && !mutant!(TimersFirst)
        {
            self.judgement = now + (self.config.probe_interval - self.config.probe_timeout);
        }
        if matches!(timer, foca::Timer::ProbeRandomMember(_)) && now < self.judgement {
            let delay = self.judgement - now;
            self.arm_swim(now, delay, timer);
            return;
        }
        let outcome = self.swim.handle_timer(timer);
        self.absorb(now, outcome, &Hearsay::default());
    }

    fn arm_swim(&mut self, now: Instant, delay: Duration, timer: SwimTimer) {
        self.timers
            .arm_ranked(now, delay, swim::rank(&timer), ControlTimer::Swim(timer));
    }

    /// Turns what foca decided into events, timers and messages.
    pub(super) fn absorb(&mut self, now: Instant, outcome: Outcome, hearsay: &Hearsay) {
        let active = self.members.active_count();
        for mut change in outcome.changes {
            if change.health == Health::Down && hearsay.left.contains(&change.identity) {
                change.health = Health::Left;
            }
            let gone_for = hearsay.gone_for.get(&change.identity.name);
            let gone_for = gone_for.filter(|_| !change.health.is_active());
            let since = gone_for.and_then(|gone_for| now.checked_sub(*gone_for));
            let events = self.members.apply(since.unwrap_or(now), &change);
            self.note_change(now, &change);
            self.outputs.extend(events.into_iter().map(member_output));
            self.follow_asked(&change.identity.name, change.health.is_active());
        }
        for identity in &hearsay.left {
            self.set_left(identity);
        }
        if self.members.active_count() != active {
            self.swim.set_size(self.members.active_count() + 1);
        }
        for (delay, timer) in outcome.timers {
            if let foca::Timer::ChangeSuspectToDown {
                member_id,
                incarnation,
                ..
            } = &timer
            {
                let suspect = MemberUpdate {
                    identity: member_id.identity().clone(),
                    incarnation: *incarnation,
                    health: Health::Suspect,
                };
                let pause = self.config.probe_interval / 2;
                self.timers.arm(now, pause, ControlTimer::Remind(suspect));
            }
            let delay = self.remaining(now, delay, &timer);
            self.arm_swim(now, delay, timer);
        }
        for packet in outcome.packets {
            self.send_packet(packet, hearsay);
        }
        if outcome.idle && matches!(self.life, Life::Present) {
            // Those who lost each other at the same moment do not all come back in the same.
            let delay = self.jittered(self.config.probe_interval, 0..=100);
            self.begin_seeking(now, delay);
        }
    }

    /// How long until a timer of foca's: a member of whose end we heard late is forgotten with
    /// the others.
    pub(super) fn remaining(&self, now: Instant, delay: Duration, timer: &SwimTimer) -> Duration {
        let foca::Timer::RemoveDown(identity) = timer else {
            return delay;
        };
        let entry = self.members.get(&identity.identity().name);
        let gone_for = entry.map(|entry| now.saturating_duration_since(entry.since()));
        delay.saturating_sub(gone_for.unwrap_or_default())
    }

    /// Sends a packet of foca's, with what foca does not know: who left, and that a member which
    /// is not held down must not be told so (foca tells also one that refuted in time).
    pub(super) fn send_packet(&mut self, mut packet: SwimPacket, hearsay: &Hearsay) {
        let to = packet.header.destination.clone();
        // foca relays to whomever a packet names, which may be this node or an earlier run of it.
        if to.name == self.swim.identity().name {
            return;
        }
        if packet.header.kind == SwimKind::TurnUndead
            && self.members.departure(&to).is_none()
            && !mutant!(TurnUndeadToTheLiving)
        {
            return;
        }
        for update in &mut packet.updates {
            let has_left = self.members.departure(&update.identity) == Some(Health::Left)
                || hearsay.left.contains(&update.identity);
            if update.health == Health::Down && has_left {
                update.health = Health::Left;
            }
        }
        let channel = channel(&packet.header.kind);
        let message = self.with_suspicion(packet);
        self.send_to(&to, message, channel);
    }

    /// Puts into a ping for a suspect that it is one. foca tells each change a few times only, to
    /// anybody: the one who can refute it might hear of it last, or never, while all others count
    /// its time (the buddy system of Lifeguard, Dadgar et al. 2018). A ping alone, of which there
    /// are few: a refutation is gossip, and if gossip brought about refutations, those who suspect
    /// each other would do nothing else.
    fn with_suspicion(&self, mut packet: SwimPacket) -> ControlMessage {
        let to = &packet.header.destination;
        let entry = self.members.get(&to.name);
        let entry = entry.filter(|it| it.health == Health::Suspect && it.identity == *to);
        let is_told = packet.updates.iter().any(|it| it.identity == *to);
        let is_ping = matches!(
            packet.header.kind,
            SwimKind::Ping(_) | SwimKind::IndirectPing { .. }
        );
        let Some(entry) = entry.filter(|_| is_ping && !is_told) else {
            return ControlMessage::Swim(packet);
        };
        packet.updates.insert(0, entry.update());
        let mut message = ControlMessage::Swim(packet);
        while message.encoded_len() > DATAGRAM_LEN_MAX
            && let ControlMessage::Swim(packet) = &mut message
            && packet.updates.pop().is_some()
        {}
        message
    }

    /// Reminds a suspect that it is one, until it refutes or is down: whoever will take it down does
    /// not wait for a ping that tells it.
    pub(super) fn remind(&mut self, now: Instant, suspect: MemberUpdate) {
        let entry = self.members.get(&suspect.identity.name);
        if entry.is_none_or(|entry| entry.update() != suspect) {
            return;
        }
        self.say(&suspect.identity, SwimKind::Gossip, vec![suspect.clone()]);
        let timer = ControlTimer::Remind(suspect);
        self.timers.arm(now, self.config.probe_interval, timer);
    }

    /// Tells a few members that are held down that they are. Who had to renew itself knows that a
    /// cut has healed; so it does for others what was done for it, and all renew within a few
    /// round trips instead of one round of push and pull.
    pub(super) fn tell_the_down(&mut self) {
        let down = self.members.iter();
        let down = down.filter(|entry| entry.health == Health::Down);
        let down = down.map(|entry| entry.identity.clone());
        for destination in down.sample(&mut self.rng, DOWN_TOLD) {
            self.say(&destination, SwimKind::TurnUndead, Vec::new());
        }
    }

    /// Follows a member's change in the directory.
    pub(super) fn note_change(&mut self, now: Instant, change: &MemberUpdate) {
        let MemberIdentity { name, session, .. } = &change.identity;
        if change.health.is_active() {
            self.directory.set_reachable(name, *session);
        } else {
            self.directory.set_unreachable(name);
            let timer = ControlTimer::DropContents(change.identity.clone());
            self.timers.arm(
                now,
                self.config.names_retention.min(self.config.down_retention),
                timer,
            );
        }
    }

    /// Does what was judged about news of ourselves.
    pub(super) fn follow(&mut self, now: Instant, verdict: Verdict, other: Option<Identity>) {
        match verdict {
            Verdict::Pass | Verdict::Ignore => {}
            Verdict::Conflict => self.tell_conflict(other),
            Verdict::Displaced { known } => {
                if !known {
                    self.tell_conflict(other.clone());
                }
                self.step_aside(other.map(|other| other.address));
            }
            Verdict::Outlive(session) => self.outlive(now, session),
        }
    }

    fn tell_conflict(&mut self, other: Option<Identity>) {
        let event = ControlEvent::IdentityConflict { other };
        self.outputs.push_back(ControlOutput::Event(event));
    }

    /// Begins a session after one that an earlier run of this node had, at random: an earlier run
    /// may have outlived the same one, and two runs of one session would be taken for one. What
    /// this node claimed is claimed anew, for the earlier claims end with their session.
    pub(super) fn outlive(&mut self, now: Instant, session: Session) {
        if mutant!(ClockResetOnRestart) {
            return;
        }
        let unix_time = self.unix_time(now);
        let ahead = self.rng.random_range(1..=SESSIONS_AHEAD);
        let session = Session(session.0.saturating_add(ahead));
        let session = self.directory.renew(session, unix_time);
        self.labels.session = session;
        let identity = MemberIdentity {
            session,
            bump: 0,
            ..self.swim.identity().clone()
        };
        self.change_identity(now, identity);
        self.tell_own_claims(now, Version(0));
    }

    pub(super) fn change_identity(&mut self, now: Instant, identity: MemberIdentity) {
        let outcome = self.swim.change_identity(identity);
        self.absorb(now, outcome, &Hearsay::default());
        // foca takes part again with the next it hears; the members that it holds are enough.
        let known = self.members.active().next().map(Entry::update);
        let outcome = self.swim.apply(known.as_slice());
        self.absorb(now, outcome, &Hearsay::default());
    }
}

/// What replaces a direct probe that failed goes on streams, where nothing is lost: a network that
/// drops datagrams makes nobody suspect (memberlist falls back to TCP for the same reason).
const fn channel(kind: &SwimKind) -> Channel {
    match kind {
        SwimKind::Ping(_) | SwimKind::Ack(_) | SwimKind::Gossip | SwimKind::TurnUndead => {
            Channel::Datagram
        }
        SwimKind::PingRequest { .. }
        | SwimKind::IndirectPing { .. }
        | SwimKind::IndirectAck { .. }
        | SwimKind::ForwardedAck { .. } => Channel::Stream,
    }
}

pub(super) fn shown(identity: &MemberIdentity) -> Identity {
    let MemberIdentity {
        name,
        address,
        session,
        bump: _,
    } = identity.clone();
    Identity {
        name,
        address,
        session,
    }
}

pub(super) const fn member_output(event: MemberEvent) -> ControlOutput {
    ControlOutput::Event(ControlEvent::Member(event))
}

/// Members that are told at each renewal that they are down, so that one in three thousand is told
/// by nobody.
const DOWN_TOLD: usize = 8;

/// How far a session may lie beyond the one that it outlives: a second, since sessions are
/// milliseconds of the wall clock.
const SESSIONS_AHEAD: u64 = 1000;

/// Members remembered, gone ones included: eight times those that a fabric is made for.
pub(super) const MEMBERS_MAX: usize = 16_384;

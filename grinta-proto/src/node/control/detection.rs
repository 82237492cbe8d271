//! Failure detection, from foca's decisions to events, timers and messages; and what others say
//! about this node itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::directory::{ClaimMode, Standing};
use super::identity::{Guard, Verdict};
use super::leave::Life;
use super::members::Entry;
use super::swim::{self, Outcome, SwimTimer};
use super::{Channel, Control, ControlEvent, ControlOutput, ControlTimer, Identity, Violation};
use crate::name::{EndpointName, NodeName, Session};
use crate::node::event::MemberEvent;
use crate::wire::claims::Version;
use crate::wire::control::{
    ControlMessage, Health, MemberIdentity, MemberUpdate, SwimHeader, SwimKind, SwimPacket,
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
    pub(super) fn handle_swim(
        &mut self,
        now: Instant,
        from: &NodeName,
        mut packet: SwimPacket,
    ) -> Result<(), Violation> {
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
        let (guard, members) = (&mut self.guard, &self.members);
        packet.updates.retain(|update| {
            if update.identity.name == ours.name {
                judge(guard, &update.identity, update.health)
            } else {
                room > 0 || members.get(&update.identity.name).is_some()
            }
        });
        let outcome = self
            .swim
            .handle_packet(&packet)
            .map_err(|swim::PacketTooLong| Violation::PacketTooLong { from: from.clone() })?;
        let left = packet
            .updates
            .into_iter()
            .filter(|update| update.health == Health::Left);
        let left = left.map(|update| update.identity).collect();
        self.absorb(
            now,
            outcome,
            &Hearsay {
                left,
                ..Hearsay::default()
            },
        );
        for (verdict, theirs) in verdicts {
            self.follow(now, verdict, Some(shown(&theirs)));
        }
        Ok(())
    }

    pub(super) fn handle_swim_timer(&mut self, now: Instant, timer: SwimTimer) {
        if let foca::Timer::RemoveDown(identity) = &timer {
            let identity = identity.identity();
            if self.members.forget(identity) {
                self.directory.forget(&identity.name);
                self.rumours.forget(&identity.name);
            }
        }
        let outcome = self.swim.handle_timer(timer);
        self.absorb(now, outcome, &Hearsay::default());
    }

    /// Turns what foca decided into events, timers and messages.
    pub(super) fn absorb(&mut self, now: Instant, outcome: Outcome, hearsay: &Hearsay) {
        let active = self.members.active_count();
        for mut change in outcome.changes {
            if change.health == Health::Down && hearsay.left.contains(&change.identity) {
                change.health = Health::Left;
            }
            let events = self.members.apply(now, &change);
            if let Some(gone_for) = hearsay.gone_for.get(&change.identity.name) {
                self.members.backdate(now, &change.identity.name, *gone_for);
            }
            self.note_change(now, &change);
            self.outputs.extend(events.into_iter().map(member_output));
            self.follow_asked(&change.identity.name, change.health.is_active());
        }
        for identity in &hearsay.left {
            let event = self.members.set_left(identity);
            self.outputs.extend(event.map(member_output));
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
            self.timers
                .arm_ranked(now, delay, swim::rank(&timer), ControlTimer::Swim(timer));
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
        if packet.header.kind == SwimKind::TurnUndead && self.members.departure(&to).is_none() {
            return;
        }
        self.tell_suspect(&mut packet);
        for update in &mut packet.updates {
            let has_left = self.members.departure(&update.identity) == Some(Health::Left)
                || hearsay.left.contains(&update.identity);
            if update.health == Health::Down && has_left {
                update.health = Health::Left;
            }
        }
        self.send_to(&to, ControlMessage::Swim(packet), Channel::Datagram);
    }

    /// A ping to a suspect tells it that it is one: it cannot refute what it did not hear, and
    /// foca tells each change a few times only (the buddy system of Lifeguard, Dadgar et al. 2018).
    fn tell_suspect(&self, packet: &mut SwimPacket) {
        let to = &packet.header.destination;
        let entry = self.members.get(&to.name);
        let Some(suspect) =
            entry.filter(|entry| entry.health == Health::Suspect && entry.identity == *to)
        else {
            return;
        };
        let is_told = packet.updates.iter().any(|update| update.identity == *to);
        if matches!(packet.header.kind, SwimKind::Ping(_)) && !is_told {
            // What makes room for it is told to others.
            packet.updates.truncate(UPDATES_BESIDE);
            packet.updates.push(suspect.update());
        }
    }

    /// Reminds a member that our probe failed to reach, until it refutes or is down.
    pub(super) fn remind(&mut self, now: Instant, suspect: MemberUpdate) {
        let entry = self.members.get(&suspect.identity.name);
        if entry.is_none_or(|entry| entry.update() != suspect) {
            return;
        }
        let header = SwimHeader {
            source: self.swim.identity().clone(),
            incarnation: self.swim.incarnation(),
            destination: suspect.identity.clone(),
            kind: SwimKind::Gossip,
        };
        let packet = SwimPacket {
            header,
            updates: vec![suspect.clone()],
        };
        self.send_to(
            &suspect.identity,
            ControlMessage::Swim(packet),
            Channel::Datagram,
        );
        let timer = ControlTimer::Remind(suspect);
        self.timers.arm(now, self.config.probe_interval, timer);
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
                CONTENTS_RETENTION.min(self.config.down_retention),
                timer,
            );
        }
    }

    /// Does what was judged about news of ourselves.
    pub(super) fn follow(&mut self, now: Instant, verdict: Verdict, other: Option<Identity>) {
        match verdict {
            Verdict::Pass | Verdict::Ignore => {}
            Verdict::Conflict => {
                let event = ControlEvent::IdentityConflict { other };
                self.outputs.push_back(ControlOutput::Event(event));
            }
            Verdict::Outlive(session) => self.outlive(now, session),
        }
    }

    /// Begins a session after one that an earlier run of this node had. What this node claimed
    /// is claimed anew, for the earlier claims end with their session.
    pub(super) fn outlive(&mut self, now: Instant, session: Session) {
        let held: Vec<_> = self.directory.held().cloned().collect();
        let owned: BTreeSet<_> = held
            .iter()
            .filter(|name| self.owns(name))
            .cloned()
            .collect();
        let session = self.directory.restart(Session(session.0.saturating_add(1)));
        self.labels.session = session;
        let identity = MemberIdentity {
            session,
            bump: 0,
            ..self.swim.identity().clone()
        };
        self.change_identity(now, identity);
        let unix_time = self.wall.1 + now.saturating_duration_since(self.wall.0);
        for name in held {
            let standing = self
                .directory
                .claim(name.clone(), ClaimMode::Standby, unix_time);
            if standing == Ok(Standing::Standby)
                && owned.contains(&name)
                && let Some(winner) = self.directory.owner_of(&name).cloned()
            {
                let event = ControlEvent::NameLost { name, winner };
                self.outputs.push_back(ControlOutput::Event(event));
            }
        }
        self.tell_own_claims(now, Version(0));
    }

    pub(super) fn owns(&self, name: &EndpointName) -> bool {
        self.directory.standing(name) == Some(Standing::Owner)
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

/// Updates that fit a datagram beside the header and one update more, all of the longest names.
const UPDATES_BESIDE: usize = 2;

/// Members remembered, gone ones included: eight times those that a fabric is made for.
pub(super) const MEMBERS_MAX: usize = 16_384;

/// How long the names of a member that is gone are kept: an hour, so that a cut cable moves no
/// names when it is mended. How far they went is kept for as long as the member is.
const CONTENTS_RETENTION: Duration = Duration::from_secs(3600);

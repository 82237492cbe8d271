//! Leaving on purpose: others are told in person, and some have to say that they know. And the
//! same said of a member that can no longer say it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use rand::seq::IteratorRandom;

use super::detection::{Hearsay, member_output};
use super::{Channel, Control, ControlEvent, ControlOutput, ControlTimer};
use crate::name::NodeName;
use crate::node::timers::TimerKey;
use crate::wire::control::{ControlMessage, Health, MemberIdentity, MemberUpdate};

/// How far this node is from leaving.
#[derive(Debug)]
pub(super) enum Life {
    /// It takes part.
    Present,
    /// It told others that it goes.
    Leaving {
        /// Who is yet to say that it knows.
        told: BTreeSet<NodeName>,
        /// How many more need to.
        wanted: usize,
        /// When it goes anyway.
        bound: TimerKey,
    },
    /// It is gone.
    Left,
}

/// Why a member is not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// No such member was ever heard of.
    #[error("{name} is no member; look its name up among the members")]
    Unknown {
        /// The name.
        name: NodeName,
    },
    /// The member is alive, or suspect and may refute.
    #[error("{name} takes part; only a member that is down can be forgotten")]
    Present {
        /// Its name.
        name: NodeName,
    },
    /// It is this node itself.
    #[error("a node does not forget itself; let it leave")]
    Oneself,
}

impl Control {
    /// Leaves the fabric on purpose: tells the others, and [`ControlEvent::Left`] follows once
    /// some have said that they know, or two probe intervals have passed.
    pub fn leave(&mut self, now: Instant) {
        if !matches!(self.life, Life::Present) {
            return;
        }
        self.end_questions();
        let outcome = self.swim.leave();
        let ours = self.swim.identity().clone();
        let gone = Hearsay {
            left: vec![ours.clone()],
            ..Hearsay::default()
        };
        self.absorb(now, outcome, &gone);
        self.end_rounds();
        let told: Vec<_> = self
            .members
            .active()
            .map(|entry| entry.identity.clone())
            .collect();
        let told = told.into_iter().sample(&mut self.rng, LEAVE_TOLD);
        for member in &told {
            self.send_to(member, ControlMessage::Leave(ours.clone()), Channel::Stream);
        }
        let wanted = told.len().min(LEAVE_WANTED);
        let bound = self.timers.arm(
            now,
            2 * self.config.probe_interval,
            ControlTimer::LeaveBound,
        );
        let told = told.into_iter().map(|member| member.name).collect();
        self.life = Life::Leaving {
            told,
            wanted,
            bound,
        };
        if wanted == 0 {
            self.finish_leave();
        }
    }

    /// Another process displaced this one: it takes part no more and tells nobody but that one,
    /// if it is known where.
    pub(super) fn step_aside(&mut self, other: Option<SocketAddr>) {
        if !matches!(self.life, Life::Present) {
            return;
        }
        self.life = Life::Left;
        self.end_questions();
        self.end_rounds();
        let ours = self.swim.identity().address;
        let connect = other.filter(|address| *address != ours);
        let connect = connect.map(|address| ControlOutput::Connect { address });
        self.outputs.extend(connect);
        self.outputs
            .push_back(ControlOutput::Event(ControlEvent::Displaced));
    }

    /// No round of anything comes any more.
    fn end_rounds(&mut self) {
        self.end_seeking();
        for timer in [self.gossip_timer.take(), self.push_pull_timer.take()]
            .into_iter()
            .flatten()
        {
            self.timers.disarm(timer);
        }
        self.exchanges.clear();
    }

    /// Takes an operator's word that a member which is down will not come back: it counts as left,
    /// here at once and elsewhere as soon as this node's word arrives, and its names are gone.
    /// Where it is held alive the word is doubted. A later run of it may join as any other.
    ///
    /// Does nothing to one that has left.
    ///
    /// # Errors
    /// [`ForgetError`]; nothing changed.
    pub fn forget(&mut self, now: Instant, name: &NodeName) -> Result<(), ForgetError> {
        if *name == self.swim.identity().name {
            return Err(ForgetError::Oneself);
        }
        let entry = self.members.get(name);
        let entry = entry.ok_or_else(|| ForgetError::Unknown { name: name.clone() })?;
        match entry.health {
            Health::Alive | Health::Suspect => {
                return Err(ForgetError::Present { name: name.clone() });
            }
            Health::Left => return Ok(()),
            Health::Down => {}
        }
        let identity = entry.identity.clone();
        self.set_left(&identity);
        let word = self.members.get(name).map(|entry| entry.record(now));
        let message = ControlMessage::Members(word.into_iter().collect());
        if matches!(self.life, Life::Present) {
            let others = self.members.active();
            let others: Vec<_> = others.map(|entry| entry.identity.clone()).collect();
            for member in others {
                self.send_to(&member, message.clone(), Channel::Stream);
            }
        }
        self.settle(now);
        Ok(())
    }

    /// A member that was held down is known to be gone for good.
    pub(super) fn set_left(&mut self, identity: &MemberIdentity) {
        if self.members.departure(identity) == Some(Health::Down) {
            let event = self.members.set_left(identity);
            self.outputs.extend(event.map(member_output));
            self.directory.drop_contents(&identity.name);
        }
    }

    pub(super) fn handle_leave(&mut self, now: Instant, from: &NodeName, identity: MemberIdentity) {
        let acknowledged = ControlMessage::LeaveAcknowledged(identity.clone());
        let update = MemberUpdate {
            identity: identity.clone(),
            incarnation: 0,
            health: Health::Left,
        };
        if self
            .members
            .get(from)
            .is_some_and(|entry| entry.generation() <= identity.generation())
        {
            let outcome = self.swim.apply(&[update]);
            self.absorb(
                now,
                outcome,
                &Hearsay {
                    left: vec![identity],
                    ..Hearsay::default()
                },
            );
        }
        self.send(from, acknowledged, Channel::Stream);
    }

    pub(super) fn handle_leave_acknowledged(
        &mut self,
        _now: Instant,
        from: &NodeName,
        identity: &MemberIdentity,
    ) {
        let Life::Leaving { told, wanted, .. } = &mut self.life else {
            return;
        };
        if identity == self.swim.identity() && told.remove(from) {
            *wanted = wanted.saturating_sub(1);
            if *wanted == 0 {
                self.finish_leave();
            }
        }
    }

    pub(super) fn finish_leave(&mut self) {
        if let Life::Leaving { bound, .. } = std::mem::replace(&mut self.life, Life::Left) {
            self.timers.disarm(bound);
            self.outputs
                .push_back(ControlOutput::Event(ControlEvent::Left));
        }
    }
}

/// How many members a leaving node tells in person: in most fabrics all, in a large one so many
/// that rumours reach the others within a second.
const LEAVE_TOLD: usize = 128;

/// How many of them have to say that they know.
const LEAVE_WANTED: usize = 3;

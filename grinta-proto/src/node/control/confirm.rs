//! Claims with confirmation: opened once a share of the members says that it sees us as the owner.
//!
//! The claim is made and told like any other. Besides, each member gets it ahead of a query on the
//! same stream, so that its answer takes it into account. A member that knows an older claim ends
//! it: ours is withdrawn. One that does not see ours yet is asked again. Members that come are
//! asked too, and those that go no longer count, on neither side of the share.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::directory::{ClaimError, ClaimMode};
use super::leave::Life;
use super::{Channel, Control, ControlEvent, ControlOutput, ControlTimer};

use crate::name::{EndpointName, NodeName};
use crate::node::timers::TimerKey;
use crate::share::Share;
use crate::wire::claims::{OwnerHead, Version};
use crate::wire::control::{ControlMessage, NameView, Rumour};

/// How many members have to see a claim, and how long that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// The share of the other members that are alive or suspect. Without any, a claim is confirmed
    /// at once.
    pub share: Share,
    /// How long they may take. After it the claim is withdrawn.
    pub timeout: Duration,
}

/// Why a claim was not confirmed. It is withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// The claim was refused, here or by a member that knows an older one.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Too few members said in time that they see it.
    #[error("{agreed} of {members} members confirmed the name {name} in time; it takes {needed}")]
    TimedOut {
        /// The name.
        name: EndpointName,
        /// How many members confirmed it.
        agreed: usize,
        /// How many there are.
        members: usize,
        /// How many it takes.
        needed: usize,
    },
    /// Too many queries and confirmations are under way.
    #[error(
        "{limit} queries and confirmations are under way; wait for some, or raise `queries_max`"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// A claim that waits to be confirmed.
#[derive(Debug)]
pub(super) struct Confirming {
    name: EndpointName,
    share: Share,
    /// Our version that all members are taken to reach.
    since: Version,
    /// Members that see our claim.
    agreed: BTreeSet<NodeName>,
    /// Members that were asked twice since the last round.
    retried: BTreeSet<NodeName>,
    bound: TimerKey,
    round: TimerKey,
}

impl Control {
    /// Claims a name that nobody reachable serves, and asks the members whether they see it.
    /// [`ControlEvent::Confirmed`] tells how it ends.
    ///
    /// # Errors
    /// [`ConfirmError`] if it ended at once; nothing changed.
    pub fn claim_confirmed(
        &mut self,
        now: Instant,
        unix_time: Duration,
        name: EndpointName,
        confirmation: Confirmation,
    ) -> Result<(), ConfirmError> {
        if !matches!(self.life, Life::Present) {
            return Err(ConfirmError::ShuttingDown);
        }
        let limit = self.questions.limit;
        let number = self.questions.issue();
        let number = number.ok_or(ConfirmError::TooMany { limit })?;
        let told = self.rumours.since(self.directory.local());
        let since = told.unwrap_or_else(|| self.directory.version());
        self.claim(now, unix_time, name.clone(), ClaimMode::Exclusive)?;
        let Confirmation { share, timeout } = confirmation;
        let bound = ControlTimer::ConfirmBound(number);
        let confirming = Confirming {
            name,
            share,
            since,
            agreed: BTreeSet::new(),
            retried: BTreeSet::new(),
            bound: self.timers.arm(now, timeout, bound),
            round: self.arm_round(now, number),
        };
        self.questions.confirming.insert(number, confirming);
        self.ask_all_to_confirm(number);
        self.settle(now);
        Ok(())
    }

    /// Asks again those who have not confirmed yet.
    pub(super) fn confirm_again(&mut self, now: Instant, number: u64) {
        if self.questions.confirming.contains_key(&number) {
            let round = self.arm_round(now, number);
            if let Some(confirming) = self.questions.confirming.get_mut(&number) {
                confirming.round = round;
                confirming.retried.clear();
            }
            self.ask_all_to_confirm(number);
        }
    }

    /// Asks one member what it has not confirmed yet.
    pub(super) fn confirm_again_with(&mut self, peer: &NodeName) {
        let confirming = self.questions.confirming.iter();
        let waiting: Vec<_> = confirming
            .filter(|(_, it)| !it.agreed.contains(peer))
            .map(|(&number, _)| number)
            .collect();
        for number in waiting {
            self.ask_to_confirm(peer, number);
        }
    }

    /// A member went.
    pub(super) fn confirm_without(&mut self, member: &NodeName) {
        for confirming in self.questions.confirming.values_mut() {
            confirming.agreed.remove(member);
        }
    }

    pub(super) fn handle_confirmation(&mut self, from: &NodeName, number: u64, view: &NameView) {
        let Some(confirming) = self.questions.confirming.get_mut(&number) else {
            return;
        };
        let name = &confirming.name;
        match (view, self.directory.owning_claim(name)) {
            (NameView::Owned { owner, stamp }, Some(ours)) if (owner, *stamp) == ours => {
                let entry = self.members.get(from);
                if entry.is_some_and(|entry| entry.health.is_active()) {
                    confirming.agreed.insert(from.clone());
                }
            }
            (NameView::Owned { owner, stamp }, Some((us, ours)))
                if (*stamp, owner) < (ours, us) =>
            {
                // What its owner gave up meanwhile, the member has yet to hear.
                if owner != us && !self.directory.is_released(name, owner, *stamp) {
                    self.refuse_unconfirmed(number, owner.clone());
                }
            }
            // It has not taken our claim yet. If it asked us for more, that went ahead by now.
            (NameView::Owned { .. } | NameView::Nobody, _) => {
                if confirming.retried.insert(from.clone()) {
                    self.ask_to_confirm(from, number);
                }
            }
            (NameView::NotSynced | NameView::Busy, _) => {}
        }
    }

    /// Our claim gave way to an older one. Whether it was waiting to be confirmed, and is refused.
    pub(super) fn lose_unconfirmed(&mut self, name: &EndpointName, winner: &NodeName) -> bool {
        let number = self.confirming_number(name);
        if let Some(number) = number {
            self.refuse_unconfirmed(number, winner.clone());
        }
        number.is_some()
    }

    /// Ends those that are confirmed.
    pub(super) fn weigh_confirming(&mut self) {
        if !self.is_synced {
            // Who knows of no members yet would be content with none.
            return;
        }
        let members = self.members.active_count();
        let confirming = self.questions.confirming.iter();
        let confirmed: Vec<_> = confirming
            .filter(|(_, it)| it.agreed.len() >= it.share.of(members))
            .map(|(&number, _)| number)
            .collect();
        for number in confirmed {
            if let Some(confirming) = self.questions.confirming.remove(&number) {
                self.end_confirmation(confirming, Ok(()));
            }
        }
    }

    pub(super) fn expire_confirmation(&mut self, number: u64) {
        let Some(confirming) = self.questions.confirming.remove(&number) else {
            return;
        };
        let members = self.members.active_count();
        let error = ConfirmError::TimedOut {
            name: confirming.name.clone(),
            agreed: confirming.agreed.len(),
            members,
            needed: confirming.share.of(members),
        };
        self.withdraw(&confirming.name);
        self.end_confirmation(confirming, Err(error));
    }

    /// The claim is given up by its program: nobody waits for the end.
    pub(super) fn cancel_confirmation(&mut self, name: &EndpointName) {
        let number = self.confirming_number(name);
        let confirming = number.and_then(|number| self.questions.confirming.remove(&number));
        if let Some(confirming) = confirming {
            self.timers.disarm(confirming.bound);
            self.timers.disarm(confirming.round);
        }
    }

    pub(super) fn end_confirming(&mut self) {
        for confirming in std::mem::take(&mut self.questions.confirming).into_values() {
            self.directory.release(&confirming.name);
            self.end_confirmation(confirming, Err(ConfirmError::ShuttingDown));
        }
    }

    fn ask_all_to_confirm(&mut self, number: u64) {
        let active = self.members.active();
        let active: Vec<_> = active.map(|entry| entry.identity.name.clone()).collect();
        let Some(confirming) = self.questions.confirming.get(&number) else {
            return;
        };
        let waiting = active
            .into_iter()
            .filter(|it| !confirming.agreed.contains(it));
        for member in waiting.collect::<Vec<_>>() {
            self.ask_to_confirm(&member, number);
        }
    }

    /// Sends a member the claim, then the question.
    fn ask_to_confirm(&mut self, member: &NodeName, number: u64) {
        self.sign();
        let Some(confirming) = self.questions.confirming.get(&number) else {
            return;
        };
        let name = confirming.name.clone();
        let ours = self.directory.head(self.directory.local());
        let theirs = OwnerHead {
            version: confirming.since.min(ours.version),
            ..ours.clone()
        };
        let delta = self.directory.delta_for(&theirs, self.message_len);
        if let Some(delta) = delta.and_then(|delta| self.proven(delta)) {
            let is_cut = delta.upto < ours.version;
            let rumour = Rumour {
                deltas: vec![delta],
                heads: is_cut.then_some(ours).into_iter().collect(),
                labels: Vec::new(),
            };
            self.send(member, ControlMessage::Rumour(rumour), Channel::Stream);
        }
        self.ask(member, number, &name);
    }

    fn arm_round(&mut self, now: Instant, number: u64) -> TimerKey {
        let pause = ASK_AGAIN * self.config.gossip_interval;
        let timer = ControlTimer::ConfirmAgain(number);
        self.timers.arm(now, pause, timer)
    }

    fn confirming_number(&self, name: &EndpointName) -> Option<u64> {
        let confirming = self.questions.confirming.iter();
        let mut numbers = confirming.filter(|(_, it)| it.name == *name);
        numbers.next().map(|(&number, _)| number)
    }

    fn refuse_unconfirmed(&mut self, number: u64, owner: NodeName) {
        if let Some(confirming) = self.questions.confirming.remove(&number) {
            let name = confirming.name.clone();
            self.withdraw(&name);
            let taken = ClaimError::Taken { name, owner };
            self.end_confirmation(confirming, Err(taken.into()));
        }
    }

    /// Takes a claim back. Whoever does so settles later.
    fn withdraw(&mut self, name: &EndpointName) {
        let since = self.directory.version();
        if self.directory.release(name) {
            let owner = self.directory.local().clone();
            self.rumours.tell_owner(owner, since, self.swim.tellings());
        }
    }

    fn end_confirmation(&mut self, confirming: Confirming, result: Result<(), ConfirmError>) {
        self.timers.disarm(confirming.bound);
        self.timers.disarm(confirming.round);
        let name = confirming.name;
        let event = ControlEvent::Confirmed { name, result };
        self.outputs.push_back(ControlOutput::Event(event));
    }
}

/// How many gossip intervals members have until they are asked again: a claim that they lack is
/// pulled in fewer.
const ASK_AGAIN: u32 = 5;

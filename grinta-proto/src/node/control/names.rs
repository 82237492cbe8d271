//! Names: the program's claims and questions, and what rumours tell of the claims of others.

use std::time::{Duration, Instant};

use rand::seq::IteratorRandom;

use super::detection::member_output;
use super::directory::{self, ClaimError, ClaimMode, Located, Standing};
use super::proving::{Taken, Teller};
use super::{
    Channel, Control, ControlEvent, ControlOutput, Holder, ListedName, NamePage, Resolution,
    Violation,
};
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{OwnerDelta, Version};
use crate::wire::control::{ControlMessage, DATAGRAM_LEN_MAX, Health, Rumour};

impl Control {
    /// Claims a name as `mode` says, and returns what the claim has come to.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing changed.
    pub fn claim(
        &mut self,
        now: Instant,
        unix_time: Duration,
        name: EndpointName,
        mode: ClaimMode,
    ) -> Result<Standing, ClaimError> {
        self.wall = (now, unix_time);
        self.may_hold(&name)?;
        let since = self.directory.version();
        let standing = self.directory.claim(name, mode, unix_time)?;
        self.tell_own_claims(now, since);
        Ok(standing)
    }

    /// Gives a name up. Does nothing if this node does not hold it.
    pub fn release(&mut self, now: Instant, name: &EndpointName) {
        self.cancel_confirmation(name);
        let since = self.directory.version();
        if self.directory.release(name) {
            self.tell_own_claims(now, since);
        }
    }

    /// The owner was dialled and says that it holds no such endpoint: it is not resolved to again
    /// until its set of names changes.
    pub fn mark_stale(&mut self, owner: &NodeName, name: &EndpointName) {
        let located = self
            .directory
            .candidates(name)
            .into_iter()
            .find(|it| it.owner == *owner);
        if let Some(located) = located {
            self.directory.mark_stale(name, &located);
            let denied = self.denied.entry(owner.clone()).or_default();
            denied.insert(name.clone());
        }
    }

    /// Where a name is served.
    #[must_use]
    pub fn resolve(&self, name: &EndpointName) -> Resolution {
        let missing = if self.is_synced {
            Resolution::NotFound
        } else {
            Resolution::NotSynced
        };
        match self.directory.resolve(name) {
            directory::Resolution::Local => Resolution::Local,
            directory::Resolution::Remote(located) => {
                self.members
                    .get(&located.owner)
                    .map_or(missing, |entry| Resolution::Remote {
                        owner: located.owner,
                        address: entry.identity.address,
                        suspect: entry.health == Health::Suspect,
                    })
            }
            directory::Resolution::Unreachable { owner } => match self.members.get(&owner) {
                Some(entry) if entry.health == Health::Down => Resolution::Unreachable {
                    owner,
                    since: entry.since(),
                },
                Some(_) | None => missing,
            },
            directory::Resolution::NotFound => missing,
        }
    }

    /// All who serve a name now, in the order in which they own it: one, unless it is shared.
    #[must_use]
    pub fn holders(&self, name: &EndpointName) -> Vec<Holder> {
        let holder = |located: Located| {
            if located.owner == *self.directory.local() {
                return Some(Holder::Local);
            }
            let entry = self.members.get(&located.owner)?;
            Some(Holder::Remote {
                node: located.owner,
                address: entry.identity.address,
                suspect: entry.health == Health::Suspect,
            })
        };
        let servers = self.directory.servers(name).into_iter();
        servers.filter_map(holder).collect()
    }

    /// Names that somebody serves and that look like `name`: the nearest first, at most `limit`.
    #[must_use]
    pub fn near(&self, name: &EndpointName, limit: usize) -> Vec<EndpointName> {
        self.directory.near(name, limit)
    }

    /// The names that begin with `prefix` and come behind `after`, in order: at most `limit`, and
    /// fewer where many are hidden.
    #[must_use]
    pub fn names(&self, prefix: &str, after: Option<&EndpointName>, limit: usize) -> NamePage {
        let page = self.directory.scan(prefix, after, limit);
        let listed = |directory::Listing { name, owner }| {
            let entry = self.members.get(&owner);
            ListedName {
                is_suspect: entry.is_some_and(|entry| entry.health == Health::Suspect),
                standing: self.directory.standing(&name),
                name,
                owner,
            }
        };
        NamePage {
            names: page.listings.into_iter().map(listed).collect(),
            next: page.next,
        }
    }
}

impl Control {
    pub(super) fn handle_rumour(
        &mut self,
        now: Instant,
        from: &NodeName,
        rumour: Rumour,
    ) -> Result<(), Violation> {
        let mut wanted = Vec::new();
        let mut handled = Ok(());
        let teller = Teller {
            from,
            heads: &rumour.heads,
            certificates: &[],
        };
        for delta in &rumour.deltas {
            let taken = self.apply_delta(now, teller, delta);
            handled = handled.and_then(|()| self.check_teller(teller, delta, &taken));
            if let Taken::Gap { known } | Taken::Kept { known } = taken {
                wanted.push(known);
            }
        }
        for head in &rumour.heads {
            if self.lacks(now, head) {
                wanted.push(self.reached(from, head));
            }
        }
        let patience = ASK_AGAIN * self.config.gossip_interval;
        wanted.retain(|head| self.rumours.may_ask(now, &head.owner, patience));
        self.pull(from, wanted, 0);
        for change in rumour.labels {
            if let Some(event) = self.members.set_labels(&change.name, &change.labels) {
                self.outputs.extend(event.map(member_output));
                self.rumours.tell_labels(change.name, self.swim.tellings());
            }
        }
        handled
    }

    /// Merges what another node tells of an owner's names, and tells it on if it is news.
    pub(super) fn apply_delta(
        &mut self,
        now: Instant,
        teller: Teller<'_>,
        delta: &OwnerDelta,
    ) -> Taken {
        let taken = self.take(now, teller, delta);
        if taken == Taken::Advanced {
            self.rumours.answered(&delta.owner);
            self.tell_renewed(&delta.owner);
            // Before it is synced, a node hears what the others know.
            if self.is_synced {
                let tellings = self.swim.tellings();
                self.rumours
                    .tell_owner(delta.owner.clone(), delta.after, tellings);
            }
        }
        taken
    }

    /// Whether a peer may tell what it told. What it tells of itself holds no more names than it may;
    /// what others tell of it is hearsay, and no fault of theirs: the directory bounds it.
    pub(super) fn check_teller(
        &self,
        teller: Teller<'_>,
        delta: &OwnerDelta,
        taken: &Taken,
    ) -> Result<(), Violation> {
        let (from, owner) = (teller.from, &delta.owner);
        if let Taken::Unsaid(unsaid) = taken {
            return Err(unsaid.violation(from, owner));
        }
        if owner != from {
            return Ok(());
        }
        let mut heads = teller.heads.iter();
        let is_all = self.directory.head(from).version == delta.upto
            && heads.all(|head| head.owner != *from || head.version <= delta.upto);
        let limit = match taken {
            Taken::Full { limit } => Some(*limit).filter(|limit| limit.is_per_node()),
            Taken::Advanced if is_all => self.directory.breach(from),
            Taken::Advanced
            | Taken::Nothing
            | Taken::Kept { .. }
            | Taken::Gap { .. }
            | Taken::Refused
            | Taken::Unsaid(_) => None,
        };
        limit.map_or(Ok(()), |limit| {
            Err(Violation::TooManyNames {
                from: from.clone(),
                limit,
                most: self.directory.limits().most(limit),
            })
        })
    }

    /// An owner's set has changed: the names that it denied are worth another dial, if it claims
    /// them still, or again.
    fn tell_renewed(&mut self, owner: &NodeName) {
        for name in self.denied.remove(owner).unwrap_or_default() {
            let resolution = self.resolve(&name);
            if matches!(resolution, Resolution::Remote { .. }) {
                let event = ControlEvent::NameRenewed { name };
                self.outputs.push_back(ControlOutput::Event(event));
            }
        }
    }

    /// Somebody holds claims of ours that we never made.
    pub(super) fn hear_disowned(&mut self, now: Instant, session: Session) {
        let ours = self.swim.identity().session;
        let verdict = self.guard.judge_claims(ours, session);
        self.follow(now, verdict, None);
    }

    pub(super) fn tell_own_claims(&mut self, now: Instant, since: Version) {
        let owner = self.directory.local().clone();
        self.rumours.tell_owner(owner, since, self.swim.tellings());
        self.settle(now);
    }

    /// Tells a few members what changed.
    pub(super) fn gossip(&mut self, now: Instant) {
        self.gossip_timer = None;
        self.gossiped = Some(now);
        self.sign_rumour(now);
        let listeners: Vec<_> = self
            .members
            .active()
            .map(|entry| entry.identity.clone())
            .collect();
        let fanout = self.config.gossip_fanout.max(1);
        let listeners = listeners.into_iter().sample(&mut self.rng, fanout);
        let count = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
        let ours = &self.swim.identity().name;
        let (labels, members) = (&self.labels, &self.members);
        let labels_of = |name: &NodeName| match members.get(name) {
            _ if name == ours => Some(labels.clone()),
            Some(entry) => entry.labels().cloned(),
            None => None,
        };
        let rumour = self.rumours.compose(
            count.max(1),
            &self.directory,
            self.proofs.as_ref(),
            labels_of,
        );
        if rumour == Rumour::default() {
            return self.settle(now);
        }
        let message = ControlMessage::Rumour(rumour);
        let channel = match message.encoded_len() {
            0..=DATAGRAM_LEN_MAX => Channel::Datagram,
            _ => Channel::Stream,
        };
        for listener in listeners {
            self.send_to(&listener, message.clone(), channel);
        }
        self.settle(now);
    }
}

/// How many gossip intervals the answer to a pull may take before another member is asked.
const ASK_AGAIN: u32 = 5;

//! Push and pull: one node compares all it knows, members and names, with another.
//!
//! The asker keeps an [`Exchange`]; the answerer keeps nothing. Where the hashes agree, two small
//! messages are all. Else the members are told both ways, and the names bucket by bucket: heads
//! one way, claims both ways. Everything is bounded by the length of a message; what does not fit
//! is told by its head, and whoever lacks it pulls.
//!
//! What is remotely *down* and alive here becomes suspect, as in memberlist: the other side may
//! have been cut off. If it was right, our own probes will tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::detection::{Hearsay, MEMBERS_MAX, member_output, shown};
use super::directory::{Applied, BUCKETS};
use super::gossip::{delta_len, head_len, labels_len};
use super::identity::Verdict;
use super::leave::Life;
use super::names::is_beyond;
use super::{Channel, Control, ControlOutput, ControlTimer, members};
use crate::name::NodeName;
use crate::wire::claims::OwnerHead;
use crate::wire::control::{
    ControlMessage, Health, MemberRecord, MemberUpdate, NameHeads, NamePull, Names, SyncReply,
    SyncRequest,
};

/// A comparison that this node began.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Given up if nothing came by then.
    deadline: Instant,
    /// Tells the answers within this exchange from others.
    token: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request is out.
    Asked,
    /// The names of some buckets are awaited, those of the rest will be.
    Names {
        /// Buckets that are being compared.
        current: Vec<u16>,
        /// Buckets that differ and were not compared yet.
        remaining: VecDeque<u16>,
    },
}

impl Control {
    /// One round: one member at random, and one that is down or a seed.
    pub(super) fn push_pull(&mut self, now: Instant) {
        self.exchanges.retain(|_, exchange| exchange.deadline > now);
        let active = self.members.active();
        let active = active.map(|entry| (entry.identity.name.clone(), entry.identity.address));
        if let Some((name, address)) = active.choose(&mut self.rng) {
            self.begin_exchange(now, &name, address);
        }
        self.contact_beyond(now);
        self.directory.collect(RELEASES_KEPT);
        let next = self.jittered(self.config.push_pull_interval, 90..=110);
        let timer = self.timers.arm(now, next, ControlTimer::PushPull);
        self.push_pull_timer = Some(timer);
    }

    /// Compares all with one node, unless that is under way.
    pub(super) fn begin_exchange(&mut self, now: Instant, name: &NodeName, address: SocketAddr) {
        if !matches!(self.life, Life::Present) {
            return;
        }
        if self
            .exchanges
            .get(name)
            .is_some_and(|exchange| exchange.deadline > now)
        {
            return;
        }
        if self.exchanges.len() >= EXCHANGES_MAX {
            self.exchanges.retain(|_, exchange| exchange.deadline > now);
            if self.exchanges.len() >= EXCHANGES_MAX {
                return;
            }
        }
        // Zero is for answers outside of an exchange.
        let token = self.rng.random_range(1..=u32::MAX);
        let exchange = Exchange {
            deadline: self.patience(now),
            token,
            stage: Stage::Asked,
        };
        self.exchanges.insert(name.clone(), exchange);
        let request = ControlMessage::SyncRequest(SyncRequest {
            sender: self.own_record(),
            members_hash: self.members_hash(),
            names_hash: self.directory.hash(),
        });
        let output = ControlOutput::Send {
            to: name.clone(),
            address,
            message: request,
            channel: Channel::Stream,
        };
        self.outputs.push_back(output);
    }

    pub(super) fn handle_sync_request(
        &mut self,
        now: Instant,
        from: &NodeName,
        request: &SyncRequest,
    ) {
        self.merge_sender(now, &request.sender);
        if request.members_hash != self.members_hash() {
            self.send_members(now, from);
        }
        let names_hash = self.directory.hash();
        let name_buckets = match request.names_hash == names_hash {
            true => Vec::new(),
            false => self.directory.bucket_hashes().to_vec(),
        };
        let reply = SyncReply {
            sender: self.own_record(),
            members_hash: self.members_hash(),
            names_hash,
            name_buckets,
        };
        self.send(from, ControlMessage::SyncReply(reply), Channel::Stream);
    }

    pub(super) fn handle_sync_reply(&mut self, now: Instant, from: &NodeName, reply: &SyncReply) {
        self.merge_sender(now, &reply.sender);
        let Some(mut exchange) = self.exchanges.remove(from) else {
            return;
        };
        if reply.members_hash != self.members_hash() {
            self.send_members(now, from);
        }
        let ours = self.directory.bucket_hashes();
        let pairs = reply.name_buckets.iter().zip(ours);
        let differing = pairs
            .enumerate()
            .filter(|(_, (theirs, ours))| theirs != ours);
        let remaining = differing
            .filter_map(|(bucket, _)| u16::try_from(bucket).ok())
            .collect();
        exchange.stage = Stage::Names {
            current: Vec::new(),
            remaining,
        };
        self.exchanges.insert(from.clone(), exchange);
        self.continue_exchange(now, from);
    }

    /// Compares the next buckets, or ends the exchange if there are none.
    fn continue_exchange(&mut self, now: Instant, from: &NodeName) {
        let Some(mut exchange) = self.exchanges.remove(from) else {
            return;
        };
        let Stage::Names { current, remaining } = &mut exchange.stage else {
            return;
        };
        if remaining.is_empty() {
            self.finish_exchange();
            return;
        }
        let mut message = NameHeads {
            buckets: Vec::new(),
            heads: Vec::new(),
            token: exchange.token,
        };
        let mut room = self.message_len;
        while let Some(bucket) = remaining.front() {
            let heads: Vec<_> = self.directory.heads_in((*bucket).into()).collect();
            let length = heads.iter().map(head_len).sum();
            if length > room && !message.buckets.is_empty() {
                break;
            }
            room = room.saturating_sub(length);
            message.buckets.extend(remaining.pop_front());
            message.heads.extend(heads);
        }
        current.clone_from(&message.buckets);
        exchange.deadline = self.patience(now);
        self.exchanges.insert(from.clone(), exchange);
        self.send(from, ControlMessage::NameHeads(message), Channel::Stream);
    }

    fn finish_exchange(&mut self) {
        self.end_seeking();
        if !self.is_synced {
            self.set_synced();
        }
    }

    pub(super) fn handle_name_heads(&mut self, from: &NodeName, theirs: &NameHeads) {
        let known: BTreeMap<_, _> = theirs
            .heads
            .iter()
            .map(|head| (&head.owner, head))
            .collect();
        let buckets: BTreeSet<_> = theirs
            .buckets
            .iter()
            .map(|&bucket| usize::from(bucket))
            .collect();
        let mut asked = Vec::new();
        for ours in buckets
            .into_iter()
            .filter(|&b| b < BUCKETS)
            .flat_map(|b| self.directory.heads_in(b))
        {
            match known.get(&ours.owner) {
                Some(theirs) if !is_beyond(&ours, theirs) => {}
                Some(theirs) => asked.push((*theirs).clone()),
                None => asked.push(OwnerHead::unknown(ours.owner)),
            }
        }
        self.answer(from, asked, theirs.token);
        let local = self.directory.local();
        let lacking = theirs.heads.iter().filter(|head| head.owner != *local);
        let lacking = lacking.map(|head| (head, self.directory.head(&head.owner)));
        let lacking = lacking.filter(|(theirs, ours)| is_beyond(theirs, ours));
        let lacking = lacking.map(|(_, ours)| ours).collect();
        self.pull(from, lacking, 0);
    }

    pub(super) fn handle_name_pull(&mut self, from: &NodeName, pull: &NamePull) {
        self.answer(from, pull.heads.clone(), pull.token);
    }

    pub(super) fn handle_names(&mut self, now: Instant, from: &NodeName, names: &Names) {
        let mut wanted = BTreeMap::new();
        let mut stuck = BTreeSet::new();
        let mut is_news = false;
        for delta in &names.deltas {
            match self.apply_delta(now, delta) {
                Applied::Advanced => is_news = true,
                Applied::Gap { known } => {
                    wanted.insert(delta.owner.clone(), known);
                }
                // What could not be taken now is not asked for again at once.
                Applied::Nothing | Applied::Full { .. } | Applied::Refused(_) => {
                    stuck.insert(delta.owner.clone());
                }
            }
        }
        for head in &names.heads {
            if !stuck.contains(&head.owner) && self.lacks(now, head) {
                wanted.insert(head.owner.clone(), self.directory.head(&head.owner));
            }
        }
        if !wanted.is_empty() {
            self.pull(from, wanted.into_values().collect(), names.token);
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(from) else {
            return;
        };
        if exchange.token != names.token {
            return;
        }
        if let Stage::Names { current, remaining } = &mut exchange.stage
            && names.truncated
            && is_news
        {
            current
                .drain(..)
                .for_each(|bucket| remaining.push_front(bucket));
        }
        self.continue_exchange(now, from);
    }

    /// Asks for what these heads lack, as far as a message holds.
    pub(super) fn pull(&mut self, from: &NodeName, mut heads: Vec<OwnerHead>, token: u32) {
        let mut room = self.message_len;
        heads.retain(|head| {
            let length = head_len(head);
            let fits = length <= room;
            room = if fits { room - length } else { 0 };
            fits
        });
        if !heads.is_empty() {
            let pull = ControlMessage::NamePull(NamePull { heads, token });
            self.send(from, pull, Channel::Stream);
        }
    }

    /// Tells what these heads lack: owners that are unknown first, then what is smallest. What
    /// does not fit is told by its head.
    fn answer(&mut self, to: &NodeName, asked: Vec<OwnerHead>, token: u32) {
        let mut asked: Vec<_> = asked
            .into_iter()
            .map(|theirs| (self.directory.head(&theirs.owner), theirs))
            .collect();
        asked.sort_by_cached_key(|(ours, theirs)| {
            let is_known = theirs.session == ours.session;
            let gap = if is_known {
                ours.version.0.saturating_sub(theirs.version.0)
            } else {
                ours.version.0
            };
            (is_known, gap, ours.owner.clone())
        });
        let mut names = Names {
            deltas: Vec::new(),
            heads: Vec::new(),
            token,
            truncated: false,
        };
        let mut room = self.message_len;
        for (ours, theirs) in asked {
            // Room is kept for the heads that remain.
            if room <= self.message_len / 4 {
                let length = head_len(&ours);
                names.truncated |= length > room;
                if length <= room {
                    room -= length;
                    names.heads.push(ours);
                }
                continue;
            }
            let budget = room - self.message_len / 4;
            let Some(delta) = self.directory.delta_for(&theirs, budget) else {
                continue;
            };
            room = room.saturating_sub(delta_len(&delta));
            if delta.upto < ours.version {
                room = room.saturating_sub(head_len(&ours));
                names.heads.push(ours);
            }
            names.deltas.push(delta);
        }
        self.send(to, ControlMessage::Names(names), Channel::Stream);
    }

    /// The hash of all members, this node included.
    pub(super) fn members_hash(&self) -> u64 {
        let own = self.own_record();
        let own = members::hash(
            &own.identity,
            own.incarnation,
            own.health,
            own.labels.as_ref(),
        );
        self.members.hash().wrapping_add(own)
    }

    /// Tells all members, this node included, in as many messages as it takes.
    fn send_members(&mut self, now: Instant, to: &NodeName) {
        let others = self.members.iter().map(|entry| entry.record(now));
        let mut messages = vec![Vec::new()];
        let mut room = self.message_len;
        for record in std::iter::once(self.own_record()).chain(others) {
            let labels = record.labels.as_ref();
            let length = RECORD_OVERHEAD
                + labels.map_or(record.identity.name.as_str().len(), |labels| {
                    labels_len(&record.identity.name, labels)
                });
            if length > room {
                messages.push(Vec::new());
                room = self.message_len;
            }
            room = room.saturating_sub(length);
            messages.last_mut().expect("begins with one").push(record);
        }
        for members in messages {
            self.send(to, ControlMessage::Members(members), Channel::Stream);
        }
    }

    /// Merges what a node says of itself: it lives, whatever else.
    fn merge_sender(&mut self, now: Instant, sender: &MemberRecord) {
        self.merge(
            now,
            &[MemberRecord {
                health: Health::Alive,
                ..sender.clone()
            }],
        );
    }

    /// Merges members as another node knows them.
    pub(super) fn merge(&mut self, now: Instant, records: &[MemberRecord]) {
        let mut updates = Vec::new();
        let mut hearsay = Hearsay::default();
        let mut verdicts = Vec::new();
        let ours = self.swim.identity().clone();
        let mut room = MEMBERS_MAX.saturating_sub(self.members.len());
        for record in records {
            let MemberRecord {
                identity,
                incarnation,
                health,
                ..
            } = record.clone();
            if identity.name == ours.name {
                let verdict = self.guard.judge(now, &ours, &identity, health);
                verdicts.push((verdict, identity.clone()));
                if verdict == Verdict::Pass {
                    updates.push(MemberUpdate {
                        identity,
                        incarnation,
                        health,
                    });
                }
                continue;
            }
            if self.members.get(&identity.name).is_none() {
                if room == 0 {
                    continue;
                }
                room -= 1;
            }
            updates.extend(self.weigh(record, &mut hearsay));
        }
        let outcome = self.swim.apply(&updates);
        self.absorb(now, outcome, &hearsay);
        for record in records {
            if let Some(labels) = &record.labels {
                let event = self
                    .members
                    .set_labels(&record.identity.name, labels)
                    .flatten();
                self.outputs.extend(event.map(member_output));
            }
        }
        for (verdict, theirs) in verdicts {
            self.follow(now, verdict, Some(shown(&theirs)));
        }
    }

    /// What to make of another node's word about a third.
    fn weigh(&self, record: &MemberRecord, hearsay: &mut Hearsay) -> Option<MemberUpdate> {
        let MemberRecord {
            identity,
            incarnation,
            health,
            gone_for,
            ..
        } = record.clone();
        let known = self.members.get(&identity.name);
        let is_active_here = known.is_some_and(|entry| entry.health.is_active());
        let update = |health, incarnation| {
            Some(MemberUpdate {
                identity: identity.clone(),
                incarnation,
                health,
            })
        };
        match health {
            Health::Alive | Health::Suspect => update(health, incarnation),
            Health::Left => {
                hearsay.left.push(identity.clone());
                if !is_active_here {
                    hearsay.gone_for.insert(identity.name.clone(), gone_for);
                }
                (is_active_here || gone_for < self.config.down_retention)
                    .then(|| update(Health::Down, incarnation))?
            }
            Health::Down if is_active_here => {
                let held = known.filter(|entry| entry.identity == identity);
                let incarnation =
                    held.map_or(incarnation, |entry| entry.incarnation.max(incarnation));
                update(Health::Suspect, incarnation)
            }
            Health::Down if gone_for < self.config.down_retention => {
                hearsay.gone_for.insert(identity.name.clone(), gone_for);
                update(Health::Down, incarnation)
            }
            Health::Down => None,
        }
    }

    fn patience(&self, now: Instant) -> Instant {
        now + 2 * self.config.push_pull_interval
    }
}

/// Exchanges under way. More begin when the fabric does; those that wait are tried again.
const EXCHANGES_MAX: usize = 64;

/// What a record takes besides its name and labels, in bytes: more than its encoding ever does.
const RECORD_OVERHEAD: usize = 70;

/// How many releases of our own we keep, so that others need not be told all that we hold.
const RELEASES_KEPT: usize = 1024;

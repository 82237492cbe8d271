//! Push and pull: one node compares all it knows, members and names, with another.
//!
//! The asker keeps an [`Exchange`]; the answerer keeps nothing. Where the hashes agree, two small
//! messages are all. Else the members are compared by digests (`members`), then the names bucket by
//! bucket: heads one way, claims both ways. Everything is bounded by the length of a message; what
//! does not fit is told by its head, and whoever lacks it pulls.

mod members;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::directory::{BUCKETS, is_beyond};
use super::gossip::{certificate_len, delta_len, head_len};
use super::leave::Life;
use super::proving::{Taken, Teller};
use super::{Channel, Control, ControlOutput, ControlTimer, EARLY_SHARE, Violation};
use crate::name::NodeName;
use crate::whim::whim;
use crate::wire::claims::{OwnerHead, Version};
use crate::wire::control::{ControlMessage, NameHeads, NamePull, Names, SyncReply, SyncRequest};

/// A comparison that this node began.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Given up if nothing came by then.
    deadline: Instant,
    /// Tells the answers within this exchange from others.
    token: u32,
    /// Whether the other said that it is synced.
    is_with_synced: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request is out.
    Asked,
    /// The members of one range of digests are awaited.
    Members {
        /// Where the next range begins, unless this is the last.
        next: Option<u32>,
        /// Buckets of names that differ.
        remaining: VecDeque<u16>,
    },
    /// The names of some buckets are awaited, those of the rest will be.
    Names {
        /// Buckets that are being compared.
        current: Vec<u16>,
        /// Buckets that differ and were not compared yet.
        remaining: VecDeque<u16>,
        /// What the answers about the current buckets have come to.
        told: Told,
    },
}

/// What a round of answers has come to.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// Some of it was new.
    is_news: bool,
    /// There was more than the messages held.
    is_cut: bool,
}

impl Control {
    /// One round: one member at random, and but for the early rounds one that is down or a seed.
    pub(super) fn push_pull(&mut self, now: Instant) {
        self.exchanges.retain(|_, exchange| exchange.deadline > now);
        let active = self.members.active();
        let active = active.map(|entry| (entry.identity.name.clone(), entry.identity.address));
        if let Some((name, address)) = active.choose(&mut self.rng) {
            self.begin_exchange(now, &name, address);
        }
        self.directory.collect(RELEASES_KEPT);
        let interval = if self.early_rounds == 0 {
            self.contact_beyond(now);
            self.config.push_pull_interval
        } else {
            self.early_rounds -= 1;
            self.config.push_pull_interval / EARLY_SHARE
        };
        let next = self.jittered(interval, 90..=110);
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
            is_with_synced: false,
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
            is_synced: self.is_synced,
        };
        self.send(from, ControlMessage::SyncReply(reply), Channel::Stream);
    }

    pub(super) fn handle_sync_reply(&mut self, now: Instant, from: &NodeName, reply: &SyncReply) {
        self.merge_sender(now, &reply.sender);
        let Some(mut exchange) = self.exchanges.remove(from) else {
            return;
        };
        exchange.is_with_synced = reply.is_synced;
        let ours = self.directory.bucket_hashes();
        let pairs = reply.name_buckets.iter().zip(ours);
        let differing = pairs
            .enumerate()
            .filter(|(_, (theirs, ours))| theirs != ours);
        let remaining = differing
            .filter_map(|(bucket, _)| u16::try_from(bucket).ok())
            .collect();
        let differs = reply.members_hash != self.members_hash();
        exchange.stage = if differs {
            Stage::Members {
                next: Some(0),
                remaining,
            }
        } else {
            Stage::Names {
                current: Vec::new(),
                remaining,
                told: Told::default(),
            }
        };
        self.exchanges.insert(from.clone(), exchange);
        self.continue_exchange(now, from);
    }

    /// Compares the next range of members, then the next buckets of names, or ends the exchange if
    /// there are none.
    fn continue_exchange(&mut self, now: Instant, from: &NodeName) {
        let Some(mut exchange) = self.exchanges.remove(from) else {
            return;
        };
        exchange.deadline = self.patience(now);
        if let Stage::Members { next, remaining } = &mut exchange.stage {
            if let Some(first) = *next {
                let digest = self.member_digest(exchange.token, first);
                *next = digest.last.checked_add(1);
                self.exchanges.insert(from.clone(), exchange);
                self.send(from, ControlMessage::MemberDigest(digest), Channel::Stream);
                return;
            }
            exchange.stage = Stage::Names {
                current: Vec::new(),
                remaining: std::mem::take(remaining),
                told: Told::default(),
            };
        }
        let Stage::Names {
            current,
            remaining,
            told,
        } = &mut exchange.stage
        else {
            return;
        };
        // Told in part: what is known by now takes no room in the next answer.
        if std::mem::take(told).is_unfinished() {
            let again = current.drain(..).rev();
            again.for_each(|bucket| remaining.push_front(bucket));
        }
        if remaining.is_empty() {
            self.finish_exchange(now, &exchange);
            return;
        }
        let mut message = NameHeads {
            buckets: Vec::new(),
            heads: Vec::new(),
            token: exchange.token,
        };
        let mut room = self.message_room();
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
        self.exchanges.insert(from.clone(), exchange);
        self.send(from, ControlMessage::NameHeads(message), Channel::Stream);
    }

    /// All that the other knows is known. It is all there is, unless the other is a newcomer too.
    fn finish_exchange(&mut self, now: Instant, exchange: &Exchange) {
        if exchange.is_with_synced || self.is_synced {
            self.be_synced();
        } else if self.newcomers_timer.is_none() {
            self.arm_newcomers(now);
        }
    }

    /// Newcomers alone were met so far. Unless one who may know more is about to tell it, there is
    /// nobody else: they begin a fabric.
    pub(super) fn count_on_newcomers(&mut self, now: Instant) {
        self.newcomers_timer = None;
        let mut under_way = self.exchanges.values().filter(|it| it.deadline > now);
        if under_way.any(|it| it.is_with_synced || matches!(it.stage, Stage::Asked)) {
            self.arm_newcomers(now);
        } else {
            self.be_synced();
        }
    }

    fn arm_newcomers(&mut self, now: Instant) {
        let patience = self.config.push_pull_interval / EARLY_SHARE;
        let timer = self.timers.arm(now, patience, ControlTimer::Newcomers);
        self.newcomers_timer = Some(timer);
    }

    fn be_synced(&mut self) {
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
        self.answer(from, asked, theirs.token, false);
        let lacking = theirs.heads.iter().filter(|it| self.directory.lacks(it));
        let lacking = lacking.map(|head| self.reached(from, head));
        let lacking = lacking.collect();
        self.pull(from, lacking, 0);
    }

    pub(super) fn handle_name_pull(&mut self, from: &NodeName, pull: &NamePull) {
        self.answer(from, pull.heads.clone(), pull.token, pull.certificates);
    }

    pub(super) fn handle_names(
        &mut self,
        now: Instant,
        from: &NodeName,
        names: &Names,
    ) -> Result<(), Violation> {
        let mut handled = Ok(());
        let mut wanted = BTreeMap::new();
        let mut stuck = BTreeSet::new();
        let mut told = Told {
            is_news: false,
            is_cut: names.truncated,
        };
        let teller = Teller {
            from,
            heads: &names.heads,
            certificates: &names.certificates,
        };
        for delta in &names.deltas {
            let taken = self.apply_delta(now, teller, delta);
            handled = handled.and_then(|()| self.check_teller(teller, delta, &taken));
            match taken {
                Taken::Advanced => told.is_news = true,
                Taken::Kept { known } => {
                    told.is_news = true;
                    wanted.insert(delta.owner.clone(), known);
                }
                Taken::Gap { known } => {
                    wanted.insert(delta.owner.clone(), known);
                }
                // Another told it meanwhile. Whether more is to come, the heads say.
                Taken::Nothing => {}
                // What could not be taken now is not asked for again at once.
                Taken::Full { .. } | Taken::Refused | Taken::Unsaid(_) => {
                    stuck.insert(delta.owner.clone());
                }
            }
        }
        for head in &names.heads {
            let is_open = !stuck.contains(&head.owner) && !wanted.contains_key(&head.owner);
            if is_open && self.lacks(now, head) {
                wanted.insert(head.owner.clone(), self.reached(from, head));
            }
        }
        let is_all = wanted.is_empty();
        let wanted: Vec<_> = wanted.into_values().collect();
        told.is_cut |= self.pull(from, wanted, names.token);
        let deadline = self.patience(now);
        let exchange = self.exchanges.get_mut(from);
        let Some(exchange) = exchange.filter(|it| it.token == names.token) else {
            return handled;
        };
        exchange.deadline = deadline;
        if let Stage::Names { told: so_far, .. } = &mut exchange.stage {
            so_far.is_news |= told.is_news;
            so_far.is_cut |= told.is_cut;
        }
        if is_all {
            self.continue_exchange(now, from);
        }
        handled
    }

    /// Asks for what these heads lack, as far as a message holds. Returns whether it holds less.
    pub(super) fn pull(&mut self, from: &NodeName, mut heads: Vec<OwnerHead>, token: u32) -> bool {
        let (mut room, wanted) = (self.message_room(), heads.len());
        heads.retain(|head| {
            let length = head_len(head);
            let fits = length <= room;
            room = if fits { room - length } else { 0 };
            fits
        });
        let is_cut = heads.len() < wanted;
        if !heads.is_empty() {
            let pull = ControlMessage::NamePull(NamePull {
                certificates: self.lacks_certificates(from, &heads),
                heads,
                token,
            });
            self.send(from, pull, Channel::Stream);
        }
        is_cut
    }

    /// Tells what these heads lack: owners that are unknown first, then what is smallest. What
    /// does not fit is told by its head.
    fn answer(&mut self, to: &NodeName, asked: Vec<OwnerHead>, token: u32, certificates: bool) {
        let local = self.directory.local();
        if let Some(theirs) = asked.iter().find(|head| head.owner == *local) {
            self.answer_earlier_run(theirs);
            self.sign();
        }
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
            certificates: Vec::new(),
        };
        let mut room = self.message_room();
        let for_heads = room / 4;
        for (ours, theirs) in asked {
            // Room is kept for the heads that remain.
            if room <= for_heads {
                let length = head_len(&ours);
                names.truncated |= length > room;
                if length <= room {
                    room -= length;
                    names.heads.push(ours);
                }
                continue;
            }
            let budget = room - for_heads;
            let delta = self.directory.delta_for(&theirs, budget);
            let Some(delta) = delta.and_then(|delta| self.proven(delta)) else {
                continue;
            };
            if certificates || theirs.version == Version(0) {
                let certificate = self.certificate(&ours.owner);
                let length = certificate.as_ref().map_or(0, certificate_len);
                if length > room.saturating_sub(delta_len(&delta)) && !names.deltas.is_empty() {
                    room = room.saturating_sub(head_len(&ours));
                    names.heads.push(ours);
                    continue;
                }
                room = room.saturating_sub(length);
                names.certificates.extend(certificate);
            }
            room = room.saturating_sub(delta_len(&delta));
            if delta.upto < ours.version {
                room = room.saturating_sub(head_len(&ours));
                names.heads.push(ours);
            }
            names.deltas.push(delta);
        }
        self.send(to, ControlMessage::Names(names), Channel::Stream);
    }

    /// What a message may hold, in bytes.
    fn message_room(&self) -> usize {
        match whim!(ShortMessages) {
            true => self.message_len / 32,
            false => self.message_len,
        }
    }

    fn patience(&self, now: Instant) -> Instant {
        now + 2 * self.config.push_pull_interval
    }
}

impl Told {
    /// Whether to ask for the rest. What brought nothing new will bring no more.
    const fn is_unfinished(self) -> bool {
        self.is_news && self.is_cut
    }
}

/// Exchanges under way. More begin when the fabric does; those that wait are tried again.
const EXCHANGES_MAX: usize = 64;

/// How many releases of our own we keep, so that others need not be told all that we hold.
const RELEASES_KEPT: usize = 1024;

//! The members' part of push and pull: two nodes tell each other what the other lacks.
//!
//! The asker sends a digest of four bytes for each record that it holds, and so learns and tells
//! only what differs. Whole lists, at a thousand members, would be ten times that, and would be
//! sent in every round of a fabric in which something always changes.
//!
//! What is remotely *down* or *left* and alive here becomes suspect, as in memberlist: the other
//! side may have been cut off, and who leaves says so itself. It is down here, too, once it has
//! been suspect for as long as a suspect has: a node that rumours missed would else find out only
//! when its own probes come round.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Instant;

use super::super::detection::{Hearsay, MEMBERS_MAX, member_output, shown};
use super::super::gossip::labels_len;
use super::super::identity::Verdict;
use super::super::members::Entry;
use super::super::{Channel, Control};
use super::Stage;
use crate::mutant::mutant;
use crate::name::NodeName;
use crate::wire::control::{
    ControlMessage, ENTRIES_MAX, Health, MemberAnswer, MemberDigest, MemberRecord, MemberUpdate,
};

impl Control {
    /// The hash of all members, this node included.
    pub(super) fn members_hash(&self) -> u64 {
        self.members.hash().wrapping_add(self.own_record().hash())
    }

    /// Digests of what this node knows of the members, itself included: as many as a message
    /// holds, from `first` on.
    pub(super) fn member_digest(&self, token: u32, first: u32) -> MemberDigest {
        let mut digests: Vec<_> = self
            .digested(token, first..=u32::MAX)
            .map(|(digest, _)| digest)
            .collect();
        digests.sort_unstable();
        digests.dedup();
        let room = ENTRIES_MAX.min(self.message_len / size_of::<u32>() - 8);
        let last = match digests.get(room) {
            Some(_) => digests[room - 1],
            None => u32::MAX,
        };
        digests.truncate(room);
        MemberDigest {
            token,
            first,
            last,
            digests,
        }
    }

    /// Tells the members that the asker lacks, and asks for those that this node lacks.
    pub(in super::super) fn handle_member_digest(
        &mut self,
        now: Instant,
        from: &NodeName,
        digest: &MemberDigest,
    ) {
        let mut unknown: BTreeSet<_> = digest.digests.iter().copied().collect();
        let mut lacking = Vec::new();
        for (own, entry) in self.digested(digest.token, digest.first..=digest.last) {
            if !unknown.remove(&own) {
                lacking.push(self.record(now, entry));
            }
        }
        self.send_members(from, lacking);
        let answer = MemberAnswer {
            token: digest.token,
            unknown: unknown.into_iter().collect(),
        };
        self.send(from, ControlMessage::MemberAnswer(answer), Channel::Stream);
    }

    /// Tells the members that the other lacks, and goes on.
    pub(in super::super) fn handle_member_answer(
        &mut self,
        now: Instant,
        from: &NodeName,
        answer: &MemberAnswer,
    ) {
        let is_awaited = self.exchanges.get(from).is_some_and(|exchange| {
            exchange.token == answer.token && matches!(exchange.stage, Stage::Members { .. })
        });
        if !is_awaited {
            return;
        }
        let unknown: BTreeSet<_> = answer.unknown.iter().collect();
        let lacking = self
            .digested(answer.token, 0..=u32::MAX)
            .filter(|(digest, _)| unknown.contains(digest))
            .map(|(_, entry)| self.record(now, entry))
            .collect();
        self.send_members(from, lacking);
        self.continue_exchange(now, from);
    }

    /// The digests within a range, with whom they are of: this node itself where there is no entry.
    fn digested(
        &self,
        token: u32,
        range: RangeInclusive<u32>,
    ) -> impl Iterator<Item = (u32, Option<&Entry>)> {
        let own = std::iter::once((digest(self.own_record().hash(), token), None));
        let others = self.members.iter();
        let others = others.map(move |entry| (digest(entry.hash(), token), Some(entry)));
        own.chain(others)
            .filter(move |(digest, _)| range.contains(digest))
    }

    fn record(&self, now: Instant, entry: Option<&Entry>) -> MemberRecord {
        entry.map_or_else(|| self.own_record(), |entry| entry.record(now))
    }

    /// Tells members, in as many messages as it takes.
    fn send_members(&mut self, to: &NodeName, records: Vec<MemberRecord>) {
        let mut messages: Vec<Vec<_>> = Vec::new();
        let mut room = 0;
        for record in records {
            let labels = record.labels.as_ref();
            let length = RECORD_OVERHEAD
                + labels.map_or(record.identity.name.as_str().len(), |labels| {
                    labels_len(&record.identity.name, labels)
                });
            match messages.last_mut() {
                Some(members) if length <= room => members.push(record),
                Some(_) | None => {
                    messages.push(vec![record]);
                    room = self.message_len;
                }
            }
            room = room.saturating_sub(length);
        }
        for members in messages {
            self.send(to, ControlMessage::Members(members), Channel::Stream);
        }
    }

    /// Merges what a node says of itself: it lives, whatever else.
    pub(super) fn merge_sender(&mut self, now: Instant, sender: &MemberRecord) {
        self.merge(
            now,
            &[MemberRecord {
                health: Health::Alive,
                ..sender.clone()
            }],
        );
    }

    /// Merges members as another node knows them.
    pub(in super::super) fn merge(&mut self, now: Instant, records: &[MemberRecord]) {
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
            let update = self.weigh(now, record, &mut hearsay);
            updates.extend(update.filter(|update| self.members.is_news(update)));
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
    fn weigh(
        &self,
        now: Instant,
        record: &MemberRecord,
        hearsay: &mut Hearsay,
    ) -> Option<MemberUpdate> {
        let MemberRecord {
            identity,
            incarnation,
            health,
            gone_for,
            ..
        } = record.clone();
        if health == Health::Left {
            hearsay.left.push(identity.clone());
        }
        let known = self.members.get(&identity.name);
        let is_active_here = known.is_some_and(|entry| entry.health.is_active());
        let word = MemberUpdate {
            identity,
            incarnation,
            health,
        };
        match health {
            Health::Alive | Health::Suspect => Some(word),
            Health::Down if mutant!(DownMergedAsDown) => Some(word),
            Health::Down | Health::Left if is_active_here => {
                Some(self.members.doubted(now, self.swim.suspicion(), word))
            }
            Health::Down | Health::Left if gone_for < self.config.down_retention => {
                let name = word.identity.name.clone();
                hearsay.gone_for.insert(name, gone_for);
                Some(MemberUpdate {
                    health: Health::Down,
                    ..word
                })
            }
            Health::Down | Health::Left => None,
        }
    }
}

/// A short hash of a record, within one exchange.
fn digest(hash: u64, token: u32) -> u32 {
    let mixed = (hash ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

/// What a record takes besides its name and labels, in bytes: more than its encoding ever does.
const RECORD_OVERHEAD: usize = 70;

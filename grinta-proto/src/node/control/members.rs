//! Who the members are: what foca decided, with what foca does not know (who left on purpose,
//! labels, since when), and the events by which a program follows it.
//!
//! The table mirrors foca's, change by change. A member that was gone when this node first heard
//! of it is kept, so that it is not taken back by a late message, but not listed: the events since
//! the start fold to the list.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Labels;
use crate::name::NodeName;
use crate::node::event::{Member, MemberEvent, MemberState};
use crate::wire::control::{
    Generation, Health, Labelling, MemberIdentity, MemberRecord, MemberUpdate,
};

/// The members but this node.
#[derive(Debug, Default)]
pub(super) struct Members {
    table: BTreeMap<NodeName, Entry>,
    active: usize,
    hash: u64,
    failed_falsely: u64,
}

/// What is known of one member.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) identity: MemberIdentity,
    pub(super) incarnation: u16,
    pub(super) health: Health,
    /// When the health last changed, or would have for one who was there.
    since: Instant,
    labels: Option<Labelling>,
    listed: bool,
}

impl Members {
    pub(super) fn get(&self, name: &NodeName) -> Option<&Entry> {
        self.table.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.table.values()
    }

    /// Those who take part.
    pub(super) fn active(&self) -> impl Iterator<Item = &Entry> {
        self.iter().filter(|entry| entry.health.is_active())
    }

    /// How many take part.
    pub(super) const fn active_count(&self) -> usize {
        self.active
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The members as a program sees them.
    pub(super) fn listed(&self) -> impl Iterator<Item = Member> {
        self.iter().filter(|entry| entry.listed).map(Entry::member)
    }

    /// The sum of one hash for each member: equal, for practical purposes, when and only when
    /// two nodes know the same. This node's own record is the caller's to add.
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes a change that foca took, and that came about at `since`. The events, if it shows: more
    /// than one when the attributes and the health changed at once.
    pub(super) fn apply(&mut self, since: Instant, change: &MemberUpdate) -> Vec<MemberEvent> {
        let name = change.identity.name.clone();
        let before = self.table.remove(&name);
        if let Some(before) = &before {
            self.discount(before);
        }
        let after = Entry::after(since, before.as_ref(), change);
        self.failed_falsely += u64::from(before.as_ref().is_some_and(|it| it.is_undone_by(&after)));
        let events = events(before.as_ref(), &after);
        self.count(&after);
        self.table.insert(name, after);
        events
    }

    /// Whether failure detection would learn from an update: it holds what this table holds, and
    /// searches its own from end to end for every update that it is given.
    pub(super) fn is_news(&self, update: &MemberUpdate) -> bool {
        let Some(entry) = self.table.get(&update.identity.name) else {
            return true;
        };
        if entry.identity != update.identity {
            return entry.generation() <= update.identity.generation();
        }
        match (entry.health, update.health) {
            (Health::Alive | Health::Suspect, Health::Alive)
            | (Health::Suspect, Health::Suspect) => update.incarnation > entry.incarnation,
            (Health::Alive, Health::Suspect) => update.incarnation >= entry.incarnation,
            (Health::Alive | Health::Suspect, Health::Down | Health::Left) => true,
            (Health::Down | Health::Left, _) => false,
        }
    }

    /// What another's word that a third is gone comes to here (memberlist's rule): who is active
    /// here becomes suspect, for whoever says so may have been cut off from it; unless this very
    /// identity has been suspect here, too, for as long as `patience`.
    pub(super) fn doubted(
        &self,
        now: Instant,
        patience: Duration,
        word: MemberUpdate,
    ) -> MemberUpdate {
        let known = self.get(&word.identity.name);
        let Some(held) = known.filter(|entry| entry.health.is_active()) else {
            return word;
        };
        let is_same = held.identity == word.identity;
        let has_had_its_time = is_same
            && held.health == Health::Suspect
            && held.incarnation <= word.incarnation
            && now.saturating_duration_since(held.since) >= patience;
        if has_had_its_time {
            return MemberUpdate {
                health: Health::Down,
                ..word
            };
        }
        let incarnation = match is_same {
            true => held.incarnation.max(word.incarnation),
            false => word.incarnation,
        };
        MemberUpdate {
            incarnation,
            health: Health::Suspect,
            ..word
        }
    }

    /// How often a member came back in the run in which it was held down.
    pub(super) const fn failed_falsely(&self) -> u64 {
        self.failed_falsely
    }

    /// Takes it that a member held down had left on purpose.
    pub(super) fn set_left(&mut self, identity: &MemberIdentity) -> Option<MemberEvent> {
        self.edit(&identity.name, |entry| {
            if entry.identity != *identity || entry.health != Health::Down {
                return None;
            }
            entry.health = Health::Left;
            entry.listed.then(|| MemberEvent::Left(entry.member()))
        })
    }

    /// Takes labels, unless they are older than those known. `None` if they are no news.
    pub(super) fn set_labels(
        &mut self,
        name: &NodeName,
        labels: &Labelling,
    ) -> Option<Option<MemberEvent>> {
        let news = (labels.session, labels.version);
        let entry = self.table.get(name)?;
        let known = entry.labels.as_ref();
        let known = known.map(|known| (known.session, known.version));
        if labels.session > entry.identity.session || known >= Some(news) {
            return None;
        }
        self.edit(name, |entry| {
            let before = entry.shown_labels();
            entry.labels = Some(labels.clone());
            let changed = entry.listed && before != entry.shown_labels();
            Some(changed.then(|| MemberEvent::Updated(entry.member())))
        })
    }

    /// Forgets a member that is gone in this identity.
    pub(super) fn forget(&mut self, identity: &MemberIdentity) -> bool {
        let gone = self.table.get(&identity.name).is_some_and(|entry| {
            entry.identity.generation() == identity.generation() && !entry.health.is_active()
        });
        if gone && let Some(entry) = self.table.remove(&identity.name) {
            self.discount(&entry);
        }
        gone
    }

    /// Whether the member is held as gone in this very identity, and why.
    pub(super) fn departure(&self, identity: &MemberIdentity) -> Option<Health> {
        let entry = self.table.get(&identity.name)?;
        (entry.identity.generation() == identity.generation() && !entry.health.is_active())
            .then_some(entry.health)
    }

    fn edit<T>(&mut self, name: &NodeName, edit: impl FnOnce(&mut Entry) -> T) -> T
    where
        T: Default,
    {
        let Some(mut entry) = self.table.remove(name) else {
            return T::default();
        };
        self.discount(&entry);
        let result = edit(&mut entry);
        self.count(&entry);
        self.table.insert(name.clone(), entry);
        result
    }

    fn count(&mut self, entry: &Entry) {
        self.active += usize::from(entry.health.is_active());
        self.hash = self.hash.wrapping_add(entry.hash());
    }

    fn discount(&mut self, entry: &Entry) {
        self.active -= usize::from(entry.health.is_active());
        self.hash = self.hash.wrapping_sub(entry.hash());
    }
}

impl Entry {
    fn after(since: Instant, before: Option<&Self>, change: &MemberUpdate) -> Self {
        let same_health = before.filter(|before| {
            match change.health {
                Health::Alive => before.health == Health::Alive,
                // A suspicion that was refuted in between begins anew.
                Health::Suspect => {
                    before.health == Health::Suspect && before.incarnation == change.incarnation
                }
                // A later run that is gone, too, was there in between.
                Health::Down | Health::Left => {
                    !before.health.is_active() && before.identity.session == change.identity.session
                }
            }
        });
        Self {
            identity: change.identity.clone(),
            incarnation: change.incarnation,
            health: change.health,
            since: same_health.map_or(since, |before| before.since),
            labels: before.and_then(|before| before.labels.clone()),
            listed: change.health.is_active() || before.is_some_and(|before| before.listed),
        }
    }

    /// Whether it was down, and `after` shows that the very run of it lives.
    fn is_undone_by(&self, after: &Self) -> bool {
        self.health == Health::Down
            && after.health.is_active()
            && self.identity.session == after.identity.session
    }

    /// Orders this member's identities.
    pub(super) const fn generation(&self) -> Generation {
        self.identity.generation()
    }

    /// Since when the health is what it is.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Its labels as it last set them, once known.
    pub(super) const fn labels(&self) -> Option<&Labelling> {
        self.labels.as_ref()
    }

    /// Whether a program sees the member.
    pub(super) const fn is_listed(&self) -> bool {
        self.listed
    }

    /// The member as failure detection tells it.
    pub(super) fn update(&self) -> MemberUpdate {
        MemberUpdate {
            identity: self.identity.clone(),
            incarnation: self.incarnation,
            health: self.health,
        }
    }

    /// The member as a program sees it.
    pub(super) fn member(&self) -> Member {
        let state = match self.health {
            Health::Alive => MemberState::Alive,
            Health::Suspect => MemberState::Suspect,
            Health::Down => MemberState::Down { since: self.since },
            Health::Left => MemberState::Left { since: self.since },
        };
        Member {
            name: self.identity.name.clone(),
            address: self.identity.address,
            session: self.identity.session,
            state,
            labels: self.shown_labels(),
            round_trip_time: None,
        }
    }

    /// The member as other nodes are told of it.
    pub(super) fn record(&self, now: Instant) -> MemberRecord {
        let gone_for = match self.health {
            Health::Alive | Health::Suspect => 0,
            Health::Down | Health::Left => now.saturating_duration_since(self.since).as_secs(),
        };
        MemberRecord {
            identity: self.identity.clone(),
            incarnation: self.incarnation,
            health: self.health,
            labels: self.labels.clone(),
            gone_for: Duration::from_secs(gone_for),
        }
    }

    /// Labels are of one run: those of an earlier one no longer hold.
    fn shown_labels(&self) -> Arc<Labels> {
        match &self.labels {
            Some(labels) if labels.session == self.identity.session => labels.entries.clone(),
            Some(_) | None => Arc::default(),
        }
    }

    pub(super) fn hash(&self) -> u64 {
        hash(
            &self.identity,
            self.incarnation,
            self.health,
            self.labels.as_ref(),
        )
    }
}

impl MemberRecord {
    /// The hash of an entry that holds the same.
    pub(super) fn hash(&self) -> u64 {
        hash(
            &self.identity,
            self.incarnation,
            self.health,
            self.labels.as_ref(),
        )
    }
}

fn events(before: Option<&Entry>, after: &Entry) -> Vec<MemberEvent> {
    if !after.listed {
        return Vec::new();
    }
    let member = after.member();
    let was_active = before.is_some_and(|before| before.health.is_active());
    let Some(before) = before.filter(|_| was_active || !after.health.is_active()) else {
        return vec![MemberEvent::Up(member)];
    };
    let mut events = Vec::new();
    if (before.identity.address, before.identity.session)
        != (after.identity.address, after.identity.session)
    {
        events.push(MemberEvent::Updated(member.clone()));
    }
    match (before.health, after.health) {
        (Health::Alive, Health::Suspect) => events.push(MemberEvent::Suspected(member)),
        (Health::Suspect, Health::Alive) => events.push(MemberEvent::Refuted(member)),
        (Health::Alive | Health::Suspect | Health::Left, Health::Down) => {
            events.push(MemberEvent::Down(member));
        }
        (Health::Alive | Health::Suspect | Health::Down, Health::Left) => {
            events.push(MemberEvent::Left(member));
        }
        (Health::Alive, Health::Alive)
        | (Health::Suspect, Health::Suspect)
        | (Health::Down, Health::Down | Health::Alive | Health::Suspect)
        | (Health::Left, Health::Left | Health::Alive | Health::Suspect) => {}
    }
    events
}

/// The hash of one member, for sums that two nodes compare (FNV-1a, then a finisher so that sums
/// do not cancel).
fn hash(
    identity: &MemberIdentity,
    incarnation: u16,
    health: Health,
    labels: Option<&Labelling>,
) -> u64 {
    let labels = labels.map_or((0, 0), |labels| (labels.session.0, labels.version));
    let name = identity.name.as_str().as_bytes();
    let rest = [
        identity.session.0,
        u64::from(identity.bump),
        labels.0,
        labels.1,
    ]
    .into_iter()
    .flat_map(u64::to_le_bytes);
    let last = incarnation.to_le_bytes().into_iter().chain([health as u8]);
    let bytes = name.iter().copied().chain([0]).chain(rest).chain(last);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 32)
}

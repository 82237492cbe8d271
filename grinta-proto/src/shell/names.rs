//! The names of the fabric: a scan in pages, and a watch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::name::EndpointName;
use crate::node::control::NamePage;
use crate::node::{NameEvent, Node};
use crate::shell::members::WatchError;
use crate::shell::shared::{Shared, State};
use crate::shell::waiters::{WakerSlot, Wakes};

/// A scan of the names that begin with a prefix: made by [`Fabric::names`](crate::Fabric::names).
///
/// A page is one moment of what this node knows. Between two pages names may come and go: one that
/// is there all the time is in exactly one page.
#[derive(Clone)]
#[must_use = "nothing is read until a page is asked for"]
pub struct NameScan {
    shared: Arc<Shared>,
    prefix: String,
    after: Option<EndpointName>,
    limit: usize,
}

/// Watches the names that begin with a prefix: first those that are there, then every change.
///
/// The names that are there come as if they appeared, in order, while changes go on: what a task
/// was told folds to what a scan would tell. A watch that nobody asks for its next update keeps a
/// bounded number of changes, and nothing at all of names with other prefixes.
pub struct NameWatch {
    shared: Arc<Shared>,
    id: u64,
}

/// What a [`NameWatch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameUpdate {
    /// A name has come to an owner, gone to another, or lost its last.
    Changed(NameEvent),
    /// The names that were there have all been told; from now on come changes.
    Complete,
}

/// The watches of one fabric. A change costs as many look-ups as there are lengths of prefixes,
/// however many watch for others.
#[derive(Debug, Default)]
pub(crate) struct NameWatches {
    slots: BTreeMap<u64, Slot>,
    /// Who watches which prefix.
    prefixes: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
    issued: u64,
}

#[derive(Debug)]
struct Slot {
    prefix: Arc<str>,
    stage: Stage,
    updates: VecDeque<NameUpdate>,
    waker: WakerSlot,
}

/// How far a watch is.
#[derive(Debug)]
enum Stage {
    /// The names up to and with this one were listed.
    Listing { after: Option<EndpointName> },
    /// All were listed.
    Following,
    /// Changes were dropped, and the task has yet to be told.
    Lagged,
}

/// What a watch has for its task.
enum Next {
    Update(Result<NameUpdate, WatchError>),
    /// A page without names that is not the last.
    Again,
    Nothing,
}

impl NameScan {
    pub(crate) fn new(shared: Arc<Shared>, prefix: &str) -> Self {
        Self {
            shared,
            prefix: prefix.to_owned(),
            after: None,
            limit: PAGE_LEN,
        }
    }

    /// Begins behind this name: with [`NamePage::next`] of one page, the next one.
    pub fn after(mut self, name: EndpointName) -> Self {
        self.after = Some(name);
        self
    }

    /// How many names a page has at the most; at least 1, default 256.
    pub fn limit(mut self, names: usize) -> Self {
        self.limit = names.max(1);
        self
    }

    /// The names with their owners, in order. A page has fewer than its limit, or none, where many
    /// names are hidden because their owners are down; there are more as long as
    /// [`NamePage::next`] is given.
    #[must_use]
    pub fn page(&self) -> NamePage {
        let after = self.after.as_ref();
        self.shared
            .with(|state| state.node.names(&self.prefix, after, self.limit))
    }
}

impl NameWatch {
    pub(crate) fn new(shared: Arc<Shared>, prefix: &str) -> Self {
        let id = shared.with(|state| state.name_watches.add(prefix));
        Self { shared, id }
    }

    /// The next update.
    ///
    /// # Errors
    /// [`WatchError::Lagged`] when changes were dropped: the names that are there now follow, up to
    /// the next [`NameUpdate::Complete`]; those told before that are not among them are gone.
    /// [`WatchError::Closed`] at the end.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no update is lost.
    pub async fn next(&mut self) -> Result<NameUpdate, WatchError> {
        poll_fn(|cx| {
            loop {
                match self.shared.with(|state| self.take_next(state, cx)) {
                    Next::Update(update) => return Poll::Ready(update),
                    Next::Again => {}
                    Next::Nothing => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn take_next(&self, state: &mut State, cx: &Context<'_>) -> Next {
        let Some(slot) = state.name_watches.slots.get_mut(&self.id) else {
            return Next::Update(Err(WatchError::Closed));
        };
        if let Stage::Lagged = slot.stage {
            slot.stage = Stage::Listing { after: None };
            return Next::Update(Err(WatchError::Lagged));
        }
        slot.list(&state.node);
        if let Some(update) = slot.updates.pop_front() {
            return Next::Update(Ok(update));
        }
        if let Stage::Listing { .. } = slot.stage {
            return Next::Again;
        }
        if state.is_closed {
            return Next::Update(Err(WatchError::Closed));
        }
        slot.waker.register(cx);
        Next::Nothing
    }
}

impl Drop for NameWatch {
    fn drop(&mut self) {
        self.shared.with(|state| state.name_watches.remove(self.id));
    }
}

impl NameWatches {
    fn add(&mut self, prefix: &str) -> u64 {
        self.issued += 1;
        let id = self.issued;
        let prefix: Arc<str> = Arc::from(prefix);
        let watching = self.prefixes.entry(Arc::clone(&prefix)).or_default();
        if watching.is_empty() {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        watching.insert(id);
        let slot = Slot {
            prefix,
            stage: Stage::Listing { after: None },
            updates: VecDeque::new(),
            waker: WakerSlot::default(),
        };
        self.slots.insert(id, slot);
        id
    }

    fn remove(&mut self, id: u64) {
        let Some(Slot { prefix, .. }) = self.slots.remove(&id) else {
            return;
        };
        if let Some(watching) = self.prefixes.get_mut(&prefix) {
            watching.remove(&id);
            if watching.is_empty() {
                self.prefixes.remove(&prefix);
                let count = self.lengths.entry(prefix.len()).or_default();
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// Brings a change to those who watch a prefix of its name.
    pub(crate) fn publish(&mut self, event: &NameEvent, queue_max: usize, wakes: &mut Wakes) {
        let name = event.name().as_str();
        for &length in self.lengths.keys() {
            let Some(prefix) = name.get(..length) else {
                return;
            };
            for id in self.prefixes.get(prefix).into_iter().flatten() {
                if let Some(slot) = self.slots.get_mut(id) {
                    slot.push(event, queue_max);
                    slot.waker.wake_into(wakes);
                }
            }
        }
    }

    /// Nothing will happen any more.
    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        for slot in self.slots.values_mut() {
            slot.waker.wake_into(wakes);
        }
    }
}

impl Slot {
    fn push(&mut self, event: &NameEvent, queue_max: usize) {
        match &self.stage {
            // The listing will tell what it has come to.
            Stage::Listing { after } if after.as_ref() < Some(event.name()) => return,
            Stage::Lagged => return,
            Stage::Listing { .. } | Stage::Following => {}
        }
        if self.updates.len() < queue_max {
            self.updates.push_back(NameUpdate::Changed(event.clone()));
        } else {
            self.updates = VecDeque::new();
            self.stage = Stage::Lagged;
        }
    }

    /// Lists one page more, once all that came before is told.
    fn list(&mut self, node: &Node) {
        let Stage::Listing { after } = &self.stage else {
            return;
        };
        if !self.updates.is_empty() {
            return;
        }
        let length = PAGE_LEN.min(node.limits().watch_queue_max);
        let NamePage { names, next } = node.names(&self.prefix, after.as_ref(), length);
        let appeared = names.into_iter().map(|listed| NameEvent::Appeared {
            name: listed.name,
            owner: listed.owner,
        });
        self.updates.extend(appeared.map(NameUpdate::Changed));
        self.stage = match next {
            Some(name) => Stage::Listing { after: Some(name) },
            None => {
                self.updates.push_back(NameUpdate::Complete);
                Stage::Following
            }
        };
    }
}

impl fmt::Debug for NameScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameScan")
            .field("prefix", &self.prefix)
            .field("after", &self.after)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NameWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameWatch").finish_non_exhaustive()
    }
}

/// Names of a page: copied within some tens of microseconds, during which the fabric waits.
const PAGE_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn appeared(name: &str) -> NameEvent {
        NameEvent::Appeared {
            name: EndpointName::new(name).unwrap(),
            owner: "node".parse().unwrap(),
        }
    }

    /// A watch that has listed all there was.
    fn follow(watches: &mut NameWatches, prefix: &str) -> u64 {
        let id = watches.add(prefix);
        watches.slots.get_mut(&id).unwrap().stage = Stage::Following;
        id
    }

    fn publish(watches: &mut NameWatches, name: &str) {
        let mut wakes = Wakes::default();
        watches.publish(&appeared(name), QUEUE_MAX, &mut wakes);
        wakes.wake();
    }

    fn told(watches: &NameWatches, id: u64) -> Vec<&str> {
        let updates = watches.slots[&id].updates.iter();
        let names = updates.map(|update| match update {
            NameUpdate::Changed(event) => event.name().as_str(),
            NameUpdate::Complete => "complete",
        });
        names.collect()
    }

    #[test]
    fn a_change_comes_to_those_who_watch_a_prefix_of_its_name() {
        let mut watches = NameWatches::default();
        let ids = ["", "svc", "svc.", "svc.a", "svc.ab", "t", "é"];
        let ids = ids.map(|prefix| (prefix, follow(&mut watches, prefix)));
        publish(&mut watches, "svc.a");
        publish(&mut watches, "svc");
        for (prefix, id) in ids {
            let expected: &[_] = match prefix {
                "" | "svc" => &["svc.a", "svc"],
                "svc." | "svc.a" => &["svc.a"],
                _ => &[],
            };
            assert_eq!(told(&watches, id), expected, "{prefix}");
        }
        for (_, id) in ids {
            watches.remove(id);
        }
        assert!(watches.slots.is_empty() && watches.prefixes.is_empty());
        assert!(watches.lengths.is_empty());
    }

    #[test]
    fn while_a_watch_lists_only_changes_of_what_it_listed_are_kept() {
        let mut watches = NameWatches::default();
        let id = watches.add("");
        publish(&mut watches, "b");
        assert_eq!(told(&watches, id), [""; 0], "the listing will tell");
        let after = EndpointName::new("m").ok();
        watches.slots.get_mut(&id).unwrap().stage = Stage::Listing { after };
        for name in ["b", "m", "n"] {
            publish(&mut watches, name);
        }
        assert_eq!(told(&watches, id), ["b", "m"]);
    }

    #[test]
    fn a_watch_that_falls_behind_keeps_nothing() {
        let mut watches = NameWatches::default();
        let (slow, other) = (follow(&mut watches, "a"), follow(&mut watches, "b"));
        for _ in 0..=QUEUE_MAX {
            publish(&mut watches, "a");
        }
        publish(&mut watches, "b");
        assert!(matches!(watches.slots[&slow].stage, Stage::Lagged));
        assert_eq!(told(&watches, slow), [""; 0]);
        assert_eq!(told(&watches, other), ["b"]);
        publish(&mut watches, "a");
        assert_eq!(told(&watches, slow), [""; 0]);
    }

    const QUEUE_MAX: usize = 3;
}

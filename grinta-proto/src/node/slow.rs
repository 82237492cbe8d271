//! Slow consumers: readers that hold their senders back, each episode told once.
//!
//! A sender is held back while its flow's buffer is full and the stream takes nothing, because the
//! reader at the other end has not read what it has. That is the sending side's view, the only one
//! that has both facts: a reader's node cannot tell an unread flow from one that nobody writes to.
//!
//! An episode begins when a sender was held back for `slow_consumer_after` without a break, on a
//! connection that brought packets meanwhile: a cut cable is no slow consumer. It is over when for
//! twice that long the sender was never held back for half of it. So a reader that takes a little
//! every few seconds is one episode, and not one for each time that it reads.
//!
//! Only flows whose sender waits are looked at, twice in each such while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::node::flow::FlowId;
use crate::node::{Node, Timer};

/// The flows whose senders are held back, or were a while ago.
#[derive(Debug, Default)]
pub(super) struct SlowConsumers {
    /// Flows whose sender was told to wait since the last turn.
    told_to_wait: BTreeSet<FlowId>,
    watched: BTreeMap<FlowId, Watch>,
    /// Whether [`Timer::SlowConsumers`] is armed.
    is_armed: bool,
}

/// What is known of one flow.
#[derive(Debug, Default)]
struct Watch {
    hold: Option<Hold>,
    /// When the sender was last found held back for long, if that was reported.
    troubled: Option<Instant>,
}

/// A sender waits.
#[derive(Debug, Clone, Copy)]
struct Hold {
    since: Instant,
    /// Datagrams that the connection had brought by then.
    datagrams: u64,
}

impl SlowConsumers {
    /// A sender was told to wait.
    pub(super) fn note_wait(&mut self, flow: FlowId) {
        self.told_to_wait.insert(flow);
    }

    /// A sender may go on.
    pub(super) fn note_relief(&mut self, flow: FlowId) {
        if let Some(watch) = self.watched.get_mut(&flow) {
            watch.hold = None;
            if watch.troubled.is_none() {
                self.watched.remove(&flow);
            }
        }
    }
}

impl Node {
    /// Begins to watch the flows whose senders wait since the last turn.
    pub(super) fn watch_held_back(&mut self, now: Instant) {
        for flow in std::mem::take(&mut self.slow.told_to_wait) {
            if let Some(peer) = self.connections.get(flow.peer)
                && peer.held_back(flow.stream).is_some()
            {
                let watch = self.slow.watched.entry(flow).or_default();
                watch.hold.get_or_insert_with(|| Hold {
                    since: now,
                    datagrams: peer.stats().udp_rx.datagrams,
                });
            }
        }
        if !self.slow.watched.is_empty() && !self.slow.is_armed {
            let patience = self.config.connection.slow_consumer_after;
            self.timers.arm(now, patience / 2, Timer::SlowConsumers);
            self.slow.is_armed = true;
        }
    }

    /// Reports the readers that have not read for long, and forgets those that have caught up.
    pub(super) fn report_slow_consumers(&mut self, now: Instant) {
        let patience = self.config.connection.slow_consumer_after;
        let (connections, counters) = (&self.connections, &mut self.counters);
        self.slow.is_armed = false;
        self.slow.watched.retain(|flow, watch| {
            let Some(peer) = connections.get(flow.peer) else {
                return false;
            };
            let held = watch.hold.zip(peer.held_back(flow.stream));
            if let Some((hold, held_back)) = held {
                let duration = now.saturating_duration_since(hold.since);
                let is_reached = peer.stats().udp_rx.datagrams > hold.datagrams;
                if watch.troubled.is_some() && duration >= patience / 2 {
                    watch.troubled = Some(now);
                } else if duration >= patience && is_reached {
                    watch.troubled = Some(now);
                    counters.slow_consumers += 1;
                    tracing::warn!(
                        target: "grinta::flow",
                        peer = peer.name().map(tracing::field::display),
                        endpoint = held_back.endpoint.map(tracing::field::display),
                        stream = %flow.stream,
                        bytes = held_back.bytes,
                        held_for = ?duration,
                        "a slow consumer: the flow's reader does not read, and its sender waits",
                    );
                }
            }
            match watch.troubled {
                Some(troubled) => now.saturating_duration_since(troubled) < patience * 2,
                None => held.is_some(),
            }
        });
        self.watch_held_back(now);
    }
}

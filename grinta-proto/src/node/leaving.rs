//! How a node goes: it tells the others, refuses what is new, lets open flows drain, closes its
//! connections, and stays until the packets that say so are out.

use std::time::{Duration, Instant};

use crate::node::event::{Event, JoinError};
use crate::node::{Node, Timer, refusal};
use crate::wire::stream::RefusalReason;

/// How far the node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It takes part.
    Running,
    /// It tells the others, refuses new flows and lets the open ones drain.
    Leaving { has_left: bool, is_overdue: bool },
    /// Connections are closed; the packets that say so are on their way out.
    Closing,
    /// It has nothing more to do.
    Closed,
}

impl Node {
    pub(super) fn begin_shutdown(&mut self, now: Instant, grace: Duration) {
        if self.phase != Phase::Running {
            return;
        }
        self.phase = Phase::Leaving {
            has_left: false,
            is_overdue: false,
        };
        self.timers.arm(now, grace, Timer::Grace);
        if self.join.take().is_some() {
            self.events
                .push_back(Event::Joined(Err(JoinError::ShuttingDown)));
        }
        for dial in self.dials.keys().copied().collect::<Vec<_>>() {
            self.end_dial_shutting_down(now, dial);
        }
        for incoming in self.endpoints.take_all() {
            self.deliver(incoming, refusal(RefusalReason::ShuttingDown, ""));
        }
        self.control.leave(now);
        self.follow(now);
    }

    pub(super) fn progress_shutdown(&mut self, now: Instant) {
        match self.phase {
            Phase::Running | Phase::Closed => {}
            Phase::Leaving {
                has_left,
                is_overdue,
            } => {
                let drained = self.connections.open_flows() == 0;
                if is_overdue || (has_left && drained) {
                    self.close_connections(now);
                    self.phase = Phase::Closing;
                }
            }
            Phase::Closing => {
                if !self.connections.is_sending() && !self.connections.has_touched() {
                    self.phase = Phase::Closed;
                    self.events.push_back(Event::Closed);
                }
            }
        }
    }

    pub(super) fn note_left(&mut self) {
        if let Phase::Leaving { has_left, .. } = &mut self.phase {
            *has_left = true;
            self.events.push_back(Event::Left);
        }
    }
}

//! How a node goes. It leaves: it tells the others, refuses new flows from them, and may join again;
//! flows that are open live on, and so do their connections. Or it shuts down: it leaves, lets open
//! flows drain, closes its connections, and stays until the packets that say so are out.

use std::time::{Duration, Instant};

use crate::node::dial::{DialCause, DialState};
use crate::node::event::{Event, JoinError, MemberEvent};
use crate::node::{Node, Timer, refusal};
use crate::wire::code::Code;
use crate::wire::stream::RefusalReason;

/// What a node had taken to be delivered and had not when it closed. All zero if everything went
/// where it was to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Flows to other nodes with bytes that never left this one.
    pub flows_lost: usize,
    /// Those bytes: of encoded messages, each with its length before it.
    pub bytes_lost: u64,
    /// Other flows to other nodes that were cut before they were finished and the other node had
    /// said that it has it all: perhaps it has, perhaps a part was still on its way.
    pub flows_unconfirmed: usize,
    /// Directions of in-process flows that hold messages which were not read by then. Whoever
    /// holds a receiver can still read them.
    pub local_flows_unread: usize,
    /// Those messages.
    pub local_messages_unread: usize,
    /// Their bytes, counted as the messages would have travelled.
    pub local_bytes_unread: u64,
}

impl ShutdownReport {
    /// Whether everything was delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How far the node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It takes part.
    Running,
    /// It tells the others that it leaves.
    Leaving,
    /// It has left, and may join again.
    Left { since: Instant },
    /// It tells the others, refuses new flows and lets the open ones drain.
    ShuttingDown { has_left: bool, is_overdue: bool },
    /// Connections are closed; the packets that say so are on their way out.
    Closing,
    /// It has nothing more to do.
    Closed,
}

impl Phase {
    /// Whether endpoints may be opened and dialled in this process.
    pub(super) const fn is_open(self) -> bool {
        match self {
            Self::Running | Self::Leaving | Self::Left { .. } => true,
            Self::ShuttingDown { .. } | Self::Closing | Self::Closed => false,
        }
    }

    /// Why a new connection is of no use, if so.
    pub(super) const fn unwelcome(self) -> Option<Code> {
        match self {
            Self::Running | Self::Leaving | Self::ShuttingDown { .. } => None,
            Self::Left { .. } => Some(Code::Left),
            Self::Closing | Self::Closed => Some(Code::ShuttingDown),
        }
    }
}

impl Node {
    pub(super) fn begin_leave(&mut self, now: Instant) {
        match self.phase {
            Phase::Running => {}
            Phase::Left { .. } => return self.events.push_back(Event::Left),
            // It is about to be told.
            Phase::Leaving | Phase::ShuttingDown { .. } | Phase::Closing | Phase::Closed => return,
        }
        self.phase = Phase::Leaving;
        self.end_join(JoinError::Left);
        self.end_dials_abroad(now);
        self.control.leave(now);
        self.follow(now);
    }

    /// The fabric takes another process for this node: as after a leave, but for good.
    pub(super) fn step_aside(&mut self, now: Instant) {
        if self.phase == Phase::Running {
            self.phase = Phase::Leaving;
            self.end_join(JoinError::Displaced);
            self.end_dials_abroad(now);
        }
        self.note_left(now);
    }

    pub(super) fn begin_shutdown(&mut self, now: Instant, grace: Duration) {
        let has_left = match self.phase {
            Phase::Running | Phase::Leaving => false,
            Phase::Left { .. } => true,
            Phase::ShuttingDown { .. } | Phase::Closing | Phase::Closed => return,
        };
        self.phase = Phase::ShuttingDown {
            has_left,
            is_overdue: false,
        };
        self.timers.arm(now, grace, Timer::Grace);
        self.end_join(JoinError::ShuttingDown);
        for dial in self.dials.keys().copied().collect::<Vec<_>>() {
            self.fail_dial(now, dial, DialCause::ShuttingDown);
        }
        for incoming in self.endpoints.take_all() {
            self.deliver(incoming, refusal(RefusalReason::ShuttingDown, ""));
        }
        self.control.leave(now);
        self.follow(now);
    }

    pub(super) fn progress_shutdown(&mut self, now: Instant) {
        match self.phase {
            Phase::Running | Phase::Leaving | Phase::Left { .. } | Phase::Closed => {}
            Phase::ShuttingDown {
                has_left,
                is_overdue,
            } => {
                let drained = self.connections.open_flows() == 0;
                if is_overdue || (has_left && drained) {
                    self.note_undelivered();
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

    /// Counts what the connections that are about to be closed have not delivered.
    fn note_undelivered(&mut self) {
        let peers = self.connections.peers().filter(|peer| !peer.is_lost());
        for bytes in peers.flat_map(|peer| peer.undelivered()) {
            if bytes == 0 {
                self.shutdown_report.flows_unconfirmed += 1;
            } else {
                self.shutdown_report.flows_lost += 1;
                self.shutdown_report.bytes_lost += bytes as u64;
            }
        }
    }

    /// The others know, or had their time to learn of it.
    pub(super) fn note_left(&mut self, now: Instant) {
        match &mut self.phase {
            // It has begun to join again meanwhile.
            Phase::Running => {}
            Phase::Leaving => {
                self.phase = Phase::Left { since: now };
                let own = self.own_member();
                self.events.push_back(Event::Member(MemberEvent::Left(own)));
                for key in self.connections.keys() {
                    self.close_unused(now, key);
                }
            }
            Phase::ShuttingDown { has_left, .. } => *has_left = true,
            Phase::Left { .. } | Phase::Closing | Phase::Closed => return,
        }
        self.events.push_back(Event::Left);
    }

    /// Takes part again, if the node had left. Returns whether it had.
    pub(super) fn come_back(&mut self) -> bool {
        match self.phase {
            Phase::Leaving => self.phase = Phase::Running,
            Phase::Left { .. } => {
                self.phase = Phase::Running;
                let own = self.own_member();
                self.events.push_back(Event::Member(MemberEvent::Up(own)));
            }
            Phase::Running | Phase::ShuttingDown { .. } | Phase::Closing | Phase::Closed => {
                return false;
            }
        }
        true
    }

    fn end_join(&mut self, error: JoinError) {
        if self.join.take().is_some() {
            self.events.push_back(Event::Joined(Err(error)));
        }
    }

    /// Ends the dials that are on their way to other nodes.
    fn end_dials_abroad(&mut self, now: Instant) {
        let is_abroad = |state: &DialState| match state {
            DialState::Connecting { .. } | DialState::Opening { .. } | DialState::Asking { .. } => {
                true
            }
            DialState::Resolving | DialState::Settling { .. } | DialState::AskingHere { .. } => {
                false
            }
        };
        let abroad = self.dials.iter().filter(|(_, dial)| is_abroad(&dial.state));
        for id in abroad.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.fail_dial(now, id, DialCause::Left);
        }
    }
}

//! The state that the handles and the driver of one fabric share, behind one mutex.
//!
//! The mutex is never held while waking or while calling into [`Io`](crate::Io). A handle that
//! wants something marks it in the node, wakes the driver if that is parked, and returns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};

use bytes::Bytes;

use crate::name::NodeName;
use crate::node::control::{QueryError, QueryId, QueryReport};
use crate::node::{
    Counters, DialError, DialId, Dialled, EndpointId, EndpointRefusal, Event, FlowId, FlowLoss,
    FlowReadError, FlowWriteError, JoinError, JoinReport, Member, MemberEvent, Node, Payload,
    ShutdownReport, SleepId, Snapshot,
};
use crate::shell::ends::MessageTypes;
use crate::shell::local::{Breakable, LocalFlow, LocalQueues, Room};
use crate::shell::names::NameWatches;
use crate::shell::waiters::{WakerList, WakerSlot, Wakes};

/// What the handles and the driver of one fabric share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

/// The node and those who wait for it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) node: Node,
    /// The driver, while it is parked.
    pub(crate) driver: WakerSlot,
    /// Nothing will happen any more.
    pub(crate) is_closed: bool,
    pub(crate) closing: WakerList,
    pub(crate) dials: BTreeMap<DialId, Box<DialSlot>>,
    pub(crate) endpoints: BTreeMap<EndpointId, EndpointSlot>,
    /// Flows that a task has waited at. A busy one keeps its place until its handles are gone.
    flows: BTreeMap<FlowId, FlowSlot>,
    pub(crate) sleeps: BTreeMap<SleepId, SleepSlot>,
    pub(crate) queries: BTreeMap<QueryId, QuerySlot>,
    pub(crate) join: JoinSlot,
    pub(crate) leave: LeaveSlot,
    pub(crate) conflict: WakerList,
    pub(crate) watches: BTreeMap<u64, WatchSlot>,
    pub(crate) watches_issued: u64,
    pub(crate) name_watches: NameWatches,
    local_flows: Vec<LocalFlow<Weak<dyn Breakable>>>,
    pub(crate) messages: MessageCounts,
    /// What was not delivered, once the fabric is closed.
    pub(crate) shutdown_report: ShutdownReport,
}

/// Messages of flows with other nodes, since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MessageCounts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Debug, Default)]
pub(crate) struct DialSlot {
    pub(crate) waker: WakerSlot,
    pub(crate) result: Option<Result<Dialled, DialError>>,
    /// The types of the dialler's messages, for an endpoint of this process.
    pub(crate) types: Option<MessageTypes>,
    /// The queues that such an endpoint's task made.
    pub(crate) queues: Option<LocalQueues>,
}

#[derive(Debug, Default)]
pub(crate) struct EndpointSlot {
    pub(crate) waiters: WakerList,
    pub(crate) opened: Option<Result<(), EndpointRefusal>>,
    /// Who owns the name now, until the endpoint's task is told.
    pub(crate) lost_to: Option<NodeName>,
}

#[derive(Debug, Default)]
struct FlowSlot {
    reader: WakerSlot,
    writer: WakerSlot,
}

#[derive(Debug, Default)]
pub(crate) struct SleepSlot {
    pub(crate) waker: WakerSlot,
    pub(crate) is_over: bool,
}

#[derive(Debug, Default)]
pub(crate) struct QuerySlot {
    pub(crate) waker: WakerSlot,
    pub(crate) result: Option<Result<QueryReport, QueryError>>,
}

#[derive(Debug, Default)]
pub(crate) struct JoinSlot {
    pub(crate) waker: WakerSlot,
    pub(crate) is_under_way: bool,
    pub(crate) result: Option<Result<JoinReport, JoinError>>,
}

#[derive(Debug, Default)]
pub(crate) struct LeaveSlot {
    pub(crate) waiters: WakerList,
    /// How often the node has left.
    pub(crate) departures: u64,
}

#[derive(Debug, Default)]
pub(crate) struct WatchSlot {
    pub(crate) waker: WakerSlot,
    pub(crate) events: VecDeque<MemberEvent>,
    pub(crate) has_lagged: bool,
}

impl Shared {
    pub(crate) fn new(node: Node) -> Arc<Self> {
        let state = State {
            node,
            driver: WakerSlot::default(),
            is_closed: false,
            closing: WakerList::default(),
            dials: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            flows: BTreeMap::new(),
            sleeps: BTreeMap::new(),
            queries: BTreeMap::new(),
            join: JoinSlot::default(),
            leave: LeaveSlot::default(),
            conflict: WakerList::default(),
            watches: BTreeMap::new(),
            watches_issued: 0,
            name_watches: NameWatches::default(),
            local_flows: Vec::new(),
            messages: MessageCounts::default(),
            shutdown_report: ShutdownReport::default(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Works on the state; then wakes whom that concerns, the parked driver among them.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.with_wakes(|state, _| work(state))
    }

    /// As [`with`](Self::with), for work that has wakers of its own to wake.
    pub(crate) fn with_wakes<R>(&self, work: impl FnOnce(&mut State, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state, &mut wakes);
        state.dispatch(&mut wakes);
        if !state.driver.is_empty() && state.node.wants_turn() {
            state.driver.wake_into(&mut wakes);
        }
        drop(state);
        wakes.wake();
        result
    }

    /// What the node and its handles are and hold at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (snapshot, local_flows) = self.with(|state| {
            let snapshot = Snapshot {
                counters: state.counters(),
                ..state.node.snapshot()
            };
            (snapshot, state.local_flows())
        });
        Snapshot {
            local_flows: local_flows.iter().map(LocalFlow::snapshot).collect(),
            ..snapshot
        }
    }
}

impl State {
    /// Nothing will happen any more: whoever waits is woken to learn of it.
    pub(crate) fn close(&mut self, wakes: &mut Wakes) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        self.closing.wake_into(wakes);
        self.join.waker.wake_into(wakes);
        self.leave.waiters.wake_into(wakes);
        self.conflict.wake_into(wakes);
        for slot in self.dials.values_mut() {
            slot.waker.wake_into(wakes);
        }
        for slot in self.endpoints.values_mut() {
            slot.waiters.wake_into(wakes);
        }
        for slot in self.flows.values_mut() {
            slot.reader.wake_into(wakes);
            slot.writer.wake_into(wakes);
        }
        for slot in self.sleeps.values_mut() {
            slot.waker.wake_into(wakes);
        }
        for slot in self.queries.values_mut() {
            slot.waker.wake_into(wakes);
        }
        for slot in self.watches.values_mut() {
            slot.waker.wake_into(wakes);
        }
        self.name_watches.wake_all(wakes);
        self.shutdown_report = *self.node.shutdown_report();
        for flow in std::mem::take(&mut self.local_flows) {
            if let Some(queue) = flow.queue.upgrade() {
                queue.break_off(FlowLoss::ShuttingDown, wakes);
                self.note_unread(&*queue);
                wakes.drop_later(queue);
            }
        }
    }

    /// All members that are known, this node among them, in the order of their names.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut members: Vec<_> = self.node.members().collect();
        let own = self.node.own_member();
        let at = members.partition_point(|member| member.name < own.name);
        members.insert(at, own);
        members
    }

    /// What the node and its handles have counted.
    pub(crate) const fn counters(&self) -> Counters {
        Counters {
            messages_sent: self.messages.sent,
            messages_received: self.messages.received,
            ..self.node.counters()
        }
    }

    /// Writes to a flow.
    pub(crate) fn write(
        &mut self,
        flow: FlowId,
        payload: Payload<'_>,
        room: Room<'_, '_>,
    ) -> Result<(), FlowWriteError> {
        if self.is_closed {
            // The node would buffer it, and nobody is left to carry it.
            return Err(FlowWriteError::Lost(FlowLoss::ShuttingDown));
        }
        let written = match room {
            Room::Awaited(_) | Room::Now => self.node.write(flow, payload),
            Room::Waived => self.node.write_regardless(flow, payload),
        };
        self.await_room(flow, &written, room);
        written
    }

    /// How many bytes a flow takes before a sender has to wait.
    pub(crate) fn room(
        &mut self,
        flow: FlowId,
        room: Room<'_, '_>,
    ) -> Result<usize, FlowWriteError> {
        if self.is_closed {
            return Err(FlowWriteError::Lost(FlowLoss::ShuttingDown));
        }
        let left = self.node.room(flow);
        self.await_room(flow, &left, room);
        left
    }

    fn await_room<T>(
        &mut self,
        flow: FlowId,
        found: &Result<T, FlowWriteError>,
        room: Room<'_, '_>,
    ) {
        if let (Err(FlowWriteError::Blocked), Room::Awaited(cx)) = (found, room) {
            self.flows.entry(flow).or_default().writer.register(cx);
        }
    }

    /// How a flow's sending direction ended, once it has; until then the task of `cx` waits.
    pub(crate) fn sent(
        &mut self,
        flow: FlowId,
        cx: &Context<'_>,
    ) -> Option<Result<(), FlowWriteError>> {
        let sent = self.node.sent(flow);
        if sent.is_none() && self.is_closed {
            return Some(Err(FlowWriteError::Lost(FlowLoss::ShuttingDown)));
        }
        if sent.is_none() {
            self.flows.entry(flow).or_default().writer.register(cx);
        }
        sent
    }

    /// Reads from a flow; when it is empty the task of `cx` is woken once it is not.
    pub(crate) fn read(
        &mut self,
        flow: FlowId,
        cx: Option<&Context<'_>>,
    ) -> Result<Option<Bytes>, FlowReadError> {
        let read = self.node.read(flow);
        if read == Err(FlowReadError::Blocked) {
            if self.is_closed {
                return Err(FlowReadError::Lost(FlowLoss::ShuttingDown));
            }
            if let Some(cx) = cx {
                self.flows.entry(flow).or_default().reader.register(cx);
            }
        }
        read
    }

    /// The receiving handle of a flow is gone.
    pub(crate) fn forget_reader(&mut self, flow: FlowId) -> Option<Waker> {
        self.forget(flow, |slot| &mut slot.reader)
    }

    /// The sending handle of a flow is gone.
    pub(crate) fn forget_writer(&mut self, flow: FlowId) -> Option<Waker> {
        self.forget(flow, |slot| &mut slot.writer)
    }

    fn forget(
        &mut self,
        flow: FlowId,
        end: impl FnOnce(&mut FlowSlot) -> &mut WakerSlot,
    ) -> Option<Waker> {
        let slot = self.flows.get_mut(&flow)?;
        let waker = end(slot).take();
        if slot.reader.is_empty() && slot.writer.is_empty() {
            // If the other handle lives and comes to wait, it makes a new one.
            self.flows.remove(&flow);
        }
        waker
    }

    /// Remembers a direction of an in-process flow, to show it, and to break it off when the fabric
    /// closes.
    pub(crate) fn track_local(&mut self, flow: LocalFlow<Weak<dyn Breakable>>) {
        // Pruning when the list has doubled keeps it within twice the flows that live.
        if self.local_flows.len() == self.local_flows.capacity() {
            self.local_flows
                .retain(|flow| flow.queue.strong_count() > 0);
        }
        self.local_flows.push(flow);
    }

    /// The in-process flows that have an end left, to be looked at and dropped outside the lock.
    pub(crate) fn local_flows(&self) -> Vec<LocalFlow<Arc<dyn Breakable>>> {
        let flows = self.local_flows.iter();
        flows.filter_map(LocalFlow::upgrade).collect()
    }

    fn note_unread(&mut self, queue: &dyn Breakable) {
        let (messages, bytes) = queue.levels();
        let report = &mut self.shutdown_report;
        report.local_flows_unread += usize::from(messages.used > 0);
        report.local_messages_unread += messages.used;
        report.local_bytes_unread += bytes.used as u64;
    }

    fn dispatch(&mut self, wakes: &mut Wakes) {
        while let Some(event) = self.node.poll_event() {
            self.dispatch_one(event, wakes);
        }
    }

    /// Notes what became of an endpoint, and wakes its tasks.
    fn tell_endpoint(
        &mut self,
        endpoint: EndpointId,
        wakes: &mut Wakes,
        note: impl FnOnce(&mut EndpointSlot),
    ) {
        if let Some(slot) = self.endpoints.get_mut(&endpoint) {
            note(slot);
            slot.waiters.wake_into(wakes);
        }
    }

    fn dispatch_one(&mut self, event: Event, wakes: &mut Wakes) {
        match event {
            Event::Member(event) => {
                for slot in self.watches.values_mut() {
                    slot.push(event.clone());
                    slot.waker.wake_into(wakes);
                }
            }
            Event::Joined(result) => {
                self.join.is_under_way = false;
                self.join.result = Some(result);
                self.join.waker.wake_into(wakes);
            }
            Event::EndpointOpened { endpoint, result } => {
                self.tell_endpoint(endpoint, wakes, |slot| slot.opened = Some(result));
            }
            Event::Incoming { endpoint } | Event::OwnerChanged { endpoint } => {
                self.tell_endpoint(endpoint, wakes, |_| {});
            }
            Event::NameLost { endpoint, winner } => {
                self.tell_endpoint(endpoint, wakes, |slot| slot.lost_to = Some(winner));
            }
            Event::NameRegained { endpoint } => {
                self.tell_endpoint(endpoint, wakes, |slot| slot.lost_to = None);
            }
            Event::Name(event) => {
                let queue_max = self.node.limits().watch_queue_max;
                self.name_watches.publish(&event, queue_max, wakes);
            }
            Event::Dialled { dial, result } => {
                if let Some(slot) = self.dials.get_mut(&dial) {
                    slot.result = Some(result);
                    slot.waker.wake_into(wakes);
                }
            }
            Event::Queried { query, result } => {
                if let Some(slot) = self.queries.get_mut(&query) {
                    slot.result = Some(result);
                    slot.waker.wake_into(wakes);
                }
            }
            Event::FlowReadable(flow) => {
                if let Some(slot) = self.flows.get_mut(&flow) {
                    slot.reader.wake_into(wakes);
                }
            }
            Event::FlowWritable(flow) => {
                if let Some(slot) = self.flows.get_mut(&flow) {
                    slot.writer.wake_into(wakes);
                }
            }
            Event::Woken(sleep) => {
                if let Some(slot) = self.sleeps.get_mut(&sleep) {
                    slot.is_over = true;
                    slot.waker.wake_into(wakes);
                }
            }
            Event::IdentityConflict(_) => self.conflict.wake_into(wakes),
            Event::Left => {
                self.leave.departures += 1;
                self.leave.waiters.wake_into(wakes);
            }
            Event::Closed => self.close(wakes),
        }
    }
}

impl WatchSlot {
    fn push(&mut self, event: MemberEvent) {
        if self.events.len() >= WATCH_QUEUE_MAX {
            self.events.clear();
            self.has_lagged = true;
        }
        self.events.push_back(event);
    }
}

/// Events that a watch holds for its task: a fabric of a thousand coming up at once.
const WATCH_QUEUE_MAX: usize = 4096;

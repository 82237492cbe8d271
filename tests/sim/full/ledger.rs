//! What programs sent, read and were told: the truth against which flows are held.
//!
//! Message `i` of flow `f` is a function of the two, so a reader knows what it must get without being
//! told by anybody. The ledger knows both ends of every flow.

use std::collections::BTreeSet;
use std::time::Duration;

use grinta_proto::{EndpointName, FlowLoss, ReceiveError, SendCause};

use super::content::content;
use crate::marks::sometimes;
use crate::oracle::Finding;
use crate::plan::{FlowEnd, FlowPlan, NodeId, Reading};
use crate::scene::{FlowStage, Happening, Scenes};
use crate::verdict::Invariant;

/// One run of a node.
pub(super) type Run = (NodeId, u64);

/// All flows, dials and calls of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    flows: Vec<FlowRecord>,
    dials: Vec<DialRecord>,
    calls: Vec<CallRecord>,
    /// Requests that were handed to a program, by flow and number.
    served: BTreeSet<(u32, u32)>,
    pub(super) scenes: Scenes,
}

/// Both ends of a flow.
#[derive(Debug)]
struct FlowRecord {
    plan: FlowPlan,
    from: Run,
    /// Where it was accepted, as the dialler was told.
    to: Option<NodeId>,
    /// Who reads it, as the reader itself knows.
    reader: Option<Run>,
    /// Messages that a send was begun for, accepted, and read.
    offered: u32,
    accepted: u32,
    read: u32,
    /// Whether the sender said that there is no more.
    is_complete: bool,
    sending: Option<(Duration, Ending)>,
    receiving: Option<(Duration, Ending)>,
    /// When something was last sent or read.
    moved_at: Duration,
}

/// How an end of a flow ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// There never was a flow.
    NotOpened,
    /// In good order: the other side has it all, or all was read.
    Clean,
    /// The program let go of it.
    Dropped,
    /// The program gave it up, or the other side's did.
    GivenUp,
    /// It broke.
    Lost(FlowLoss),
    /// The process ended.
    Died,
}

#[derive(Debug)]
struct DialRecord {
    by: Run,
    to: EndpointName,
    begun: Duration,
    limit: Duration,
    is_over: bool,
}

#[derive(Debug)]
struct CallRecord {
    by: Run,
    begun: Duration,
    /// `None` if it takes as long as its flow lives.
    limit: Option<Duration>,
    is_fickle: bool,
    is_over: bool,
}

/// What the ledger has to know about a node to judge its flows.
pub(super) struct Situation<'a> {
    pub(super) now: Duration,
    /// Until when the run of a node did not take part, or was not what it should be; `None` if it
    /// does not run or is frozen.
    pub(super) awake_since: &'a dyn Fn(Run) -> Option<Duration>,
    /// When a run ended, if it did.
    pub(super) ended_at: &'a dyn Fn(Run) -> Option<Duration>,
    /// How long what is under way may still be under way.
    pub(super) latency: Duration,
    /// How long a task may wait for its turn at the slowest host.
    pub(super) turns: Duration,
    /// Whether nothing has gone wrong for a while.
    pub(super) is_calm: bool,
    pub(super) judged: Judged<'a>,
}

/// Whose flows have to do well.
#[derive(Debug, Clone, Copy)]
pub(super) enum Judged<'a> {
    All,
    /// Those among these nodes: the others are still unwell.
    Core(&'a [NodeId]),
}

impl Ledger {
    /// A program is about to dial; returns the flow's number.
    pub(super) fn begin_flow(&mut self, now: Duration, from: Run, plan: &FlowPlan) -> u32 {
        self.flows.push(FlowRecord {
            plan: plan.clone(),
            from,
            to: None,
            reader: None,
            offered: 0,
            accepted: 0,
            read: 0,
            is_complete: false,
            sending: None,
            receiving: None,
            moved_at: now,
        });
        let flow = u32::try_from(self.flows.len() - 1).expect("fewer flows than numbers");
        self.tell(now, flow, from.0, FlowStage::Dialled, || "dials".to_owned());
        flow
    }

    /// Puts what becomes of a flow into the pictures of the run.
    fn tell(
        &mut self,
        now: Duration,
        flow: u32,
        node: NodeId,
        stage: FlowStage,
        how: impl FnOnce() -> String,
    ) {
        let name = &self.flows[flow as usize].plan.to;
        self.scenes.tell(now, || Happening::Flow {
            flow,
            node,
            name: name.clone(),
            stage,
            how: how(),
        });
    }

    /// A flow is there, with its other end at `to`.
    pub(super) fn opened(&mut self, now: Duration, flow: u32, to: NodeId) {
        let record = self.flow(flow);
        record.to = Some(to);
        record.moved_at = now;
        let from = record.from.0;
        self.tell(now, flow, from, FlowStage::Open, || {
            format!("is connected with {to}")
        });
    }

    pub(super) fn offer(&mut self, flow: u32) {
        let record = self.flow(flow);
        record.offered = record.accepted + 1;
    }

    pub(super) fn accepted(&mut self, now: Duration, flow: u32) {
        let record = self.flow(flow);
        record.accepted = record.offered;
        record.moved_at = now;
    }

    /// The sender is about to finish, or drops: what was accepted is all.
    pub(super) fn complete(&mut self, flow: u32) {
        self.flow(flow).is_complete = true;
    }

    pub(super) fn sending_ended(&mut self, now: Duration, flow: u32, ending: Ending) {
        ending.note();
        sometimes!(ending == Ending::GivenUp, SenderStopped);
        let record = self.flow(flow);
        record.sending.get_or_insert_with(|| (now, ending.clone()));
        let (from, sent) = (record.from.0, record.accepted);
        self.tell(now, flow, from, ending.stage(), || {
            format!("has sent {sent} messages: {ending:?}")
        });
    }

    pub(super) fn receiving_ended(
        &mut self,
        now: Duration,
        flow: u32,
        ending: Ending,
    ) -> Result<(), Finding> {
        let record = self.flow(flow);
        if record.receiving.is_none() {
            record.receiving = Some((now, ending.clone()));
        }
        let (reader, read) = (record.reader, record.read);
        let is_local = reader.is_some_and(|(id, _)| id == record.from.0);
        ending.note();
        sometimes!(ending == Ending::Clean && is_local, LocalFlowEnded);
        sometimes!(ending == Ending::Clean && !is_local, RemoteFlowEnded);
        if let Some((reader, _)) = reader {
            self.tell(now, flow, reader, ending.stage(), || {
                format!("has read {read} messages: {ending:?}")
            });
        }
        let record = self.flow(flow);
        if ending != Ending::Clean {
            return Ok(());
        }
        if !record.is_complete {
            let what = format!("flow {flow} ends cleanly, and its sender did not finish it");
            return Err((record.blame(Invariant::F2), what));
        }
        if record.read != record.accepted {
            let (read, accepted) = (record.read, record.accepted);
            let what = format!("flow {flow} ends cleanly after {read} of {accepted} messages");
            return Err((record.blame(Invariant::F2), what));
        }
        Ok(())
    }

    /// A first message has come to a reader: returns which flow it is of and how to read it.
    pub(super) fn claimed(
        &mut self,
        reader: Run,
        dialler: NodeId,
        endpoint: &EndpointName,
        message: &[u8],
    ) -> Result<(u32, Reading, bool), Finding> {
        let number = message
            .first_chunk()
            .map(|bytes| u32::from_le_bytes(*bytes));
        let found = number.and_then(|number| {
            let index = usize::try_from(number).ok()?;
            Some((number, self.flows.get_mut(index)?))
        });
        let Some((number, record)) = found else {
            return Err((Invariant::F1, "a message that nobody sent".to_owned()));
        };
        if let Some(other) = record.reader.replace(reader) {
            let what = format!("flow {number} has two readers, {other:?} and {reader:?}");
            return Err((Invariant::F5, what));
        }
        if record.plan.to != *endpoint {
            let what = format!("flow {number} to {} is at {endpoint}", record.plan.to);
            return Err((Invariant::D7, what));
        }
        let is_expected = record.from.0 == dialler;
        if !is_expected || record.to.is_some_and(|to| to != reader.0) {
            let what = format!(
                "flow {number} of {:?} to {} at {:?} is read at {} of {endpoint}, from {dialler}",
                record.from, record.plan.to, record.to, reader.0
            );
            return Err((Invariant::F5, what));
        }
        Ok((number, record.plan.reading, record.plan.is_fickle))
    }

    /// A reader has got a message.
    pub(super) fn read(&mut self, now: Duration, flow: u32, message: &[u8]) -> Result<(), Finding> {
        let record = self.flow(flow);
        let expected = content(flow, record.read, message.len());
        if record.read >= record.offered || expected != message {
            let header = message.chunks(4).take(2).collect::<Vec<_>>();
            let what = format!(
                "message {} of flow {flow} is {header:?}; {} were sent",
                record.read, record.offered
            );
            return Err((record.blame(Invariant::F1), what));
        }
        record.read += 1;
        record.moved_at = now;
        Ok(())
    }

    pub(super) fn begin_dial(
        &mut self,
        now: Duration,
        by: Run,
        to: &EndpointName,
        limit: Duration,
    ) -> usize {
        self.dials.push(DialRecord {
            by,
            to: to.clone(),
            begun: now,
            limit,
            is_over: false,
        });
        self.dials.len() - 1
    }

    pub(super) fn end_dial(&mut self, dial: usize) {
        self.dials[dial].is_over = true;
    }

    pub(super) fn begin_call(
        &mut self,
        now: Duration,
        by: Run,
        limit: Option<Duration>,
        is_fickle: bool,
    ) -> usize {
        self.calls.push(CallRecord {
            by,
            begun: now,
            limit,
            is_fickle,
            is_over: false,
        });
        self.calls.len() - 1
    }

    pub(super) fn end_call(&mut self, call: usize) {
        self.calls[call].is_over = true;
    }

    /// A request has come to a program.
    pub(super) fn serve(&mut self, flow: u32, number: u32) -> Result<(), Finding> {
        if self.served.insert((flow, number)) {
            return Ok(());
        }
        let what = format!("call {number} of {flow} comes a second time");
        Err((Invariant::F1, what))
    }

    /// A caller was told that its request was not acted on.
    pub(super) fn not_served(&self, flow: u32, number: u32) -> Result<(), Finding> {
        if !self.served.contains(&(flow, number)) {
            return Ok(());
        }
        let what = format!("call {number} of {flow} was acted on, and its caller told it was not");
        Err((Invariant::F3, what))
    }

    /// A process has ended, and what it had open with it.
    pub(super) fn died(&mut self, now: Duration, run: Run) {
        for record in &mut self.flows {
            if record.from == run {
                record.sending.get_or_insert((now, Ending::Died));
            }
            if record.reader == Some(run) {
                record.receiving.get_or_insert((now, Ending::Died));
            }
        }
        for dial in &mut self.dials {
            dial.is_over |= dial.by == run;
        }
        for call in &mut self.calls {
            call.is_over |= call.by == run;
        }
    }

    /// Whether a flow is under way that is to be over by itself.
    pub(super) fn open_flows(&self) -> usize {
        let is_open = |record: &&FlowRecord| {
            record.sending.is_none() || (record.reader.is_some() && record.receiving.is_none())
        };
        self.flows.iter().filter(is_open).count()
    }

    fn flow(&mut self, flow: u32) -> &mut FlowRecord {
        let index = usize::try_from(flow).expect("an index");
        self.flows.get_mut(index).expect("flows are numbered")
    }

    /// The flows whose both ends are judged, by their numbers.
    fn judged(&self, situation: &Situation<'_>) -> impl Iterator<Item = (usize, &FlowRecord)> {
        let flows = self.flows.iter().enumerate();
        flows.filter(|(_, record)| record.is_judged(situation))
    }

    /// What holds at any moment.
    pub(super) fn check(&self, situation: &Situation<'_>) -> Result<(), Finding> {
        for (number, record) in self.judged(situation) {
            record
                .check(situation)
                .map_err(|(invariant, what)| (invariant, format!("flow {number}: {what}")))?;
        }
        self.check_deadlines(situation)
    }

    /// Each dial and each call is over within its time.
    fn check_deadlines(&self, situation: &Situation<'_>) -> Result<(), Finding> {
        let is_late = |by: Run, begun: Duration, limit: Duration| {
            let since = (situation.awake_since)(by);
            let slack = DEADLINE_SLACK + situation.turns;
            since.is_some_and(|since| situation.now > (begun + limit).max(since) + slack)
        };
        for dial in self.dials.iter().filter(|dial| !dial.is_over) {
            if is_late(dial.by, dial.begun, dial.limit) {
                let what = format!(
                    "a dial of {} by {:?}, begun at {:?} for {:?}, is not over",
                    dial.to, dial.by, dial.begun, dial.limit
                );
                return Err((Invariant::F7, what));
            }
        }
        for call in self.calls.iter().filter(|call| !call.is_over) {
            if call
                .limit
                .is_some_and(|limit| is_late(call.by, call.begun, limit))
            {
                let what = format!(
                    "a call by {:?}, begun at {:?}, is not over",
                    call.by, call.begun
                );
                return Err((Invariant::F7, what));
            }
        }
        Ok(())
    }

    /// What holds when nothing has gone wrong for longer than any time-out: every flow that one
    /// end is done with is over at the other, and nothing was lost without a word.
    pub(super) fn check_settled(&self, situation: &Situation<'_>) -> Result<(), Finding> {
        for (number, record) in self.judged(situation) {
            record
                .check_settled(situation)
                .map_err(|(invariant, what)| (invariant, format!("flow {number}: {what}")))?;
        }
        // Every call is answered, or its flow is over.
        let is_stuck = |call: &&CallRecord| {
            let lives = (situation.ended_at)(call.by).is_none();
            // Who serves a call is not known here: it may be one who is unwell.
            let is_judged = matches!(situation.judged, Judged::All);
            lives && is_judged && !call.is_over && situation.now > call.begun + PROGRESS_BOUND
        };
        if let Some(call) = self.calls.iter().find(is_stuck) {
            let what = format!(
                "a call by {:?}, begun at {:?}, is not over",
                call.by, call.begun
            );
            let invariant = if call.is_fickle {
                Invariant::F8
            } else {
                Invariant::F3
            };
            return Err((invariant, what));
        }
        Ok(())
    }
}

impl FlowRecord {
    /// Whether both ends are at nodes whose flows are judged.
    fn is_judged(&self, situation: &Situation<'_>) -> bool {
        let reader = self.reader.map(|(id, _)| id).or(self.to);
        let mut ends = [Some(self.from.0), reader].into_iter().flatten();
        match situation.judged {
            Judged::All => true,
            Judged::Core(core) => ends.all(|id| core.contains(&id)),
        }
    }

    fn check(&self, situation: &Situation<'_>) -> Result<(), Finding> {
        let now = situation.now;
        // Who crashed is missed at the other end within the idle time-out.
        let bound = CRASH_BOUND + situation.latency;
        if let (None, Some((died, Ending::Died))) = (&self.receiving, &self.sending)
            && let Some(reader) = self.reader
            && self.reads_on()
            && let Some(awake) = (situation.awake_since)(reader)
            && now > (*died).max(awake) + bound
        {
            let what = format!("its sender died at {died:?}, and its reader was not told");
            return Err((Invariant::F4, what));
        }
        if let (None, Some((died, Ending::Died))) = (&self.sending, &self.receiving)
            && self.to.is_some()
            && let Some(awake) = (situation.awake_since)(self.from)
            && now > (*died).max(awake) + bound
        {
            let what = format!("its reader died at {died:?}, and its sender was not told");
            return Err((Invariant::F4, what));
        }
        // Whatever other readers do, what is sent to one that reads arrives.
        if situation.is_calm
            && self.sending.is_none()
            && self.receiving.is_none()
            && self.plan.reading == Reading::AtOnce
            && self.accepted > self.read
            && let Some(reader) = self.reader
            && [self.from, reader].into_iter().all(|run| {
                (situation.awake_since)(run).is_some_and(|since| now > since + PROGRESS_BOUND)
            })
            && now > self.moved_at + PROGRESS_BOUND
        {
            let (read, accepted) = (self.read, self.accepted);
            let what = format!("{read} of {accepted} messages are read, and it does not go on");
            return Err((Invariant::F6, what));
        }
        Ok(())
    }

    /// Whether the reader is to read all that comes, as fast as it comes.
    const fn reads_on(&self) -> bool {
        matches!(self.plan.reading, Reading::AtOnce)
    }

    /// What a fault of this flow is one of: of dropped futures, or of flows within a process, if it
    /// is such a flow.
    fn blame(&self, invariant: Invariant) -> Invariant {
        if self.plan.is_fickle {
            Invariant::F8
        } else if self.reader.is_some_and(|reader| reader.0 == self.from.0) {
            Invariant::F9
        } else {
            invariant
        }
    }

    fn check_settled(&self, situation: &Situation<'_>) -> Result<(), Finding> {
        let is_slow = match self.plan.reading {
            Reading::Every(pause) => {
                let left = self.accepted.saturating_sub(self.read);
                situation.now < self.moved_at + pause * (left + 2)
            }
            Reading::AtOnce | Reading::StopAfter(_) | Reading::DropAfter(_) => false,
        };
        let lives = |run: Run| (situation.ended_at)(run).is_none();
        match (&self.sending, &self.receiving) {
            (Some((at, ending)), None)
                if self.reader.is_some_and(lives) && !is_slow && *ending != Ending::NotOpened =>
            {
                let what = format!(
                    "its sending end is {ending:?} since {at:?}, and its reader, after {} of {} messages, was not told",
                    self.read, self.accepted
                );
                Err((self.blame(Invariant::F3), what))
            }
            (None, Some((at, ending))) if lives(self.from) => {
                let what =
                    format!("its reader is {ending:?} since {at:?}, and its sender was not told",);
                Err((self.blame(Invariant::F3), what))
            }
            (None, _)
                if lives(self.from)
                    && self.plan.end != FlowEnd::Keep
                    && !is_slow
                    && situation.now > self.moved_at + self.plan.every + PROGRESS_BOUND =>
            {
                let what = format!(
                    "it is not over, after {} of {} messages and {} read",
                    self.accepted, self.plan.messages, self.read
                );
                Err((self.blame(Invariant::F3), what))
            }
            // Its node had it all, so a reader that lived and read on got it all.
            (Some((_, Ending::Clean)), Some((at, ending @ Ending::Lost(_)))) => {
                let what = format!(
                    "its sender was told that all is there, its reader that it is {ending:?} at {at:?}"
                );
                Err((Invariant::F2, what))
            }
            _ => Ok(()),
        }
    }
}

impl Ending {
    /// Notes how it was lost.
    fn note(&self) {
        if let Self::Lost(loss) = self {
            sometimes!(*loss == FlowLoss::TimedOut, LostToSilence);
            sometimes!(*loss == FlowLoss::Restarted, LostToRestart);
            sometimes!(*loss == FlowLoss::Down, LostToDown);
            sometimes!(matches!(loss, FlowLoss::Closed { .. }), LostToClose);
        }
    }

    /// What a picture shows of it.
    const fn stage(&self) -> FlowStage {
        match self {
            Self::Clean | Self::Dropped => FlowStage::Ended,
            Self::NotOpened | Self::GivenUp => FlowStage::GivenUp,
            Self::Lost(_) | Self::Died => FlowStage::Broken,
        }
    }
}

impl From<SendCause> for Ending {
    fn from(cause: SendCause) -> Self {
        if let SendCause::Lost(loss) = cause {
            return Self::Lost(loss);
        }
        let is_given_up = matches!(cause, SendCause::Stopped { .. } | SendCause::Finished);
        assert!(
            is_given_up,
            "short messages that are bytes are sent: {cause}"
        );
        Self::GivenUp
    }
}

impl From<ReceiveError> for Ending {
    fn from(error: ReceiveError) -> Self {
        if let ReceiveError::Lost(loss) = error {
            return Self::Lost(loss);
        }
        let is_given_up = matches!(error, ReceiveError::Reset { .. } | ReceiveError::Stopped);
        assert!(
            is_given_up,
            "short messages that are bytes are read: {error}"
        );
        Self::GivenUp
    }
}

/// How late a dial or a call may be over where turns take no time.
const DEADLINE_SLACK: Duration = Duration::from_secs(1);

/// Within what a crash is known at the other end of a flow: the idle time-out after the packet that
/// was to keep the connection alive, and some.
const CRASH_BOUND: Duration = Duration::from_secs(20);

/// Within what a message arrives when nothing is wrong, whatever backlog there was.
const PROGRESS_BOUND: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

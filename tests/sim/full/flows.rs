//! What programs do with flows: send, read, call and answer, in all the ways that plans ask for.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use grinta_proto::{
    Caller, Calls, DialCause, Fabric, Incoming, Path, Raw, ReceiveError, Receiver, RefusalReason,
    SendCause, SendError, Sender,
};

use super::Stage;
use super::content::{content, numbers_of};
use super::futures::{AtMost, Either, either};
use super::ledger::{Ending, Run};
use crate::draw::{Draw, Purpose};
use crate::marks::sometimes;
use crate::oracle::node_of;
use crate::plan::{CallPlan, FlowEnd, FlowPlan, NodeId, Reading};
use crate::verdict::Invariant;

/// One program's hold on its node.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) stage: Rc<Stage>,
    pub(super) run: Run,
    pub(super) fabric: Fabric,
}

/// What is demanded of a dial.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing: whatever goes wrong excuses it.
    AsItMay,
    /// To get through: the name is served, and nothing is wrong.
    Through,
}

/// Draws when a program drops its futures.
struct Whims {
    draw: Box<dyn Fn(u64) -> Draw>,
    drawn: u64,
    is_fickle: bool,
}

impl Whims {
    fn new(program: &Program, subject: u64, is_fickle: bool) -> Self {
        let draws = program.stage.draws;
        let run = program.run.1 << 32 | u64::from(program.run.0.0);
        Self {
            draw: Box::new(move |n| draws.draw(Purpose::Program, subject, run, n)),
            drawn: 0,
            is_fickle,
        }
    }

    fn draw(&mut self) -> Draw {
        self.drawn += 1;
        (self.draw)(self.drawn)
    }

    /// After how many polls the next future is dropped.
    fn polls(&mut self) -> u64 {
        if self.is_fickle && self.draw().chance(500_000) {
            self.draw().between(1, 3)
        } else {
            u64::MAX
        }
    }
}

impl Program {
    /// Opens a flow, sends what the plan says, and ends it.
    pub(super) async fn open(self, plan: FlowPlan, demand: Demand) {
        let flow = self
            .stage
            .with_ledger(|ledger, now| ledger.begin_flow(now, self.run, &plan));
        let mut whims = Whims::new(&self, u64::from(flow), plan.is_fickle);
        let ending = match self.dial(flow, &plan, demand, &mut whims).await {
            Some(sender) => self.send_all(flow, &plan, sender, &mut whims).await,
            None => Ending::NotOpened,
        };
        self.stage
            .note(self.run.0, || format!("flow {flow} is sent: {ending:?}"));
        self.stage
            .with_ledger(|ledger, now| ledger.sending_ended(now, flow, ending));
    }

    async fn dial(
        &self,
        flow: u32,
        plan: &FlowPlan,
        demand: Demand,
        whims: &mut Whims,
    ) -> Option<Sender<Bytes>> {
        let limit = match demand {
            Demand::AsItMay => Duration::from_millis(whims.draw().between(500, 12_000)),
            Demand::Through => DIAL_BOUND,
        };
        let mut dial = self.fabric.dial(plan.to.as_str()).deadline(limit);
        if whims.draw().chance(300_000) {
            dial = dial.wait_for_name();
        }
        let begun = self
            .stage
            .with_ledger(|ledger, now| ledger.begin_dial(now, self.run, &plan.to, limit));
        let dialled = dial.sender::<Bytes, _>(Raw).into_future();
        let dialled = AtMost::new(whims.polls(), dialled).await;
        sometimes!(dialled.is_none(), DialDropped);
        self.stage.with_ledger(|ledger, _| ledger.end_dial(begun));
        let sender = match dialled? {
            Ok(sender) => sender,
            Err(error) => {
                let cause = &error.cause;
                note_cause(cause);
                self.stage
                    .note(self.run.0, || format!("flow {flow} is not there: {cause}"));
                if demand == Demand::Through && !is_for_load(cause) {
                    let what = format!("{} does not get through: {error}", self.run.0);
                    self.stage.fail(Invariant::D2, what);
                }
                return None;
            }
        };
        let to = self.at(sender.path());
        self.stage
            .note(self.run.0, || format!("flow {flow} goes to {to}"));
        self.stage
            .with_ledger(|ledger, now| ledger.opened(now, flow, to));
        Some(sender)
    }

    /// The node at the other end.
    fn at(&self, path: &Path) -> NodeId {
        match path {
            Path::Local => self.run.0,
            Path::Remote { node } => node_of(node),
        }
    }

    async fn send_all(
        &self,
        flow: u32,
        plan: &FlowPlan,
        mut sender: Sender<Bytes>,
        whims: &mut Whims,
    ) -> Ending {
        for number in 0..plan.messages {
            if number > 0
                && !plan.every.is_zero()
                && let Some(cause) = self.pause(plan.every, &mut sender).await
            {
                return cause.into();
            }
            let message = content(flow, number, plan.length as usize);
            self.stage.with_ledger(|ledger, _| ledger.offer(flow));
            let sent = loop {
                let polls = whims.polls();
                match AtMost::new(polls, sender.send(message.clone())).await {
                    Some(sent) => break sent,
                    // It was not sent; the next attempt is the first.
                    None => {
                        sometimes!(true, SendDropped);
                        self.fabric.sleep(WHIM).await;
                    }
                }
            };
            if let Err(SendError { cause, .. }) = sent {
                return cause.into();
            }
            self.stage
                .with_ledger(|ledger, now| ledger.accepted(now, flow));
        }
        match plan.end {
            FlowEnd::Finish => {
                self.stage.with_ledger(|ledger, _| ledger.complete(flow));
                match AtMost::new(whims.polls(), sender.finish()).await {
                    Some(Ok(())) => Ending::Clean,
                    Some(Err(cause)) => cause.into(),
                    None => Ending::Dropped,
                }
            }
            FlowEnd::Drop => {
                self.stage.with_ledger(|ledger, _| ledger.complete(flow));
                Ending::Dropped
            }
            FlowEnd::Reset => {
                sender.reset(RESET_CODE);
                Ending::GivenUp
            }
            FlowEnd::Keep => sender.closed().await.into(),
        }
    }

    /// Pauses between two messages. Ends early, and says why, when the flow does.
    async fn pause(&self, pause: Duration, sender: &mut Sender<Bytes>) -> Option<SendCause> {
        match either(self.fabric.sleep(pause), sender.closed()).await {
            Either::First(()) => None,
            Either::Second(cause) => Some(cause),
        }
    }

    /// Reads a flow as its plan says.
    pub(super) async fn read(self, incoming: Incoming, endpoint: grinta_proto::EndpointName) {
        let dialler = node_of(&incoming.node());
        let Ok(mut receiver) = incoming.receiver::<Bytes, _>(Raw) else {
            return;
        };
        // Who does not bring a message is nobody.
        let Ok(Some(first)) = receiver.recv().await else {
            return;
        };
        let claimed = self
            .stage
            .try_ledger(|ledger, _| ledger.claimed(self.run, dialler, &endpoint, &first));
        let Some((flow, reading, is_fickle)) = claimed else {
            return;
        };
        let whims = Whims::new(&self, 1 << 40 | u64::from(flow), is_fickle);
        let ending = self.read_all(flow, reading, first, receiver, whims).await;
        self.stage
            .note(self.run.0, || format!("flow {flow} is read: {ending:?}"));
        self.stage
            .try_ledger(|ledger, now| ledger.receiving_ended(now, flow, ending));
    }

    async fn read_all(
        &self,
        flow: u32,
        reading: Reading,
        first: Bytes,
        mut receiver: Receiver<Bytes>,
        mut whims: Whims,
    ) -> Ending {
        let mut next = Some(Ok(Some(first)));
        let mut count = 0;
        loop {
            let received = match next.take() {
                Some(received) => received,
                None => match AtMost::new(whims.polls(), receiver.recv()).await {
                    Some(received) => received,
                    None => {
                        self.fabric.sleep(WHIM).await;
                        continue;
                    }
                },
            };
            match received {
                Ok(Some(message)) => {
                    self.stage
                        .try_ledger(|ledger, now| ledger.read(now, flow, &message));
                }
                Ok(None) => return Ending::Clean,
                Err(error) => return error.into(),
            }
            count += 1;
            match reading {
                Reading::AtOnce => {}
                Reading::Every(pause) => self.fabric.sleep(pause).await,
                Reading::StopAfter(messages) if count >= messages => {
                    receiver.stop(STOP_CODE);
                    return Ending::GivenUp;
                }
                Reading::DropAfter(messages) if count >= messages => return Ending::Dropped,
                Reading::StopAfter(_) | Reading::DropAfter(_) => {}
            }
        }
    }

    /// Opens a flow of calls and makes them.
    pub(super) async fn call(self, plan: CallPlan) {
        let flow = self.stage.next_call_flow();
        let mut whims = Whims::new(&self, 2 << 40 | u64::from(flow), plan.is_fickle);
        let limit = Duration::from_millis(whims.draw().between(500, 12_000));
        let begun = self
            .stage
            .with_ledger(|ledger, now| ledger.begin_dial(now, self.run, &plan.to, limit));
        let dial = self.fabric.dial(plan.to.as_str()).deadline(limit);
        let caller = dial.caller::<Bytes, Bytes, _>(Raw).await;
        self.stage.with_ledger(|ledger, _| ledger.end_dial(begun));
        let Ok(caller) = caller else {
            return;
        };
        for task in 0..plan.tasks {
            let calls = self
                .clone()
                .make_calls(flow, task, plan.clone(), caller.clone());
            self.stage.host(self.run.0).spawn("caller", calls);
        }
    }

    /// Makes the calls of one of the tasks that share a flow of calls.
    async fn make_calls(self, flow: u32, task: u32, plan: CallPlan, caller: Caller<Bytes, Bytes>) {
        let subject = 4 << 40 | u64::from(task) << 32 | u64::from(flow);
        let mut whims = Whims::new(&self, subject, plan.is_fickle);
        for number in (0..plan.calls).map(|number| task * plan.calls + number) {
            let limit = Duration::from_millis(whims.draw().between(100, 5_000));
            let limit = whims.draw().chance(700_000).then_some(limit);
            let request = content(flow, number, plan.length as usize);
            let begun = self
                .stage
                .with_ledger(|ledger, now| ledger.begin_call(now, self.run, limit, plan.is_fickle));
            let mut call = caller.call(request);
            if let Some(limit) = limit {
                call = call.deadline(limit);
            }
            let answered = AtMost::new(whims.polls(), call.into_future()).await;
            self.stage.with_ledger(|ledger, _| ledger.end_call(begun));
            match answered {
                Some(Ok(answer)) => {
                    if answer != content(flow, number | ANSWER, plan.length as usize) {
                        let what = format!("call {number} of {flow} gets another's answer");
                        self.stage.fail(Invariant::F5, what);
                    }
                }
                Some(Err(error)) if !error.may_have_run() => {
                    sometimes!(true, CallNotRun);
                    self.stage
                        .try_ledger(|ledger, _| ledger.not_served(flow, number));
                }
                Some(Err(_)) => sometimes!(true, CallMayHaveRun),
                None => sometimes!(true, CallDropped),
            }
            self.stage
                .note(self.run.0, || format!("call {number} of {flow} is over"));
            self.fabric.sleep(plan.every).await;
        }
    }

    /// Answers the calls of a flow.
    pub(super) async fn answer(self, incoming: Incoming) {
        let Ok(calls) = incoming.calls::<Bytes, Bytes, _>(Raw) else {
            return;
        };
        // How it ends is the callers' to find out.
        self.answer_all(calls).await.ok();
    }

    async fn answer_all(&self, mut calls: Calls<Bytes, Bytes>) -> Result<(), ReceiveError> {
        while let Some(request) = calls.next().await? {
            let message = &request.message;
            let Some((flow, number)) = numbers_of(message) else {
                let what = "a request that nobody made".to_owned();
                self.stage.fail(Invariant::F1, what);
                continue;
            };
            if *message != content(flow, number, message.len()) {
                self.stage
                    .fail(Invariant::F1, format!("call {number} of {flow} is damaged"));
            }
            self.stage
                .try_ledger(|ledger, _| ledger.serve(flow, number));
            let draws = self.stage.draws;
            let draw = |n| {
                draws.draw(
                    Purpose::Program,
                    5 << 40 | u64::from(flow),
                    number.into(),
                    n,
                )
            };
            if draw(0).chance(300_000) {
                let pause = Duration::from_millis(draw(1).between(1, ANSWER_PAUSE_MAX_MS));
                self.fabric.sleep(pause).await;
            }
            let answer = content(flow, number | ANSWER, message.len());
            // A caller that has given up is told nothing.
            request.responder.respond(answer).await.ok();
        }
        Ok(())
    }
}

/// Whether a dial failed as there are too many flows or dials already.
const fn is_for_load(cause: &DialCause) -> bool {
    matches!(
        cause,
        DialCause::TooMany { .. }
            | DialCause::Refused {
                reason: RefusalReason::Busy,
                ..
            }
    )
}

/// Notes why a dial failed.
fn note_cause(cause: &DialCause) {
    sometimes!(matches!(cause, DialCause::NotFound { .. }), DialNotFound);
    sometimes!(
        matches!(cause, DialCause::Unreachable { .. }),
        DialUnreachable
    );
    sometimes!(matches!(cause, DialCause::NotSynced), DialNotSynced);
    sometimes!(matches!(cause, DialCause::Connect { .. }), DialConnect);
    sometimes!(matches!(cause, DialCause::TimedOut { .. }), DialTimedOut);
    sometimes!(matches!(cause, DialCause::Left), DialLeft);
    sometimes!(
        matches!(
            cause,
            DialCause::Refused {
                reason: RefusalReason::Busy,
                ..
            }
        ),
        DialBusy
    );
}

/// Within what a dial gets through if nothing is wrong.
const DIAL_BOUND: Duration = Duration::from_secs(5);

/// How long a program does something else when it has dropped a future.
const WHIM: Duration = Duration::from_millis(2);

/// How long an answer takes that takes long, at the most.
const ANSWER_PAUSE_MAX_MS: u64 = 300;

/// Tells an answer from its request.
const ANSWER: u32 = 1 << 31;

/// The codes that programs give a flow up with.
const RESET_CODE: u32 = 71;
const STOP_CODE: u32 = 72;

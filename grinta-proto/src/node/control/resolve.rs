//! Cluster queries: who owns a name as other members know it, by the first answer or by a vote.
//!
//! The directory answers from this node's replica. A query asks the members instead, each of which
//! answers from its own. What comes of the answers is a pure function of them ([`conclude`]): it
//! does not depend on their order but for [`QueryMode::First`], which is about order.
//!
//! A claim that wants to be confirmed (`confirm`) asks in the same way. Both count against one
//! limit, and a peer that asks has a budget of answers per second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::confirm::Confirming;
use super::leave::Life;
use super::{Channel, Control, ControlEvent, ControlOutput, ControlTimer};
use crate::config::Limits;
use crate::name::{EndpointName, InvalidName, NodeName};
use crate::node::timers::TimerKey;
use crate::share::{InvalidShare, Share};
use crate::wire::control::{ControlMessage, NameAnswer, NameQuery, NameView};

/// Names a query; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(crate) u64);

/// Whom to ask about a name, and what to make of the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRequest {
    /// The name.
    pub name: EndpointName,
    /// What decides.
    pub mode: QueryMode,
    /// Whom to ask; `None` for all other members that are alive or suspect.
    pub nodes: Option<BTreeSet<NodeName>>,
    /// How long the answers may take.
    pub timeout: Duration,
}

/// What decides a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueryMode {
    /// The first answer that names an owner. That nobody owns the name is the result only once all
    /// have answered, are gone or out of time, and one at least said so.
    #[default]
    First,
    /// The owner that most name; of several, the one with the lowest node name. That nobody owns
    /// the name counts as one more candidate, behind the others where votes are equal.
    Vote {
        /// How many of those asked have to have a view: to name an owner or to say that there is
        /// none. Who is not synced or too busy to look has none.
        participation: Share,
    },
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryReport {
    /// Who owns the name; `None` if nobody does.
    pub owner: Option<NodeName>,
    /// What each node said that answered.
    pub answers: BTreeMap<NodeName, NameView>,
    /// Who did not answer before it was decided.
    pub silent: BTreeSet<NodeName>,
}

/// Why a query found nothing out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// What was asked about is no name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The participation is no share.
    #[error(transparent)]
    InvalidShare(#[from] InvalidShare),
    /// Too few of those asked had a view in time.
    #[error("{answered} of {asked} nodes asked have a view of the name; it takes {needed}")]
    TooFew {
        /// How many nodes were asked.
        asked: usize,
        /// How many named an owner or said that there is none.
        answered: usize,
        /// How many it takes.
        needed: usize,
    },
    /// There is nobody to ask.
    #[error("no member to ask is alive; wait for `join`, or choose other nodes")]
    NobodyAsked,
    /// Too many queries and confirmations are under way.
    #[error(
        "{limit} queries and confirmations are under way; wait for some, or raise `queries_max`"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// What this node asks others, and how often others may ask it.
#[derive(Debug)]
pub(super) struct Questions {
    pub(super) limit: usize,
    answers_max: u32,
    issued: u64,
    queries: BTreeMap<u64, Query>,
    pub(super) confirming: BTreeMap<u64, Confirming>,
    budgets: BTreeMap<NodeName, Budget>,
}

/// A query under way.
#[derive(Debug)]
struct Query {
    id: QueryId,
    request: QueryRequest,
    /// Who may still answer.
    open: BTreeSet<NodeName>,
    report: QueryReport,
    timer: TimerKey,
}

/// How much a peer was answered within the last second.
#[derive(Debug)]
struct Budget {
    since: Instant,
    answered: u32,
}

impl QueryReport {
    /// How many nodes named each owner.
    #[must_use]
    pub fn votes(&self) -> BTreeMap<NodeName, usize> {
        let mut votes = BTreeMap::new();
        for view in self.answers.values() {
            if let NameView::Owned { owner, .. } = view {
                *votes.entry(owner.clone()).or_default() += 1;
            }
        }
        votes
    }
}

impl Control {
    /// Asks members who owns a name. Ends with [`ControlEvent::Queried`].
    pub fn query(&mut self, now: Instant, id: QueryId, request: QueryRequest) {
        if let Err(error) = self.begin_query(now, id, request) {
            self.tell_queried(id, Err(error));
        }
    }

    /// Gives up a query that has not ended.
    pub fn cancel_query(&mut self, id: QueryId) {
        let mut queries = self.questions.queries.iter();
        let number = queries.find(|(_, query)| query.id == id);
        let number = number.map(|(&number, _)| number);
        if let Some(query) = number.and_then(|number| self.questions.queries.remove(&number)) {
            self.timers.disarm(query.timer);
        }
    }

    fn begin_query(
        &mut self,
        now: Instant,
        id: QueryId,
        request: QueryRequest,
    ) -> Result<(), QueryError> {
        if !matches!(self.life, Life::Present) {
            return Err(QueryError::ShuttingDown);
        }
        let limit = self.questions.limit;
        let number = self
            .questions
            .issue()
            .ok_or(QueryError::TooMany { limit })?;
        let chosen = request.nodes.clone().unwrap_or_else(|| {
            let active = self.members.active();
            active.map(|entry| entry.identity.name.clone()).collect()
        });
        let mut report = QueryReport {
            owner: None,
            answers: BTreeMap::new(),
            silent: BTreeSet::new(),
        };
        let mut open = BTreeSet::new();
        for node in chosen {
            let is_active = |node| {
                self.members
                    .get(node)
                    .is_some_and(|it| it.health.is_active())
            };
            if node == *self.directory.local() {
                report.answers.insert(node, self.view_of(&request.name));
            } else if is_active(&node) {
                open.insert(node);
            } else {
                report.silent.insert(node);
            }
        }
        if open.is_empty() && report.answers.is_empty() {
            return Err(QueryError::NobodyAsked);
        }
        for node in &open {
            self.ask(node, number, &request.name);
        }
        let bound = ControlTimer::QueryBound(number);
        let timer = self.timers.arm(now, request.timeout, bound);
        let query = Query {
            id,
            request,
            open,
            report,
            timer,
        };
        self.questions.queries.insert(number, query);
        self.weigh_query(number);
        Ok(())
    }

    pub(super) fn ask(&mut self, node: &NodeName, number: u64, name: &EndpointName) {
        let query = ControlMessage::NameQuery(NameQuery {
            query: number,
            name: name.clone(),
        });
        self.send(node, query, Channel::Stream);
    }

    pub(super) fn handle_name_query(&mut self, now: Instant, from: &NodeName, query: &NameQuery) {
        let view = if self.questions.spend(now, from) {
            self.view_of(&query.name)
        } else {
            NameView::Busy
        };
        let answer = ControlMessage::NameAnswer(NameAnswer {
            query: query.query,
            view,
        });
        self.send(from, answer, Channel::Stream);
    }

    pub(super) fn handle_name_answer(&mut self, from: &NodeName, answer: NameAnswer) {
        let NameAnswer { query, view } = answer;
        let Some(asked) = self.questions.queries.get_mut(&query) else {
            return self.handle_confirmation(from, query, &view);
        };
        if asked.open.remove(from) {
            asked.report.answers.insert(from.clone(), view);
            self.weigh_query(query);
        }
    }

    /// A connection came up: what was on its way on an earlier one may be lost.
    pub(super) fn ask_again(&mut self, peer: &NodeName) {
        let waiting = self.questions.queries.iter();
        let waiting: Vec<_> = waiting
            .filter(|(_, query)| query.open.contains(peer))
            .map(|(&number, query)| (number, query.request.name.clone()))
            .collect();
        for (number, name) in waiting {
            self.ask(peer, number, &name);
        }
        self.confirm_again_with(peer);
    }

    /// A member came or went: nobody waits for the answer of one that is gone.
    pub(super) fn follow_asked(&mut self, member: &NodeName, is_active: bool) {
        if is_active {
            return self.confirm_again_with(member);
        }
        let queries = self.questions.queries.iter_mut();
        let waiting: Vec<_> = queries
            .filter_map(|(&number, query)| query.open.remove(member).then_some((number, query)))
            .map(|(number, query)| {
                query.report.silent.insert(member.clone());
                number
            })
            .collect();
        for number in waiting {
            self.weigh_query(number);
        }
        self.confirm_without(member);
    }

    pub(super) fn expire_query(&mut self, number: u64) {
        if let Some(query) = self.questions.queries.get_mut(&number) {
            query.report.silent.append(&mut query.open);
            self.weigh_query(number);
        }
    }

    /// This node leaves: nobody will answer it any more.
    pub(super) fn end_questions(&mut self) {
        for query in std::mem::take(&mut self.questions.queries).into_values() {
            self.timers.disarm(query.timer);
            self.tell_queried(query.id, Err(QueryError::ShuttingDown));
        }
        self.end_confirming();
    }

    /// Ends a query if its answers decide it.
    fn weigh_query(&mut self, number: u64) {
        let Some(query) = self.questions.queries.get(&number) else {
            return;
        };
        let ballot = Ballot {
            answers: &query.report.answers,
            open: query.open.len(),
            silent: query.report.silent.len(),
        };
        let Some(concluded) = conclude(query.request.mode, &ballot) else {
            return;
        };
        if let Some(mut query) = self.questions.queries.remove(&number) {
            self.timers.disarm(query.timer);
            query.report.silent.append(&mut query.open);
            let report = |owner| QueryReport {
                owner,
                ..query.report
            };
            self.tell_queried(query.id, concluded.map(report));
        }
    }

    fn tell_queried(&mut self, query: QueryId, result: Result<QueryReport, QueryError>) {
        let event = ControlEvent::Queried { query, result };
        self.outputs.push_back(ControlOutput::Event(event));
    }

    /// What this node answers about a name.
    fn view_of(&self, name: &EndpointName) -> NameView {
        if !self.is_synced {
            return NameView::NotSynced;
        }
        match self.directory.owning_claim(name) {
            Some((owner, stamp)) => NameView::Owned {
                owner: owner.clone(),
                stamp,
            },
            None => NameView::Nobody,
        }
    }
}

impl Questions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.queries_max,
            answers_max: limits.answers_per_peer_max,
            issued: 0,
            queries: BTreeMap::new(),
            confirming: BTreeMap::new(),
            budgets: BTreeMap::new(),
        }
    }

    /// A number for one question more; `None` at the limit.
    pub(super) fn issue(&mut self) -> Option<u64> {
        if self.queries.len() + self.confirming.len() >= self.limit {
            return None;
        }
        self.issued += 1;
        Some(self.issued)
    }

    /// A peer is gone, and with it the bound on what it may ask.
    pub(super) fn forget(&mut self, peer: &NodeName) {
        self.budgets.remove(peer);
    }

    /// Whether one more answer to a peer is within its budget.
    fn spend(&mut self, now: Instant, peer: &NodeName) -> bool {
        let fresh = || Budget {
            since: now,
            answered: 0,
        };
        let budget = self.budgets.entry(peer.clone()).or_insert_with(fresh);
        if now.saturating_duration_since(budget.since) >= BUDGET_PERIOD {
            *budget = fresh();
        }
        budget.answered = budget.answered.saturating_add(1);
        budget.answered <= self.answers_max
    }
}

/// How far the answers of a query are.
struct Ballot<'a> {
    answers: &'a BTreeMap<NodeName, NameView>,
    /// Who may still answer.
    open: usize,
    /// Who will not.
    silent: usize,
}

/// What the answers come to; `None` while those to come may change it.
fn conclude(mode: QueryMode, ballot: &Ballot<'_>) -> Option<Result<Option<NodeName>, QueryError>> {
    let views = ballot.answers.values().filter_map(|view| match view {
        NameView::Owned { owner, .. } => Some(Some(owner)),
        NameView::Nobody => Some(None),
        NameView::NotSynced | NameView::Busy => None,
    });
    let mut votes: BTreeMap<Option<&NodeName>, usize> = BTreeMap::new();
    for view in views {
        *votes.entry(view).or_default() += 1;
    }
    let asked = ballot.answers.len() + ballot.open + ballot.silent;
    let answered = votes.values().sum();
    let needed = match mode {
        QueryMode::First => 1,
        QueryMode::Vote { participation } => participation.of(asked).max(1),
    };
    if answered + ballot.open < needed {
        return Some(Err(QueryError::TooFew {
            asked,
            answered,
            needed,
        }));
    }
    let mut ranking: Vec<_> = votes.into_iter().collect();
    // Most votes first; then an owner before none, and the lowest name.
    ranking.sort_by_key(|&(owner, count)| (std::cmp::Reverse(count), owner.is_none(), owner));
    let &(leader, most) = ranking.first()?;
    let is_decided = match mode {
        QueryMode::First => leader.is_some() || ballot.open == 0,
        QueryMode::Vote { .. } => {
            let next = ranking.get(1).map_or(0, |&(_, count)| count);
            answered >= needed && (ballot.open == 0 || most > next + ballot.open)
        }
    };
    is_decided.then(|| Ok(leader.cloned()))
}

/// The period of a peer's budget of answers.
const BUDGET_PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::claims::Stamp;

    fn owned(owner: &str) -> NameView {
        NameView::Owned {
            owner: NodeName::new(owner).unwrap(),
            stamp: Stamp::default(),
        }
    }

    fn answers(views: &[NameView]) -> BTreeMap<NodeName, NameView> {
        let voters = (0..).map(|index| NodeName::new(format!("v{index}")).unwrap());
        voters.zip(views.iter().cloned()).collect()
    }

    fn vote(views: &[NameView], open: usize, silent: usize) -> Option<Result<String, QueryError>> {
        let participation = Share::new(0.67).unwrap();
        let answers = answers(views);
        let ballot = Ballot {
            answers: &answers,
            open,
            silent,
        };
        let concluded = conclude(QueryMode::Vote { participation }, &ballot)?;
        Some(
            concluded
                .map(|owner| owner.map_or_else(|| "nobody".to_owned(), |owner| owner.to_string())),
        )
    }

    #[test]
    fn a_vote_goes_to_most_then_to_the_lowest_name_and_to_nobody_last() {
        let (a, b, none) = (owned("a"), owned("b"), NameView::Nobody);
        let won = |owner: &str| Some(Ok(owner.to_owned()));
        assert_eq!(vote(&[b.clone(), a.clone(), b.clone()], 0, 0), won("b"));
        assert_eq!(vote(&[b.clone(), a.clone()], 0, 0), won("a"));
        assert_eq!(vote(&[none.clone(), b.clone()], 0, 0), won("b"));
        assert_eq!(vote(&[none.clone(), none, b], 0, 0), won("nobody"));
    }

    #[test]
    fn those_without_a_view_do_not_take_part() {
        let (a, unsynced) = (owned("a"), NameView::NotSynced);
        let too_few = QueryError::TooFew {
            asked: 3,
            answered: 2,
            needed: 3,
        };
        assert_eq!(
            vote(&[a.clone(), a.clone(), NameView::Busy], 0, 0),
            Some(Err(too_few.clone()))
        );
        assert_eq!(
            vote(&[a.clone(), a.clone(), unsynced], 0, 0),
            Some(Err(too_few))
        );
        assert_eq!(
            vote(&[a.clone(), a.clone(), a], 0, 1),
            Some(Ok("a".to_owned()))
        );
    }

    #[test]
    fn a_vote_ends_as_soon_as_nobody_can_change_it() {
        let (a, b) = (owned("a"), owned("b"));
        let three = [a.clone(), a.clone(), a.clone()];
        assert_eq!(vote(&three, 2, 0), None, "participation is missing");
        assert_eq!(vote(&three, 1, 0), Some(Ok("a".to_owned())));
        assert_eq!(vote(&[a.clone(), a, b.clone(), b], 1, 0), None);
        let hopeless = vote(&three, 1, 3);
        assert!(matches!(hopeless, Some(Err(QueryError::TooFew { .. }))));
    }

    #[test]
    fn the_first_answer_that_names_an_owner_wins() {
        let first = |views: &[NameView], open| {
            let answers = answers(views);
            let ballot = Ballot {
                answers: &answers,
                open,
                silent: 0,
            };
            conclude(QueryMode::First, &ballot)
        };
        let none = NameView::Nobody;
        let a = Some(NodeName::new("a").unwrap());
        assert_eq!(first(&[none.clone(), owned("a")], 5), Some(Ok(a)));
        assert_eq!(first(std::slice::from_ref(&none), 1), None);
        assert_eq!(first(&[none, NameView::NotSynced], 0), Some(Ok(None)));
        assert!(matches!(
            first(&[NameView::Busy, NameView::NotSynced], 0),
            Some(Err(QueryError::TooFew { .. }))
        ));
    }

    proptest! {
        /// Whatever the order of the answers, an early end has the result of the last one.
        #[test]
        fn an_early_end_is_the_end(views in prop::collection::vec(0..4_u8, 1..9)) {
            let views: Vec<_> = views
                .into_iter()
                .map(|view| match view {
                    0 => owned("a"),
                    1 => owned("b"),
                    2 => NameView::Nobody,
                    _ => NameView::NotSynced,
                })
                .collect();
            let last = vote(&views, 0, 0);
            prop_assert!(last.is_some());
            for seen in 0..views.len() {
                match (vote(&views[..seen], views.len() - seen, 0), &last) {
                    (None, _) => {}
                    (Some(Err(_)), Some(Err(_))) => {}
                    (early, last) => prop_assert_eq!(&early, last),
                }
            }
        }
    }
}

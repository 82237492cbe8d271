//! A join under way: which neighbours have answered, and which have not.

use std::net::SocketAddr;
use std::time::Instant;

use rand::seq::IteratorRandom;

use crate::config::Neighbour;
use crate::name::NodeName;
use crate::node::Node;
use crate::node::event::{ConnectError, Event, JoinError, JoinReport};

/// A join under way.
#[derive(Debug)]
pub(crate) struct Join {
    neighbours: Vec<Progress>,
    /// The slower neighbours have had their time.
    pub(crate) is_settled: bool,
}

#[derive(Debug)]
struct Progress {
    host: String,
    waiting: Vec<SocketAddr>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Waiting,
    Reached(NodeName),
    Failed(ConnectError),
    /// The address is our own: neither reached nor missed.
    Ourselves,
}

impl Join {
    pub(crate) fn new(neighbours: &[Neighbour]) -> Self {
        let neighbours = neighbours.iter().map(Progress::new).collect();
        Self {
            neighbours,
            is_settled: false,
        }
    }

    /// The addresses to try.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.neighbours
            .iter()
            .flat_map(|progress| progress.waiting.iter().copied())
            .collect()
    }

    pub(crate) fn handle_reached(&mut self, address: SocketAddr, node: &NodeName) {
        for progress in self.waiting_for(address) {
            progress.outcome = Outcome::Reached(node.clone());
        }
    }

    pub(crate) fn handle_failed(&mut self, address: SocketAddr, error: &ConnectError) {
        for progress in self.waiting_for(address) {
            progress.waiting.retain(|&waiting| waiting != address);
            match (&progress.outcome, error) {
                (Outcome::Waiting, ConnectError::Itself) => progress.outcome = Outcome::Ourselves,
                (Outcome::Waiting | Outcome::Failed(_), error) if progress.waiting.is_empty() => {
                    progress.outcome = Outcome::Failed(error.clone());
                }
                (
                    Outcome::Waiting
                    | Outcome::Failed(_)
                    | Outcome::Reached(_)
                    | Outcome::Ourselves,
                    _,
                ) => {}
            }
        }
    }

    /// Whether some neighbour has answered.
    pub(crate) fn has_reached(&self) -> bool {
        self.neighbours
            .iter()
            .any(|progress| matches!(progress.outcome, Outcome::Reached(_)))
    }

    /// Whether every neighbour has answered or failed, or the slower ones have had their time.
    pub(crate) fn is_decided(&self) -> bool {
        let waiting = |progress: &Progress| matches!(progress.outcome, Outcome::Waiting);
        !self.neighbours.iter().any(waiting) || (self.is_settled && self.has_reached())
    }

    pub(crate) fn finish(self) -> Result<JoinReport, JoinError> {
        let mut report = JoinReport::default();
        for Progress { host, outcome, .. } in self.neighbours {
            match outcome {
                Outcome::Reached(node) => report.reached.push((host, node)),
                Outcome::Failed(error) => report.unreachable.push((host, error)),
                Outcome::Waiting => report.unreachable.push((host, ConnectError::NoAnswer)),
                Outcome::Ourselves => {}
            }
        }
        if report.reached.is_empty() && !report.unreachable.is_empty() {
            return Err(JoinError::NoneReachable {
                unreachable: report.unreachable,
            });
        }
        Ok(report)
    }

    fn waiting_for(&mut self, address: SocketAddr) -> impl Iterator<Item = &mut Progress> {
        self.neighbours
            .iter_mut()
            .filter(move |progress| progress.waiting.contains(&address))
    }
}

impl Progress {
    fn new(neighbour: &Neighbour) -> Self {
        let unresolved = |reason: &str| {
            Outcome::Failed(ConnectError::Unresolved {
                reason: reason.to_owned(),
            })
        };
        let (waiting, outcome) = match &neighbour.addresses {
            Ok(addresses) if addresses.is_empty() => (Vec::new(), unresolved("it has no address")),
            Ok(addresses) => (addresses.clone(), Outcome::Waiting),
            Err(reason) => (Vec::new(), unresolved(reason)),
        };
        Self {
            host: neighbour.host.clone(),
            waiting,
            outcome,
        }
    }
}

impl Node {
    pub(super) fn begin_join(&mut self, now: Instant) {
        if !self.phase.is_open() {
            return self
                .events
                .push_back(Event::Joined(Err(JoinError::ShuttingDown)));
        }
        if self.control.is_displaced() {
            let displaced = Event::Joined(Err(JoinError::Displaced));
            return self.events.push_back(displaced);
        }
        if self.join.is_some() {
            return self
                .events
                .push_back(Event::Joined(Err(JoinError::UnderWay)));
        }
        let join = if self.come_back() && self.config.neighbours.is_empty() {
            Join::new(&self.acquaintances())
        } else {
            Join::new(&self.config.neighbours)
        };
        let addresses = join.addresses();
        self.join = Some(join);
        self.control.join(now, &addresses);
        for address in addresses {
            self.contact(now, address);
        }
    }

    /// A few members that this node knew, for one that was the first of its fabric and returns.
    fn acquaintances(&mut self) -> Vec<Neighbour> {
        let members = self.control.members();
        let active = members.filter(|member| member.state.is_active());
        let known = active.sample(&mut self.rng, ACQUAINTANCES);
        let known = known.into_iter().map(|member| Neighbour {
            host: member.address.to_string(),
            addresses: Ok(vec![member.address]),
        });
        known.collect()
    }

    /// Ends a join once it is decided and, if anybody answered, the names are known.
    pub(super) fn progress_join(&mut self) {
        let decided =
            |join: &Join| join.is_decided() && (!join.has_reached() || self.control.is_synced());
        if self.join.as_ref().is_some_and(decided)
            && let Some(join) = self.join.take()
        {
            self.events.push_back(Event::Joined(join.finish()));
        }
    }
}

/// Members that a returning node without neighbours tries: one that answers is enough.
const ACQUAINTANCES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(host: &str, ports: &[u16]) -> Neighbour {
        let addresses = ports.iter().map(|&port| address(port)).collect();
        Neighbour {
            host: host.to_owned(),
            addresses: Ok(addresses),
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn one_address_of_a_host_is_enough() {
        let mut join = Join::new(&[neighbour("both", &[1, 2])]);
        join.handle_failed(address(1), &ConnectError::NoAnswer);
        assert!(!join.is_decided());
        join.handle_reached(address(2), &NodeName::new("b").unwrap());
        assert!(join.is_decided());
        let report = join.finish().unwrap();
        assert_eq!(
            report.reached,
            [("both".to_owned(), NodeName::new("b").unwrap())]
        );
        assert!(report.unreachable.is_empty());
    }

    #[test]
    fn the_unreachable_are_listed_and_none_at_all_is_an_error() {
        let unresolved = Neighbour {
            host: "nowhere".into(),
            addresses: Err("no such host".into()),
        };
        let mut join = Join::new(&[unresolved.clone(), neighbour("far", &[1])]);
        join.handle_failed(address(1), &ConnectError::NoAnswer);
        let error = join.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no neighbour could be reached: nowhere (the name does not resolve: no such host), \
             far (no answer; is a node listening there, and does UDP pass in both directions?)",
        );
    }

    #[test]
    fn ones_own_address_among_the_neighbours_counts_neither_way() {
        let mut join = Join::new(&[neighbour("me", &[1])]);
        join.handle_failed(address(1), &ConnectError::Itself);
        assert!(join.is_decided());
        assert_eq!(join.finish(), Ok(JoinReport::default()));
    }

    #[test]
    fn the_slow_are_not_waited_for_once_one_has_answered() {
        let mut join = Join::new(&[neighbour("near", &[1]), neighbour("far", &[2])]);
        join.is_settled = true;
        assert!(!join.is_decided(), "nobody has answered");
        join.handle_reached(address(1), &NodeName::new("b").unwrap());
        assert!(join.is_decided());
        assert_eq!(join.finish().unwrap().unreachable[0].0, "far");
    }
}

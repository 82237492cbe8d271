//! The text form of plans.

use std::fmt;
use std::time::Duration;

use super::words::{Group, Share, Time, Words};
use super::{Action, Fault, NodeId, Operation, Plan, Room, Step, Tier};
use crate::executor::Policy;
use crate::network::Link;

/// What is wrong with a plan's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PlanError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl Plan {
    /// Reads a plan. What is not said is as in the simplest plan: tier `control`, seed 0, calm
    /// links.
    ///
    /// # Errors
    /// [`PlanError`] names the line.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self {
            tier: Tier::Control,
            seed: 0,
            nodes: 0,
            link: Link::default(),
            policy: Policy::default(),
            spurious_wakes: 0,
            room: Room::default(),
            chaos: Duration::ZERO,
            core: Vec::new(),
            steps: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let words = line.split('#').next().unwrap_or_default();
            plan.parse_line(&mut Words::of(words))
                .map_err(|problem| PlanError {
                    line: number,
                    problem,
                })?;
        }
        plan.check().map_err(|problem| PlanError {
            line: text.lines().count(),
            problem,
        })?;
        Ok(plan)
    }

    fn parse_line(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let Some(word) = words.word() else {
            return Ok(());
        };
        match word {
            "tier" => self.tier = words.parse("control or full")?,
            "seed" => self.seed = words.parse("a number")?,
            "nodes" => self.nodes = words.parse("how many nodes")?,
            "chaos" => self.chaos = words.duration()?,
            "core" => self.core = words.nodes()?,
            "policy" => self.policy = parse_policy(words)?,
            "spurious-wakes" => self.spurious_wakes = words.share()?,
            "room" => {
                words.keyword("tight")?;
                self.room = Room::Tight;
            }
            "link" => parse_link(words, &mut self.link)?,
            "at" => {
                let at = words.duration()?;
                let action = Action::parse(words)?;
                self.steps.push(Step { at, action });
            }
            _ => return Err(format!("`{word}` is nothing that a line begins with")),
        }
        match words.word() {
            Some(more) => Err(format!("`{more}` is one word too many")),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.nodes == 0 {
            return Err("`nodes` is missing, or zero".to_owned());
        }
        let named = self.steps.iter().flat_map(Step::nodes);
        let mut named = named.chain(self.core.iter().copied());
        if let Some(node) = named.find(|node| node.0 >= self.nodes) {
            return Err(format!("there is no {node}: `nodes` is {}", self.nodes));
        }
        // One that restarts alone knows no names until it meets another.
        if !self.core.is_empty() && (!self.core.contains(&NodeId(0)) || self.core.len() < 2) {
            return Err("a core is n0, through which all find each other, and more".to_owned());
        }
        Ok(())
    }
}

impl Step {
    /// Whether it names none but the first `nodes`.
    pub(crate) fn is_within(&self, nodes: u32) -> bool {
        self.nodes().into_iter().all(|node| node.0 < nodes)
    }

    /// The nodes that it names.
    fn nodes(&self) -> Vec<NodeId> {
        match &self.action {
            Action::Operate(operation) => vec![operation.node()],
            Action::Disturb { fault, .. } => fault.nodes(),
        }
    }
}

impl Action {
    fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let verb = words.next("what happens")?;
        if let Some(operation) = Operation::parse(verb, words)? {
            return Ok(Self::Operate(operation));
        }
        let Some(fault) = Fault::parse(verb, words)? else {
            return Err(format!("`{verb}` is nothing that happens"));
        };
        let lasts = if words.is_empty() {
            None
        } else {
            words.keyword("for")?;
            Some(words.duration()?)
        };
        Ok(Self::Disturb { fault, lasts })
    }
}

fn parse_link(words: &mut Words<'_>, link: &mut Link) -> Result<(), String> {
    match words.next("what a link has")? {
        "latency" => link.latency = words.duration()?,
        "jitter" => link.jitter = words.duration()?,
        "loss" => link.loss = words.share()?,
        "duplicate" => link.duplication = words.share()?,
        "reorder" => link.reordering = words.share()?,
        "spread" => link.spread = words.duration()?,
        word => return Err(format!("`{word}` is nothing that a link has")),
    }
    Ok(())
}

fn parse_policy(words: &mut Words<'_>) -> Result<Policy, String> {
    let word = words.next("a policy")?;
    let policy = POLICIES.into_iter().find(|(name, _)| *name == word);
    let (_, policy) = policy.ok_or_else(|| format!("`{word}` is no policy"))?;
    Ok(policy)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Link {
            latency,
            jitter,
            loss,
            duplication,
            reordering,
            spread,
            ..
        } = &self.link;
        writeln!(
            f,
            "tier {}\nseed {}\nnodes {}",
            self.tier, self.seed, self.nodes
        )?;
        writeln!(f, "link latency {}", Time(*latency))?;
        writeln!(f, "link jitter {}", Time(*jitter))?;
        for (what, share) in [
            ("loss", loss),
            ("duplicate", duplication),
            ("reorder", reordering),
        ] {
            if *share > 0 {
                writeln!(f, "link {what} {}", Share(*share))?;
            }
        }
        if !spread.is_zero() {
            writeln!(f, "link spread {}", Time(*spread))?;
        }
        let policy = POLICIES.iter().find(|(_, policy)| *policy == self.policy);
        if let Some((name, policy)) = policy
            && *policy != Policy::default()
        {
            writeln!(f, "policy {name}")?;
        }
        if self.spurious_wakes > 0 {
            writeln!(f, "spurious-wakes {}", Share(self.spurious_wakes))?;
        }
        match self.room {
            Room::Default => {}
            Room::Tight => writeln!(f, "room tight")?,
        }
        writeln!(f, "chaos {}", Time(self.chaos))?;
        if !self.core.is_empty() {
            writeln!(f, "core {}", Group(&self.core))?;
        }
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} {}", Time(self.at), self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operate(operation) => operation.fmt(f),
            Self::Disturb { fault, lasts } => {
                fault.fmt(f)?;
                lasts.map_or(Ok(()), |lasts| write!(f, " for {}", Time(lasts)))
            }
        }
    }
}

/// The policies by their names.
const POLICIES: [(&str, Policy); 4] = [
    ("fifo", Policy::Fifo),
    ("lifo", Policy::Lifo),
    ("random", Policy::Random),
    ("starve", Policy::Starve),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_as_it_is_written() {
        let text = "tier control\nseed 7\nnodes 4\nlink latency 1ms\nlink jitter 100us\n\
            link loss 0.25%\nlink duplicate 5%\nlink reorder 100%\nlink spread 20ms\npolicy starve\nspurious-wakes 1%\n\
            room tight\nchaos 1m\ncore n0,n2\n\
            at 0s claim n0 a\nat 1s stand-by n1 a\nat 1500ms release n0 a\nat 2s leave n3\n\
            at 2s join n3\nat 2s shut-down n3\n\
            at 2s open n1 a messages 5 bytes 64 every 1ms then finish\n\
            at 2s open n1 a messages 5 bytes 64 every 1ms then drop read every 5ms fickle\n\
            at 2s open n1 a messages 5 bytes 64 every 0s then reset read stop-after 3\n\
            at 2s open n1 a messages 5 bytes 64 every 0s then keep read drop-after 3\n\
            at 2s call n1 a calls 3 tasks 2 bytes 64 every 1ms fickle\n\
            at 3s crash n1\nat 3s move n1 for 8s\nat 3s set-back n1\nat 3s pause n2 for 300ms\n\
            at 4s clock-ahead n2 1h\nat 4s clock-behind n2 90m\n\
            at 5s cut n0,n1 from n2,n3 for 20s\nat 5s cut-one-way n0 to n1\n\
            at 5s flap n0 from n1 every 2s for 20s\nat 5s ring\n\
            at 6s slow-links n0 to n1 by 50ms\nat 6s latency 50ms\nat 6s jitter 50ms\n\
            at 6s loss 50% for 1s\nat 6s duplicate 1%\nat 6s reorder 1%\n\
            at 7s swap n0 with n1\nat 7s rolling-restart every 5s\n\
            at 7s pause-cycles n0 frozen 1s awake 20ms for 9s\nat 7s slow n0 100\nat 7s rebind n0\n\
            at 7s refuse-sends n0 5%\nat 8s jam n0,n1 to n2 for 3s\nat 8s swizzle every 1s\n\
            at 8s lose-packet 3 from n0 to n1\nat 9s exponential 10ms\nat 9s long-tail 10ms\n\
            at 9s bursts 1%\nat 9s replay 1% within 5s for 8s\nat 9s flip 1%\n\
            at 9s truncate 1%\nat 9s splice 1%\nat 9s garbage 1%\nat 9s rate 1000 queue 500\n\
            at 9s mtu 1300\nat 9s mark-ecn 10%\nat 9s swap-halves 1%\nat 9s evict beyond 4000\n\
            at 9s drift n1 ppm -500\nat 9s attack n1 slow-loris for 5s\n";
        let plan = Plan::parse(text).unwrap();
        assert_eq!(plan.to_string(), text);
        assert_eq!(plan.steps.len(), 51);
    }

    #[test]
    fn comments_blank_lines_and_decimals() {
        let plan = Plan::parse("# A story.\n\nnodes 2 # two\nchaos 1.5s").unwrap();
        assert_eq!((plan.nodes, plan.chaos), (2, Duration::from_millis(1500)));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, error) in [
            ("nodes 2\nat 1s crash", "line 2: a node is missing"),
            (
                "nodes 2\nat 1s crash n1 or so",
                "line 2: `or` stands where `for` should",
            ),
            (
                "nodes 2\nat 1s explode",
                "line 2: `explode` is nothing that happens",
            ),
            (
                "nodes 2\nat 1s crash n2",
                "line 2: there is no n2: `nodes` is 2",
            ),
            (
                "nodes 2\nchaos soon",
                "line 2: `soon` is no duration, as 1.5s or 20ms",
            ),
            ("nodes 2 3", "line 1: `3` is one word too many"),
            (
                "nodes 2\nlink loss 101%",
                "line 2: `101%` is no share, as 5% or 0.25%",
            ),
            (
                "nodes 2\ncore n0,n2",
                "line 2: there is no n2: `nodes` is 2",
            ),
            (
                "nodes 2\ncore n1",
                "line 2: a core is n0, through which all find each other, and more",
            ),
            ("tier upper", "line 1: `upper` is not control or full"),
            ("", "line 0: `nodes` is missing, or zero"),
        ] {
            assert_eq!(Plan::parse(text).unwrap_err().to_string(), error);
        }
    }
}

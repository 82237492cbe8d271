//! The text form of plans.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use super::{Action, Fault, NodeId, Operation, Plan, Step, Tier};
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
            chaos: Duration::ZERO,
            steps: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let words = line.split('#').next().unwrap_or_default();
            plan.parse_line(&mut Words(words.split_whitespace()))
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
        let Some(word) = words.0.next() else {
            return Ok(());
        };
        match word {
            "tier" => self.tier = words.parse("control")?,
            "seed" => self.seed = words.parse("a number")?,
            "nodes" => self.nodes = words.parse("how many nodes")?,
            "chaos" => self.chaos = words.duration()?,
            "link" => words.link(&mut self.link)?,
            "at" => {
                let at = words.duration()?;
                let action = words.action()?;
                self.steps.push(Step { at, action });
            }
            _ => return Err(format!("`{word}` is nothing that a line begins with")),
        }
        match words.0.next() {
            Some(more) => Err(format!("`{more}` is one word too many")),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.nodes == 0 {
            return Err("`nodes` is missing, or zero".to_owned());
        }
        for step in &self.steps {
            if let Some(node) = step.nodes().into_iter().find(|node| node.0 >= self.nodes) {
                return Err(format!("there is no {node}: `nodes` is {}", self.nodes));
            }
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
            Action::Operate(
                Operation::Claim(node, _)
                | Operation::StandBy(node, _)
                | Operation::Release(node, _)
                | Operation::Leave(node),
            ) => vec![*node],
            Action::Disturb { fault, .. } => fault.nodes(),
        }
    }
}

impl Fault {
    /// The nodes that it names.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        match self {
            Self::Crash(node)
            | Self::Move(node)
            | Self::SetBack(node)
            | Self::Pause(node)
            | Self::ClockAhead(node, _)
            | Self::ClockBehind(node, _) => vec![*node],
            Self::Cut(one, other)
            | Self::CutOneWay(one, other)
            | Self::Flap(one, other, _)
            | Self::SlowLinks(one, other, _) => [one.as_slice(), other].concat(),
            Self::Ring
            | Self::Latency(_)
            | Self::Jitter(_)
            | Self::Loss(_)
            | Self::Duplicate(_)
            | Self::Reorder(_) => Vec::new(),
        }
    }
}

/// The words of one line that are not read yet.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self, wanted: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{wanted} is missing"))
    }

    fn parse<T: FromStr>(&mut self, wanted: &str) -> Result<T, String> {
        let word = self.next(wanted)?;
        word.parse()
            .map_err(|_| format!("`{word}` is not {wanted}"))
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), String> {
        match self.next(&format!("`{keyword}`"))? {
            word if word == keyword => Ok(()),
            word => Err(format!("`{word}` stands where `{keyword}` should")),
        }
    }

    fn duration(&mut self) -> Result<Duration, String> {
        let word = self.next("a duration")?;
        parse_duration(word).ok_or_else(|| format!("`{word}` is no duration, as 1.5s or 20ms"))
    }

    fn share(&mut self) -> Result<u32, String> {
        let word = self.next("a share")?;
        parse_share(word).ok_or_else(|| format!("`{word}` is no share, as 5% or 0.25%"))
    }

    fn node(&mut self) -> Result<NodeId, String> {
        let word = self.next("a node")?;
        parse_node(word).ok_or_else(|| format!("`{word}` is no node, as n3"))
    }

    fn nodes(&mut self) -> Result<Vec<NodeId>, String> {
        let word = self.next("nodes")?;
        let nodes: Option<Vec<_>> = word.split(',').map(parse_node).collect();
        nodes.ok_or_else(|| format!("`{word}` are no nodes, as n0,n1"))
    }

    fn link(&mut self, link: &mut Link) -> Result<(), String> {
        match self.next("what a link has")? {
            "latency" => link.latency = self.duration()?,
            "jitter" => link.jitter = self.duration()?,
            "loss" => link.loss = self.share()?,
            "duplicate" => link.duplication = self.share()?,
            "reorder" => link.reordering = self.share()?,
            word => return Err(format!("`{word}` is nothing that a link has")),
        }
        Ok(())
    }

    fn action(&mut self) -> Result<Action, String> {
        let word = self.next("what happens")?;
        if let Some(operation) = self.operation(word)? {
            return Ok(Action::Operate(operation));
        }
        let Some(fault) = self.fault(word)? else {
            return Err(format!("`{word}` is nothing that happens"));
        };
        let lasts = if self.0.clone().next().is_some() {
            self.keyword("for")?;
            Some(self.duration()?)
        } else {
            None
        };
        Ok(Action::Disturb { fault, lasts })
    }

    fn operation(&mut self, word: &str) -> Result<Option<Operation>, String> {
        let name = "an endpoint's name";
        Ok(Some(match word {
            "claim" => Operation::Claim(self.node()?, self.parse(name)?),
            "stand-by" => Operation::StandBy(self.node()?, self.parse(name)?),
            "release" => Operation::Release(self.node()?, self.parse(name)?),
            "leave" => Operation::Leave(self.node()?),
            _ => return Ok(None),
        }))
    }

    fn fault(&mut self, word: &str) -> Result<Option<Fault>, String> {
        Ok(Some(match word {
            "crash" => Fault::Crash(self.node()?),
            "move" => Fault::Move(self.node()?),
            "set-back" => Fault::SetBack(self.node()?),
            "pause" => Fault::Pause(self.node()?),
            "clock-ahead" => Fault::ClockAhead(self.node()?, self.duration()?),
            "clock-behind" => Fault::ClockBehind(self.node()?, self.duration()?),
            "cut" => {
                let (one, other) = self.groups("from")?;
                Fault::Cut(one, other)
            }
            "cut-one-way" => {
                let (from, to) = self.groups("to")?;
                Fault::CutOneWay(from, to)
            }
            "flap" => {
                let (one, other) = self.groups("from")?;
                self.keyword("every")?;
                Fault::Flap(one, other, self.duration()?)
            }
            "ring" => Fault::Ring,
            "slow-links" => {
                let (one, other) = self.groups("to")?;
                self.keyword("by")?;
                Fault::SlowLinks(one, other, self.duration()?)
            }
            "latency" => Fault::Latency(self.duration()?),
            "jitter" => Fault::Jitter(self.duration()?),
            "loss" => Fault::Loss(self.share()?),
            "duplicate" => Fault::Duplicate(self.share()?),
            "reorder" => Fault::Reorder(self.share()?),
            _ => return Ok(None),
        }))
    }

    fn groups(&mut self, between: &str) -> Result<(Vec<NodeId>, Vec<NodeId>), String> {
        let one = self.nodes()?;
        self.keyword(between)?;
        Ok((one, self.nodes()?))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Link {
            latency,
            jitter,
            loss,
            duplication,
            reordering,
            datagram_len_max: _,
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
        writeln!(f, "chaos {}", Time(self.chaos))?;
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

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(node, name) => write!(f, "claim {node} {name}"),
            Self::StandBy(node, name) => write!(f, "stand-by {node} {name}"),
            Self::Release(node, name) => write!(f, "release {node} {name}"),
            Self::Leave(node) => write!(f, "leave {node}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "crash {node}"),
            Self::Move(node) => write!(f, "move {node}"),
            Self::SetBack(node) => write!(f, "set-back {node}"),
            Self::Pause(node) => write!(f, "pause {node}"),
            Self::ClockAhead(node, by) => write!(f, "clock-ahead {node} {}", Time(*by)),
            Self::ClockBehind(node, by) => write!(f, "clock-behind {node} {}", Time(*by)),
            Self::Cut(one, other) => write!(f, "cut {} from {}", Group(one), Group(other)),
            Self::CutOneWay(from, to) => {
                write!(f, "cut-one-way {} to {}", Group(from), Group(to))
            }
            Self::Flap(one, other, every) => {
                let (one, other) = (Group(one), Group(other));
                write!(f, "flap {one} from {other} every {}", Time(*every))
            }
            Self::Ring => f.write_str("ring"),
            Self::SlowLinks(one, other, by) => {
                let (one, other) = (Group(one), Group(other));
                write!(f, "slow-links {one} to {other} by {}", Time(*by))
            }
            Self::Latency(latency) => write!(f, "latency {}", Time(*latency)),
            Self::Jitter(jitter) => write!(f, "jitter {}", Time(*jitter)),
            Self::Loss(share) => write!(f, "loss {}", Share(*share)),
            Self::Duplicate(share) => write!(f, "duplicate {}", Share(*share)),
            Self::Reorder(share) => write!(f, "reorder {}", Share(*share)),
        }
    }
}

/// A duration in the largest unit that it is a whole number of.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (unit, length) = UNITS
            .into_iter()
            .find(|(_, length)| nanos.is_multiple_of(*length))
            .unwrap_or(("ns", 1));
        write!(f, "{}{unit}", nanos / length)
    }
}

/// A share of a million, in percent.
struct Share(u32);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{digits}%")
    }
}

struct Group<'a>(&'a [NodeId]);

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&nodes.join(","))
    }
}

fn parse_node(word: &str) -> Option<NodeId> {
    word.strip_prefix('n')?.parse().ok().map(NodeId)
}

fn parse_duration(word: &str) -> Option<Duration> {
    let (digits, unit) = word.split_at(word.find(|c: char| c.is_ascii_alphabetic())?);
    let (_, length) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let nanos = parse_decimal(digits, length)?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn parse_share(word: &str) -> Option<u32> {
    let share = parse_decimal(word.strip_suffix('%')?, 10_000)?;
    u32::try_from(share)
        .ok()
        .filter(|share| *share <= 1_000_000)
}

/// A decimal number times `scale`, in integers.
fn parse_decimal(text: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let places = u32::try_from(fraction.len()).ok()?;
    let fraction = fraction.parse::<u64>().ok()?;
    let part = u128::from(fraction) * scale / 10_u128.checked_pow(places)?;
    Some(u128::from(whole.parse::<u64>().ok()?) * scale + part)
}

/// In nanoseconds, the longest first.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_as_it_is_written() {
        let text = "tier control\nseed 7\nnodes 4\nlink latency 1ms\nlink jitter 100us\n\
            link loss 0.25%\nlink duplicate 5%\nlink reorder 100%\nchaos 1m\n\
            at 0s claim n0 a\nat 1s stand-by n1 a\nat 1500ms release n0 a\nat 2s leave n3\n\
            at 3s crash n1\nat 3s move n1 for 8s\nat 3s set-back n1\nat 3s pause n2 for 300ms\n\
            at 4s clock-ahead n2 1h\nat 4s clock-behind n2 90m\n\
            at 5s cut n0,n1 from n2,n3 for 20s\nat 5s cut-one-way n0 to n1\n\
            at 5s flap n0 from n1 every 2s for 20s\nat 5s ring\n\
            at 6s slow-links n0 to n1 by 50ms\nat 6s latency 50ms\nat 6s jitter 50ms\n\
            at 6s loss 50% for 1s\nat 6s duplicate 1%\nat 6s reorder 1%\n";
        let plan = Plan::parse(text).unwrap();
        assert_eq!(plan.to_string(), text);
        assert_eq!(plan.steps.len(), 20);
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
            ("tier upper", "line 1: `upper` is not control"),
            ("", "line 0: `nodes` is missing, or zero"),
        ] {
            assert_eq!(Plan::parse(text).unwrap_err().to_string(), error);
        }
    }
}

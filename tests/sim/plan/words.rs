//! Words and values of the text form.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use super::NodeId;

/// The words of one line that are not read yet.
pub(super) struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Self(line.split_whitespace())
    }

    /// The next word, if there is one.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.clone().next().is_none()
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, keyword: &str) -> bool {
        let is_next = self.0.clone().next() == Some(keyword);
        if is_next {
            self.0.next();
        }
        is_next
    }

    pub(super) fn next(&mut self, wanted: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{wanted} is missing"))
    }

    pub(super) fn parse<T: FromStr>(&mut self, wanted: &str) -> Result<T, String> {
        let word = self.next(wanted)?;
        word.parse()
            .map_err(|_| format!("`{word}` is not {wanted}"))
    }

    pub(super) fn keyword(&mut self, keyword: &str) -> Result<(), String> {
        match self.next(&format!("`{keyword}`"))? {
            word if word == keyword => Ok(()),
            word => Err(format!("`{word}` stands where `{keyword}` should")),
        }
    }

    pub(super) fn duration(&mut self) -> Result<Duration, String> {
        let word = self.next("a duration")?;
        parse_duration(word).ok_or_else(|| format!("`{word}` is no duration, as 1.5s or 20ms"))
    }

    pub(super) fn share(&mut self) -> Result<u32, String> {
        let word = self.next("a share")?;
        parse_share(word).ok_or_else(|| format!("`{word}` is no share, as 5% or 0.25%"))
    }

    pub(super) fn node(&mut self) -> Result<NodeId, String> {
        let word = self.next("a node")?;
        parse_node(word).ok_or_else(|| format!("`{word}` is no node, as n3"))
    }

    pub(super) fn nodes(&mut self) -> Result<Vec<NodeId>, String> {
        let word = self.next("nodes")?;
        let nodes: Option<Vec<_>> = word.split(',').map(parse_node).collect();
        nodes.ok_or_else(|| format!("`{word}` are no nodes, as n0,n1"))
    }

    pub(super) fn groups(&mut self, between: &str) -> Result<(Vec<NodeId>, Vec<NodeId>), String> {
        let one = self.nodes()?;
        self.keyword(between)?;
        Ok((one, self.nodes()?))
    }
}

/// A duration in the largest unit that it is a whole number of.
pub(super) struct Time(pub(super) Duration);

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
pub(super) struct Share(pub(super) u32);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{digits}%")
    }
}

/// Some nodes.
pub(super) struct Group<'a>(pub(super) &'a [NodeId]);

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

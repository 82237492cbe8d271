//! `grinta top`: who is there and what goes on, again and again.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use grinta_tokio::{
    Fabric, HealthSnapshot, Json, MemberSnapshot, NodeName, STATUS_ENDPOINT, Status,
};
use serde_json::{Value, json};
use terminal_size::{Height, Width, terminal_size};

use crate::arguments::Top;
use crate::failure::Failure;
use crate::listing::{dash, health, milliseconds};
use crate::output::{is_styled, print, print_json, table};

pub(crate) async fn run(top: &Top) -> Result<(), Failure> {
    let outcome = top.attachment.run(async |fabric| look(fabric, top).await);
    match outcome.await {
        // It has no other end.
        Err(failure) if failure.is_interruption() && !top.once => Ok(()),
        outcome => outcome,
    }
}

async fn look(fabric: &Fabric, top: &Top) -> Result<(), Failure> {
    let patience = match top.once {
        true => PATIENCE_ONCE,
        false => PATIENCE_LIVE,
    };
    let mut before = Samples::take(fabric, patience).await;
    let mut screen = Screen::open(top);
    if !top.once && !top.json {
        screen.show(&View::new(fabric, &before, &before).lines())?;
    }
    loop {
        fabric.sleep(top.interval).await;
        let samples = Samples::take(fabric, patience).await;
        let view = View::new(fabric, &before, &samples);
        match top.json {
            true => print_json(&view.to_json())?,
            false => screen.show(&view.lines())?,
        }
        if top.once {
            return Ok(());
        }
        before = samples;
    }
}

/// What those nodes said of themselves that do so, and when.
struct Samples(BTreeMap<NodeName, (Instant, Status)>);

impl Samples {
    async fn take(fabric: &Fabric, patience: Duration) -> Self {
        let mut samples = BTreeMap::new();
        let fan_out = fabric.fan_out(STATUS_ENDPOINT).deadline(patience);
        // Without anybody who tells, there is nobody to ask.
        if let Ok(mut outcomes) = fan_out.call::<(), Status, _>(Json, ()) {
            while let Some(outcome) = outcomes.next().await {
                if let Ok(status) = outcome.result {
                    samples.insert(outcome.node, (Instant::now(), status));
                }
            }
        }
        Self(samples)
    }
}

/// What is shown at one time.
struct View {
    fabric: String,
    node: NodeName,
    names: usize,
    rows: Vec<Row>,
}

struct Row {
    member: MemberSnapshot,
    /// What the node said of itself, and how fast that grows, once it said so twice.
    told: Option<(Status, Option<Rates>)>,
}

/// So many each second.
#[derive(Clone, Copy)]
struct Rates {
    messages_received: f64,
    messages_sent: f64,
    bytes_received: f64,
    bytes_sent: f64,
}

impl View {
    fn new(fabric: &Fabric, before: &Samples, now: &Samples) -> Self {
        let snapshot = fabric.snapshot();
        let members = snapshot.members.into_iter();
        let others = members.filter(|member| member.name != snapshot.node);
        let rows = others.map(|member| {
            let told = now.0.get(&member.name).map(|(at, status)| {
                let before = before.0.get(&member.name);
                let rates = before.and_then(|before| Rates::between(before, &(*at, status)));
                (status.clone(), rates)
            });
            Row { member, told }
        });
        Self {
            fabric: snapshot.fabric.to_string(),
            names: snapshot.names.known,
            rows: rows.collect(),
            node: snapshot.node,
        }
    }

    fn count(&self, is_so: impl Fn(HealthSnapshot) -> bool) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| is_so(row.member.health)).count()
    }

    fn alive(&self) -> usize {
        self.count(|health| health == HealthSnapshot::Alive)
    }

    fn suspect(&self) -> usize {
        self.count(|health| health == HealthSnapshot::Suspect)
    }

    fn down(&self) -> usize {
        self.count(|health| matches!(health, HealthSnapshot::Down { .. }))
    }

    fn lines(&self) -> Vec<Line> {
        let told = self.rows.iter().filter_map(|row| row.told.as_ref());
        let flows: usize = told.clone().map(|(status, _)| status.flows).sum();
        let rates = told.filter_map(|(_, rates)| *rates);
        let messages: f64 = rates.map(|rates| rates.messages_received).sum();
        let summary = format!(
            "fabric {}, seen by {}: {} alive, {} suspect, {} down; {} names, {} ends of flows, \
             {} messages/s",
            self.fabric,
            self.node,
            self.alive(),
            self.suspect(),
            self.down(),
            self.names,
            flows,
            amount(messages, ""),
        );
        let heading = HEADING.map(str::to_owned).to_vec();
        let cells = std::iter::once(heading).chain(self.rows.iter().map(Row::cells));
        let table = table(&cells.collect::<Vec<_>>());
        let styles = std::iter::once(Style::Bold).chain(self.rows.iter().map(Row::style));
        let rows = styles.zip(table).map(|(style, text)| Line { style, text });
        let summary = Line {
            style: Style::Plain,
            text: summary,
        };
        std::iter::once(summary).chain(rows).collect()
    }

    fn to_json(&self) -> Value {
        json!({
            "fabric": self.fabric,
            "seen_by": self.node.as_str(),
            "alive": self.alive(),
            "suspect": self.suspect(),
            "down": self.down(),
            "names": self.names,
            "nodes": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let member = &self.member;
        let mut cells = vec![
            member.name.to_string(),
            health(member.health),
            member.round_trip_time.map_or_else(dash, milliseconds),
        ];
        let Some((status, rates)) = &self.told else {
            cells.extend((cells.len()..HEADING.len()).map(|_| dash()));
            return cells;
        };
        let rate = |of: fn(&Rates) -> f64, unit| {
            rates
                .as_ref()
                .map_or_else(dash, |rates| amount(of(rates), unit))
        };
        cells.extend([
            status.names.own.to_string(),
            status.flows.to_string(),
            rate(|rates| rates.messages_received, ""),
            rate(|rates| rates.messages_sent, ""),
            rate(|rates| rates.bytes_received, "B"),
            rate(|rates| rates.bytes_sent, "B"),
            amount(status.queued_bytes as f64, "B"),
            status.waiting_flows.to_string(),
            format!("{:.0} %", status.fullest_queue * 100.0),
            status.counters.slow_consumers.to_string(),
        ]);
        cells
    }

    const fn style(&self) -> Style {
        match self.member.health {
            HealthSnapshot::Alive => Style::Plain,
            HealthSnapshot::Suspect => Style::Yellow,
            HealthSnapshot::Down { .. } => Style::Red,
            HealthSnapshot::Left { .. } => Style::Dim,
        }
    }

    fn to_json(&self) -> Value {
        let status = self.told.as_ref().map(|(status, _)| status);
        let rates = self.told.as_ref().and_then(|(_, rates)| *rates);
        let round_trip = self.member.round_trip_time;
        json!({
            "name": self.member.name.as_str(),
            "health": self.member.health,
            "round_trip_ms": round_trip.map(|time| time.as_secs_f64() * 1000.0),
            "status": status,
            "messages_received_per_second": rates.map(|rates| rates.messages_received),
            "messages_sent_per_second": rates.map(|rates| rates.messages_sent),
            "bytes_received_per_second": rates.map(|rates| rates.bytes_received),
            "bytes_sent_per_second": rates.map(|rates| rates.bytes_sent),
        })
    }
}

impl Rates {
    /// `None` for two samples that are one, or of different runs.
    fn between(before: &(Instant, Status), now: &(Instant, &Status)) -> Option<Self> {
        let ((began, before), (ended, now)) = (before, now);
        let seconds = ended.saturating_duration_since(*began).as_secs_f64();
        if before.session != now.session || seconds == 0.0 {
            return None;
        }
        let (before, now) = (before.counters, now.counters);
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        Some(Self {
            messages_received: rate(before.messages_received, now.messages_received),
            messages_sent: rate(before.messages_sent, now.messages_sent),
            bytes_received: rate(before.bytes_received, now.bytes_received),
            bytes_sent: rate(before.bytes_sent, now.bytes_sent),
        })
    }
}

/// A line and how it is to look, if lines may look at all.
struct Line {
    style: Style,
    text: String,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Yellow,
    Red,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

/// Where it is shown: a terminal's own screen, given back at the end, or lines one after the other.
struct Screen {
    is_live: bool,
    is_styled: bool,
}

impl Screen {
    fn open(top: &Top) -> Self {
        let is_live = !top.once && !top.json && io::stdout().is_terminal();
        if is_live {
            // The alternate screen, without a cursor.
            write!(io::stdout(), "\x1b[?1049h\x1b[?25l").ok();
        }
        Self {
            is_live,
            is_styled: is_styled(&io::stdout()),
        }
    }

    fn show(&mut self, lines: &[Line]) -> Result<(), Failure> {
        if !self.is_live {
            return lines
                .iter()
                .try_for_each(|line| print(self.dress(line, usize::MAX)));
        }
        let (width, height) = match terminal_size() {
            Some((Width(width), Height(height))) => (usize::from(width), usize::from(height)),
            None => (80, 24),
        };
        // Over what was there, so that nothing flickers; what is left below is wiped.
        let mut frame = "\x1b[H".to_owned();
        for line in lines.iter().take(height.saturating_sub(1)) {
            frame.push_str(&self.dress(line, width));
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        let mut stdout = io::stdout().lock();
        stdout.write_all(frame.as_bytes())?;
        Ok(stdout.flush()?)
    }

    fn dress(&self, line: &Line, width: usize) -> String {
        let text: String = line.text.chars().take(width).collect();
        match (self.is_styled, line.style) {
            (false, _) | (true, Style::Plain) => text,
            (true, style) => format!("\x1b[{}m{text}\x1b[0m", style.code()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_live {
            write!(io::stdout(), "\x1b[?25h\x1b[?1049l").ok();
            io::stdout().flush().ok();
        }
    }
}

/// A number and its unit, short.
fn amount(number: f64, unit: &str) -> String {
    let (number, prefix) = match number {
        number if number >= 1e9 => (number / 1e9, "G"),
        number if number >= 1e6 => (number / 1e6, "M"),
        number if number >= 1e3 => (number / 1e3, "k"),
        number => return format!("{number:.0} {unit}").trim_end().to_owned(),
    };
    format!("{number:.1} {prefix}{unit}")
}

const HEADING: [&str; 13] = [
    "NODE",
    "STATE",
    "RTT",
    "NAMES",
    "FLOWS",
    "MSG/S IN",
    "MSG/S OUT",
    "IN/S",
    "OUT/S",
    "QUEUED",
    "WAITING",
    "FULLEST",
    "SLOW",
];

/// How long a node may take to say how it is, on a screen that is to go on.
const PATIENCE_LIVE: Duration = Duration::from_secs(1);

/// How long, where there is one answer, which is to be whole.
const PATIENCE_ONCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!(amount(0.0, ""), "0");
        assert_eq!(amount(999.4, "B"), "999 B");
        assert_eq!(amount(1_500.0, "B"), "1.5 kB");
        assert_eq!(amount(2_000_000.0, ""), "2.0 M");
    }
}

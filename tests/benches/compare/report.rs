//! What is printed, and written as JSON.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::trial::{Samples, Side, Unit};

/// The rows so far.
#[derive(Debug)]
pub(crate) struct Report {
    only: Option<String>,
    budget: Duration,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    grinta: f64,
    grinta_min: f64,
    grinta_max: f64,
    rival: f64,
    rival_min: f64,
    rival_max: f64,
    rival_name: &'static str,
    /// Above 1, Grinta is better.
    ratio: f64,
}

#[derive(Serialize)]
struct Rows<'a> {
    rows: &'a [Row],
}

impl Report {
    pub(crate) fn new(only: Option<String>, budget: Duration) -> Self {
        Self {
            only,
            budget,
            rows: Vec::new(),
        }
    }

    /// How long a row may take.
    pub(crate) const fn budget(&self) -> Duration {
        self.budget
    }

    /// Whether any of these rows was asked for.
    pub(crate) fn wants(&self, names: &[String]) -> bool {
        let only = self.only.as_deref().unwrap_or_default();
        names.iter().any(|name| name.contains(only))
    }

    /// Adds a row and prints it.
    pub(crate) fn add(
        &mut self,
        name: String,
        rival_name: &'static str,
        unit: Unit,
        values: impl IntoIterator<Item = (Side, f64)>,
    ) -> io::Result<()> {
        if !self.wants(std::slice::from_ref(&name)) {
            return Ok(());
        }
        let (mut grinta, mut rival) = (Samples::default(), Samples::default());
        for (side, value) in values {
            match side {
                Side::Grinta => grinta.push(value),
                Side::Rival => rival.push(value),
            }
        }
        let (ours, theirs) = (grinta.median(), rival.median());
        let (unit, ratio) = match unit {
            Unit::PerSecond(unit) => (unit, ours / theirs),
            Unit::Nanoseconds => ("ns", theirs / ours),
        };
        let row = Row {
            name,
            unit,
            grinta: ours,
            grinta_min: grinta.least(),
            grinta_max: grinta.most(),
            rival: theirs,
            rival_min: rival.least(),
            rival_max: rival.most(),
            rival_name,
            ratio,
        };
        if self.rows.is_empty() {
            say(&format!(
                "{:<34} {:>8} {:>32} {:>32}   {}",
                "row", "ratio", "grinta (min–max)", "rival (min–max)", "rival"
            ))?;
        }
        say(&row.line())?;
        self.rows.push(row);
        Ok(())
    }

    pub(crate) fn write_json(&self, file: &Path) -> io::Result<()> {
        let rows = Rows { rows: &self.rows };
        fs::write(file, serde_json::to_vec_pretty(&rows)?)
    }
}

impl Row {
    fn line(&self) -> String {
        let side = |median, least, most| {
            format!(
                "{} ({}–{}) {}",
                short(median),
                short(least),
                short(most),
                self.unit
            )
        };
        format!(
            "{:<34} {:>7.2}x {:>32} {:>32}   {}",
            self.name,
            self.ratio,
            side(self.grinta, self.grinta_min, self.grinta_max),
            side(self.rival, self.rival_min, self.rival_max),
            self.rival_name
        )
    }
}

/// Three digits and a thousands' letter.
fn short(value: f64) -> String {
    let (scaled, letter) = match value {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    match scaled {
        100.0.. => format!("{scaled:.0}{letter}"),
        10.0.. => format!("{scaled:.1}{letter}"),
        _ => format!("{scaled:.2}{letter}"),
    }
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

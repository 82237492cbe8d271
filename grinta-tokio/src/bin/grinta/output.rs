//! What goes to the terminal.

use std::io::{self, IsTerminal, Write};
use std::{env, fmt};

use serde::Serialize;

use crate::failure::Failure;

/// Prints one line of what was asked for.
pub(crate) fn print(line: impl fmt::Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

/// Prints one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(serde_json::to_string(value).map_err(io::Error::from)?)
}

/// Prints rows with the columns below each other. The first is the heading.
pub(crate) fn print_table(rows: &[Vec<String>]) -> Result<(), Failure> {
    let is_styled = is_styled(&io::stdout());
    for (index, line) in table(rows).iter().enumerate() {
        match index == 0 && is_styled {
            true => print(format_args!("\x1b[1m{line}\x1b[0m"))?,
            false => print(line)?,
        }
    }
    Ok(())
}

/// Rows as lines with the columns below each other.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    });
    lines.collect()
}

/// Tells whoever sits there how it goes. Nothing depends on its being read.
pub(crate) fn say(what: impl fmt::Display) {
    writeln!(io::stderr(), "{what}").ok();
}

pub(crate) fn say_failure(failure: &Failure) {
    if failure.is_silent() {
        return;
    }
    match is_styled(&io::stderr()) {
        true => say(format_args!("\x1b[1;31merror:\x1b[0m {failure}")),
        false => say(format_args!("error: {failure}")),
    }
}

/// Whether to use colours (<https://no-color.org>).
pub(crate) fn is_styled(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

//! Draws a story.
//!
//! All places in time are shares of the width, so that the drawing can be stretched without its
//! letters. Packets are one path for each pair of hosts, in a drawing of their own that stretches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::time::Duration;

use super::story::{Bar, Row, Story};
use crate::plan::NodeId;

/// A drawing under way.
struct Drawing<'a> {
    story: &'a Story,
    text: String,
    /// How far down it reaches.
    y: u32,
}

pub(super) fn draw(story: &Story) -> String {
    let mut drawing = Drawing {
        story,
        text: String::new(),
        y: TOP,
    };
    drawing
        .write_all()
        .expect("a string takes what is written to it");
    let (height, text) = (drawing.y + 10, drawing.text);
    format!(
        "<svg id=\"run\" xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{text}</svg>\n"
    )
}

impl Drawing<'_> {
    fn write_all(&mut self) -> fmt::Result {
        let story = self.story;
        self.rows("faults", "what goes wrong", &story.faults, FAULT_HEIGHT)?;
        self.lanes()?;
        self.rows("names", "who claims which name", &story.names, BAR_HEIGHT)?;
        self.rows("flows", "flows", &story.flows, FLOW_HEIGHT)?;
        let height = (VIEWS_HEIGHT / u32::try_from(story.views.len().max(1)).unwrap_or(u32::MAX))
            .clamp(VIEW_HEIGHT_MIN, BAR_HEIGHT);
        self.rows("views", "who sees whom", &story.views, height)?;
        self.axis()?;
        if let Some((at, what)) = &story.violation {
            let (x, y, what) = (self.x(*at), self.y, escape(what));
            writeln!(
                self.text,
                "<g class=\"violation\"><line x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{y}\"/>\
                 <text x=\"{x}\" y=\"12\" text-anchor=\"end\">{what}</text></g>"
            )?;
        }
        Ok(())
    }

    /// Rows of bars under a heading.
    fn rows(&mut self, class: &str, heading: &str, rows: &[Row], height: u32) -> fmt::Result {
        writeln!(self.text, "<g class=\"{class}\">")?;
        self.heading(heading, rows.len())?;
        for row in rows {
            for bar in &row.bars {
                self.bar(bar, height, self.y)?;
            }
            if height >= BAR_HEIGHT {
                self.label(&row.label, self.y + height - 3)?;
            }
            self.y += height;
        }
        self.text.push_str("</g>\n");
        Ok(())
    }

    fn bar(&mut self, bar: &Bar, height: u32, y: u32) -> fmt::Result {
        let (x, width) = (self.x(bar.from), self.share(bar.until - bar.from));
        let (class, nodes, inner) = (bar.class, list(&bar.nodes), height.saturating_sub(1).max(1));
        let title = escape(&format!(
            "{} ({:.3} s to {:.3} s)",
            bar.title,
            bar.from.as_secs_f64(),
            bar.until.as_secs_f64()
        ));
        write!(
            self.text,
            "<g class=\"item\" data-nodes=\"{nodes}\"><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" \
             width=\"{width}\" height=\"{inner}\" rx=\"2\"><title>{title}</title></rect>"
        )?;
        if class == "fault" {
            let (text_y, words) = (y + height - 4, escape(&bar.title));
            write!(
                self.text,
                "<text x=\"{x}\" dx=\"3\" y=\"{text_y}\">{words}</text>"
            )?;
        }
        self.text.push_str("</g>\n");
        Ok(())
    }

    /// A lane for each host: its life, what it is told, and what is sent between lanes.
    fn lanes(&mut self) -> fmt::Result {
        let story = self.story;
        self.text.push_str("<g class=\"lanes\">\n");
        self.heading("nodes, and what they send", story.lives.len())?;
        let top = self.y;
        let middle = |id: NodeId| top + id.0 * LANE_HEIGHT + LANE_HEIGHT / 2;
        let height = story.hosts * LANE_HEIGHT;
        self.text.push_str("<g class=\"shades\">\n");
        for bar in story.faults.iter().flat_map(|row| &row.bars) {
            self.shade(bar, top)?;
        }
        self.text.push_str("</g>\n");
        self.packets(top, height)?;
        for (id, row) in (0..).map(NodeId).zip(&story.lives) {
            for bar in &row.bars {
                self.bar(bar, LIFE_HEIGHT, middle(id) - LIFE_HEIGHT / 2)?;
            }
            self.label(&row.label, middle(id) + 4)?;
        }
        for mark in &story.marks {
            let (x, y, class) = (self.x(mark.at), middle(mark.node), mark.class);
            let (node, title) = (mark.node, escape(&mark.title));
            let at = mark.at.as_secs_f64();
            writeln!(
                self.text,
                "<circle class=\"item {class}\" data-nodes=\"{node}\" cx=\"{x}\" cy=\"{y}\" r=\"4\">\
                 <title>{at:.3} s {title}</title></circle>"
            )?;
        }
        self.y += height;
        self.text.push_str("</g>\n");
        Ok(())
    }

    /// A fault's shade over the lanes of the nodes that it names, or over all.
    fn shade(&mut self, bar: &Bar, top: u32) -> fmt::Result {
        let (x, width) = (self.x(bar.from), self.share(bar.until - bar.from));
        let all = [(top, self.story.hosts * LANE_HEIGHT)];
        let of_node = |id: &NodeId| (top + id.0 * LANE_HEIGHT, LANE_HEIGHT);
        let named: Vec<_> = bar.nodes.iter().map(of_node).collect();
        let places = if named.is_empty() { &all[..] } else { &named };
        for (y, height) in places {
            writeln!(
                self.text,
                "<rect class=\"shade\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
            )?;
        }
        Ok(())
    }

    /// One path for each pair of hosts, and one for what is lost between them. What the eye cannot
    /// part is drawn once.
    fn packets(&mut self, top: u32, height: u32) -> fmt::Result {
        let middle = |id: NodeId| id.0 * LANE_HEIGHT + LANE_HEIGHT / 2;
        let step = self.story.until.as_nanos().div_ceil(STEPS).max(1);
        let mut paths: BTreeMap<(NodeId, NodeId, bool), BTreeSet<(u128, u128)>> = BTreeMap::new();
        for packet in &self.story.packets {
            let key = (packet.from, packet.to, packet.arrives.is_none());
            let arrives = packet.arrives.unwrap_or(packet.at).min(self.story.until);
            let ends = (packet.at.as_nanos() / step, arrives.as_nanos() / step);
            paths.entry(key).or_default().insert(ends);
        }
        let (left, right) = (LEFT, 100.0 - LEFT);
        writeln!(
            self.text,
            "<svg class=\"packets\" x=\"{left}%\" y=\"{top}\" width=\"{right}%\" height=\"{height}\" \
             viewBox=\"0 0 {STEPS} {height}\" preserveAspectRatio=\"none\">"
        )?;
        for ((from, to, is_lost), ends) in paths {
            let class = if is_lost { "lost" } else { "sent" };
            write!(
                self.text,
                "<path class=\"item {class}\" data-nodes=\"{from} {to}\" d=\""
            )?;
            let (from, to) = (middle(from), middle(to));
            let to = if is_lost { u32::midpoint(from, to) } else { to };
            for (sent, arrives) in ends {
                write!(self.text, "M{sent} {from}L{arrives} {to}")?;
            }
            self.text.push_str("\"/>\n");
        }
        self.text.push_str("</svg>\n");
        Ok(())
    }

    fn axis(&mut self) -> fmt::Result {
        let seconds = self.story.until.as_secs();
        let every = (seconds / 24)
            .clamp(1, 3600)
            .next_multiple_of(if seconds > 48 { 5 } else { 1 });
        self.text.push_str("<g class=\"axis\">\n");
        let bottom = self.y;
        for second in (0..=seconds).step_by(usize::try_from(every).unwrap_or(1)) {
            let x = self.x(Duration::from_secs(second));
            writeln!(
                self.text,
                "<line x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{x}\" y=\"{TOP}\" dy=\"-4\">{second} s</text>"
            )?;
        }
        let x = self.x(self.story.heal);
        writeln!(
            self.text,
            "<line class=\"heal\" x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{x}\" y=\"{TOP}\" dy=\"-16\">all faults end</text></g>"
        )
    }

    fn heading(&mut self, heading: &str, count: usize) -> fmt::Result {
        self.y += HEADING_HEIGHT;
        let (y, none) = (self.y - 6, if count == 0 { ": none" } else { "" });
        writeln!(
            self.text,
            "<text class=\"heading label\" x=\"4\" y=\"{y}\">{heading}{none}</text>"
        )
    }

    fn label(&mut self, label: &str, y: u32) -> fmt::Result {
        let label = escape(label);
        writeln!(
            self.text,
            "<text class=\"label\" x=\"4\" y=\"{y}\">{label}</text>"
        )
    }

    /// Where a time is.
    fn x(&self, at: Duration) -> String {
        let share = at.as_secs_f64() / self.story.until.as_secs_f64().max(f64::EPSILON);
        format!("{:.4}%", LEFT + (100.0 - LEFT) * share)
    }

    /// How wide a time is.
    fn share(&self, time: Duration) -> String {
        let share = time.as_secs_f64() / self.story.until.as_secs_f64().max(f64::EPSILON);
        format!("{:.4}%", (100.0 - LEFT) * share)
    }
}

fn list(nodes: &[NodeId]) -> String {
    let names: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
    names.join(" ")
}

/// Text as XML has it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = include_str!("picture.css");

/// How wide the drawing is at first, in pixels.
const WIDTH: u32 = 1800;

/// The share of the width that the labels have, in percent.
const LEFT: f64 = 7.0;

/// Heights, in pixels.
const TOP: u32 = 40;
const HEADING_HEIGHT: u32 = 26;
const FAULT_HEIGHT: u32 = 16;
const LANE_HEIGHT: u32 = 40;
const LIFE_HEIGHT: u32 = 10;
const BAR_HEIGHT: u32 = 12;
const FLOW_HEIGHT: u32 = 6;
/// How high all views are together, and each at the least.
const VIEWS_HEIGHT: u32 = 600;
const VIEW_HEIGHT_MIN: u32 = 2;

/// How finely the times of packets are told apart over the whole width.
const STEPS: u128 = 6000;

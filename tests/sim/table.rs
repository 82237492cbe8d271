//! A run as a table: a line for each transition, a column for each node.

use std::fmt::Write;

use crate::plan::{NodeId, Plan};
use crate::scene::{Claimed, Happening, Life, Scene};
use crate::verdict::Outcome;

impl Outcome {
    /// The run as a table: a line for each transition, in the column of the node that it is about;
    /// faults before all columns. Packets are left out. Of a run whose details were kept.
    #[must_use]
    pub fn table(&self, plan: &Plan) -> String {
        let mut text = format!("{:>12} ", "s");
        for id in plan.node_ids() {
            text += &format!("{:<COLUMN$}", id.to_string());
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for scene in &self.scenes {
            if let Some(line) = line(scene) {
                text += &line;
                text.push('\n');
            }
        }
        if let Some(violation) = &self.violation {
            writeln!(text, "{violation}").expect("a string takes what is written to it");
        }
        text
    }

    /// The run as lines of JSON, one for each transition and packet.
    #[must_use]
    pub fn json_lines(&self) -> String {
        let line = |scene: &Scene| {
            let json = serde_json::to_string(scene).expect("words and numbers");
            json + "\n"
        };
        self.scenes.iter().map(line).collect()
    }
}

/// A transition's line: `None` for a packet.
fn line(scene: &Scene) -> Option<String> {
    let at = scene.at.as_secs_f64();
    let (node, words) = match &scene.happening {
        Happening::FaultBegins { fault, nodes: _ } => {
            return Some(format!("{at:>12.6} ! {fault}"));
        }
        Happening::FaultEnds { fault } => {
            return Some(format!("{at:>12.6} ! no more {fault}"));
        }
        Happening::Packet { .. } => return None,
        Happening::Life { node, life } => {
            let word = match life {
                Life::Runs => "runs",
                Life::Ended => "ends",
                Life::Frozen => "freezes",
                Life::Left => "leaves",
            };
            (node, word.to_owned())
        }
        Happening::View {
            node, about, kind, ..
        } => (node, format!("{about} {kind}")),
        Happening::Claim {
            node,
            name,
            standing,
        } => {
            let word = match standing {
                Claimed::Owner => "owns",
                Claimed::Waits => "waits for",
                Claimed::Released => "releases",
            };
            (node, format!("{word} {name}"))
        }
        Happening::Flow {
            flow, node, how, ..
        } => (node, format!("flow {flow} {how}")),
    };
    Some(format!("{at:>12.6} {}{words}", indent(*node)))
}

/// What is before a node's column.
fn indent(node: NodeId) -> String {
    " ".repeat(COLUMN * node.index())
}

/// How wide a column is, in letters.
const COLUMN: usize = 16;

//! From scenes to bars: what lasts from when to when.

use std::collections::BTreeMap;
use std::time::Duration;

use grinta_proto::EndpointName;

use crate::plan::{NodeId, Plan};
use crate::scene::{Claimed, FlowStage, Happening, Life, Scene};
use crate::verdict::Outcome;

/// All that a picture shows.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) until: Duration,
    /// When all faults end.
    pub(super) heal: Duration,
    /// How many hosts there are: the nodes, then attackers.
    pub(super) hosts: u32,
    pub(super) faults: Vec<Row>,
    /// A row for each host.
    pub(super) lives: Vec<Row>,
    /// What nodes are told of members.
    pub(super) marks: Vec<Mark>,
    /// A row for each node that claims a name.
    pub(super) names: Vec<Row>,
    pub(super) flows: Vec<Row>,
    /// A row for each pair of nodes: what the first sees of the second.
    pub(super) views: Vec<Row>,
    pub(super) packets: Vec<Packet>,
    pub(super) violation: Option<(Duration, String)>,
}

/// Bars that are side by side.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

/// Something that lasts.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// What it is like, as the style sheet has it.
    pub(super) class: &'static str,
    pub(super) title: String,
    /// The nodes that it is about: none for all.
    pub(super) nodes: Vec<NodeId>,
}

/// Something that a node is told of a member at a time.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at: Duration,
    pub(super) node: NodeId,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// Something that was sent.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) at: Duration,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    /// `None` if it was lost.
    pub(super) arrives: Option<Duration>,
}

/// A row under way: what is the case at its end lasts.
#[derive(Debug, Default)]
struct Growing {
    row: Row,
    open: Option<Bar>,
}

impl Story {
    pub(super) fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let mut folding = Folding::default();
        for scene in &outcome.scenes {
            folding.take(scene);
        }
        let end = outcome.simulated;
        let mut hosts = plan.nodes;
        for packet in &folding.packets {
            hosts = hosts.max(packet.from.0 + 1).max(packet.to.0 + 1);
        }
        let mut lanes: Vec<_> = (0..hosts)
            .map(|id| Row {
                label: match id.checked_sub(plan.nodes) {
                    None => NodeId(id).to_string(),
                    Some(attacker) => format!("attacker {attacker}"),
                },
                bars: Vec::new(),
            })
            .collect();
        for (id, growing) in folding.lives {
            lanes[id.index()].bars = growing.end(end).bars;
        }
        let open_faults = folding.open_faults.into_iter().map(|fault| Bar {
            until: end,
            ..fault
        });
        let flows = folding.flows.into_values().map(|flow| Bar {
            until: match flow.class {
                "dialled" | "open" => end,
                _ => flow.until,
            },
            ..flow
        });
        Self {
            until: end,
            heal: plan.chaos_end().min(end),
            hosts,
            faults: pack(folding.faults.into_iter().chain(open_faults).collect()),
            lives: lanes,
            marks: folding.marks,
            names: folding.names.into_values().map(|it| it.end(end)).collect(),
            flows: pack(flows.collect()),
            views: folding.views.into_values().map(|it| it.end(end)).collect(),
            packets: folding.packets,
            violation: outcome
                .violation
                .as_ref()
                .map(|it| (it.at.min(end), it.to_string())),
        }
    }
}

/// What the scenes so far come to.
#[derive(Default)]
struct Folding {
    faults: Vec<Bar>,
    open_faults: Vec<Bar>,
    lives: BTreeMap<NodeId, Growing>,
    marks: Vec<Mark>,
    names: BTreeMap<(EndpointName, NodeId), Growing>,
    flows: BTreeMap<u32, Bar>,
    views: BTreeMap<(NodeId, NodeId), Growing>,
    packets: Vec<Packet>,
}

impl Folding {
    fn take(&mut self, scene: &Scene) {
        let at = scene.at;
        match &scene.happening {
            Happening::FaultBegins { fault, nodes } => self.open_faults.push(Bar {
                from: at,
                until: at,
                class: "fault",
                title: fault.clone(),
                nodes: nodes.clone(),
            }),
            Happening::FaultEnds { fault } => {
                let mut open = self.open_faults.iter();
                if let Some(index) = open.position(|bar| bar.title == *fault) {
                    let bar = self.open_faults.remove(index);
                    self.faults.push(Bar { until: at, ..bar });
                }
            }
            Happening::Life { node, life } => self.take_life(at, *node, *life),
            Happening::View {
                node,
                about,
                kind,
                seen,
            } => {
                self.marks.push(Mark {
                    at,
                    node: *node,
                    class: seen.word(),
                    title: format!("{node} hears: {about} {kind}"),
                });
                let row = self.views.entry((*node, *about)).or_default();
                row.row.label = format!("{node} sees {about}");
                let title = format!("{node} sees {about} {}", seen.word());
                row.go_on(at, seen.word(), title, vec![*node, *about]);
            }
            Happening::Claim {
                node,
                name,
                standing,
            } => {
                let row = self.names.entry((name.clone(), *node)).or_default();
                row.row.label = format!("{name} {node}");
                let (class, what) = match standing {
                    Claimed::Owner => ("owner", "owns"),
                    Claimed::Waits => ("waits", "waits for"),
                    Claimed::Released => return row.stop(at),
                };
                row.go_on(at, class, format!("{node} {what} {name}"), vec![*node]);
            }
            Happening::Flow {
                flow,
                node,
                name,
                stage,
                how,
            } => self.take_flow(at, *flow, *node, name, *stage, how),
            Happening::Packet {
                from,
                to,
                bytes: _,
                arrives_ns,
            } => self.packets.push(Packet {
                at,
                from: *from,
                to: *to,
                arrives: arrives_ns.map(Duration::from_nanos),
            }),
        }
    }

    fn take_life(&mut self, at: Duration, node: NodeId, life: Life) {
        let row = self.lives.entry(node).or_default();
        let (class, what) = match life {
            Life::Runs => ("runs", "runs"),
            Life::Frozen => ("frozen", "is frozen"),
            Life::Left => ("gone", "has left"),
            Life::Ended => {
                row.stop(at);
                for ((_, owner), claim) in &mut self.names {
                    if *owner == node {
                        claim.stop(at);
                    }
                }
                for ((by, _), view) in &mut self.views {
                    if *by == node {
                        view.stop(at);
                    }
                }
                return;
            }
        };
        row.go_on(at, class, format!("{node} {what}"), vec![node]);
    }

    fn take_flow(
        &mut self,
        at: Duration,
        flow: u32,
        node: NodeId,
        name: &EndpointName,
        stage: FlowStage,
        how: &str,
    ) {
        let bar = self.flows.entry(flow).or_insert_with(|| Bar {
            from: at,
            until: at,
            class: "dialled",
            title: format!("flow {flow} to {name}"),
            nodes: Vec::new(),
        });
        bar.title
            .push_str(&format!("; {:.3} s {node}: {how}", at.as_secs_f64()));
        if !bar.nodes.contains(&node) {
            bar.nodes.push(node);
        }
        bar.class = match stage {
            FlowStage::Dialled => "dialled",
            FlowStage::Open => "open",
            FlowStage::Ended => "ended",
            FlowStage::GivenUp => "given-up",
            FlowStage::Broken => "broken",
        };
        bar.until = at;
    }
}

impl Growing {
    fn go_on(&mut self, at: Duration, class: &'static str, title: String, nodes: Vec<NodeId>) {
        self.stop(at);
        self.open = Some(Bar {
            from: at,
            until: at,
            class,
            title,
            nodes,
        });
    }

    fn stop(&mut self, at: Duration) {
        let ended = self.open.take().map(|bar| Bar { until: at, ..bar });
        self.row.bars.extend(ended);
    }

    fn end(mut self, at: Duration) -> Row {
        self.stop(at);
        self.row
    }
}

/// Puts bars into as few rows as it takes for none to cover another.
fn pack(mut bars: Vec<Bar>) -> Vec<Row> {
    bars.sort_by_key(|bar| (bar.from, bar.until));
    let mut rows: Vec<Row> = Vec::new();
    for bar in bars {
        let free = rows.iter_mut().find(|row| {
            let last = row.bars.last();
            last.is_none_or(|last| last.until + GAP <= bar.from)
        });
        match free {
            Some(row) => row.bars.push(bar),
            None => rows.push(Row {
                label: String::new(),
                bars: vec![bar],
            }),
        }
    }
    rows
}

/// Between two bars of a row, so that the eye parts them.
const GAP: Duration = Duration::from_millis(300);

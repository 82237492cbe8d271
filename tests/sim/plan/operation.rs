//! What programs do.

use std::fmt;
use std::time::Duration;

use grinta_proto::EndpointName;

use super::NodeId;
use super::words::{Time, Words};

/// What a program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Claims a name that nobody serves.
    Claim(NodeId, EndpointName),
    /// Claims a name, to stand by for it if another serves it.
    StandBy(NodeId, EndpointName),
    /// Gives a name up.
    Release(NodeId, EndpointName),
    /// Leaves on purpose, and joins again when the chaos is over.
    Leave(NodeId),
    /// Joins again after it left.
    Join(NodeId),
    /// Shuts down in order, and is started again when the chaos is over.
    ShutDown(NodeId),
    /// Opens a flow and sends on it.
    Open(FlowPlan),
    /// Opens a flow of calls and makes some.
    Call(CallPlan),
}

/// What both ends of a flow do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowPlan {
    /// Who dials.
    pub from: NodeId,
    /// What is dialled.
    pub to: EndpointName,
    /// How many messages are sent.
    pub messages: u32,
    /// How long each is, in bytes.
    pub length: u32,
    /// How long the sender pauses between two.
    pub every: Duration,
    /// What the sender does at last.
    pub end: FlowEnd,
    /// How the receiver reads.
    pub reading: Reading,
    /// Whether both ends drop their futures in the midst of it now and then, and begin anew.
    pub is_fickle: bool,
}

/// What a sender does when it has sent all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowEnd {
    /// Finishes, and waits until all of it is there.
    Finish,
    /// Drops the sender.
    Drop,
    /// Gives the flow up.
    Reset,
    /// Keeps the flow until the shutdown.
    Keep,
}

/// How a receiver reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What comes, when it comes.
    AtOnce,
    /// A message, then a pause.
    Every(Duration),
    /// So many messages, and then it stops the sender.
    StopAfter(u32),
    /// So many messages, and then it drops the receiver.
    DropAfter(u32),
}

/// Calls on one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPlan {
    /// Who calls.
    pub from: NodeId,
    /// What is called.
    pub to: EndpointName,
    /// How often each of the tasks calls, one call after the other.
    pub calls: u32,
    /// How many tasks call at once.
    pub tasks: u32,
    /// How long requests and answers are, in bytes.
    pub length: u32,
    /// The pause between two.
    pub every: Duration,
    /// Whether the caller drops some calls before they are answered.
    pub is_fickle: bool,
}

impl Operation {
    /// The node whose program does it.
    pub(crate) const fn node(&self) -> NodeId {
        match self {
            Self::Claim(node, _)
            | Self::StandBy(node, _)
            | Self::Release(node, _)
            | Self::Leave(node)
            | Self::Join(node)
            | Self::ShutDown(node) => *node,
            Self::Open(flow) => flow.from,
            Self::Call(call) => call.from,
        }
    }

    /// The operation that begins with this verb, if there is one.
    pub(super) fn parse(verb: &str, words: &mut Words<'_>) -> Result<Option<Self>, String> {
        let name = "an endpoint's name";
        Ok(Some(match verb {
            "claim" => Self::Claim(words.node()?, words.parse(name)?),
            "stand-by" => Self::StandBy(words.node()?, words.parse(name)?),
            "release" => Self::Release(words.node()?, words.parse(name)?),
            "leave" => Self::Leave(words.node()?),
            "join" => Self::Join(words.node()?),
            "shut-down" => Self::ShutDown(words.node()?),
            "open" => Self::Open(FlowPlan::parse(words)?),
            "call" => Self::Call(CallPlan::parse(words)?),
            _ => return Ok(None),
        }))
    }
}

impl FlowPlan {
    fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let from = words.node()?;
        let to = words.parse("an endpoint's name")?;
        words.keyword("messages")?;
        let messages = words.parse("a number")?;
        words.keyword("bytes")?;
        let length = words.parse("a number")?;
        words.keyword("every")?;
        let every = words.duration()?;
        words.keyword("then")?;
        let end = match words.next("what the sender does at last")? {
            "finish" => FlowEnd::Finish,
            "drop" => FlowEnd::Drop,
            "reset" => FlowEnd::Reset,
            "keep" => FlowEnd::Keep,
            word => return Err(format!("`{word}` is nothing that a sender does at last")),
        };
        let mut flow = Self {
            from,
            to,
            messages,
            length,
            every,
            end,
            reading: Reading::AtOnce,
            is_fickle: false,
        };
        if words.take("read") {
            flow.reading = match words.next("how the receiver reads")? {
                "every" => Reading::Every(words.duration()?),
                "stop-after" => Reading::StopAfter(words.parse("a number")?),
                "drop-after" => Reading::DropAfter(words.parse("a number")?),
                word => return Err(format!("`{word}` is no way to read")),
            };
        }
        flow.is_fickle = words.take("fickle");
        Ok(flow)
    }
}

impl CallPlan {
    fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let from = words.node()?;
        let to = words.parse("an endpoint's name")?;
        words.keyword("calls")?;
        let calls = words.parse("a number")?;
        words.keyword("tasks")?;
        let tasks = words.parse("a number")?;
        words.keyword("bytes")?;
        let length = words.parse("a number")?;
        words.keyword("every")?;
        Ok(Self {
            from,
            to,
            calls,
            tasks,
            length,
            every: words.duration()?,
            is_fickle: words.take("fickle"),
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(node, name) => write!(f, "claim {node} {name}"),
            Self::StandBy(node, name) => write!(f, "stand-by {node} {name}"),
            Self::Release(node, name) => write!(f, "release {node} {name}"),
            Self::Leave(node) => write!(f, "leave {node}"),
            Self::Join(node) => write!(f, "join {node}"),
            Self::ShutDown(node) => write!(f, "shut-down {node}"),
            Self::Open(flow) => flow.fmt(f),
            Self::Call(call) => call.fmt(f),
        }
    }
}

impl fmt::Display for FlowPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            messages,
            length,
            every,
            end,
            reading,
            is_fickle,
        } = self;
        let every = Time(*every);
        write!(
            f,
            "open {from} {to} messages {messages} bytes {length} every {every} then {}",
            match end {
                FlowEnd::Finish => "finish",
                FlowEnd::Drop => "drop",
                FlowEnd::Reset => "reset",
                FlowEnd::Keep => "keep",
            }
        )?;
        match reading {
            Reading::AtOnce => {}
            Reading::Every(pause) => write!(f, " read every {}", Time(*pause))?,
            Reading::StopAfter(messages) => write!(f, " read stop-after {messages}")?,
            Reading::DropAfter(messages) => write!(f, " read drop-after {messages}")?,
        }
        f.write_str(if *is_fickle { " fickle" } else { "" })
    }
}

impl fmt::Display for CallPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            calls,
            tasks,
            length,
            every,
            is_fickle,
        } = self;
        let every = Time(*every);
        write!(
            f,
            "call {from} {to} calls {calls} tasks {tasks} bytes {length} every {every}"
        )?;
        f.write_str(if *is_fickle { " fickle" } else { "" })
    }
}

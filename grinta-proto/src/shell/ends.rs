//! How the two ends of a flow are made, on the dialling and on the accepting side alike.

use std::any::{Any, TypeId};
use std::sync::{Arc, Weak};

use crate::codec::Codec;
use crate::name::EndpointName;
use crate::node::{FlowId, LocalSide};
use crate::shell::flow::{Flow, Path, Receiver, Remote, Sender, Terms};
use crate::shell::local::{Breakable, Encoded, LocalFlow, LocalQueues, Queue, QueueLimits};
use crate::shell::shared::{Shared, State};
use crate::wire::malformed::FieldFault;
use crate::wire::stream::{Direction, Encoding, OpenFlow};

/// What one side sends and receives: a codec for each direction that it uses.
pub(crate) struct Codecs<S, R> {
    pub(crate) sends: Option<Arc<dyn Codec<S>>>,
    pub(crate) receives: Option<Arc<dyn Codec<R>>>,
}

/// The ends that one side holds.
pub(crate) struct Ends<S, R> {
    pub(crate) sender: Option<Sender<S>>,
    pub(crate) receiver: Option<Receiver<R>>,
}

impl<S: Send + 'static, R: Send + 'static> Ends<S, R> {
    /// Both ends, of a side that was made with both codecs.
    pub(crate) fn into_flow(self) -> Flow<S, R> {
        let ends = self.sender.zip(self.receiver);
        let (sender, receiver) = ends.expect("a side that does both has both ends");
        Flow { sender, receiver }
    }
}

/// The encodings of what one side sends and receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encodings {
    pub(crate) sends: Option<Encoding>,
    pub(crate) receives: Option<Encoding>,
}

/// The types of what one side sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageTypes {
    sends: Option<TypeId>,
    receives: Option<TypeId>,
}

/// The longest messages, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageLimits {
    /// What the other side takes.
    pub(crate) sent: u64,
    /// What this side takes.
    pub(crate) received: usize,
}

impl<S: Send + 'static, R: Send + 'static> Codecs<S, R> {
    /// The encodings, if their descriptions keep the rules.
    pub(crate) fn encodings(&self) -> Result<Encodings, FieldFault> {
        let sends = self
            .sends
            .as_ref()
            .map(|codec| encoding(&**codec))
            .transpose()?;
        let receives = self
            .receives
            .as_ref()
            .map(|codec| encoding(&**codec))
            .transpose()?;
        Ok(Encodings { sends, receives })
    }

    pub(crate) fn types(&self) -> MessageTypes {
        MessageTypes {
            sends: self.sends.as_ref().map(|_| TypeId::of::<S>()),
            receives: self.receives.as_ref().map(|_| TypeId::of::<R>()),
        }
    }

    /// The ends of a flow over a connection.
    pub(crate) fn over_connection(
        self,
        shared: &Arc<Shared>,
        flow: FlowId,
        path: &Path,
        limits: MessageLimits,
    ) -> Ends<S, R> {
        let remote = || Remote {
            shared: Arc::clone(shared),
            flow,
        };
        Ends {
            sender: self
                .sends
                .map(|codec| Sender::remote(remote(), limits.sending(codec, path))),
            receiver: self
                .receives
                .map(|codec| Receiver::remote(remote(), limits.receiving(codec, path))),
        }
    }

    /// Makes the queues of a flow within the process, for a dialler with these types. Where the
    /// types are the same the values move, else they are encoded.
    pub(crate) fn make_queues(
        self,
        state: &mut State,
        endpoint: &EndpointName,
        dialler: MessageTypes,
        limits: MessageLimits,
    ) -> (Ends<S, R>, LocalQueues) {
        let bounds = state.node.limits();
        let bounds = QueueLimits {
            messages: bounds.local_queue_max,
            bytes: bounds.local_queue_bytes_max,
        };
        let mut queues = LocalQueues::default();
        let sender = self.sends.map(|codec| {
            let terms = limits.sending(codec, &Path::Local);
            if dialler.receives == Some(TypeId::of::<S>()) {
                let queue = Queue::new(bounds);
                queues.to_dialler = Some(tracked(state, endpoint, LocalSide::Acceptor, &queue));
                Sender::values(queue, terms)
            } else {
                let queue = Queue::new(bounds);
                queues.to_dialler = Some(tracked(state, endpoint, LocalSide::Acceptor, &queue));
                Sender::encoded(queue, terms)
            }
        });
        let receiver = self.receives.map(|codec| {
            let terms = limits.receiving(codec, &Path::Local);
            if dialler.sends == Some(TypeId::of::<R>()) {
                let queue = Queue::new(bounds);
                queues.from_dialler = Some(tracked(state, endpoint, LocalSide::Dialler, &queue));
                Receiver::values(queue, terms)
            } else {
                let queue = Queue::new(bounds);
                queues.from_dialler = Some(tracked(state, endpoint, LocalSide::Dialler, &queue));
                Receiver::encoded(queue, terms)
            }
        });
        (Ends { sender, receiver }, queues)
    }

    /// The dialler's ends of queues that the accepting side has made.
    pub(crate) fn take_queues(self, queues: LocalQueues, limits: MessageLimits) -> Ends<S, R> {
        let LocalQueues {
            from_dialler,
            to_dialler,
        } = queues;
        let sender = self.sends.zip(from_dialler).and_then(|(codec, queue)| {
            let terms = limits.sending(codec, &Path::Local);
            match queue.downcast::<Queue<S>>() {
                Ok(values) => Some(Sender::values(values, terms)),
                Err(queue) => {
                    let encoded = queue.downcast::<Queue<Encoded>>().ok()?;
                    Some(Sender::encoded(encoded, terms))
                }
            }
        });
        let receiver = self.receives.zip(to_dialler).and_then(|(codec, queue)| {
            let terms = limits.receiving(codec, &Path::Local);
            match queue.downcast::<Queue<R>>() {
                Ok(values) => Some(Receiver::values(values, terms)),
                Err(queue) => {
                    let encoded = queue.downcast::<Queue<Encoded>>().ok()?;
                    Some(Receiver::encoded(encoded, terms))
                }
            }
        });
        Ends { sender, receiver }
    }
}

impl Encodings {
    /// Which way messages go, as seen by the side that these belong to; `None` if neither.
    pub(crate) const fn direction(&self) -> Option<Direction> {
        match (&self.sends, &self.receives) {
            (Some(_), Some(_)) => Some(Direction::Both),
            (Some(_), None) => Some(Direction::Send),
            (None, Some(_)) => Some(Direction::Receive),
            (None, None) => None,
        }
    }

    /// Whether what this side sends is what the dialler receives, and the reverse.
    pub(crate) fn matches(&self, dialler: &OpenFlow) -> bool {
        agree(self.sends.as_ref(), dialler.receives.as_ref())
            && agree(self.receives.as_ref(), dialler.sends.as_ref())
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match (&self.sends, &self.receives) {
            (Some(sends), Some(receives)) => format!("sends {sends} and receives {receives}"),
            (Some(sends), None) => format!("only sends {sends}"),
            (None, Some(receives)) => format!("only receives {receives}"),
            (None, None) => "neither sends nor receives".to_owned(),
        }
    }
}

impl MessageLimits {
    fn sending<T>(self, codec: Arc<dyn Codec<T>>, path: &Path) -> Terms<T> {
        let message_len_max = usize::try_from(self.sent).unwrap_or(usize::MAX);
        Terms {
            codec,
            path: path.clone(),
            message_len_max,
        }
    }

    fn receiving<T>(self, codec: Arc<dyn Codec<T>>, path: &Path) -> Terms<T> {
        Terms {
            codec,
            path: path.clone(),
            message_len_max: self.received,
        }
    }
}

fn tracked<T: Send + 'static>(
    state: &mut State,
    endpoint: &EndpointName,
    sender: LocalSide,
    queue: &Arc<Queue<T>>,
) -> Arc<dyn Any + Send + Sync> {
    let breakable: Weak<dyn Breakable> = Arc::downgrade(queue) as _;
    state.track_local(LocalFlow {
        endpoint: endpoint.clone(),
        sender,
        queue: breakable,
    });
    Arc::clone(queue) as _
}

fn agree(sent: Option<&Encoding>, received: Option<&Encoding>) -> bool {
    match (sent, received) {
        (Some(sent), Some(received)) => sent.agrees_with(received),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn encoding<T: 'static>(codec: &dyn Codec<T>) -> Result<Encoding, FieldFault> {
    Encoding::new(codec.id(), codec.message_type())
}

//! What the programs on the nodes of a world do: they join, claim, dial, and use flows.

use super::*;

impl World {
    pub(in crate::node) fn join(&mut self, name: &'static str) -> Result<JoinReport, JoinError> {
        self.node(name).join();
        self.joined(name)
    }

    pub(in crate::node) fn joined(&mut self, name: &'static str) -> Result<JoinReport, JoinError> {
        self.wait(name, "the join ends", |event| match event {
            Event::Joined(result) => Some(result.clone()),
            _ => None,
        })
    }

    /// Opens an endpoint and waits until another node, if any is named, has learnt of it.
    pub(in crate::node) fn serve(
        &mut self,
        name: &'static str,
        endpoint: &str,
        known_at: &str,
    ) -> EndpointId {
        let id = self.claim(name, endpoint, 4).unwrap();
        let endpoint = endpoint_name(endpoint);
        self.until("the name is known", |world| {
            let resolution = world.node(known_at).resolve(&endpoint);
            let holder = node_name(name);
            let known = match resolution {
                control::Resolution::Local => known_at == name,
                control::Resolution::Remote { owner, .. } => owner == holder,
                _ => false,
            };
            known.then_some(())
        });
        id
    }

    pub(in crate::node) fn claim(
        &mut self,
        name: &'static str,
        endpoint: &str,
        queue_max: usize,
    ) -> Result<EndpointId, EndpointRefusal> {
        let id = self.begin_claim(name, endpoint, queue_max, Claiming::Exclusive)?;
        self.claimed(name, id)
    }

    pub(in crate::node) fn begin_claim(
        &mut self,
        name: &str,
        endpoint: &str,
        queue_max: usize,
        claiming: Claiming,
    ) -> Result<EndpointId, EndpointRefusal> {
        let node = self.node(name);
        node.open_endpoint(&endpoint_name(endpoint), queue_max, claiming)
    }

    pub(in crate::node) fn claimed(
        &mut self,
        name: &'static str,
        id: EndpointId,
    ) -> Result<EndpointId, EndpointRefusal> {
        let result = self.wait(name, "the claim is decided", |event| match event {
            Event::EndpointOpened { endpoint, result } if *endpoint == id => Some(result.clone()),
            _ => None,
        });
        result.map(|()| id)
    }

    pub(in crate::node) fn dial(&mut self, name: &'static str, endpoint: &str) -> DialId {
        self.node(name).dial(request(endpoint))
    }

    #[expect(clippy::result_large_err, reason = "the error is what a program gets")]
    pub(in crate::node) fn dialled(
        &mut self,
        name: &'static str,
        dial: DialId,
    ) -> Result<Dialled, DialError> {
        self.wait(name, "the dial ends", |event| match event {
            Event::Dialled { dial: id, result } if *id == dial => Some(result.clone()),
            _ => None,
        })
    }

    pub(in crate::node) fn incoming(
        &mut self,
        name: &'static str,
        endpoint: EndpointId,
    ) -> Incoming {
        self.wait(name, "a flow waits", |event| {
            (*event == Event::Incoming { endpoint }).then_some(())
        });
        self.node(name).take_incoming(endpoint).unwrap()
    }

    pub(in crate::node) fn accept(&mut self, name: &'static str, endpoint: EndpointId) -> FlowId {
        let incoming = self.incoming(name, endpoint);
        assert!(self.node(name).answer(incoming.id, accepted()));
        match incoming.origin {
            Origin::Remote { flow, .. } => flow,
            Origin::Local { .. } => panic!("the flow was dialled in {name} itself"),
        }
    }

    /// A flow from one node to an endpoint of another, accepted.
    pub(in crate::node) fn flow(
        &mut self,
        from: &'static str,
        to: &'static str,
        (endpoint, name): (EndpointId, &str),
    ) -> Ends {
        let dial = self.dial(from, name);
        let there = self.accept(to, endpoint);
        match self.dialled(from, dial).unwrap() {
            Dialled::Remote { flow, .. } => Ends {
                dialler: (from, flow),
                acceptor: (to, there),
            },
            Dialled::Local { .. } => panic!("{name} is served by {from} itself"),
        }
    }

    /// Two nodes and a flow between them, with nothing else going on.
    pub(in crate::node) fn with_flow(seed: u64) -> (Self, Ends) {
        let mut world = Self::of(seed, &["a", "b"]);
        let endpoint = world.serve("b", "service", "a");
        let ends = world.flow("a", "b", (endpoint, "service"));
        (world, ends)
    }

    pub(in crate::node) fn write(
        &mut self,
        (name, flow): (&'static str, FlowId),
        data: &[u8],
    ) -> Result<(), FlowWriteError> {
        let payload = Payload {
            copied: data,
            body: Bytes::new(),
        };
        self.node(name).write(flow, payload)
    }

    /// Writes as many pieces of so many bytes as there is room for, and waits for more room until it
    /// does not come. Returns how many bytes that were.
    pub(in crate::node) fn fill(
        &mut self,
        (name, flow): (&'static str, FlowId),
        piece: usize,
    ) -> usize {
        let piece = vec![7; piece];
        let mut written = 0;
        loop {
            match self.write((name, flow), &piece) {
                Ok(()) => written += piece.len(),
                Err(FlowWriteError::Blocked) => {
                    self.run_for(Duration::from_millis(50));
                    let goes_on = |event: &Event| *event == Event::FlowWritable(flow);
                    if !self.has_told(name, goes_on) {
                        return written;
                    }
                    self.wait(name, "writable", |event| goes_on(event).then_some(()));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads until `length` bytes are there.
    pub(in crate::node) fn read(
        &mut self,
        (name, flow): (&'static str, FlowId),
        length: usize,
    ) -> Vec<u8> {
        let mut read = Vec::new();
        self.until("the bytes arrive", |world| {
            loop {
                if read.len() >= length {
                    return Some(());
                }
                match world.node(name).read(flow) {
                    Ok(Some(chunk)) => read.extend_from_slice(&chunk),
                    Err(FlowReadError::Blocked) => return None,
                    other => panic!("{name} reads {other:?} after {} bytes", read.len()),
                }
            }
        });
        read
    }

    /// What a flow reads after its last byte: its end, or why there is none.
    pub(in crate::node) fn end(
        &mut self,
        (name, flow): (&'static str, FlowId),
    ) -> Result<(), FlowReadError> {
        self.until("the flow ends", |world| match world.node(name).read(flow) {
            Ok(None) => Some(Ok(())),
            Ok(Some(_)) | Err(FlowReadError::Blocked) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// How a sending direction ends.
    pub(in crate::node) fn sent(
        &mut self,
        (name, flow): (&'static str, FlowId),
    ) -> Result<(), FlowWriteError> {
        self.until("the sending direction ends", |world| {
            world.node(name).sent(flow)
        })
    }

    pub(in crate::node) fn release(&mut self, (name, flow): (&'static str, FlowId)) {
        let node = self.node(name);
        node.release_sender(flow);
        node.release_receiver(flow, Code::NoReader);
    }

    /// One message each way.
    pub(in crate::node) fn exchange(&mut self, ends: Ends) {
        for ends in [ends, ends.reversed()] {
            self.write(ends.dialler, b"still here").unwrap();
            assert_eq!(self.read(ends.acceptor, 10), b"still here");
        }
    }

    /// The run of a member's process, as a node knows it.
    pub(in crate::node) fn session_of(&mut self, name: &str, member: &str) -> Session {
        let member = self.node(name).control.member(&node_name(member));
        member.unwrap().session
    }

    pub(in crate::node) fn connections(&mut self, name: &str) -> usize {
        self.node(name).connections.keys().len()
    }
}

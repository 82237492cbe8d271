//! What idle flows weigh: two fabrics over a network in memory, on one thread, so that every byte
//! that is allocated can be counted.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::Raw;
use crate::config::Neighbour;
use crate::shell::driver::Driver;
use crate::shell::endpoint::Endpoint;
use crate::shell::fabric::Fabric;
use crate::shell::flow::Flow;
use crate::shell::io::{Capabilities, Io, RecvMeta};
use crate::tls::testing::{NOW, TestCa};

#[test]
fn an_idle_flow_weighs_little_more_than_a_kibibyte_a_side() {
    let mut world = World::new();
    let ca = TestCa::new("fabric");
    let server = world.start(&ca, "server", None);
    let client = world.start(&ca, "client", Some(server.address()));
    world.run(client.join()).unwrap();
    let endpoint = world.run(async { server.endpoint("service").await.unwrap() });
    // What the first flow costs once is paid before.
    let first = world.open(&client, &endpoint);
    let mut flows = Vec::with_capacity(FLOWS);
    let held = allocation_counter::measure(|| {
        for _ in 0..FLOWS {
            flows.push(world.open(&client, &endpoint));
        }
        world.pass(Duration::from_secs(2));
    });
    // Of it some 850 bytes are quinn-proto's, which keeps room for data that has come and gone.
    let each = held.bytes_current / FLOWS as i64 / 2;
    let ends = size_of::<Flow<Bytes, Bytes>>() as i64;
    eprintln!("an idle flow: {each} B allocated a side, and {ends} B for the ends themselves");
    assert!(each + ends <= 1200, "{held:?}");
    drop((first, flows));
}

/// Fabrics, and what is under way between them.
struct World {
    wire: Rc<RefCell<Wire>>,
    drivers: Vec<Driver<WireIo>>,
}

struct Wire {
    now: Instant,
    origin: Instant,
    inboxes: BTreeMap<SocketAddr, VecDeque<(SocketAddr, Vec<u8>)>>,
}

struct WireIo {
    wire: Rc<RefCell<Wire>>,
    address: SocketAddr,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of a world"
    )]
    fn new() -> Self {
        let now = Instant::now();
        let wire = Wire {
            now,
            origin: now,
            inboxes: BTreeMap::new(),
        };
        Self {
            wire: Rc::new(RefCell::new(wire)),
            drivers: Vec::new(),
        }
    }

    fn start(&mut self, ca: &TestCa, name: &str, neighbour: Option<SocketAddr>) -> Fabric {
        let number = u8::try_from(self.drivers.len() + 1).unwrap();
        let io = WireIo {
            wire: Rc::clone(&self.wire),
            address: SocketAddr::from(([10, 0, 0, number], 7400)),
        };
        let neighbours = neighbour.map(|address| Neighbour {
            host: address.to_string(),
            addresses: Ok(vec![address]),
        });
        let builder = Fabric::builder(name)
            .credentials(ca.node(name))
            .configure(|config| config.limits.flows_per_peer_max = FLOWS as u32 + 16);
        let assembled = builder.assemble(io, [number; 32], neighbours.into_iter().collect());
        let (fabric, driver) = assembled.unwrap();
        self.drivers.push(driver);
        fabric
    }

    /// Lets everything go on until a future is ready.
    fn run<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            self.step();
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.wire.borrow().now + time;
        while self.wire.borrow().now < until {
            self.step();
        }
    }

    fn step(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for driver in &mut self.drivers {
            assert!(Pin::new(driver).poll(&mut cx).is_pending());
        }
        self.wire.borrow_mut().now += Duration::from_millis(1);
    }

    /// A flow on which a message went each way.
    fn open(
        &mut self,
        client: &Fabric,
        endpoint: &Endpoint,
    ) -> (Flow<Bytes, Bytes>, Flow<Bytes, Bytes>) {
        let dial = client.dial("service").wait_for_name();
        let mut dial = dial.bidi::<Bytes, Bytes, _>(Raw).into_future();
        let accept = async {
            let incoming = endpoint.accept().await.unwrap();
            incoming.bidi::<Bytes, Bytes, _>(Raw).unwrap()
        };
        let mut cx = Context::from_waker(Waker::noop());
        let _ = dial.as_mut().poll(&mut cx);
        let mut theirs = self.run(accept);
        let mut ours = self.run(dial).unwrap();
        self.run(async {
            ours.send(MESSAGE).await.unwrap();
            assert_eq!(theirs.recv().await, Ok(Some(MESSAGE)));
            theirs.send(MESSAGE).await.unwrap();
            assert_eq!(ours.recv().await, Ok(Some(MESSAGE)));
        });
        (ours, theirs)
    }
}

impl Io for WireIo {
    fn now(&self) -> Instant {
        self.wire.borrow().now
    }

    fn unix_time(&self) -> Duration {
        let wire = self.wire.borrow();
        NOW + (wire.now - wire.origin)
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_gso_segments: 1,
            gro_segments: 1,
            may_fragment: false,
        }
    }

    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.borrow_mut();
        let Some((remote, contents)) = wire
            .inboxes
            .get_mut(&self.address)
            .and_then(VecDeque::pop_front)
        else {
            return Poll::Pending;
        };
        buffers[0][..contents.len()].copy_from_slice(&contents);
        meta[0] = RecvMeta {
            remote,
            length: contents.len(),
            stride: contents.len(),
            ..RecvMeta::empty()
        };
        Poll::Ready(Ok(1))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        transmit: &crate::node::Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        let mut wire = self.wire.borrow_mut();
        let inbox = wire.inboxes.entry(transmit.remote).or_default();
        inbox.push_back((self.address, contents.to_vec()));
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, _: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        match deadline {
            Some(deadline) if deadline <= self.wire.borrow().now => Poll::Ready(()),
            Some(_) | None => Poll::Pending,
        }
    }
}

const FLOWS: usize = 2000;
const MESSAGE: Bytes = Bytes::from_static(b"a message of a flow");

//! Whole nodes, and everything that can arrive at one.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a program looks for the events that it is about"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Unstructured;
use bytes::{Bytes, BytesMut};
use grinta_proto::node::{Claiming, DialId, Event, FlowId, Origin, Payload};
use grinta_proto::wire::code::Code;
use grinta_proto::wire::frame::encode_length;
use grinta_proto::wire::stream::{FlowAnswer, Hello, Refusal, RefusalReason};
use grinta_proto::{Credentials, EndpointName, FabricName, NodeName, Session};
use grinta_tests::pki::{Ca, Leaf, Validity};

use crate::peer::Peer;
use crate::speech::{self, NODES, SESSION};
use crate::toy::{self, Seal};
use crate::world::{
    ACCEPTED, Datagram, Host, LATENCY, Network, PATIENCE, World, address, perfect, request,
};

/// Two nodes, their programs, and a network between them that loses, repeats, delays, spoils and
/// invents datagrams for as long as there are bytes; then it is perfect, and within a bounded time
/// the two see each other, serve a dial, and end without a trace.
///
/// # Panics
/// If a law is broken.
pub fn node_pair(data: &[u8]) {
    let keys = &*KEYS;
    let mut world = World::new();
    let entropy = Entropy::new(data);
    world.network = entropy.network();
    world.start(NODES[0], &keys.alice[0]);
    world.start(NODES[1], &keys.bob[0]);
    let mut programs = [Program::default(), Program::default()];
    while !entropy.is_spent() {
        let at = usize::from(entropy.byte() % 2);
        programs[at].act(&mut world, at, &entropy);
        for (at, program) in programs.iter_mut().enumerate() {
            program.follow(&mut world, at);
        }
        assert_bounded(&mut world, at);
    }
    world.network = Box::new(perfect);
    world.until("the two see each other", PATIENCE, |world| {
        (world.sees(0, NODES[1]) && world.sees(1, NODES[0])).then_some(())
    });
    world.prove_service(1, 0, FRESH);
    world.prove_end(&[0, 1]);
}

/// A peer with a certificate of the fabric says anything: any frames on the control stream, any
/// datagrams, any streams, packets whose plaintext was changed. The node stays within bounds, and
/// serves a newcomer as soon as the peer is gone; unless it was told, as a member may, that a later
/// run of it is elsewhere, and has stepped aside.
///
/// # Panics
/// If a law is broken.
pub fn node_certified_peer(data: &[u8]) {
    let keys = &*KEYS;
    let mut world = World::new();
    world.start(NODES[0], &keys.alice[1]);
    let mallory = Peer::new(Some(&keys.mallory), &toy::provider(Seal::Broken));
    world.hosts.push(Host::Peer(Box::new(mallory)));
    greet(&mut world);
    assert!(world.peer(1).is_connected, "a certified peer is let in");
    let entropy = Entropy::new(data);
    while !entropy.is_spent() {
        attack(&mut world, &entropy);
        assert_bounded(&mut world, 0);
    }
    world.network = Box::new(perfect);
    world.hosts[1] = Host::Gone;
    // What it said last still arrives.
    world.run_for(10 * LATENCY);
    if world.has_stepped_aside(0) {
        world.prove_end(&[0]);
        return;
    }
    world.start(NEWCOMER, &keys.newcomer);
    world.prove_service(2, 0, FRESH);
    world.prove_end(&[0, 2]);
}

/// Somebody without a certificate of the fabric sends anything from anywhere, replays what was
/// sent, and calls with no certificate or with a foreign one. Nothing of it is noticed: no member
/// appears, no connection breaks, and the flow of two honest nodes goes on.
///
/// # Panics
/// If a law is broken.
pub fn node_unauthenticated(data: &[u8]) {
    let keys = &*KEYS;
    let mut world = World::new();
    world.start(NODES[0], &keys.alice[0]);
    world.start(NODES[1], &keys.bob[0]);
    let flow = world.prove_service(1, 0, FRESH);
    let entropy = Entropy::new(data);
    let leaf = entropy.byte().is_multiple_of(2).then_some(&keys.foreign);
    let stranger = Peer::new(leaf, &toy::provider(Seal::Checked));
    world.hosts.push(Host::Peer(Box::new(stranger)));
    let overheard = Rc::new(RefCell::new(Vec::new()));
    world.network = Box::new({
        let overheard = Rc::clone(&overheard);
        move |datagram: Datagram| {
            overheard.borrow_mut().push(datagram.clone());
            perfect(datagram)
        }
    });
    while !entropy.is_spent() {
        trespass(&mut world, &entropy, &overheard);
        assert_bounded(&mut world, 0);
        let members: Vec<_> = world.node(0).members().map(|member| member.name).collect();
        assert_eq!(members, [name(NODES[1])], "a stranger became a member");
    }
    world.prove_flow((1, flow.0), (0, flow.1));
    for index in [0, 1] {
        let counters = world.node(index).counters();
        assert_eq!(counters.connections_lost + counters.violations, 0);
    }
}

/// The bytes of an input, taken from the front by whoever decides something.
#[derive(Clone)]
struct Entropy(Rc<RefCell<Bytes>>);

impl Entropy {
    fn new(data: &[u8]) -> Self {
        let len = data.len().min(INPUT_MAX);
        Self(Rc::new(RefCell::new(Bytes::copy_from_slice(&data[..len]))))
    }

    fn is_spent(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The next byte, or zero.
    fn byte(&self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn number(&self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// The next bytes, as far as there are any.
    fn bytes(&self, len: usize) -> Bytes {
        let mut rest = self.0.borrow_mut();
        let len = len.min(rest.len());
        rest.split_to(len)
    }

    /// Bytes after a byte that says how many.
    fn string(&self) -> Bytes {
        self.bytes(usize::from(self.byte()))
    }

    /// A network that does what the bytes say, and is perfect when they are spent.
    fn network(&self) -> Network {
        let entropy = self.clone();
        let mut previous = BytesMut::new();
        Box::new(move |mut datagram| {
            let original = datagram.clone();
            let mut delay = LATENCY;
            match entropy.byte() {
                0..160 => {}
                160..176 => return Vec::new(),
                176..192 => {
                    let late = LATENCY * u32::from(entropy.byte());
                    return vec![(LATENCY, datagram), (late, original)];
                }
                192..208 => delay = LATENCY * u32::from(entropy.byte()),
                208..224 => spoil(&mut datagram.contents, entropy.number(), entropy.byte()),
                224..232 => {
                    let len = entropy.number() % (datagram.contents.len() + 1);
                    datagram.contents.truncate(len);
                }
                232..240 => {
                    let len = entropy.number() % (previous.len() + 1);
                    datagram.contents.extend_from_slice(&previous[..len]);
                }
                240..248 => datagram.from = address(entropy.byte().into()),
                248..=255 => {
                    let mut invented = original.clone();
                    invented.contents = BytesMut::from(&entropy.string()[..]);
                    return vec![(LATENCY, invented), (LATENCY, original)];
                }
            }
            previous = original.contents;
            vec![(delay, datagram)]
        })
    }
}

fn spoil(contents: &mut [u8], at: usize, mask: u8) {
    if !contents.is_empty() {
        contents[at % contents.len()] ^= mask.max(1);
    }
}

/// What the program on one node holds.
#[derive(Default)]
struct Program {
    dials: Vec<DialId>,
    flows: Vec<FlowId>,
}

impl Program {
    fn act(&mut self, world: &mut World, at: usize, entropy: &Entropy) {
        let node = world.node(at);
        match entropy.byte() % 16 {
            0..4 => world.run_for(LATENCY * u32::from(entropy.byte())),
            4 => world.run_for(Duration::from_secs(4)),
            5 | 6 => {
                let name = endpoint(entropy.byte());
                let _ =
                    node.open_endpoint(&name, usize::from(entropy.byte() % 4), Claiming::Exclusive);
            }
            7..9 => {
                let name = endpoint(entropy.byte());
                self.dials.push(node.dial(request(&name)));
            }
            9 => {
                if let Some(dial) = self.dials.pop() {
                    node.cancel_dial(dial);
                }
            }
            what => {
                let Some(&flow) = self.flows.last() else {
                    return;
                };
                match what {
                    10 | 11 => {
                        let body = Bytes::from(vec![7; entropy.number()]);
                        let copied = entropy.string();
                        let copied = &copied[..];
                        let _ = node.write(flow, Payload { copied, body });
                    }
                    12 => while let Ok(Some(_)) = node.read(flow) {},
                    13 => node.finish(flow),
                    14 => {
                        node.reset(flow, Code::User(1));
                        node.stop(flow, Code::User(2));
                    }
                    _ => {
                        self.flows.rotate_left(1);
                        node.release_sender(flow);
                        node.release_receiver(flow, Code::NoReader);
                    }
                }
            }
        }
    }

    /// Takes note of what the node told.
    fn follow(&mut self, world: &mut World, at: usize) {
        for event in world.take_told(at) {
            match event {
                Event::Incoming { endpoint } => {
                    let node = world.node(at);
                    let Some(incoming) = node.take_incoming(endpoint) else {
                        continue;
                    };
                    let accepts = self.flows.len() < 8;
                    let answer = if accepts {
                        ACCEPTED
                    } else {
                        FlowAnswer::Refused(Refusal {
                            reason: RefusalReason::Declined,
                            code: None,
                            detail: String::new(),
                        })
                    };
                    if node.answer(incoming.id, answer)
                        && accepts
                        && let Origin::Remote { flow, .. } = incoming.origin
                    {
                        self.flows.push(flow);
                    }
                }
                Event::Dialled {
                    result: Ok(grinta_proto::node::Dialled::Remote { flow, .. }),
                    ..
                } => self.flows.push(flow),
                _ => {}
            }
        }
    }
}

/// Has the peer at 1 call the node at 0 and say who it is. It gets through, unless its packets are
/// spoiled.
fn greet(world: &mut World) {
    let now = world.now;
    world.peer(1).call(now, address(0));
    world.run_for(10 * LATENCY);
    let now = world.now;
    let mut hello = BytesMut::new();
    own_hello().encode(&mut hello);
    world.peer(1).open(now);
    world.peer(1).write(now, 0, &hello);
    world.run_for(5 * LATENCY);
}

/// Does one of the things that a certified peer can do.
#[expect(clippy::too_many_lines, reason = "an arm for each of them")]
fn attack(world: &mut World, entropy: &Entropy) {
    let now = world.now;
    let what = entropy.byte();
    match what % 16 {
        0 => world.run_for(LATENCY * u32::from(entropy.byte())),
        1 => world.run_for(100 * LATENCY * u32::from(entropy.byte() % 64)),
        2 | 3 => {
            let mut frame = BytesMut::new();
            let bytes = entropy.string();
            encode_length(bytes.len(), &mut frame);
            frame.extend_from_slice(&bytes);
            world.peer(1).write(now, 0, &frame);
        }
        4 => world.peer(1).write(now, 0, &entropy.string()),
        5 | 6 => {
            let Ok(message) = speech::message(&mut Unstructured::new(&entropy.string())) else {
                return;
            };
            let mut encoded = BytesMut::new();
            message.encode(&mut encoded);
            if what & 0x80 == 0 {
                let mut frame = BytesMut::new();
                encode_length(encoded.len(), &mut frame);
                frame.extend_from_slice(&encoded);
                world.peer(1).write(now, 0, &frame);
            } else {
                world.peer(1).send_datagram(now, &encoded);
            }
        }
        7 => world.peer(1).send_datagram(now, &entropy.string()),
        8 => {
            world.peer(1).open(now);
            world.peer(1).write(now, usize::MAX, &entropy.string());
        }
        9 => {
            let mut frame = BytesMut::new();
            request(&endpoint(entropy.byte())).open.encode(&mut frame);
            frame.extend_from_slice(&entropy.string());
            world.peer(1).open(now);
            let last = entropy.byte().into();
            world.peer(1).write(now, last, &frame);
        }
        10 => {
            let which = entropy.byte().into();
            world.peer(1).write(now, which, &entropy.string());
        }
        11 => world.peer(1).finish(now, entropy.byte().into()),
        12 => match what >> 4 & 3 {
            0 => world
                .peer(1)
                .reset(now, entropy.byte().into(), entropy.byte().into()),
            1 => world
                .peer(1)
                .stop(now, entropy.byte().into(), entropy.byte().into()),
            2 => world.peer(1).read(now, entropy.byte().into()),
            _ => world.peer(1).accept(now),
        },
        13 => {
            world.peer(1).close(now, entropy.byte().into());
            world.run_for(LATENCY);
            greet(world);
        }
        14 => {
            let name = endpoint(entropy.byte());
            let _ = world.node(0).open_endpoint(&name, 4, Claiming::Exclusive);
        }
        _ => {
            // Its next packets are not what it wrote.
            let (at, mask, count) = (entropy.number(), entropy.byte(), entropy.byte());
            let mut left = count % 4 + 1;
            world.network = Box::new(move |mut datagram| {
                if datagram.from == address(1) && left > 0 {
                    left -= 1;
                    spoil(&mut datagram.contents, at, mask);
                }
                perfect(datagram)
            });
        }
    }
}

/// Does one of the things that a stranger can do.
fn trespass(world: &mut World, entropy: &Entropy, overheard: &RefCell<Vec<Datagram>>) {
    let now = world.now;
    let what = entropy.byte();
    let victim = address(usize::from(what >> 7));
    match what % 8 {
        0 => world.run_for(LATENCY * u32::from(entropy.byte())),
        1 => {
            let contents = BytesMut::from(&entropy.string()[..]);
            let from = address(usize::from(entropy.byte() % 8));
            let datagram = Datagram {
                from,
                to: victim,
                contents,
            };
            world.throw(datagram, LATENCY);
        }
        2 => {
            // As long as the first packet of a handshake has to be.
            let mut contents = BytesMut::from(&entropy.string()[..]);
            contents.resize(1200, entropy.byte());
            let datagram = Datagram {
                from: address(2),
                to: victim,
                contents,
            };
            world.throw(datagram, LATENCY);
        }
        3 | 4 => {
            let which = entropy.number() % overheard.borrow().len().max(1);
            let datagram = overheard.borrow().get(which).cloned();
            if let Some(mut datagram) = datagram {
                if what % 8 == 4 {
                    spoil(&mut datagram.contents, entropy.number(), entropy.byte());
                }
                if what & 0x40 != 0 {
                    datagram.from = address(usize::from(entropy.byte() % 8));
                }
                world.throw(datagram, LATENCY);
            }
        }
        5 => world.peer(2).call(now, victim),
        6 => {
            world.peer(2).open(now);
            let mut hello = BytesMut::new();
            Hello {
                node: name(NODES[1]),
                ..own_hello()
            }
            .encode(&mut hello);
            world.peer(2).write(now, usize::MAX, &hello);
            world.peer(2).write(now, usize::MAX, &entropy.string());
        }
        _ => world.peer(2).send_datagram(now, &entropy.string()),
    }
}

/// Whatever arrives, a node's next deadline is there and its member table is bounded.
fn assert_bounded(world: &mut World, index: usize) {
    let rests = world.has_stepped_aside(index);
    let node = world.node(index);
    assert!(
        rests || node.poll_timeout().is_some(),
        "a node that takes part has a next round"
    );
    assert!(
        node.members().count() <= 2 * INPUT_MAX,
        "members without end"
    );
}

fn own_hello() -> Hello {
    Hello {
        protocol: 1,
        fabric: FabricName::default(),
        node: name(NODES[2]),
        session: Session(SESSION),
        address: address(1),
    }
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("it is a name")
}

fn endpoint(number: u8) -> EndpointName {
    EndpointName::new(format!("name-{}", number % 4)).expect("it is a name")
}

/// Certificates take longer to make than a target to run.
struct Keys {
    /// With either seal.
    alice: [Credentials; 2],
    bob: [Credentials; 2],
    newcomer: Credentials,
    mallory: Leaf,
    foreign: Leaf,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let ca = Ca::new(1);
    let with_seals = |name| {
        let leaf = ca.issue(name, Validity::Good);
        [Seal::Checked, Seal::Broken].map(|seal| {
            ca.credentials(&leaf, &[])
                .with_crypto_provider(toy::provider(seal))
                .expect("the provider is as good as ring's")
        })
    };
    let [_, newcomer] = with_seals(NEWCOMER);
    Keys {
        alice: with_seals(NODES[0]),
        bob: with_seals(NODES[1]),
        newcomer,
        mallory: ca.issue(NODES[2], Validity::Good),
        foreign: Ca::new(9).issue(NODES[1], Validity::Good),
    }
});

/// A node and a name that no message is about, as nobody knows them before they appear.
const NEWCOMER: &str = "newcomer-5ce1b0";
const FRESH: &str = "fresh-83fa27";
const INPUT_MAX: usize = 4096;

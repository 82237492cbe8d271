//! Attackers: hosts of their own in the world, which do to a node what no node does.
//!
//! Each attack goes on for as long as its fault lasts. What it may not bring about is looked at as it
//! goes on; what is checked of the honest nodes besides holds with attackers as without.

mod nonsense;
mod peer;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use grinta_proto::wire::stream::Hello;
use grinta_proto::{Credentials, NodeName, Session};

use self::peer::Peer;
use super::Stage;
use super::futures::{Signal, either};
use crate::crypto::{self, Entropy};
use crate::draw::{Draw, Purpose};
use crate::host::Host;
use crate::io::Port;
use crate::oracle::name_of;
use crate::pki::{Ca, Leaf, Validity};
use crate::plan::{Action, Attack, Fault, NodeId, Weather};
use crate::verdict::Invariant;

/// The CA of all honest nodes of the full tier, and of those attackers that are certified; and the
/// one that nobody trusts.
pub(super) struct Trust {
    ours: Ca,
    foreign: Ca,
}

/// An attacker at work.
struct Attacker {
    stage: Rc<Stage>,
    host: Host,
    target: NodeId,
    /// Numbers its draws.
    subject: u64,
    entropy: Entropy,
    port: Port,
}

impl Trust {
    pub(super) fn new() -> Self {
        Self {
            ours: Ca::new(1),
            foreign: Ca::new(2),
        }
    }

    /// What an honest node goes by.
    pub(super) fn credentials(&self, node: &str) -> Credentials {
        let leaf = self.ours.issue(node, Validity::Good);
        self.ours.credentials(&leaf, &[])
    }
}

impl Stage {
    /// Begins an attack; the signal ends it.
    pub(super) fn attack(
        self: &Rc<Self>,
        number: usize,
        target: NodeId,
        attack: Attack,
    ) -> Rc<Signal> {
        let stop = Rc::new(Signal::default());
        // Never the first to name a host: those of nodes come first.
        let host = self.hosts[0].another(&format!("x{number}"));
        if attack == Attack::ForeignCa {
            self.run_foreigner(&host, target, &stop);
            return stop;
        }
        let subject = number as u64;
        let attacker = Attacker {
            stage: Rc::clone(self),
            target,
            subject,
            entropy: Entropy::new(self.draws, 1 << 32 | subject, 1),
            port: host.open_port(),
            host: host.clone(),
        };
        let until = Rc::clone(&stop);
        host.spawn("attacker", async move {
            either(attacker.run(attack), until.given()).await;
        });
        stop
    }

    /// A whole node that trusts everybody, and is certified by nobody that others trust.
    fn run_foreigner(self: &Rc<Self>, host: &Host, target: NodeId, stop: &Rc<Signal>) {
        let name = host.name();
        let leaf = self.trust.foreign.issue(&name, Validity::Good);
        let credentials = self.trust.foreign.credentials(&leaf, &[&self.trust.ours]);
        let address = self.with_node(target, |node| node.address);
        let builder = host
            .builder()
            .credentials(credentials)
            .neighbour(address.to_string());
        let (node, stage, until) = (host.clone(), Rc::clone(self), Rc::clone(stop));
        host.spawn("foreigner", async move {
            let Ok(fabric) = node.start(builder).await else {
                return;
            };
            let joins = async {
                while fabric.join().await.is_err() {
                    node.tell("is refused with a foreign CA's certificate");
                    node.sleep(Duration::from_millis(500)).await;
                }
                let what = format!("{} joins with a certificate of a foreign CA", node.name());
                stage.fail(Invariant::S1, what);
            };
            either(joins, until.given()).await;
            fabric.shutdown().await;
        });
    }
}

impl Attacker {
    async fn run(mut self, attack: Attack) {
        match attack {
            Attack::NoCertificate => self.knock(None).await,
            Attack::Expired => {
                let leaf = self
                    .stage
                    .trust
                    .ours
                    .issue(&self.host.name(), Validity::Expired);
                self.knock(Some(leaf)).await;
            }
            Attack::Liar => self.lie().await,
            Attack::Frames => self.babble().await,
            Attack::Replay => self.replay().await,
            Attack::Amplify => self.amplify().await,
            Attack::SlowLoris => self.begin_and_wait().await,
            // A whole node.
            Attack::ForeignCa => {}
        }
    }

    fn address_of_target(&self) -> SocketAddr {
        self.stage.with_node(self.target, |node| node.address)
    }

    fn peer(&mut self, leaf: Option<&Leaf>) -> Peer {
        let seed = self.subject + 1;
        self.entropy
            .lend(|| Peer::new(leaf, &crypto::provider(), seed))
    }

    /// Lets a peer take in what came and send what it has, for a while.
    async fn carry(&mut self, peer: &mut Peer, time: Duration) {
        let end = self.host.now() + time;
        while self.host.now() < end {
            self.host.sleep(STEP).await;
            let now = self.host.instant();
            let (port, outgoing) = (&self.port, &mut Vec::new());
            self.entropy.lend(|| {
                while let Some((from, datagram)) = port.receive() {
                    peer.handle(now, from, &datagram);
                }
                *outgoing = peer.turn(now);
            });
            for (to, datagram) in outgoing.drain(..) {
                self.port.send(None, to, &datagram);
            }
        }
    }

    fn call(&mut self, peer: &mut Peer) {
        let (now, to) = (self.host.instant(), self.address_of_target());
        self.entropy.lend(|| peer.call(now, to));
    }

    /// Connects with a certificate that does not do, or none, and greets.
    async fn knock(&mut self, leaf: Option<Leaf>) {
        let name = self.host.name();
        let mut peer = self.peer(leaf.as_ref());
        loop {
            self.call(&mut peer);
            self.carry(&mut peer, Duration::from_millis(100)).await;
            peer.say(&self.hello(&name));
            self.carry(&mut peer, Duration::from_millis(900)).await;
            self.tell(peer.is_connected, "without a good certificate");
            let is_calm = self.stage.oracle.borrow().is_calm(self.host.now());
            if peer.is_connected && is_calm {
                let what = format!("{name} stays connected, and has no certificate that is good");
                self.stage.fail(Invariant::S1, what);
                return;
            }
        }
    }

    /// Connects with a good certificate, and says that it is somebody else.
    async fn lie(&mut self) {
        let leaf = self
            .stage
            .trust
            .ours
            .issue(&self.host.name(), Validity::Good);
        let mut peer = self.peer(Some(&leaf));
        for turn in 0.. {
            let nodes: Vec<_> = self.stage.plan.node_ids().collect();
            let claimed = self
                .draw(turn, 0)
                .pick(&nodes)
                .copied()
                .unwrap_or(NodeId(0));
            let refused = |attacker: &Self| {
                let fabric = attacker.stage.fabric(attacker.target);
                fabric.map(|fabric| fabric.counters().connections_refused)
            };
            let before = refused(self);
            self.call(&mut peer);
            self.carry(&mut peer, Duration::from_millis(200)).await;
            let was_connected = peer.is_connected;
            peer.say(&self.hello(name_of(claimed).as_str()));
            self.carry(&mut peer, Duration::from_millis(800)).await;
            if was_connected {
                self.tell(peer.is_connected, "under another's name");
            }
            let is_calm = self.stage.oracle.borrow().is_calm(self.host.now());
            if !was_connected || !is_calm {
                continue;
            }
            if peer.is_connected {
                let what = format!(
                    "{} stays connected under the name of {claimed}",
                    self.host.name()
                );
                self.stage.fail(Invariant::S3, what);
                return;
            }
            if let (Some(before), Some(after)) = (before, refused(self))
                && after == before
            {
                let what = format!("{} does not count a liar that it refused", self.target);
                self.stage.fail(Invariant::S3, what);
                return;
            }
        }
    }

    /// Connects with a good certificate, greets as it should, and then sends what no node sends.
    async fn babble(&mut self) {
        let name = self.host.name();
        let leaf = self.stage.trust.ours.issue(&name, Validity::Good);
        let mut peer = self.peer(Some(&leaf));
        for turn in 0.. {
            let lost = peer.lost;
            self.call(&mut peer);
            self.carry(&mut peer, Duration::from_millis(200)).await;
            peer.say(&self.hello(&name));
            self.carry(&mut peer, Duration::from_millis(200)).await;
            let was_connected = peer.is_connected;
            let frame = self.nonsense(turn);
            peer.say(&frame);
            peer.send_datagram(&self.bytes(turn, 60));
            self.carry(&mut peer, Duration::from_millis(600)).await;
            if was_connected {
                self.tell(peer.lost == lost, "with nonsense");
            }
            let is_calm = self.stage.oracle.borrow().is_calm(self.host.now());
            if was_connected && is_calm && peer.lost == lost {
                let what = format!(
                    "{} stays connected with {name}, which sends nonsense",
                    self.target
                );
                self.stage.fail(Invariant::S5, what);
                return;
            }
        }
    }

    /// Sends again what the node was sent, from here and in the sender's name.
    async fn replay(&mut self) {
        self.host.world.tap();
        for turn in 0.. {
            self.host.sleep(Duration::from_millis(50)).await;
            let to = self.address_of_target();
            let tapped = self.host.world.tapped(to);
            if let Some((from, datagram)) = self.draw(turn, 0).pick(&tapped) {
                let spoofed = self.draw(turn, 1).chance(500_000).then_some(*from);
                self.port.send(spoofed, to, datagram);
                self.host.tell("sends what was sent before");
            }
        }
    }

    /// Sends first packets in the name of a host that never sent any, and counts the answers.
    async fn amplify(&mut self) {
        let victim = self
            .host
            .another(&format!("{}-victim", self.host.name()))
            .open_port();
        let (mut sent, mut received) = (0, 0);
        for turn in 0.. {
            for (to, datagram) in self.first_packets() {
                sent += datagram.len();
                self.port.send(Some(victim.address()), to, &datagram);
            }
            self.host.sleep(Duration::from_millis(200)).await;
            while let Some((_, datagram)) = victim.receive() {
                received += datagram.len();
            }
            if received > 0 {
                self.host.tell("has its victim answered");
            }
            if received > 3 * sent && !self.is_copied() {
                let what = format!(
                    "{} sends {received} bytes to an address that sent {sent}, after {turn} turns",
                    self.target
                );
                self.stage.fail(Invariant::R5, what);
                return;
            }
        }
    }

    /// What begins a handshake, from a client of its own each time.
    fn first_packets(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.subject += 1 << 20;
        let mut peer = self.peer(None);
        self.call(&mut peer);
        let now = self.host.instant();
        self.entropy.lend(|| peer.turn(now))
    }

    /// Whether the network makes more of what is sent, so that counts say nothing.
    fn is_copied(&self) -> bool {
        let steps = &self.stage.plan.steps;
        steps.iter().any(|step| {
            matches!(
                &step.action,
                Action::Disturb {
                    fault: Fault::Duplicate(_) | Fault::Weather(Weather::Replay(..)),
                    ..
                }
            )
        })
    }

    /// Begins handshakes, and never goes on with one.
    async fn begin_and_wait(&mut self) {
        loop {
            for (to, datagram) in self.first_packets() {
                self.port.send(None, to, &datagram);
            }
            self.host.tell("begins a handshake");
            self.host.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts into the history how a connection fares.
    fn tell(&self, is_connected: bool, how: &str) {
        let fate = if is_connected {
            "is let in"
        } else {
            "is refused"
        };
        self.host.tell(&format!("{fate} {how}"));
    }

    fn draw(&self, turn: u64, part: u64) -> Draw {
        self.stage
            .draws
            .draw(Purpose::Attack, self.subject, part, turn)
    }

    fn bytes(&self, turn: u64, length: u64) -> Vec<u8> {
        let byte = |at| self.draw(turn, 100 + at).word().to_le_bytes()[0];
        (0..length).map(byte).collect()
    }

    /// The greeting of a node of this name, as a frame.
    fn hello(&self, name: &str) -> Vec<u8> {
        let mut body = BytesMut::new();
        let hello = Hello {
            protocol: 1,
            fabric: grinta_proto::FabricName::default(),
            node: NodeName::new(name).expect("a letter and digits"),
            session: Session(1),
            address: self.port.address(),
        };
        hello.encode(&mut body);
        body.to_vec()
    }
}

/// How often an attacker looks at what came.
const STEP: Duration = Duration::from_millis(5);

//! What all parts of one simulation share: clock, queue, network, sockets, tasks, history.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use grinta_proto::DevelopmentCa;

use crate::clock::Clock;
use crate::draw::Draws;
use crate::executor::{Executor, TaskId};
use crate::history::History;
use crate::host::{Factory, Host};
use crate::marks::sometimes;
use crate::network::{HostId, Network, Ticket};
use crate::plan::NodeId;
use crate::queue::Queue;
use crate::scene::{Happening, nanos};

/// The shared state. Single-threaded; no borrow is held while foreign code runs.
pub(crate) struct World {
    pub(crate) draws: Draws,
    /// What the clock shows at the simulation's start. The only real instant, and never compared
    /// with anything but times derived from it.
    pub(crate) epoch: Instant,
    pub(crate) now: Cell<Duration>,
    pub(crate) queue: RefCell<Queue<Event>>,
    pub(crate) executor: Executor,
    pub(crate) network: RefCell<Network>,
    pub(crate) history: RefCell<History>,
    pub(crate) ca: DevelopmentCa,
    pub(crate) hosts: RefCell<Vec<HostState>>,
    sockets: RefCell<BTreeMap<SocketAddr, Socket>>,
    sockets_bound: Cell<u64>,
    /// What the sockets' addresses are translated to on the way out.
    translations: RefCell<BTreeMap<SocketAddr, SocketAddr>>,
    /// What waits on jammed links.
    jammed: RefCell<Vec<Datagram>>,
    /// What was sent last, if somebody taps the network.
    tap: RefCell<Option<VecDeque<Datagram>>>,
    /// A socket whose timer was due again and again at one moment.
    restless: Cell<Option<SocketAddr>>,
    /// What was beyond its limit at the end of a driver's turn, if anything was.
    over_limit: RefCell<Option<String>>,
}

/// What can happen without a task's doing.
pub(crate) enum Event {
    Arrive(Datagram, Ticket),
    /// A socket's timer is due, unless it was set anew since.
    Timer {
        socket: SocketAddr,
        setting: u64,
    },
    Wake(Waker),
    /// A slow host has done what it was at.
    Done(HostId),
}

/// One UDP datagram.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Option<u8>,
    pub(crate) payload: Rc<[u8]>,
}

/// A machine: its programs, and its clock.
pub(crate) struct HostState {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    /// What its wall clock would have shown at the start of the simulation.
    pub(crate) unix_epoch: Duration,
    pub(crate) clock: Clock,
    /// How often it was started.
    pub(crate) runs: u64,
    pub(crate) nodes_started: u64,
    pub(crate) application: Option<Factory>,
    pub(crate) is_paused: bool,
    /// How many of a million sends its sockets refuse.
    pub(crate) refusals: u32,
    /// How many datagrams it sent, in bytes of payload.
    pub(crate) bytes_sent: u64,
}

/// A bound UDP socket, and the timer of the task that polls it.
#[derive(Debug)]
struct Socket {
    host: HostId,
    inbox: VecDeque<Datagram>,
    inbox_bytes: usize,
    reader: Option<Waker>,
    timer: Timer,
}

#[derive(Debug, Default)]
struct Timer {
    deadline: Option<Duration>,
    setting: u64,
    waker: Option<Waker>,
    /// Since when it was due again and again, and how often.
    busy: (Duration, u32),
}

/// What a record in the history is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Send = 1,
    Arrive,
    Timer,
    Start,
    Crash,
    Pause,
    Resume,
    Note,
    Evict,
}

impl World {
    pub(crate) fn new(
        draws: Draws,
        epoch: Instant,
        executor: Executor,
        ca: DevelopmentCa,
    ) -> Rc<Self> {
        Rc::new(Self {
            draws,
            epoch,
            now: Cell::new(Duration::ZERO),
            queue: RefCell::new(Queue::new()),
            executor,
            network: RefCell::new(Network::new(draws)),
            history: RefCell::new(History::new()),
            ca,
            hosts: RefCell::default(),
            sockets: RefCell::default(),
            sockets_bound: Cell::new(0),
            translations: RefCell::default(),
            jammed: RefCell::default(),
            tap: RefCell::default(),
            restless: Cell::new(None),
            over_limit: RefCell::default(),
        })
    }

    pub(crate) fn plan(&self, at: Duration, event: Event) {
        self.queue.borrow_mut().plan(at.max(self.now.get()), event);
    }

    /// Puts something into the history.
    pub(crate) fn record(
        &self,
        kind: Kind,
        subjects: [u64; 2],
        contents: &[u8],
        line: impl FnOnce() -> String,
    ) {
        let mut history = self.history.borrow_mut();
        // How often tasks were polled tells runs apart that look alike on the network.
        let kind = self.executor.polls() << 8 | kind as u64;
        history.record(self.now.get(), kind, subjects, contents, line);
    }

    pub(crate) fn handle(&self, event: Event) {
        match event {
            Event::Arrive(_, ticket) if self.network.borrow().is_evicted(ticket) => {
                self.record(Kind::Evict, [0, 0], &[], || "one is evicted".to_owned());
            }
            Event::Arrive(datagram, _) => self.arrive(datagram),
            Event::Timer { socket, setting } => {
                let mut sockets = self.sockets.borrow_mut();
                let waker = sockets
                    .get_mut(&socket)
                    .filter(|found| found.timer.setting == setting)
                    .and_then(|found| found.timer.waker.take());
                drop(sockets);
                if let Some(waker) = waker {
                    self.record(Kind::Timer, [word(socket), 0], &[], || {
                        format!("{socket} timer")
                    });
                    waker.wake();
                }
            }
            Event::Wake(waker) => waker.wake(),
            Event::Done(host) => self.executor.resume(host),
        }
    }

    /// Lets a task take its turn. That of a slow host is then busy for a while.
    pub(crate) fn poll(&self, task: TaskId) {
        let host = self.executor.poll(task);
        if let Some(host) = host
            && let Some(busy) = self.executor.busy_after_turn(host)
        {
            self.executor.pause(host);
            self.plan(self.now.get() + busy, Event::Done(host));
        }
    }

    // Machines.

    /// The machine with this name; a new one if there is none.
    pub(crate) fn host(self: &Rc<Self>, name: &str) -> Host {
        let mut hosts = self.hosts.borrow_mut();
        let index = hosts.iter().position(|host| host.name == name);
        let index = index.unwrap_or_else(|| {
            let octets = u32::try_from(hosts.len() + 1).expect("fewer hosts than addresses");
            hosts.push(HostState {
                name: name.to_owned(),
                ip: IpAddr::from(Ipv4Addr::from_bits(FIRST_ADDRESS + octets)),
                unix_epoch: UNIX_EPOCH,
                clock: Clock::default(),
                runs: 0,
                nodes_started: 0,
                application: None,
                is_paused: false,
                refusals: 0,
                bytes_sent: 0,
            });
            hosts.len() - 1
        });
        let id = HostId(u32::try_from(index).expect("fewer hosts than addresses"));
        Host::new(Rc::clone(self), id)
    }

    pub(crate) fn with_host<T>(&self, id: HostId, work: impl FnOnce(&mut HostState) -> T) -> T {
        let mut hosts = self.hosts.borrow_mut();
        let index = usize::try_from(id.0).expect("an index");
        work(hosts.get_mut(index).expect("ids are given to hosts only"))
    }

    /// The addresses of `host:port`, as the system's resolver would find them.
    pub(crate) fn resolve(&self, place: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = place.parse() {
            return Ok(vec![address]);
        }
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such host is simulated");
        let (name, port) = place.rsplit_once(':').ok_or_else(unknown)?;
        let port = port.parse().map_err(|_| unknown())?;
        let hosts = self.hosts.borrow();
        let found = hosts.iter().find(|host| host.name == name);
        Ok(vec![SocketAddr::new(found.ok_or_else(unknown)?.ip, port)])
    }

    // Sockets.

    /// Binds a socket of `host`; a port of zero stands for any that is free.
    pub(crate) fn bind(&self, host: HostId, mut address: SocketAddr) -> io::Result<SocketAddr> {
        let mut sockets = self.sockets.borrow_mut();
        if address.port() == 0 {
            let is_free = |port: &u16| !sockets.contains_key(&SocketAddr::new(address.ip(), *port));
            let port = (FIRST_PORT..).find(is_free);
            address.set_port(port.ok_or(io::ErrorKind::AddrInUse)?);
        } else if sockets.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let socket = Socket {
            host,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            reader: None,
            timer: Timer {
                // Timers of an earlier socket at this address are none of this one's.
                setting: self.sockets_bound.get() << 40,
                ..Timer::default()
            },
        };
        self.sockets_bound.set(self.sockets_bound.get() + 1);
        sockets.insert(address, socket);
        Ok(address)
    }

    pub(crate) fn unbind(&self, address: SocketAddr) {
        self.sockets.borrow_mut().remove(&address);
    }

    /// Begins to remember what is sent.
    pub(crate) fn tap(&self) {
        self.tap.borrow_mut().get_or_insert_default();
    }

    /// What was sent to an address of late, and from where.
    pub(crate) fn tapped(&self, to: SocketAddr) -> Vec<(SocketAddr, Rc<[u8]>)> {
        let tap = self.tap.borrow();
        let datagrams = tap.iter().flatten().filter(|datagram| datagram.to == to);
        let parts = |datagram: &Datagram| (datagram.from, Rc::clone(&datagram.payload));
        datagrams.map(parts).collect()
    }

    /// A socket whose timer was due again and again at one moment, if there was one.
    pub(crate) const fn restless(&self) -> Option<SocketAddr> {
        self.restless.get()
    }

    pub(crate) fn tell_over_limit(&self, what: String) {
        self.over_limit.borrow_mut().get_or_insert(what);
    }

    /// What was beyond its limit at the end of a driver's turn, if anything was.
    pub(crate) fn over_limit(&self) -> Option<String> {
        self.over_limit.borrow().clone()
    }

    /// How many sockets are bound.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.borrow().len()
    }

    /// From here on others see a socket at another address; `None` for its own.
    pub(crate) fn translate(&self, address: SocketAddr, outer: Option<SocketAddr>) {
        let mut translations = self.translations.borrow_mut();
        match outer {
            Some(outer) => translations.insert(address, outer),
            None => translations.remove(&address),
        };
    }

    /// The socket's own address that others see at this one, if there is one.
    fn inner(&self, address: SocketAddr) -> Option<SocketAddr> {
        let translations = self.translations.borrow();
        let translated = translations.iter().find(|(_, outer)| **outer == address);
        match translated {
            Some((&inner, _)) => Some(inner),
            None => (!translations.contains_key(&address)).then_some(address),
        }
    }

    /// Sends a datagram from a socket.
    pub(crate) fn send(&self, mut datagram: Datagram) {
        let from = datagram.from;
        if let Some(&outer) = self.translations.borrow().get(&from) {
            datagram.from = outer;
        }
        let host = self.sockets.borrow().get(&from).map(|socket| socket.host);
        if let Some(host) = host {
            let length = datagram.payload.len() as u64;
            self.with_host(host, |host| host.bytes_sent += length);
        }
        if let Some(tap) = &mut *self.tap.borrow_mut() {
            tap.push_back(datagram.clone());
            if tap.len() > TAPPED_MAX {
                tap.pop_front();
            }
        }
        self.send_from(host, datagram);
    }

    /// Puts a datagram on the network of a host, whatever address it says that it comes from.
    pub(crate) fn send_from(&self, host: Option<HostId>, datagram: Datagram) {
        let Datagram { from, to, ecn, .. } = datagram;
        let length = datagram.payload.len();
        let destination = self.inner(to).and_then(|inner| {
            let sockets = self.sockets.borrow();
            sockets.get(&inner).map(|socket| socket.host)
        });
        let mut network = self.network.borrow_mut();
        let mut is_jammed = false;
        let arrivals = match (host, destination) {
            (Some(source), Some(destination)) => {
                is_jammed = network.is_jammed(source, destination);
                if is_jammed {
                    Vec::new()
                } else {
                    let now = self.now.get();
                    network.carry(now, source, destination, &datagram.payload, ecn)
                }
            }
            (None, _) | (_, None) => Vec::new(),
        };
        drop(network);
        self.record(
            Kind::Send,
            [word(from), word(to)],
            &datagram.payload,
            || {
                let fate = match (is_jammed, arrivals.is_empty()) {
                    (true, _) => " held",
                    (false, true) => " lost",
                    (false, false) => "",
                };
                format!("{from} > {to} {length} bytes{fate}")
            },
        );
        // Nothing may listen there: it is lost on the way to a host all the same.
        if let (Some(from), Some(to)) = (host, destination.or_else(|| self.host_at(to.ip()))) {
            let arrives = arrivals.first().map(|arrival| nanos(arrival.at));
            let mut history = self.history.borrow_mut();
            history.scenes.tell(self.now.get(), || Happening::Packet {
                from: NodeId(from.0),
                to: NodeId(to.0),
                bytes: length,
                arrives_ns: arrives,
            });
        }
        if is_jammed {
            let mut jammed = self.jammed.borrow_mut();
            if jammed.len() < JAMMED_MAX {
                jammed.push(datagram);
            }
            return;
        }
        for arrival in arrivals {
            let arriving = Datagram {
                from,
                to,
                ecn: arrival.ecn,
                payload: arrival.payload,
            };
            self.plan(arrival.at, Event::Arrive(arriving, arrival.ticket));
        }
    }

    fn host_at(&self, ip: IpAddr) -> Option<HostId> {
        let index = self.hosts.borrow().iter().position(|host| host.ip == ip)?;
        u32::try_from(index).ok().map(HostId)
    }

    /// Sends what waits on links that are not jammed any more.
    pub(crate) fn release_jammed(&self) {
        for datagram in self.jammed.take() {
            sometimes!(true, Unjammed);
            let source = self.inner(datagram.from);
            let host = source.and_then(|source| {
                let sockets = self.sockets.borrow();
                sockets.get(&source).map(|socket| socket.host)
            });
            self.send_from(host, datagram);
        }
    }

    /// From here on a host's clocks gain so many of a million, or lose them.
    pub(crate) fn drift(&self, host: HostId, ppm: i32) {
        self.with_host(host, |state| state.clock.drift(self.now.get(), ppm));
        // What waits until a time has to wait until another.
        let mut sockets = self.sockets.borrow_mut();
        let of_host = sockets.values_mut().filter(|socket| socket.host == host);
        let woken: Vec<_> = of_host
            .filter_map(|socket| {
                socket.timer.deadline = None;
                socket.timer.waker.take()
            })
            .collect();
        drop(sockets);
        woken.into_iter().for_each(Waker::wake);
    }

    fn arrive(&self, datagram: Datagram) {
        let Datagram { from, to, .. } = datagram;
        let Some(inner) = self.inner(to) else {
            return;
        };
        let mut sockets = self.sockets.borrow_mut();
        let Some(socket) = sockets.get_mut(&inner) else {
            return;
        };
        let length = datagram.payload.len();
        if socket.inbox_bytes + length > INBOX_BYTES_MAX {
            return;
        }
        socket.inbox_bytes += length;
        socket.inbox.push_back(datagram);
        let reader = socket.reader.take();
        drop(sockets);
        self.record(Kind::Arrive, [word(from), word(to)], &[], || {
            format!("{from} > {to} {length} bytes arrive")
        });
        if let Some(waker) = reader {
            waker.wake();
        }
    }

    /// The next datagram that has arrived at a socket, or a wake when there is one.
    pub(crate) fn receive(&self, address: SocketAddr, waker: &Waker) -> Option<Datagram> {
        let mut sockets = self.sockets.borrow_mut();
        let socket = sockets.get_mut(&address)?;
        let datagram = socket.inbox.pop_front();
        match &datagram {
            Some(datagram) => socket.inbox_bytes -= datagram.payload.len(),
            None => socket.reader = Some(waker.clone()),
        }
        datagram
    }

    /// Whether a socket's deadline has passed; else its task is woken when it has.
    pub(crate) fn is_due(
        &self,
        address: SocketAddr,
        deadline: Option<Duration>,
        waker: &Waker,
    ) -> bool {
        let mut sockets = self.sockets.borrow_mut();
        let Some(socket) = sockets.get_mut(&address) else {
            return false;
        };
        let timer = &mut socket.timer;
        let local = self.with_host(socket.host, |host| host.clock.shows(self.now.get()));
        if deadline.is_some_and(|deadline| deadline <= local) {
            timer.deadline = None;
            timer.waker = None;
            let (since, times) = &mut timer.busy;
            if self.now.get() - *since > MOMENT {
                (*since, *times) = (self.now.get(), 0);
            }
            *times += 1;
            if *times > TURNS_PER_MOMENT_MAX {
                self.restless.set(Some(address));
            }
            return true;
        }
        timer.waker = deadline.map(|_| waker.clone());
        if timer.deadline != deadline {
            timer.deadline = deadline;
            timer.setting += 1;
            let setting = timer.setting;
            if let Some(deadline) = deadline {
                self.plan(
                    self.with_host(socket.host, |host| host.clock.when(deadline)),
                    Event::Timer {
                        socket: address,
                        setting,
                    },
                );
            }
        }
        false
    }
}

/// A socket's address as a word for the history.
fn word(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => u64::try_from(ip.to_bits() & u128::from(u32::MAX)).unwrap_or(0),
    };
    ip << 16 | u64::from(address.port())
}

/// What the wall clocks show at the start: a second in 2027.
pub(crate) const UNIX_EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// Hosts get the addresses after 10.0.0.0.
const FIRST_ADDRESS: u32 = 0x0a00_0000;

/// The first free port of a host.
const FIRST_PORT: u16 = 7400;

/// What a socket holds for a task that does not read; the rest is lost, as in a kernel's buffer.
const INBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Datagrams that wait on jammed links; further ones are lost.
const JAMMED_MAX: usize = 20_000;

/// Datagrams that are remembered of those that were sent last.
const TAPPED_MAX: usize = 200;

/// What counts as one moment to a timer.
const MOMENT: Duration = Duration::from_micros(100);

/// Times that a timer is due in one moment after which its work is held to be unbounded.
const TURNS_PER_MOMENT_MAX: u32 = 1000;

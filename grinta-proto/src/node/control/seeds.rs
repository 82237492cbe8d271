//! Where members may be found when none is known: at the start, and after the loss of all.
//!
//! The search goes on, with growing pauses, until one exchange is complete: no answer is final.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::leave::Life;
use super::{Control, ControlOutput, ControlTimer};
use crate::mutant::mutant;
use crate::name::NodeName;
use crate::node::timers::TimerKey;
use crate::wire::control::{Health, MemberIdentity};

/// The addresses, and the search under way.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    addresses: Vec<SocketAddr>,
    /// Who was last met there, which may want to be dialled elsewhere.
    met: BTreeMap<SocketAddr, NodeName>,
    search: Option<Search>,
}

#[derive(Debug)]
struct Search {
    attempts: u32,
    timer: TimerKey,
}

impl Seeds {
    /// Adds addresses, but `own` and those already there, up to a limit.
    pub(super) fn add(&mut self, addresses: &[SocketAddr], own: SocketAddr) {
        for address in addresses {
            let is_news = *address != own && !self.addresses.contains(address);
            if is_news && self.addresses.len() < SEEDS_MAX {
                self.addresses.push(*address);
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    pub(super) const fn is_seeking(&self) -> bool {
        self.search.is_some()
    }
}

impl Control {
    /// A connection that was asked for came back to this node: the address is no seed. A node that
    /// has no other is the first of its fabric.
    pub fn handle_own_address(&mut self, address: SocketAddr) {
        self.seeds.addresses.retain(|seed| *seed != address);
        if self.seeds.is_empty() && !self.is_synced {
            self.end_seeking();
            self.set_synced();
        }
    }

    /// A connection that was asked for leads to this member, wherever it wants to be dialled.
    pub fn handle_reached(&mut self, address: SocketAddr, member: &NodeName) {
        if self.seeds.addresses.contains(&address) {
            self.seeds.met.insert(address, member.clone());
        }
    }

    /// Nobody answers at an address. Who was awaited there may be tried again in the next round,
    /// and a seed may be somebody else when it is back.
    pub fn handle_unreachable(&mut self, _now: Instant, address: SocketAddr) {
        tracing::debug!(target: "grinta::member", %address, "cannot be reached");
        self.seeds.met.remove(&address);
        let (members, connected) = (&self.members, &self.connected);
        self.exchanges.retain(|name, _| {
            let member = members.get(name);
            connected.contains_key(name)
                || member.is_none_or(|member| member.identity.address != address)
        });
    }

    /// Starts to look for members, unless that is under way.
    pub(super) fn begin_seeking(&mut self, now: Instant, delay: Duration) {
        if self.seeds.search.is_none() {
            let timer = self.timers.arm(now, delay, ControlTimer::Seek);
            self.seeds.search = Some(Search { attempts: 0, timer });
        }
    }

    /// An exchange was complete: members are found.
    pub(super) fn end_seeking(&mut self) {
        if let Some(search) = self.seeds.search.take() {
            self.timers.disarm(search.timer);
        }
    }

    /// Tries all seeds, and a few members that are down, and again after a pause.
    pub(super) fn seek(&mut self, now: Instant) {
        let Some(search) = &mut self.seeds.search else {
            return;
        };
        search.attempts = search.attempts.saturating_add(1);
        let doublings = search.attempts.min(DOUBLINGS_MAX);
        for address in self.seeds.addresses.clone() {
            self.contact(now, address);
        }
        let down = self.down_members(DOWN_TRIED);
        for (name, address) in down {
            self.begin_exchange(now, &name, address);
        }
        if mutant!(JoinAnnouncedOnce) {
            return;
        }
        let longest = 2 * self.config.push_pull_interval;
        let pause = (self.config.probe_interval * (1 << doublings) / 2).min(longest);
        let pause = self.jittered(pause, 75..=125);
        let timer = self.timers.arm(now, pause, ControlTimer::Seek);
        if let Some(search) = &mut self.seeds.search {
            search.timer = timer;
        }
    }

    /// Once in each round: one member that is down, or one seed where no member is. It is how
    /// two halves of a fabric find each other again.
    pub(super) fn contact_beyond(&mut self, now: Instant) {
        if mutant!(JoinAnnouncedOnce) {
            return;
        }
        let is_member = |address: &SocketAddr| {
            self.members.active().any(|entry| {
                let MemberIdentity {
                    name, address: at, ..
                } = &entry.identity;
                at == address || self.seeds.met.get(address) == Some(name)
            })
        };
        let strangers = self.seeds.addresses.iter().filter(|it| !is_member(it));
        let strangers: Vec<_> = strangers.copied().collect();
        let down = self.down_members(1).pop();
        let stranger = strangers.into_iter().choose(&mut self.rng);
        let is_down_first = self.rng.random_bool(0.5);
        match (down, stranger) {
            (Some((name, address)), stranger) if is_down_first || stranger.is_none() => {
                self.begin_exchange(now, &name, address);
            }
            (_, Some(address)) => self.contact(now, address),
            (_, None) => {}
        }
    }

    fn contact(&mut self, now: Instant, address: SocketAddr) {
        if !matches!(self.life, Life::Present) {
            return;
        }
        let met = self.seeds.met.get(&address);
        let mut connected = self.connected.iter();
        match connected
            .find(|(name, peer)| **peer == address || met == Some(name))
            .map(|(name, _)| name.clone())
        {
            Some(name) => self.begin_exchange(now, &name, address),
            None => self.outputs.push_back(ControlOutput::Connect { address }),
        }
    }

    fn down_members(&mut self, count: usize) -> Vec<(NodeName, SocketAddr)> {
        let down = self
            .members
            .iter()
            .filter(|entry| entry.health == Health::Down);
        let down = down.map(|entry| (entry.identity.name.clone(), entry.identity.address));
        down.sample(&mut self.rng, count)
    }
}

/// Seeds that are kept. Each is tried at each attempt.
const SEEDS_MAX: usize = 64;

/// Members that are down which are tried along with the seeds.
const DOWN_TRIED: usize = 3;

/// The pause doubles this often.
const DOUBLINGS_MAX: u32 = 8;

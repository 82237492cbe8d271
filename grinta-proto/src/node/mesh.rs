//! Which connections are kept: all, as long as the fabric is small; beyond that, those in use.
//!
//! A handshake costs some fifty times a probe, so nodes of a fabric of ordinary size keep a
//! connection to every member. In a larger one most probes find none and make one, which is left
//! to be closed when nothing has used it for a while. Either side may close, both at once too. A
//! dial that was on its way over the connection is made again over a new one; a control message
//! is lost as any may be, and repeated.

use std::time::Instant;

use crate::node::peer::{Peer, PeerKey};
use crate::node::{Node, Timer};
use crate::wire::code::Code;

impl Node {
    /// Begins to look for unused connections, once there are more than are kept.
    pub(super) fn watch_unused(&mut self, now: Instant) {
        if !self.watches_unused && self.connections.up_count() > self.kept_unused() {
            self.watches_unused = true;
            let pause = self.config.connection.unused_timeout / 2;
            self.timers.arm(now, pause, Timer::Unused);
        }
    }

    /// Closes what nothing has used for long, the longest unused first, until no more are left
    /// than are kept.
    pub(super) fn close_long_unused(&mut self, now: Instant) {
        self.watches_unused = false;
        let timeout = self.config.connection.unused_timeout;
        let too_many = self
            .connections
            .up_count()
            .saturating_sub(self.kept_unused());
        let up = self.connections.all_up().map(|(_, peer)| peer);
        let mut unused: Vec<(Instant, PeerKey)> = up
            .filter(|peer| peer.is_unused())
            .map(|peer| (peer.used_at(), peer.key()))
            .filter(|(used_at, _)| now.saturating_duration_since(*used_at) >= timeout)
            .collect();
        unused.sort_unstable();
        for (_, key) in unused.into_iter().take(too_many) {
            self.close(now, key, Code::Unused, "");
        }
        self.follow(now);
        self.watch_unused(now);
    }

    /// Closes a connection of a node that has left, unless a flow is on it.
    pub(super) fn close_unused(&mut self, now: Instant, key: PeerKey) {
        let is_unused = |peer: &Peer| peer.name().is_some() && peer.open_flows() == 0;
        if self.connections.get(key).is_some_and(is_unused) {
            self.close(now, key, Code::Left, "");
        }
    }

    fn kept_unused(&self) -> usize {
        let room = self.config.limits.connections_max / 2;
        self.config.connection.full_mesh_max.min(room)
    }
}

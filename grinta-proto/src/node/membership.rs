//! This node among the members: what it says of itself, and what becomes of it when members change
//! or another process goes by its name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Labels;
use crate::name::NodeName;
use crate::node::control::{ForgetError, Identity};
use crate::node::event::{Event, Member, MemberEvent, MemberState};
use crate::node::leaving::Phase;
use crate::node::{Command, Node};
use crate::wire::control::{LabelsError, check_labels};

/// Another live process goes by this node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityConflict {
    /// Where it was seen, as far as it showed itself.
    pub address: Option<SocketAddr>,
    /// When this node learnt of it.
    pub since: Instant,
}

impl Node {
    /// Replaces the node's labels; the others hear of it within a few rounds of gossip.
    ///
    /// # Errors
    /// [`LabelsError`] names the bound that the labels break; nothing changed.
    pub fn set_labels(&mut self, labels: Labels) -> Result<(), LabelsError> {
        check_labels(&labels)?;
        self.commands.push_back(Command::SetLabels(labels));
        Ok(())
    }

    /// Takes an operator's word that a member which is down will not come back: it counts as left,
    /// here at once and elsewhere as soon as the others hear of it, and its names are free. Does
    /// nothing to one that has left.
    ///
    /// # Errors
    /// [`ForgetError`]; nothing changed.
    pub fn forget(&mut self, node: &NodeName) -> Result<(), ForgetError> {
        self.control.forget(self.now, node)
    }

    /// This node, as a member.
    #[must_use]
    pub fn own_member(&self) -> Member {
        let Identity {
            name,
            address,
            session,
        } = self.control.identity();
        let state = match self.phase {
            Phase::Left { since } => MemberState::Left { since },
            Phase::Running
            | Phase::Leaving
            | Phase::ShuttingDown { .. }
            | Phase::Closing
            | Phase::Closed => MemberState::Alive,
        };
        Member {
            name,
            address,
            session,
            state,
            labels: Arc::new(self.config.labels.clone()),
            round_trip_time: None,
        }
    }

    /// The other members of the fabric that are known, in the order of their names. The events so
    /// far fold to them and to [`own_member`](Self::own_member).
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.control.members().map(|mut member| {
            member.round_trip_time = self.round_trip_time(&member.name);
            member
        })
    }

    /// The round-trip time to a node; `None` without a connection that is up.
    #[must_use]
    pub fn round_trip_time(&self, node: &NodeName) -> Option<Duration> {
        let peer = self.connections.get(self.connections.up(node)?)?;
        Some(peer.round_trip_time())
    }

    /// The other process that goes by this node's name, if there is one.
    #[must_use]
    pub const fn identity_conflict(&self) -> Option<IdentityConflict> {
        self.conflict
    }

    pub(super) fn change_labels(&mut self, now: Instant, labels: Labels) {
        if labels == self.config.labels {
            return;
        }
        if let Err(error) = self.control.set_labels(now, labels.clone()) {
            tracing::debug!(target: "grinta::member", %error, "labels not changed");
            return;
        }
        self.config.labels = labels;
        let own = self.own_member();
        self.events
            .push_back(Event::Member(MemberEvent::Updated(own)));
    }

    /// Another process showed itself under this node's name.
    pub(super) fn note_conflict(&mut self, now: Instant, address: Option<SocketAddr>) {
        let node = &self.config.node;
        tracing::error!(
            target: "grinta::member",
            %node, ?address,
            "another process uses this node's name; give each node a name and a certificate of its own",
        );
        let conflict = IdentityConflict {
            address,
            since: now,
        };
        self.conflict = Some(conflict);
        self.events.push_back(Event::IdentityConflict(conflict));
    }

    pub(super) fn handle_member(&mut self, now: Instant, mut event: MemberEvent) {
        let member = event.member_mut();
        member.round_trip_time = self.round_trip_time(&member.name);
        self.counters.note_member(&event);
        match &event {
            MemberEvent::Up(member) => {
                let (node, address) = (&member.name, member.address);
                tracing::info!(target: "grinta::member", %node, %address, "a member is up");
                self.handle_whereabouts(now, member);
                // Somebody reaches it: that it could not be reached from here is old news.
                self.redials.remove(&member.name);
            }
            MemberEvent::Down(member) => {
                tracing::info!(target: "grinta::member", node = %member.name, "a member is down");
                self.close_down(now, &member.name);
            }
            MemberEvent::Left(member) => {
                tracing::info!(target: "grinta::member", node = %member.name, "a member left");
                self.redials.remove(&member.name);
            }
            MemberEvent::Suspected(member)
            | MemberEvent::Refuted(member)
            | MemberEvent::Updated(member) => {
                let (node, state) = (&member.name, member.state);
                tracing::debug!(target: "grinta::member", %node, ?state, "a member changed");
                self.handle_whereabouts(now, member);
            }
        }
        self.events.push_back(Event::Member(event));
    }
}

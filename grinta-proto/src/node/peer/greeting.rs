//! The greeting: from the end of TLS until both sides have said `Hello`.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, Side};
use rustls::pki_types::CertificateDer;

use super::control_stream::ControlStream;
use super::{Peer, PeerEvent, Stage, Surroundings, Target, violation};
use crate::mutant::mutant;
use crate::name::NodeName;
use crate::node::event::ConnectError;
use crate::tls;
use crate::wire::code::Code;
use crate::wire::stream::Hello;

impl Peer {
    /// The greeting is good: the peer is up. A server answers with its own `Hello`.
    pub(crate) fn welcome(&mut self, now: Instant, name: NodeName, surroundings: Surroundings<'_>) {
        let greeted = std::mem::replace(&mut self.stage, Stage::Handshaking);
        let Stage::Greeted { mut control } = greeted else {
            self.stage = greeted;
            return;
        };
        if self.connection.side() == Side::Server {
            control.send(
                encode(surroundings.hello),
                surroundings.limits.control_queue_max,
            );
        }
        self.stage = Stage::Up { name, control };
        self.settle_handshake();
        self.read_control(now, surroundings);
        self.accept_streams(surroundings);
        self.flush(surroundings.limits);
    }

    pub(super) fn begin_greeting(&mut self, now: Instant, surroundings: Surroundings<'_>) {
        let certified = match self.certified_names() {
            Ok(certified) => certified,
            Err(error) => return self.fail(now, Code::NameNotCertified, error),
        };
        if let Some(Target::Node(expected, _)) = &self.target
            && !certified.contains(expected)
        {
            let error = ConnectError::NameMismatch {
                dialled: expected.clone(),
                certified,
            };
            return self.fail(now, Code::NameMismatch, error);
        }
        let control = match self.connection.side() {
            Side::Server => None,
            Side::Client => {
                let Some(stream) = self.connection.streams().open(Dir::Bi) else {
                    if !self.connection.is_closed() {
                        let error = violation("it allows no control stream");
                        self.fail(now, Code::ControlViolation, error);
                    }
                    return;
                };
                let limits = surroundings.limits;
                let mut control = ControlStream::new(stream, limits.control_frame_len_max);
                control.send(encode(surroundings.hello), limits.control_queue_max);
                Some(control)
            }
        };
        self.stage = Stage::Greeting { certified, control };
        self.accept_control(surroundings);
        self.read_control(now, surroundings);
    }

    /// What the peer proved itself with, leaf first; nothing before that.
    pub(crate) fn certificate_chain(&self) -> Vec<CertificateDer<'static>> {
        let identity = self.connection.crypto_session().peer_identity();
        let chain = identity.and_then(|identity| identity.downcast().ok());
        chain.map(|chain| *chain).unwrap_or_default()
    }

    fn certified_names(&self) -> Result<Vec<NodeName>, ConnectError> {
        let chain = self.certificate_chain();
        let leaf = chain.first();
        let leaf = leaf.expect("mutual TLS ends with a certificate on each side");
        tls::certified_names(leaf).map_err(|error| ConnectError::Certificate {
            reason: error.to_string(),
        })
    }

    /// The first stream that a client opens is the control stream.
    pub(super) fn accept_control(&mut self, surroundings: Surroundings<'_>) {
        if let Stage::Greeting {
            control: control @ None,
            ..
        } = &mut self.stage
            && let Some(stream) = self.connection.streams().accept(Dir::Bi)
        {
            *control = Some(ControlStream::new(
                stream,
                surroundings.limits.control_frame_len_max,
            ));
        }
    }

    pub(super) fn note_greeted(&mut self, hello: Hello) {
        let greeting = std::mem::replace(&mut self.stage, Stage::Handshaking);
        let Stage::Greeting {
            control: Some(control),
            ..
        } = greeting
        else {
            self.stage = greeting;
            return;
        };
        self.stage = Stage::Greeted { control };
        self.events.push_back(PeerEvent::Greeted(hello));
    }
}

/// Reads a `Hello` and holds it against the certificate, the dialled name and our own `Hello`.
pub(super) fn check_hello(
    frame: &[u8],
    certified: &[NodeName],
    dialled: Option<&NodeName>,
    ours: &Hello,
) -> Result<Hello, (Code, ConnectError)> {
    let theirs = Hello::decode(frame)
        .map_err(|error| (Code::ControlViolation, violation(&error.to_string())))?;
    if theirs.protocol != ours.protocol {
        let error = ConnectError::WrongProtocol {
            ours: ours.protocol,
            theirs: theirs.protocol,
        };
        return Err((Code::WrongProtocol, error));
    }
    if theirs.fabric != ours.fabric {
        let error = ConnectError::WrongFabric {
            ours: ours.fabric.clone(),
            theirs: theirs.fabric,
        };
        return Err((Code::WrongFabric, error));
    }
    if !certified.contains(&theirs.node) && !mutant!(IdentityNotBound) {
        let error = ConnectError::NameNotCertified {
            claimed: theirs.node,
            certified: certified.to_vec(),
        };
        return Err((Code::NameNotCertified, error));
    }
    if let Some(dialled) = dialled
        && theirs.node != *dialled
    {
        let error = ConnectError::NameMismatch {
            dialled: dialled.clone(),
            certified: certified.to_vec(),
        };
        return Err((Code::NameMismatch, error));
    }
    Ok(theirs)
}

fn encode(hello: &Hello) -> Bytes {
    let mut frame = BytesMut::new();
    hello.encode(&mut frame);
    frame.freeze()
}

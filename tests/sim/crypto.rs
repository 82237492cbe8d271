//! Real TLS with drawn randomness: the packets of a seed are the same, byte for byte.
//!
//! rustls asks its provider for randomness in two places: a random source, and the key pairs of the
//! key exchange. *ring*'s key exchange cannot be seeded, so X25519 comes from x25519-dalek; ciphers,
//! hashes and signatures remain *ring*'s. Never for anything but simulation.
//!
//! A provider's parts are `'static` and know no node, hence the thread's [`Entropy`]: a node lends
//! its own for as long as it has its turn. Nobody else can draw, so this is a tripwire as well.

use std::cell::Cell;
use std::sync::Arc;

use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup, ring,
};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use crate::draw::{Draws, Purpose};

/// The randomness of one run of one node's cryptography.
#[derive(Debug, Clone)]
pub(crate) struct Entropy {
    draws: Draws,
    host: u64,
    run: u64,
    drawn: u64,
}

thread_local! {
    /// That of the node whose turn it is.
    static LENT: Cell<Option<Entropy>> = const { Cell::new(None) };
}

/// *ring*'s provider with its randomness drawn from the [`Entropy`] that is lent to the thread.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        secure_random: &Drawn,
        kx_groups: vec![&X25519],
        ..ring::default_provider()
    })
}

impl Entropy {
    pub(crate) const fn new(draws: Draws, host: u64, run: u64) -> Self {
        Self {
            draws,
            host,
            run,
            drawn: 0,
        }
    }

    /// Does work that may draw from here.
    pub(crate) fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let outer = LENT.replace(Some(self.clone()));
        let done = work();
        let lent = LENT.replace(outer);
        *self = lent.expect("a nested loan puts back what it found");
        done
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.drawn += 1;
            let draw = self
                .draws
                .draw(Purpose::Cryptography, self.host, self.run, self.drawn);
            chunk.copy_from_slice(&draw.word().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Fills from what is lent to the thread.
#[derive(Debug)]
struct Drawn;

impl SecureRandom for Drawn {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        let mut entropy = LENT.take().ok_or(GetRandomFailed)?;
        entropy.fill(bytes);
        LENT.set(Some(entropy));
        Ok(())
    }
}

/// X25519 with drawn secrets.
#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        Drawn.fill(&mut secret)?;
        Ok(Box::new(Exchange {
            secret,
            public: x25519(secret, X25519_BASEPOINT_BYTES),
        }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// One side's part of a key exchange.
struct Exchange {
    secret: [u8; 32],
    public: [u8; 32],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = <[u8; 32]>::try_from(peer).map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = x25519(self.secret, peer);
        // RFC 7748, section 6.1: a point of small order gives a secret that all know.
        if shared == [0; 32] {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&shared[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy(run: u64) -> Entropy {
        Entropy::new(Draws::new(1), 1, run)
    }

    fn exchange(run: u64) -> Box<dyn ActiveKeyExchange> {
        entropy(run).lend(|| X25519.start()).unwrap()
    }

    #[test]
    fn two_ends_agree_on_a_secret() {
        let (one, two) = (exchange(1), exchange(2));
        let (key_of_one, key_of_two) = (one.pub_key().to_vec(), two.pub_key().to_vec());
        assert_ne!(key_of_one, key_of_two);
        let secret = one.complete(&key_of_two).unwrap();
        assert_eq!(
            secret.secret_bytes(),
            two.complete(&key_of_one).unwrap().secret_bytes()
        );
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        assert!(exchange(1).complete(&[0; 32]).is_err());
        assert!(exchange(1).complete(&[9; 31]).is_err());
    }

    #[test]
    fn each_draw_differs_and_each_run_repeats() {
        let mut twice = entropy(1);
        let draw = |entropy: &mut Entropy| {
            let mut bytes = [0; 20];
            entropy.lend(|| Drawn.fill(&mut bytes)).unwrap();
            bytes
        };
        let first = draw(&mut twice);
        assert_ne!(first, draw(&mut twice));
        assert_eq!(first, draw(&mut entropy(1)));
        assert_ne!(first, draw(&mut entropy(2)));
    }

    #[test]
    fn without_a_node_there_is_no_randomness() {
        assert!(Drawn.fill(&mut [0; 8]).is_err());
    }
}

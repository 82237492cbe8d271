//! Toy cryptography: TLS 1.3 and QUIC run as they are, but nothing is secret and nothing drawn.
//!
//! rustls takes its ciphers, its key exchange and its randomness from a provider. This one keeps
//! *ring*'s hashes and signatures ([`memo`]), counts instead of drawing, and does not encrypt, so that the
//! bytes of a packet mean what they say, an input means the same in every run, and a handshake is
//! cheap. Whether a packet is authenticated is up to its [`Seal`]. No product code knows of it:
//! it comes in by `Credentials::with_crypto_provider`, as any cryptography does.

mod memo;

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup, ring,
};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{
    CipherSuite, Error, NamedGroup, PeerMisbehaved, SupportedCipherSuite, Tls13CipherSuite,
};

/// What keeps a packet from being changed under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// A checksum with the key in it, which nobody guesses by accident.
    Checked,
    /// Nothing: what was changed under way is taken for what its sender said.
    Broken,
}

/// Begins the count that stands in for randomness. To be called once for each input.
pub(crate) fn restart() {
    COUNT.set(0);
}

/// The provider with one of the seals.
pub(crate) fn provider(seal: Seal) -> Arc<CryptoProvider> {
    Arc::clone(match seal {
        Seal::Checked => &CHECKED,
        Seal::Broken => &BROKEN,
    })
}

static CHECKED: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| with_quic(&Toy(Seal::Checked)));
static BROKEN: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| with_quic(&Toy(Seal::Broken)));

/// *ring*'s provider, with another cipher under the name of the suite that QUIC begins with.
fn with_quic(quic: &'static Toy) -> Arc<CryptoProvider> {
    let provider = ring::default_provider();
    let suite = provider
        .cipher_suites
        .iter()
        .find(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256)
        .and_then(SupportedCipherSuite::tls13)
        .expect("ring has the suite that QUIC begins with");
    let suite = Tls13CipherSuite {
        common: rustls::crypto::CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: Some(quic),
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))],
        kx_groups: vec![&Toy(Seal::Checked)],
        signature_verification_algorithms: *memo::ALGORITHMS,
        secure_random: &Counting,
        key_provider: &memo::Keys,
    })
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Counting;

impl SecureRandom for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        for chunk in bytes.chunks_mut(8) {
            COUNT.set(COUNT.get() + 1);
            let number = mix(0, &COUNT.get().to_le_bytes()).to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

/// Both the cipher and the key exchange.
#[derive(Debug)]
struct Toy(Seal);

impl SupportedKxGroup for Toy {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut key = [0; KEY_LEN];
        Counting.fill(&mut key)?;
        Ok(Box::new(Exchange(key)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// A key exchange in the open: the secret is the sum of what both ends say.
struct Exchange([u8; KEY_LEN]);

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        if peer.len() != KEY_LEN {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let sum = self.0.iter().zip(peer).map(|(ours, theirs)| ours ^ theirs);
        Ok(SharedSecret::from(sum.collect::<Vec<_>>()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl Algorithm for Toy {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        Box::new(Cipher {
            seal: self.0,
            key: mix(mix(0, key.as_ref()), iv.as_ref()),
        })
    }

    fn header_protection_key(&self, _: AeadKey) -> Box<dyn HeaderProtectionKey> {
        Box::new(Unprotected)
    }

    fn aead_key_len(&self) -> usize {
        16
    }
}

struct Cipher {
    seal: Seal,
    key: u64,
}

impl Cipher {
    fn tag(&self, packet_number: u64, header: &[u8], payload: &[u8]) -> [u8; TAG_LEN] {
        let sum = match self.seal {
            Seal::Checked => mix(mix(self.key ^ packet_number, header), payload),
            Seal::Broken => 0,
        };
        let mut tag = [0; TAG_LEN];
        tag[..8].copy_from_slice(&sum.to_le_bytes());
        tag
    }
}

impl PacketKey for Cipher {
    fn encrypt_in_place(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<Tag, Error> {
        Ok(Tag::from(&self.tag(packet_number, header, payload)[..]))
    }

    fn decrypt_in_place<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], Error> {
        let Some((plain, tag)) = payload.split_last_chunk::<TAG_LEN>() else {
            return Err(Error::DecryptError);
        };
        let is_good = match self.seal {
            Seal::Checked => *tag == self.tag(packet_number, header, plain),
            Seal::Broken => true,
        };
        is_good.then_some(plain).ok_or(Error::DecryptError)
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

struct Unprotected;

impl HeaderProtectionKey for Unprotected {
    fn encrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }

    fn decrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }

    fn sample_len(&self) -> usize {
        16
    }
}

/// FNV-1a, eight bytes at a time, with the high bits folded in.
fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let sum = bytes
        .chunks(8)
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |sum, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
            sum ^ (sum >> 29)
        });
    (sum ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_packet_cannot_be_changed_and_a_broken_one_can() {
        for (seal, survives) in [(Seal::Checked, false), (Seal::Broken, true)] {
            let cipher = Cipher { seal, key: 1 };
            let mut packet = b"plaintext".to_vec();
            let tag = cipher
                .encrypt_in_place(7, b"header", &mut packet)
                .ok()
                .unwrap();
            packet.extend_from_slice(tag.as_ref());
            let opened = cipher.decrypt_in_place(7, b"header", &mut packet);
            assert_eq!(opened.unwrap(), b"plaintext");
            packet[0] ^= 1;
            assert_eq!(
                cipher.decrypt_in_place(7, b"header", &mut packet).is_ok(),
                survives
            );
        }
    }

    #[test]
    fn a_restart_repeats_what_was_drawn() {
        let draw = || {
            let mut bytes = [0; 20];
            Counting.fill(&mut bytes).unwrap();
            bytes
        };
        restart();
        let first = draw();
        assert_ne!(draw(), first);
        restart();
        assert_eq!(draw(), first);
    }
}

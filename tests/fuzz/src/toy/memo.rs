//! Signatures that are made and checked once.
//!
//! A handshake without randomness says the same in every run, and signatures are a third of what an
//! input of whole nodes costs. What was signed or checked is remembered with its answer, which is
//! *ring*'s: nothing passes that would not pass there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{KeyProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// Checks the signatures of the one kind that the certificates here have.
pub(super) static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let real = ring::default_provider()
        .signature_verification_algorithms
        .all;
    let is_ed25519 =
        |it: &&&dyn SignatureVerificationAlgorithm| it.signature_alg_id() == alg_id::ED25519;
    let real = *real.iter().find(is_ed25519).expect("ring knows Ed25519");
    let remembered: &dyn SignatureVerificationAlgorithm = Box::leak(Box::new(Checks(real)));
    let all: &[_] = Box::leak(Box::new([remembered]));
    WebPkiSupportedAlgorithms {
        all,
        mapping: Box::leak(Box::new([(SignatureScheme::ED25519, all)])),
    }
});

/// Loads keys that remember what they signed.
#[derive(Debug)]
pub(super) struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let real = ring::default_provider()
            .key_provider
            .load_private_key(key)?;
        Ok(Arc::new(Key(real)))
    }
}

thread_local! {
    static CHECKED: RefCell<Memo<Result<(), InvalidSignature>>> = RefCell::default();
    static SIGNED: RefCell<Memo<Vec<u8>>> = RefCell::default();
}

/// Answers by what they are about.
struct Memo<T>(HashMap<Vec<Vec<u8>>, T>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Memo<T> {
    fn recall(&self, subject: &[Vec<u8>]) -> Option<T> {
        self.0.get(subject).cloned()
    }

    /// Most handshakes are like many others, and the rest are not worth their room.
    fn keep(&mut self, subject: Vec<Vec<u8>>, answer: &T) {
        if self.0.len() < MEMO_LEN_MAX {
            self.0.insert(subject, answer.clone());
        }
    }
}

#[derive(Debug)]
struct Checks(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Checks {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let subject = [public_key, message, signature]
            .map(<[u8]>::to_vec)
            .to_vec();
        if let Some(answer) = CHECKED.with_borrow(|memo| memo.recall(&subject)) {
            return answer;
        }
        let answer = self.0.verify_signature(public_key, message, signature);
        CHECKED.with_borrow_mut(|memo| memo.keep(subject, &answer));
        answer
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }
}

#[derive(Debug)]
struct Key(Arc<dyn SigningKey>);

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let real = self.0.choose_scheme(offered)?;
        let public_key = self.public_key()?.to_vec();
        Some(Box::new(Signs { real, public_key }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct Signs {
    real: Box<dyn Signer>,
    public_key: Vec<u8>,
}

impl Signer for Signs {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let subject = vec![self.public_key.clone(), message.to_vec()];
        if let Some(signature) = SIGNED.with_borrow(|memo| memo.recall(&subject)) {
            return Ok(signature);
        }
        let signature = self.real.sign(message)?;
        SIGNED.with_borrow_mut(|memo| memo.keep(subject, &signature));
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.real.scheme()
    }
}

/// Signatures that are remembered, of either kind: some two megabytes.
const MEMO_LEN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    #[test]
    fn what_is_remembered_is_what_is_true() {
        let der = PrivatePkcs8KeyDer::from(KEY.to_vec());
        let key = Keys.load_private_key(der.into()).unwrap();
        let signer = key.choose_scheme(&[SignatureScheme::ED25519]).unwrap();
        let signature = signer.sign(b"message").unwrap();
        assert_eq!(signer.sign(b"message").unwrap(), signature);
        assert_ne!(signer.sign(b"another").unwrap(), signature);
        let public_key = key.public_key().unwrap();
        let (_, public_key) = public_key.split_last_chunk::<32>().unwrap();
        for _ in 0..2 {
            let verify =
                |message| ALGORITHMS.all[0].verify_signature(public_key, message, &signature);
            assert!(verify(b"message").is_ok());
            assert!(verify(b"another").is_err());
        }
    }

    /// The example of RFC 8410, section 10.3.
    const KEY: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20\
        \xd4\xee\x72\xdb\xf9\x13\x58\x4a\xd5\xb6\xd8\xf1\xf7\x69\xf8\xad\
        \x3a\xfe\x7c\x28\xcb\xf1\xd4\xfb\xe0\x97\xa8\x8f\x44\x75\x58\x42";
}

//! What happened, as one running hash, and as lines of text for those who ask.

use std::fmt;
use std::time::Duration;

use crate::draw::mix;
use crate::scene::Scenes;

/// The hash of everything that happened so far: equal histories have equal hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u64);

/// A simulation's past.
#[derive(Debug)]
pub(crate) struct History {
    hash: Hash,
    events: u64,
    lines: Option<Vec<String>>,
    pub(crate) scenes: Scenes,
}

impl Hash {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    pub(crate) fn absorb(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(23).wrapping_add(mix(word ^ SALT)));
    }

    pub(crate) fn absorb_bytes(&mut self, bytes: &[u8]) {
        self.absorb(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.absorb(u64::from_le_bytes(word));
        }
    }

    pub(crate) fn absorb_time(&mut self, at: Duration) {
        self.absorb(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl History {
    pub(crate) const fn new() -> Self {
        Self {
            hash: Hash::new(),
            events: 0,
            lines: None,
            scenes: Scenes::new(),
        }
    }

    /// From here on keeps a line of text for each event, too, and what pictures are made of.
    pub(crate) fn keep_lines(&mut self) {
        self.scenes.keep();
        self.lines.get_or_insert_with(Vec::new);
    }

    /// Something happened: `line` tells it, `contents` are the bytes that it was about.
    pub(crate) fn record(
        &mut self,
        at: Duration,
        kind: u64,
        subjects: [u64; 2],
        contents: &[u8],
        line: impl FnOnce() -> String,
    ) {
        self.events += 1;
        self.hash.absorb_time(at);
        self.hash.absorb(kind);
        self.hash.absorb(subjects[0]);
        self.hash.absorb(subjects[1]);
        self.hash.absorb_bytes(contents);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>14.9} {}", at.as_secs_f64(), line()));
        }
    }

    pub(crate) const fn hash(&self) -> Hash {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// Any constant but zero, so that a word of zero changes the hash.
const SALT: u64 = 0xa076_1d64_78bd_642f;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(words: &[u64]) -> Hash {
        let mut hash = Hash::new();
        for &word in words {
            hash.absorb(word);
        }
        hash
    }

    #[test]
    fn a_hash_tells_order_and_length() {
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[0]), hash(&[0, 0]));
        let (mut one, mut two) = (Hash::new(), Hash::new());
        one.absorb_bytes(&[0]);
        two.absorb_bytes(&[0, 0]);
        assert_ne!(one, two);
    }
}

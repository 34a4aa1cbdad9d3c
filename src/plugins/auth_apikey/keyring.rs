//! Keys as their hashes, and whether a credential is one of them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// What a hash begins with where a key could stand as well.
const PREFIX: &[u8] = b"sha256:";

/// The SHA-256 of a key. The keys themselves are not kept: what is not in memory cannot
/// get into a log, and hashes have one length, so that comparing tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyHash([u8; SHA256_OUTPUT_LEN]);

/// Something that begins like a hash and is none. Does not quote it: it may be a key.
#[derive(Debug, thiserror::Error)]
#[error(
    "found no hash, expected `sha256:` and 64 hexadecimal digits, which `printf %s \"$KEY\" | sha256sum` prints"
)]
pub(super) struct NotAHash;

impl KeyHash {
    fn of(key: &[u8]) -> Self {
        let hash = digest(&SHA256, key);
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Reads `sha256:` and hexadecimal digits.
    pub(super) fn parse(text: &[u8]) -> Result<Self, NotAHash> {
        let hex = text.strip_prefix(PREFIX).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.filter(|hex| {
            hex.len() == 2 * SHA256_OUTPUT_LEN && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let hex = hex.ok_or(NotAHash)?;
        let mut hash = [0; SHA256_OUTPUT_LEN];
        for (byte, at) in hash.iter_mut().zip((0..hex.len()).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(hash))
    }
}

/// All keys that count at the moment.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct KeyRing(Vec<KeyHash>);

impl KeyRing {
    /// Adds a key. An empty one is none: an empty column must not open the door.
    pub(super) fn add_key(&mut self, key: &[u8]) {
        if !key.is_empty() {
            self.0.push(KeyHash::of(key));
        }
    }

    pub(super) fn add_hash(&mut self, hash: KeyHash) {
        // That of no bytes at all would let in clients that send nothing.
        if hash != KeyHash::of(b"") {
            self.0.push(hash);
        }
    }

    /// Adds a key or a hash, whichever it is.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), NotAHash> {
        if text.starts_with(PREFIX) {
            self.add_hash(KeyHash::parse(text)?);
        } else {
            self.add_key(text);
        }
        Ok(())
    }

    /// Whether `credential` is one of the keys, byte for byte. Takes the same time
    /// wherever they differ and whichever key it is.
    pub(super) fn holds(&self, credential: &[u8]) -> bool {
        let hash = KeyHash::of(credential);
        let same = |key: &&KeyHash| verify_slices_are_equal(&key.0, &hash.0).is_ok();
        // `any` would stop at the first.
        self.0.iter().filter(same).count() > 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&str]) -> KeyRing {
        let mut ring = KeyRing::default();
        keys.iter().for_each(|key| ring.add(key.as_bytes()).unwrap());
        ring
    }

    #[test]
    fn only_the_exact_bytes_count() {
        let ring = ring(&["5eed0f0a", "Zweiter"]);
        assert!(ring.holds(b"5eed0f0a") && ring.holds(b"Zweiter"));
        for wrong in
            ["", " ", "5eed0f0", "5eed0f0a ", " 5eed0f0a", "5EED0F0A", "zweiter", "5eed0f0a0"]
        {
            assert!(!ring.holds(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_never_a_key() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let ring = ring(&["", empty]);
        assert_eq!(ring.len(), 0);
        assert!(!ring.holds(b""));
    }

    #[test]
    fn a_hash_stands_for_its_key_and_is_none_itself() {
        // printf %s secret | sha256sum
        let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        for text in [hash.to_owned(), hash.to_uppercase().replace("SHA256", "sha256")] {
            let ring = ring(&[&text]);
            assert!(ring.holds(b"secret") && !ring.holds(text.as_bytes()));
        }
        for wrong in ["", "secret", "sha256:", &hash[..70], &hash.replace('2', "+")] {
            assert!(KeyHash::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(KeyHash::parse(&[PREFIX, &[0xFF; 64]].concat()).is_err());
    }
}

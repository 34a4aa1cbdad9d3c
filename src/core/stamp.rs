//! What a table says, so that it can be told what another reading says differently.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use figment::value::Dict;

/// A hash for each key of a table. No values: some are secret, and this is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(BTreeMap<String, u64>);

/// Stands for what the table names and does not hold, such as the content of a file.
const INPUTS: &str = "";

impl Stamp {
    /// Of `effective`, a whole table with its defaults. Secrets are masked in there, so what
    /// was `written` counts for those.
    pub(super) fn new(effective: &toml::Table, written: &Dict, inputs: &[u8]) -> Self {
        let mut keys = BTreeMap::new();
        for (key, value) in effective {
            let mut hasher = DefaultHasher::new();
            let shown = value.to_string();
            if shown.contains("***") {
                // Without the tags, which say where a value came from.
                serde_json::to_string(&written.get(key)).unwrap_or_default().hash(&mut hasher);
            }
            shown.hash(&mut hasher);
            keys.insert(key.clone(), hasher.finish());
        }
        let mut hasher = DefaultHasher::new();
        inputs.hash(&mut hasher);
        keys.insert(INPUTS.to_owned(), hasher.finish());
        Self(keys)
    }

    /// The keys that `new` has otherwise.
    pub(super) fn changed(&self, new: &Self) -> BTreeSet<String> {
        let all: BTreeSet<_> = self.0.keys().chain(new.0.keys()).collect();
        all.into_iter().filter(|key| self.0.get(*key) != new.0.get(*key)).cloned().collect()
    }

    /// Takes over from `new` what a reload has put in force, and says what it could not.
    pub(super) fn take_over(&mut self, new: &Self, live: &[&str]) -> Vec<String> {
        let (taken, left): (Vec<_>, Vec<_>) =
            self.changed(new).into_iter().partition(|key| live.contains(&key.as_str()));
        for key in taken {
            match new.0.get(&key) {
                Some(hash) => self.0.insert(key, *hash),
                None => self.0.remove(&key),
            };
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::*;

    fn stamp(effective: &str, written: &[(&str, &str)], inputs: &[u8]) -> Stamp {
        let value = |text: &&str| Value::from((*text).to_owned());
        let written = written.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
        Stamp::new(&effective.parse().unwrap(), &written, inputs)
    }

    #[test]
    fn what_differs_is_named_also_where_it_is_masked() {
        let old = stamp("a = 1\nkey = \"***\"\n", &[("key", "one")], b"");
        assert_eq!(old.changed(&stamp("a = 1\nkey = \"***\"\n", &[("key", "one")], b"")).len(), 0);
        let named = |new: &Stamp| old.changed(new).into_iter().collect::<Vec<_>>().join(",");
        assert_eq!(named(&stamp("a = 2\nkey = \"***\"\n", &[("key", "one")], b"")), "a");
        assert_eq!(named(&stamp("a = 1\nkey = \"***\"\n", &[("key", "two")], b"")), "key");
        assert_eq!(named(&stamp("key = \"***\"\nb = 1\n", &[("key", "one")], b"")), "a,b");
        assert_eq!(old.changed(&stamp("a = 1\nkey = \"***\"\n", &[("key", "one")], b"x")).len(), 1);
        // Written down or left to its default is the same.
        assert_eq!(stamp("a = 1", &[("a", "1")], b""), stamp("a = 1", &[], b""));
    }

    #[test]
    fn what_needs_a_restart_stays_different_until_there_was_one() {
        let mut old = stamp("a = 1\nb = 1\n", &[], b"");
        let new = stamp("a = 2\nb = 2\n", &[], b"");
        assert_eq!(old.take_over(&new, &["a"]), ["b"]);
        assert_eq!(old.take_over(&new, &["a"]), ["b"]);
        assert_eq!(old.changed(&new).into_iter().collect::<Vec<_>>(), ["b"]);
    }
}

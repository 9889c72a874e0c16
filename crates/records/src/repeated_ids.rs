//! Finds ids that occur more than once in an input, so that only the last record with an id is stored.
//!
//! Exporters append a newer version of a record to their file, so the last record is the current one. Storing all of
//! them in turn would embed each, and the next run would take each for a change again. The records are therefore read
//! twice: first to find the repeated ids, and then to store the records.
//!
//! Trade-off: reading twice costs a few seconds for each million records, but the memory stays small. An id that occurs
//! once takes 9 to 21 bytes: a 64-bit hash in a set. Only repeated ids are kept as texts. Two ids may have the same
//! hash; then both are kept as texts, and are still distinguished.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use super::{Item, Records, RecordsOptions, Shape};

/// Position of a record in an input of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index of the file in the input.
    pub file: usize,
    /// Line number, starting at 1.
    pub line: u64,
}

/// Says whether a record is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// True if no later record has the same id.
    pub is_last: bool,
    /// Place of the previous record with the same id.
    pub earlier: Option<Place>,
}

/// Holds the ids that an input repeats.
#[derive(Debug, Default)]
pub struct RepeatedIds(HashMap<String, Repeated>);

#[derive(Debug)]
struct Repeated {
    last: Place,
    /// Place of the record that was met before.
    met: Option<Place>,
}

impl RepeatedIds {
    /// Reads the files and finds the ids that occur more than once. A record that `accepts` refuses, or that cannot be
    /// read, does not replace an earlier record. A file that cannot be read to its end counts as far as it can be read.
    /// Stops early if `is_stopped` returns true; the result is then incomplete.
    pub fn find(
        files: &[PathBuf],
        shape: &Shape,
        options: &RecordsOptions,
        accepts: &dyn Fn(&Item, Place) -> bool,
        is_stopped: &dyn Fn() -> bool,
    ) -> Self {
        let mut ids = Ids::default();
        for (file, path) in files.iter().enumerate() {
            let Ok(records) = Records::open(path, shape.clone(), options.clone()) else { continue };
            for (line, result) in records {
                if is_stopped() {
                    return Self::default();
                }
                for item in result.unwrap_or_default() {
                    ids.add(&item, Place { file, line }, accepts);
                }
            }
        }
        Self(ids.repeated)
    }

    /// Returns how the record at a place relates to the other records with its id. Call this once for each record, in
    /// the order of the input.
    pub fn meet(&mut self, key: &str, at: Place) -> Occurrence {
        match self.0.get_mut(key) {
            None => Occurrence { is_last: true, earlier: None },
            // The file may have grown since it was read, so a later record counts as well.
            Some(repeated) => Occurrence { is_last: at >= repeated.last, earlier: repeated.met.replace(at) },
        }
    }
}

#[derive(Default)]
struct Ids {
    seen: HashSet<u64>,
    repeated: HashMap<String, Repeated>,
}

impl Ids {
    fn add(&mut self, item: &Item, at: Place, accepts: &dyn Fn(&Item, Place) -> bool) {
        let mut hasher = DefaultHasher::new();
        item.key.hash(&mut hasher);
        self.add_hashed(hasher.finish(), item, at, accepts);
    }

    fn add_hashed(&mut self, hash: u64, item: &Item, at: Place, accepts: &dyn Fn(&Item, Place) -> bool) {
        if !self.seen.insert(hash) && accepts(item, at) {
            self.repeated.insert(item.key.clone(), Repeated { last: at, met: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ItemKind;
    use proptest::prelude::*;

    fn shape() -> Shape {
        Shape::Records { id: "id".into(), text: "text".into() }
    }

    fn item(key: &str) -> Item {
        let (key, text) = (key.to_owned(), "text".to_owned());
        Item { key, kind: ItemKind::Record, input: text.clone(), text, metadata: serde_json::Map::new(), noise: false }
    }

    type Kept = Vec<(usize, u64, String)>;
    type Earlier = Vec<(Place, Place)>;

    /// Returns the records that count, as file, line and text, and all places with an earlier record of the same id.
    fn kept(files: &[String], accepts: &dyn Fn(&Item, Place) -> bool) -> (Kept, Earlier) {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| folder.path().join(format!("{n}.jsonl"));
        let paths: Vec<PathBuf> = (0..files.len()).map(path).collect();
        for (path, text) in paths.iter().zip(files) {
            std::fs::write(path, text).unwrap();
        }
        let mut repeated = RepeatedIds::find(&paths, &shape(), &RecordsOptions::default(), accepts, &|| false);
        let (mut kept, mut earlier) = (Vec::new(), Vec::new());
        for (file, path) in paths.iter().enumerate() {
            for (line, result) in Records::open(path, shape(), RecordsOptions::default()).unwrap() {
                for item in result.unwrap_or_default() {
                    let at = Place { file, line };
                    let met = repeated.meet(&item.key, at);
                    earlier.extend(met.earlier.map(|earlier| (earlier, at)));
                    if met.is_last {
                        kept.push((file, line, item.text));
                    }
                }
            }
        }
        (kept, earlier)
    }

    fn record(id: &str, text: &str) -> String {
        format!("{{\"id\":{id},\"text\":\"{text}\"}}\n")
    }

    #[test]
    fn the_last_record_with_an_id_counts_over_all_files() {
        let first = [record("1", "a"), record("\"1\"", "b"), record("2", "c"), record("3", "d")].concat();
        let second = [record("1", "e"), "nonsense\n".into(), record("3", "refused"), record("3", "f")].concat();
        let third = [record("3", "refused"), "{\"id\":2}\n".to_owned()].concat();
        let (kept, earlier) = kept(&[first, second, third], &|item, _| item.text != "refused");
        let kept: Vec<_> = kept.iter().map(|(file, line, text)| (*file, *line, text.as_str())).collect();
        // The last record of id 3 is refused, so it does not replace the record before it.
        assert_eq!(kept, [(0, 3, "c"), (1, 1, "e"), (1, 4, "f"), (2, 1, "refused")]);
        let at = |file, line| Place { file, line };
        let expected = [
            (at(0, 1), at(0, 2)),
            (at(0, 2), at(1, 1)),
            (at(0, 4), at(1, 3)),
            (at(1, 3), at(1, 4)),
            (at(1, 4), at(2, 1)),
        ];
        assert_eq!(earlier, expected);
    }

    #[test]
    fn ids_with_the_same_hash_are_distinguished() {
        let mut ids = Ids::default();
        let place = |line| Place { file: 0, line };
        for (line, key) in [(1, "a"), (2, "b"), (3, "a")] {
            ids.add_hashed(7, &item(key), place(line), &|_, _| true);
        }
        let mut repeated = RepeatedIds(ids.repeated);
        let met: Vec<_> = [(1, "a"), (2, "b"), (3, "a")].map(|(line, key)| repeated.meet(key, place(line))).into();
        let expected = [(false, None), (true, None), (true, Some(place(1)))];
        assert_eq!(met, expected.map(|(is_last, earlier)| Occurrence { is_last, earlier }));
    }

    proptest! {
        #[test]
        fn each_id_is_kept_once_with_its_last_text(
            records in proptest::collection::vec(("[a-e]", "[a-z]{1,3}"), 0..30), split in 0_usize..30,
        ) {
            let split = split.min(records.len());
            let text = |part: &[(String, String)]| -> String {
                part.iter().map(|(id, text)| record(&format!("\"{id}\""), text)).collect()
            };
            let (found, _) = kept(&[text(&records[..split]), text(&records[split..])], &|_, _| true);
            let mut last: HashMap<&str, &str> = HashMap::new();
            for (id, text) in &records {
                last.insert(id, text);
            }
            let mut expected: Vec<&str> = last.into_values().collect();
            let mut found: Vec<&str> = found.iter().map(|(_, _, text)| text.as_str()).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}

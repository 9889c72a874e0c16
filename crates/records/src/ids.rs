//! Builds entity keys, and derives document ids from entity keys.
//!
//! An entity key identifies an item: a line or a word of a receipt, or a generic record. The name of a stored object
//! contains the document id, so a document id allows fewer characters than an entity key. Different keys always have
//! different ids:
//!
//! | key | id |
//! | --- | --- |
//! | key of a receipt's line or word | the key with `.` in place of `#` |
//! | key that is already a valid document id | the key itself |
//! | any other key | `rec_` and 40 hex digits of the key's SHA-256 |
//!
//! The last row also applies to a key that looks like an id from the first or the last row. Such a key is a valid
//! document id, but it may already be the id of another key.

use docweir_core::documents::{DocumentId, Sha256Hex};

const HASHED: &str = "rec_";

pub(super) fn line_key(image_id: &str, receipt_id: u32, line_id: u32) -> String {
    format!("IMAGE#{image_id}#RECEIPT#{receipt_id:05}#LINE#{line_id:05}")
}

pub(super) fn word_key(image_id: &str, receipt_id: u32, line_id: u32, word_id: u32) -> String {
    format!("{}#WORD#{word_id:05}", line_key(image_id, receipt_id, line_id))
}

/// Returns the document id of the item with this entity key.
pub fn document_id(key: &str) -> DocumentId {
    let readable = if is_entity_key(key, '#') {
        DocumentId::parse(&key.replace('#', "."))
    } else {
        DocumentId::parse(key).filter(|_| !key.starts_with(HASHED) && !is_entity_key(key, '.'))
    };
    readable.unwrap_or_else(|| hashed(key))
}

fn hashed(key: &str) -> DocumentId {
    let digest = Sha256Hex::of(key.as_bytes());
    let digits = digest.as_str().chars().take(40);
    // Hex digits always parse, so the fallback is never used.
    DocumentId::parse(&HASHED.chars().chain(digits).collect::<String>()).unwrap_or_else(|| DocumentId::mint(0, 0))
}

/// Holds the parts of an entity key that names a line or a word of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entity<'a> {
    pub image: &'a str,
    pub receipt: u32,
    pub line: u32,
    /// Number of the word; `None` if the key names a line.
    pub word: Option<u32>,
}

/// Parses the entity key of a line or a word.
pub(super) fn parse(key: &str) -> Option<Entity<'_>> {
    parsed(key, '#')
}

fn is_entity_key(key: &str, separator: char) -> bool {
    parsed(key, separator).is_some()
}

fn parsed(key: &str, separator: char) -> Option<Entity<'_>> {
    let number = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let mut parts = key.split(separator);
    let mut named = |name: &str| parts.next().filter(|part| *part == name).and_then(|_| parts.next());
    let image = named("IMAGE").filter(|image| is_uuid(image))?;
    let (receipt, line) = (number(named("RECEIPT")?)?, number(named("LINE")?)?);
    let word = match parts.next() {
        None => None,
        Some("WORD") => Some(number(parts.next()?)?),
        Some(_) => return None,
    };
    parts.next().is_none().then_some(Entity { image, receipt, line, word })
}

/// Returns whether the text has the form of a UUID: hexadecimal digits in five groups. Version and variant are not
/// checked.
pub(super) fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const IMAGE: &str = "77d54558-60e9-588f-b59d-b48ccb1181d8";

    #[test]
    fn ids_stay_readable_where_they_can() {
        let word = word_key(IMAGE, 1, 22, 333);
        assert_eq!(word, format!("IMAGE#{IMAGE}#RECEIPT#00001#LINE#00022#WORD#00333"));
        assert_eq!(document_id(&word).as_str(), word.replace('#', "."));
        for safe in ["a", "A-1.b_c", "42", "doc_20250131_120005_00abc123", "IMAGE.x", &"x".repeat(128)] {
            assert_eq!(document_id(safe).as_str(), safe);
        }
        let line = line_key(IMAGE, 1, 22);
        let hashed = [
            "a#b",
            "a b",
            "ü",
            ".hidden",
            "rec_",
            "rec_0123",
            &"x".repeat(129),
            &line.replace('#', "."),
            &word.replace('#', "."),
            &line.replace("#LINE", "#line"),
            &format!("{line}#"),
        ];
        for key in hashed {
            let id = document_id(key);
            assert!(id.as_str().starts_with("rec_") && id.as_str().len() == 44 && id.as_str() != key, "{key}: {id}");
        }
    }

    fn keys() -> impl Strategy<Value = String> {
        let numbers = (0..3_u32, 0..3_u32, 0..3_u32);
        prop_oneof![
            "[ab.#_-]{1,4}",
            "rec_[0-9a-f]{0,2}",
            any::<String>(),
            "[a.]{126,130}",
            numbers.clone().prop_map(|(r, l, _)| line_key(IMAGE, r, l)),
            numbers.prop_map(|(r, l, w)| word_key(IMAGE, r, l, w)),
            "IMAGE[.#]77d54558-60e9-588f-b59d-b48ccb1181d8[.#]RECEIPT[.#]0000[0-2][.#]LINE[.#]0000[0-2]",
        ]
    }

    proptest! {
        /// Checks that different keys have different ids. An id may itself be used as a key. The test therefore adds
        /// the ids of all keys to the set of keys, and does this twice.
        #[test]
        fn different_keys_have_different_ids(keys in proptest::collection::vec(keys(), 1..40)) {
            let mut all: BTreeSet<String> = keys.into_iter().collect();
            for _ in 0..2 {
                let ids: Vec<String> = all.iter().map(|k| document_id(k).to_string()).collect();
                all.extend(ids);
            }
            let mut taken = BTreeMap::new();
            for key in all {
                let id = document_id(&key);
                prop_assert!(!id.as_str().starts_with("doc_1970"), "not minted");
                if let Some(other) = taken.insert(id, key.clone()) {
                    prop_assert!(false, "{key:?} and {other:?} have one id");
                }
            }
        }
    }
}

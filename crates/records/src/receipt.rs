//! Parses and checks a receipt from OCR. Unknown fields are ignored. If a required field is missing or a value is
//! invalid, the whole receipt is refused, because the words of a partial receipt would have the wrong neighbours.
//!
//! | field | belongs to | meaning | if missing |
//! | --- | --- | --- | --- |
//! | `image_id` | receipt | UUID | refused |
//! | `receipt_id`, `line_id`, `word_id` | receipt, line, word | 0 to 99,999, unique in its list | refused |
//! | `source` | receipt | origin of the receipt | no metadata of this name |
//! | `lines` | receipt | at least one | refused |
//! | `words` | line | list of words | line without words |
//! | `text` | line, word | text as read by OCR | refused |
//! | `bounding_box` | line, word | `x`, `y`, `width`, `height` | refused |
//! | `confidence` | line, word | 0 to 1 | no metadata of this name |
//! | `is_noise`, `embedding_status` | line, word | noise if `true` or `NOISE` | not marked as noise |
//! | `label_status` | word | validation status of its label | `unvalidated` |

use std::collections::HashSet;

use serde_json::Value;

use super::error::RecordError;
use super::fields::{Object, list, optional, required};
use super::ids::is_uuid;

pub(super) struct Receipt<'a> {
    pub image_id: &'a str,
    pub receipt_id: u32,
    pub source: Option<&'a str>,
    pub lines: Vec<ReceiptLine<'a>>,
}

pub(super) struct ReceiptLine<'a> {
    pub piece: Piece<'a>,
    pub words: Vec<ReceiptWord<'a>>,
}

pub(super) struct ReceiptWord<'a> {
    pub piece: Piece<'a>,
    pub label_status: &'a str,
}

/// Holds the common fields of lines and words.
pub(super) struct Piece<'a> {
    pub id: u32,
    pub text: &'a str,
    pub bounds: Bounds,
    pub confidence: Option<f64>,
    pub noise: bool,
}

/// Holds a box, in fractions of the image's width and height. `x` and `y` are the lower left corner of the box; y = 0
/// is the lower edge of the image.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl<'a> Receipt<'a> {
    pub(super) fn read(object: &'a Object) -> Result<Self, RecordError> {
        let image_id = required(object, "image_id", "a UUID", |v| v.as_str().filter(|t| is_uuid(t)))?;
        let receipt_id = id(object, "receipt_id")?;
        let source = optional(object, "source", "a string", Value::as_str)?;
        let lines = list(object, "lines", ReceiptLine::read)?;
        if lines.is_empty() {
            return Err(RecordError::field("lines", "must hold at least one line"));
        }
        unique("lines", "line_id", lines.iter().map(|l| l.piece.id))?;
        Ok(Self { image_id, receipt_id, source, lines })
    }
}

impl<'a> ReceiptLine<'a> {
    fn read(object: &'a Object) -> Result<Self, RecordError> {
        let piece = Piece::read(object, "line_id")?;
        let words = list(object, "words", ReceiptWord::read)?;
        unique("words", "word_id", words.iter().map(|w| w.piece.id))?;
        Ok(Self { piece, words })
    }
}

impl<'a> ReceiptWord<'a> {
    fn read(object: &'a Object) -> Result<Self, RecordError> {
        let label_status = optional(object, "label_status", "a string", Value::as_str)?.unwrap_or("unvalidated");
        Ok(Self { piece: Piece::read(object, "word_id")?, label_status })
    }
}

impl<'a> Piece<'a> {
    fn read(object: &'a Object, id_field: &str) -> Result<Self, RecordError> {
        let text = required(object, "text", "a string", Value::as_str)?;
        let marked = optional(object, "is_noise", "true or false", Value::as_bool)?.unwrap_or(false)
            || optional(object, "embedding_status", "a string", Value::as_str)? == Some("NOISE");
        let confidence = |v: &Value| v.as_f64().filter(|c| (0.0..=1.0).contains(c));
        Ok(Self {
            id: id(object, id_field)?,
            text,
            bounds: Bounds::read(required(object, "bounding_box", "an object", Value::as_object)?)
                .map_err(|e| e.within("bounding_box"))?,
            confidence: optional(object, "confidence", "a number from 0 to 1", confidence)?,
            noise: marked || !text.contains(char::is_alphanumeric),
        })
    }
}

impl Bounds {
    /// Reads a box. Boxes in a crooked photograph may extend beyond the image, so positions from -1 to 2 are
    /// accepted. Larger numbers are probably pixels and are refused.
    fn read(object: &Object) -> Result<Self, RecordError> {
        let number = |field, low: f64| {
            let wanted = format!("a number from {low} to 2, as a fraction of the image");
            required(object, field, &wanted, |v| v.as_f64().filter(|n| (low..=2.0).contains(n)))
        };
        Ok(Self {
            x: number("x", -1.0)?,
            y: number("y", -1.0)?,
            width: number("width", 0.0)?,
            height: number("height", 0.0)?,
        })
    }

    pub(super) fn centre_x(&self) -> f64 {
        self.x + self.width / 2.0
    }

    pub(super) fn centre_y(&self) -> f64 {
        self.y + self.height / 2.0
    }

    /// Returns whether a horizontal line at `y` crosses the box or touches its edge. A line through the box's own
    /// centre always crosses the box.
    pub(super) fn crosses(&self, y: f64) -> bool {
        (self.y..=self.y + self.height).contains(&y)
    }
}

/// Reads a numeric id. Entity keys contain each id as five digits, so a longer id would break the order of the keys.
fn id(object: &Object, field: &str) -> Result<u32, RecordError> {
    let take = |v: &Value| u32::try_from(v.as_u64()?).ok().filter(|id| *id <= 99_999);
    required(object, field, "a whole number from 0 to 99999", take)
}

fn unique(list: &str, field: &str, ids: impl Iterator<Item = u32>) -> Result<(), RecordError> {
    let mut seen = HashSet::new();
    match ids.enumerate().find(|(_, id)| !seen.insert(*id)) {
        Some((at, _)) => {
            Err(RecordError::field(format!("{list}[{at}].{field}"), "must not repeat an earlier id of the same list"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn receipt() -> Value {
        let bounds = json!({"x": 0.1, "y": 0.2, "width": 0.3, "height": 0.04});
        let word =
            |id| json!({"word_id": id, "text": "SECRET", "bounding_box": bounds, "confidence": 0.5, "is_noise": false});
        let line =
            |id| json!({"line_id": id, "text": "SECRET SECRET", "bounding_box": bounds, "words": [word(1), word(2)]});
        let image = "77d54558-60e9-588f-b59d-b48ccb1181d8";
        json!({"image_id": image, "receipt_id": 1, "lines": [line(1), line(2)], "new": [{}]})
    }

    #[test]
    fn what_is_optional_has_a_default_and_what_is_unknown_is_passed_over() {
        let mut value = receipt();
        value["lines"][0]["words"] = Value::Null;
        let receipt = Receipt::read(value.as_object().unwrap()).unwrap();
        let word = &receipt.lines[1].words[0];
        assert_eq!((receipt.source, receipt.lines[0].words.len(), receipt.lines[1].piece.confidence), (None, 0, None));
        assert_eq!((word.label_status, word.piece.confidence, word.piece.noise), ("unvalidated", Some(0.5), false));
    }

    #[test]
    fn a_receipt_that_cannot_be_used_is_refused_by_the_field_and_not_by_its_text() {
        let table: Vec<(&str, Value, &str)> = vec![
            ("/image_id", Value::Null, "`image_id` is missing"),
            ("/image_id", json!("SECRET"), "`image_id` must be a UUID"),
            ("/image_id", json!("77d54558-60e9-588f-b59d-b48ccb1181d"), "`image_id` must be a UUID"),
            ("/image_id", json!("77d54558#60e9-588f-b59d-b48ccb1181d8"), "`image_id` must be a UUID"),
            ("/receipt_id", json!(-1), "`receipt_id` must be a whole number from 0 to 99999"),
            ("/receipt_id", json!(100_000), "`receipt_id` must be a whole number from 0 to 99999"),
            ("/receipt_id", json!(1.5), "`receipt_id` must be a whole number from 0 to 99999"),
            ("/lines", json!([]), "`lines` must hold at least one line"),
            ("/lines", Value::Null, "`lines` must hold at least one line"),
            ("/lines", json!("SECRET"), "`lines` must be a list"),
            ("/lines/1", json!("SECRET"), "`lines[1]` must be an object"),
            ("/lines/1/line_id", json!(1), "`lines[1].line_id` must not repeat an earlier id of the same list"),
            (
                "/lines/1/words/1/word_id",
                json!(1),
                "`lines[1].words[1].word_id` must not repeat an earlier id of the same list",
            ),
            ("/lines/1/text", Value::Null, "`lines[1].text` is missing"),
            ("/lines/1/words/0/text", json!(["SECRET"]), "`lines[1].words[0].text` must be a string"),
            ("/lines/1/words/0/confidence", json!(1.01), "`lines[1].words[0].confidence` must be a number from 0 to 1"),
            ("/lines/1/words/0/is_noise", json!("SECRET"), "`lines[1].words[0].is_noise` must be true or false"),
            ("/lines/0/bounding_box", Value::Null, "`lines[0].bounding_box` is missing"),
            ("/lines/0/bounding_box/x", Value::Null, "`lines[0].bounding_box.x` is missing"),
            (
                "/lines/0/bounding_box/x",
                json!("NaN"),
                "`lines[0].bounding_box.x` must be a number from -1 to 2, as a fraction",
            ),
            (
                "/lines/0/bounding_box/y",
                json!(812),
                "`lines[0].bounding_box.y` must be a number from -1 to 2, as a fraction",
            ),
            ("/lines/0/bounding_box/width", json!(-0.1), "`lines[0].bounding_box.width` must be a number from 0 to 2"),
        ];
        for (place, value, expected) in table {
            let mut receipt = receipt();
            *receipt.pointer_mut(place).unwrap() = value;
            let Err(error) = Receipt::read(receipt.as_object().unwrap()) else { panic!("{place} passed") };
            let error = error.to_string();
            assert!(error.starts_with(expected) && !error.contains("SECRET"), "{place}: {error}");
        }
    }

    #[test]
    fn noise_is_what_is_marked_or_has_no_letter_and_no_digit() {
        let table = [
            (":", json!({}), true),
            ("(**)", json!({}), true),
            (" ", json!({}), true),
            ("", json!({}), true),
            ("_", json!({}), true),
            (":", json!({"is_noise": false}), true),
            ("A", json!({}), false),
            ("#1", json!({}), false),
            ("é", json!({}), false),
            ("茶", json!({}), false),
            ("TOTAL", json!({"is_noise": true}), true),
            ("TOTAL", json!({"is_noise": false, "embedding_status": "PENDING"}), false),
            ("TOTAL", json!({"embedding_status": "NOISE"}), true),
        ];
        for (text, marks, expected) in table {
            let mut receipt = receipt();
            let word = receipt.pointer_mut("/lines/0/words/0").unwrap().as_object_mut().unwrap();
            word.insert("text".into(), text.into());
            word.extend(marks.as_object().unwrap().clone());
            let read = Receipt::read(receipt.as_object().unwrap()).unwrap();
            assert_eq!(read.lines[0].words[0].piece.noise, expected, "{text:?} {marks}");
        }
    }
}

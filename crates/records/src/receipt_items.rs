//! Turns each line and each word of a receipt into an item. The lines are for the collection `receipt_lines`, and the
//! words are for the collection `receipt_words`.
//!
//! A single word has little meaning, so a word is embedded with its position and its neighbours. A line is embedded
//! without its position, because the rows around a line describe it better than its position.

use serde_json::{Map, Value};

use super::error::RecordError;
use super::ids::{line_key, word_key};
use super::layout::{neighbours, position, rows_around};
use super::options::RecordsOptions;
use super::receipt::{Piece, Receipt, ReceiptLine, ReceiptWord};
use super::{Item, ItemKind};

/// Placeholder for a neighbour or row that does not exist.
const EDGE: &str = "<EDGE>";

/// Estimated memory of an item in addition to its texts, in bytes. The estimate covers names, numbers and ids.
const ITEM_BYTES: usize = 1_536;

/// Returns the items of a receipt: first the lines, then the words, each in the order of the file.
pub(super) fn items(receipt: &Receipt, options: &RecordsOptions) -> Result<Vec<Item>, RecordError> {
    let words: Vec<(&ReceiptLine, &ReceiptWord)> =
        receipt.lines.iter().flat_map(|l| l.words.iter().map(move |w| (l, w))).collect();
    let (found, limit) = (receipt.lines.len() + words.len(), options.max_record_items);
    if found > limit {
        return Err(RecordError::TooManyItems { found, limit });
    }
    let line_pieces: Vec<&Piece> = receipt.lines.iter().map(|l| &l.piece).collect();
    let word_pieces: Vec<&Piece> = words.iter().map(|(_, w)| &w.piece).collect();
    let line_items = receipt.lines.iter().map(|line| {
        let rows = rows_around(&line_pieces, &line.piece);
        line_item(receipt, line, rows.each_ref().map(Option::as_deref), options.line_context)
    });
    let word_items = words.iter().enumerate().map(|(at, (line, word))| {
        let beside = neighbours(&word_pieces, at, &word.piece);
        word_item(receipt, line, word, beside.map(|n| n.unwrap_or(EDGE)))
    });
    let mut room = options.max_items_bytes;
    let fits = |item: Item| {
        room = room.checked_sub(weight_bytes(&item)).ok_or(RecordError::TooLarge { limit: options.max_items_bytes })?;
        Ok(item)
    };
    line_items.chain(word_items).map(fits).collect()
}

fn line_item(receipt: &Receipt, line: &ReceiptLine, [above, below]: [Option<&str>; 2], line_context: bool) -> Item {
    let piece = &line.piece;
    let mut metadata = common(receipt, line, piece);
    let known: Vec<f64> = line.words.iter().filter_map(|w| w.piece.confidence).collect();
    if !known.is_empty() {
        put(&mut metadata, "avg_word_confidence", known.iter().sum::<f64>() / known.len() as f64);
    }
    put(&mut metadata, "prev_line", above.unwrap_or(EDGE));
    put(&mut metadata, "next_line", below.unwrap_or(EDGE));
    let [before, after] = [above, below].map(|row| row.filter(|_| line_context));
    let input: Vec<&str> = [before, Some(piece.text), after].into_iter().flatten().collect();
    item(line_key(receipt.image_id, receipt.receipt_id, piece.id), ItemKind::Line, input.join("\n"), piece, metadata)
}

fn word_item(receipt: &Receipt, line: &ReceiptLine, word: &ReceiptWord, [left, right]: [&str; 2]) -> Item {
    let piece = &word.piece;
    let mut metadata = common(receipt, line, piece);
    put(&mut metadata, "word_id", piece.id);
    put(&mut metadata, "left", left);
    put(&mut metadata, "right", right);
    put(&mut metadata, "label_status", word.label_status);
    let input = format!(
        "<TARGET>{}</TARGET> <POS>{}</POS> <CONTEXT>{left} {right}</CONTEXT>",
        piece.text,
        position(&piece.bounds)
    );
    item(
        word_key(receipt.image_id, receipt.receipt_id, line.piece.id, piece.id),
        ItemKind::Word,
        input,
        piece,
        metadata,
    )
}

fn item(key: String, kind: ItemKind, input: String, piece: &Piece, metadata: Map<String, Value>) -> Item {
    Item { key, kind, input, text: piece.text.to_owned(), metadata, noise: piece.noise }
}

fn common(receipt: &Receipt, line: &ReceiptLine, piece: &Piece) -> Map<String, Value> {
    let mut metadata = Map::new();
    put(&mut metadata, "image_id", receipt.image_id);
    put(&mut metadata, "receipt_id", receipt.receipt_id);
    put(&mut metadata, "line_id", line.piece.id);
    put(&mut metadata, "x", piece.bounds.x);
    put(&mut metadata, "y", piece.bounds.y);
    put(&mut metadata, "width", piece.bounds.width);
    put(&mut metadata, "height", piece.bounds.height);
    if let Some(source) = receipt.source {
        put(&mut metadata, "source", source);
    }
    if let Some(confidence) = piece.confidence {
        put(&mut metadata, "confidence", confidence);
    }
    metadata
}

fn put(metadata: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    metadata.insert(name.to_owned(), value.into());
}

fn weight_bytes(item: &Item) -> usize {
    let metadata: usize = item.metadata.values().filter_map(Value::as_str).map(str::len).sum();
    ITEM_BYTES + item.input.len() + item.text.len() + metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const IMAGE: &str = "77d54558-60e9-588f-b59d-b48ccb1181d8";

    /// Builds a receipt with three lines. TOTAL and its amount are two lines in one row; THANK YOU is below.
    fn receipt() -> Value {
        let piece = |id: &str, at: u32, text: &str, [x, y, width]: [f64; 3]| {
            let bounds = json!({"x": x, "y": y, "width": width, "height": 0.04});
            json!({id: at, "text": text, "bounding_box": bounds, "confidence": 0.5})
        };
        let mut amount = piece("line_id", 3, "RM 5.00", [0.7, 0.51, 0.3]);
        let [rm, five] = [("RM", 2, 0.7), ("5.00", 9, 0.9)].map(|(t, id, x)| piece("word_id", id, t, [x, 0.51, 0.1]));
        amount["words"] = json!([rm, five]);
        amount["words"][0]["label_status"] = "validated".into();
        let mut label = piece("line_id", 2, "TOTAL :", [0.0, 0.5, 0.3]);
        let [total, colon] =
            [("TOTAL", 1, 0.0), (":", 2, 0.2)].map(|(t, id, x)| piece("word_id", id, t, [x, 0.5, 0.1]));
        label["words"] = json!([total, colon]);
        let thanks = piece("line_id", 4, "THANK YOU", [0.3, 0.1, 0.4]);
        json!({"image_id": IMAGE, "receipt_id": 7, "source": "till/4", "lines": [amount, label, thanks]})
    }

    fn of(receipt: &Value, options: &RecordsOptions) -> Result<Vec<Item>, RecordError> {
        items(&Receipt::read(receipt.as_object().unwrap()).unwrap(), options)
    }

    #[test]
    fn keys_and_inputs_are_exact() {
        let items = of(&receipt(), &RecordsOptions::default()).unwrap();
        let base = format!("IMAGE#{IMAGE}#RECEIPT#00007");
        let expected = [
            ("#LINE#00003", "RM 5.00"),
            ("#LINE#00002", "TOTAL :"),
            ("#LINE#00004", "THANK YOU"),
            ("#LINE#00003#WORD#00002", "<TARGET>RM</TARGET> <POS>middle-right</POS> <CONTEXT>: 5.00</CONTEXT>"),
            ("#LINE#00003#WORD#00009", "<TARGET>5.00</TARGET> <POS>middle-right</POS> <CONTEXT>RM <EDGE></CONTEXT>"),
            ("#LINE#00002#WORD#00001", "<TARGET>TOTAL</TARGET> <POS>middle-left</POS> <CONTEXT><EDGE> :</CONTEXT>"),
            ("#LINE#00002#WORD#00002", "<TARGET>:</TARGET> <POS>middle-left</POS> <CONTEXT>TOTAL RM</CONTEXT>"),
        ];
        assert_eq!(items.len(), expected.len());
        for (item, (key, input)) in items.iter().zip(expected) {
            assert_eq!((item.key.as_str(), item.input.as_str()), (format!("{base}{key}").as_str(), input));
            assert_eq!(item.noise, item.text == ":");
            assert_eq!(item.kind, if key.contains("WORD") { ItemKind::Word } else { ItemKind::Line });
        }
    }

    #[test]
    fn a_line_between_its_rows_if_asked_for() {
        let items = of(&receipt(), &RecordsOptions { line_context: true, ..RecordsOptions::default() }).unwrap();
        let inputs: Vec<_> = items.iter().take(3).map(|i| i.input.as_str()).collect();
        assert_eq!(inputs, ["RM 5.00\nTHANK YOU", "TOTAL :\nTHANK YOU", "TOTAL : RM 5.00\nTHANK YOU"]);
        let plain = of(&receipt(), &RecordsOptions::default()).unwrap();
        assert_ne!(items[0].input_hash(), plain[0].input_hash());
        assert_eq!(items[3..], plain[3..], "words are the same");
    }

    #[test]
    fn metadata_is_that_of_the_piece() {
        let mut receipt = receipt();
        let items = of(&receipt, &RecordsOptions::default()).unwrap();
        let line = json!({
            "image_id": IMAGE, "receipt_id": 7, "line_id": 4, "source": "till/4",
            "x": 0.3, "y": 0.1, "width": 0.4, "height": 0.04, "confidence": 0.5,
            "prev_line": "TOTAL : RM 5.00", "next_line": "<EDGE>",
        });
        assert_eq!(Value::Object(items[2].metadata.clone()), line, "no words, no average of theirs");
        let word = json!({
            "image_id": IMAGE, "receipt_id": 7, "line_id": 3, "word_id": 2, "source": "till/4",
            "x": 0.7, "y": 0.51, "width": 0.1, "height": 0.04, "confidence": 0.5,
            "left": ":", "right": "5.00", "label_status": "validated",
        });
        assert_eq!(Value::Object(items[3].metadata.clone()), word);
        receipt["source"] = Value::Null;
        receipt["lines"][0]["confidence"] = Value::Null;
        receipt["lines"][0]["words"][0]["confidence"] = 1.into();
        let line = &of(&receipt, &RecordsOptions::default()).unwrap()[0].metadata;
        assert_eq!((line.get("source"), line.get("confidence")), (None, None));
        assert_eq!(line["avg_word_confidence"], json!(0.75));
    }

    #[test]
    fn a_receipt_is_limited_in_its_items_and_in_what_they_repeat() {
        let error = |options| of(&receipt(), &options).unwrap_err().to_string();
        let d = RecordsOptions::default();
        assert!(error(RecordsOptions { max_record_items: 6, ..d.clone() }).contains("7 lines and words"));
        assert!(of(&receipt(), &RecordsOptions { max_record_items: 7, ..d.clone() }).is_ok());
        assert!(error(RecordsOptions { max_items_bytes: 7 * ITEM_BYTES, ..d.clone() }).contains("max_items_bytes"));
        // Each line of one row has the whole other row as its next row, so the memory grows with the square of the
        // texts.
        let line = |id: u32, y: f64| {
            let bounds = json!({"x": 0.5, "y": y, "width": 0.1, "height": 0.1});
            json!({"line_id": id, "text": "x".repeat(400), "bounding_box": bounds})
        };
        let lines: Vec<Value> = (0..2_000).map(|i| line(i, if i % 2 == 0 { 0.2 } else { 0.6 })).collect();
        let mut wide = receipt();
        wide["lines"] = lines.into();
        assert!(matches!(of(&wide, &d), Err(RecordError::TooLarge { .. })));
    }
}

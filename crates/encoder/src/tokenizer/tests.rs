//! Tests the tokenizer with the small vocabulary in `small.json`: token ids equal those of the reference library, and
//! unsupported tokenizer files are refused.

use super::*;

fn small() -> TokenizerFile {
    serde_json::from_str(include_str!("small.json")).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_file(small()).unwrap()
}

#[test]
fn ids_are_those_of_the_reference() {
    let tokenizer = tokenizer();
    for (name, text, ids) in [
        ("nothing", "", &[2, 3]),
        ("white space", " \u{9}\u{d}\u{a}\u{2003}\u{3000}", &[2, 3]),
        ("pieces", "The leases is unfenced.", &[2, 5, 6, 10, 7, 11, 12, 9, 28, 3]),
        ("unknown", "the qlease", &[2, 5, 1, 3]),
        ("accents composed", "Café naïve", &[2, 13, 14, 3]),
        ("accents combining", "cafe\u{301}s", &[2, 13, 10, 3]),
        ("dotted capital", "İSTANBUL ß", &[2, 15, 43, 3]),
        ("ideographs", "東京the東", &[2, 16, 17, 5, 16, 3]),
        ("compatibility ideograph", "\u{f900}", &[2, 50, 3]),
        ("hangul", "한", &[2, 18, 19, 20, 3]),
        ("cyrillic", "Мир", &[2, 21, 22, 23, 3]),
        ("devanagari", "नमस्ते", &[2, 44, 45, 46, 47, 3]),
        ("emoji", "☃ 🙂 lease", &[2, 58, 1, 6, 3]),
        ("joined emoji", "👩\u{200d}💻", &[2, 1, 3]),
        ("decomposes to ascii", "≠ \u{1fef} \u{37e}", &[2, 24, 25, 26, 3]),
        ("typographic", "«the—lease»", &[2, 32, 5, 31, 6, 33, 3]),
        ("currency", "$12 €7", &[2, 30, 37, 51, 52, 3]),
        ("controls", "the\u{0} le\u{7}ase so\u{ad}ft\u{200b}hyphen \u{fffd}\u{e000}", &[2, 5, 6, 42, 3]),
        ("vertical tab joins", "a\u{b}b", &[2, 53, 55, 3]),
        ("next line joins", "a\u{85}b", &[2, 53, 55, 3]),
        ("special tokens", "a[SEP]b [MASK] [sep]", &[2, 53, 3, 54, 4, 39, 41, 40, 3]),
        ("broken special", "[SEP [[SEP]]", &[2, 39, 41, 39, 3, 40, 3]),
        ("hashes", "##d a##b", &[2, 48, 48, 1, 53, 48, 48, 54, 3]),
        ("number", "12.5 125", &[2, 37, 28, 1, 37, 38, 3]),
        ("newer marks stay", "a\u{11a33}b", &[2, 1, 3]),
        ("newer punctuation stays", "a\u{11a3f}b", &[2, 1, 3]),
        ("ligature", "ﬁ", &[2, 57, 3]),
    ] as [(&str, &str, &[u32]); 27]
    {
        assert_eq!(tokenizer.tokenize(text), ids, "{name}");
    }
}

#[test]
fn a_word_of_more_than_a_hundred_characters_is_unknown() {
    let tokenizer = tokenizer();
    let hundred = tokenizer.tokenize(&"x".repeat(100));
    assert_eq!((hundred.len(), &hundred[..3]), (53, &[2, 34, 36][..]));
    assert_eq!(tokenizer.tokenize(&"x".repeat(101)), [2, 1, 3]);
    assert_eq!(tokenizer.tokenize(&"x".repeat(1_000_000)), [2, 1, 3]);
    assert_eq!(tokenizer.tokenize(&format!("x{}", "\u{301}".repeat(300))), [2, 34, 3], "marks don't count");
}

#[test]
fn what_is_not_implemented_is_refused() {
    type Change = fn(&mut TokenizerFile);
    let changes: [(&str, Change); 10] = [
        ("uncased", |f| f.normalizer.lowercase = false),
        ("uncased", |f| f.normalizer.strip_accents = Some(false)),
        ("BertPreTokenizer", |f| f.pre_tokenizer.kind = "Metaspace".into()),
        ("WordPiece", |f| f.model.kind = Some("Unigram".into())),
        ("[CLS]", |f| f.model.vocab.retain(|token, _| token != "[CLS]")),
        ("rule", |f| f.added_tokens[0].lstrip = true),
        // A token that is added to the file changes vectors, and the hash of the vocabulary does not cover it.
        ("special token", |f| {
            let added = r#"{"id": 7, "content": "lease"}"#;
            f.added_tokens.push(serde_json::from_str(added).unwrap());
        }),
        ("special token", |f| f.added_tokens[0].id += 1),
        ("unknown words", |f| f.model.max_input_chars_per_word = 5),
        ("unknown words", |f| f.model.unk_token = "[PAD]".into()),
    ];
    for (word, change) in changes {
        let mut file = small();
        change(&mut file);
        let message = Tokenizer::from_file(file).err().unwrap();
        assert!(message.contains(word), "{message}");
    }
}

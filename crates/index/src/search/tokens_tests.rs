//! Tests the terms of texts in many scripts and forms.

use super::*;

/// Returns the terms of a text, with a sign after those that are no words: `-` for parts, `=` for identifiers, `°` for
/// fragments.
fn terms(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    each_token(text, |token| {
        let sign = match token.kind {
            Kind::Word => "",
            Kind::Part => "-",
            Kind::Whole { .. } => "=",
            Kind::Fragment => "°",
        };
        all.push(format!("{}{sign}", token.term));
    });
    all
}

#[track_caller]
fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(terms(text), *expected, "{text:?}");
    }
}

#[test]
fn words_of_many_scripts() {
    check(&[
        ("The Lease, fenced!", &["the", "lease", "fenced"]),
        ("don't", &["don", "t"]),
        ("Café CAFE\u{301} Straße Ærø Łódź", &["cafe", "cafe", "strasse", "aero", "lodz"]),
        ("İstanbul ısı", &["istanbul", "isi"]),
        ("ΣΊΣΥΦΟΣ", &["σισυφοσ"]),
        ("Ёлка й И\u{306}", &["елка", "й", "й"]),
        ("ﬁnance ＡＢＣ ½", &["finance", "abc", "12"]),
        ("हिन्दी", &["हिन्दी"]),
        ("مُحَمَّد", &["محمد"]),
        ("日本語", &["日°", "日本", "本°", "本語", "語°"]),
        ("水 x", &["水", "x"]),
        ("第3章", &["第", "3", "章"]),
        ("한국어", &["한°", "한국", "국°", "국어", "어°"]),
        ("ﾊﾝ", &["ハ°", "ハン", "ン°"]),
        ("", &[]),
        ("—…!", &[]),
    ]);
}

#[test]
fn decomposed_and_compatibility_forms_have_the_terms_of_the_usual_forms() {
    let table = [
        // Korean syllables and Japanese kana as macOS stores file names.
        ("\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}", "한국"),
        ("テ\u{3099}ータ", "データ"),
        ("ﾃﾞｰﾀ", "データ"),
        // Radicals that fonts map to instead of characters.
        ("⽔⽊", "水木"),
        ("\u{f900}", "豈"),
        ("Vie\u{323}\u{302}t", "việt"),
        ("Ｃ＋＋", "C"),
        ("ﷲ", "الله"),
    ];
    for (given, usual) in table {
        assert_eq!(terms(given), terms(usual), "{given}");
    }
}

#[test]
fn characters_without_a_visible_form_are_ignored() {
    for (given, usual) in [
        ("co\u{ad}operate", "cooperate"),
        ("zero\u{200b}width", "zerowidth"),
        ("a\u{200d}b\u{2060}c", "abc"),
        ("\u{202a}left\u{202c}", "left"),
        ("日\u{200b}本", "日本"),
        ("漢\u{fe00}字\u{e0100}", "漢字"),
        ("ERR-\u{2060}40", "ERR-40"),
    ] {
        assert_eq!(terms(given), terms(usual), "{given:?}");
    }
}

#[test]
fn digits_with_commas_are_numbers_or_lists() {
    check(&[
        ("4471,4472,4473", &["4471", "4472", "4473"]),
        ("1,250,000", &["1250000", "1°", "250°", "000°"]),
        ("1250000", &["1250000"]),
        ("12,345.67 kg", &["12345.67", "12°", "345.67°", "kg"]),
        ("3,5", &["3.5=", "3", "5"]),
        ("3.5", &["3.5"]),
        ("100,200", &["100200", "100°", "200°"]),
        ("1,22,333", &["1", "22", "333"]),
        ("7,500g", &["7", "500g"]),
        ("1, 2", &["1", "2"]),
        ("90551,1250,50118", &["90551", "1250", "50118"]),
    ]);
    let long = "12,".repeat(10_000);
    assert_eq!(terms(&long).iter().filter(|term| *term == "12").count(), 10_000);
}

#[test]
fn identifiers_are_found_whole_and_by_their_parts() {
    check(&[
        ("ERR-4032-b", &["err-4032-b=", "err", "4032", "b"]),
        ("ERR\u{2011}4032\u{2013}b", &["err-4032-b=", "err", "4032", "b"]),
        ("C++, C# and .NET", &["c++=", "c", "c#=", "c", "and", ".net=", "net"]),
        ("C++17", &["c++17=", "c", "17"]),
        ("std::string", &["std::string=", "std", "string"]),
        ("snake_case", &["snake_case=", "snake", "case"]),
        ("#1234 @name", &["#1234=", "1234", "@name=", "name"]),
        ("10.1038/s41586-021", &["10.1038/s41586-021=", "10.1038", "s41586-021=", "s41586", "021"]),
        ("a.b@c.example", &["a.b@c.example=", "a.b-", "a", "b", "c.example-", "c", "example"]),
        ("docs/set-up.md", &["docs/set-up.md-", "docs", "set-up.md-", "set", "up", "md"]),
        ("well-known and/or", &["well-known-", "well", "known", "and/or-", "and", "or"]),
        ("v2.0.1.", &["v2.0.1"]),
        ("x--y a..b", &["x", "y", "a", "b"]),
        ("end. Next", &["end", "next"]),
    ]);
    check(&[
        ("camelCase", &["camelcase", "camel-", "case-"]),
        ("HTTPResponse", &["httpresponse", "http-", "response-"]),
        ("PDFs DOIs NATO iPhone", &["pdfs", "dois", "nato", "iphone", "phone-"]),
    ]);
}

#[test]
fn words_broken_at_a_line_end_are_found_in_both_forms() {
    check(&[
        ("evapotrans-\npiration", &["evapotrans-piration-", "evapotranspiration-", "evapotrans", "piration"]),
        ("price-\r\n  determining", &["price-determining-", "pricedetermining-", "price", "determining"]),
        ("evapo\u{ad}\nration", &["evapo-ration-", "evaporation-", "evapo", "ration"]),
        ("REQ-\n20447", &["req-20447=", "req20447-", "req", "20447"]),
        ("n-tri-\ndecanal", &["n-tri-decanal-", "n", "tridecanal-", "tri", "decanal"]),
        ("one -\ntwo", &["one", "two"]),
    ]);
}

#[test]
fn endless_words_and_identifiers_are_cut() {
    assert_eq!(terms(&"a".repeat(10_000)), ["a".repeat(MAX_TERM_BYTES)]);
    assert!(terms(&"é".repeat(10_000))[0].len() <= MAX_TERM_BYTES);
    let url = |end: &str| format!("https://example.org/{}/{end}", "part/".repeat(12));
    let (one, other) = (terms(&url("one")), terms(&url("other")));
    assert!(one[0].len() <= MAX_TERM_BYTES && one[0] != other[0], "{} {}", one[0], other[0]);
    let endless = "ab/cd+".repeat(10_000);
    assert!(terms(&endless).iter().all(|term| term.len() <= MAX_TERM_BYTES + 1));
}

proptest::proptest! {
    #[test]
    fn any_text_can_be_tokenised(text in "(?s).{0,200}", signs in "[a-zA-Z0-9.,_/#+@$:\\-\n é日\u{ad}]{0,80}") {
        for text in [text, signs] {
            let mut last = 0;
            each_token(&text, |t| {
                assert!(text.get(t.bytes.clone()).is_some() && !t.bytes.is_empty());
                assert!(!t.term.is_empty() && t.term.len() <= MAX_TERM_BYTES + 4, "{:?}", t.term);
                assert!(t.bytes.start >= last, "terms are ordered by their starts");
                last = t.bytes.start;
            });
        }
    }
}

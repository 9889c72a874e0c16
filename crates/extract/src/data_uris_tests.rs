use proptest::prelude::*;

use super::*;

/// Returns base64 of so many bytes. It has every character that base64 has.
fn base64(length: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..length).map(|n| char::from(ALPHABET[(n * 7 + n / 64 * 11) % 64])).collect()
}

fn wrapped(payload: &str, width: usize, between: &str) -> String {
    let lines: Vec<&str> =
        (0..payload.len()).step_by(width).map(|at| &payload[at..payload.len().min(at + width)]).collect();
    lines.join(between)
}

fn without(text: &str) -> String {
    without_payloads(text.to_owned()).0
}

#[test]
fn the_payload_goes_and_the_rest_stays() {
    let payload = base64(3000);
    let (one, two) = (wrapped(&payload, 76, "\n"), wrapped(&payload, 64, "\n> "));
    let svg = "<svg xmlns='http://www.w3.org/2000/svg'><rect width=\"9\" transform=\"rotate(4)\"/>".to_owned()
        + &"<path d='M 0 0'/>".repeat(20)
        + "</svg>";
    let encoded = "%3Csvg%20xmlns%3D%22".to_owned() + &"%20d%3D(1)".repeat(40);
    let table = [
        (format!("![pump](data:image/png;base64,{payload}) x"), "![pump](data:image/png) x"),
        (format!("![pump](data:image/png;base64,{payload} \"A title\") x"), "![pump](data:image/png \"A title\") x"),
        (format!("![pump](<data:image/png;base64,{payload}>) x"), "![pump](<data:image/png>) x"),
        (format!("![a](DATA:Image/PNG;charset=x;base64,{payload}==)"), "![a](DATA:Image/PNG)"),
        (format!("![a](data:image/png;base64,{one})\n\nx y"), "![a](data:image/png)\n\nx y"),
        (format!("> ![a](data:image/png;base64,{two})\n> x y"), "> ![a](data:image/png)\n> x y"),
        (format!("![a](data: image/png;base64, {payload})"), "![a](data: image/png)"),
        (format!("[p]: data:image/png;base64,{payload} \"T\"\n\n# H"), "[p]: data:image/png \"T\"\n\n# H"),
        (format!("[p]: <data:image/png;base64,{payload}>\n"), "[p]: <data:image/png>\n"),
        (format!("<img src=\"data:image/gif;base64,{payload}\" alt=\"a\">"), "<img src=\"data:image/gif\" alt=\"a\">"),
        (format!("<img src='data:image/gif;base64,{one}'/>"), "<img src='data:image/gif'/>"),
        (format!("<img src=data:image/gif;base64,{payload}>"), "<img src=data:image/gif>"),
        (format!("a {{ src: url(data:font/woff2;base64,{payload}) }}"), "a { src: url(data:font/woff2) }"),
        (format!("see data:application/pdf;base64,{payload} here"), "see data:application/pdf here"),
        (format!("<img src=\"data:image/svg+xml,{encoded}\">"), "<img src=\"data:image/svg+xml\">"),
        (format!("![a](data:image/svg+xml,{encoded}) and more"), "![a](data:image/svg+xml) and more"),
        (format!("![a](data:image/svg+xml;utf8,{svg}) and more"), "![a](data:image/svg+xml) and more"),
    ];
    for (text, expected) in table {
        assert_eq!(without(&text), expected, "{}", &text[..60]);
    }
}

#[test]
fn a_payload_without_its_end_swallows_no_prose() {
    let payload = base64(700);
    let lines = wrapped(&payload, 76, "\n");
    let table = [
        (
            format!("![a](data:image/png;base64,{payload}\n\n## Next\n\nSome prose."),
            "![a](data:image/png)\n\n## Next\n\nSome prose.",
        ),
        (
            format!("![a](data:image/png;base64,{payload}\nSome prose (here)."),
            "![a](data:image/png)\nSome prose (here).",
        ),
        (
            format!("![a](data:image/png;base64,{lines}\n\nmore words follow"),
            "![a](data:image/png)\n\nmore words follow",
        ),
        (format!("<img src=\"data:image/png;base64,{lines}\n\nmore words"), "<img src=\"data:image/png\n\nmore words"),
        (format!("![a](data:image/png;base64,{payload}\n\n1) First step"), "![a](data:image/png)\n\n1) First step"),
        (
            format!("![a](data:image/png;base64,{payload}\n\nsome words) here"),
            "![a](data:image/png)\n\nsome words) here",
        ),
        (format!("<img src=\"data:image/png;base64,{lines}\nword\n\nx"), "<img src=\"data:image/png\nword\n\nx"),
    ];
    for (text, expected) in table {
        assert_eq!(without(&text), expected);
    }
}

#[test]
fn prose_about_data_uris_stays() {
    for text in [
        "Write `data:image/png;base64,…` in the address.",
        "data:text/plain;base64,SGVsbG8=",
        "data:text/plain,hello%20world",
        "The data: a, b and c. metadata:image/png;base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "data:\n\ndata:image\ndata:,",
        "time 12:30, data:image/png and nothing else",
    ] {
        assert_eq!(without_payloads(text.to_owned()), (text.to_owned(), None));
    }
}

#[test]
fn one_note_counts_images_and_bytes() {
    let (a, b) = (base64(400), base64(800));
    let two = format!("![a](data:image/png;base64,{a})\n![b](data:image/png;base64,{b})");
    let note = without_payloads(two.clone()).1.unwrap();
    assert_eq!(note, "embedded images left out of the text: 2 with 900 bytes in total");
    let three = format!("{two} data:application/zip;base64,{a}");
    let note = without_payloads(three).1.unwrap();
    assert_eq!(note, "embedded images and files left out of the text: 3 with 1200 bytes in total");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test of the running time needs the real time")]
fn hostile_texts_take_linear_time() {
    let begin = std::time::Instant::now();
    for piece in [
        "(data:image/png;base64,A ",
        "\"data:a/b,",
        "(data:a/b,x",
        "data:image/svg+xml,<svg ",
        "data:",
        "'data:;base64,A\n",
    ] {
        let text = piece.repeat(400_000 / piece.len() * 8);
        without_payloads(text);
    }
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

proptest! {
    #[test]
    fn text_around_payloads_is_never_lost(
        before in "[a-zA-Z #\n(\"'>]{0,12}", after in "[a-z .\n]{0,12}[ .\n][a-z #)\"'>\n]{0,12}", length in 64usize..400,
        open in proptest::sample::select(vec!["![x](", "<img src=\"", "", " ", "[x]: "]),
    ) {
        let text = format!("{before} {open}data:image/png;base64,{}{after}", base64(length));
        let (kept, note) = without_payloads(text);
        prop_assert!(note.is_some());
        let begin = format!("{before} {open}data:image/png");
        prop_assert!(kept.starts_with(&begin), "{}", kept);
        let rest = kept[begin.len()..].trim_start_matches(')');
        // Letters that directly follow the payload are part of it.
        let stays = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        prop_assert!(rest.trim_start_matches(|c: char| c.is_whitespace() || c == ')').ends_with(
            stays.trim_start_matches(|c: char| c.is_whitespace() || c == ')')), "{:?} {:?}", rest, stays);
    }

    #[test]
    fn any_text_is_taken(text in "(data:|;base64,|image/png|[A-Za-z0-9+/=]{0,30}|[(<\"'>)\n ]|é|<svg|</svg>|,|:){0,40}") {
        let (kept, _) = without_payloads(text.clone());
        prop_assert!(kept.len() <= text.len() + text.matches("data:").count());
    }
}

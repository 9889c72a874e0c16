//! Tests what a PDF gives beside what it draws: texts for glyphs, values of forms, comments, attached files and layers.

use docweir_core::model::BlockKind;

use super::super::*;
use super::pdfs::{PdfWriter, prose, show};

fn extract(pdf: &PdfWriter<'_>) -> ExtractedDocument {
    extract_in_process(pdf.bytes(), MediaType::Pdf, &ExtractOptions::default()).unwrap()
}

/// Returns the text of the first page with single spaces, without the marks of headings.
fn words(document: &ExtractedDocument) -> String {
    document.pages[0].text.replace('#', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Extracts a page with prose, the given annotations and the given entries of its form.
fn with_annotations(annotations: &str, form: &str) -> ExtractedDocument {
    let entries = format!("/Annots [{annotations}]");
    let catalog = format!("/AcroForm << /Fields [] {form} >>");
    let mut pdf = PdfWriter::new(vec![prose(50, 100, 4, "plain")]);
    (pdf.page_entries, pdf.catalog) = (&entries, &catalog);
    extract(&pdf)
}

fn widget(y: u32, rest: &str) -> String {
    format!("<< /Subtype /Widget /Rect [100 {} 300 {}] {rest} >>", 800 - y, 818 - y)
}

#[test]
fn a_given_text_takes_the_place_of_glyphs() {
    let line = |text: &str| format!("BT /F 10 Tf 50 700 Td {text} ET\n");
    let content = line(
        "(the o) Tj /Span << /ActualText <FEFF00660066> >> BDC (*) Tj EMC (ice of cer) Tj \
         /Span << /ActualText (tified) >> BDC (xxxxxx) Tj EMC ( work) Tj /Span << /ActualText () >> BDC (-) Tj EMC",
    );
    let document = extract(&PdfWriter::new(vec![content]));
    assert_eq!(words(&document), "the office of certified work");
}

#[test]
fn an_empty_text_never_hides_words_and_neither_does_an_open_one() {
    let content = "BT /F 10 Tf 50 700 Td /Span << /ActualText () >> BDC (secret words) Tj EMC 0 -20 Td \
                   /Span << /ActualText (never closed) >> BDC (zzzzz zzzzzz) Tj ET";
    assert_eq!(words(&extract(&PdfWriter::new(vec![content.into()]))), "secret words zzzzz zzzzzz");
}

#[test]
fn values_of_a_form_stand_in_their_fields() {
    let fields = [
        widget(200, "/FT /Tx /V (Maren Oldekop) /DA (/F 11 Tf)"),
        widget(230, "/FT /Ch /V (b) /Opt [[(a) (Sloop)] [(b) (Barquentine)]]"),
        widget(260, "/FT /Ch /V [(red) (blue)] /Opt [(red) (green) (blue)]"),
        widget(290, "/FT /Btn /AS /Yes"),
        widget(320, "/FT /Btn /AS /Off"),
        widget(350, "/Parent << /FT /Tx /V (from above) >>"),
        widget(400, "/FT /Tx /Ff 4096 /V (first line\\nsecond line)"),
        widget(430, "/FT /Tx /V 100 0 R"),
    ];
    let entries = format!("/Annots [{}]", fields.concat());
    let mut pdf = PdfWriter::new(vec![show("F", 10, 50, 100, "A form")]);
    pdf.page_entries = &entries;
    pdf.objects = vec!["<< /Length 8 >>\nstream\nstreamed\nendstream"];
    let text = words(&extract(&pdf));
    let expected = "A form Maren Oldekop Barquentine red, blue [x] [ ] from above first line second line streamed";
    assert_eq!(text, expected);
}

#[test]
fn a_value_that_the_page_shows_is_not_doubled() {
    let mut content = show("F", 10, 105, 195, "Maren Oldekop");
    content.push_str(&show("F", 10, 105, 225, "1,234.50"));
    let fields = widget(200, "/FT /Tx /V (MarenOldekop)") + &widget(230, "/FT /Tx /V (1234.5) /AP << /N 100 0 R >>");
    let entries = format!("/Annots [{fields}]");
    let mut pdf = PdfWriter::new(vec![content]);
    pdf.page_entries = &entries;
    pdf.objects = vec!["<< /Type /XObject /Subtype /Form /BBox [0 0 1 1] /Length 0 >>\nstream\n\nendstream"];
    assert_eq!(words(&extract(&pdf)), "Maren Oldekop 1,234.50");
}

#[test]
fn passwords_and_hidden_values_are_counted_and_not_read() {
    let fields = widget(200, "/FT /Tx /Ff 8192 /V (hunter2)") + &widget(230, "/FT /Tx /F 2 /V (unseen)");
    let document = with_annotations(&fields, "");
    assert!(!words(&document).contains("hunter2") && !words(&document).contains("unseen"));
    assert_eq!(document.notes, ["2 hidden values, hidden comments and passwords left out: page 1"]);
}

#[test]
fn comments_and_replies_follow_the_text_of_their_page() {
    let mark = "/Rect [50 690 100 700]";
    let document = with_annotations(
        &format!(
            "<< /Subtype /Highlight {mark} /T (Ana) /Contents (Is this so?) >>\
             << /Subtype /Text {mark} /IRT 100 0 R /T (Ben) /Contents (It is.) >>\
             << /Subtype /Text {mark} /State (Accepted) /T (Ben) /Contents (Accepted set by Ben) >>\
             << /Subtype /Link {mark} /Contents (a link) >>\
             << /Subtype /FreeText /Rect [50 400 200 420] /Contents (typed on the page) >>"
        ),
        "",
    );
    let page = &document.pages[0];
    let comments: Vec<&str> =
        page.blocks.iter().filter(|b| b.kind == BlockKind::Quote).map(|b| b.range.of(&page.text)).collect();
    assert_eq!(comments, ["Comment by Ana: Is this so?", "Reply by Ben: It is."]);
    assert!(page.text.contains("typed on the page"));
    assert!(!page.text.contains("a link") && !page.text.contains("Accepted"));
}

#[test]
fn attached_files_forms_of_another_kind_and_hidden_layers_are_named() {
    let mut pdf = PdfWriter::new(vec![prose(50, 100, 4, "plain")]);
    pdf.catalog = "/Names << /EmbeddedFiles << /Kids [<< /Names [(a) << /UF (annex-b.pdf) >> (minutes.txt) << >>] >>] >> >> \
                   /AcroForm << /XFA (x) >> \
                   /OCProperties << /OCGs [] /D << /OFF [<< /Type /OCG /Name (Draft) >>] >> >>";
    pdf.page_entries = "/Annots [<< /Subtype /FileAttachment /Rect [0 0 9 9] /FS << /F (photo.jpg) >> >>]";
    let notes = extract(&pdf).notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("3 attached files were not read: annex-b.pdf, minutes.txt, photo.jpg"), "{notes:?}");
    assert!(notes[1].contains("XFA"), "{notes:?}");
    assert_eq!(notes[2], "layers that are not shown were left out: Draft");
}

#[test]
fn glyphs_outside_the_page_are_counted() {
    let content = prose(50, 100, 4, "plain") + &show("F", 10, 700, 100, "beyond");
    let notes = extract(&PdfWriter::new(vec![content])).notes;
    assert_eq!(notes, ["6 glyphs outside the visible page left out: page 1"]);
}

#[test]
fn narrow_given_texts_keep_their_double_letters() {
    let content = "BT /F 10 Tf 50 700 Td /Span << /ActualText (Mississippi committee, success) >> BDC (X) Tj EMC ET";
    assert_eq!(words(&extract(&PdfWriter::new(vec![content.into()]))), "Mississippi committee, success");
}

#[test]
fn a_value_from_right_to_left_can_be_read() {
    let document = with_annotations(&widget(400, "/FT /Tx /V <FEFF05E905DC05D505DD002000320035>"), "");
    assert!(words(&document).contains("שלום 25"), "{}", words(&document));
}

#[test]
fn a_broken_entry_does_not_end_the_annotations() {
    let document = with_annotations(&format!("null 999 0 R (text) {}", widget(400, "/FT /Tx /V (still here)")), "");
    assert!(words(&document).contains("still here"));
}

#[test]
fn hidden_comments_are_counted_and_not_read() {
    let hidden = "<< /Subtype /Text /F 2 /Rect [0 0 9 9] /Contents (unseen) >>\
                  << /Subtype /FreeText /F 2 /Rect [0 0 90 90] /Contents (unseen too) >>";
    let document = with_annotations(hidden, "");
    assert!(!words(&document).contains("unseen"));
    assert_eq!(document.notes, ["2 hidden values, hidden comments and passwords left out: page 1"]);
}

#[test]
fn a_short_value_beside_a_caption_and_a_long_one_in_a_low_box_stay_whole() {
    let lines: Vec<String> = (1..=9).map(|n| format!("line{n}")).collect();
    let fields = widget(200, "/FT /Tx /V (1)")
        + &format!("<< /Subtype /Widget /Rect [100 460 300 500] /FT /Tx /Ff 4096 /V ({}) >>", lines.join("\\n"));
    let entries = format!("/Annots [{fields}]");
    let mut pdf =
        PdfWriter::new(vec![show("F", 8, 110, 195, "10 Amount") + &show("F", 10, 100, 352, "the text below")]);
    pdf.page_entries = &entries;
    let text = words(&extract(&pdf));
    assert!(text.split(' ').any(|word| word == "1"), "{text}");
    assert!(text.ends_with(&format!("{} the text below", lines.join(" "))), "{text}");
}

#[test]
fn many_references_to_one_long_value_are_bounded() {
    let values = "200 0 R ".repeat(20_000);
    let field = format!("/FT /Ch /V [{values}]");
    let long = format!("({})", "x".repeat(20_000));
    let entries = format!("/Annots [{}]", widget(200, &field).repeat(20));
    let mut pdf = PdfWriter::new(vec![prose(50, 100, 4, "plain")]);
    pdf.page_entries = &entries;
    let mut objects = vec!["null"; 100];
    objects.push(&long);
    pdf.objects = objects;
    let text = words(&extract(&pdf));
    assert!(text.len() < 20 * 30_000 && text.contains("xxxx"), "{}", text.len());
}

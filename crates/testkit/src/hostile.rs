//! Generates files that are damaged, encrypted, endless, or of another type than the file name says.
//!
//! [`all`] lists the files. For each file, the list states how a program that reads the file should behave. Storing the
//! files is harmless, because the largest has a few megabytes. Some of the files expand to a huge size, but only in a
//! program that reads them without limits.

use flate2::{Compress, Compression, FlushCompress};

use crate::generate::{pages, two_pages};
use crate::pdf::{Objects, Pdf, PdfPage, deflate, stream};

/// Describes the correct behaviour of a program that reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The program reads the file's text.
    Text,
    /// The program refuses the file at once, with the reason.
    Refused,
    /// The program stops its work at a limit of time, memory or nesting, or it detects the loop and finishes early.
    Limited,
    /// The program reads the readable part or refuses the file. PDF engines differ, and both results are correct.
    Either,
}

/// Holds a hostile file and the behaviour that is expected of its reader.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// File name in lower case. Its extension is what a user would see, even if the content has another type.
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub outcome: Expected,
}

/// User password of the PDFs from [`encrypted_rc4`] and [`encrypted_aes`]. Their owner password is `owner`.
pub const PASSWORD: &str = "weir";

/// Returns every file of this module, in sizes that a test on two cores can handle.
pub fn all() -> Vec<Hostile> {
    use Expected::{Either, Limited, Refused, Text};
    let entry = |name, bytes, outcome| Hostile { name, bytes, outcome };
    vec![
        entry("empty.pdf", Vec::new(), Refused),
        entry("only-a-header.pdf", b"%PDF-1.7\n".to_vec(), Refused),
        entry("program.pdf", program(), Refused),
        entry("page.html.pdf", web_page(), Refused),
        entry("encrypted-rc4.pdf", encrypted_rc4(), Refused),
        entry("encrypted-aes.pdf", encrypted_aes(), Refused),
        entry("encrypted-empty-password.pdf", encrypted_empty_password(), Text),
        entry("truncated.pdf", truncated(0.4), Either),
        entry("no-cross-references.pdf", no_cross_references(), Text),
        entry("no-trailer.pdf", no_trailer(), Either),
        entry("wrong-cross-references.pdf", wrong_cross_references(), Text),
        entry("cross-references-in-a-circle.pdf", cross_references_in_a_circle(), Either),
        entry("garbage-before-the-header.pdf", garbage_before_the_header(), Text),
        entry("lying-page-count.pdf", lying_page_count(), Either),
        entry("page-tree-in-a-circle.pdf", page_tree_in_a_circle(), Either),
        entry("deep-arrays.pdf", deep_arrays(200_000), Either),
        entry("form-in-itself.pdf", form_in_itself(), Limited),
        entry("spinning.pdf", spinning(), Limited),
        entry("bomb.pdf", bomb(2048), Limited),
        entry("broken-stream.pdf", broken_stream(), Either),
        entry("no-text.pdf", no_text(), Either),
        entry("5000-pages.pdf", pages(5_000, 5_000), Text),
    ]
}

/// Returns an executable file. [`all`] gives the file the name of a PDF.
pub fn program() -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
    out.extend((0..4096u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    out
}

/// Returns a sign-in page, which a server may send instead of a PDF when a session has ended.
pub fn web_page() -> Vec<u8> {
    b"<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>\n".to_vec()
}

/// Returns the first part of a valid file, as after an interrupted upload. `share` is the size of this part, from 0
/// to 1.
pub fn truncated(share: f64) -> Vec<u8> {
    let mut bytes = pages(8, 11);
    // The product is within the length of the file, so the cast loses only the fraction.
    bytes.truncate((bytes.len() as f64 * share.clamp(0.0, 1.0)) as usize);
    bytes
}

/// Returns two pages with a user password, encrypted with RC4 and 128 bits (PDF 1.4).
pub fn encrypted_rc4() -> Vec<u8> {
    include_bytes!("../data/encrypted-rc4.pdf").to_vec()
}

/// Returns two pages with a user password, encrypted with AES and 256 bits (PDF 2.0).
pub fn encrypted_aes() -> Vec<u8> {
    include_bytes!("../data/encrypted-aes.pdf").to_vec()
}

/// Returns two pages that are encrypted with an empty user password, so that any program may read them.
pub fn encrypted_empty_password() -> Vec<u8> {
    include_bytes!("../data/encrypted-empty-password.pdf").to_vec()
}

/// Returns a PDF without cross-references. A reader has to search for the objects, which are intact.
pub fn no_cross_references() -> Vec<u8> {
    let mut bytes = two_pages(12);
    if let (Some(table), Some(trailer)) = (find_last(&bytes, b"xref\n0 "), find_last(&bytes, b"trailer\n<<")) {
        bytes.drain(table..trailer);
    }
    bytes
}

/// Returns a PDF with neither cross-references nor a trailer. A reader has to search for the catalogue, too.
pub fn no_trailer() -> Vec<u8> {
    let mut bytes = two_pages(16);
    if let Some(table) = find_last(&bytes, b"xref\n0 ") {
        bytes.truncate(table);
    }
    bytes
}

/// Returns a file whose offsets are too small by some bytes, as after a transfer that changed the line breaks.
pub fn wrong_cross_references() -> Vec<u8> {
    let mut bytes = two_pages(13);
    // A comment of 29 bytes after the header moves all objects; the offsets stay as they were.
    let comment = *b"% this line moves everything\n";
    let at = bytes.iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
    bytes.splice(at..at, comment);
    bytes
}

/// Returns a file whose trailer names its own cross-reference table as the previous table.
pub fn cross_references_in_a_circle() -> Vec<u8> {
    let mut bytes = two_pages(14);
    if let (Some(table), Some(trailer)) = (find_last(&bytes, b"xref\n0 "), find_last(&bytes, b"trailer\n<<")) {
        let at = trailer + b"trailer\n<<".len();
        bytes.splice(at..at, format!("/Prev {table}").into_bytes());
    }
    bytes
}

/// Returns a PDF with the header of a mail part in front, as careless programs store it. The offsets in the file count
/// from the first byte of the PDF, and not from the first byte of this header.
pub fn garbage_before_the_header() -> Vec<u8> {
    let mut out = b"Content-Type: application/pdf\r\n\r\n".to_vec();
    out.extend_from_slice(&two_pages(15));
    out
}

/// Returns a PDF whose page tree claims to have a billion pages but has one page.
pub fn lying_page_count() -> Vec<u8> {
    let mut objects = Objects::new();
    let content = objects.add(stream("", b"BT /R 12 Tf 72 700 Td (one page) Tj ET"));
    let page = objects.add(page_of("<</Font<</R 3 0 R>>>>", content, content + 2));
    let root = objects.add(format!("<</Type/Pages/Count 1000000000/Kids[{page} 0 R]>>"));
    objects.finish("lying count", &format!("<</Type/Catalog/Pages {root} 0 R>>"))
}

/// Returns a PDF whose page tree contains its own root as a child.
pub fn page_tree_in_a_circle() -> Vec<u8> {
    let mut objects = Objects::new();
    let content = objects.add(stream("", b"BT /R 12 Tf 72 700 Td (round and round) Tj ET"));
    let page = objects.add(page_of("<</Font<</R 3 0 R>>>>", content, content + 2));
    let root = page + 1;
    objects.add(format!("<</Type/Pages/Count 2/Kids[{page} 0 R {root} 0 R]/Parent {root} 0 R>>"));
    objects.finish("circle", &format!("<</Type/Catalog/Pages {root} 0 R>>"))
}

/// Returns a PDF with deeply nested arrays. A parser that recurses for each array runs out of stack.
pub fn deep_arrays(depth: usize) -> Vec<u8> {
    let mut objects = Objects::new();
    let mut content = b"BT /R 12 Tf 72 700 Td (shallow) Tj ET\n".to_vec();
    content.extend(std::iter::repeat_n(b'[', depth));
    content.extend(std::iter::repeat_n(b']', depth));
    let content = objects.add(stream("/Filter/FlateDecode", &deflate(&content)));
    let nested = objects.add([vec![b'['; depth], vec![b']'; depth]].concat());
    let page = objects.add(page_of(&format!("<</Font<</R 3 0 R>>/Properties {nested} 0 R>>"), content, nested + 2));
    let root = objects.add(format!("<</Type/Pages/Count 1/Kids[{page} 0 R]>>"));
    objects.finish("deep", &format!("<</Type/Catalog/Pages {root} 0 R/Extra {nested} 0 R>>"))
}

/// Returns a PDF with a form that draws itself.
pub fn form_in_itself() -> Vec<u8> {
    let mut objects = Objects::new();
    let form = 5;
    objects.add(stream(
        &format!("/Type/XObject/Subtype/Form/BBox[0 0 595 842]/Resources<</XObject<</X {form} 0 R>>>>"),
        b"/X Do /X Do",
    ));
    let content = objects.add(stream("", b"/X Do"));
    let page = objects.add(page_of(&format!("<</XObject<</X {form} 0 R>>>>"), content, content + 2));
    let root = objects.add(format!("<</Type/Pages/Count 1/Kids[{page} 0 R]>>"));
    objects.finish("itself", &format!("<</Type/Catalog/Pages {root} 0 R>>"))
}

/// Returns a PDF with a chain of eight forms. The page and each form draw the next form forty times, so a file of
/// four kilobytes causes 6.5 × 10¹² drawings. There is no recursion, so a limit on depth does not find the problem.
pub fn spinning() -> Vec<u8> {
    const LEVELS: usize = 8;
    const TIMES: usize = 40;
    let mut objects = Objects::new();
    let mut drawn = objects.add(stream(
        "/Type/XObject/Subtype/Form/BBox[0 0 595 842]/Resources<</Font<</R 3 0 R>>>>",
        b"BT /R 12 Tf 72 700 Td (again) Tj ET",
    ));
    for _ in 1..LEVELS {
        drawn = objects.add(stream(
            &format!("/Type/XObject/Subtype/Form/BBox[0 0 595 842]/Resources<</XObject<</X {drawn} 0 R>>>>"),
            &b"/X Do\n".repeat(TIMES),
        ));
    }
    let content = objects.add(stream("", &b"/X Do\n".repeat(TIMES)));
    let page = objects.add(page_of(&format!("<</XObject<</X {drawn} 0 R>>>>"), content, content + 2));
    let root = objects.add(format!("<</Type/Pages/Count 1/Kids[{page} 0 R]>>"));
    objects.finish("spinning", &format!("<</Type/Catalog/Pages {root} 0 R>>"))
}

/// Returns a PDF with one page. The page's content decompresses to `mebibytes` mebibytes of spaces. The content is
/// compressed twice, so the file has only some kilobytes.
pub fn bomb(mebibytes: u64) -> Vec<u8> {
    let mut objects = Objects::new();
    let packed = deflate(&deflated_spaces(mebibytes));
    let content = objects.add(stream("/Filter[/FlateDecode/FlateDecode]", &packed));
    let page = objects.add(page_of("<</Font<</R 3 0 R>>>>", content, content + 2));
    let root = objects.add(format!("<</Type/Pages/Count 1/Kids[{page} 0 R]>>"));
    objects.finish("bomb", &format!("<</Type/Catalog/Pages {root} 0 R>>"))
}

/// Returns a PDF with one page. The page's compressed content breaks off in the middle, and garbage follows.
pub fn broken_stream() -> Vec<u8> {
    let mut data = deflate(&b"BT /R 12 Tf 72 700 Td (half of this) Tj ET\n".repeat(500));
    data.truncate(data.len() / 2);
    data.extend_from_slice(&[0xff; 64]);
    let mut objects = Objects::new();
    let content = objects.add(stream("/Filter/FlateDecode", &data));
    objects.finish_pages("broken stream", &[content])
}

/// Returns a valid PDF with two empty pages.
pub fn no_text() -> Vec<u8> {
    Pdf::new("nothing").page(PdfPage::new()).page(PdfPage::new()).to_bytes()
}

fn page_of(resources: &str, content: usize, parent: usize) -> String {
    format!("<</Type/Page/Parent {parent} 0 R/MediaBox[0 0 595 842]/Resources {resources}/Contents {content} 0 R>>")
}

/// Returns a zlib stream that decompresses to `mebibytes` mebibytes of spaces. Only one mebibyte is compressed, up to
/// a full flush, which resets the compressor. The compressed bytes are then repeated. The checksum is computed
/// directly, because all bytes are equal.
fn deflated_spaces(mebibytes: u64) -> Vec<u8> {
    const PIECE: usize = 1 << 20;
    let mut piece = Vec::with_capacity(16 << 10);
    let mut packer = Compress::new(Compression::best(), false);
    let spaces = vec![b' '; PIECE];
    let packed = packer.compress_vec(&spaces, &mut piece, FlushCompress::Full);
    debug_assert!(packed.is_ok() && packer.total_in() == PIECE as u64, "the piece fits its buffer");
    let mut out = vec![0x78, 0xda];
    for _ in 0..mebibytes {
        out.extend_from_slice(&piece);
    }
    // The last block is empty; Adler-32 follows.
    out.extend_from_slice(&[0x03, 0x00]);
    let (modulus, count) = (65_521u128, u128::from(mebibytes) << 20);
    let a = (1 + count * 32) % modulus;
    let b = (count + 32 * (count * (count + 1) / 2)) % modulus;
    out.extend_from_slice(&u32::try_from(b << 16 | a).unwrap_or_default().to_be_bytes());
    out
}

fn find_last(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn names_are_unique_and_sizes_small() {
        let all = all();
        let mut names: Vec<_> = all.iter().map(|file| file.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for file in &all {
            let limit = if file.name == "5000-pages.pdf" { 8 << 20 } else { 1 << 20 };
            assert!(file.bytes.len() <= limit, "{} has {} bytes", file.name, file.bytes.len());
        }
    }

    #[test]
    fn the_bomb_is_a_sound_stream_of_its_announced_size() {
        let mut unpacked = Vec::new();
        // The decoder verifies the checksum at the end.
        flate2::read::ZlibDecoder::new(&deflated_spaces(3)[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked.len(), 3 << 20);
        assert!(unpacked.iter().all(|&b| b == b' '));
        assert!(bomb(2048).len() < 64 << 10, "{} bytes", bomb(2048).len());
    }

    #[test]
    fn encrypted_files_open_with_their_password_only() {
        for bytes in [encrypted_rc4(), encrypted_aes()] {
            let locked = lopdf::Document::load_mem(&bytes);
            assert!(locked.as_ref().map_or(true, lopdf::Document::is_encrypted), "opened without a password");
            let password = lopdf::LoadOptions { password: Some(PASSWORD.to_owned()), ..Default::default() };
            let open = lopdf::Document::load_mem_with_options(&bytes, password).unwrap();
            assert!(open.extract_text(&[1]).unwrap().contains("behind a password"));
        }
        let open = lopdf::Document::load_mem(&encrypted_empty_password()).unwrap();
        assert!(open.extract_text(&[1]).unwrap().contains("behind a password"));
    }

    #[test]
    fn damage_is_where_it_should_be() {
        let start = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let offset = text.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse::<usize>().unwrap();
            bytes.get(offset..offset + 4).map(<[u8]>::to_vec)
        };
        assert_eq!(start(&two_pages(1)).as_deref(), Some(&b"xref"[..]));
        assert_ne!(start(&wrong_cross_references()).as_deref(), Some(&b"xref"[..]));
        assert!(find_last(&no_cross_references(), b"xref\n0 ").is_none());
        assert!(find_last(&no_cross_references(), b"trailer").is_some());
        assert!(find_last(&no_trailer(), b"trailer").is_none());
        assert!(find_last(&truncated(0.4), b"%%EOF").is_none());
        let circle = cross_references_in_a_circle();
        let table = find_last(&circle, b"xref\n0 ").unwrap();
        assert!(find_last(&circle, format!("/Prev {table}/").as_bytes()).is_some());
    }

    #[test]
    fn five_thousand_pages_are_there() {
        let read = lopdf::Document::load_mem(&pages(5_000, 5_000)).unwrap();
        assert_eq!(read.get_pages().len(), 5_000);
        assert!(read.extract_text(&[4_321]).unwrap().replace('\n', " ").contains(&crate::marker(5_000, 4_321)));
    }
}

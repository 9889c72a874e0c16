//! Defines the messages between parent and child: length-prefixed postcard frames over a Unix socket pair.
//!
//! The file to read is passed with the request as a descriptor (`SCM_RIGHTS`), so that a child never opens a path.
//! The types of the document model are designed for JSON: enums carry a tag, and empty fields are left out. postcard
//! can't read such types, because its format has no field names. The frames therefore have plain types of their own.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use docweir_core::documents::MediaType;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::{Bbox, Block, BlockKind, DocumentInfo, OutlineEntry, Page, Placed, TableCell, TextRange};

use super::ExtractOptions;

/// Maximum size of a request in bytes. A child refuses a larger request. Usual requests have a few hundred bytes.
pub(super) const MAX_REQUEST_BYTES: usize = 64 * 1024;
pub(super) const LENGTH_BYTES: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub media_type: MediaType,
    pub options: ExtractOptions,
    /// Fault that the child simulates for a test, instead of answering.
    #[cfg(test)]
    pub fault: Option<Fault>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Reports that a page was read. This reply serves as a heartbeat.
    Progress(u32),
    Page(WirePage),
    /// Reports that all pages were sent. Contains the notes about the pages.
    PagesDone(Vec<String>),
    Tail(WireTail),
    End,
    Refused(WireError),
}

type Span = (u32, u32);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePage {
    number: u32,
    size: (f32, f32),
    text: String,
    blocks: Vec<(u8, Span, Option<Bbox>)>,
    lines: Vec<(Span, Bbox)>,
    words: Vec<(Span, Bbox)>,
    cells: Vec<WireCell>,
}

/// Describes a cell of a table: the index of its block, its row and column, the rows and columns that it spans, and its
/// text and box.
type WireCell = (u32, (u32, u32), (u32, u32), Span, Option<Bbox>);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireTail {
    /// Document information in this order: title, author, subject, keywords, creator, producer, created, modified.
    info: [Option<String>; 8],
    /// Fields of the file as a JSON object, because postcard cannot read values of unknown types.
    fields: String,
    outline: Vec<(u8, String, Option<u32>)>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireError {
    class: ErrorClass,
    code: String,
    message: String,
    causes: Vec<String>,
    retry_after: Option<Duration>,
}

/// Encodes the kind of a block as a number. For a heading, the number is 16 plus the level.
pub(super) fn kind_code(kind: BlockKind) -> u8 {
    match kind {
        BlockKind::Paragraph => 0,
        BlockKind::ListItem => 1,
        BlockKind::Table => 2,
        BlockKind::Code => 3,
        BlockKind::Quote => 4,
        BlockKind::Figure => 5,
        BlockKind::PageFurniture => 6,
        BlockKind::Heading { level } => 16 + level.min(15),
    }
}

pub(super) fn kind_of(code: u8) -> Option<BlockKind> {
    Some(match code {
        0 => BlockKind::Paragraph,
        1 => BlockKind::ListItem,
        2 => BlockKind::Table,
        3 => BlockKind::Code,
        4 => BlockKind::Quote,
        5 => BlockKind::Figure,
        6 => BlockKind::PageFurniture,
        16..=31 => BlockKind::Heading { level: code - 16 },
        _ => return None,
    })
}

impl From<Page> for WirePage {
    fn from(page: Page) -> Self {
        let placed = |p: Vec<Placed>| p.into_iter().map(|p| ((p.range.start, p.range.end), p.bbox)).collect();
        let block = |b: Block| (kind_code(b.kind), (b.range.start, b.range.end), b.bbox);
        let cell =
            |c: TableCell| (c.block, (c.row, c.column), (c.rows, c.columns), (c.range.start, c.range.end), c.bbox);
        Self {
            number: page.number,
            size: (page.width, page.height),
            text: page.text,
            blocks: page.blocks.into_iter().map(block).collect(),
            lines: placed(page.lines),
            words: placed(page.words),
            cells: page.cells.into_iter().map(cell).collect(),
        }
    }
}

impl WirePage {
    /// Returns the page if it is valid. A page is invalid if a range lies outside the text, a box is not finite, a kind
    /// is unknown, or a cell belongs to a block that is no table. The child is trusted as little as the file that it reads.
    pub fn checked(self) -> Option<Page> {
        let range = |(start, end): Span| {
            let fits =
                start <= end && self.text.is_char_boundary(start as usize) && self.text.is_char_boundary(end as usize);
            fits.then_some(TextRange { start, end })
        };
        let finite = |b: &Bbox| b.iter().all(|v| v.is_finite());
        let placed = |p: &[(Span, Bbox)]| -> Option<Vec<Placed>> {
            p.iter().map(|&(s, bbox)| Some(Placed { range: range(s)?, bbox: Some(bbox).filter(finite)? })).collect()
        };
        let block = |&(code, span, bbox): &(u8, Span, Option<Bbox>)| {
            let sane = bbox.as_ref().is_none_or(finite);
            sane.then_some(Block { kind: kind_of(code)?, range: range(span)?, bbox })
        };
        let blocks: Vec<Block> = self.blocks.iter().map(block).collect::<Option<_>>()?;
        let (lines, words) = (placed(&self.lines)?, placed(&self.words)?);
        let cell = |&(block, (row, column), (rows, columns), span, bbox): &WireCell| {
            let table = blocks.get(block as usize).is_some_and(|b| b.kind == BlockKind::Table);
            let sane = table && rows > 0 && columns > 0 && bbox.as_ref().is_none_or(finite);
            sane.then_some(TableCell { block, row, column, rows, columns, range: range(span)?, bbox })
        };
        let cells: Vec<TableCell> = self.cells.iter().map(cell).collect::<Option<_>>()?;
        let ordered = blocks.windows(2).all(|w| w[0].range.end <= w[1].range.start);
        let sane = ordered && self.size.0.is_finite() && self.size.1.is_finite() && !self.text.contains('\0');
        let (width, height) = self.size;
        sane.then_some(Page { number: self.number, width, height, text: self.text, blocks, lines, words, cells })
    }
}

impl WireTail {
    pub fn new(info: DocumentInfo, outline: Vec<OutlineEntry>, notes: Vec<String>) -> Self {
        let DocumentInfo { title, author, subject, keywords, creator, producer, created, modified, fields } = info;
        Self {
            info: [title, author, subject, keywords, creator, producer, created, modified],
            fields: if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() },
            outline: outline.into_iter().map(|e| (e.level, e.title, e.page)).collect(),
            notes,
        }
    }

    pub fn parts(self) -> (DocumentInfo, Vec<OutlineEntry>, Vec<String>) {
        let [title, author, subject, keywords, creator, producer, created, modified] = self.info;
        // A child that sends no valid object loses its fields only.
        let fields = serde_json::from_str(&self.fields).unwrap_or_default();
        let info = DocumentInfo { title, author, subject, keywords, creator, producer, created, modified, fields };
        let entry = |(level, title, page)| OutlineEntry { level, title, page };
        (info, self.outline.into_iter().map(entry).collect(), self.notes)
    }
}

impl From<StageError> for WireError {
    fn from(e: StageError) -> Self {
        let StageError { class, code, message, causes, retry_after } = e;
        Self { class, code, message, causes, retry_after }
    }
}

impl From<WireError> for StageError {
    fn from(e: WireError) -> Self {
        let WireError { class, code, message, causes, retry_after } = e;
        Self { class, code, message, causes, retry_after }
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Encodes a value as a frame: four bytes with the length (little-endian), then the encoded value.
pub(super) fn frame<T: Serialize>(value: &T, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(value, vec![0; LENGTH_BYTES]).map_err(|e| invalid(e.to_string()))?;
    let length = bytes.len() - LENGTH_BYTES;
    let prefix = u32::try_from(length).ok().filter(|_| length as u64 <= max_bytes);
    let prefix =
        prefix.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, format!("frame too big: {length} bytes")))?;
    bytes[..LENGTH_BYTES].copy_from_slice(&prefix.to_le_bytes());
    Ok(bytes)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|e| invalid(format!("unreadable frame: {e}")))
}

/// Sends a file descriptor together with the first bytes of a frame, and returns how many bytes were sent. On a
/// non-blocking socket, the call does not block.
pub(super) fn send_with_fd(socket: impl AsFd, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(invalid("no room for the file descriptor"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Waits for a request and its file descriptor. Returns `None` at the end of the stream.
pub(super) fn receive_request(mut socket: &std::os::unix::net::UnixStream) -> io::Result<Option<(Request, OwnedFd)>> {
    let mut length = [0; LENGTH_BYTES];
    let (mut filled, mut file) = (0, None);
    while filled < LENGTH_BYTES {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slice = [IoSliceMut::new(&mut length[filled..])];
        let received = match recvmsg(socket, &mut slice, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                file = fds.last().or(file);
            }
        }
        if received.bytes == 0 {
            return if filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        filled += received.bytes;
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_REQUEST_BYTES {
        return Err(invalid(format!("request too large: {length} bytes")));
    }
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes)?;
    let file = file.ok_or_else(|| invalid("the request has no file descriptor"))?;
    Ok(Some((parse(&bytes)?, file)))
}

/// Sends a reply and returns its size in bytes.
pub(super) fn send_reply(
    mut socket: &std::os::unix::net::UnixStream,
    reply: &Reply,
    max_bytes: u64,
) -> io::Result<u64> {
    let bytes = frame(reply, max_bytes)?;
    socket.write_all(&bytes)?;
    Ok(bytes.len() as u64)
}

/// Selects a fault that a child simulates for a test, instead of working.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) enum Fault {
    Panic,
    Abort,
    Exit,
    Spin,
    Sleep,
    EatMemory,
    /// Sends all pages, then aborts, as lopdf might when it reads the document information.
    DieInInfo,
    /// Sends all pages, then hangs before the document information.
    HangInInfo,
    /// Sends a frame with a huge length prefix.
    HugeFrame,
    /// Sends bytes that are not a valid frame.
    Garbage,
    /// Sends pages until it is killed.
    Flood,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        for code in 0..=u8::MAX {
            if let Some(kind) = kind_of(code) {
                assert_eq!(kind_code(kind), code);
            }
        }
        assert_eq!(kind_of(kind_code(BlockKind::Heading { level: 3 })), Some(BlockKind::Heading { level: 3 }));
    }

    #[test]
    fn the_tail_keeps_every_field_of_the_file() {
        let fields = serde_json::json!({"pages": 3, "draft": false, "tags": ["a", "b"], "of": {"code": "007"}});
        let info = DocumentInfo {
            title: Some("t".into()),
            fields: fields.as_object().cloned().unwrap(),
            ..Default::default()
        };
        let bytes = postcard::to_stdvec(&WireTail::new(info.clone(), Vec::new(), vec!["n".into()])).unwrap();
        let tail: WireTail = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(tail.parts(), (info, Vec::new(), vec!["n".into()]));
        let empty = WireTail::new(DocumentInfo::default(), Vec::new(), Vec::new());
        let spoiled = WireTail { fields: "[1".into(), ..empty };
        assert_eq!(spoiled.parts().0, DocumentInfo::default());
    }

    fn page(text: &str, span: Span, bbox: Bbox) -> WirePage {
        WirePage {
            number: 1,
            size: (10.0, 10.0),
            text: text.into(),
            blocks: vec![(0, span, None)],
            lines: vec![],
            words: vec![(span, bbox)],
            cells: vec![],
        }
    }

    #[test]
    fn a_page_that_lies_about_its_text_is_not_taken() {
        let unit = [0.0, 0.0, 1.0, 1.0];
        assert!(page("äb", (0, 2), unit).checked().is_some());
        for span in [(0, 1), (2, 9), (2, 0)] {
            assert!(page("äb", span, unit).checked().is_none(), "{span:?}");
        }
        assert!(page("ab", (0, 1), [f32::NAN; 4]).checked().is_none());
        assert!(page("a\0", (0, 1), unit).checked().is_none());
        let with_cell = |kind, block, rows| {
            let mut page = page("ab", (0, 1), unit);
            page.blocks = vec![(kind, (0, 1), None)];
            page.cells = vec![(block, (0, 0), (rows, 1), (0, 1), None)];
            page.checked()
        };
        assert!(with_cell(2, 0, 1).is_some());
        for (kind, block, rows) in [(0, 0, 1), (2, 1, 1), (2, 0, 0)] {
            assert!(with_cell(kind, block, rows).is_none(), "{kind} {block} {rows}");
        }
        let overlapping = WirePage { blocks: vec![(0, (0, 2), None), (0, (1, 2), None)], ..page("ab", (0, 1), unit) };
        assert!(overlapping.checked().is_none());
    }

    #[test]
    fn frames_have_a_limit_and_come_back() {
        let reply = Reply::PagesDone(vec!["a note".into()]);
        let bytes = frame(&reply, 100).unwrap();
        assert!(matches!(parse::<Reply>(&bytes[LENGTH_BYTES..]).unwrap(), Reply::PagesDone(n) if n == ["a note"]));
        assert_eq!(frame(&reply, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(parse::<Reply>(&[250, 1, 2]).is_err());
    }

    #[test]
    fn a_request_takes_its_file_along() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        let request = Request { media_type: MediaType::Text, options: ExtractOptions::default(), fault: None };
        let bytes = frame(&request, 10_000).unwrap();
        let sent = send_with_fd(&a, &bytes, file.as_fd()).unwrap();
        (&a).write_all(&bytes[sent..]).unwrap();
        let (received, fd) = receive_request(&b).unwrap().unwrap();
        assert_eq!(received.media_type, MediaType::Text);
        let mut content = [0; 7];
        std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::from(fd), &mut content, 0).unwrap();
        assert_eq!(&content, b"content");
        drop(a);
        assert!(receive_request(&b).unwrap().is_none());
    }
}

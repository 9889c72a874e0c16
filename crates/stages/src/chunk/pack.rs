//! Chooses where chunks begin and end: finds the partition of a run's units with the lowest cost.
//!
//! Greedy filling leaves very short chunks, so each run is divided by dynamic programming. A chunk counts as full at
//! the target size or at the text length at which the embedding model works best, whichever comes first. The cost of
//! a chunk is the square of the difference between its size and a full chunk, as a fraction of the full chunk.
//! Further costs are added if the chunk is short, if it ends at a bad position, and if it has headings inside. The
//! cost of a heading is low, but just high enough to keep sections of the minimum size in separate chunks. As a
//! result, a chunk that is two thirds full and ends with a paragraph is preferred to a full chunk that ends inside a
//! paragraph. A chunk ends inside a sentence only if the limits force it.
//!
//! The tokens of a candidate are estimated by adding the token counts of its units. The sum is exact for word pieces
//! over white space, and close for other tokenizers. Every chosen chunk is therefore counted once more as a whole. If
//! the exact count of a chunk exceeds the window, the chunk is divided again under a smaller limit.

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_core::model::BlockKind;

use super::ChunkOptions;
use super::context::{PathId, Paths};
use super::units::{Break, Unit, Units};

/// Describes a range of neighbouring units that becomes one chunk.
#[derive(Debug)]
pub struct Cut {
    pub start: usize,
    pub end: usize,
    pub kind: Kinds,
    /// Heading path, or `None` if the path leaves too little room even for the smallest unit.
    pub path: Option<PathId>,
    /// Exact number of tokens of path and content, special tokens included.
    pub tokens: usize,
}

/// Records which kinds of block a chunk holds in addition to headings and captions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kinds {
    pub table: bool,
    pub code: bool,
    pub figure: bool,
    pub other: bool,
}

fn ending_cost(ending: Break) -> f64 {
    match ending {
        Break::Section => 0.0,
        Break::Paragraph => 0.05,
        Break::Item => 0.1,
        Break::Line => 0.15,
        Break::Sentence => 0.5,
        Break::Inside => 1.5,
        Break::Glued => 20.0,
    }
}

/// Cost of a heading inside a chunk. With the default sizes, this cost is slightly higher than the cost that is saved
/// by merging two sections of the minimum size. Such sections therefore stay separate chunks.
const HEADING_INSIDE: f64 = 0.45;

/// Divides the units of a run into ranges that respect all limits. Each range becomes one chunk and is added to `out`.
pub fn pack(units: &[Unit], tools: &Units<'_, '_>, cancel: &Cancel, out: &mut Vec<Cut>) -> Result<(), StageError> {
    fit(units, tools, 1.0, cancel, out)
}

/// Divides units into ranges of at most `share` times the window, and adds the ranges to `out`. The share is 1 at
/// first. If an exact count shows that a range exceeds the window, the range is divided again with a smaller share.
fn fit(
    units: &[Unit],
    tools: &Units<'_, '_>,
    share: f64,
    cancel: &Cancel,
    out: &mut Vec<Cut>,
) -> Result<(), StageError> {
    let ends = best_ends(units, tools.paths, tools.options, share);
    let mut from = 0;
    for end in ends {
        cancel.check()?;
        let group = units.get(from..end).unwrap_or_default();
        from = end;
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let content = tools.text.slice(first.start, last.end);
        let window = tools.paths.window();
        let tokens = tools.paths.exact(tools.paths.path(first.path), content);
        let kind = kinds(group);
        if tokens <= window {
            out.push(Cut { start: first.start, end: last.end, kind, path: Some(first.path), tokens });
        } else if group.len() > 1 {
            fit(group, tools, (share * 0.95).min(share * window as f64 / tokens as f64 * 0.99), cancel, out)?;
        } else {
            let halves = tools.halves(first);
            if halves.len() > 1 {
                fit(&halves, tools, share, cancel, out)?;
            } else {
                let tokens = tools.paths.exact(&[], content);
                out.push(Cut { start: first.start, end: last.end, kind, path: None, tokens });
            }
        }
    }
    Ok(())
}

/// Returns the best partition of the units, as one index per chunk. The index is the one after the chunk's last unit.
fn best_ends(units: &[Unit], paths: &Paths<'_>, options: &ChunkOptions, share: f64) -> Vec<usize> {
    let n = units.len();
    // Cost of the best partition of the first i units, and the start of its last chunk.
    let mut best: Vec<(f64, usize)> = vec![(f64::INFINITY, 0); n + 1];
    if let Some(first) = best.first_mut() {
        first.0 = 0.0;
    }
    for (i, first) in units.iter().enumerate() {
        let so_far = best.get(i).map_or(f64::INFINITY, |b| b.0);
        let room = (paths.room(first.path) as f64 * share).max(1.0);
        let best_tokens = (paths.best(first.path) as f64 * share).max(1.0);
        let (mut tokens, mut headings, mut led) = (0usize, 0usize, true);
        for (j, unit) in units.iter().enumerate().skip(i) {
            let chars = unit.last_char - first.first_char;
            tokens += unit.tokens;
            if j > i && (chars > options.max_chars || tokens as f64 > room) {
                break;
            }
            let heading = matches!(unit.kind, BlockKind::Heading { .. });
            // Count only the first of consecutive headings, and none at the beginning of the chunk.
            headings += usize::from(heading && !led);
            led = heading;
            let full = (chars as f64 / options.target_chars as f64).max(tokens as f64 / best_tokens);
            let least = options.min_chars as f64 / options.target_chars as f64;
            let ending = if j + 1 == n { 0.0 } else { ending_cost(unit.ending) };
            let cost =
                so_far + (1.0 - full).powi(2) + (least - full).max(0.0) + ending + HEADING_INSIDE * headings as f64;
            if let Some(slot) = best.get_mut(j + 1)
                && cost < slot.0
            {
                *slot = (cost, i);
            }
        }
    }
    let mut ends = Vec::new();
    let mut at = n;
    while at > 0 {
        ends.push(at);
        at = best.get(at).map_or(0, |b| b.1).min(at - 1);
    }
    ends.reverse();
    ends
}

fn kinds(units: &[Unit]) -> Kinds {
    let mut kinds = Kinds::default();
    for (i, unit) in units.iter().enumerate() {
        match unit.kind {
            BlockKind::Heading { .. } => {}
            BlockKind::Table => kinds.table = true,
            BlockKind::Code => kinds.code = true,
            BlockKind::Figure => kinds.figure = true,
            // A caption or lead-in does not decide the kind.
            _ if unit.ending == Break::Glued && i + 1 < units.len() => {}
            _ => kinds.other = true,
        }
    }
    kinds
}

//! Finds the runs of lines whose texts may be the cells of a table without ruled lines.

use super::super::glyphs::Rule;
use super::super::words::{Box4, Segment, join};
use super::Evidence;
use super::lines::{Line, is_number_text, lines};

/// Returns the runs of lines in a region that have several texts each and gaps at the same places.
pub(super) fn aligned(segments: &[Segment], region: &[usize], rules: &[Rule]) -> Vec<(Evidence, Vec<usize>, Box4)> {
    let text = lines(segments, region);
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let end = run(segments, &text, at);
        if end - at >= 2 {
            let mut members: Vec<usize> = text[at..end].iter().flat_map(|l| &l.segments).copied().collect();
            members.sort_unstable();
            let bbox = text[at..end].iter().map(|l| l.bbox).reduce(join).unwrap_or_default();
            let size = text[at].size;
            let above = [bbox[0] - 4.0, bbox[1] - 1.2 * size, bbox[2] + 4.0, bbox[3] + 1.2 * size];
            let wide = |r: &&Rule| {
                r.horizontal()
                    && (above[1]..above[3]).contains(&r.y0)
                    && r.x1.min(bbox[2]) - r.x0.max(bbox[0]) > 0.8 * (bbox[2] - bbox[0])
                    && r.x1 - r.x0 < 1.3 * (bbox[2] - bbox[0]) + 20.0
            };
            let evidence = if rules.iter().filter(wide).count() >= 2 { Evidence::Lines } else { Evidence::Alignment };
            out.push((evidence, members, above));
        }
        at = end.max(at + 1);
    }
    out
}

/// Returns whether a line has several texts, of which the first is more than the number or the bullet of a list.
pub(super) fn is_multi(segments: &[Segment], line: &Line) -> bool {
    let texts = line.segments.len();
    let marker = line.segments.first().is_some_and(|&i| segments[i].words.len() == 1 && segments[i].chars() <= 3);
    texts > 2 || (texts == 2 && (!marker || line.segments.iter().all(|&i| is_number_text(&segments[i].words))))
}

/// Returns the end of the run of lines that begins at `at`.
fn run(segments: &[Segment], text: &[Line], at: usize) -> usize {
    if !is_multi(segments, &text[at]) {
        return at;
    }
    let mut end = at + 1;
    let mut next = end;
    let mut singles = 0;
    while next < text.len() {
        let (above, line) = (&text[next - 1], &text[next]);
        let gap = line.bbox[1] - above.bbox[3];
        if gap > 1.6 * line.size.max(above.size) {
            break;
        }
        if is_multi(segments, line) {
            singles = 0;
            end = next + 1;
        } else {
            singles += 1;
            if singles > 3 {
                break;
            }
        }
        next += 1;
    }
    end
}

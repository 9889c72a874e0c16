"""Renders a two-column paper: a title over both columns, numbered sections, a drawing, a small table, references."""

from reportlab.graphics.shapes import Drawing, Line, Polygon, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import Frame, FrameBreak, KeepTogether, NextPageTemplate, PageTemplate, Paragraph, Table

from .style import ACCENT, BODY, INK, QUIET, RULE, TINT, Document, Heading, fixed_date, style

TITLE = "A Lease Is Not a Lock: Fencing Tokens and Compare-and-Swap over Object Storage"

TITLE_LOOK = style("title", "Times-Bold", 18, 21, alignment=1, spaceAfter=6)
AUTHORS = style("authors", "Times-Italic", 10.5, alignment=1, spaceAfter=8)
ABSTRACT = style("abstract", "Times-Roman", 9.2, 11.4, leftIndent=24, rightIndent=24, alignment=4)
SECTION = style("section", "Times-Bold", 12, 14.5, spaceBefore=8, spaceAfter=4, keepWithNext=1)
SUBSECTION = style("subsection", "Times-BoldItalic", 10.2, 12.5, spaceBefore=5, spaceAfter=3, keepWithNext=1)
CAPTION = style("caption", "Times-Italic", 8.4, 10.2, spaceBefore=3, spaceAfter=7)
CODE = style("code", "Courier", 7.9, 10, leftIndent=6, spaceBefore=2, spaceAfter=6)
ITEM = style("item", size=9.7, leading=12.2, leftIndent=12, bulletIndent=2, spaceAfter=3, alignment=4)
CELL = style("cell", size=8.4, leading=10)
HEAD_CELL = style("head-cell", "Times-Bold", 8.4, 10)
REFERENCE = style("reference", size=8.6, leading=10.6, leftIndent=14, firstLineIndent=-14, spaceAfter=3)


def render():
    fixed_date(2025, 3, 14)
    document = Document(
        TITLE,
        "Why a lease alone loses data, and what the store must check",
        ["lease", "fencing token", "compare-and-swap", "object storage", "snapshot", "compaction"],
    )
    width, height = A4
    margin, gap, head = 19 * mm, 7 * mm, 54 * mm
    column = (width - 2 * margin - gap) / 2
    flat = {"leftPadding": 0, "rightPadding": 0, "topPadding": 0, "bottomPadding": 0}

    def columns(bottom, top):
        return [
            Frame(margin + i * (column + gap), bottom, column, top - bottom, id=f"column{i}", **flat) for i in (0, 1)
        ]

    def furniture(canvas, doc):
        canvas.setFont("Times-Roman", 8.5)
        canvas.setFillColor(QUIET)
        canvas.drawCentredString(width / 2, 11 * mm, str(doc.page))
        if doc.page > 1:
            canvas.drawString(margin, height - 13 * mm, "A Lease Is Not a Lock")
            canvas.drawRightString(width - margin, height - 13 * mm, "Docweir Notes 1 (2025)")

    top = height - 19 * mm
    title_frame = Frame(margin, top - head, width - 2 * margin, head, id="title", **flat)
    document.addPageTemplates(
        [
            PageTemplate("first", [title_frame, *columns(20 * mm, top - head - 3 * mm)], onPage=furniture),
            PageTemplate("later", columns(20 * mm, top), onPage=furniture),
        ]
    )
    return document.finish(story(column))


def story(column):
    def section(text):
        return Heading(text, SECTION, 0)

    def subsection(text):
        return Heading(text, SUBSECTION, 1)

    def paragraph(text):
        return Paragraph(text, BODY)

    def item(number, text):
        return Paragraph(text, ITEM, bulletText=f"{number}.")

    return [
        NextPageTemplate("later"),
        Paragraph(TITLE, TITLE_LOOK),
        Paragraph("The Docweir authors", AUTHORS),
        Paragraph(
            "<b>Abstract.</b> Systems that keep an index in object storage often let one process at a time merge small "
            "files into a large one, and guard that work by a lease. We recall why a lease cannot make this safe: its "
            "holder may be paused past its expiry and go on writing without knowing. The remedy is old and short. Each "
            "lease carries a number that only grows, and the place where the work becomes visible refuses a smaller "
            "one. We show how one mutable object, changed only by compare-and-swap, is enough to do this on plain "
            "object storage, which rules the merger, the writers and the garbage collector have to keep, and which "
            "single rule each known way of losing data breaks.",
            ABSTRACT,
        ),
        FrameBreak(),
        section("1 Introduction"),
        paragraph(
            "A search index grows by small additions. Every batch of documents adds one immutable <i>delta</i> file; "
            "now and then a <i>compactor</i> reads many deltas, merges them into a <i>snapshot</i>, and lets readers "
            "use that instead. Two compactors at work on the same deltas waste effort at best. At worst the second "
            "overwrites the result of the first, and documents that a user was told were stored are gone."
        ),
        paragraph(
            "The usual guard is a lease: a record that names its holder and the time at which it ends. Whoever finds "
            "it expired may take it. The holder renews it while it works; this renewal is called a heartbeat. If the "
            "holder dies, nothing needs to be cleaned up: the lease runs out by itself and the work goes on elsewhere. "
            "That is why leases are popular, and it is also where the trouble starts."
        ),
        section("2 Why a lease alone is not safe"),
        paragraph(
            "A lease is a promise about time, made to a process that does not control its own time. A virtual machine "
            "is migrated, a garbage collector stops the world, a disk read hangs, a laptop is closed. The process "
            "wakes, and its next instruction writes the result of a merge that belongs to the past. Checking the clock "
            "before the write does not help: the pause can fall between the check and the write (Figure 1). A shorter "
            "lease makes the window smaller and false alarms more frequent. No length closes it."
        ),
        KeepTogether(
            [
                timeline(column),
                Paragraph(
                    "Figure 1: A holder that stalls. A is paused past the end of its lease; B takes over with epoch 8 "
                    "and commits. A wakes and tries to commit with epoch 7: the store refuses it.",
                    CAPTION,
                ),
            ]
        ),
        paragraph(
            "Heartbeats have a second weakness. A holder whose lease was taken over may send one more heartbeat. If "
            "the heartbeat is an unconditional write, it overwrites the new owner's record, and now both believe that "
            "they hold the lease. Every change of the lease record must therefore name the state that it expects to "
            "find."
        ),
        section("3 Fencing tokens"),
        subsection("3.1 How a stale lease is fenced"),
        paragraph(
            "<b>A stale lease is fenced by the store, not by its holder.</b> Every time the lease changes hands, a "
            "counter kept in the lease record grows by one. This number is the fencing token; we call it the epoch. "
            "The holder sends its epoch with each write that matters. The store remembers the highest epoch it has "
            "accepted and refuses every write that carries a smaller one. A process that was paused past its expiry "
            "still holds the old epoch, so its late write is rejected, however certain it is of owning the lease. It "
            "need not know the time, and neither need the store."
        ),
        paragraph(
            "Two things follow. First, the check must happen in the same atomic step as the write; a check beforehand "
            "has the window of Section 2 again. Second, it protects only the places that make it. Files that are "
            "written beside the fenced place must be harmless while nothing refers to them."
        ),
        subsection("3.2 Compare-and-swap as the fence"),
        paragraph(
            "Object stores do not know our epochs, but most of them offer a conditional write: put this object only if "
            "its current tag is still the one that I read. This is compare-and-swap on one object. We keep all that is "
            "mutable in a single small object, the <i>manifest</i>: its version, the highest epoch, the list of live "
            "files, and the last sequence number of each writer. A commit loads the manifest, decides, and swaps:"
        ),
        Paragraph(
            "loop:<br/>&nbsp;&nbsp;m, tag = load(MANIFEST)<br/>&nbsp;&nbsp;if m.epoch &gt; my_epoch: "
            "stop, fenced<br/>&nbsp;&nbsp;if not inputs &lt;= m.live: plan again<br/>&nbsp;&nbsp;n = "
            "next(m, snapshot, my_epoch)<br/>&nbsp;&nbsp;if swap(tag, n): done",
            CODE,
        ),
        paragraph(
            "If anything happened between load and swap, the tag has changed and the swap fails. The loop then reads "
            "the newer manifest and finds the larger epoch in it, or finds that its inputs are no longer live. Between "
            "them, the comparison of epochs and the swap leave no moment at which a stale holder could slip through. "
            "Since the version stands in the body, equal tags mean equal states, and the ABA problem does not arise."
        ),
        section("4 The rules of the protocol"),
        paragraph("The protocol has four kinds of participants. Each keeps a short list of rules."),
        item(1, "<b>Files are immutable and their names are never used twice.</b> A reader that holds a manifest can "
                "rely on every file that it names."),
        item(2, "<b>A writer numbers its commits.</b> The manifest records the last number of each writer. When a "
                "reply is lost, the writer reloads: if its number is there, the commit succeeded, and it must not be "
                "sent again."),
        item(3, "<b>A compactor commits only while all its inputs are live,</b> and only with an epoch that is at "
                "least the manifest's. Deltas that arrived during the merge simply stay live."),
        item(4, "<b>The collector raises a floor before it deletes.</b> A file that was staged below the floor can no "
                "longer be committed; so a file that is unreferenced and below the floor is garbage, and stays garbage "
                "for ever."),
        paragraph(
            "The lease itself no longer carries any safety. It is kept because two compactors that do the same work "
            "are a waste, and because a heartbeat tells an operator who is at work. If the lease fails in every "
            "possible way, the system becomes slow, not wrong."
        ),
        section("5 What breaks without each rule"),
        paragraph(
            "It is instructive to remove one rule at a time. Table 1 lists what then goes wrong. In each line a "
            "schedule of a few steps suffices, of the kind that a model checker finds in seconds and a production "
            "system in months."
        ),
        KeepTogether(
            [
                Paragraph("Table 1: One rule removed at a time.", CAPTION),
                losses(column),
            ]
        ),
        section("6 Choosing the lengths of time"),
        paragraph(
            "With safety out of the way, time is a matter of economy. A lease of five minutes with a heartbeat every "
            "sixty seconds tolerates three lost heartbeats and still notices a dead holder within five minutes. "
            "The holder measures on a monotonic clock, from the <i>start</i> of its last successful renewal, and stops "
            "working a margin before the end, because a renewal that arrives late was granted early. Renewal runs in a "
            "task of its own: a timer that shares a thread with the merge fires when the merge is done, which is "
            "exactly when it is no longer needed."
        ),
        paragraph(
            "A swap that times out has an unknown result. The request may have been lost, or only the reply. The "
            "writer must look before it acts: reload the manifest, search for its own commit, and only then decide. "
            "Retrying blindly is how one delta becomes two, and why the client library's own retries are turned off "
            "for this one call."
        ),
        section("7 Related work"),
        paragraph(
            "Leases were introduced for consistency in file caches [1]. Chubby calls the fencing token a sequencer and "
            "hands it to the servers that are to be protected [2]. The case against locks with expiry times and "
            "without tokens was made well known by Kleppmann [3]. Multi-version formats for tables and logs on "
            "object storage rest on the same foundation of immutable files and one conditional commit."
        ),
        section("8 Conclusion"),
        paragraph(
            "A lease answers the question of who should work. It cannot answer whose work counts. That question "
            "belongs to the store, and a number that only grows, compared in the same step that makes the work "
            "visible, is enough to answer it."
        ),
        section("References"),
        Paragraph("[1] C. G. Gray and D. R. Cheriton. Leases: an efficient fault-tolerant mechanism for distributed "
                  "file cache consistency. <i>SOSP</i>, 1989.", REFERENCE),
        Paragraph("[2] M. Burrows. The Chubby lock service for loosely-coupled distributed systems. <i>OSDI</i>, "
                  "2006.", REFERENCE),
        Paragraph("[3] M. Kleppmann. <i>Designing Data-Intensive Applications</i>. O'Reilly, 2017, chapter 8.",
                  REFERENCE),
    ]


def losses(width):
    rows = [
        ("Removed", "Schedule", "Loss"),
        ("Compare-and-swap", "a stalled compactor writes the manifest it planned", "acknowledged deltas vanish"),
        ("Writer's number", "the reply is lost, the delta is merged, the writer sends it again", "documents twice"),
        ("Inputs still live", "two compactors merge the same deltas", "documents twice"),
        ("Floor", "a staged file is deleted and then committed", "the manifest names a file that is gone"),
        ("Conditional heartbeat", "the old holder renews after the takeover", "two holders, double work"),
    ]
    cells = [[Paragraph(text, HEAD_CELL if i == 0 else CELL) for text in row] for i, row in enumerate(rows)]
    return Table(
        cells,
        colWidths=[width * share for share in (0.33, 0.39, 0.28)],
        style=[
            ("LINEABOVE", (0, 0), (-1, 0), 0.9, INK),
            ("LINEBELOW", (0, 0), (-1, 0), 0.5, INK),
            ("LINEBELOW", (0, -1), (-1, -1), 0.9, INK),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 2),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ],
    )


def timeline(width):
    """Draws two holders and a store over time."""
    drawing = Drawing(width, 104)
    lanes = {"A": 84, "B": 52, "store": 16}
    left, right = 30, width - 4

    def text(x, y, content, size=7.2, anchor="start", font="Times-Roman", fill=INK):
        drawing.add(String(x, y, content, fontName=font, fontSize=size, textAnchor=anchor, fillColor=fill))

    def arrow(x, top, bottom, colour):
        drawing.add(Line(x, top, x, bottom + 4, strokeColor=colour, strokeWidth=0.9))
        drawing.add(Polygon([x - 2.4, bottom + 5, x + 2.4, bottom + 5, x, bottom], fillColor=colour, strokeColor=None))

    for name, y in lanes.items():
        drawing.add(Line(left, y, right, y, strokeColor=RULE, strokeWidth=0.7))
        text(0, y - 2.5, name, 8.6, font="Times-Italic")
    span = right - left
    at = lambda share: left + share * span  # noqa: E731
    boxes = [
        ("A", 0.02, 0.27, "epoch 7", TINT),
        ("A", 0.27, 0.74, "paused", colors.white),
        ("A", 0.74, 0.90, "wakes", TINT),
        ("B", 0.42, 0.70, "epoch 8", TINT),
    ]
    for lane, start, end, label, fill in boxes:
        drawing.add(Rect(at(start), lanes[lane] - 6, at(end) - at(start), 12, fillColor=fill, strokeColor=ACCENT,
                         strokeWidth=0.6, strokeDashArray=[2, 2] if label == "paused" else None))
        text((at(start) + at(end)) / 2, lanes[lane] - 2.5, label, anchor="middle")
    arrow(at(0.62), lanes["B"] - 6, lanes["store"], ACCENT)
    text(at(0.62) - 3, 32, "commit, accepted", anchor="end")
    arrow(at(0.86), lanes["A"] - 6, lanes["store"], INK)
    text(at(0.86) - 3, 32, "refused", anchor="end", font="Times-Bold")
    text(at(0.40), 96, "lease of A ends", 7.2, "middle", fill=QUIET)
    drawing.add(Line(at(0.40), 93, at(0.40), lanes["store"], strokeColor=QUIET, strokeWidth=0.5,
                     strokeDashArray=[1, 2]))
    text(at(0.62) + 3, 5, "highest epoch: 8", 7.2, "start", fill=QUIET)
    return drawing

"""Renders an annual report: cover, contents, three heading levels, a ruled and an unruled table, a chart, footnotes."""

from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.shapes import Drawing, String
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import (
    Frame,
    KeepTogether,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from .style import ACCENT, INK, QUIET, RULE, TINT, Document, Heading, fixed_date, style

TITLE = "Annual Report 2025"
ORGANISATION = "Harbour Archive Trust"

COVER = style("cover", "Helvetica-Bold", 32, 38, spaceAfter=8)
COVER_SUB = style("cover-sub", "Helvetica", 14, 19)
H1 = style("h1", "Helvetica-Bold", 17, 22, spaceBefore=6, spaceAfter=8, keepWithNext=1)
H2 = style("h2", "Helvetica-Bold", 12.5, 16, spaceBefore=10, spaceAfter=4, keepWithNext=1)
H3 = style("h3", "Helvetica-BoldOblique", 10.5, 14, spaceBefore=6, spaceAfter=2, keepWithNext=1)
TEXT = style("text", "Helvetica", 10, 14.2, spaceAfter=7)
BULLET = style("bullet", "Helvetica", 10, 14.2, leftIndent=14, bulletIndent=3, spaceAfter=3)
CAPTION = style("caption", "Helvetica-Oblique", 9, 12, spaceBefore=4, spaceAfter=4, keepWithNext=1)
NOTE = style("note", "Helvetica", 8, 10.5)

# Documents accepted, finished and set aside, and pages, for each quarter. The totals are computed from these numbers.
QUARTERS = [
    ("First", 18_204, 17_961, 243, 262_140),
    ("Second", 21_377, 21_190, 187, 301_882),
    ("Third", 25_650, 25_529, 121, 378_406),
    ("Fourth", 31_092, 30_994, 98, 447_915),
]
COSTS = [
    ("Staff of the digitisation desk", 186_400, 191_250),
    ("Scanning by contractors", 64_300, 41_780),
    ("Servers and storage", 22_150, 17_930),
    ("Embedding and text analysis", 9_870, 1_240),
    ("Training and travel", 7_300, 8_120),
]
REASONS = [
    ("Encrypted, no password known", 214),
    ("Truncated during the upload", 167),
    ("More pages than the limit", 39),
    ("Not a document that the archive reads", 229),
]


def render():
    fixed_date(2026, 1, 30)
    document = Document(
        f"{ORGANISATION}: {TITLE}",
        "A year of turning paper into an index that answers",
        ["annual report", "digitisation", "search", "quarantine", "costs"],
    )
    width, height = A4
    margin = 24 * mm
    body = Frame(margin, 24 * mm, width - 2 * margin, height - 52 * mm, 0, 0, 0, 0, id="body")

    def cover(canvas, _):
        canvas.setFillColor(ACCENT)
        canvas.rect(0, height - 92 * mm, width, 92 * mm, stroke=0, fill=1)
        canvas.setFillColorRGB(1, 1, 1)
        canvas.setFont("Helvetica", 13)
        canvas.drawString(margin, height - 30 * mm, ORGANISATION)

    def inner(canvas, doc):
        canvas.setFont("Helvetica", 8.5)
        canvas.setFillColor(QUIET)
        canvas.drawString(margin, height - 16 * mm, f"{ORGANISATION} | {TITLE}")
        canvas.drawRightString(width - margin, 13 * mm, f"Page {doc.page}")
        canvas.setStrokeColor(RULE)
        canvas.setLineWidth(0.5)
        canvas.line(margin, height - 18 * mm, width - margin, height - 18 * mm)

    low = Frame(margin, 24 * mm, width - 2 * margin, height - 140 * mm, 0, 0, 0, 0, id="cover")
    document.addPageTemplates(
        [PageTemplate("cover", [low], onPage=cover), PageTemplate("inner", [body], onPage=inner)]
    )
    return document.finish(story(width - 2 * margin))


def story(width):
    finished, accepted = sum(q[2] for q in QUARTERS), sum(q[1] for q in QUARTERS)
    set_aside, pages = sum(q[3] for q in QUARTERS), sum(q[4] for q in QUARTERS)
    assert accepted == finished + set_aside and set_aside == sum(count for _, count in REASONS)
    before, after = sum(c[1] for c in COSTS), sum(c[2] for c in COSTS)
    saved = 100 * (before - after) / before
    return [
        Paragraph(TITLE, COVER),
        Paragraph("A year of turning paper into an index that answers", COVER_SUB),
        Spacer(1, 18),
        Paragraph(
            f"{finished:,} documents and {pages:,} pages became searchable in 2025, at {saved:.1f}% less cost than the "
            "year before. This report says how, what it cost, and what we set aside.",
            TEXT,
        ),
        NextPageTemplate("inner"),
        PageBreak(),
        Heading("1. The year in brief", H1, 0),
        Paragraph(
            "The Trust keeps the papers of the harbour board, of eleven shipping companies and of the pilots' guild: "
            "letters, ledgers, charts, insurance claims, minutes. Until last year a reader who wanted to know when the "
            "north lock was last dredged asked an archivist, who knew where to look. Since February 2025 every newly "
            "scanned document passes a pipeline that extracts its text, cuts it into passages, and stores them in an "
            "index that is searched by meaning and by word. Readers now find two thirds of what they ask for by "
            "themselves.",
            TEXT,
        ),
        Paragraph("Three decisions mattered more than the choice of tools:", TEXT),
        Paragraph("every passage keeps the number of the page that it came from, so an answer can be checked;", BULLET,
                  bulletText="•"),
        Paragraph("a document that fails is set aside with its reason and never holds up the ones behind it;", BULLET,
                  bulletText="•"),
        Paragraph("a changed document replaces its predecessor in one step, so no reader sees half of each.", BULLET,
                  bulletText="•"),
        Heading("1.1 Documents by quarter", H2, 1),
        Paragraph(
            "Intake grew in each quarter while the number of documents set aside fell. Most of the improvement came "
            "from checking uploads for completeness before they were accepted.<super>1</super>",
            TEXT,
        ),
        KeepTogether([Paragraph("Table 1. Documents and pages by quarter, 2025", CAPTION), ruled(width)]),
        Spacer(1, 10),
        KeepTogether([chart(width), Paragraph("Figure 1. Documents finished by quarter", CAPTION)]),
        Spacer(1, 14),
        Paragraph(
            "<super>1</super> A file whose last part is missing cannot be told from a damaged one once it is stored; "
            "at the door, its announced and its received length can be compared.",
            NOTE,
        ),
        PageBreak(),
        Heading("2. What it cost", H1, 0),
        Heading("2.1 Operating costs", H2, 1),
        Paragraph(
            "Costs fell for the second year. The largest saving is in scanning, where the backlog of the shipping "
            "companies was finished in June. The steepest is in embedding and text analysis: since March, embeddings "
            "are computed on the Trust's own machines by a small open model, and the paid service is used in batches, "
            "at half its usual price, for languages that the small model does not know.",
            TEXT,
        ),
        KeepTogether([Paragraph("Table 2. Operating costs in pounds", CAPTION), unruled(width)]),
        Heading("2.2 What a document costs", H2, 1),
        Paragraph(
            f"Divided by the documents finished, the year cost {after / finished:.2f} pounds a document, staff "
            "included. A budget with warnings at 50, 80, 95 and 100 percent now stops paid calls before they surprise "
            "anyone; it was reached once, in April, when a contractor delivered the same 4,000 claims under new names. "
            "Their content was recognised by its hash, nothing was embedded twice, and the warning came from the text "
            "analysis alone.",
            TEXT,
        ),
        PageBreak(),
        Heading("3. What we set aside", H1, 0),
        Paragraph(
            f"Of {accepted:,} documents, {set_aside} were quarantined: {100 * set_aside / accepted:.2f} percent. None "
            "was lost. Each stands in quarantine with its original, the stage that failed, and the reason.",
            TEXT,
        ),
        KeepTogether([Paragraph("Table 3. Reasons for quarantine", CAPTION), partly_ruled(width * 0.72)]),
        Heading("3.1 Encrypted claims", H2, 1),
        Paragraph(
            "Most encrypted files are insurance claims from one company, whose archive system protected every export. "
            "The company has since found its passwords. The files will be replayed from the extraction stage in "
            "spring; nothing needs to be uploaded again.",
            TEXT,
        ),
        Heading("3.1.1 Lessons", H3, 2),
        Paragraph(
            "Ask a donor for passwords together with the files. Note the reason of a refusal where the donor can see "
            "it. Never delete the original until its replacement can be found by a search.",
            TEXT,
        ),
        Heading("4. Outlook", H1, 0),
        Paragraph(
            "In 2026 the Trust will turn to the charts. Their text is short, rotated and written over lines, and "
            "today's extraction recovers little of it. We expect to finish 40,000 further documents, and to open the "
            "index to the universities that asked for it.",
            TEXT,
        ),
    ]


def number(value):
    return f"{value:,}"


def ruled(width):
    """Builds a table with every cell in a box, a merged heading and a total."""
    rows = [
        ["Quarter", "Documents", "", "", "Pages"],
        ["", "accepted", "finished", "set aside", ""],
        *[[name, *map(number, values)] for name, *values in QUARTERS],
        ["Year", *(number(sum(q[i] for q in QUARTERS)) for i in range(1, 5))],
    ]
    return Table(
        rows,
        colWidths=[width * 0.2] * 5,
        style=[
            ("GRID", (0, 0), (-1, -1), 0.6, INK),
            ("SPAN", (1, 0), (3, 0)),
            ("SPAN", (0, 0), (0, 1)),
            ("SPAN", (4, 0), (4, 1)),
            ("ALIGN", (1, 0), (3, 0), "CENTER"),
            ("ALIGN", (1, 1), (-1, -1), "RIGHT"),
            ("ALIGN", (4, 0), (4, 0), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9.2),
            ("FONT", (0, 0), (-1, 1), "Helvetica-Bold", 9.2),
            ("FONT", (0, -1), (-1, -1), "Helvetica-Bold", 9.2),
            ("BACKGROUND", (0, 0), (-1, 1), TINT),
            ("TEXTCOLOR", (0, 0), (-1, -1), INK),
        ],
    )


def unruled(width):
    """Builds a table without lines: only the alignment shows the columns."""
    rows = [["Item", "2024", "2025", "Change"]]
    for name, before, after in COSTS:
        rows.append([name, number(before), number(after), f"{100 * (after - before) / before:+.1f}%"])
    before, after = (sum(c[i] for c in COSTS) for i in (1, 2))
    rows.append(["Total", number(before), number(after), f"{100 * (after - before) / before:+.1f}%"])
    return Table(
        rows,
        colWidths=[width * share for share in (0.46, 0.18, 0.18, 0.18)],
        style=[
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9.6),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9.6),
            ("FONT", (0, -1), (-1, -1), "Helvetica-Bold", 9.6),
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("TEXTCOLOR", (0, 0), (-1, -1), INK),
            ("LEFTPADDING", (0, 0), (0, -1), 0),
        ],
    )


def partly_ruled(width):
    """Builds a table with rules above and below the heading and at the end, as in books."""
    rows = [["Reason", "Documents", "Share"]]
    total = sum(count for _, count in REASONS)
    rows += [[reason, number(count), f"{100 * count / total:.0f}%"] for reason, count in REASONS]
    return Table(
        rows,
        hAlign="LEFT",
        colWidths=[width * share for share in (0.6, 0.22, 0.18)],
        style=[
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9.4),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9.4),
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("LINEABOVE", (0, 0), (-1, 0), 1, INK),
            ("LINEBELOW", (0, 0), (-1, 0), 0.5, INK),
            ("LINEBELOW", (0, -1), (-1, -1), 1, INK),
            ("TEXTCOLOR", (0, 0), (-1, -1), INK),
        ],
    )


def chart(width):
    drawing = Drawing(width, 130)
    bars = VerticalBarChart()
    bars.x, bars.y, bars.width, bars.height = 40, 22, width - 60, 98
    bars.data = [[q[2] for q in QUARTERS]]
    bars.categoryAxis.categoryNames = [q[0] for q in QUARTERS]
    bars.valueAxis.valueMin, bars.valueAxis.valueMax, bars.valueAxis.valueStep = 0, 35_000, 10_000
    bars.valueAxis.labelTextFormat = number_label
    for axis in (bars.categoryAxis, bars.valueAxis):
        axis.labels.fontName, axis.labels.fontSize = "Helvetica", 8.5
        axis.strokeColor = RULE
    bars.bars[0].fillColor = ACCENT
    bars.bars[0].strokeColor = None
    bars.barWidth, bars.groupSpacing = 12, 18
    drawing.add(bars)
    drawing.add(String(0, 122, "Documents", fontName="Helvetica", fontSize=8.5, fillColor=QUIET))
    return drawing


def number_label(value):
    return number(int(value))

"""Renders slides in landscape: a large title, few words, boxes and arrows, a slide number."""

from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Frame, NextPageTemplate, PageBreak, PageTemplate, Paragraph
from reportlab.platypus.flowables import Flowable

from .style import ACCENT, INK, QUIET, TINT, Document, Heading, fixed_date, style

SIZE = (254 * mm, 142.875 * mm)  # 16:9

TITLE = style("title", "Helvetica-Bold", 36, 42, spaceAfter=10)
SUB = style("sub", "Helvetica", 18, 24)
HEAD = style("head", "Helvetica-Bold", 26, 32, spaceAfter=14)
POINT = style("point", "Helvetica", 19, 26, leftIndent=24, bulletIndent=4, bulletFontSize=19, spaceAfter=9)

SLIDES = [
    (
        "Five stages, one bottleneck",
        [
            "A document passes five stages: extract, chunk, enrich, embed, load",
            "Extraction reads hundreds of pages a second; embedding a few dozen",
            "Whatever the fast stages produce has to wait somewhere",
        ],
        ["extract", "chunk", "enrich", "embed", "load"],
    ),
    (
        "An unbounded queue is a slow crash",
        [
            "It hides the problem until memory runs out",
            "It makes the oldest work the last to be finished",
            "A restart loses everything that only lived in the queue",
        ],
        None,
    ),
    (
        "Permits, not mailboxes",
        [
            "A job needs a permit before it may enter a stage",
            "No permit free: the sender waits, and so does its own sender",
            "The permit returns when the job is durable in the next stage",
            "Two kinds: one permit per message, one per kilobyte",
        ],
        None,
    ),
    (
        "What back-pressure looks like",
        [
            "Time blocked on the next stage: the stage after it is the bottleneck",
            "Queue empty and workers idle: the stage before it is",
            "All blocked: the intake waits, and memory stays flat",
        ],
        ["intake waits", "blocked", "blocked", "busy", "idle"],
    ),
    (
        "Throttling is not failure",
        [
            "A service that answers 429 asks for patience, not for fewer attempts",
            "The job keeps its attempts and waits outside the worker",
            "A permanent error is never tried again: it goes to quarantine at once",
        ],
        None,
    ),
    (
        "Three questions for your own pipeline",
        [
            "Which limit stops it from taking more work than it can hold?",
            "Which number shows where it is blocked right now?",
            "What is lost when the power fails at this moment?",
        ],
        None,
    ),
]


class Flow(Flowable):
    """Draws boxes joined by arrows."""

    def __init__(self, labels, width):
        super().__init__()
        self.labels, self.width, self.height = labels, width, 46
        self.spaceAfter = 20

    def draw(self):
        canvas, count, gap = self.canv, len(self.labels), 22
        box = (self.width - gap * (count - 1)) / count
        for i, label in enumerate(self.labels):
            x = i * (box + gap)
            canvas.setFillColor(TINT)
            canvas.setStrokeColor(ACCENT)
            canvas.roundRect(x, 4, box, 38, 5, fill=1)
            canvas.setFillColor(INK)
            canvas.setFont("Helvetica-Bold", 14)
            canvas.drawString(x + (box - stringWidth(label, "Helvetica-Bold", 14)) / 2, 18, label)
            if i + 1 < count:
                tip = x + box + gap
                canvas.line(x + box + 3, 23, tip - 4, 23)
                canvas.line(tip - 9, 27, tip - 4, 23)
                canvas.line(tip - 9, 19, tip - 4, 23)


def render():
    fixed_date(2025, 9, 18)
    document = Document(
        "Back-pressure in five stages",
        "A talk of ten minutes about queues that have an end",
        ["slides", "back-pressure", "queues", "permits"],
        pagesize=SIZE,
    )
    width, height = SIZE
    margin = 20 * mm

    def opening(canvas, _):
        canvas.setFillColor(TINT)
        canvas.rect(0, 0, width, height, stroke=0, fill=1)
        canvas.setFillColor(ACCENT)
        canvas.rect(0, 0, 8 * mm, height, stroke=0, fill=1)

    def slide(canvas, doc):
        canvas.setFillColor(ACCENT)
        canvas.rect(0, 0, width, 3 * mm, stroke=0, fill=1)
        canvas.setFillColor(QUIET)
        canvas.setFont("Helvetica", 10)
        canvas.drawString(margin, 7 * mm, "Back-pressure in five stages")
        canvas.drawRightString(width - margin, 7 * mm, str(doc.page))

    def frame(top, name):
        return Frame(margin, 14 * mm, width - 2 * margin, height - 14 * mm - top, 0, 0, 0, 0, id=name)

    document.addPageTemplates(
        [
            PageTemplate("opening", [frame(46 * mm, "opening")], onPage=opening),
            PageTemplate("slide", [frame(16 * mm, "slide")], onPage=slide),
        ]
    )
    story = [
        NextPageTemplate("slide"),
        Heading("Back-pressure in five stages", TITLE, 0),
        Paragraph("Why every queue needs an end, and who should wait", SUB),
    ]
    for head, points, flow in SLIDES:
        story += [PageBreak(), Heading(head, HEAD, 0)]
        if flow:
            story.append(Flow(flow, width - 2 * margin))
        story += [Paragraph(point, POINT, bulletText="•") for point in points]
    return document.finish(story)

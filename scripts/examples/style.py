"""Defines the parts that the examples share: fonts, paragraph styles, document information, outline, fixed dates."""

import calendar
import io
import os

from reportlab.lib import colors
from reportlab.lib.enums import TA_JUSTIFY
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import BaseDocTemplate, Paragraph

DEJAVU = "/usr/share/fonts/truetype/dejavu"
INK = colors.HexColor("#1c2733")
QUIET = colors.HexColor("#5b6b7a")
RULE = colors.HexColor("#9fb0bf")
TINT = colors.HexColor("#eaf0f5")
ACCENT = colors.HexColor("#1f5f8b")

AUTHOR = "The Docweir authors"


def fixed_date(year, month, day):
    """Sets the date of the next document, so that the file does not depend on the day of rendering."""
    os.environ["SOURCE_DATE_EPOCH"] = str(calendar.timegm((year, month, day, 9, 0, 0)))


def use_dejavu():
    for face in ("Sans", "Sans-Bold", "Serif", "Serif-Bold", "Serif-Italic"):
        pdfmetrics.registerFont(TTFont(f"DejaVu{face}", f"{DEJAVU}/DejaVu{face}.ttf"))
    pdfmetrics.registerFontFamily("DejaVuSerif", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic")


def style(name, font="Times-Roman", size=10, leading=None, **more):
    return ParagraphStyle(name, fontName=font, fontSize=size, leading=leading or size * 1.25, textColor=INK, **more)


BODY = style("body", size=9.7, leading=12.2, alignment=TA_JUSTIFY, spaceAfter=5)


class Heading(Paragraph):
    """Renders a heading and adds it to the document's outline."""

    def __init__(self, text, look, level=0):
        super().__init__(text, look)
        self.level = level


class Document(BaseDocTemplate):
    """Builds a document with information and an outline of its headings. The same input gives the same bytes."""

    def __init__(self, title, subject, keywords=(), pagesize=A4, **margins):
        self.bytes = io.BytesIO()
        super().__init__(
            self.bytes,
            pagesize=pagesize,
            title=title,
            author=AUTHOR,
            subject=subject,
            keywords=", ".join(keywords),
            creator="scripts/render-examples",
            invariant=1,
            **margins,
        )
        self.headings = 0

    def afterFlowable(self, flowable):
        if isinstance(flowable, Heading):
            key = f"heading-{self.headings}"
            self.headings += 1
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(flowable.getPlainText(), key, flowable.level)

    def finish(self, story):
        self.build(story)
        return self.bytes.getvalue()

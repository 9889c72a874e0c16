"""Renders a scanned page: a slightly rotated, noisy image under the invisible text layer of a scanner's OCR.

Each word of the text layer is at its position in the image, and a few words are misread, as in real text layers. The
second page is only an image, as from a scanner without OCR.
"""

import io
import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from .style import AUTHOR, DEJAVU, fixed_date

DPI = 144
SCALE = DPI / 72
ANGLE = 0.7  # degrees, anticlockwise

PAGES = [
    [
        ("head", "MEMORANDUM"),
        ("text", "To:      All archivists of the reading room"),
        ("text", "From:    The head of conservation"),
        ("text", "Date:    3 November 1987"),
        ("text", "Subject: Handling of water-damaged ledgers"),
        ("gap", ""),
        ("text", "The flood of 15 October reached the lower shelves of store"),
        ("text", "C. Some four hundred ledgers of the pilots' guild were wet"),
        ("text", "for up to two days. The following rules apply until further"),
        ("text", "notice."),
        ("gap", ""),
        ("text", "1. Do not open a wet volume. Wrap it in gauze, label it, and"),
        ("text", "   bring it to the freezer within the hour. Mould begins to"),
        ("text", "   grow after forty-eight hours at room temperature."),
        ("gap", ""),
        ("text", "2. Frozen volumes are dried in the vacuum chamber in batches"),
        ("text", "   of thirty. Nobody takes a volume out of the queue without"),
        ("text", "   signing the register. Two people who each believe that a"),
        ("text", "   volume is theirs have ruined one already."),
        ("gap", ""),
        ("text", "3. A volume that is past saving is not thrown away. It goes"),
        ("text", "   to quarantine on shelf Q with a slip that gives the reason"),
        ("text", "   and the name of the person who decided."),
        ("gap", ""),
        ("text", "4. Readers are given the microfilm. Where there is none, they"),
        ("text", "   are told when the original will be available again."),
        ("gap", ""),
        ("text", "The register is the only record of what is where. If the"),
        ("text", "register and the shelf disagree, report it the same day."),
    ],
    [
        ("head", "REGISTER, SHEET 1"),
        ("text", "Volume      Frozen       Dried        Shelf    Signed"),
        ("gap", ""),
        ("text", "PG 1841     16 Oct 87    29 Oct 87    C 12     H. Lowe"),
        ("text", "PG 1842     16 Oct 87    29 Oct 87    C 12     H. Lowe"),
        ("text", "PG 1846     17 Oct 87    30 Oct 87    C 13     R. Abara"),
        ("text", "PG 1850     17 Oct 87    past saving  Q 1      R. Abara"),
        ("text", "PG 1851     17 Oct 87    30 Oct 87    C 13     H. Lowe"),
        ("text", "PG 1853     18 Oct 87    2 Nov 87     C 14     H. Lowe"),
    ],
]
# Misread words, as OCR produces them.
MISREAD = {"freezer": "freezcr", "microfilm.": "microfilrn."}


def render():
    fixed_date(2025, 6, 30)
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setTitle("Memorandum: handling of water-damaged ledgers (scan)")
    canvas.setAuthor(AUTHOR)
    canvas.setSubject("A page image with the text layer of a scanner, and one without")
    canvas.setCreator("scripts/render-examples")
    for index, lines in enumerate(PAGES):
        image, words = picture(lines, index == 0, random.Random(1987 + index))
        canvas.drawImage(ImageReader(image), 0, 0, *A4)
        canvas.bookmarkPage(f"page-{index}")
        canvas.addOutlineEntry(lines[0][1].capitalize(), f"page-{index}", 0)
        if index == 0:
            invisible_text(canvas, words)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def picture(lines, stamped, chance):
    """Returns the page as a JPEG, and its words with their boxes in points before the page was rotated."""
    size = tuple(round(side * SCALE) for side in A4)
    page = Image.new("L", size, 250)
    draw = ImageDraw.Draw(page)
    fonts = {
        "text": ImageFont.truetype(f"{DEJAVU}/DejaVuSansMono.ttf", round(10.4 * SCALE)),
        "head": ImageFont.truetype(f"{DEJAVU}/DejaVuSansMono-Bold.ttf", round(16 * SCALE)),
    }
    words, left, y = [], 74 * SCALE, 84 * SCALE
    for look, line in lines:
        if look == "gap":
            y += 9 * SCALE
            continue
        font = fonts[look]
        start = 0
        for word in line.split():
            start = line.index(word, start)
            x = left + font.getlength(line[:start])
            # A typewriter prints letters with uneven strength and slightly off the line.
            draw.text((x, y + chance.uniform(-0.6, 0.6)), word, fill=chance.randint(28, 70), font=font)
            words.append((word, x / SCALE, (y + font.size) / SCALE, font.getlength(word) / SCALE, font.size / SCALE))
            start += len(word)
        y += font.size * 1.62 if look == "text" else font.size * 2.6
    if stamped:
        stamp_received(draw)
    page = page.rotate(ANGLE, Image.Resampling.BICUBIC, fillcolor=246)
    # Add the shadow of the spine, dust and grain.
    draw = ImageDraw.Draw(page)
    for x in range(round(26 * SCALE)):
        shade = round(205 + 45 * x / (26 * SCALE))
        draw.line((x, 0, x, size[1]), fill=shade)
    for _ in range(160):
        x, y, r = chance.uniform(0, size[0]), chance.uniform(0, size[1]), chance.uniform(0.4, 1.7)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=chance.randint(60, 190))
    grain = Image.frombytes("L", (size[0] // 2, size[1] // 2), chance.randbytes((size[0] // 2) * (size[1] // 2)))
    grain = grain.resize(size, Image.Resampling.BILINEAR).point(lambda v: 255 - v // 14)
    page = ImageChops.multiply(page.filter(ImageFilter.GaussianBlur(0.7)), grain)
    jpeg = io.BytesIO()
    page.save(jpeg, "JPEG", quality=58, dpi=(DPI, DPI))
    jpeg.seek(0)
    return jpeg, words


def stamp_received(draw):
    stamp = (380 * SCALE, 128 * SCALE, 520 * SCALE, 176 * SCALE)
    draw.rectangle(stamp, outline=120, width=4)
    draw.text((stamp[0] + 14 * SCALE, stamp[1] + 15 * SCALE), "RECEIVED", fill=120,
              font=ImageFont.truetype(f"{DEJAVU}/DejaVuSans-Bold.ttf", round(18 * SCALE)))


def invisible_text(canvas, words):
    """Writes words in render mode 3 (invisible), each stretched to its width and rotated about the page's centre."""
    width, height = A4
    sine, cosine = math.sin(math.radians(ANGLE)), math.cos(math.radians(ANGLE))
    text = canvas.beginText()
    text.setTextRenderMode(3)
    for word, x, baseline, wide, size in words:
        shown = MISREAD.get(word, word)
        text.setFont("Courier", size)
        text.setHorizScale(100 * wide / stringWidth(shown, "Courier", size))
        dx, dy = x - width / 2, (height - baseline) - height / 2
        at_x, at_y = width / 2 + dx * cosine - dy * sine, height / 2 + dx * sine + dy * cosine
        text.setTextTransform(cosine, sine, -sine, cosine, at_x, at_y)
        text.textOut(shown + " ")
    canvas.drawText(text)

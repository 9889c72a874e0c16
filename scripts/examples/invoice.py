"""Renders a one-page invoice: addresses side by side, a table of items, totals, bank details. All of it is invented."""

from decimal import ROUND_HALF_UP, Decimal

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import Frame, PageTemplate, Paragraph, Spacer, Table

from .style import ACCENT, INK, RULE, TINT, Document, Heading, fixed_date, style

SELLER = ["Quayside Scanning Ltd", "7 Ropewalk Yard", "Bristol BS1 4QY", "United Kingdom", "VAT no. GB 000 0000 00"]
BUYER = ["Harbour Archive Trust", "Attn. Ms Imogen Hartley", "The Old Custom House", "2 Lock Street", "Bristol BS1 6XL"]
ITEMS = [
    ("Scanning of bound ledgers, 300 dpi, greyscale", 1_840, "page", "0.19"),
    ("Scanning of loose letters, both sides, 300 dpi", 3_215, "sheet", "0.14"),
    ("Text recognition with a searchable text layer", 5_055, "page", "0.03"),
    ("Careful opening and closing of stitched volumes", 12, "volume", "18.50"),
    ("Collection and return, insured, two journeys", 2, "journey", "65.00"),
]
VAT = Decimal("0.20")

TITLE = style("title", "Helvetica-Bold", 24, 28, textTransform=None)
LABEL = style("label", "Helvetica-Bold", 9, 12)
TEXT = style("text", "Helvetica", 9.5, 13)
SMALL = style("small", "Helvetica", 8.5, 11.5)


def money(value):
    return f"£{value.quantize(Decimal('0.01'), ROUND_HALF_UP):,}"


def render():
    fixed_date(2025, 7, 2)
    document = Document(
        "Invoice 2025-0417",
        "Scanning of ledgers and letters, June 2025",
        ["invoice", "scanning", "2025-0417"],
    )
    width, height = A4
    margin = 22 * mm
    body = Frame(margin, 20 * mm, width - 2 * margin, height - 40 * mm, 0, 0, 0, 0)

    def page(canvas, _):
        canvas.setFillColor(ACCENT)
        canvas.rect(0, height - 6 * mm, width, 6 * mm, stroke=0, fill=1)

    document.addPageTemplates([PageTemplate("page", [body], onPage=page)])
    return document.finish(story(width - 2 * margin))


def story(width):
    plain = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]
    facts = [
        ("Invoice number", "2025-0417"),
        ("Date of invoice", "2 July 2025"),
        ("Period of work", "2 to 27 June 2025"),
        ("Your order", "HAT-2025-031"),
        ("Payment due", "1 August 2025"),
    ]
    net = sum(Decimal(price) * count for _, count, _, price in ITEMS)
    vat = (net * VAT).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return [
        Heading("Invoice", TITLE, 0),
        Spacer(1, 14),
        Table(
            [
                [Paragraph("From", LABEL), Paragraph("To", LABEL), Paragraph("Details", LABEL)],
                [
                    Paragraph("<br/>".join(SELLER), TEXT),
                    Paragraph("<br/>".join(BUYER), TEXT),
                    Table(
                        [[Paragraph(name, SMALL), Paragraph(value, SMALL)] for name, value in facts],
                        colWidths=[width * 0.17, width * 0.19],
                        style=[*plain, ("TOPPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 2)],
                    ),
                ],
            ],
            colWidths=[width * 0.31, width * 0.33, width * 0.36],
            style=plain,
        ),
        Spacer(1, 20),
        items(width),
        Spacer(1, 8),
        Table(
            [
                ["Net amount", money(net)],
                [f"VAT {VAT:.0%}", money(vat)],
                ["Total due", money(net + vat)],
            ],
            hAlign="RIGHT",
            colWidths=[width * 0.22, width * 0.18],
            style=[
                ("FONT", (0, 0), (-1, -1), "Helvetica", 9.5),
                ("FONT", (0, -1), (-1, -1), "Helvetica-Bold", 11),
                ("ALIGN", (1, 0), (1, -1), "RIGHT"),
                ("LINEABOVE", (0, -1), (-1, -1), 0.8, INK),
                ("TEXTCOLOR", (0, 0), (-1, -1), INK),
            ],
        ),
        Spacer(1, 24),
        Paragraph("How to pay", LABEL),
        Spacer(1, 3),
        Paragraph(
            "Please pay within 30 days by bank transfer, quoting the invoice number, to Quayside Scanning Ltd, IBAN "
            "GB82 WEST 1234 5698 7654 32, BIC WESTGB2L. Interest of 8% a year above the base rate is charged on late "
            "payments.",
            TEXT,
        ),
        Spacer(1, 10),
        Paragraph("Questions", LABEL),
        Spacer(1, 3),
        Paragraph(
            "Thomas Okafor, accounts@quayside-scanning.example, telephone +44 117 496 0123. The scans were delivered "
            "on 30 June 2025 as 14 PDF files; originals were returned the same day against signature.",
            TEXT,
        ),
    ]


def items(width):
    rows = [["Pos.", "Description", "Quantity", "Unit", "Price", "Amount"]]
    for position, (what, count, unit, price) in enumerate(ITEMS, 1):
        rows.append([str(position), what, f"{count:,}", unit, money(Decimal(price)), money(Decimal(price) * count)])
    return Table(
        rows,
        repeatRows=1,
        colWidths=[width * share for share in (0.07, 0.46, 0.12, 0.11, 0.1, 0.14)],
        style=[
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9),
            ("BACKGROUND", (0, 0), (-1, 0), TINT),
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, RULE),
            ("ALIGN", (2, 0), (2, -1), "RIGHT"),
            ("ALIGN", (4, 0), (5, -1), "RIGHT"),
            ("TEXTCOLOR", (0, 0), (-1, -1), INK),
            ("TOPPADDING", (0, 0), (-1, -1), 4),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ],
    )

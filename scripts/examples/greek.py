"""Renders a text in another script: Greek, in an embedded subset of a TrueType font with a map back to Unicode."""

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import Frame, PageTemplate, Paragraph, Table

from .style import INK, QUIET, RULE, Document, Heading, fixed_date, style, use_dejavu

TITLE = "Από το έγγραφο στην απάντηση"

STAGES = [
    ("Στάδιο", "Τι κάνει", "Τι αφήνει πίσω του"),
    ("Εξαγωγή", "διαβάζει το κείμενο με τη σωστή σειρά", "σελίδες, γραμμές, θέσεις"),
    ("Τεμαχισμός", "κόβει το κείμενο εκεί όπου αλλάζει το θέμα", "αποσπάσματα"),
    ("Εμπλουτισμός", "βρίσκει γλώσσα, ονόματα, προσωπικά δεδομένα", "σημειώσεις"),
    ("Διανύσματα", "μετατρέπει κάθε απόσπασμα σε αριθμούς", "διανύσματα"),
    ("Φόρτωση", "τα παραδίδει όλα μαζί στο ευρετήριο", "μια νέα έκδοση"),
]


def render():
    fixed_date(2025, 5, 5)
    use_dejavu()
    document = Document(TITLE, "Πώς ένα έγγραφο γίνεται αναζητήσιμο", ["έγγραφα", "αναζήτηση", "ευρετήριο"])
    width, height = A4
    margin = 26 * mm

    def page(canvas, doc):
        canvas.setFont("DejaVuSerif", 8.5)
        canvas.setFillColor(QUIET)
        canvas.drawCentredString(width / 2, 14 * mm, f"Σελίδα {doc.page}")

    body = Frame(margin, 24 * mm, width - 2 * margin, height - 48 * mm, 0, 0, 0, 0)
    document.addPageTemplates([PageTemplate("page", [body], onPage=page)])
    return document.finish(story(width - 2 * margin))


def story(width):
    title = style("title", "DejaVuSerif-Bold", 20, 26, spaceAfter=12)
    head = style("head", "DejaVuSerif-Bold", 13, 18, spaceBefore=10, spaceAfter=5, keepWithNext=1)
    text = style("text", "DejaVuSerif", 10, 15, spaceAfter=7)
    cell = style("cell", "DejaVuSerif", 9, 12.5)
    head_cell = style("head-cell", "DejaVuSerif-Bold", 9, 12.5)
    rows = [[Paragraph(c, head_cell if i == 0 else cell) for c in row] for i, row in enumerate(STAGES)]
    return [
        Heading(TITLE, title, 0),
        Paragraph(
            "Όποιος ψάχνει μια πληροφορία μέσα σε χιλιάδες έγγραφα δεν θέλει μια λίστα αρχείων. Θέλει το απόσπασμα που "
            "απαντά στην ερώτησή του, και τον αριθμό της σελίδας, για να μπορεί να το ελέγξει. Αυτό το σημείωμα εξηγεί "
            "με απλά λόγια πώς ένα έγγραφο γίνεται αναζητήσιμο.",
            text,
        ),
        Heading("Τα πέντε στάδια", head, 1),
        Paragraph(
            "Κάθε έγγραφο περνά από πέντε στάδια. Κανένα στάδιο δεν δέχεται περισσότερη δουλειά από όση χωρά: όταν το "
            "πιο αργό γεμίσει, τα προηγούμενα περιμένουν και η μνήμη μένει σταθερή.",
            text,
        ),
        Table(
            rows,
            colWidths=[width * share for share in (0.22, 0.48, 0.3)],
            style=[
                ("GRID", (0, 0), (-1, -1), 0.5, RULE),
                ("LINEBELOW", (0, 0), (-1, 0), 1, INK),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ],
        ),
        Heading("Όταν κάτι πάει στραβά", head, 1),
        Paragraph(
            "Ένα χαλασμένο ή κλειδωμένο αρχείο δεν σταματά τα υπόλοιπα. Μπαίνει σε καραντίνα μαζί με την αιτία, και "
            "μπορεί να ξαναδοκιμαστεί από το στάδιο που απέτυχε. Αν κοπεί το ρεύμα, η επόμενη εκτέλεση συνεχίζει από "
            "το στάδιο που έμεινε στη μέση.",
            text,
        ),
        Heading("Μία μόνο στιγμή αλλαγής", head, 1),
        Paragraph(
            "Όταν ένα έγγραφο αλλάζει, η νέα έκδοση αντικαθιστά την παλιά σε ένα μόνο βήμα. Καμία αναζήτηση δεν βλέπει "
            "μισή την παλιά και μισή τη νέα. Κάθε κάτοχος μίσθωσης έχει έναν αριθμό που μόνο μεγαλώνει, και το "
            "ευρετήριο αρνείται όποιον έρχεται με μικρότερο αριθμό, ακόμη κι αν εκείνος πιστεύει ότι η μίσθωσή του "
            "ισχύει.",
            text,
        ),
        Paragraph(
            "Τα ονόματα με τόνους και διαλυτικά (Μάιος, Αϊβαλί, πραΰς) και το τελικό σίγμα πρέπει να βρίσκονται "
            "όπως κι αν γραφτούν στην ερώτηση.",
            text,
        ),
    ]

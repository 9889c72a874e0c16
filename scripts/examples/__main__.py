"""Renders every example, or checks that the committed files equal the rendered ones."""

import argparse
import base64
import pathlib
import re
import sys
import zlib

from . import greek, invoice, paper, report, scan, slides

EXAMPLES = {
    "annual-report-2025.pdf": report.render,
    "greek-note.pdf": greek.render,
    "invoice-2025-0417.pdf": invoice.render,
    "leases-and-fencing.pdf": paper.render,
    "scanned-memo.pdf": scan.render,
    "slides-backpressure.pdf": slides.render,
}


def unpacked(pdf):
    """Returns a PDF with uncompressed streams, because another build of zlib gives other bytes for the same page."""

    def unpack(match):
        data = match[1].strip(b"\r\n")
        try:
            if data.endswith(b"~>"):
                data = base64.a85decode(data[:-2])
            return zlib.decompress(data)
        except (ValueError, zlib.error):
            return data

    text = re.sub(rb"stream\r?\n(.*?)endstream", unpack, pdf, flags=re.DOTALL)
    # Lengths, offsets and the hash of the file depend on the compression.
    text = re.sub(rb"/Length \d+|^\d{10} \d{5} [nf] *$|startxref\s+\d+", b"", text, flags=re.MULTILINE)
    return re.sub(rb"/ID\s*\[.*?\]", b"", text, flags=re.DOTALL)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with code 1 if a file differs")
    arguments = parser.parse_args()
    stale = []
    for name, render in EXAMPLES.items():
        path, content = arguments.out / name, render()
        if arguments.check:
            if not path.exists() or unpacked(path.read_bytes()) != unpacked(content):
                stale.append(name)
        else:
            path.write_bytes(content)
            print(f"{name}: {len(content):,} bytes")
    if stale:
        sys.exit(f"out of date; run scripts/render-examples to write them: {', '.join(stale)}")


main()

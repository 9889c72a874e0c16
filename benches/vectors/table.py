"""Converts JSON lines on standard input to a Markdown table on standard output.

The table has one row for each size, engine and setting.
"""

import json
import sys

COLUMNS = {
    "ingest_cpu": "vectors ingested / CPU s",
    "ingest_wall": "vectors ingested / s",
    "query_cpu": "queries / CPU s",
    "query_filter_1": "filter 1 %",
    "query_filter_10": "filter 10 %",
    "query_filter_50": "filter 50 %",
    "open_cold_ms": "cold open, ms",
    "disk_bytes": "disk, MB",
    "peak_rss_bytes": "peak RSS, MB",
}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(line):
    if line is None:
        return ""
    if line["value"] is None:
        return "-"
    value = line["value"] / 1e6 if line["unit"] == "bytes" else line["value"]
    return number(value) + (f" ({line['recall']:.3f})" if line["recall"] is not None else "")


rows = {}
for text in sys.stdin:
    line = json.loads(text)
    key = (line["size"], f"{line['engine']} {line['version']}", line["setting"], str(line["threads"]))
    rows.setdefault(key, {})[line["what"]] = line

print("Numbers in parentheses are recall@10, compared with exact search.\n")
print("| size | engine | setting | threads |", " | ".join(COLUMNS.values()), "|")
print("|", " | ".join(["---"] * 4 + ["--:"] * len(COLUMNS)), "|")
for key, row in rows.items():
    print("|", " | ".join([*key, *(cell(row.get(what)) for what in COLUMNS)]), "|")

#!/usr/bin/env python3
"""open_delta.py FILE.parquet [FILE.parquet ...]

Opens vector files of the store with duckdb, pyarrow and polars (all from PyPI). Checks these properties:

- all three programs read the same rows;
- the footer lists exactly the documents of the table;
- every vector has the model's dimension and no null;
- the vector column is stored plain and uncompressed.

Prints one line for each file. At the first difference, prints the reason and exits with code 1."""
import json
import sys
import zlib

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = [
    "document_id", "version", "source", "chunk_id", "ordinal", "kind", "text", "heading_path", "page_first",
    "page_last", "span_start", "span_end", "span_start_byte", "span_end_byte", "boxes", "tokens", "language",
    "metadata", "vector",
]


def same(path, what, left, right):
    if left != right:
        sys.exit(f"{path}: {what} differs: {str(left)[:200]} and {str(right)[:200]}")


def check(path):
    file = pq.ParquetFile(path)
    pairs = {k.decode(): v.decode() for k, v in file.metadata.metadata.items()}
    header, documents = json.loads(pairs["docweir.delta"]), json.loads(pairs["docweir.documents"])
    same(path, "checksum of the documents", int(pairs["docweir.documents_crc32"]),
         zlib.crc32(pairs["docweir.documents"].encode()))
    dimension = header["model"]["dimension"]

    # pyarrow restores the fixed size of the vectors from the Arrow schema in the footer.
    arrow = file.read()
    same(path, "columns", arrow.column_names, COLUMNS)
    vector = arrow.schema.field("vector")
    same(path, "vector type", (pa.types.is_fixed_size_list(vector.type), vector.type.list_size, vector.nullable),
         (True, dimension, False))
    rows = arrow.to_pylist()

    # The documents in the footer must be the documents of the rows, in the same order.
    expected = [(d["id"], d["version"]) for d in documents for _ in range(d.get("rows", 0))]
    same(path, "documents", expected, [(r["document_id"], r["version"]) for r in rows])
    for row in rows:
        same(path, "length of a vector", (len(row["vector"]), None in row["vector"]), (dimension, False))
        same(path, "norm of a vector", abs(sum(x * x for x in row["vector"]) - 1) < 1e-2, True)
        same(path, "metadata", isinstance(json.loads(row["metadata"]), dict), True)

    # duckdb ignores the Arrow schema and returns each vector as a list. The values must be equal.
    cursor = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [path])
    names = [d[0] for d in cursor.description]
    for ours, theirs in zip(rows, [dict(zip(names, values)) for values in cursor.fetchall()], strict=True):
        same(path, "a row in duckdb", ours, theirs)

    # polars must return the same rows as pyarrow.
    frame = polars.read_parquet(path)
    for ours, theirs in zip(rows, frame.to_dicts(), strict=True):
        theirs["vector"] = list(theirs["vector"])
        same(path, "a row in polars", ours, theirs)

    for group in range(file.metadata.num_row_groups):
        for index in range(file.metadata.num_columns):
            column = file.metadata.row_group(group).column(index)
            same(path, f"compression of {column.path_in_schema}", column.compression, "UNCOMPRESSED")
            if column.path_in_schema.startswith("vector"):
                same(path, "encoding of the vectors", sorted(set(column.encodings) - {"RLE", "BIT_PACKED"}), ["PLAIN"])
    tombstones = sum(d.get("tombstone", False) for d in documents)
    kind = duckdb.execute("SELECT column_type FROM (DESCRIBE SELECT vector FROM read_parquet(?))", [path]).fetchone()[0]
    print(f"{path}: {len(rows)} rows, {len(documents) - tombstones} documents, {tombstones} tombstones; "
          f"vectors are {vector.type} in pyarrow, {kind} in duckdb, {frame.schema['vector']} in polars")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        check(name)

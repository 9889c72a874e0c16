"""Reads the vectors, texts and buckets to ingest, the queries, and the exact answers."""

import pathlib
import time

import numpy

K = 10
DIMENSION = 384
BATCH = 5000
FILTERS = (1, 10, 50)
ROWS = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}


def bucket(ids):
    """Returns a number from 0 to 99 for each id. The numbers come from a hash, so they are unrelated to the vectors."""
    return (((ids.astype(numpy.uint64) * 2654435761) & 0xFFFFFFFF) >> 16).astype(numpy.int32) % 100


class TooSlow(Exception):
    pass


class Data:
    def __init__(self, folder, work, size):
        self.folder, self.work, self.size, self.rows = pathlib.Path(folder), pathlib.Path(work), size, ROWS[size]

    def queries(self):
        """Returns the queries that have exact answers. There are fewer for a million rows."""
        return numpy.fromfile(self.folder / "queries.f32", dtype="<f4").reshape(-1, DIMENSION)[: len(self.exact())]

    def batches(self, limit):
        """Yields (ids, vectors, texts, buckets). Small batches keep the input from adding to the measured memory."""
        started = time.process_time()
        with open(self.folder / f"base{self.size}.f32", "rb") as file, open(
            self.folder / "texts100k.txt", encoding="utf-8"
        ) as lines:
            for start in range(0, self.rows, BATCH):
                # No index gets faster as it grows, so an engine that is too slow now cannot finish in time.
                spent = time.process_time() - started
                if spent > 20 and spent / start * self.rows > limit:
                    raise TooSlow(f"stopped after {spent:.0f} CPU s with {start:,} of {self.rows:,} vectors ingested")
                ids = numpy.arange(start, min(start + BATCH, self.rows))
                vectors = numpy.fromfile(file, dtype="<f4", count=len(ids) * DIMENSION).reshape(-1, DIMENSION)
                yield ids, vectors, [next_text(lines) for _ in ids], bucket(ids)

    def exact(self, below=None):
        """Returns the ids of the ten exact answers to each query, among rows whose bucket is less than `below`."""
        file = self.folder / f"exact{self.size}.u32" if below is None else self.work / f"exact{self.size}-{below}.u32"
        return numpy.fromfile(file, dtype="<u4").reshape(-1, K)

    def write_exact(self):
        """Computes and writes the exact answers for each filter. The answers without a filter are part of the data."""
        queries = self.queries()
        best = {below: (numpy.full((len(queries), K), -2.0), numpy.zeros((len(queries), K), int)) for below in FILTERS}
        for ids, vectors, _, buckets in self.batches(limit=float("inf")):
            scores = queries @ vectors.T
            for below, (top, which) in best.items():
                new = numpy.broadcast_to(ids, scores.shape)[:, buckets < below]
                top, which = numpy.hstack([top, scores[:, buckets < below]]), numpy.hstack([which, new])
                order = numpy.argpartition(-top, K, axis=1)[:, :K]
                best[below] = numpy.take_along_axis(top, order, 1), numpy.take_along_axis(which, order, 1)
        for below, (_, which) in best.items():
            which.astype("<u4").tofile(self.work / f"exact{self.size}-{below}.u32")


def next_text(lines):
    """Returns the next line, and starts again after the last line. A million vectors share 100,000 texts."""
    line = lines.readline()
    if not line:
        lines.seek(0)
        line = lines.readline()
    return line.rstrip("\n")

"""Loads a folder of PDFs into a Chroma collection in one process, and prints the time that it took."""

import pathlib
import resource
import sys
import tempfile
import time

import chromadb
import numpy
import onnxruntime
import pymupdf
from tokenizers import Tokenizer

# onnxruntime is fastest with one text at a time when texts fill the window.
CHUNK, WINDOW, BATCH = 1500, 256, 1


class Encoder:
    def __init__(self, folder):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(WINDOW)
        self.tokenizer.enable_padding()
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        self.tokens = 0

    def encode(self, texts):
        vectors = numpy.empty((len(texts), 384), dtype=numpy.float32)
        # Group texts of similar length, so that little time is spent on padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            encoded = self.tokenizer.encode_batch([texts[i] for i in batch])
            ids = numpy.array([e.ids for e in encoded], dtype=numpy.int64)
            mask = numpy.array([e.attention_mask for e in encoded], dtype=numpy.int64)
            self.tokens += int(mask.sum())
            (vectors[batch],) = self.session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors


def main():
    model, documents = map(pathlib.Path, sys.argv[1:])
    encoder = Encoder(model)
    paths = sorted(documents.rglob("*.pdf"))
    spent = {"extract": 0.0, "embed": 0.0, "load": 0.0}
    pages = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        chunks = []
        for path in paths:
            try:
                with pymupdf.open(path) as document:
                    pages += len(document)
                    text = "\n".join(page.get_text() for page in document)
            except (RuntimeError, ValueError) as error:
                failed += 1
                print(f"{path.name}: {error}", file=sys.stderr)
                continue
            pieces = (text[at : at + CHUNK] for at in range(0, len(text), CHUNK))
            chunks += [(f"{path.name}#{n}", piece) for n, piece in enumerate(pieces) if piece.strip()]
        spent["extract"] = time.perf_counter() - started

        before = time.perf_counter()
        vectors = encoder.encode([text for _, text in chunks])
        spent["embed"] = time.perf_counter() - before

        before = time.perf_counter()
        collection = chromadb.PersistentClient(
            folder, chromadb.Settings(anonymized_telemetry=False)
        ).create_collection("documents", embedding_function=None)
        for at in range(0, len(chunks), 1000):
            part = chunks[at : at + 1000]
            collection.add(
                ids=[name for name, _ in part],
                documents=[text for _, text in part],
                embeddings=vectors[at : at + 1000],
            )
        spent["load"] = time.perf_counter() - before
        assert collection.count() == len(chunks)
        total = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"documents {len(paths) - failed}, failed {failed}, pages {pages}, chunks {len(chunks)}, "
          f"tokens {encoder.tokens}")
    print(f"{total:.1f} s: " + ", ".join(f"{part} {seconds:.1f}" for part, seconds in spent.items()))
    print(f"{pages / total:.1f} pages/s, {encoder.tokens / spent['embed']:.0f} tokens/s, peak RSS {peak:.0f} MB")


main()

"""Compares the encoder's tokenizer with the reference library; see scripts/check-tokenizer."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def made_up():
    """Yields each code point in context, then random mixtures, then inputs that tokenizers often get wrong."""
    for c in CODE_POINTS:
        yield f"a{chr(c)}b {chr(c)}"
    rng = random.Random(7)
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00),
              (0x1100, 0x1200), (0x1E00, 0x2070), (0x2000, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x4F00),
              (0xAC00, 0xAD00), (0xF900, 0xFB00), (0xFE00, 0x10000), (0x1D100, 0x1D200), (0x1F300, 0x1F700)]
    for _ in range(60_000):
        low, high = rng.choice(blocks)
        other = rng.choice(blocks)
        pick = lambda: chr(rng.randrange(*other) if rng.random() < 0.3 else rng.randrange(low, high))
        yield "".join(" " if rng.random() < 0.15 else pick() for _ in range(rng.randrange(1, 40)))
    for n in (99, 100, 101, 1_000, 1_000_000):
        yield "x" * n
        yield "é" * n
        yield "e\u0301" * n
    for text in ("", " ", "\0", "[SEP]", "a[MASK]b [CLS][PAD]", "[sep]", "[UNK]s", "[SEP", "[[SEP]]", "##ing", "a##b",
                 "\u1e9e\u0130\u0049\u0307", "\u0344", "\u0f73\u0f71", "q\u0323\u0307q\u0307\u0323"):
        yield text


def texts_of(path):
    """Yields a file as a whole, its lines, and windows at arbitrary offsets; of JSON lines also every string."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    yield text
    yield from text.splitlines()
    for start in range(0, len(text), 997):
        yield text[start:start + 1500]
    if str(path).endswith(".jsonl"):
        def strings(value):
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict):
                for v in value.values():
                    yield from strings(v)
            elif isinstance(value, list):
                for v in value:
                    yield from strings(v)
        for line in text.splitlines():
            yield from strings(json.loads(line))


def compare(ours, tokenizer, texts, name):
    reference = Tokenizer.from_file(tokenizer)
    reference.no_truncation()
    reference.no_padding()
    texts = list(texts)
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    start = time.time()
    run = subprocess.run([ours, tokenizer], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    seconds = time.time() - start
    answers = run.stdout.decode().splitlines()
    assert len(answers) == len(texts), f"{len(answers)} answers for {len(texts)} texts"
    tokens, wrong = 0, []
    for at in range(0, len(texts), 2_000):
        batch = texts[at:at + 2_000]
        for text, encoding, answer in zip(batch, reference.encode_batch(batch), answers[at:at + 2_000]):
            tokens += len(encoding.ids)
            got = json.loads(answer)
            if got != encoding.ids:
                wrong.append((text, encoding.tokens, got))
    print(f"{name}: {len(texts)} texts, {tokens} tokens, {len(wrong)} differ ({seconds:.1f} s)", flush=True)
    for text, expected, got in wrong[:10]:
        print(f"  {text[:60]!a}: expected {expected[:12]}, got ids {got[:12]}")
    return len(wrong)


def ranges(points):
    joined = []
    for c in points:
        if joined and joined[-1][1] == c - 1:
            joined[-1][1] = c
        else:
            joined.append([c, c])
    return joined


def table(name, doc, points):
    rows, row = [], "   "
    for first, last in ranges(points):
        item = f" (0x{first:x}, 0x{last:x}),"
        if len(row) + len(item) > 119:
            rows.append(row)
            row = "   "
        row += item
    rows.append(row)
    head = f"pub(super) const {name}: [(u32, u32); {len(ranges(points))}] = ["
    return "\n".join(["", f"/// {doc}", "#[rustfmt::skip]", head, *rows, "];", ""])


def write_tables(path):
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    dropped = [c for c in CODE_POINTS if normalizer.normalize_str(f"a{chr(c)}b") == "ab"]
    punctuation = [c for c in CODE_POINTS if len(splitter.pre_tokenize_str(f"a{chr(c)}b")) == 3]
    text = """//! Lists the character classes of the reference library, as inclusive ranges in ascending order.
//!
//! `scripts/check-tokenizer --tables` generates this file; do not edit it. The reference takes marks and punctuation
//! from Unicode 8, without later additions. A model's vocabulary is frozen, and so are these tables: a newer Unicode
//! would change the tokens of texts that are embedded already.
"""
    text += table("DROPPED", "Dropped characters: controls, format characters, private use, NUL, U+FFFD, and marks without a width of their own.", dropped)
    text += table("PUNCTUATION", "Characters that are each a word of their own: every ASCII symbol, and punctuation as Unicode defines it.", punctuation)
    Path(path).write_text(text, encoding="utf-8")


def main():
    if sys.argv[1] == "--tables":
        write_tables(sys.argv[2])
        return
    if len(sys.argv) < 3:
        sys.exit("usage: check-tokenizer TOKENIZER.JSON [TEXT…]")
    ours, tokenizer, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    wrong = compare(ours, tokenizer, made_up(), "every code point and made-up texts")
    for file in files:
        wrong += compare(ours, tokenizer, texts_of(file), Path(file).name)
    print("the tokenizers agree" if wrong == 0 else f"{wrong} texts differ")
    sys.exit(1 if wrong else 0)


main()

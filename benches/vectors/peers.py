"""Measures one engine at one size. Prints one JSON line per figure.

    peers.py ENGINE SIZE --data FOLDER --work FOLDER [--threads N] [--limit SECONDS]

ENGINE is hnswlib, usearch, chromadb or lancedb; SIZE is 10k, 100k or 1m. The data folder holds base<SIZE>.f32 and
queries.f32 (little-endian rows of 384 numbers), exact<SIZE>.u32 (ten ids per query) and texts100k.txt (one text per
line).

Meaning of the figures:
- CPU time is the time of all threads of the process, from getrusage, including threads that the engine starts unasked.
  The process is bound to as many processors as it may have threads.
- Ingest ends when the engine has persisted all data and has answered a query. chromadb syncs its SQLite file; hnswlib,
  usearch and lancedb write files without a sync (according to strace). Engines that can store more than ids and vectors
  also store a text and the integer `bucket`. If an ingest needs more CPU seconds than the limit (300), or would need
  more at its current speed, the value is null and the setting contains the reason.
- A query is one call that returns ten ids and distances. The process has reopened the files and has made ten unmeasured
  queries before (warm). Queries run for about one CPU second per setting, and there are at least twenty.
- Recall is the share of the ten exact answers that the engine returned, over all measured queries. With a filter, the
  exact answers are the ten best rows that match the filter.
- open_cold_ms is the time from opening the files to the first answer, with default settings. The process is new and has
  imported the library, and the files are evicted from the page cache.
- peak_rss_bytes with the setting `…, reopened` is the peak memory of the process that answers all queries.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

# The time is long enough that a single query does not matter.
SECONDS, AT_LEAST = 1.0, 20
GAVE_UP = 3
# LANCE_IO_THREADS is left out: with one thread, lancedb never finishes building the index of the buckets.
THREADS = ("LANCE_CPU_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
           "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")


def tell(arguments, what, detail, value, unit, recall=None):
    print(json.dumps({
        "engine": arguments.engine, "version": importlib.metadata.version(arguments.engine), "size": arguments.size,
        "what": what, "setting": arguments.build + (detail and f", {detail}"), "threads": arguments.threads,
        "value": value, "unit": unit, "recall": recall,
    }), flush=True)


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_bytes():
    # ru_maxrss is not used, because a process inherits its value from its parent process.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def ingest(arguments, data, engine, folder):
    from data import TooSlow

    # An index that is built in one call shows no progress, so the kernel enforces the limit.
    resource.setrlimit(resource.RLIMIT_CPU, (arguments.limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    query = data.queries()[0]
    wall, used = time.perf_counter(), cpu_seconds()
    try:
        engine.ingest(data.batches(arguments.limit))
    except TooSlow as reason:
        tell(arguments, "ingest_wall", str(reason), None, "vectors/s")
        sys.exit(GAVE_UP)
    assert len(engine.search(query)) > 0
    wall, used = time.perf_counter() - wall, cpu_seconds() - used
    tell(arguments, "ingest_wall", "", data.rows / wall, "vectors/s")
    tell(arguments, "ingest_cpu", "", data.rows / used, "vectors/CPU s")
    tell(arguments, "peak_rss_bytes", "", peak_rss_bytes(), "bytes")


def open_cold(arguments, data, engine, folder):
    files = [f for f in folder.rglob("*") if f.is_file()]
    os.sync()
    for file in files:
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    query = data.queries()[0]
    started = time.perf_counter()
    engine.open()
    assert len(engine.search(query)) > 0
    tell(arguments, "open_cold_ms", "reopened", (time.perf_counter() - started) * 1000, "ms")
    assert engine.count() == data.rows
    tell(arguments, "disk_bytes", "reopened", sum(f.stat().st_blocks * 512 for f in files), "bytes")


def query(arguments, data, engine, folder):
    import numpy
    from data import FILTERS, bucket

    queries = data.queries()
    buckets = bucket(numpy.arange(data.rows))
    engine.open()
    for name, setting in engine.settings().items():
        engine.set(setting)
        for below in (None, *FILTERS) if engine.filters else (None,):
            exact = data.exact(below)
            # Python reads items of a list faster than items of an array, and hnswlib reads one item per candidate.
            passes = None if below is None else (buckets < below).tolist()
            for vector in queries[:10]:
                engine.search(vector, passes, below)
            answers, started = [], cpu_seconds()
            for vector in queries:
                answers.append(engine.search(vector, passes, below))
                if len(answers) >= AT_LEAST and cpu_seconds() - started > SECONDS:
                    break
            used = cpu_seconds() - started
            hits = sum(len(set(map(int, answer)) & set(truth)) for answer, truth in zip(answers, exact.tolist()))
            what = "query_cpu" if below is None else f"query_filter_{below}"
            tell(arguments, what, name, len(answers) / used, "queries/CPU s", hits / exact[: len(answers)].size)
    tell(arguments, "peak_rss_bytes", "reopened", peak_rss_bytes(), "bytes")


STEPS = {"ingest": ingest, "open_cold": open_cold, "query": query}


def folder_of(arguments):
    return pathlib.Path(arguments.work) / f"{arguments.engine}-{arguments.size}-{arguments.build}".replace(" ", "-")


def step(arguments):
    """Runs one step. The process is bound to its processors before any library can count them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.threads :])
    from data import Data
    from engines import ENGINES

    data = Data(arguments.data, arguments.work, arguments.size)
    if arguments.step == "exact":
        return data.write_exact()
    folder = folder_of(arguments)
    engine = ENGINES[arguments.engine](str(folder), arguments.build, data.rows, arguments.threads)
    STEPS[arguments.step](arguments, data, engine, folder)


def start(arguments, name):
    """Runs a step in a separate process. Returns false if the step was stopped because it was too slow."""
    command = [sys.executable, __file__, arguments.engine, arguments.size, "--step", name]
    for option in ("data", "work", "threads", "limit", "build"):
        command += [f"--{option}", str(getattr(arguments, option))]
    environment = os.environ | dict.fromkeys(THREADS, str(arguments.threads)) | {"LANCE_LOG": "error"}
    status = subprocess.run(command, env=environment).returncode
    if status == -signal.SIGXCPU:
        tell(arguments, "ingest_wall", f"not done after {arguments.limit} CPU s", None, "vectors/s")
    elif status not in (0, GAVE_UP):
        sys.exit(f"{arguments.engine} {arguments.size} {arguments.build}: {name} ended with {status}")
    return status == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("size")
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, default=300)
    # These arguments are for the processes that this process starts.
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--build", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        return step(arguments)

    from engines import ENGINES

    if not list(pathlib.Path(arguments.work).glob(f"exact{arguments.size}-*.u32")):
        start(arguments, "exact")
    for build in ENGINES[arguments.engine].builds:
        arguments.build = build
        folder = folder_of(arguments)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        all(start(arguments, name) for name in STEPS)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

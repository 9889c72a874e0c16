"""Wraps each of the other engines in one class. All classes have the same interface.

`builds` names the measured ways to build the index (with the engine's defaults, unless the name says otherwise).
`settings` returns the measured settings of queries. Distances are inner products. All vectors have unit length, so
every metric gives the same ranking. A library is imported when its class is instantiated, so a process loads only one
engine. Files are not accessed before `ingest` or `open` is called.
"""

from data import DIMENSION, K

EFS = (16, 32, 64, 128, 256, 512, 800)


class Hnswlib:
    # hnswlib stores a graph and integer labels, but no texts and no metadata. A filter is a Python function that is
    # called for each candidate.
    builds, filters = ("M=16 efc=200",), True

    def __init__(self, folder, build, rows, threads):
        import hnswlib

        self.file, self.rows, self.threads = f"{folder}/index.bin", rows, threads
        self.index = hnswlib.Index("ip", DIMENSION)

    def settings(self):
        return {f"ef={ef}": ef for ef in EFS}

    def ingest(self, batches):
        self.index.init_index(self.rows, ef_construction=200, M=16)
        for ids, vectors, _, _ in batches:
            self.index.add_items(vectors, ids, num_threads=self.threads)
        self.index.save_index(self.file)

    def open(self):
        self.index.load_index(self.file)
        self.index.set_num_threads(self.threads)

    def count(self):
        return self.index.element_count

    def set(self, ef):
        self.index.set_ef(ef)

    def search(self, query, passes=None, below=None):
        chosen = None if passes is None else passes.__getitem__
        try:
            return self.index.knn_query(query, K, self.threads, chosen)[0][0]
        except RuntimeError:
            # hnswlib returns ten answers or raises an error. If the filter leaves fewer than ten, the result is empty.
            return []


class Usearch:
    # usearch stores a graph and integer keys, but no texts and no metadata. The Python package has no filters.
    # bf16 is the default type of stored vectors.
    builds, filters, exact = ("bf16", "f32", "i8"), False, False

    def __init__(self, folder, build, rows, threads):
        from usearch.index import Index

        self.file, self.threads = f"{folder}/index.usearch", threads
        self.index = Index(ndim=DIMENSION, metric="ip", dtype=build)

    def settings(self):
        return {f"ef={ef}": ef for ef in EFS} | {"exact": 0}

    def ingest(self, batches):
        for ids, vectors, _, _ in batches:
            self.index.add(ids, vectors, threads=self.threads)
        self.index.save(self.file)

    def open(self):
        self.index.load(self.file)

    def count(self):
        return len(self.index)

    def set(self, ef):
        self.exact = ef == 0
        if ef:
            self.index.expansion_search = ef

    def search(self, query, passes=None, below=None):
        return self.index.search(query, K, threads=self.threads, exact=self.exact).keys


class Chromadb:
    builds, filters = ("M=16 efc=100",), True

    def __init__(self, folder, build, rows, threads):
        import chromadb

        self.connect = lambda: chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))

    def settings(self):
        return {f"ef={ef}": ef for ef in EFS}

    def ingest(self, batches):
        self.client = self.connect()
        self.collection = self.client.create_collection(
            "vectors", embedding_function=None,
            # The setting num_threads has no effect here. Only the binding to processors limits the threads.
            configuration={"hnsw": {"space": "ip"}},
        )
        for ids, vectors, texts, buckets in batches:
            self.collection.add(
                ids=[str(i) for i in ids], embeddings=vectors, documents=texts,
                metadatas=[{"bucket": int(b)} for b in buckets],
            )

    def open(self):
        self.client = self.connect()
        self.collection = self.client.get_collection("vectors", embedding_function=None)

    def count(self):
        return self.collection.count()

    def set(self, ef):
        self.collection.modify(configuration={"hnsw": {"ef_search": ef}})
        # A loaded index keeps its value of ef, so the collection is opened again.
        self.client.close()
        self.open()

    def search(self, query, passes=None, below=None):
        where = None if below is None else {"bucket": {"$lt": below}}
        found = self.collection.query(query_embeddings=[query], n_results=K, where=where, include=["distances"])
        return [int(i) for i in found["ids"][0]]


class Lancedb:
    # "flat" has no index. The other builds are index types of the library with its default parameters.
    builds, filters = ("flat", "IvfFlat", "IvfPq", "IvfRq", "HnswSq"), True

    # With refine_factor=10, the full vectors of one hundred candidates are compared for ten answers.
    ASKED = {
        "flat": [{}],
        "IvfFlat": [{"nprobes": n} for n in (5, 20, 80)],
        "IvfPq": [{"nprobes": n, "refine_factor": r} for n, r in ((20, 1), (20, 10), (80, 10), (80, 50))],
        "IvfRq": [{"nprobes": n, "refine_factor": r} for n, r in ((20, 1), (20, 10), (80, 10))],
        "HnswSq": [{"ef": e, "refine_factor": r} for e, r in ((64, 1), (64, 4), (256, 4), (800, 4))],
    }

    def __init__(self, folder, build, rows, threads):
        import lancedb

        self.build, self.asked, self.connect = build, {}, lambda: lancedb.connect(folder)

    def settings(self):
        def name(setting):
            return " ".join(f"{option}={value}" for option, value in setting.items()) or "scan"

        return {name(setting): setting for setting in self.ASKED[self.build]}

    def ingest(self, batches):
        import lancedb.index
        import pyarrow

        schema = pyarrow.schema([
            ("id", pyarrow.int64()), ("bucket", pyarrow.int32()), ("text", pyarrow.string()),
            ("vector", pyarrow.list_(pyarrow.float32(), DIMENSION)),
        ])

        def arrow():
            for ids, vectors, texts, buckets in batches:
                column = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), DIMENSION)
                yield pyarrow.RecordBatch.from_arrays([ids, buckets, pyarrow.array(texts), column], schema=schema)

        self.table = self.connect().create_table("vectors", pyarrow.RecordBatchReader.from_batches(schema, arrow()))
        if self.build != "flat":
            self.table.create_index("vector", config=getattr(lancedb.index, self.build)(distance_type="dot"))
        self.table.create_index("bucket", config=lancedb.index.Bitmap())

    def open(self):
        self.table = self.connect().open_table("vectors")

    def count(self):
        return self.table.count_rows()

    def set(self, asked):
        self.asked = asked

    def search(self, query, passes=None, below=None):
        builder = self.table.search(query, vector_column_name="vector").distance_type("dot")
        builder = builder.select(["id", "_distance"]).limit(K)
        for option, value in self.asked.items():
            builder = getattr(builder, option)(value)
        if below is not None:
            builder = builder.where(f"bucket < {below}")
        return builder.to_arrow()["id"].to_pylist()


ENGINES = {"hnswlib": Hnswlib, "usearch": Usearch, "chromadb": Chromadb, "lancedb": Lancedb}

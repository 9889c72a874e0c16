//! Lists the metrics that actors and searches count themselves, with the name, kind and description of each metric.

/// Metrics of compaction.
pub const COMPACTION: &[(&str, &str, &str)] = &[
    ("docweir_compactions_total", "counter", "number of merges of vector files, by outcome"),
    ("docweir_compaction_seconds", "histogram", "duration of an installed merge"),
    ("docweir_compaction_read_bytes_total", "counter", "bytes of vector files that merges read"),
    ("docweir_compaction_written_bytes_total", "counter", "bytes that merges wrote, including intermediate files"),
    ("docweir_compaction_peak_memory_bytes", "gauge", "peak anonymous memory of the last merge, in bytes"),
];

/// Metrics of the message queues that the process receives from.
pub const QUEUES: &[(&str, &str, &str)] = &[
    ("docweir_queue_messages_total", "counter", "number of messages received from a queue, by outcome"),
    (
        "docweir_bucket_events_total",
        "counter",
        "number of events of buckets, by what was found (present, absent, unwatched)",
    ),
    ("docweir_queue_receives_total", "counter", "number of calls that receive messages from a queue"),
];

/// Metrics of searches.
pub const SEARCH: &[(&str, &str, &str)] = &[(
    "docweir_search_rescans_total",
    "counter",
    "number of vector searches whose first candidates did not suffice, by what followed (second_scan, all_vectors)",
)];

//! Names, kinds and meanings of the metrics that actors count themselves.

/// Metrics of merges.
pub const COMPACTION: &[(&str, &str, &str)] = &[
    ("docweir_compactions_total", "counter", "merges of vector files, by outcome"),
    ("docweir_compaction_seconds", "histogram", "time of a merge that was installed"),
    ("docweir_compaction_read_bytes_total", "counter", "size of the files that were merged"),
    ("docweir_compaction_written_bytes_total", "counter", "bytes that merges wrote, intermediate files too"),
    ("docweir_compaction_peak_memory_bytes", "gauge", "anonymous memory of the process during the last merge, at most"),
];

/// Metrics of queues that messages are taken from.
pub const QUEUES: &[(&str, &str, &str)] = &[
    ("docweir_queue_messages_total", "counter", "messages received from a queue, by what became of them"),
    ("docweir_queue_receives_total", "counter", "calls for messages"),
];

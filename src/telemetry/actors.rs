//! Lists names, kinds and descriptions of the metrics that actors count themselves.

/// Metrics of merges.
pub const COMPACTION: &[(&str, &str, &str)] = &[
    ("docweir_compactions_total", "counter", "merges of vector files, by outcome"),
    ("docweir_compaction_seconds", "histogram", "duration of an installed merge"),
    ("docweir_compaction_read_bytes_total", "counter", "bytes of the files that were merged"),
    ("docweir_compaction_written_bytes_total", "counter", "bytes that merges wrote, including intermediate files"),
    ("docweir_compaction_peak_memory_bytes", "gauge", "peak anonymous memory of the process during the last merge"),
];

/// Metrics of the queues that messages are received from.
pub const QUEUES: &[(&str, &str, &str)] = &[
    ("docweir_queue_messages_total", "counter", "messages received from a queue, by outcome"),
    ("docweir_queue_receives_total", "counter", "receive calls to a queue"),
];

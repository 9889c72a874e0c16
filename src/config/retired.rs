//! Lists the keys that were renamed or removed. Setting such a key causes a warning, never an error.

/// Pairs of key names for renamed keys. The first name is the old one, which is still accepted; the second is the new
/// one.
pub const MOVED: &[(&str, &str)] = &[("batch.settle_seconds", "batch.confirm_seconds")];

/// Removed keys, each with an explanation. The explanation states the value that is now fixed. If a related key can
/// still be set, the explanation also names this key.
pub const RETIRED: &[(&str, &str)] = &[
    ("intake.hashers", "fixed at 2; hashing is never slower than the later stages"),
    ("extract.options.info_seconds", "fixed at 10; `extract.options.deadline_seconds` limits the time per document"),
    (
        "extract.options.max_documents_per_child",
        "fixed at 500; `extract.options.memory_limit_bytes` limits a child's memory",
    ),
    (
        "extract.options.recycle_above_bytes",
        "fixed at 128 MiB; `extract.options.memory_limit_bytes` limits a child's memory",
    ),
    ("enrich.options.comprehend.max_texts", "fixed at 25, which is the limit of the service"),
    ("enrich.options.comprehend.item_attempts", "fixed at 3; `retry.attempts` limits the attempts of a document"),
    (
        "enrich.options.comprehend.backoff_max_seconds",
        "fixed at 60; a lower `enrich.options.comprehend.requests_per_second` causes less throttling",
    ),
    ("enrich.options.comprehend.failures", "fixed at 5"),
    ("enrich.options.comprehend.cache.busy_timeout_milliseconds", "fixed at 2000"),
    (
        "embed.options.model.hub_connect_seconds",
        "fixed at 5; `embed.options.model.fetch_seconds` limits the whole download",
    ),
    (
        "embed.options.model.hub_stall_seconds",
        "fixed at 30; `embed.options.model.fetch_seconds` limits the whole download",
    ),
    (
        "embed.options.openai.connect_seconds",
        "fixed at 10; `embed.options.openai.request_seconds` limits the whole request",
    ),
    (
        "embed.options.openai.max_answer_bytes",
        "fixed at 128 MiB; lower `embed.options.openai.max_inputs` for smaller responses",
    ),
    (
        "embed.options.openai.limits.burst_seconds",
        "fixed at 3; lower `embed.options.openai.limits.requests_per_minute` to send fewer requests at once",
    ),
    ("embed.options.openai.limits.backoff_max_seconds", "fixed at 120"),
    ("embed.options.openai.limits.failures", "fixed at 5"),
    ("embed.options.openai.limits.down_seconds", "starts at 10 and doubles each time"),
    ("embed.options.openai.limits.quota_pause_seconds", "starts at 60 and doubles each time"),
    ("batch.harvest_items", "fixed at 5000"),
    ("batch.harvest_bytes", "fixed at 8 MiB"),
    ("batch.max_line_bytes", "fixed at 2 MiB"),
    ("batch.transfer.stall_seconds", "fixed at 60; `batch.transfer.transfer_seconds` limits the whole transfer"),
    ("batch.transfer.max_file_bytes", "fixed at 4 GiB"),
    ("retry.throttle_initial_seconds", "starts at 1 and doubles each time"),
    ("retry.throttle_max_seconds", "fixed at 120"),
    ("retry.system_initial_seconds", "starts at 0.2 and doubles each time; `retry.system_failures` limits the retries"),
    ("restart.window_seconds", "fixed at 60; `restart.max_restarts` limits the restarts within this time"),
    ("restart.backoff_initial_seconds", "starts at 0.01 and doubles each time"),
    ("restart.backoff_max_seconds", "fixed at 5"),
    ("restart.grace_seconds", "fixed at 5"),
    ("scaling.interval_seconds", "fixed at 0.1; set `workers.min` and `workers.max` of the stage instead"),
    ("scaling.queue_age_seconds", "fixed at 0.1; set `workers.min` and `workers.max` of the stage instead"),
    ("scaling.up_after", "fixed at 2; set `workers.min` and `workers.max` of the stage instead"),
    ("scaling.idle_below", "fixed at 0.5; set `workers.min` and `workers.max` of the stage instead"),
    ("scaling.down_after", "fixed at 100; set `workers.min` and `workers.max` of the stage instead"),
    ("control.queue_operations", "fixed at 1024"),
    ("control.batch_operations", "fixed at 256"),
    ("control.read_connections", "fixed at 2"),
    ("control.wal_pages", "fixed at 4000"),
    ("control.page_cache_kibibytes", "fixed at 2048"),
    ("control.prune_rows", "no longer limited; `control.record_days` and `control.audit_days` limit the age of rows"),
    ("objects.lock_wait_seconds", "fixed at 30"),
    ("objects.leftover_seconds", "fixed at 3600"),
    ("aws.connect_seconds", "fixed at 3.1; `aws.attempt_seconds` limits the time of the whole attempt"),
    ("aws.min_bytes_per_second", "fixed at 256 KiB a second"),
    ("s3.parallel_parts", "fixed at 4"),
    ("dynamodb.queue_operations", "fixed at 1024"),
    ("dynamodb.batch_operations", "fixed at 64; a longer `dynamodb.pace_milliseconds` writes more operations together"),
    ("dynamodb.conflict_seconds", "fixed at 30; `dynamodb.attempts` limits the attempts"),
    ("dynamodb.metrics_seconds", "fixed at 10"),
    ("vectors.commit_attempts", "fixed at 24"),
    ("vectors.backoff_initial_milliseconds", "starts at 20 and doubles each time"),
    ("vectors.backoff_max_milliseconds", "fixed at 2000"),
    ("vectors.read_attempts", "fixed at 8"),
    (
        "vectors.history_entries",
        "fixed at 256; `retention.snapshots` and `retention.merged_seconds` decide which versions are kept",
    ),
    ("compaction.tier_factor", "fixed at 8; `compaction.deltas` decides how often a merge runs"),
    ("compaction.smallest_tier_rows", "fixed at 10,000"),
    (
        "compaction.heartbeat_failures",
        "fixed at 3; set `compaction.heartbeat_seconds` and `compaction.lease_seconds` instead",
    ),
    ("retention.poll_seconds", "fixed at 600"),
    ("http.request_seconds", "fixed at 10"),
    ("cloudwatch.max_pending", "fixed at 10,000"),
    ("cache.busy_timeout_milliseconds", "fixed at 2000"),
];

/// Returns the new name of a renamed key.
pub fn moved(key: &str) -> Option<&'static str> {
    MOVED.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
}

/// Returns the explanation of what replaces a removed key. Returns `None` if the key was not removed.
pub fn retired(key: &str) -> Option<&'static str> {
    RETIRED.iter().find(|(old, _)| *old == key).map(|(_, advice)| *advice)
}

/// Returns whether `section` contained keys that were renamed or removed.
pub fn had_section(section: &str) -> bool {
    let below = |key: &str| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    RETIRED.iter().chain(MOVED).any(|(key, _)| below(key))
}

//! Checks that the audit log of a document is complete and consistent. Any number of processes may have worked on the
//! document, and some of them may have been killed.
//!
//! The check replays the log entry by entry. Each entry must be a valid next step after the entries before it. At the
//! end, the document's record must agree with the result of all entries. The check therefore detects an entry that is
//! missing, duplicated, out of order, or written under an expired claim.

use serde_json::Value;

const STAGES: [&str; 5] = ["extraction", "chunking", "enrichment", "embedding", "loading"];

/// Counts the events in the audit log of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditSummary {
    pub claims: u64,
    /// Number of claims that took the document over from another process.
    pub takeovers: u64,
    /// Number of times that the document was released unfinished.
    pub releases: u64,
    /// Number of failed attempts.
    pub failures: u64,
}

/// Replays the audit log of a document that was registered once and is complete. The error describes the first
/// inconsistency.
pub fn replay(audit_log: &[Value], record: &Value) -> Result<AuditSummary, String> {
    let mut replay = Replay::default();
    for (at, entry) in audit_log.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |at| text(&audit_log[at], "timestamp"));
        let follows = match text(entry, "timestamp") > before {
            true => replay.entry(entry),
            false => Err(format!("the entry's time is not later than {before}, the time of the entry before it")),
        };
        follows.map_err(|wrong| format!("entry {at}: {wrong}: {entry}"))?;
    }
    replay.ends_as(record).map_err(|wrong| format!("the record: {wrong}: {record}"))?;
    Ok(replay.told)
}

/// Holds the state of a document after the entries replayed so far.
#[derive(Default)]
struct Replay<'t> {
    /// Status of the document; empty before the first entry.
    status: &'t str,
    epoch: u64,
    holder: &'t str,
    /// Output key of each complete stage.
    outputs: Vec<&'t str>,
    is_begun: bool,
    /// Number of times that the first incomplete stage was begun, counted since that stage last failed and since the
    /// document was last released.
    interrupted: u64,
    /// Number of failed attempts at the first incomplete stage that count towards the retry limit.
    attempts: u64,
    told: AuditSummary,
}

impl<'t> Replay<'t> {
    fn entry(&mut self, entry: &'t Value) -> Result<(), String> {
        let (event, status, facts) = (text(entry, "event_type"), text(entry, "status"), &entry["metadata"]);
        let takes = (event, status) == ("STATUS_CHANGE", "IN_PROGRESS");
        same("epoch", number(facts, "epoch"), self.epoch + u64::from(takes))?;
        same("version", number(facts, "version"), 1)?;
        same("processing version", text(entry, "processing_version"), "v1")?;
        if takes {
            return self.taken(entry, facts);
        }
        same("worker", text(entry, "worker_id"), self.holder)?;
        if event == "DOCUMENT_RECEIVED" {
            same("status before", self.status, "")?;
            self.status = status;
            return same("status", status, "PENDING");
        }
        same("status before", self.status, "IN_PROGRESS")?;
        match (event, status) {
            ("STAGE_IN_PROGRESS", "IN_PROGRESS") => self.begun(entry, facts),
            ("STAGE_COMPLETED", "COMPLETED") => self.stage_completed(entry, facts),
            ("STAGE_FAILED", "PENDING") => self.failed(entry, facts),
            ("STATUS_CHANGE", "PENDING") => self.released(entry, facts),
            ("DOCUMENT_COMPLETED", "COMPLETED") => {
                same("stages complete", self.outputs.len(), STAGES.len())?;
                (self.status, self.holder) = (status, "");
                Ok(())
            }
            _ => Err(format!("unexpected {event} {status}")),
        }
    }

    fn taken(&mut self, entry: &'t Value, facts: &'t Value) -> Result<(), String> {
        if !matches!(self.status, "PENDING" | "IN_PROGRESS") {
            return Err(format!("claimed while {}", self.status));
        }
        same("status before", text(facts, "from"), self.status)?;
        same("previous holder", text(facts, "taken_over_from"), self.holder)?;
        same("next stage", text(facts, "stage"), self.next()?)?;
        self.told.claims += 1;
        self.told.takeovers += u64::from(!self.holder.is_empty());
        (self.status, self.holder) = ("IN_PROGRESS", text(entry, "worker_id"));
        self.epoch += 1;
        self.is_begun = false;
        if self.holder.is_empty() { Err("the claim names no worker".into()) } else { Ok(()) }
    }

    fn begun(&mut self, entry: &Value, facts: &Value) -> Result<(), String> {
        same("stage begun", self.is_begun, false)?;
        self.is_of_next_stage(entry, facts)?;
        same("interruptions", facts["interruptions"].as_u64().unwrap_or(0), self.interrupted)?;
        self.interrupted += 1;
        self.is_begun = true;
        Ok(())
    }

    fn stage_completed(&mut self, entry: &'t Value, facts: &Value) -> Result<(), String> {
        same("stage begun", self.is_begun, true)?;
        self.is_of_next_stage(entry, facts)?;
        let output = text(entry, "output_s3_key");
        same("output", output.is_empty(), text(entry, "stage") == "loading")?;
        self.outputs.push(output);
        (self.is_begun, self.interrupted, self.attempts) = (false, 0, 0);
        Ok(())
    }

    fn failed(&mut self, entry: &Value, facts: &Value) -> Result<(), String> {
        same("stage begun", self.is_begun, true)?;
        self.is_of_next_stage(entry, facts)?;
        self.attempts += u64::from(facts["consumes_attempt"] == true);
        self.told.failures += 1;
        (self.is_begun, self.interrupted) = (false, 0);
        Ok(())
    }

    fn released(&mut self, entry: &Value, facts: &Value) -> Result<(), String> {
        same("status before", text(facts, "from"), self.status)?;
        same("stage", text(entry, "stage"), self.next()?)?;
        self.told.releases += 1;
        (self.status, self.holder) = ("PENDING", "");
        (self.is_begun, self.interrupted) = (false, 0);
        Ok(())
    }

    fn is_of_next_stage(&self, entry: &Value, facts: &Value) -> Result<(), String> {
        same("stage", text(entry, "stage"), self.next()?)?;
        same("attempt", number(facts, "attempt"), self.attempts + 1)
    }

    fn next(&self) -> Result<&'static str, String> {
        STAGES.get(self.outputs.len()).copied().ok_or_else(|| "all stages are already complete".into())
    }

    fn ends_as(&self, record: &Value) -> Result<(), String> {
        same("status", self.status, "COMPLETED")?;
        same("status", text(record, "status"), "COMPLETED")?;
        same("stage", text(record, "current_stage"), "STAGE_5_COMPLETE")?;
        same("epoch", number(record, "epoch"), self.epoch)?;
        same("version", (number(record, "version"), number(record, "loaded_version")), (1, 1))?;
        same("holder", text(record, "lease_owner"), "")?;
        same("retries", number(record, "retry_count"), 0)?;
        same("completed", text(record, "completed_at").is_empty(), false)?;
        for (stage, output) in STAGES.into_iter().zip(&self.outputs) {
            let entry = &record["stage_status"][stage];
            same("status of a stage", text(entry, "status"), "COMPLETED")?;
            same("output of a stage", text(entry, "output_s3_key"), *output)?;
        }
        Ok(())
    }
}

/// Returns the text under `name`, or an empty text if `value` has no such field.
fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Returns the number under `name`. If `value` has no such field, returns `u64::MAX`, which never equals an expected
/// number.
fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(u64::MAX)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, expected: T) -> Result<(), String> {
    if is == expected { Ok(()) } else { Err(format!("{what} is {is:?} instead of {expected:?}")) }
}

mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// Returns the audit log and the record of a document that was taken over, failed once, and was released once.
    fn life() -> (Vec<Value>, Value) {
        let mut audit_log = Vec::new();
        let mut add = |epoch: u64, worker: &str, event: &str, status: &str, stage: &str, facts: Value| {
            let mut metadata = json!({"version": 1, "epoch": epoch});
            metadata.as_object_mut().unwrap().extend(facts.as_object().unwrap().clone());
            let output = (event == "STAGE_COMPLETED" && stage != "loading").then(|| format!("{stage}/1"));
            audit_log.push(json!({
                "event_type": event, "status": status, "stage": stage, "worker_id": worker, "metadata": metadata,
                "output_s3_key": output, "processing_version": "v1",
            }));
        };
        let claim =
            |from: &str, stage: &str, holder: &str| json!({"from": from, "stage": stage, "taken_over_from": holder});
        let attempt = |n: u64| json!({ "attempt": n });
        add(0, "", "DOCUMENT_RECEIVED", "PENDING", "", json!({}));
        add(1, "a", "STATUS_CHANGE", "IN_PROGRESS", "", claim("PENDING", "extraction", ""));
        add(1, "a", "STAGE_IN_PROGRESS", "IN_PROGRESS", "extraction", attempt(1));
        add(1, "a", "STAGE_COMPLETED", "COMPLETED", "extraction", attempt(1));
        add(1, "a", "STAGE_IN_PROGRESS", "IN_PROGRESS", "chunking", attempt(1));
        add(2, "b", "STATUS_CHANGE", "IN_PROGRESS", "", claim("IN_PROGRESS", "chunking", "a"));
        let second = json!({"attempt": 1, "interruptions": 1});
        add(2, "b", "STAGE_IN_PROGRESS", "IN_PROGRESS", "chunking", second);
        let failed = json!({"attempt": 1, "consumes_attempt": true});
        add(2, "b", "STAGE_FAILED", "PENDING", "chunking", failed);
        add(2, "b", "STAGE_IN_PROGRESS", "IN_PROGRESS", "chunking", attempt(2));
        add(2, "b", "STAGE_COMPLETED", "COMPLETED", "chunking", attempt(2));
        add(2, "b", "STATUS_CHANGE", "PENDING", "enrichment", json!({"from": "IN_PROGRESS"}));
        add(3, "a", "STATUS_CHANGE", "IN_PROGRESS", "", claim("PENDING", "enrichment", ""));
        for stage in &STAGES[2..] {
            add(3, "a", "STAGE_IN_PROGRESS", "IN_PROGRESS", stage, attempt(1));
            add(3, "a", "STAGE_COMPLETED", "COMPLETED", stage, attempt(1));
        }
        add(3, "a", "DOCUMENT_COMPLETED", "COMPLETED", "", json!({}));
        let done = |stage: &str| {
            let output = (stage != "loading").then(|| format!("{stage}/1"));
            (stage.to_owned(), json!({"status": "COMPLETED", "output_s3_key": output}))
        };
        let record = json!({
            "status": "COMPLETED", "current_stage": "STAGE_5_COMPLETE", "epoch": 3, "version": 1, "loaded_version": 1,
            "lease_owner": null, "retry_count": 0, "completed_at": "2026",
            "stage_status": STAGES.into_iter().map(done).collect::<Map<_, _>>(),
        });
        (audit_log, record)
    }

    /// Gives the entries timestamps in ascending order.
    fn timed(mut audit_log: Vec<Value>) -> Vec<Value> {
        for (at, entry) in audit_log.iter_mut().enumerate() {
            entry["timestamp"] = format!("{at:04}").into();
        }
        audit_log
    }

    #[track_caller]
    fn assert_wrong(audit_log: Vec<Value>, record: &Value, what: &str) {
        assert!(replay(&timed(audit_log), record).is_err(), "not detected: {what}");
    }

    #[test]
    fn an_audit_log_that_makes_sense_tells_what_happened() {
        let (audit_log, record) = life();
        let told = AuditSummary { claims: 3, takeovers: 1, releases: 1, failures: 1 };
        assert_eq!(replay(&timed(audit_log), &record), Ok(told));
    }

    #[test]
    fn no_entry_can_be_missing_doubled_or_moved() {
        let (audit_log, record) = life();
        assert_wrong(Vec::new(), &record, "an empty log");
        for at in 0..audit_log.len() {
            let (mut without, mut doubled) = (audit_log.clone(), audit_log.clone());
            without.remove(at);
            assert_wrong(without, &record, &format!("entry {at} is missing"));
            doubled.insert(at, audit_log[at].clone());
            assert_wrong(doubled, &record, &format!("entry {at} is duplicated"));
            for to in (0..audit_log.len()).filter(|to| *to != at) {
                let mut moved = audit_log.clone();
                let entry = moved.remove(at);
                moved.insert(to, entry);
                assert_wrong(moved, &record, &format!("entry {at} is moved to {to}"));
            }
        }
    }

    #[test]
    fn a_write_of_a_claim_that_is_over_is_found_out_wherever_it_stands() {
        let (audit_log, record) = life();
        let over = audit_log.iter().position(|entry| entry["metadata"]["epoch"] == 2).unwrap();
        for at in over + 1..=audit_log.len() {
            for stale in [&audit_log[2], &audit_log[3], &audit_log[4]] {
                let mut written = audit_log.clone();
                written.insert(at, stale.clone());
                assert_wrong(written, &record, &format!("entry {at} is a stale write"));
            }
        }
    }

    #[test]
    fn every_entry_says_who_did_it_in_which_epoch_and_when() {
        let (audit_log, record) = life();
        for at in 1..audit_log.len() {
            let mut by_another = audit_log.clone();
            by_another[at]["worker_id"] = "c".into();
            assert_wrong(by_another, &record, &format!("entry {at} names another worker"));
            for epoch in [0, 1, 2, 3, 4].into_iter().filter(|epoch| audit_log[at]["metadata"]["epoch"] != *epoch) {
                let mut of_another = audit_log.clone();
                of_another[at]["metadata"]["epoch"] = epoch.into();
                assert_wrong(of_another, &record, &format!("entry {at} has epoch {epoch}"));
            }
            let mut at_once = timed(audit_log.clone());
            at_once[at]["timestamp"] = at_once[at - 1]["timestamp"].clone();
            assert!(replay(&at_once, &record).is_err(), "not detected: entry {at} has the time of the entry before it");
        }
    }

    #[test]
    fn the_record_is_what_the_audit_log_says() {
        let (audit_log, record) = life();
        let wrong = [
            ("/status", json!("IN_PROGRESS")),
            ("/current_stage", json!("STAGE_5_LOADING")),
            ("/epoch", json!(4)),
            ("/version", json!(2)),
            ("/loaded_version", json!(null)),
            ("/lease_owner", json!("b")),
            ("/retry_count", json!(1)),
            ("/completed_at", json!(null)),
            ("/stage_status/chunking/status", json!("IN_PROGRESS")),
            ("/stage_status/chunking/output_s3_key", json!("chunking/2")),
            ("/stage_status/loading", json!(null)),
        ];
        for (path, value) in wrong {
            let mut record = record.clone();
            *record.pointer_mut(path).unwrap() = value;
            assert_wrong(audit_log.clone(), &record, path);
        }
    }
}

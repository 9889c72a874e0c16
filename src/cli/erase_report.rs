//! Reports what `docweir erase` deleted and verified, and which copies of the documents it cannot see.

use std::collections::BTreeSet;
use std::path::Path;

use docweir_stages::enrich::EnrichProvider;
use docweir_stores::control::ControlRecord;

use super::output::{Out, plural, printable};
use super::table::{Paint, Table, left};
use crate::config::{Provider, Settings};
use crate::intake::source;

/// Maximum number of files that a line lists. Further ones are only counted.
const LISTED: usize = 3;

/// Holds the numbers of deleted files, entries and versions. A second look verified each deletion, except that of a
/// cache that was deleted as a whole.
pub struct Erased {
    /// Number of deleted vector files.
    pub files: u64,
    /// Number of vectors that were deleted from the cache of this machine.
    pub vectors: u64,
    /// True if only the vectors of the erased documents were deleted, and not the whole cache.
    pub texts_known: bool,
    /// Number of findings that were deleted from the cache of this machine; `None` if there is no such cache.
    pub findings: Option<u64>,
    /// Number of deleted noncurrent versions of objects; `None` if the store keeps none.
    pub versions: Option<u64>,
    /// Number of open batches; `None` if no text was ever enqueued for a batch.
    pub open_batches: Option<u64>,
}

impl Erased {
    /// Returns the lines of the report.
    pub fn lines(&self, records: &[ControlRecord], settings: &Settings, here: &Path, out: &Out) -> Vec<String> {
        let mut lines: Vec<String> =
            records.iter().map(|record| format!("erased: {}", source::display(&record.source, here))).collect();
        lines.extend([String::new(), out.bold("Verified as deleted")]);
        lines.extend(table(&self.verified()).lines(out));
        lines.extend([String::new(), out.bold("Not checked")]);
        lines.extend(table(&self.not_checked(records, settings, here)).lines(out));
        lines
    }

    fn verified(&self) -> Vec<(&'static str, String)> {
        let files = plural(self.files, "file");
        let everything =
            if self.texts_known { "" } else { " (all, because the texts of earlier versions are unknown)" };
        let vectors = plural(self.vectors, "vector");
        let mut facts = vec![
            ("index", format!("no earlier version of the index is kept: {files} deleted")),
            ("objects", "no artefact, failure report or copy of the original is left".to_owned()),
            ("cache", format!("{vectors} deleted from the cache of this machine{everything}")),
        ];
        facts.extend(self.findings.map(|n| {
            let findings = plural(n, "finding");
            ("findings", format!("{findings} deleted from the cache of this machine"))
        }));
        facts.extend((self.open_batches == Some(0)).then(|| ("batches", "no batch with texts is open".to_owned())));
        facts.extend(self.versions.map(|n| {
            let versions = plural(n, "noncurrent version");
            ("bucket", format!("{versions} of objects deleted from the versioned bucket; none of the documents' own objects is left"))
        }));
        facts
    }

    /// Lists the copies of the documents that this command neither deletes nor sees, with what to do about them.
    fn not_checked(&self, records: &[ControlRecord], settings: &Settings, here: &Path) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        // Documents that another document contains have no file of their own.
        let files = records.iter().filter(|record| record.parent.is_none());
        let (local, remote): (BTreeSet<&str>, BTreeSet<&str>) =
            files.map(|record| record.source.as_str()).partition(|source| source::to_path(source).is_some());
        let there: Vec<&str> = local
            .into_iter()
            .filter(|source| source::to_path(source).is_some_and(|path| path.symlink_metadata().is_ok()))
            .collect();
        if !there.is_empty() {
            let text =
                format!("{}: still there; the next `docweir ingest` adds what is not removed", names(&there, here));
            facts.push(("originals", text));
        }
        let remote: Vec<&str> = remote.into_iter().collect();
        if !remote.is_empty() {
            facts.push(("originals", format!("{}: remove the objects and their versions", names(&remote, here))));
        }
        if !settings.state.is_local() {
            let text = "`cache` and `copies` in the state folders of other machines: they keep entries until they need the \
                        space; delete the folders to be sure";
            facts.push(("machines", text.to_owned()));
        }
        if let Some(open) = self.open_batches.filter(|open| *open > 0) {
            let batches = plural(open, "open batch");
            let again = if self.versions.is_some() { ", then `docweir erase` again" } else { "" };
            let text = format!("{batches} may hold texts until the end; run `docweir batch poll --wait`{again}");
            facts.push(("batches", text));
        }
        let mut services = Vec::new();
        services
            .extend((settings.embed.options.provider == Provider::Openai).then_some("the endpoint of the embeddings"));
        services.extend((settings.enrich.options.provider == EnrichProvider::Comprehend).then_some("Comprehend"));
        if !services.is_empty() {
            facts.push(("services", format!("texts that were sent to {}", services.join(" and to "))));
        }
        let days = match settings.state.control_in() {
            "dynamodb" => settings.dynamodb.record_days,
            _ => settings.control.record_days,
        };
        facts.push((
            "backups",
            "copies of the state, snapshots of its disk, and files of `docweir store export`".into(),
        ));
        let text = format!("the control record keeps the name and the hash of a deleted document for {days} days");
        facts.push(("record", text));
        facts
    }
}

fn names(sources: &[&str], here: &Path) -> String {
    let shown = sources.iter().take(LISTED).map(|source| source::display(source, here));
    let more = sources.len().saturating_sub(LISTED);
    shown.chain((more > 0).then(|| format!("and {more} more"))).collect::<Vec<_>>().join(", ")
}

fn table(facts: &[(&'static str, String)]) -> Table {
    let mut table = Table::indented(2);
    for (name, text) in facts {
        table.row([left(*name).painted(Paint::Dim), left(printable(text))]);
    }
    table
}

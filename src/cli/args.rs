//! Defines the command line: commands, arguments and their help texts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use docweir_core::documents::Stage;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER: &str = "\
Examples:
  docweir ingest ./papers                     index a folder; a second run indexes only changes
  docweir search \"how is a stale lease fenced?\"
  docweir status                              show what is done, waiting, quarantined
  docweir quarantine list                     list failed documents and their errors

Exit codes:
  0  success                                  3  some documents are quarantined or unreadable
  1  nothing found, or a check failed         4  the configuration is invalid
  2  the command line is invalid              5  another process is working on the state folder
  6  the budget is used up, and the rest waits for it
  70 system failure (full disk, broken store); no data is lost, run the command again
  130, 143  stopped by SIGINT or SIGTERM; run the command again to continue";

/// Turns documents into a searchable vector index and keeps the index up to date.
#[derive(Debug, Parser)]
#[command(name = "docweir", version, styles = STYLES, after_help = AFTER, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug)]
pub struct Global {
    /// Folder that holds all state [default: .docweir, or `state.folder` of the configuration]
    #[arg(long, global = true, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Configuration file [default: ./docweir.toml, or ./config.toml if it is a Docweir configuration]
    #[arg(long, global = true, value_name = "FILE", env = "DOCWEIR_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Set one configuration key, for example `--set embed.workers.max=4`
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Use colours; `auto` uses them on a terminal unless NO_COLOR is set or TERM is dumb
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Index folders and files: extract, chunk, enrich, embed and load them
    Ingest(Ingest),
    /// Process registered documents, and documents that arrive through queues, until stopped
    Serve(Serve),
    /// Register documents without processing them; a running `docweir serve` processes them
    Submit(Submit),
    /// Search the index for passages
    Search(Search),
    /// Show what is done, waiting and quarantined, or everything about one document
    Status(Status),
    /// Show the audit log of a document
    Audit(Audit),
    /// List, show, replay or discard documents that failed
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Mark a document to be processed again, from its unfinished stage or from an earlier stage
    Retry(Retry),
    /// Delete documents from the index
    Delete(Delete),
    /// Erase documents permanently: from the index, its earlier versions and every cache
    Erase(Erase),
    /// Merge the vector files into fewer, larger files
    Compact(Compact),
    /// Plan, create and check the AWS tables, buckets and queues that Docweir needs, and print IAM policies
    #[command(subcommand)]
    Infra(InfraCommand),
    /// Inspect and repair the message queues that `docweir serve` receives from
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Check everything that a run needs (folder, disk, keys, endpoints, permissions) and say how to fix problems
    Doctor(Json),
    /// Estimate what an ingest would cost, without spending anything
    Estimate(Estimate),
    /// Show the money spent at providers, by day, model, document or another key
    Cost(Cost),
    /// List, send, poll, cancel and retry batches at the provider
    #[command(subcommand)]
    Batch(Batch),
    /// Inspect, verify, clean up, roll back and export the vector files
    #[command(subcommand)]
    Store(Store),
    /// Convert a document to Markdown, JSON, the form of Docling, text or HTML
    Extract(Extract),
    /// Run a single stage on a file and show its result
    Stage(RunStage),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for your shell
    Completions(Completions),
    /// Parse documents in a child process (started by docweir itself, not by users)
    #[command(name = "__extract-worker", hide = true)]
    ExtractWorker {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        args: Vec<String>,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir ingest ./papers report.pdf
  docweir ingest ./papers --exclude 'drafts/*' --prune
  docweir ingest ./papers --set embed.mode=batch --wait
  docweir ingest receipts.jsonl --as receipts
  docweir ingest products.jsonl --as records --id sku --text description --collection products
  docweir ingest dynamodb://receipts --as receipts
  docweir ingest ./papers --json | jq 'select(.event == \"quarantined\")'")]
pub struct Ingest {
    /// Files (any extension), folders (only files with known extensions), s3://BUCKET/KEY or s3://BUCKET/PREFIX/
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Also include files whose path within a given folder matches this glob
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Exclude files and folders that match this glob, even if they match --include
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Delete documents from the index if their files are no longer in the given folders. Refused if all or many files
    /// of a folder are gone (intake.prune_percent); `--prune=force` deletes them nevertheless
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "checked")]
    pub prune: Option<PruneMode>,
    #[command(flatten)]
    pub records: RecordArgs,
    #[command(flatten)]
    pub run: Run,
    /// Serve /metrics (Prometheus) and /supervision (JSON) at this address during the run
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_addr: Option<SocketAddr>,
}

/// Arguments that select records as the input, and describe the files or tables that hold the records.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Ingest records instead of documents, from files with one JSON object per line (also .gz) or from a DynamoDB
    /// table (dynamodb://TABLE). Of records with the same id, the last one counts, and of a key that comes twice in an
    /// object, the last value; both are reported
    #[arg(long = "as", value_enum, value_name = "SHAPE")]
    pub shape: Option<RecordShape>,
    /// Records only: field that holds the id of a record (`sku`, `meta.id`)
    #[arg(long, value_name = "FIELD", required_if_eq("shape", "records"), value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub id: Option<String>,
    /// Records only: field that holds the text to embed
    #[arg(long, value_name = "FIELD", required_if_eq("shape", "records"), value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub text: Option<String>,
    /// Records only: collection that stores the records [default: records]
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordShape {
    /// OCR results of receipts; lines are stored in the collection `receipt_lines`, words in `receipt_words`
    Receipts,
    /// JSON objects of any kind with an id and a text
    Records,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Live display if standard error is a terminal, plain lines otherwise
    Auto,
    Live,
    Plain,
    None,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir search \"how is a stale lease fenced?\"
  docweir search -k 3 --mode full-text fencing token
  docweir search revenue --source 'reports/' --filter language=eng --filter 'page>=2'
  docweir search --queries questions.txt --json > answers.jsonl

Filters compare a field with a value: `field=value`, `field=a,b` (any of them), `field^=prefix`,
`field>=n`, `field<=n`, `field!=value` (also true if there is no value). Fields: document (an id), source
(a path), page, language (ISO 639-3), kind (text, table, code, figure), chunk, media_type, tenant, and
`metadata.NAME` for anything else. `and`, `or`, `not` and parentheses combine comparisons.

Values keep their spelling: `00501` finds the text 00501 and not 501, and `1.10` does not find 1.1. A plain
number such as `5` also finds 5.0. A value in quotes is always a text and may hold any character:
`source=\"a, b.md\"`, `metadata.\"odd name\"='x'`; in double quotes, \\\" is a quote and \\\\ a backslash.")]
pub struct Search {
    /// Text of the query; quotation marks within it enclose a phrase: docweir search '"fencing token" lease'
    #[arg(value_name = "QUERY", required_unless_present = "queries")]
    pub query: Vec<String>,
    /// Collection to search [default: the collection of documents]
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
    /// Maximum number of passages to return
    #[arg(short = 'k', long = "top", value_name = "N")]
    pub k: Option<usize>,
    /// Scoring mode
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<Mode>,
    /// Hybrid mode only: weight of the vector score, 0 to 1
    #[arg(long, value_name = "W")]
    pub weight: Option<f32>,
    /// Return only passages that match this filter; if repeated, all filters must match
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Search only documents whose path begins with this prefix
    #[arg(long, value_name = "PATH")]
    pub source: Option<PathBuf>,
    /// File of queries, one per line (plain text, or JSON objects with a `question` field)
    #[arg(long, value_name = "FILE", conflicts_with = "query", value_hint = ValueHint::FilePath)]
    pub queries: Option<PathBuf>,
    /// Search the index as of this version; `docweir store info` lists versions
    #[arg(long, value_name = "VERSION")]
    pub as_of: Option<u64>,
    /// Return at most this number of passages of each document
    #[arg(long, value_name = "N")]
    pub per_document: Option<usize>,
    /// Compare the query with every vector instead of only the likely nearest ones
    #[arg(long)]
    pub exact: bool,
    /// Print how each score came about
    #[arg(long)]
    pub explain: bool,
    /// Print one JSON object per query
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Hybrid,
    Vector,
    FullText,
}

#[derive(Args, Debug)]
pub struct Status {
    /// Id of a document, or path of its file
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: Option<OsString>,
    /// List every document
    #[arg(long, conflicts_with = "document")]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Audit {
    /// Id of the document, or path of its file
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: OsString,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List quarantined documents with the reason for each
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show why a document failed: error chain, number of attempts, location of the original
    Show {
        #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
        document: OsString,
    },
    /// Retry documents from their failed stage
    Replay {
        /// Ids of the documents to replay, or paths of their files
        #[arg(value_name = "DOC", required_unless_present = "all")]
        documents: Vec<OsString>,
        /// Replay all quarantined documents
        #[arg(long, conflicts_with = "documents")]
        all: bool,
    },
    /// Give up on documents permanently; if the index holds an earlier version of a document, that version stays
    Discard {
        /// Ids of the documents to discard, or paths of their files
        #[arg(value_name = "DOC", required = true)]
        documents: Vec<OsString>,
    },
}

#[derive(Args, Debug)]
pub struct Retry {
    /// Id of the document, or path of its file
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath, required_unless_present = "held")]
    pub document: Option<OsString>,
    /// Stage to start from: extract, chunk, enrich, embed or load
    #[arg(long, value_name = "STAGE", requires = "document")]
    pub from: Option<Stage>,
    /// Process all documents that `docweir store rollback --hold` holds
    #[arg(long, conflicts_with = "document")]
    pub held: bool,
}

/// Selects whether `--prune` checks how many documents it removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PruneMode {
    /// Removes nothing from a folder if all or many of its files are gone
    Checked,
    /// Removes all documents whose files are gone
    Force,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir delete ./papers/draft.pdf
  docweir delete ./papers/2019
  docweir delete --collection products P-0005 P-0006")]
pub struct Delete {
    /// Ids of the documents to delete, paths of their files, or folders, even if they no longer exist; with
    /// --collection, ids of the records to delete
    #[arg(value_name = "DOC", required = true)]
    pub documents: Vec<OsString>,
    /// Collection of records to delete from
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir serve --metrics-addr 127.0.0.1:9464
  docweir serve --progress plain")]
pub struct Serve {
    #[command(flatten)]
    pub run: Run,
    /// Serve /metrics (Prometheus) and /supervision (JSON) at this address during the run
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_addr: Option<SocketAddr>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir submit s3://my-papers/input/a.pdf
  docweir submit s3://my-papers/2026/ --json")]
pub struct Submit {
    /// s3://BUCKET/KEY, s3://BUCKET/PREFIX/ (only objects with known extensions), or local files and folders
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Print one JSON event per line on standard output; the last line is the summary
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Erase {
    /// Ids of the documents to erase, or paths of their files
    #[arg(value_name = "DOC", required = true)]
    pub documents: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir compact                             merge the files that are due
  docweir compact --all                       merge all files into one")]
pub struct Compact {
    /// Merge all files, not only the files that are due for merging
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum InfraCommand {
    /// Show which resources exist and which resources `apply` would create
    Plan(Json),
    /// Create missing resources; existing resources stay unchanged
    Apply(Json),
    /// Show the state of each resource; exit code 1 unless all are correct
    Check(Json),
    /// Print an IAM policy that allows only the calls that a role makes to the configured resources
    Policy(PolicyArgs),
}

#[derive(Subcommand, Debug)]
pub enum QueueCommand {
    /// Move the messages of the dead-letter queues back to their queues
    ///
    /// Do this after the cause of their failure is repaired. A message that fails again returns to its dead-letter
    /// queue.
    Redrive(Json),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir infra policy --role serve --documents s3://my-papers/2026/ > serve.json
  docweir infra policy --role reader")]
pub struct PolicyArgs {
    /// Role that the policy is for
    #[arg(long, value_enum, value_name = "ROLE")]
    pub role: PolicyRole,
    /// Further source of documents, in addition to the configured buckets: s3://BUCKET or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub documents: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyRole {
    /// Runs commands that write: ingest, serve, compact, doctor and others
    Serve,
    /// Creates and checks AWS resources: infra
    Infra,
    /// Runs commands that only read: search, status, audit, store info
    Reader,
}

impl InfraCommand {
    pub fn json(&self) -> bool {
        match self {
            Self::Plan(json) | Self::Apply(json) | Self::Check(json) => json.json,
            Self::Policy(_) => true,
        }
    }
}

#[derive(Args, Debug)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir estimate ./papers
  docweir estimate receipts.jsonl --as receipts --json")]
pub struct Estimate {
    /// Folders and files, as for `ingest`
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub records: RecordArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir cost                                cost per day
  docweir cost --by document --since 7d --top 20
  docweir cost --by collection --json")]
pub struct Cost {
    /// Key to group the costs by
    #[arg(long, value_enum, default_value = "day", value_name = "WHAT")]
    pub by: CostBy,
    /// First day (UTC) to include: `2026-11-01`, or `7d` for the last seven days
    #[arg(long, value_name = "DAY")]
    pub since: Option<String>,
    /// Maximum number of lines to show, beginning with the most expensive line
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub top: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CostBy {
    Day,
    Run,
    /// Mode of the call: live or batch
    Mode,
    Stage,
    Model,
    Collection,
    /// Document or batch that caused the cost
    Document,
}

#[derive(Debug, Subcommand)]
pub enum Batch {
    /// List batches, newest first, and count the items that wait to be sent
    List {
        /// Maximum number of batches to list
        #[arg(long, default_value_t = 50, value_name = "N")]
        top: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one batch in detail
    Show {
        /// Id of the batch, as assigned by Docweir or by the provider
        #[arg(value_name = "BATCH")]
        batch: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send waiting items, import the results of ended batches, and exit
    Submit(Run),
    /// Poll open batches and import the results of ended ones
    Poll(Run),
    /// Cancel batches; finished results are imported, all other items wait for another batch
    Cancel {
        #[arg(value_name = "BATCH", required = true)]
        batches: Vec<String>,
    },
    /// Mark records that the provider refused, so that they are sent again
    Retry {
        /// Retry only the records of this batch
        #[arg(value_name = "BATCH")]
        batch: Option<String>,
    },
}

/// Arguments that control how long a run waits and how it shows progress.
#[derive(Args, Debug)]
pub struct Run {
    /// Wait until every batch has ended, however long that takes
    #[arg(long)]
    pub wait: bool,
    /// Progress display
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub progress: Progress,
    /// Print one JSON event per line on standard output; the last line is the summary
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Store {
    /// Show files, versions and sizes
    Info {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every file; check checksums, counts, and agreement with the control store
    Verify {
        /// Repair what can be repaired: documents missing from the index become pending again, orphan files are
        /// deleted, and a lost manifest is rebuilt from the files
        #[arg(long)]
        repair: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete files that are no longer needed according to the settings in `[retention]`
    Gc {
        /// Keep no earlier version; rollback is not possible afterwards
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore the content of the index as of an earlier version
    Rollback {
        /// Version to restore; `docweir store info` lists versions
        #[arg(value_name = "VERSION")]
        to: u64,
        /// Keep the restored content: leave each document whose changes are undone as it is until its file changes
        ///
        /// Without this option, the next `docweir ingest` applies the undone changes again. `docweir retry` releases a
        /// held document, and `docweir retry --held` releases all of them.
        #[arg(long)]
        hold: bool,
    },
    /// Write passages and their vectors as Parquet files
    Export {
        /// Target folder; must be empty or not exist yet
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// Export the index as of this version
        #[arg(long, value_name = "VERSION")]
        as_of: Option<u64>,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir extract paper.pdf                   print the text as Markdown
  docweir extract paper.pdf --format json --pages 3-7
  docweir extract - --format text             read standard input")]
pub struct Extract {
    /// File, or `-` for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: OsString,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "markdown")]
    pub format: DocumentFormat,
    /// Write only these pages, for example 3, 3-7 or 1,4-
    #[arg(long, value_name = "PAGES")]
    pub pages: Option<super::extract::PageRanges>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DocumentFormat {
    /// Markdown; tables with cells that span others are HTML
    Markdown,
    /// Text, blocks, cells, lines and words with page, box and range
    Json,
    /// JSON of Docling
    Docling,
    Text,
    Html,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir stage extract paper.pdf             print the text as markdown, page by page
  docweir stage chunk paper.pdf --json        print the chunks as JSON
  docweir stage embed doc_20261121_093000_1a2b3c4d")]
pub struct RunStage {
    /// Stage to run: extract, chunk, enrich or embed
    #[arg(value_name = "STAGE")]
    pub stage: Stage,
    /// File, or id of a document
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: OsString,
    /// Print the artefact as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the common keys and all keys that are set, with the source of each value
    Print {
        /// Print only values that differ from the defaults
        #[arg(long)]
        changed: bool,
        /// Print every key, each with its description
        #[arg(long, conflicts_with = "changed")]
        all: bool,
    },
    /// Check the configuration and report errors
    Check,
    /// Print the JSON schema of the configuration, for editors
    Schema,
    /// Trust the configuration file of the current folder, as it is now
    ///
    /// Some keys decide where data or secrets go. A configuration file that is found in the current folder may set such
    /// keys only if it is trusted. After each change of the file, run this command again. A file named with --config
    /// needs no trust.
    Trust,
}

#[derive(Args, Debug)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

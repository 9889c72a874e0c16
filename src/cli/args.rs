//! The command line, as people see it.

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
  docweir ingest ./papers                     index a folder; run it again and only changes are done
  docweir search \"how is a stale lease fenced?\"
  docweir status                              what is done, waiting, quarantined
  docweir quarantine list                     what could not be done, and why

Exit codes:
  0  all went well                            3  some documents are quarantined or unreadable
  1  nothing found, or the command's no       4  the configuration is wrong
  2  the command line is wrong                5  another process is working on the state folder
  70 the system failed (full disk, broken store): nothing is lost, run it again
  130, 143  stopped by SIGINT or SIGTERM: run it again to go on";

/// Turns documents into a searchable vector index, and keeps it true.
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
    /// The folder that holds all state [default: .docweir, or `state.folder` of the configuration]
    #[arg(long, global = true, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// The configuration to read [default: ./docweir.toml, or a ./config.toml of Docweir's]
    #[arg(long, global = true, value_name = "FILE", env = "DOCWEIR_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration: `--set embed.workers.max=4`
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Colours: auto looks at the terminal and at NO_COLOR
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
    /// Take in folders and files: extract, chunk, enrich, embed, load
    Ingest(Ingest),
    /// Do whatever is registered, or comes by a queue, until told to stop
    Serve(Serve),
    /// Register documents and do nothing with them: whoever serves takes them up
    Submit(Submit),
    /// Find passages
    Search(Search),
    /// What is done, waiting and quarantined; or all about one document
    Status(Status),
    /// Everything that happened to a document
    Audit(Audit),
    /// Documents that could not be done: why, and what to do with them
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Make a document pending again, from its unfinished stage or an earlier one
    Retry(Retry),
    /// Take a document out of the index
    Delete(Delete),
    /// Take a document out of the index, its past and every cache, for good
    Erase(Erase),
    /// Merge the vector files into fewer
    Compact(Compact),
    /// What is needed in AWS: tables, indexes, buckets and their rules, queues; and the policies
    #[command(subcommand)]
    Infra(InfraCommand),
    /// Look at what a run will need (folder, disk, keys, endpoints, permissions) and say what to mend
    Doctor(Json),
    /// What taking files in would cost, before anything is spent
    Estimate(Estimate),
    /// What was spent at providers, by day or by what it was spent on
    Cost(Cost),
    /// Batches at the provider: what waits, what is on its way, what came back
    #[command(subcommand)]
    Batch(Batch),
    /// The vector files: what is there, whether it is whole, what was there before
    #[command(subcommand)]
    Store(Store),
    /// Run one stage alone on a file, for a look
    Stage(RunStage),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for your shell
    Completions(Completions),
    /// A child process that parses documents; started by docweir itself
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
    /// Folders (known extensions only) and files (whatever they are called); s3://BUCKET/PREFIX/ and s3://BUCKET/KEY
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Also take these files of a folder: a glob against the path below it
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave these files and folders alone; wins over --include
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Take out of the index what is no longer in the given folders
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub records: RecordArgs,
    #[command(flatten)]
    pub run: Run,
    /// Serve /metrics (Prometheus) and /supervision (JSON) at this address while running
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_addr: Option<SocketAddr>,
}

/// Files of records.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// What the files hold, where they are no documents: JSON objects, one a line; or the items of a table,
    /// dynamodb://TABLE
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    pub shape: Option<RecordShape>,
    /// Records only: the field that names a record (`sku`, `meta.id`)
    #[arg(long, value_name = "FIELD", required_if_eq("shape", "records"), value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub id: Option<String>,
    /// Records only: the field with the text that is embedded
    #[arg(long, value_name = "FIELD", required_if_eq("shape", "records"), value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub text: Option<String>,
    /// Records only: the collection that they come into [default: records]
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordShape {
    /// Receipts that were read by OCR: their lines and words, into `receipt_lines` and `receipt_words`
    Receipts,
    /// Any objects, with an id and a text
    Records,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Live on a terminal, plain lines elsewhere
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
`field>=n`, `field<=n`, `field!=value`. Fields: document, source (a path), page, language (ISO 639-3),
kind (text, table, code, figure), chunk, media_type, tenant, and `metadata.NAME` for anything else.")]
pub struct Search {
    /// What to look for
    #[arg(value_name = "QUERY", required_unless_present = "queries")]
    pub query: Vec<String>,
    /// The collection to look in [default: that of documents]
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
    /// How many passages
    #[arg(short = 'k', long = "top", value_name = "N")]
    pub k: Option<usize>,
    /// How passages are scored
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<Mode>,
    /// Hybrid only: share of the vector score, 0 to 1
    #[arg(long, value_name = "W")]
    pub weight: Option<f32>,
    /// Only what fits; may be given several times, all must hold
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only documents whose path begins with this
    #[arg(long, value_name = "PATH")]
    pub source: Option<PathBuf>,
    /// One query a line (or JSON lines with a `question` field), answered in one process
    #[arg(long, value_name = "FILE", conflicts_with = "query", value_hint = ValueHint::FilePath)]
    pub queries: Option<PathBuf>,
    /// In the index as it was at this version; `docweir store info` lists them
    #[arg(long, value_name = "VERSION")]
    pub as_of: Option<u64>,
    /// Compare the query with every vector, not with those alone that look near
    #[arg(long)]
    pub exact: bool,
    /// JSON: an object a query
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
    /// A document: its id, or the path of its file
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: Option<OsString>,
    /// List every document
    #[arg(long, conflicts_with = "document")]
    pub all: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Audit {
    /// A document: its id, or the path of its file
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: OsString,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// Each quarantined document with its reason
    List {
        #[arg(long)]
        json: bool,
    },
    /// The failed artefact: error chain, attempts, where the original is
    Show {
        #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
        document: OsString,
    },
    /// Try again from the failed stage
    Replay {
        /// Documents, by id or path
        #[arg(value_name = "DOC", required_unless_present = "all")]
        documents: Vec<OsString>,
        /// All of them
        #[arg(long, conflicts_with = "documents")]
        all: bool,
    },
    /// Give up on it for good; an earlier version that is in the index stays there
    Discard {
        #[arg(value_name = "DOC", required = true)]
        documents: Vec<OsString>,
    },
}

#[derive(Args, Debug)]
pub struct Retry {
    /// A document: its id, or the path of its file
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: OsString,
    /// From this stage on: extract, chunk, enrich, embed or load
    #[arg(long, value_name = "STAGE")]
    pub from: Option<Stage>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir delete ./papers/draft.pdf
  docweir delete --collection products P-0005 P-0006")]
pub struct Delete {
    /// Documents, by id or path; with --collection: records, by their ids
    #[arg(value_name = "DOC", required = true)]
    pub documents: Vec<OsString>,
    /// The collection of records to delete from
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
    /// Serve /metrics (Prometheus) and /supervision (JSON) at this address while running
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_addr: Option<SocketAddr>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir submit s3://my-papers/input/a.pdf
  docweir submit s3://my-papers/2026/ --json")]
pub struct Submit {
    /// s3://BUCKET/KEY, s3://BUCKET/PREFIX/ (known extensions only), and files and folders of this machine
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// One JSON event a line, the summary last
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Erase {
    /// Documents, by id or path
    #[arg(value_name = "DOC", required = true)]
    pub documents: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir compact                             what has become due
  docweir compact --all                       everything into one file")]
pub struct Compact {
    /// Everything, not what has become due alone
    #[arg(long)]
    pub all: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum InfraCommand {
    /// Say what is there and what `apply` would make
    Plan(Json),
    /// Make what is missing; what is there stays as it is
    Apply(Json),
    /// Say what is there; exit code 1 unless everything is right
    Check(Json),
    /// Print the policy that allows what a role calls, on what the configuration names, and nothing else
    Policy(PolicyArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir infra policy --role serve --documents s3://my-papers/2026/ > serve.json
  docweir infra policy --role reader")]
pub struct PolicyArgs {
    /// Who it is for
    #[arg(long, value_enum, value_name = "ROLE")]
    pub role: PolicyRole,
    /// Where documents are taken from, beside one's own buckets: s3://BUCKET or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub documents: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyRole {
    /// Who works: ingest, serve, compact, doctor and everything else that writes
    Serve,
    /// Who sets up: infra
    Infra,
    /// Who looks: search, status, audit, store info
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
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir estimate ./papers
  docweir estimate receipts.jsonl --as receipts --json")]
pub struct Estimate {
    /// Folders and files, as `ingest` takes them
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub records: RecordArgs,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir cost                                what was spent, day by day
  docweir cost --by document --since 7d --top 20
  docweir cost --by collection --json")]
pub struct Cost {
    /// What the sums are by
    #[arg(long, value_enum, default_value = "day", value_name = "WHAT")]
    pub by: CostBy,
    /// From this day (UTC) on: `2026-11-01`, or `7d` for the last seven
    #[arg(long, value_name = "DAY")]
    pub since: Option<String>,
    /// Lines at most: those that cost the most
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub top: usize,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CostBy {
    Day,
    Run,
    /// Live calls and batches
    Mode,
    Stage,
    Model,
    Collection,
    /// Documents and batches
    Document,
}

#[derive(Debug, Subcommand)]
pub enum Batch {
    /// What waits to be sent, and the batches, the newest first
    List {
        /// Batches at most
        #[arg(long, default_value_t = 50, value_name = "N")]
        top: usize,
        #[arg(long)]
        json: bool,
    },
    /// All about one batch
    Show {
        /// Its id, or the provider's
        #[arg(value_name = "BATCH")]
        batch: String,
        #[arg(long)]
        json: bool,
    },
    /// Send what waits, take in what has come back, and end
    Submit(Run),
    /// Look at the open batches and take in what has come back
    Poll(Run),
    /// Call batches off; what they had done is taken in, the rest waits again
    Cancel {
        #[arg(value_name = "BATCH", required = true)]
        batches: Vec<String>,
    },
    /// Send again the records that were refused
    Retry {
        /// Of this batch alone
        #[arg(value_name = "BATCH")]
        batch: Option<String>,
    },
}

/// How a run goes on and is shown.
#[derive(Args, Debug)]
pub struct Run {
    /// Stay until every batch has ended, however long that takes
    #[arg(long)]
    pub wait: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub progress: Progress,
    /// One JSON event a line on standard output, the summary last
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Store {
    /// Files, versions, sizes
    Info {
        #[arg(long)]
        json: bool,
    },
    /// Read every file: checksums, counts, and whether the control store agrees
    Verify {
        /// Mend what can be mended: documents that can't be found are made pending again, leftovers deleted
        #[arg(long)]
        repair: bool,
        #[arg(long)]
        json: bool,
    },
    /// Delete what nothing needs any more, as `[retention]` says
    Gc {
        /// Keep nothing of the past: no version can be gone back to afterwards
        #[arg(long)]
        all: bool,
        #[arg(long)]
        json: bool,
    },
    /// Go back to what the index held at a version
    Rollback {
        /// `docweir store info` lists them
        #[arg(value_name = "VERSION")]
        to: u64,
    },
    /// Write the passages and their vectors as Parquet files
    Export {
        /// A folder that is empty or not there yet
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// As the index was at this version
        #[arg(long, value_name = "VERSION")]
        as_of: Option<u64>,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  docweir stage extract paper.pdf             the text as markdown, page by page
  docweir stage chunk paper.pdf --json        its chunks
  docweir stage embed doc_20261121_093000_1a2b3c4d")]
pub struct RunStage {
    /// extract, chunk, enrich or embed
    #[arg(value_name = "STAGE")]
    pub stage: Stage,
    /// A file, or the id of a document
    #[arg(value_name = "DOC", value_hint = ValueHint::FilePath)]
    pub document: OsString,
    /// The artefact as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every key with its value and where that comes from
    Print {
        /// Only what is not a default
        #[arg(long)]
        changed: bool,
    },
    /// Say what is wrong with the configuration, if anything
    Check,
}

#[derive(Args, Debug)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

//! Loads typed settings from the defaults, the configuration file, the environment and the arguments. Later sources
//! override earlier ones.
//!
//! Each component declares its options as a plain struct in its own module. This module assembles, reads and checks
//! the options. Every error names the key, the source of the key's value, and the expected value.
//!
//! - [`Settings`] declares the tree of keys, `problems` checks the values, and `layers` merges the sources.
//! - [`mod@reference`] lists every key with its description; [`render`] writes `config.toml` and the reference page.
//! - `common` names the keys of `config.toml`; `retired` names the keys that were renamed or removed.

mod common;
mod doctor;
mod http;
mod layers;
mod problems;
pub mod reference;
pub mod render;
mod retired;
mod settings;
mod trust;

use std::io::Read;
use std::path::{Path, PathBuf};

use docweir_core::files::open_regular;

pub use common::COMMON;
pub use doctor::DoctorOptions;
pub use http::HttpOptions;
pub use layers::{Layers, Origin, Problem, Problems};
pub use settings::*;
pub use trust::Trust;

/// Environment variables of the systems that Docweir replaces. Each is paired with the configuration key that it
/// overrides.
pub const ENVIRONMENT_ALIASES: &[(&str, &str)] = &[
    ("AWS_REGION", "aws.region"),
    ("CHROMADB_BUCKET", "buckets.vectors"),
    ("COMPACTION_QUEUE_URL", "queues.compaction"),
    ("DYNAMODB_CONTROL_TABLE", "dynamodb.control_table"),
    ("DYNAMODB_TABLE_NAME", "records.table.name"),
    ("EMBEDDING_NUM_CPUS", "embed.workers.max"),
    ("EXTRACTION_NUM_CPUS", "extract.workers.max"),
    ("HEARTBEAT_INTERVAL_SECONDS", "lease.heartbeat_seconds"),
    ("S3_BUCKET", "buckets.artefacts"),
    ("SKIP_SQS_NOTIFICATION", "queues.skip_notification"),
];

/// Pairs of configuration keys that concern one secret. The first key contains the name of the secret, but never the
/// secret itself. The second key contains the name of the environment variable that may contain the secret.
pub const SECRET_KEYS: &[(&str, &str)] = &[(API_KEY, "embed.options.openai.api_key_variable")];

/// Holds the settings, and the origin of each value.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    pub layers: Layers,
    /// Configuration file that was read; `None` if there was none.
    pub file: Option<PathBuf>,
    /// True if the file was found in the current folder. False if the user named the file.
    pub found: bool,
}

/// Represents a setting from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Name of the argument as typed, such as `--set` or `-k`.
    pub name: &'static str,
    pub key: String,
    /// Value as typed. The key's type decides how the value is parsed.
    pub value: String,
}

impl Argument {
    pub fn new(name: &'static str, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name, key: key.into(), value: value.into() }
    }
}

/// Selects the configuration file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// File that the user named. Loading fails if it does not exist.
    Named(PathBuf),
    /// Folder that may contain a configuration file: either a `docweir.toml`, or a `config.toml` that is marked as
    /// Docweir's.
    Folder(PathBuf),
    /// No file; only defaults, environment and arguments are used.
    None,
}

impl Config {
    /// Reads, merges and checks all settings.
    ///
    /// # Errors
    /// Returns all mistakes. Each mistake names the key, the source of the key's value, and the expected value.
    pub fn load(
        source: &Source,
        environment: impl IntoIterator<Item = (String, String)>,
        arguments: Vec<Argument>,
    ) -> Result<Self, Problems> {
        let mut layers = Layers::new(&defaults());
        let file = match read(source) {
            Ok(file) => file,
            Err(problem) => return Err(Problems(vec![problem])),
        };
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let found = matches!(source, Source::Folder(_)) && file.is_some();
        if let Some((path, text)) = &file {
            layers.file(path, text);
        }
        layers.environment(environment.iter().cloned(), ENVIRONMENT_ALIASES);
        for Argument { name, key, value } in arguments {
            layers.set_text(&key, &value, Origin::Argument(name));
        }
        for (key, variable) in SECRET_KEYS {
            let name = layers.text(variable).unwrap_or_default().to_owned();
            if environment.iter().any(|(n, value)| *n == name && !value.trim().is_empty()) {
                layers.secret_in_environment(key, name);
            }
        }
        // The environment and arguments are the user's own, so only values that still come from the file are checked.
        if let Some((path, text)) = file.as_ref().filter(|_| found)
            && !Trust::of(&environment).covers(path, text)
        {
            trust::refuse(&mut layers, &Layers::new(&defaults()));
        }
        let settings = typed(&mut layers);
        if let Some(settings) = &settings {
            for (key, text) in settings.problems() {
                layers.problem(layers.origin(&key), &key, text);
            }
        }
        match settings {
            Some(settings) if layers.problems().is_empty() => {
                Ok(Self { settings, layers, file: file.map(|(path, _)| path), found })
            }
            _ => Err(Problems(layers.problems().to_vec())),
        }
    }
}

/// Converts the merged values to settings. A value of the right type can still be invalid: `mode = "fast"` is invalid
/// if `mode` only takes certain words. To find the invalid value, each override is applied alone to the defaults.
fn typed(layers: &mut Layers) -> Option<Settings> {
    let error = match toml::Value::Table(layers.table()).try_into::<Settings>() {
        Ok(settings) => return Some(settings),
        Err(e) => e,
    };
    let mut found = false;
    for key in layers.overrides() {
        let mut alone = Layers::new(&defaults());
        let Some(value) = layers.iter().find(|(k, ..)| *k == key).map(|(_, v, _)| v.clone()) else { continue };
        alone.set(&key, value, Origin::Default);
        if let Err(e) = toml::Value::Table(alone.table()).try_into::<Settings>() {
            layers.problem(layers.origin(&key), &key, format!("is not allowed: {}", e.message()));
            found = true;
        }
    }
    if !found {
        layers.problem(Origin::Default, "", error.message().to_owned());
    }
    None
}

fn defaults() -> toml::Table {
    match toml::Value::try_from(Settings::default()) {
        Ok(toml::Value::Table(table)) => table,
        _ => toml::Table::new(),
    }
}

/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration file. Pipes and devices are refused, because reading one might never end.
fn read_file(path: &Path) -> std::io::Result<String> {
    let file = open_regular(path)?;
    let bytes = file.metadata()?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("the file has {bytes} bytes, more than {MAX_FILE_BYTES}")));
    }
    std::io::read_to_string(file.take(MAX_FILE_BYTES))
}

/// Reads the configuration file that a source names or contains. Returns the text with the path of the file.
pub fn read(source: &Source) -> Result<Option<(PathBuf, String)>, Problem> {
    let problem = |path: &Path, text: String| Problem {
        origin: Origin::File { path: path.to_owned(), line: 1 },
        key: String::new(),
        text,
    };
    match source {
        Source::None => Ok(None),
        Source::Named(path) => match read_file(path) {
            Ok(text) => Ok(Some((path.clone(), text))),
            Err(e) => Err(problem(path, format!("can't read the configuration: {e}"))),
        },
        Source::Folder(folder) => {
            for name in ["docweir.toml", "config.toml"] {
                let path = folder.join(name);
                match read_file(&path) {
                    Ok(text) if name == "config.toml" && !text.lines().any(is_ours) => {}
                    Ok(text) => return Ok(Some((path, text))),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(_) if name == "config.toml" => {}
                    Err(e) => return Err(problem(&path, format!("can't read the configuration: {e}"))),
                }
            }
            Ok(None)
        }
    }
}

/// Returns whether a line marks its `config.toml` as Docweir's. The mark is needed because other programs have a
/// `config.toml` too.
fn is_ours(line: &str) -> bool {
    line.trim_start().starts_with("docweir_config")
}

#[cfg(test)]
mod tests;

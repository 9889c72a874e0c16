//! Typed settings: defaults, then `config.toml`, then the environment, then arguments.
//!
//! A component's options are a plain struct beside the component; here they are put together, read and checked. Every
//! error names the key, where it was set and what would be right; `docweir config print` shows each value's origin.

mod doctor;
mod http;
mod layers;
mod settings;

use std::path::{Path, PathBuf};

pub use doctor::DoctorOptions;
pub use http::HttpOptions;
pub use layers::{Layers, Origin, Problem, Problems};
pub use settings::*;

/// Environment variables of the systems that this one replaces, each an override of one key.
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

/// Keys that name a secret and never hold it, each with the key that says which environment variable may hold it.
pub const SECRET_KEYS: &[(&str, &str)] = &[(API_KEY, "embed.options.openai.api_key_variable")];

/// Settings and where each came from.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    pub layers: Layers,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
}

/// A setting that came with the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// As it was typed: `--set`, `-k`.
    pub name: &'static str,
    pub key: String,
    /// As it was typed; read as the key's type wants it.
    pub value: String,
}

impl Argument {
    pub fn new(name: &'static str, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name, key: key.into(), value: value.into() }
    }
}

/// Which file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Named by the user: it must be there.
    Named(PathBuf),
    /// `docweir.toml`, or a `config.toml` that says it is Docweir's, in this folder; none is fine.
    Folder(PathBuf),
    /// Defaults and environment only.
    None,
}

impl Config {
    /// Reads, merges and checks; or says everything that is wrong.
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
        if let Some((path, text)) = &file {
            layers.file(path, text);
        }
        let environment: Vec<(String, String)> = environment.into_iter().collect();
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
        let settings = typed(&mut layers);
        if let Some(settings) = &settings {
            for (key, text) in settings.problems() {
                layers.problem(layers.origin(&key), &key, text);
            }
        }
        match settings {
            Some(settings) if layers.problems().is_empty() => {
                Ok(Self { settings, layers, file: file.map(|(path, _)| path) })
            }
            _ => Err(Problems(layers.problems().to_vec())),
        }
    }
}

/// Settings out of the merged values. A value of the right type may still be no allowed word (`mode = "fast"`): then
/// each override is tried alone over the defaults to find whose fault it is.
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

fn read(source: &Source) -> Result<Option<(PathBuf, String)>, Problem> {
    let problem = |path: &Path, text: String| Problem {
        origin: Origin::File { path: path.to_owned(), line: 1 },
        key: String::new(),
        text,
    };
    match source {
        Source::None => Ok(None),
        Source::Named(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some((path.clone(), text))),
            Err(e) => Err(problem(path, format!("can't read the configuration: {e}"))),
        },
        Source::Folder(folder) => {
            for name in ["docweir.toml", "config.toml"] {
                let path = folder.join(name);
                match std::fs::read_to_string(&path) {
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

/// Other programs have a `config.toml` too: ours begins with its format's version.
fn is_ours(line: &str) -> bool {
    line.trim_start().starts_with("docweir_config")
}

#[cfg(test)]
mod tests;

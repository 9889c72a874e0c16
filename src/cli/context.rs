//! Provides every command with the shared arguments, the configuration and a runtime.

use std::future::Future;
use std::path::PathBuf;

use super::args::Global;
use super::logging;
use super::output::{Out, print_error};
use crate::config::{Argument, Config, ENVIRONMENT_ALIASES, Source};
use crate::exit::{Exit, Failure};
use crate::supervisors::threads::with_actors;

pub struct Context {
    pub global: Global,
    pub out: Out,
    /// Current folder. Paths are shown relative to this folder.
    pub here: PathBuf,
}

impl Context {
    pub fn new(global: Global) -> Result<Self, Failure> {
        let here = std::env::current_dir().and_then(std::fs::canonicalize);
        let here = here.map_err(|e| Failure::system(format!("cannot use the current folder: {e}")))?;
        Ok(Self { out: Out::new(global.color), here, global })
    }

    /// Loads the configuration from defaults, file, environment and arguments. Then starts the log with the settings
    /// of this configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        self.config_with(Vec::new())
    }

    /// Loads the configuration like [`config`](Self::config), but also applies settings that result from options of
    /// the command. Such a setting takes precedence over `--set`.
    pub fn config_with(&self, more: Vec<Argument>) -> Result<Config, Failure> {
        let (source, environment) = (self.source(), environment()?);
        let mut arguments = Vec::new();
        for text in &self.global.set {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Failure::usage(format!("--set `{text}`: write KEY=VALUE, like `search.top=3`")));
            };
            arguments.push(Argument::new("--set", key.trim(), value.trim()));
        }
        if let Some(folder) = &self.global.state {
            let Some(folder) = folder.to_str() else {
                return Err(Failure::usage("--state: the folder's name must be UTF-8"));
            };
            arguments.push(Argument::new("--state", "state.folder", folder));
        }
        arguments.extend(more);
        let config = Config::load(&source, environment, arguments)?;
        if let Some(file) = config.file.as_ref().filter(|_| config.found) {
            print_error(format!("using the configuration {}", file.display()));
        }
        for warning in config.layers.warnings() {
            print_error(format!("warning: {warning}"));
        }
        restrict_new_files(config.settings.state.group_access);
        logging::start(&config.settings.log, self.global.color)?;
        Ok(config)
    }

    /// Returns the configuration file that `--config` names. Without `--config`, returns the current folder, in which
    /// Docweir looks for a configuration file.
    pub fn source(&self) -> Source {
        match &self.global.config {
            Some(path) => Source::Named(path.clone()),
            None => Source::Folder(PathBuf::new()),
        }
    }

    /// Runs a command with actors ([`with_actors`]). Work that does not finish in time is not recorded as done, so the
    /// next run repeats this work.
    pub fn with_actors<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        with_actors(work).map_err(no_runtime)?
    }

    /// Runs a small command on one thread, without actors.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(no_runtime)?.block_on(work)
    }
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(Exit::System, format!("cannot start the runtime: {error}"))
}

/// Returns all environment variables as text. Variables that are not UTF-8 are left out, unless Docweir reads them.
///
/// # Errors
/// Returns an error if a variable that Docweir reads is not UTF-8. Without this error, the value would be ignored
/// silently.
pub fn environment() -> Result<Vec<(String, String)>, Failure> {
    let unreadable =
        |name: &str| Failure::new(Exit::Configuration, format!("environment variable {name} is not UTF-8; correct it"));
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.push((name, value)),
            (Ok(name), Err(_)) if is_read(&name) => return Err(unreadable(&name)),
            (Err(name), _) if is_read(&name.to_string_lossy()) => return Err(unreadable(&name.to_string_lossy())),
            _ => {}
        }
    }
    Ok(variables)
}

/// Returns whether the configuration reads a variable.
fn is_read(name: &str) -> bool {
    name.starts_with("DOCWEIR__") || ENVIRONMENT_ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// Sets the umask, so that other users have no access to files and folders that this process creates. The user's
/// group has access only if `group_access` is true. This is necessary because state and caches contain text of
/// documents, and other users may not be allowed to read these documents.
fn restrict_new_files(group_access: bool) {
    let others = rustix::fs::Mode::from_raw_mode(if group_access { 0o007 } else { 0o077 });
    rustix::process::umask(others);
}

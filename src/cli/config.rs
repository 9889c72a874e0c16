//! Implements `docweir config`, which prints the effective values with their origins and checks the configuration.

use toml::Value;

use super::args::ConfigCommand;
use super::context::Context;
use super::output::{Out, plural};
use crate::config::{Config, Layers, Origin};
use crate::exit::{Exit, Failure};

pub fn run(context: &Context, command: &ConfigCommand) -> Result<Exit, Failure> {
    let config = context.config()?;
    match command {
        ConfigCommand::Print { changed } => {
            lines(&config.layers, *changed, &context.out).iter().for_each(|line| context.out.line(line));
        }
        ConfigCommand::Check => context.out.line(checked(&config)),
    }
    Ok(Exit::Well)
}

fn checked(config: &Config) -> String {
    let set = plural(config.layers.overrides().len() as u64, "value");
    match &config.file {
        Some(path) => format!("{} is valid: {set} set, the rest are defaults", path.display()),
        None => format!("no configuration file; none is required: {set} set, the rest are defaults"),
    }
}

/// Returns the lines of a config.toml that yields the same settings, each value with its origin.
fn lines(layers: &Layers, changed: bool, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    let mut section = "";
    let shown = layers.iter().filter(|(key, _, origin)| !changed || *key == FORMAT || **origin != Origin::Default);
    // TOML requires this order: each section appears once, and keys without a section come first.
    let place =
        |key: &'_ str| key.rsplit_once('.').map_or((String::new(), key.to_owned()), |(s, n)| (s.into(), n.into()));
    let mut shown: Vec<_> = shown.collect();
    shown.sort_by_cached_key(|(key, ..)| place(key));
    for (key, value, origin) in shown {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        if table != section {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(out.bold(&format!("[{table}]")));
            section = table;
        }
        let origin = match origin {
            Origin::Default => out.dim("# default"),
            other => out.yellow(&format!("# {other}")),
        };
        lines.push(format!("{name} = {}  {origin}", masked(name, value)));
    }
    lines
}

/// Key that marks the file as a Docweir configuration; always printed.
const FORMAT: &str = "docweir_config";

/// Formats a value as TOML and masks secrets.
fn masked(name: &str, value: &Value) -> String {
    const SECRETS: [&str; 5] = ["token", "secret", "password", "api_key", "access_key"];
    let secret = SECRETS.iter().any(|s| name == *s || name.ends_with(&format!("_{s}")));
    match value {
        Value::String(text) if secret && !text.is_empty() => "\"********\"".into(),
        Value::String(text) => Value::String(without_user(text)).to_string(),
        Value::Array(items) => {
            let item = |v: &Value| match v {
                Value::String(text) => Value::String(without_user(text)),
                other => other.clone(),
            };
            Value::Array(items.iter().map(item).collect()).to_string()
        }
        // Prints a single-precision setting as `0.7`, not as the nearest double.
        Value::Float(x) if f64::from(*x as f32) == *x => format!("{:?}", *x as f32),
        other => other.to_string(),
    }
}

/// Masks the user and password of a URL such as `https://user:password@host/…`.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest.get(..host_end).and_then(|host| host.rfind('@')) {
        Some(at) => format!("{scheme}://********{}", rest.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Argument, Source};

    fn printed(changed: bool) -> String {
        let environment = [("DOCWEIR__SEARCH__TOP".to_owned(), "7".to_owned())];
        let config = Config::load(&Source::None, environment, Vec::new()).unwrap();
        lines(&config.layers, changed, &Out { colour: false }).join("\n")
    }

    #[test]
    fn what_is_printed_can_be_read_back_and_means_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        for changed in [false, true] {
            std::fs::write(&path, printed(changed)).unwrap();
            let back = Config::load(&Source::Named(path.clone()), [], Vec::new()).unwrap();
            let mut expected = crate::config::Settings::default();
            expected.search.top = 7;
            assert_eq!(back.settings, expected);
        }
    }

    #[test]
    fn secrets_are_shown_by_where_they_are() {
        let load = |environment: &[(&str, &str)]| {
            let environment: Vec<_> = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let argument = "{ secret = \"openai\", field = \"key\" }";
            let argument = Argument::new("--set", "embed.options.openai.api_key", argument);
            let arguments = if environment.is_empty() { vec![argument] } else { Vec::new() };
            let config = Config::load(&Source::None, environment, arguments).unwrap();
            (lines(&config.layers, true, &Out { colour: false }).join("\n"), config)
        };
        let (text, config) = load(&[]);
        assert!(text.contains("api_key = { secret = \"openai\", field = \"key\" }  # argument --set"), "{text}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Config::load(&Source::Named(path), [], Vec::new()).unwrap().settings, config.settings);
        let (text, _) = load(&[("OPENAI_API_KEY", "sk-do-not-show")]);
        assert!(text.contains("api_key = \"\"  # environment variable OPENAI_API_KEY"), "{text}");
        assert!(!text.contains("do-not-show"), "{text}");
    }

    #[test]
    fn only_changes_with_their_origin() {
        let expected =
            "docweir_config = 1  # default\n\n[search]\ntop = 7  # environment variable DOCWEIR__SEARCH__TOP";
        assert_eq!(printed(true), expected);
    }

    #[test]
    fn secrets_are_masked() {
        let text = |t: &str| Value::String(t.into());
        assert_eq!(masked("api_key", &text("sk-123")), "\"********\"");
        assert_eq!(masked("hub_token", &text("x")), "\"********\"");
        assert_eq!(masked("token", &text("")), "\"\"", "what is not set is shown as such");
        assert_eq!(masked("max_tokens", &Value::Integer(3)), "3");
        assert_eq!(masked("x", &Value::Float(f64::from(0.7f32))), "0.7");
        assert_eq!(masked("x", &Value::Float(0.1)), "0.1");
        assert_eq!(masked("x", &Value::Float(5.0)), "5.0");
        assert_eq!(masked("url", &text("https://me:pw@host/a@b")), "\"https://********@host/a@b\"");
        assert_eq!(masked("url", &text("https://host/a@b")), "\"https://host/a@b\"");
    }
}

//! Implements `docweir config`, which checks the configuration or prints each value with its source.

use toml::Value;

use super::args::ConfigCommand;
use super::context::{Context, environment};
use super::output::{Out, plural};
use crate::config::render::{self, allowed, comment};
use crate::config::{self, COMMON, Config, Layers, Origin, Problems, Trust, reference};
use crate::exit::{Exit, Failure};

/// Selects the keys to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Keys that most people change, and all keys that are set.
    Common,
    /// Keys that are set.
    Changed,
    /// Every key, each with its description.
    All,
}

pub fn run(context: &Context, command: &ConfigCommand) -> Result<Exit, Failure> {
    if let ConfigCommand::Schema = command {
        context.out.line(serde_json::to_string_pretty(&reference::schema()).unwrap_or_default());
        return Ok(Exit::Success);
    }
    if let ConfigCommand::Trust = command {
        return trust(context);
    }
    let config = context.config()?;
    match command {
        ConfigCommand::Print { changed, all } => {
            let shown = match (changed, all) {
                (true, _) => Shown::Changed,
                (_, true) => Shown::All,
                _ => Shown::Common,
            };
            lines(&config.layers, shown, &context.out).iter().for_each(|line| context.out.line(line));
        }
        _ => context.out.line(checked(&config)),
    }
    Ok(Exit::Success)
}

/// Marks the configuration file of the current folder as trusted. Only the present content of the file is trusted;
/// after a change, the file must be trusted again.
fn trust(context: &Context) -> Result<Exit, Failure> {
    let file = config::read(&context.source()).map_err(|problem| Problems(vec![problem]))?;
    let Some((path, text)) = file else {
        return Err(Failure::usage("there is no docweir.toml in this folder"));
    };
    let trusted = Trust::of(&environment()?).add(&path, &text).map_err(Failure::system)?;
    context.out.line(format!("trusted {} as it is now; run this again after a change", trusted.display()));
    Ok(Exit::Success)
}

fn checked(config: &Config) -> String {
    let set = plural(config.layers.overrides().len() as u64, "value");
    let ignored = match config.layers.warnings().len() as u64 {
        0 => String::new(),
        n => format!("; {} to update", plural(n, "outdated key")),
    };
    match &config.file {
        Some(path) => format!("{} is valid: {set} set, all others have their defaults{ignored}", path.display()),
        None => {
            format!("no configuration file found (optional): {set} set, all others have their defaults{ignored}")
        }
    }
}

/// Formats the keys as a valid configuration file, which produces the same settings. The source of each value follows
/// the value.
fn lines(layers: &Layers, shown: Shown, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    for section in reference::sections() {
        let mut head = Some(&section);
        for key in &section.keys {
            let Some((value, origin)) = layers.get(&key.name) else { continue };
            let set = *origin != Origin::Default;
            let is_shown = match shown {
                Shown::All => true,
                Shown::Common => set || COMMON.contains(&key.name.as_str()),
                Shown::Changed => set || key.name == FORMAT,
            };
            if !is_shown {
                continue;
            }
            if let Some(section) = head.take().filter(|section| !section.name.is_empty()) {
                lines.push(String::new());
                if shown == Shown::All {
                    lines.extend(comment(&section.text).lines().map(|line| out.dim(line)));
                }
                lines.push(out.bold(&format!("[{}]", section.name)));
            }
            if shown == Shown::All {
                let text = comment(&format!("{}{}", key.text, allowed(key)));
                lines.extend(text.lines().map(|line| out.dim(line)));
            }
            let origin = match origin {
                Origin::Default => out.dim("# default"),
                other => out.yellow(&format!("# {other}")),
            };
            let (_, name) = key.place();
            lines.push(format!("{name} = {}  {origin}", masked(name, value)));
        }
    }
    if shown == Shown::Common {
        lines.push(String::new());
        lines.push(out.dim("# `docweir config print --all` shows every key with its description."));
    }
    lines
}

/// Name of the key that identifies a file as a Docweir configuration. The key is printed even if it is not set.
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
        other => render::plain(other),
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

    fn printed(shown: Shown) -> String {
        let environment = [("DOCWEIR__SEARCH__TOP".to_owned(), "7".to_owned())];
        let config = Config::load(&Source::None, environment, Vec::new()).unwrap();
        lines(&config.layers, shown, &Out { colour: false }).join("\n")
    }

    #[test]
    fn what_is_printed_can_be_read_back_and_means_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        for shown in [Shown::Common, Shown::Changed, Shown::All] {
            std::fs::write(&path, printed(shown)).unwrap();
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
            (lines(&config.layers, Shown::Changed, &Out { colour: false }).join("\n"), config)
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
        assert_eq!(printed(Shown::Changed), expected);
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

//! Merges defaults, configuration file, environment and arguments. In the result, each key has one value and the
//! origin of this value.
//!
//! The tree of defaults is also the list of known keys. An unknown key is refused, and the error suggests the most
//! similar known key. Every override must have the type of its default. This is checked before serde reads the merged
//! settings, so that the error can name the key and the line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use docweir_providers::secrets::setting;
use toml::Value;
use toml::de::{DeTable, DeValue};

use super::{SECRET_KEYS, retired};

/// Names the origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Argument(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Argument(name) => write!(f, "argument {name}"),
        }
    }
}

/// Describes one mistake or warning in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub key: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.origin, self.text);
        }
        write!(f, "{}: `{}` {}", self.origin, self.key, self.text)
    }
}

/// Lists all mistakes in the configuration, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Maps each dotted key to its value and the origin of that value. Initially, each key has its default.
#[derive(Clone, Debug)]
pub struct Layers {
    values: BTreeMap<String, (Value, Origin)>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Layers {
    pub fn new(defaults: &toml::Table) -> Self {
        let mut values = BTreeMap::new();
        flatten("", defaults, &mut |key, value| {
            values.insert(key, (value.clone(), Origin::Default));
        });
        Self { values, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Overrides the current values with those of a configuration file.
    pub fn file(&mut self, path: &Path, text: &str) {
        let at = |line| Origin::File { path: path.to_owned(), line };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(e) => {
                let line = e.span().map_or(1, |s| line_of(text, s.start));
                self.problem(at(line), "", e.message().to_owned());
                return;
            }
        };
        self.file_table("", table.get_ref(), text, &at);
    }

    fn file_table(&mut self, prefix: &str, table: &DeTable<'_>, text: &str, at: &dyn Fn(usize) -> Origin) {
        for (name, value) in table.iter() {
            let key = join(prefix, name.get_ref());
            let origin = at(line_of(text, name.span().start));
            match value.get_ref() {
                DeValue::Table(inner) if !self.values.contains_key(&key) => {
                    if self.is_section(&key) || retired::had_section(&key) {
                        self.file_table(&key, inner, text, at);
                    } else {
                        self.unknown(origin, &key, "section");
                    }
                }
                other => match to_value(other) {
                    Ok(value) => self.set(&key, value, origin),
                    Err(reason) => self.problem(origin, &key, reason),
                },
            }
        }
    }

    /// Overrides the current values with all environment variables of the form `DOCWEIR__SECTION__KEY`, and with all
    /// variables that are aliases. Each value is parsed as in [`Self::set_text`].
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>, aliases: &[(&str, &str)]) {
        for (name, value) in variables {
            let key = match name.strip_prefix("DOCWEIR__") {
                Some(rest) => rest.to_lowercase().replace("__", "."),
                None => match aliases.iter().find(|(alias, _)| *alias == name) {
                    Some((_, key)) => (*key).to_owned(),
                    None => continue,
                },
            };
            self.set_text(&key, &value, Origin::Environment(name));
        }
    }

    /// Sets one key from text. If the key takes text, the text becomes the value unchanged. For all other keys, the
    /// text is parsed as TOML. A boolean may also be written as `1`, `yes` or `on`, in any capitalisation, because
    /// environment variables often contain such words.
    pub fn set_text(&mut self, key: &str, value: &str, origin: Origin) {
        let key = self.current_name(key, &origin);
        let is_table = SECRET_KEYS.iter().any(|(secret, _)| *secret == key) && value.starts_with('{');
        let parsed = match self.values.get(key) {
            Some((Value::String(_), _)) if !is_table => None,
            Some((Value::Boolean(_), _)) => yes_or_no(value).map(Value::Boolean).or_else(|| parse_scalar(value)),
            _ => parse_scalar(value),
        };
        self.set(key, parsed.unwrap_or_else(|| Value::String(value.to_owned())), origin);
    }

    /// Records that an environment variable holds a secret. This variable takes precedence if the configuration file
    /// names a secret, but not if an argument names one. The secret itself is never stored here.
    pub fn secret_in_environment(&mut self, key: &str, variable: String) {
        if let Some((value, origin)) = self.values.get_mut(key).filter(|(_, o)| !matches!(o, Origin::Argument(_))) {
            (*value, *origin) = (Value::String(String::new()), Origin::Environment(variable));
        }
    }

    /// Returns the value of a key, if the value is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|(value, _)| value.as_str())
    }

    /// Sets one key. Records a problem if the key is unknown or the value has the wrong type. Records a warning if
    /// the key was renamed or removed.
    pub fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let key = self.current_name(key, &origin);
        if let Some(advice) = retired::retired(key) {
            return self.warn(origin, key, format!("is no longer a setting and is ignored: {advice}"));
        }
        let Some((known, _)) = self.values.get(key) else {
            match self.first_below(key).map(str::to_owned) {
                Some(below) => self.problem(origin, key, format!("is a section; set one of its keys, e.g. `{below}`")),
                None => self.unknown(origin, key, "key"),
            }
            return;
        };
        let fitting = match SECRET_KEYS.iter().any(|(secret, _)| *secret == key) {
            true => setting::check(value),
            false => fit(known, value),
        };
        match fitting {
            Ok(value) => {
                self.values.insert(key.to_owned(), (value, origin));
            }
            Err(reason) => self.problem(origin, key, reason),
        }
    }

    /// Returns the value of a key, and the origin of the value.
    pub fn get(&self, key: &str) -> Option<(&Value, &Origin)> {
        self.values.get(key).map(|(value, origin)| (value, origin))
    }

    pub fn origin(&self, key: &str) -> Origin {
        self.values.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    pub fn problem(&mut self, origin: Origin, key: &str, text: String) {
        self.problems.push(Problem { origin, key: key.to_owned(), text });
    }

    /// Returns the current name of a key. Records a warning if the key was renamed.
    fn current_name<'k>(&mut self, key: &'k str, origin: &Origin) -> &'k str {
        let Some(new) = retired::moved(key) else { return key };
        self.warn(origin.clone(), key, format!("was renamed; use `{new}` instead"));
        new
    }

    fn warn(&mut self, origin: Origin, key: &str, text: String) {
        self.warnings.push(Problem { origin, key: key.to_owned(), text });
    }

    /// Returns the warnings about renamed and removed keys that are still set.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Iterates over all keys in alphabetical order, with their values and origins.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value, &Origin)> {
        self.values.iter().map(|(key, (value, origin))| (key.as_str(), value, origin))
    }

    /// Returns all values as one nested table.
    pub fn table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        for (key, (value, _)) in &self.values {
            insert(&mut table, key, value.clone());
        }
        table
    }

    /// Returns all keys that a file, an environment variable or an argument has set.
    pub fn overrides(&self) -> Vec<String> {
        self.values.iter().filter(|(_, (_, o))| *o != Origin::Default).map(|(k, _)| k.clone()).collect()
    }

    fn is_section(&self, key: &str) -> bool {
        self.first_below(key).is_some()
    }

    fn first_below(&self, section: &str) -> Option<&str> {
        let prefix = format!("{section}.");
        let (first, _) = self.values.range(prefix.clone()..).next()?;
        first.starts_with(&prefix).then_some(first)
    }

    fn unknown(&mut self, origin: Origin, key: &str, what: &str) {
        let sections = self.values.keys().filter_map(|k| k.rsplit_once('.').map(|(s, _)| s.to_owned()));
        let candidates = self.values.keys().cloned().chain(sections);
        let nearest = candidates
            .map(|k| (strsim::damerau_levenshtein(&k, key), k))
            .min()
            .filter(|(distance, _)| *distance <= key.len().max(6) / 2);
        let hint = match nearest {
            Some((_, nearest)) => format!("did you mean `{nearest}`?"),
            None => "`docweir config print --all` lists all known keys".into(),
        };
        self.problem(origin, key, format!("is not a known {what}; {hint}"));
    }
}

fn flatten(prefix: &str, table: &toml::Table, each: &mut impl FnMut(String, &Value)) {
    for (name, value) in table {
        let key = join(prefix, name);
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, each),
            leaf => each(key, leaf),
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn insert(table: &mut toml::Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = table.entry(section.to_owned()).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn parse_scalar(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("v = {text}")).ok()?;
    table.into_iter().next().map(|(_, v)| v)
}

fn to_value(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(s) => Value::String(s.to_string()),
        DeValue::Integer(i) => {
            let digits = i.as_str();
            Value::Integer(i64::from_str_radix(digits, i.radix()).map_err(|_| format!("is too large: {digits}"))?)
        }
        DeValue::Float(x) => Value::Float(x.as_str().parse().map_err(|_| format!("is not a number: {}", x.as_str()))?),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(d) => Value::Datetime(*d),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_value(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(k, v)| Ok((k.get_ref().to_string(), to_value(v.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

/// Converts a value to the type of the default. If that is impossible, returns an error that names the expected type.
/// An integer is accepted where a decimal number is expected, and a string where a list is expected.
fn fit(default: &Value, value: Value) -> Result<Value, String> {
    match (default, value) {
        (Value::Float(_), Value::Integer(i)) => Ok(Value::Float(i as f64)),
        (Value::Array(_), Value::String(one)) => Ok(Value::Array(vec![Value::String(one)])),
        (d, v) if d.same_type(&v) => Ok(v),
        (d, v) => Err(format!("must be {}, not {} (for example `{d}`)", article(d.type_str()), article(v.type_str()))),
    }
}

fn article(kind: &str) -> String {
    let n = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "n" } else { "" };
    format!("a{n} {kind}")
}

//! Renders the files that describe the configuration to people: `config.toml` and `docs/configuration.md`.

use toml::Value;

use super::common::{COMMON, INTRODUCTIONS};
use super::reference::{Key, Section, sections};
use super::retired::{MOVED, RETIRED};

/// Maximum length of a line in a rendered file, in characters.
const WIDTH: usize = 118;

const CONFIG_HEADER: &str = "\
This file contains the settings of Docweir that most people change, each with its default. To change \
settings, edit this file, or copy lines into a docweir.toml next to your documents. docs/configuration.md and \
`docweir config print --all` list all keys.

An environment variable overrides a key of the file: `search.top` is DOCWEIR__SEARCH__TOP. An argument overrides both: \
`--set search.top=3`. `docweir config check` reports mistakes with their line.

This file is generated from the code: edit the comments of the option types, then run \
`DOCWEIR_TEST_WRITE=1 scripts/test --lib config`.";

/// Renders `config.toml`: the common keys with their defaults.
pub fn config_toml() -> String {
    let all = sections();
    let keys: Vec<&Key> = all.iter().flat_map(|section| &section.keys).collect();
    let mut out = comment(CONFIG_HEADER);
    let mut section = "";
    for name in COMMON {
        let Some(key) = keys.iter().find(|key| key.name == *name) else { continue };
        let (table, field) = common_place(&key.name);
        out.push('\n');
        if table != section {
            if let Some((_, text)) = INTRODUCTIONS.iter().find(|(name, _)| *name == table) {
                out.push_str(&comment(text));
            }
            out.push_str(&format!("[{table}]\n"));
            section = table;
        }
        out.push_str(&comment(&key.text));
        out.push_str(&format!("{field} = {}\n", pretty(&key.name, &key.default)));
    }
    out
}

/// Splits a key's full name into two names: the name of its table in `config.toml`, and the name of the key within
/// the table. `a.b.c` gives `a` and `b.c`. Each stage and part of Docweir has one table.
fn common_place(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or(("", name))
}

/// Renders `docs/configuration.md`. The page lists every key, and also the keys that were renamed or removed.
pub fn configuration_md() -> String {
    let mut out = String::from(
        "# Configuration reference\n\n\
         This page lists every key with its default and its meaning. It is generated from the code. The command\n\
         `docweir config print --all` also prints the current value of each key and the origin of that value.\n\
         [config.toml](../config.toml) contains only the keys that most people change.\n\n\
         Docweir reads `docweir.toml` in the working folder, or a `config.toml` that begins with `docweir_config = 1`, or the\n\
         file named by `--config`. The environment variable `DOCWEIR__SECTION__KEY` overrides the file, and `--set KEY=VALUE`\n\
         overrides both. `docweir config schema` prints a JSON schema for editors.\n\n\
         A file that was found in the working folder may set keys that decide where data, keys or downloads go only after\n\
         `docweir config trust`; see [security.md](security.md). A file named by `--config` needs no trust.\n",
    );
    for section in sections() {
        out.push_str(&markdown(&section));
    }
    out.push_str(
        "\n## Keys that no longer exist\n\n\
         A configuration that still sets one of these keys works. Docweir warns and names the replacement.\n\n\
         | key | replacement |\n| --- | --- |\n",
    );
    for (old, new) in MOVED {
        out.push_str(&format!("| `{old}` | renamed to `{new}`; the old name is still read |\n"));
    }
    for (key, advice) in RETIRED {
        out.push_str(&format!("| `{key}` | {advice} |\n"));
    }
    out
}

fn markdown(section: &Section) -> String {
    let mut out = match section.name.as_str() {
        "" => "\n## Outside all sections\n".to_owned(),
        name => format!("\n## `[{name}]`\n"),
    };
    if !section.text.is_empty() {
        out.push_str(&format!("\n{}\n", section.text));
    }
    out.push_str("\n| key | default | meaning |\n| --- | --- | --- |\n");
    for key in &section.keys {
        let (_, field) = key.place();
        let value = readable(&key.default);
        let size = size(&key.name, &key.default).map_or_else(String::new, |size| format!(" ({size})"));
        out.push_str(&format!("| `{field}` | `{value}`{size} | {}{} |\n", key.text, allowed(key)));
    }
    out.replace("| `` |", "| |")
}

/// Lists the allowed words of a key, unless the key's description already names all these words.
pub fn allowed(key: &Key) -> String {
    let is_named = |word: &String| [format!("`{word}`"), format!("`\"{word}\"`")].iter().any(|w| key.text.contains(w));
    if key.choices.iter().all(is_named) {
        return String::new();
    }
    let words: Vec<_> = key.choices.iter().map(|word| format!("`{word}`")).collect();
    format!(" One of {}.", words.join(", "))
}

/// Formats `text` as comment lines of limited length. Empty lines separate paragraphs.
pub fn comment(text: &str) -> String {
    let mut out = String::new();
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            out.push_str("#\n");
        }
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
                out.push_str(&line);
                out.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        if line.len() > 1 {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

/// Renders the value of a key as TOML. If the value is a number of bytes, a comment gives the size in words.
pub fn pretty(key: &str, value: &Value) -> String {
    size(key, value).map_or_else(|| readable(value), |size| format!("{}  # {size}", readable(value)))
}

/// Renders a value as TOML. Numbers of five digits or more have their digits in groups of three.
fn readable(value: &Value) -> String {
    match value {
        Value::Integer(n) if n.unsigned_abs() >= 10_000 => group_digits(&n.to_string(), '_'),
        other => plain(other),
    }
}

/// Renders a value as TOML. A single-precision number is written with its own short digits, such as `0.7`, and not
/// with the digits of the nearest double-precision number.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Float(x) if f64::from(*x as f32) == *x => format!("{:?}", *x as f32),
        other => other.to_string(),
    }
}

/// Separates the digits of a whole number into groups of three.
pub fn group_digits(number: &str, separator: char) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

/// Renders the size that a key sets in words, if the key counts bytes and the size is a whole number of mebibytes or
/// gibibytes.
fn size(key: &str, value: &Value) -> Option<String> {
    const MEBI: i64 = 1 << 20;
    const GIBI: i64 = 1 << 30;
    match value.as_integer().filter(|_| key.ends_with("_bytes"))? {
        n if n >= GIBI && n % GIBI == 0 => Some(format!("{} GiB", n / GIBI)),
        n if n >= MEBI && n % MEBI == 0 => Some(format!("{} MiB", n / MEBI)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_for_people_and_read_back() {
        let table = [
            ("x_bytes", Value::Integer(1 << 30), "1_073_741_824  # 1 GiB"),
            ("x_bytes", Value::Integer(4_194_304), "4_194_304  # 4 MiB"),
            ("x_bytes", Value::Integer(4_950), "4950"),
            ("x", Value::Integer(-12_345), "-12_345"),
            ("x", Value::Integer(123_456), "123_456"),
            ("x", Value::Float(f64::from(0.7f32)), "0.7"),
            ("x", Value::String("a\"b".into()), "'a\"b'"),
        ];
        for (key, value, expected) in table {
            let text = pretty(key, &value);
            assert_eq!(text, expected);
            let back: toml::Table = toml::from_str(&format!("v = {text}")).unwrap();
            assert!(back["v"] == value || matches!(value, Value::Float(_)), "{text}");
        }
    }

    #[test]
    fn comments_are_wrapped_at_the_width() {
        let long = "word ".repeat(60);
        let text = comment(&format!("{long}\n\nlast"));
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with('#')), "{text}");
        assert!(text.ends_with("#\n# last\n"), "{text}");
    }
}

//! Reads the front matter of a Markdown file: fields in YAML, TOML or JSON before the text.
//!
//! Every field becomes metadata of the document, for filters. The fields are also written as lines `name: value` into
//! the text of the page, for searches. The usual names (`title`, `author`, `date`, `tags`) fill the document information.
//! Front matter that can't be read is no error of the document: the text as it was written becomes a paragraph, and a
//! note names the line. Fields beyond the limits are left out of the metadata, with a note.

mod toml;
mod values;
mod yaml;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use docweir_core::model::{DocumentInfo, RESERVED_METADATA};

use self::values::{Budget, MAX_BYTES, text_of};

/// Holds the front matter of a document. Without front matter, all parts are empty.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FrontMatter {
    /// Position in the file's text at which the front matter ends.
    pub end: usize,
    /// Text that takes the place of the front matter.
    pub text: String,
    pub info: DocumentInfo,
    pub notes: Vec<String>,
}

/// Language of front matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Yaml,
    Toml,
    Json,
}

/// Locates front matter in a text.
struct Found<'t> {
    language: Language,
    source: &'t str,
    /// Number of lines before `source`.
    lines_before: usize,
    end: usize,
}

/// Reason why front matter could not be read.
#[derive(Debug, PartialEq)]
enum Problem {
    /// The front matter is invalid in this line, counted from 1.
    Line(usize),
    /// The text is valid, but has no fields. In YAML, it may be any paragraph.
    NoFields,
}

/// Reads the front matter at the beginning of a text. Returns `None` if there is none.
pub(super) fn read(text: &str) -> Option<FrontMatter> {
    let found = find(text)?;
    let mut budget = Budget::default();
    let fields = match found.language {
        _ if found.source.len() > MAX_BYTES => return unread(&found, &format!("is larger than {MAX_BYTES} bytes")),
        Language::Yaml => yaml::fields(found.source, &mut budget),
        Language::Toml => toml::fields(found.source, &mut budget),
        Language::Json => json(found.source, &mut budget),
    };
    match fields {
        Ok(fields) => Some(known(fields, &budget, found.end)),
        Err(Problem::NoFields) => None,
        Err(Problem::Line(line)) => {
            let name = match found.language {
                Language::Yaml => "YAML",
                Language::Toml => "TOML",
                Language::Json => "JSON",
            };
            unread(&found, &format!("is not valid {name} (line {})", found.lines_before + line))
        }
    }
}

/// Finds the marks around the front matter.
fn find(text: &str) -> Option<Found<'_>> {
    let first = text.lines().next()?;
    if first.starts_with('{') {
        return find_object(text);
    }
    let (language, ends): (_, &[&str]) = match first.trim_end() {
        "---" | "---yaml" | "---yml" => (Language::Yaml, &["---", "..."]),
        "---toml" => (Language::Toml, &["---"]),
        "---json" => (Language::Json, &["---"]),
        "+++" => (Language::Toml, &["+++"]),
        ";;;" => (Language::Json, &[";;;"]),
        _ => return None,
    };
    let start = first.len() + 1;
    let mut at = start;
    for line in text.get(start..)?.split_inclusive('\n') {
        if ends.contains(&line.trim_end()) {
            return Some(Found { language, source: text.get(start..at)?, lines_before: 1, end: at + line.len() });
        }
        at += line.len();
    }
    None
}

/// Finds a JSON object that begins the text without marks. Its end is where the object ends, followed by a line end.
fn find_object(text: &str) -> Option<Found<'_>> {
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let end = match objects.next()? {
        Ok(_) => objects.byte_offset(),
        // Text in braces is usually no front matter, so it is judged by the beginning of its first field.
        Err(_) if !text.get(1..)?.trim_start().starts_with('"') => return None,
        Err(_) => text.find("\n}").map_or(text.find("\n\n").unwrap_or(text.len()), |brace| brace + 2),
    };
    let rest = text.get(end..)?;
    let line = rest.split_inclusive('\n').next().unwrap_or_default();
    let source = text.get(..end)?;
    line.trim().is_empty().then_some(Found { language: Language::Json, source, lines_before: 0, end: end + line.len() })
}

/// Reads JSON with the reader of YAML, of which JSON is a part, so that numbers keep their spelling.
fn json(source: &str, budget: &mut Budget) -> Result<Map<String, Value>, Problem> {
    if source.trim().is_empty() {
        return Ok(Map::new());
    }
    let checked: Result<IgnoredAny, _> = serde_json::from_str(source);
    checked.map_err(|e| Problem::Line(e.line()))?;
    let fields = yaml::fields(source, budget).or_else(|_| {
        *budget = Budget::default();
        let value = serde_json::from_str(source).map_err(|e| Problem::Line(e.line()))?;
        match budget.within(value, 0) {
            Some(Value::Object(fields)) => Ok(fields),
            _ => Err(Problem::NoFields),
        }
    });
    // Between marks for JSON, anything but an object is a mistake.
    fields.map_err(|_| Problem::Line(1))
}

/// Returns front matter that stays in the text as it was written.
fn unread(found: &Found<'_>, why: &str) -> Option<FrontMatter> {
    let looks_like_fields = match found.language {
        Language::Yaml => {
            let first = found.source.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#'))?;
            first.split_once(':').is_some_and(|(name, rest)| {
                (rest.is_empty() || rest.starts_with([' ', '\t'])) && !name.trim().is_empty() && name.len() <= 64
            })
        }
        Language::Toml | Language::Json => true,
    };
    let note = format!("front matter {why}: it was kept as text, and its fields are not metadata");
    let text = found.source.trim().to_owned();
    let info = DocumentInfo { title: title_line(found.source), ..Default::default() };
    let front = FrontMatter { end: found.end, text, info, notes: vec![note] };
    looks_like_fields.then_some(front)
}

/// Returns the title of YAML that can't be read. A colon in a title without quotes is the most frequent mistake.
fn title_line(source: &str) -> Option<String> {
    let value = source.lines().find_map(|line| line.strip_prefix("title:"))?.trim();
    let unquoted = ['"', '\''].iter().find_map(|&q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value);
    let plain = !unquoted.starts_with(['>', '|', '&', '*', '[', '{', '!', '"', '\'']);
    (plain && !unquoted.is_empty()).then(|| unquoted.to_owned())
}

/// Returns front matter whose fields are known.
fn known(mut fields: Map<String, Value>, budget: &Budget, end: usize) -> FrontMatter {
    let mut notes = Vec::new();
    let lines = lines_of(&fields);
    for name in RESERVED_METADATA {
        if fields.remove(*name).is_some() {
            notes
                .push(format!("front matter field `{name}` is not metadata: docweir sets a value of this name itself"));
        }
    }
    notes.extend(budget.note());
    let text = |names: &[&str]| {
        let mut found = names.iter().filter_map(|name| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.find_map(|(_, value)| text_of(value))
    };
    let info = DocumentInfo {
        title: text(&["title"]),
        author: text(&["author", "authors"]),
        subject: text(&["subject", "description", "summary"]),
        keywords: text(&["keywords", "tags"]),
        created: text(&["date", "created"]),
        modified: text(&["modified", "updated", "lastmod", "last_modified"]),
        ..DocumentInfo::default()
    };
    FrontMatter { end, text: lines, info: DocumentInfo { fields, ..info }, notes }
}

/// Writes the fields as text: the title alone, then one line for each field.
fn lines_of(fields: &Map<String, Value>) -> String {
    let is_title = |name: &str| name.eq_ignore_ascii_case("title");
    let mut lines: Vec<String> = Vec::new();
    lines.extend(fields.iter().filter(|(name, _)| is_title(name)).find_map(|(_, value)| text_of(value)));
    let titled = !lines.is_empty();
    for (name, value) in fields {
        if !(titled && is_title(name)) {
            add_lines(&mut lines, &values::one_line(name), value);
        }
    }
    lines.join("\n")
}

/// Adds the lines of one field. The fields of a nested table have the path of the table before their names.
fn add_lines(lines: &mut Vec<String>, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                add_lines(lines, &format!("{path}.{}", values::one_line(name)), value);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().for_each(|item| add_lines(lines, path, item));
        }
        value => lines.extend(text_of(value).map(|text| format!("{path}: {text}"))),
    }
}

#[cfg(test)]
mod tests;

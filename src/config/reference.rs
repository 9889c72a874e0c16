//! Lists every key with its description, default and allowed words. The option types declare the keys and all these
//! properties.
//!
//! The doc comments of the option types are the only source of the descriptions. `schemars` converts the comments to
//! a JSON schema at compile time. `config.toml`, `docs/configuration.md` and the output of `docweir config print` are
//! rendered from that schema.

use serde_json::Value as Json;
use toml::Value;

use super::{Settings, defaults};

/// Describes one key of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Full name of the key, such as `embed.options.provider`.
    pub name: String,
    /// Description of the key, as one paragraph.
    pub text: String,
    pub default: Value,
    /// Words that the key takes as its value. Empty if the key takes other values.
    pub choices: Vec<String>,
}

impl Key {
    /// Splits the key's full name at the last dot into its section and its short name. `a.b.c` gives `a.b` and `c`.
    /// The section is empty if the name contains no dot.
    pub fn place(&self) -> (&str, &str) {
        self.name.rsplit_once('.').unwrap_or(("", &self.name))
    }
}

/// Describes one section and the keys directly in this section. Keys of subsections are not included.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Full name of the section, such as `embed.options`. Empty for the group of keys that belong to no section.
    pub name: String,
    /// Description of the section, as one paragraph.
    pub text: String,
    pub keys: Vec<Key>,
}

/// Returns the JSON schema of the configuration. Editors use the schema to complete and check TOML files.
pub fn schema() -> Json {
    schemars::schema_for!(Settings).to_value()
}

/// Returns all sections that have keys, in the order in which the option types declare them.
pub fn sections() -> Vec<Section> {
    let schema = schema();
    let mut sections = Vec::new();
    let root = Section { name: String::new(), text: String::new(), keys: Vec::new() };
    walk(&schema, &schema, root, &defaults(), &mut sections);
    sections.retain(|section| !section.keys.is_empty());
    sections
}

/// Appends `section` with its own keys to `out`, followed by all subsections of `section`.
fn walk(schema: &Json, node: &Json, mut section: Section, table: &toml::Table, out: &mut Vec<Section>) {
    let mut below = Vec::new();
    for (field, value) in table {
        let name = if section.name.is_empty() { field.clone() } else { format!("{}.{field}", section.name) };
        let property = node.pointer(&format!("/properties/{field}")).unwrap_or(&Json::Null);
        let target = resolve(schema, property);
        let text = description(property).or_else(|| description(target)).unwrap_or_default();
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                below.push((target, Section { name, text, keys: Vec::new() }, inner));
            }
            leaf => section.keys.push(Key { name, text, default: leaf.clone(), choices: choices(target) }),
        }
    }
    out.push(section);
    for (target, section, inner) in below {
        walk(schema, target, section, inner, out);
    }
}

/// Follows a reference: if `node` is a `$ref`, returns the definition that it refers to. Returns any other node
/// unchanged.
fn resolve<'s>(schema: &'s Json, node: &'s Json) -> &'s Json {
    let Some(reference) = node["$ref"].as_str() else { return node };
    reference.strip_prefix('#').and_then(|pointer| schema.pointer(pointer)).unwrap_or(node)
}

/// Returns the description of a node, joined into one line.
fn description(node: &Json) -> Option<String> {
    let text = node["description"].as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn choices(node: &Json) -> Vec<String> {
    let words = |node: &Json| -> Vec<String> {
        let listed = node["enum"].as_array().into_iter().flatten();
        listed.chain(node.get("const")).filter_map(|word| Some(word.as_str()?.to_owned())).collect()
    };
    match node["oneOf"].as_array() {
        Some(variants) => variants.iter().flat_map(words).collect(),
        None => words(node),
    }
}

//! Lists every key with its description, default and allowed words, as the option types declare them.
//!
//! The doc comments of the option types are the only source of these descriptions. `schemars` turns the comments into a
//! JSON schema at compile time. `config.toml`, `docs/configuration.md` and `docweir config print` are rendered from it.

use serde_json::Value as Json;
use toml::Value;

use super::{Settings, defaults};

/// Describes one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Full name, such as `embed.options.provider`.
    pub name: String,
    /// Description, as one paragraph.
    pub text: String,
    pub default: Value,
    /// Allowed words, if the key takes one of a fixed set.
    pub choices: Vec<String>,
}

impl Key {
    /// Splits the name into its section and the rest. Keys outside all sections have an empty section.
    pub fn place(&self) -> (&str, &str) {
        self.name.rsplit_once('.').unwrap_or(("", &self.name))
    }
}

/// Describes one section and its own keys, without those of the sections below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Full name, such as `embed.options`. Empty for the keys outside all sections.
    pub name: String,
    /// Description, as one paragraph.
    pub text: String,
    pub keys: Vec<Key>,
}

/// Returns the JSON schema of the configuration, for editors that complete and check TOML files.
pub fn schema() -> Json {
    schemars::schema_for!(Settings).to_value()
}

/// Returns all sections that have keys, in the order in which the types declare them.
pub fn sections() -> Vec<Section> {
    let schema = schema();
    let mut sections = Vec::new();
    let root = Section { name: String::new(), text: String::new(), keys: Vec::new() };
    walk(&schema, &schema, root, &defaults(), &mut sections);
    sections.retain(|section| !section.keys.is_empty());
    sections
}

/// Adds `section` with its keys, and then the sections below it.
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

/// Follows the reference of a node to the definition of its type.
fn resolve<'s>(schema: &'s Json, node: &'s Json) -> &'s Json {
    let Some(reference) = node["$ref"].as_str() else { return node };
    reference.strip_prefix('#').and_then(|pointer| schema.pointer(pointer)).unwrap_or(node)
}

/// Joins the lines of a description.
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

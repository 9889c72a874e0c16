//! Reads front matter in YAML from the parser's events.
//!
//! Events tell a plain word from a quoted one, and keep its spelling. Deserialisation would not: it reads `02134` as a
//! number. An alias copies its value within the limits of the [`Budget`], so that a few lines cannot grow without end.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag, options};
use serde_json::{Map, Value};

use super::Problem;
use super::values::{Budget, MAX_DEPTH, plain};

/// Name that merges another table into a table.
const MERGE: &str = "<<";

/// Returns the fields of a YAML document that is a table.
pub(super) fn fields(source: &str, budget: &mut Budget) -> Result<Map<String, Value>, Problem> {
    let mut builder = Builder { budget, open: Vec::new(), anchors: HashMap::new(), root: None };
    let options = options! { flow_nesting_limit: 128, block_nesting_limit: 128 };
    for event in Parser::new_from_str_with_options(source, options) {
        let (event, _) = event.map_err(|e| Problem::Line(e.marker().line()))?;
        builder.event(event);
    }
    match builder.root {
        Some(Value::Object(fields)) => Ok(fields),
        None if source.lines().all(|l| l.trim().is_empty() || l.starts_with('#')) => Ok(Map::new()),
        _ => Err(Problem::NoFields),
    }
}

/// Holds a list or a table whose end has not been read yet.
struct Open {
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Table {
        fields: Map<String, Value>,
        merged: Map<String, Value>,
        /// Name whose value comes next.
        name: Name,
    },
    /// List or table that is nested too deeply, or beyond the budget.
    LeftOut,
}

enum Name {
    /// A name comes next.
    Expected,
    Known(String),
    /// The name is no text, so the value that comes next is left out.
    Unusable,
}

struct Builder<'b> {
    budget: &'b mut Budget,
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    root: Option<Value>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let name = self.expects_name();
                let value = if name { Some(Value::from(&*text)) } else { scalar(&text, style, tag.as_deref()) };
                let size = value.as_ref().and_then(Value::as_str).map_or(0, str::len);
                // Base64 is of no use to a filter or a search.
                let binary = tag.is_some_and(|tag| tag.suffix() == "binary");
                if binary {
                    self.budget.leave_out();
                }
                let value = value.filter(|_| !binary && (name || self.budget.take(size)));
                self.complete(value, anchor);
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let fits = known.is_none_or(|value| copy_fits(value, self.budget));
                let value = known.filter(|_| fits).cloned();
                self.complete(value, 0);
            }
            Event::SequenceStart(_, anchor, _) => self.begin(anchor, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let (fields, merged) = (Map::new(), Map::new());
                self.begin(anchor, Content::Table { fields, merged, name: Name::Expected });
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => {}
        }
    }

    /// Returns whether the next value is the name of a field.
    fn expects_name(&self) -> bool {
        self.open.last().is_some_and(|o| matches!(o.content, Content::Table { name: Name::Expected, .. }))
    }

    fn begin(&mut self, anchor: usize, content: Content) {
        let outside = self.open.last().is_some_and(|o| matches!(o.content, Content::LeftOut));
        let deep = self.open.len() >= MAX_DEPTH;
        if deep && !outside {
            self.budget.leave_out();
        }
        let fits = !outside && !deep && self.budget.take(0);
        self.open.push(Open { anchor, content: if fits { content } else { Content::LeftOut } });
    }

    fn end(&mut self) {
        let Some(Open { anchor, content }) = self.open.pop() else { return };
        let value = match content {
            Content::List(items) => Some(Value::Array(items)),
            Content::Table { mut fields, merged, .. } => {
                for (name, value) in merged {
                    fields.entry(name).or_insert(value);
                }
                Some(Value::Object(fields))
            }
            Content::LeftOut => None,
        };
        self.complete(value, anchor);
    }

    /// Adds a complete value to the list or table around it. A value that is left out is `None`, as is a null.
    fn complete(&mut self, value: Option<Value>, anchor: usize) {
        if let Some(value) = value.as_ref().filter(|_| anchor > 0) {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|o| &mut o.content) {
            None => self.root = self.root.take().or(value),
            Some(Content::LeftOut) => {}
            Some(Content::List(items)) => items.extend(value),
            Some(Content::Table { fields, merged, name }) => match (std::mem::replace(name, Name::Expected), value) {
                (Name::Expected, Some(Value::String(text))) if !text.trim().is_empty() => {
                    let fits = text == MERGE || self.budget.take(text.len());
                    *name = if fits { Name::Known(text) } else { Name::Unusable };
                }
                (Name::Expected, _) => {
                    self.budget.leave_out();
                    *name = Name::Unusable;
                }
                (Name::Known(text), Some(value)) if text == MERGE => merge(merged, value),
                (Name::Known(text), Some(value)) => drop(fields.insert(text, value)),
                _ => {}
            },
        }
    }
}

/// Takes the size of a value from the budget, and returns whether all of it fits.
fn copy_fits(value: &Value, budget: &mut Budget) -> bool {
    match value {
        Value::Array(items) => budget.take(0) && items.iter().all(|item| copy_fits(item, budget)),
        Value::Object(fields) => {
            budget.take(0) && fields.iter().all(|(name, value)| budget.take(name.len()) && copy_fits(value, budget))
        }
        value => budget.take(value.as_str().map_or(0, str::len)),
    }
}

/// Adds the fields of one table, or of several tables in a list. Fields that are already known stay.
fn merge(merged: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                merged.entry(name).or_insert(value);
            }
        }
        Value::Array(tables) => tables.into_iter().filter(Value::is_object).for_each(|table| merge(merged, table)),
        _ => {}
    }
}

/// Returns the value of a scalar, or `None` for a null. Quoted words and words with a tag are text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Value> {
    if style != ScalarStyle::Plain || tag.is_some() {
        return Some(Value::from(text.strip_suffix('\n').unwrap_or(text)));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => None,
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        word => Some(plain(word)),
    }
}

//! Reads front matter in TOML. Numbers, dates and times keep their spelling.

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use super::values::{Budget, MAX_DEPTH, plain};

/// Returns the fields of a TOML document.
pub(super) fn fields(source: &str, budget: &mut Budget) -> Result<Map<String, Value>, Problem> {
    let table = DeTable::parse(source).map_err(|error| {
        let before = error.span().and_then(|span| source.get(..span.start)).unwrap_or_default();
        Problem::Line(1 + before.matches('\n').count())
    })?;
    Ok(table_of(table.get_ref(), source, budget, 1))
}

fn table_of(table: &DeTable<'_>, source: &str, budget: &mut Budget, depth: usize) -> Map<String, Value> {
    let field = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &str = std::convert::AsRef::<str>::as_ref(name.get_ref());
        Some((name.to_owned(), value_of(value, source, budget, depth)?))
    };
    table.iter().filter_map(field).collect()
}

fn value_of(value: &Spanned<DeValue<'_>>, source: &str, budget: &mut Budget, depth: usize) -> Option<Value> {
    let written = source.get(value.span()).unwrap_or_default();
    let scalar = match value.get_ref() {
        DeValue::Table(_) | DeValue::Array(_) if depth >= MAX_DEPTH => {
            budget.leave_out();
            return None;
        }
        DeValue::Table(table) => {
            return budget.take(0).then(|| Value::Object(table_of(table, source, budget, depth + 1)));
        }
        DeValue::Array(items) => {
            let mut item = |item| value_of(item, source, budget, depth + 1);
            let items = items.iter().filter_map(&mut item).collect();
            return budget.take(0).then_some(Value::Array(items));
        }
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(_) | DeValue::Float(_) => plain(written),
        DeValue::Datetime(_) => Value::from(written),
    };
    budget.take(scalar.as_str().map_or(0, str::len)).then_some(scalar)
}

//! Parses filters by recursive descent. Depth and length are limited, so that no text can exhaust the stack.

use super::cursor::{Cursor, OPERATORS};
use super::{Comparison, Expr, Operand, Operator, SyntaxError};

/// Maximum length of a filter, in bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Maximum number of parentheses and `not` around a condition.
pub const MAX_DEPTH: usize = 64;

const FORM: &str = "is not a filter; write FIELD=VALUE[,VALUE…], FIELD!=VALUE, FIELD^=PREFIX, FIELD>=NUMBER, \
                    FIELD<NUMBER, and combine them with `and`, `or`, `not` and parentheses";

pub(super) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let mut cursor = Cursor::new(text);
    if text.len() > MAX_BYTES {
        return Err(cursor.error(text.floor_char_boundary(MAX_BYTES), too_long(text.len())));
    }
    let expr = any(&mut cursor, 0, 0)?;
    cursor.skip_blanks();
    match cursor.peek() {
        None => Ok(expr),
        Some(_) => Err(cursor.error(cursor.at(), "expected `and`, `or` or the end of the filter here")),
    }
}

fn too_long(bytes: usize) -> String {
    format!("the filter has {bytes} bytes, but at most {MAX_BYTES} are allowed; use fewer values")
}

/// Parses conditions that are joined by `or`. `depth` counts parentheses and `not`, and `groups` only parentheses.
fn any(cursor: &mut Cursor<'_>, depth: usize, groups: usize) -> Result<Expr, SyntaxError> {
    let parts = joined(cursor, "or", |cursor| {
        joined(cursor, "and", |cursor| one(cursor, depth, groups)).map(|parts| single(parts, Expr::All))
    })?;
    Ok(single(parts, Expr::Any))
}

fn joined<'a>(
    cursor: &mut Cursor<'a>,
    word: &str,
    mut part: impl FnMut(&mut Cursor<'a>) -> Result<Expr, SyntaxError>,
) -> Result<Vec<Expr>, SyntaxError> {
    let mut parts = vec![part(cursor)?];
    loop {
        cursor.skip_blanks();
        if !cursor.keyword(word) {
            return Ok(parts);
        }
        parts.push(part(cursor)?);
    }
}

fn single(mut parts: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match (parts.len(), parts.pop()) {
        (1, Some(one)) => one,
        (_, last) => several(parts.into_iter().chain(last).collect()),
    }
}

fn one(cursor: &mut Cursor<'_>, depth: usize, groups: usize) -> Result<Expr, SyntaxError> {
    cursor.skip_blanks();
    let start = cursor.at();
    if depth > MAX_DEPTH {
        let reason = format!("more than {MAX_DEPTH} parentheses and `not` are nested; write a flatter filter");
        return Err(cursor.error(start, reason));
    }
    if cursor.keyword("not") {
        return Ok(Expr::Not(Box::new(one(cursor, depth + 1, groups)?)));
    }
    if !cursor.take("(") {
        return comparison(cursor, groups).map(Expr::Compare);
    }
    let inner = any(cursor, depth + 1, groups + 1)?;
    cursor.skip_blanks();
    match cursor.take(")") {
        true => Ok(inner),
        false => Err(cursor.error(start, "this parenthesis is not closed; add `)`")),
    }
}

fn comparison(cursor: &mut Cursor<'_>, groups: usize) -> Result<Comparison, SyntaxError> {
    let start = cursor.at();
    let column = cursor.error(start, "").column;
    let field = field(cursor, groups)?;
    let mut operands = *cursor;
    let Some(operator) = operands.operator().filter(|_| !field.is_empty()) else {
        while cursor.next().is_some() {}
        return Err(cursor.error(start, format!("`{}` {FORM}", shortened(cursor.since(start)))));
    };
    *cursor = operands;
    let mut values = vec![value(cursor, operator, groups)?];
    while operator.takes_list() && cursor.take(",") {
        values.push(value(cursor, operator, groups)?);
    }
    Ok(Comparison { field, operator, values, column })
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    text.chars().take(SHOWN).chain(more.chars()).collect()
}

/// Parses the name of a field. Parts between dots may be quoted.
fn field(cursor: &mut Cursor<'_>, groups: usize) -> Result<String, SyntaxError> {
    let mut name = String::new();
    let mut is_quoted = false;
    while let Some(c) = cursor.peek() {
        let begins = name.is_empty() && !is_quoted || name.ends_with('.');
        match c {
            '"' | '\'' if begins => {
                name.push_str(&quoted(cursor)?);
                is_quoted = true;
                let after = cursor.rest().trim_start();
                let ends = after.starts_with(OPERATORS) || cursor.peek() == Some('.');
                if !ends {
                    return Err(cursor.error(cursor.at(), "expected an operator such as `=` after the quoted name"));
                }
                if cursor.peek() != Some('.') {
                    cursor.skip_blanks();
                    return Ok(name);
                }
            }
            ')' if groups > 0 => break,
            c if OPERATORS.contains(&c) => break,
            c => {
                name.push(c);
                cursor.next();
            }
        }
    }
    Ok(name.trim().to_owned())
}

fn value(cursor: &mut Cursor<'_>, operator: Operator, groups: usize) -> Result<Operand, SyntaxError> {
    let mut begin = *cursor;
    begin.skip_blanks();
    if matches!(begin.peek(), Some('"' | '\'')) {
        *cursor = begin;
        let text = quoted(cursor)?;
        let at = cursor.at();
        cursor.skip_blanks();
        let ends = match cursor.peek() {
            None => true,
            Some(',') => operator.takes_list(),
            Some(')') => groups > 0,
            Some(_) => cursor.at() > at && is_at_keyword(*cursor),
        };
        return match ends {
            true => Ok(Operand::Quoted(text)),
            false => Err(cursor.error(
                cursor.at(),
                "expected `,`, `and`, `or` or the end after the closing quote; quote the whole value",
            )),
        };
    }
    Ok(Operand::Word(word(cursor, operator, groups)))
}

/// Returns whether `and` or `or` and then a condition follow.
fn is_at_keyword(cursor: Cursor<'_>) -> bool {
    ["and", "or"].into_iter().any(|word| {
        let mut after = cursor;
        after.keyword(word) && after.is_at_condition()
    })
}

fn word(cursor: &mut Cursor<'_>, operator: Operator, groups: usize) -> String {
    let start = cursor.at();
    let (mut open, mut after_blank) = (0_usize, false);
    while let Some(c) = cursor.peek() {
        let ends = match c {
            ',' => operator.takes_list(),
            ')' if open == 0 => groups > 0,
            _ => after_blank && is_at_keyword(*cursor),
        };
        if ends {
            break;
        }
        match c {
            '(' => open += 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        after_blank = c.is_whitespace();
        cursor.next();
    }
    cursor.since(start).trim().to_owned()
}

/// Parses a text in quotes. Double quotes allow escapes, single quotes do not.
fn quoted(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let start = cursor.at();
    let quote = cursor.next();
    let mut text = String::new();
    loop {
        let at = cursor.at();
        match cursor.next() {
            None => {
                let other = if quote == Some('"') { '\'' } else { '"' };
                let reason = format!("this quote is not closed; close it, or put the whole value in {other}");
                return Err(cursor.error(start, reason));
            }
            c if c == quote => return Ok(text),
            Some('\\') if quote == Some('"') => match escape(cursor) {
                Some(c) => text.push(c),
                None => {
                    let reason = r#"unknown escape; write \\ for a backslash, \" \n \r \t, or \u{HEX} for a character"#;
                    return Err(cursor.error(at, reason));
                }
            },
            Some(c) => text.push(c),
        }
    }
}

fn escape(cursor: &mut Cursor<'_>) -> Option<char> {
    match cursor.next()? {
        c @ ('"' | '\\' | '\'') => Some(c),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' => {
            let hex = cursor.take("{").then(|| cursor.rest().split_once('}'))?.map(|(hex, _)| hex)?;
            let short = (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
            let c = char::from_u32(u32::from_str_radix(hex, 16).ok().filter(|_| short)?)?;
            (cursor.take(hex) && cursor.take("}")).then_some(c)
        }
        _ => None,
    }
}

//! Walks through the text of a filter. All positions are offsets in bytes at the boundaries of characters.

use super::{Operator, SyntaxError};

/// Characters with which an operator begins.
pub(super) const OPERATORS: [char; 5] = ['!', '^', '>', '<', '='];

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the next character.
    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Takes `expected` if the rest begins with it.
    pub(super) fn take(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        self.at += if found { expected.len() } else { 0 };
        found
    }

    pub(super) fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Returns the text from an earlier position up to this one.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn operator(&mut self) -> Option<Operator> {
        Operator::ALL.into_iter().find(|operator| self.take(operator.symbol()))
    }

    /// Takes the word `and`, `or` or `not`. A blank, a parenthesis or the end must follow, and no operator.
    pub(super) fn keyword(&mut self, word: &str) -> bool {
        let mut after = *self;
        let found = after.take(word) && after.peek().is_none_or(|c| c.is_whitespace() || c == '(');
        after.skip_blanks();
        let is_field = after.peek().is_some_and(|c| OPERATORS.contains(&c));
        if found && !is_field {
            *self = after;
        }
        found && !is_field
    }

    /// Returns whether a condition seems to begin here. A name with blanks does not count, because it is more likely a
    /// part of a value.
    pub(super) fn is_at_condition(mut self) -> bool {
        loop {
            self.skip_blanks();
            if !self.take("(") && !self.keyword("not") {
                break;
            }
        }
        let start = self.at;
        while let Some(c) = self.peek() {
            let begins = self.at == start || self.since(start).ends_with('.');
            match c {
                '"' | '\'' if begins => {
                    if !self.skip_quoted() {
                        return false;
                    }
                    if self.peek() != Some('.') {
                        break;
                    }
                }
                c if c.is_whitespace() || OPERATORS.contains(&c) || matches!(c, ',' | ')') => break,
                _ => {
                    self.next();
                }
            }
        }
        let named = self.at > start;
        self.skip_blanks();
        named && self.operator().is_some()
    }

    /// Skips a text in quotes. Returns false if it is not closed.
    fn skip_quoted(&mut self) -> bool {
        let quote = self.next();
        while let Some(c) = self.next() {
            if Some(c) == quote {
                return true;
            }
            if c == '\\' && quote == Some('"') {
                self.next();
            }
        }
        false
    }

    /// Creates an error at a position.
    pub(super) fn error(&self, at: usize, reason: impl Into<String>) -> SyntaxError {
        let column = self.text.get(..at).unwrap_or_default().chars().count() + 1;
        SyntaxError { column, reason: reason.into() }
    }
}

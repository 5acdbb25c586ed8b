//! Field selectors: `status.phase!=Running,spec.nodeName=a`.
//!
//! In values `\`, `,` and `=` are written with a backslash before them.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a field selector, in upstream's words.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum FieldParseError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: \\{}", .0.map(String::from).unwrap_or_default())]
    Escape(Option<char>),
    /// Upstream prints the number of the character.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

/// A field that must have a value, or must not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldTerm {
    pub field: Box<str>,
    pub value: Box<str>,
    /// False for `!=`.
    pub equal: bool,
}

/// Terms that all have to be met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the parameter `fieldSelector`. An empty text is everything.
    ///
    /// # Errors
    /// If it is not a field selector.
    pub fn parse(selector: &str) -> Result<Self, FieldParseError> {
        let mut parts = split_terms(selector);
        parts.sort_unstable();
        let parts = parts.into_iter().filter(|t| !t.is_empty());
        let mut terms: Vec<FieldTerm> =
            parts.map(|t| term(selector, t)).collect::<Result<_, _>>()?;
        // `=` alone asks for nothing.
        terms.retain(|t| !t.field.is_empty() || !t.value.is_empty());
        Ok(Self { terms })
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    #[must_use]
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Replaces the labels that clients use by the attributes that they stand for.
    ///
    /// # Errors
    /// The first field for which `name` has none.
    pub fn rename<'n>(&mut self, name: impl Fn(&str) -> Option<&'n str>) -> Result<(), String> {
        for term in &mut self.terms {
            term.field = name(&term.field)
                .ok_or_else(|| term.field.to_string())?
                .into();
        }
        Ok(())
    }

    /// Whether an object meets all terms; `field` looks one of its fields up, and a field that it does
    /// not have is empty.
    pub fn matches<'f>(&self, field: impl Fn(&str) -> &'f str) -> bool {
        self.terms
            .iter()
            .all(|t| (field(&t.field) == &*t.value) == t.equal)
    }

    /// The one value that a field must have, if the selector says so.
    #[must_use]
    pub fn requires_exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equal && &*t.field == field)
            .map(|t| &*t.value)
    }
}

impl FromStr for FieldSelector {
    type Err = FieldParseError;

    fn from_str(text: &str) -> Result<Self, FieldParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, if self.equal { "=" } else { "!=" })?;
        self.value.chars().try_for_each(|c| match c {
            '\\' | ',' | '=' => write!(f, "\\{c}"),
            c => write!(f, "{c}"),
        })
    }
}

/// Splits at commas that have no backslash before them.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut escaped = false;
    let at_comma = |c| {
        let split = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        split
    };
    selector.split(at_comma).collect()
}

fn term(selector: &str, term: &str) -> Result<FieldTerm, FieldParseError> {
    let at = term
        .char_indices()
        .find(|(i, c)| *c == '=' || term[*i..].starts_with("!="));
    let Some((at, _)) = at else {
        return Err(FieldParseError::Term {
            selector: selector.to_owned(),
            term: term.to_owned(),
        });
    };
    let (field, rest) = term.split_at(at);
    let equal = !rest.starts_with('!');
    let operator = if equal && !rest.starts_with("==") {
        1
    } else {
        2
    };
    Ok(FieldTerm {
        field: field.into(),
        value: unescape(&rest[operator..])?.into(),
        equal,
    })
}

fn unescape(value: &str) -> Result<String, FieldParseError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => return Err(FieldParseError::Escape(other)),
            },
            ',' | '=' => return Err(FieldParseError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

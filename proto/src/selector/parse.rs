//! Reading label selectors: `x in (foo,,baz),y,z!=1`.
//!
//! ```text
//! selector    = [ requirement { "," requirement } ]
//! requirement = [ "!" ] KEY | KEY ( "in" | "notin" ) "(" [VALUE] { "," [VALUE] } ")"
//!             | KEY ( "=" | "==" | "!=" | ">" | "<" ) [VALUE]
//! ```
//! White space may stand between tokens; `in` and `notin` are keywords only in the place of an
//! operator.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::path::{FieldError, aggregate};

use super::label::{LabelSelector, Operator, Requirement, key_error};

/// Why a text is not a label selector, in upstream's words.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum ParseError {
    #[error("found '{found}', expected: {expected}")]
    Found {
        found: String,
        expected: &'static str,
    },
    #[error("unable to parse requirement: found '{found}', expected: {expected}")]
    FoundInRequirement {
        found: String,
        expected: &'static str,
    },
    #[error("unable to parse requirement: found '{0}' expected: '('")]
    NoParenthesis(String),
    #[error("unable to parse requirement: {0}")]
    Invalid(InvalidRequirement),
}

/// What is wrong with a requirement.
#[derive(Clone, PartialEq, Debug)]
pub struct InvalidRequirement(pub Vec<FieldError>);

impl fmt::Display for InvalidRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&aggregate(&self.0))
    }
}

impl std::error::Error for InvalidRequirement {}

impl LabelSelector {
    /// Reads the parameter `labelSelector`. An empty text is everything.
    ///
    /// # Errors
    /// If it is not a label selector.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Parser {
            rest: text,
            next: None,
        }
        .selector()
        .map(Self::new)
    }
}

impl FromStr for LabelSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    /// A key or a value; also `in` and `notin`, which the parser tells apart by their place.
    Word(&'a str),
    Symbol(&'static str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Word(text) | Self::Symbol(text) => text,
        }
    }
}

/// Longer ones first.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

struct Parser<'a> {
    rest: &'a str,
    /// A token that was looked at and not taken.
    next: Option<Token<'a>>,
}

impl<'a> Parser<'a> {
    fn lex(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        // Upstream reads a zero byte as the end of whatever it is in.
        if self.rest.is_empty() || self.rest.starts_with('\0') {
            self.rest = self.rest.strip_prefix('\0').unwrap_or(self.rest);
            return Token::End;
        }
        for symbol in SYMBOLS {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Token::Symbol(symbol);
            }
        }
        let end = self
            .rest
            .find(|c| " \t\r\n=!(),><\0".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix('\0').unwrap_or(rest);
        Token::Word(word)
    }

    fn peek(&mut self) -> Token<'a> {
        if let Some(token) = self.next {
            return token;
        }
        let token = self.lex();
        self.next = Some(token);
        token
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        // Nothing comes after the end.
        if token != Token::End {
            self.next = None;
        }
        token
    }

    fn selector(mut self) -> Result<Vec<Requirement>, ParseError> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        let mut expected = "!, identifier, or 'end of string'";
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => requirements.push(self.requirement()?),
                other => {
                    return Err(ParseError::Found {
                        found: other.text().into(),
                        expected,
                    });
                }
            }
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => expected = "identifier after ','",
                other => {
                    let expected = "',' or 'end of string'";
                    return Err(ParseError::Found {
                        found: other.text().into(),
                        expected,
                    });
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.take();
        }
        let key = match self.take() {
            Token::Word(key) => key,
            other => return Err(unexpected(other, "identifier")),
        };
        if let Some(error) = key_error("<nil>", key) {
            return Err(ParseError::Invalid(InvalidRequirement(vec![error])));
        }
        let (operator, values) = match self.peek() {
            _ if absent => (Operator::DoesNotExist, BTreeSet::new()),
            Token::End | Token::Symbol(",") => (Operator::Exists, BTreeSet::new()),
            _ => self.comparison()?,
        };
        let values: Vec<&str> = values.into_iter().collect();
        Requirement::new(key, operator, &values).map_err(ParseError::Invalid)
    }

    fn comparison(&mut self) -> Result<(Operator, BTreeSet<&'a str>), ParseError> {
        let operator = match self.take() {
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            other => return Err(unexpected(other, "in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.value()?]),
        };
        Ok((operator, values))
    }

    /// The value after `=` and its like; it may be missing.
    fn value(&mut self) -> Result<&'a str, ParseError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(""),
            Token::Word(value) => {
                self.take();
                Ok(value)
            }
            other => Err(unexpected(other, "identifier")),
        }
    }

    /// Values in parentheses. Missing ones are empty.
    fn values(&mut self) -> Result<BTreeSet<&'a str>, ParseError> {
        match self.take() {
            Token::Symbol("(") => {}
            other => return Err(ParseError::NoParenthesis(other.text().into())),
        }
        let mut values = BTreeSet::new();
        let mut expected = "',', ')' or identifier";
        loop {
            let value = match self.peek() {
                Token::Word(value) => {
                    self.take();
                    value
                }
                Token::Symbol("," | ")") => "",
                other => return Err(unexpected(other, expected)),
            };
            values.insert(value);
            match self.take() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => expected = "',', or identifier",
                other => return Err(unexpected(other, "',' or ')'")),
            }
        }
    }
}

fn unexpected(found: Token<'_>, expected: &'static str) -> ParseError {
    ParseError::FoundInRequirement {
        found: found.text().into(),
        expected,
    }
}

//! JSON to a tree without a schema, for custom resources and patches.

use super::super::{DecodeError, MAX_DEPTH};
use super::problems::{Problems, Step};
use super::scanner::{Scanner, Token};
use super::{Decoded, Strictness};
use crate::name::Name;
use crate::value::{Map, Value};

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) fn parse(text: &str, strictness: Strictness) -> Result<Decoded> {
    let mut p = Parser {
        s: Scanner::new(text),
        problems: Problems::new(strictness),
        first: None,
    };
    let value = p.value()?;
    p.s.end()?;
    match p.first {
        Some(error) => Err(error),
        None => Ok(Decoded {
            value,
            problems: p.problems.finish(),
        }),
    }
}

struct Parser<'a> {
    s: Scanner<'a>,
    problems: Problems<'a>,
    /// The first number that no double holds; errors of syntax go before it.
    first: Option<DecodeError>,
}

impl Parser<'_> {
    fn value(&mut self) -> Result<Value> {
        Ok(match self.s.value()? {
            Token::Object => self.object()?,
            Token::Array => self.array()?,
            Token::String => Value::String(self.s.string()?.into()),
            Token::Number => {
                let text = self.s.number()?;
                self.number(text)
            }
            token => {
                self.s.literal(token)?;
                match token {
                    Token::True => Value::Bool(true),
                    Token::False => Value::Bool(false),
                    _ => Value::Null,
                }
            }
        })
    }

    fn enter(&mut self) -> Result<()> {
        if self.problems.depth() >= MAX_DEPTH {
            return Err(self.s.too_deep());
        }
        self.s.enter();
        Ok(())
    }

    fn object(&mut self) -> Result<Value> {
        self.enter()?;
        let (mut entries, mut offsets) = (Vec::new(), Vec::new());
        while let Some(key) = self.s.next_key(entries.is_empty())? {
            if self.problems.wanted() {
                offsets.push(self.s.pos());
            }
            let name = Name::new(&key);
            self.problems.push(Step::Key(key));
            let value = self.value()?;
            self.problems.pop();
            entries.push((name, value));
        }
        self.problems.duplicate_keys(&entries, &offsets);
        Ok(Value::Map(Map::from_entries(entries).0))
    }

    fn array(&mut self) -> Result<Value> {
        self.enter()?;
        let mut items = Vec::new();
        while self.s.next_element(items.is_empty())? {
            self.problems.push(Step::Index(items.len()));
            items.push(self.value()?);
            self.problems.pop();
        }
        Ok(Value::List(items))
    }

    fn number(&mut self, text: &str) -> Value {
        if let Ok(i) = text.parse() {
            return Value::Int(i);
        }
        match text.parse::<f64>() {
            Ok(f) if f.is_finite() => Value::Float(f),
            _ => {
                let error = self
                    .problems
                    .type_error(format!("number {text}"), "float64");
                self.first.get_or_insert(error);
                Value::Null
            }
        }
    }
}

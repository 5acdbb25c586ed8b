//! JSON to a conformed tree, directed by a message.
//!
//! Errors are ranked as Go finds them: its decoder checks the syntax of the whole text first, gives
//! up at the first error of a custom type (a quantity, a time), and goes on after a value of the
//! wrong type to report the first such at the end.

use std::borrow::Cow;

use super::super::layout::{Layout, Slot, zero, zero_of};
use super::super::slots::Parts;
use super::super::{DecodeError, MAX_DEPTH, Reopened, leaf};
use super::problems::{Problems, Step, go_name, go_type};
use super::scanner::{Scanner, Token};
use super::{Decoded, Strictness};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::{Name, NameId};
use crate::time;
use crate::value::{Map, Value};

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) fn decode(text: &str, message: MsgId, strictness: Strictness) -> Result<Decoded> {
    let mut d = Decoder {
        s: Scanner::new(text),
        problems: Problems::new(strictness),
        stack: Vec::with_capacity(128),
        reopened: Reopened::default(),
        first: None,
        first_custom: None,
    };
    let value = match d.s.value()? {
        Token::Object => Value::Map(d.object(message, None)?),
        Token::Null => {
            d.s.literal(Token::Null)?;
            zero(message)
        }
        token => d.mismatch(token, &|| go_name(message))?,
    };
    d.s.end()?;
    match d.first_custom.or(d.first) {
        Some(error) => Err(error),
        None => Ok(Decoded {
            value,
            problems: d.problems.finish(),
        }),
    }
}

struct Decoder<'a> {
    s: Scanner<'a>,
    problems: Problems<'a>,
    /// The values of the messages being decoded.
    stack: Vec<Value>,
    reopened: Reopened,
    /// The first value of a wrong type.
    first: Option<DecodeError>,
    /// The first error of a type with its own rules, which ends Go's decoding.
    first_custom: Option<DecodeError>,
}

impl<'a> Decoder<'a> {
    /// The object that begins here, on top of what an earlier occurrence of the same field left: Go
    /// decodes a field given twice into the same struct.
    fn object(&mut self, message: MsgId, old: Option<Value>) -> Result<Map> {
        self.enter()?;
        let layout = Layout::of(message);
        let mut parts = Parts::new(layout, old, &mut self.stack);
        let mut seen = 0_u64;
        let mut first = true;
        while let Some(key) = self.s.next_key(first)? {
            first = false;
            let Some(number) = NameId::find(&key).and_then(|name| layout.slot_of(name)) else {
                self.problems.unknown(&key, self.s.pos());
                self.s.skip(self.problems.depth() + 1)?;
                continue;
            };
            let slot = layout.slot(number);
            if seen & (1 << number) != 0 {
                self.problems.duplicate(&key, self.s.pos());
            }
            seen |= 1 << number;
            let old = parts.take(&mut self.stack, number);
            self.problems.push(Step::Field(message, slot.field));
            let value = self.field(slot, old)?;
            self.problems.pop();
            if let Some(value) = value {
                parts.put(&mut self.stack, number, value);
            }
        }
        Ok(parts.finish(&mut self.stack))
    }

    fn enter(&mut self) -> Result<()> {
        if self.problems.depth() >= MAX_DEPTH {
            return Err(self.s.too_deep());
        }
        self.s.enter();
        Ok(())
    }

    /// The value of a field; none if the field is as good as absent.
    fn field(&mut self, slot: &Slot, old: Option<Value>) -> Result<Option<Value>> {
        let field = slot.field;
        let token = self.s.value()?;
        if token == Token::Null {
            self.s.literal(token)?;
            return Ok(if keeps_on_null(field) { old } else { None });
        }
        let value = match field.shape {
            Shape::One => self.element(field, token, old)?,
            Shape::List => self.list(field, token, old)?,
            Shape::Map => self.map(field, token, old)?,
        };
        Ok(
            if slot.zero_is_absent && leaf::is_zero(&value, field.kind) {
                None
            } else {
                Some(value)
            },
        )
    }

    fn list(&mut self, field: &'static Field, token: Token, old: Option<Value>) -> Result<Value> {
        if token != Token::Array {
            return self.mismatch(token, &|| go_type(field, true));
        }
        let mut old = match old {
            Some(Value::List(items)) => items.into_iter(),
            _ => Vec::new().into_iter(),
        };
        self.enter()?;
        let mut items = Vec::new();
        while self.s.next_element(items.is_empty())? {
            self.problems.push(Step::Index(items.len()));
            let item = self.item(field, old.next())?;
            self.problems.pop();
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, field: &'static Field, token: Token, old: Option<Value>) -> Result<Value> {
        if token != Token::Object {
            return self.mismatch(token, &|| go_type(field, true));
        }
        let mut entries: Vec<(Name, Value)> = match old {
            Some(Value::Map(map)) => self.reopened.take(map, field)?,
            _ => Vec::new(),
        };
        self.enter()?;
        let inherited = entries.len();
        let mut offsets = Vec::new();
        let mut first = true;
        while let Some(key) = self.s.next_key(first)? {
            first = false;
            if self.problems.wanted() {
                offsets.push(self.s.pos());
            }
            let name = Name::new(&key);
            self.problems.push(Step::Key(key));
            let item = self.item(field, None)?;
            self.problems.pop();
            entries.push((name, item));
        }
        self.problems
            .duplicate_keys(&entries[inherited..], &offsets);
        Ok(Value::Map(Map::from_entries(entries).0))
    }

    /// An element of a list or a value of a map.
    fn item(&mut self, field: &'static Field, old: Option<Value>) -> Result<Value> {
        let token = self.s.value()?;
        if token == Token::Null {
            self.s.literal(token)?;
            return Ok(match old {
                Some(old)
                    if !field.has(Flags::ELEMENT_POINTER) && kind_keeps_on_null(field.kind) =>
                {
                    old
                }
                _ => zero_of(field),
            });
        }
        self.element(field, token, old)
    }

    /// One value of the kind of a field, not null.
    fn element(
        &mut self,
        field: &'static Field,
        token: Token,
        old: Option<Value>,
    ) -> Result<Value> {
        let plain = || go_type(field, false);
        Ok(match (field.kind, token) {
            (Kind::Message(message), Token::Object) => Value::Map(self.object(message, old)?),
            (Kind::String | Kind::IntOrString, Token::String) => {
                Value::String(boxed(self.s.string()?))
            }
            (Kind::Bool, Token::True | Token::False) => {
                self.s.literal(token)?;
                Value::Bool(token == Token::True)
            }
            (Kind::Int32 | Kind::Int64, Token::Number) => self.integer(field.kind, false)?,
            (Kind::IntOrString, Token::Number) => self.integer(field.kind, true)?,
            (Kind::Float64, Token::Number) => self.float()?,
            (Kind::Bytes, Token::String) => {
                let text = self.s.string()?;
                match leaf::from_base64(&text) {
                    Ok(bytes) => Value::Bytes(bytes),
                    Err(error) => self.wrong(error),
                }
            }
            (Kind::Bytes, Token::Array) => self.byte_array()?,
            (Kind::Strings, Token::Array) => self.strings()?,
            (Kind::Time, Token::String) => {
                let text = self.s.string()?;
                self.custom(time::canonical_time(&text))
            }
            (Kind::MicroTime, Token::String) => {
                let text = self.s.string()?;
                self.custom(time::canonical_micro_time(&text))
            }
            (Kind::Quantity, _) => {
                // The text between the quotes is taken as it is, escapes and all.
                let raw = self.s.skip(self.problems.depth())?;
                let inner = raw
                    .strip_prefix('"')
                    .and_then(|r| r.strip_suffix('"'))
                    .unwrap_or(raw);
                self.custom(leaf::quantity(inner.trim()))
            }
            (Kind::RawExtension | Kind::FieldsV1 | Kind::Json, _) => {
                Value::Raw(self.s.skip(self.problems.depth())?.as_bytes().into())
            }
            (Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings, _) => {
                self.schema_or(field.kind, token)?
            }
            (Kind::Time | Kind::MicroTime, _) => self.custom_mismatch(token, "string")?,
            (Kind::IntOrString, _) => self.custom_mismatch(token, "int32")?,
            _ => self.mismatch(token, &plain)?,
        })
    }

    fn integer(&mut self, kind: Kind, custom: bool) -> Result<Value> {
        let text = self.s.number()?;
        let fits = |i: &i64| kind == Kind::Int64 || i32::try_from(*i).is_ok();
        if let Some(i) = text.parse().ok().filter(fits) {
            return Ok(Value::Int(i));
        }
        let target = if kind == Kind::Int64 {
            "int64"
        } else {
            "int32"
        };
        let error = self.problems.type_error(format!("number {text}"), target);
        Ok(if custom {
            self.custom::<DecodeError>(Err(error))
        } else {
            self.wrong(error)
        })
    }

    fn float(&mut self) -> Result<Value> {
        let text = self.s.number()?;
        if let Some(f) = text.parse().ok().filter(|f: &f64| f.is_finite()) {
            return Ok(Value::Float(f));
        }
        let error = self
            .problems
            .type_error(format!("number {text}"), "float64");
        Ok(self.wrong(error))
    }

    /// Go takes a list of numbers for bytes, too.
    fn byte_array(&mut self) -> Result<Value> {
        self.enter()?;
        let mut bytes = Vec::new();
        while self.s.next_element(bytes.is_empty())? {
            let byte = match self.s.value()? {
                Token::Number => {
                    let text = self.s.number()?;
                    text.parse().unwrap_or_else(|_| {
                        let error = self.problems.type_error(format!("number {text}"), "uint8");
                        self.wrong(error);
                        0
                    })
                }
                Token::Null => {
                    self.s.literal(Token::Null)?;
                    0
                }
                token => {
                    self.mismatch(token, &|| "uint8".into())?;
                    0
                }
            };
            bytes.push(byte);
        }
        Ok(Value::Bytes(bytes.into()))
    }

    fn strings(&mut self) -> Result<Value> {
        self.enter()?;
        let mut items = Vec::new();
        while self.s.next_element(items.is_empty())? {
            let item = match self.s.value()? {
                Token::String => Value::String(boxed(self.s.string()?)),
                Token::Null => {
                    self.s.literal(Token::Null)?;
                    Value::String(Box::default())
                }
                token => self.mismatch(token, &|| "string".into())?,
            };
            items.push(item);
        }
        Ok(Value::List(items))
    }

    /// The unions of a CRD's schema. Go decodes what is inside by itself: without strict checks, and
    /// whatever is wrong in there is an error of the custom type.
    fn schema_or(&mut self, kind: Kind, token: Token) -> Result<Value> {
        let strict = self.problems.suspend();
        let first = self.first.take();
        let message = self
            .problems
            .message()
            .expect("unions are fields of JSONSchemaProps");
        let value = match (kind, token) {
            (_, Token::Object) => Value::Map(self.object(message, None)?),
            (Kind::SchemaOrBool, Token::True | Token::False) => {
                self.s.literal(token)?;
                Value::Bool(token == Token::True)
            }
            (Kind::SchemaOrBool, _) => {
                self.s.skip(self.problems.depth())?;
                self.custom::<DecodeError>(Err(DecodeError::SchemaOrBool))
            }
            (Kind::SchemaOrStrings, Token::Array) => self.strings()?,
            (_, Token::Array) => self.schemas(message)?,
            _ => {
                self.s.skip(self.problems.depth())?;
                Value::Null
            }
        };
        self.problems.resume(strict);
        if let Some(error) = std::mem::replace(&mut self.first, first) {
            self.first_custom.get_or_insert(error);
        }
        Ok(if value == Value::List(Vec::new()) {
            Value::Null
        } else {
            value
        })
    }

    fn schemas(&mut self, message: MsgId) -> Result<Value> {
        self.enter()?;
        let mut items = Vec::new();
        while self.s.next_element(items.is_empty())? {
            self.problems.push(Step::Index(items.len()));
            let item = match self.s.value()? {
                Token::Object => Value::Map(self.object(message, None)?),
                Token::Null => {
                    self.s.literal(Token::Null)?;
                    zero(message)
                }
                token => self.mismatch(token, &|| go_name(message))?,
            };
            self.problems.pop();
            items.push(item);
        }
        Ok(Value::List(items))
    }

    /// Skips a value of the wrong type and keeps the error.
    fn mismatch(&mut self, token: Token, target: &dyn Fn() -> String) -> Result<Value> {
        let error = self.problems.type_error(token.go_name(), &target());
        self.s.skip(self.problems.depth())?;
        Ok(self.wrong(error))
    }

    fn custom_mismatch(&mut self, token: Token, target: &str) -> Result<Value> {
        let error = self.problems.type_error(token.go_name(), target);
        self.s.skip(self.problems.depth())?;
        Ok(self.custom::<DecodeError>(Err(error)))
    }

    fn wrong(&mut self, error: DecodeError) -> Value {
        self.first.get_or_insert(error);
        Value::Null
    }

    fn custom<E: Into<DecodeError>>(&mut self, result: std::result::Result<Box<str>, E>) -> Value {
        match result {
            Ok(text) => Value::String(text),
            Err(error) => {
                self.first_custom.get_or_insert_with(|| error.into());
                Value::Null
            }
        }
    }
}

fn boxed(text: Cow<'_, str>) -> Box<str> {
    text.into()
}

/// Go leaves a value as it is on null, unless it can be nil or its type decides otherwise.
fn keeps_on_null(field: &Field) -> bool {
    field.shape == Shape::One && !field.has(Flags::POINTER) && kind_keeps_on_null(field.kind)
}

fn kind_keeps_on_null(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::String
            | Kind::Bool
            | Kind::Int32
            | Kind::Int64
            | Kind::Float64
            | Kind::IntOrString
            | Kind::Message(_)
    )
}

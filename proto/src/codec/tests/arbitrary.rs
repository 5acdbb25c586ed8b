//! Trees of any message, made of random bytes: each byte is a decision, so that fewer bytes make a
//! smaller tree.

use super::super::json;
use super::super::layout::{Layout, zero};
use super::super::leaf;
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::Name;
use crate::value::{Map, Value};

pub(super) struct Source<'e> {
    entropy: std::slice::Iter<'e, u8>,
}

/// Strings that are awkward for one form or another.
const STRINGS: [&str; 24] = [
    "a",
    "kube-system",
    "x y",
    " edge ",
    "line\nbreak",
    "trailing\n",
    "\n",
    "tab\tquote\"back\\slash",
    "<a&b>",
    "\u{2028}",
    "é😀",
    "yes",
    "1.5",
    "0x1f",
    "null",
    "~",
    "#no comment",
    "- item",
    "k: v",
    "2001-01-01T00:00:00Z",
    "'",
    "\u{7f}\u{85}",
    "a very long text, longer than a line of YAML should be, with spaces to break it at, and then some more words",
    "1:30",
];

const QUANTITIES: [&str; 8] = ["1", "100m", "1536Mi", "2k", "5Gi", "-3", "1500", "12E"];

const RAW: [&str; 6] = [
    "{}",
    "[1,2.5,\"x\"]",
    "\"text\"",
    "{\"b\":[{\"a\":null}],\"a\":1}",
    "true",
    "{\"f:x\":{\".\":{}}}",
];

impl<'e> Source<'e> {
    pub(super) fn new(entropy: &'e [u8]) -> Self {
        Self {
            entropy: entropy.iter(),
        }
    }

    fn byte(&mut self) -> u8 {
        self.entropy.next().copied().unwrap_or(0)
    }

    /// True for every nth byte, and not when there are none left.
    fn one_in(&mut self, n: u8) -> bool {
        self.entropy.next().is_some_and(|byte| byte % n == 0)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::from(self.byte()) % from.len()]
    }

    fn word(&mut self) -> u64 {
        let bytes = std::array::from_fn(|_| self.byte());
        u64::from_le_bytes(bytes) >> (self.byte() % 64)
    }

    /// A conformed tree.
    pub(super) fn message(&mut self, id: MsgId, depth: usize) -> Value {
        let mut value = zero(id);
        if depth > 12 {
            return value;
        }
        let map = value.make_map();
        let layout = Layout::of(id);
        // Of a large message a few fields, of a small one most.
        let rarity = u8::try_from(layout.fields.len() / 8).unwrap_or(8) + 1;
        for slot in &layout.fields {
            if slot.is_type_meta || !self.one_in(rarity) {
                continue;
            }
            let field = slot.field;
            let given = match field.shape {
                Shape::One => Some(self.one(field, id, depth)),
                Shape::List => self.items(field, id, depth).map(Value::List),
                Shape::Map => self
                    .entries(field, id, depth)
                    .map(|entries| Value::Map(Map::from_entries(entries).0)),
            };
            if let Some(given) =
                given.filter(|v| !(slot.zero_is_absent && leaf::is_zero(v, field.kind)))
            {
                map.insert(field.name, given);
            }
        }
        value
    }

    /// Not empty: protobuf cannot tell an empty list from none.
    fn items(&mut self, field: &'static Field, id: MsgId, depth: usize) -> Option<Vec<Value>> {
        let len = 1 + self.byte() % 3;
        let items: Vec<Value> = (0..len).map(|_| self.one(field, id, depth)).collect();
        (!field.has(Flags::ELEMENT_POINTER) || items.iter().all(|v| !v.is_null())).then_some(items)
    }

    fn entries(
        &mut self,
        field: &'static Field,
        id: MsgId,
        depth: usize,
    ) -> Option<Vec<(Name, Value)>> {
        let len = 1 + self.byte() % 3;
        Some(
            (0..len)
                .map(|_| (Name::new(self.pick(&STRINGS)), self.one(field, id, depth)))
                .collect(),
        )
    }

    fn one(&mut self, field: &'static Field, id: MsgId, depth: usize) -> Value {
        match field.kind {
            Kind::String => self.pick(&STRINGS).into(),
            Kind::Bool => Value::Bool(self.one_in(2)),
            Kind::Int32 => Value::Int(i64::from(self.word() as i32)),
            Kind::Int64 => Value::Int(self.word().cast_signed()),
            Kind::Float64 => Value::Float(f64::from(self.word() as i32) / 8.0),
            Kind::Bytes => {
                Value::Bytes(self.word().to_le_bytes()[..usize::from(1 + self.byte() % 8)].into())
            }
            Kind::Time | Kind::MicroTime => {
                let secs = i64::try_from(self.word() % 253_402_300_800).unwrap_or(0);
                let micros = i32::try_from(self.word() % 1_000_000).unwrap_or(0);
                Value::String(leaf::time_text(Some((secs, micros * 1000)), field.kind))
            }
            Kind::Quantity => {
                Value::String(leaf::quantity(self.pick(&QUANTITIES)).expect("a quantity"))
            }
            Kind::IntOrString => match self.one_in(2) {
                true => self.pick(&STRINGS).into(),
                false => Value::Int(i64::from(self.word() as i32)),
            },
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
                Value::Raw(self.pick(&RAW).as_bytes().into())
            }
            Kind::Strings => Value::List(
                (0..=self.byte() % 3)
                    .map(|_| self.pick(&STRINGS).into())
                    .collect(),
            ),
            Kind::SchemaOrBool if self.one_in(2) => Value::Bool(self.one_in(2)),
            Kind::SchemaOrArray if self.one_in(2) => {
                Value::List(vec![self.message(id, depth + 1), zero(id)])
            }
            Kind::SchemaOrStrings if self.one_in(2) => {
                Value::List(vec![self.pick(&STRINGS).into()])
            }
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                self.message(id, depth + 1)
            }
            Kind::Message(id) => self.message(id, depth + 1),
        }
    }
}

/// The tree with the keys of its raw JSON sorted, as YAML leaves them.
pub(super) fn sorted_raw(value: Value) -> Value {
    match value {
        Value::Raw(raw) => {
            let mut out = Vec::new();
            json::write(&json::parse(&raw).expect("raw fields are JSON"), &mut out);
            Value::Raw(out.into())
        }
        Value::List(items) => Value::List(items.into_iter().map(sorted_raw).collect()),
        Value::Map(map) => Value::Map(
            map.into_iter()
                .map(|(name, value)| (name, sorted_raw(value)))
                .collect(),
        ),
        other => other,
    }
}

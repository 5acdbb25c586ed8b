//! What the codecs need to know of a message, worked out of the catalogue once per message: its
//! fields in JSON order with their printed keys, and where each protobuf tag goes.
//!
//! A *slot* is the place of a field among the fields of a message in JSON order, embedded structs
//! flattened. Protobuf nests embedded structs; their tags lead to slots of the embedding message, so
//! that both forms speak of the same slots.

use std::sync::{LazyLock, OnceLock};

use crate::catalogue::{self, Field, Flags, Kind, MsgId, Shape};
use crate::name::{Name, NameId};
use crate::value::Value;

use super::leaf;

pub(crate) struct Layout {
    /// In JSON order.
    pub(crate) fields: Box<[Slot]>,
    by_name: Box<[(NameId, u8)]>,
    /// Own tags, ascending.
    pub(crate) tags: Box<[Tag]>,
    /// Slots of messages that Go holds by value.
    pub(crate) by_value: Box<[u8]>,
}

pub(crate) struct Slot {
    pub(crate) field: &'static Field,
    /// `"name":`
    pub(crate) key: Box<str>,
    pub(crate) empty: Empty,
    /// Go cannot tell the zero value from absence.
    pub(crate) zero_is_absent: bool,
    /// `kind` or `apiVersion` of the object itself: protobuf leaves it to the envelope.
    pub(crate) is_type_meta: bool,
}

/// What JSON shows of a field that is absent or empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Empty {
    Omit,
    /// Absence shows as `null`; an empty list or map that is there shows as such.
    Null,
    /// The zero value.
    Text(&'static str),
    /// A message by value: an empty one.
    Message(MsgId),
}

pub(crate) struct Tag {
    pub(crate) tag: u16,
    pub(crate) to: Target,
}

pub(crate) enum Target {
    Slot(u8),
    /// An embedded struct: its own tags, leading to slots of the embedding message.
    Inline(Box<[Tag]>),
}

static LAYOUTS: LazyLock<Box<[OnceLock<Layout>]>> =
    LazyLock::new(|| catalogue::messages().map(|_| OnceLock::new()).collect());

impl Layout {
    pub(crate) fn of(message: MsgId) -> &'static Self {
        LAYOUTS[usize::from(message.0)].get_or_init(|| Self::build(message))
    }

    fn build(message: MsgId) -> Self {
        let mut fields: Box<[Slot]> = message.fields().map(Slot::of).collect();
        assert!(fields.len() <= MAX_FIELDS, "slots are numbered by a byte and seen in a 128-bit set");
        let number = |i: usize| u8::try_from(i).expect("a message has at most 128 fields");
        let mut by_name: Box<[_]> = fields.iter().enumerate().map(|(i, s)| (s.field.name, number(i))).collect();
        by_name.sort_unstable();
        let by_value = (0..fields.len())
            .filter(|i| matches!(fields[*i].empty, Empty::Message(_)))
            .map(number)
            .collect();
        let tags = tags(message, &by_name);
        fields.iter_mut().for_each(|slot| slot.is_type_meta = true);
        each_slot(&tags, &mut |number| fields[usize::from(number)].is_type_meta = false);
        Self { fields, by_name, tags, by_value }
    }

    pub(crate) fn slot_of(&self, name: NameId) -> Option<u8> {
        let i = self.by_name.binary_search_by_key(&name, |(n, _)| *n).ok()?;
        Some(self.by_name[i].1)
    }

    pub(crate) fn slot(&self, slot: u8) -> &Slot {
        &self.fields[usize::from(slot)]
    }
}

/// The most fields that a message may have.
const MAX_FIELDS: usize = 128;

fn tags(message: MsgId, by_name: &[(NameId, u8)]) -> Box<[Tag]> {
    let tag = |index: &u16| {
        let field = catalogue::field_at(*index);
        let to = match field.kind {
            Kind::Message(inner) if field.has(Flags::INLINE) => Target::Inline(tags(inner, by_name)),
            _ => {
                let i = by_name.binary_search_by_key(&field.name, |(n, _)| *n);
                let i = i.expect("the generator flattens every field of an embedded struct");
                Target::Slot(by_name[i].1)
            }
        };
        Tag { tag: field.tag, to }
    };
    message.fields_by_tag().iter().map(tag).collect()
}

fn each_slot(tags: &[Tag], visit: &mut impl FnMut(u8)) {
    for tag in tags {
        match &tag.to {
            Target::Slot(number) => visit(*number),
            Target::Inline(tags) => each_slot(tags, visit),
        }
    }
}

/// The entry for `tag`; mostly at or just after `guess`, because encoders write ascending tags.
pub(crate) fn find_tag(tags: &[Tag], guess: usize, tag: u32) -> Option<usize> {
    let is = |i: usize| tags.get(i).is_some_and(|t| u32::from(t.tag) == tag);
    if is(guess) {
        return Some(guess);
    }
    if is(guess + 1) {
        return Some(guess + 1);
    }
    tags.binary_search_by_key(&tag, |t| u32::from(t.tag)).ok()
}

impl Slot {
    fn of(field: &'static Field) -> Self {
        let pointer = field.has(Flags::POINTER);
        let omit = field.has(Flags::OMIT_EMPTY);
        let empty = match (field.shape, field.kind) {
            _ if field.has(Flags::OMIT_ZERO) => Empty::Omit,
            (Shape::One, _) if pointer => if omit { Empty::Omit } else { Empty::Null },
            // Go's omitempty does nothing for structs held by value.
            (Shape::One, Kind::Message(message)) => Empty::Message(message),
            (Shape::One, Kind::Quantity) => Empty::Text("\"0\""),
            (Shape::One, Kind::IntOrString) => Empty::Text("0"),
            (Shape::One, Kind::SchemaOrBool) => Empty::Text("false"),
            (
                Shape::One,
                Kind::Time | Kind::MicroTime | Kind::RawExtension | Kind::FieldsV1 | Kind::Json
                | Kind::SchemaOrArray | Kind::SchemaOrStrings,
            ) => Empty::Null,
            _ if omit => Empty::Omit,
            (Shape::One, Kind::String) => Empty::Text("\"\""),
            (Shape::One, Kind::Bool) => Empty::Text("false"),
            (Shape::One, Kind::Int32 | Kind::Int64 | Kind::Float64) => Empty::Text("0"),
            (Shape::One, Kind::Bytes | Kind::Strings) | (Shape::List | Shape::Map, _) => Empty::Null,
        };
        let zero_is_absent = field.shape == Shape::One
            && !pointer
            && matches!(
                field.kind,
                Kind::String | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Float64
                    | Kind::Quantity | Kind::IntOrString | Kind::Time | Kind::MicroTime
            );
        Self { field, key: format!("\"{}\":", field.name.text()).into(), empty, zero_is_absent, is_type_meta: false }
    }
}

/// An empty message: the messages that it holds by value, and theirs.
pub(crate) fn zero(message: MsgId) -> Value {
    let layout = Layout::of(message);
    let inner = |slot: &u8| {
        let field = layout.slot(*slot).field;
        (Name::Known(field.name), zero_of(field))
    };
    Value::Map(layout.by_value.iter().map(inner).collect())
}

/// What null is in a list or map, and what absence is for a message by value: Go's zero value.
pub(crate) fn zero_of(field: &Field) -> Value {
    if field.has(Flags::ELEMENT_POINTER) {
        return Value::Null;
    }
    match field.kind {
        Kind::String => Value::String(Box::default()),
        Kind::Bool | Kind::SchemaOrBool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::IntOrString => Value::Int(0),
        Kind::Float64 => Value::Float(0.0),
        Kind::Quantity => Value::String("0".into()),
        Kind::Time | Kind::MicroTime => Value::String(leaf::time_text(None, field.kind)),
        Kind::Message(message) => zero(message),
        Kind::Bytes | Kind::Strings | Kind::RawExtension | Kind::FieldsV1 | Kind::Json
        | Kind::SchemaOrArray | Kind::SchemaOrStrings => Value::Null,
    }
}

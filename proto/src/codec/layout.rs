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
    /// The slots by ascending name: the order of the tree.
    pub(crate) by_name: Box<[u8]>,
    names: NameTable,
    pub(crate) tags: Tags,
    /// Slots of messages that Go holds by value.
    pub(crate) by_value: Box<[u8]>,
    /// The slots that JSON shows even when they are absent.
    pub(crate) always: u64,
}

/// The most fields that a message may have: slots are numbered by a byte and kept in 64-bit sets.
pub(crate) const MAX_FIELDS: usize = 64;

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

pub(crate) struct Tags {
    /// By ascending tag.
    pub(crate) rows: Box<[Tag]>,
    /// The row of each low tag, [`NO_ROW`] where there is none.
    low: Box<[u8]>,
}

pub(crate) struct Tag {
    pub(crate) tag: u16,
    pub(crate) to: Target,
}

pub(crate) enum Target {
    Slot(u8),
    /// An embedded struct: its own tags, leading to slots of the embedding message.
    Inline(Tags),
}

static LAYOUTS: LazyLock<Box<[OnceLock<Box<Layout>>]>> =
    LazyLock::new(|| catalogue::messages().map(|_| OnceLock::new()).collect());

impl Layout {
    #[inline]
    pub(crate) fn of(message: MsgId) -> &'static Self {
        LAYOUTS[usize::from(message.0)].get_or_init(|| Box::new(Self::build(message)))
    }

    fn build(message: MsgId) -> Self {
        let mut fields: Box<[Slot]> = message.fields().map(Slot::of).collect();
        assert!(
            fields.len() <= MAX_FIELDS,
            "a message has at most 64 fields"
        );
        let numbers = 0..u8::try_from(fields.len()).expect("at most 64");
        let slot = |number: &u8| &fields[usize::from(*number)];
        let mut by_name: Box<[u8]> = numbers.clone().collect();
        by_name.sort_unstable_by_key(|n| slot(n).field.name);
        let by_value = numbers
            .clone()
            .filter(|n| matches!(slot(n).empty, Empty::Message(_)))
            .collect();
        let always = numbers
            .clone()
            .filter(|n| slot(n).empty != Empty::Omit)
            .fold(0, |set, n| set | 1 << n);
        let names = NameTable::new(numbers.map(|n| (slot(&n).field.name, n)).collect());
        let tags = Tags::new(message, &names);
        fields.iter_mut().for_each(|slot| slot.is_type_meta = true);
        tags.each_slot(&mut |number| fields[usize::from(number)].is_type_meta = false);
        Self {
            fields,
            by_name,
            names,
            tags,
            by_value,
            always,
        }
    }

    #[inline]
    pub(crate) fn slot_of(&self, name: NameId) -> Option<u8> {
        self.names.find(name)
    }

    #[inline]
    pub(crate) fn slot(&self, number: u8) -> &Slot {
        &self.fields[usize::from(number)]
    }
}

/// The numbers of a set of slots, ascending.
pub(crate) fn numbers(mut set: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let number = set.trailing_zeros();
        set &= set.checked_sub(1)?;
        Some(number as u8)
    })
}

/// Slots by name: a hash table without collisions, its multiplier found by trial.
struct NameTable {
    multiplier: u32,
    shift: u32,
    cells: Box<[Option<(NameId, u8)>]>,
}

impl NameTable {
    fn new(names: Vec<(NameId, u8)>) -> Self {
        // With four cells a name a few trials are enough; otherwise the table doubles.
        let few = (names.len().max(1) * 4)
            .next_power_of_two()
            .trailing_zeros();
        let trials = (few..16).flat_map(|bits| {
            (1..=100).map(move |trial| (bits, 0x9e37_79b9_u32.wrapping_mul(trial) | 1))
        });
        // The last one gives each of the 65,536 names its own cell.
        let mut tables = trials
            .chain([(16, 1 << 16)])
            .filter_map(|(bits, multiplier)| Self::try_new(&names, bits, multiplier));
        tables.next().expect("names are distinct")
    }

    fn try_new(names: &[(NameId, u8)], bits: u32, multiplier: u32) -> Option<Self> {
        let mut table = Self {
            multiplier,
            shift: 32 - bits,
            cells: vec![None; 1 << bits].into(),
        };
        for entry in names {
            let place = table.place(entry.0);
            if table.cells[place].replace(*entry).is_some() {
                return None;
            }
        }
        Some(table)
    }

    #[inline]
    fn place(&self, name: NameId) -> usize {
        (u32::from(name.0).wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    #[inline]
    fn find(&self, name: NameId) -> Option<u8> {
        self.cells[self.place(name)]
            .filter(|(n, _)| *n == name)
            .map(|(_, number)| number)
    }
}

const NO_ROW: u8 = u8::MAX;

impl Tags {
    fn new(message: MsgId, names: &NameTable) -> Self {
        let row = |field: &Field| {
            let to = match field.kind {
                Kind::Message(inner) if field.has(Flags::INLINE) => {
                    Target::Inline(Self::new(inner, names))
                }
                _ => Target::Slot(
                    names
                        .find(field.name)
                        .expect("the generator flattens embedded structs"),
                ),
            };
            Tag { tag: field.tag, to }
        };
        let rows: Box<[Tag]> = message.fields_by_tag().map(row).collect();
        let mut low = vec![NO_ROW; rows.last().map_or(0, |r| usize::from(r.tag) + 1).min(256)];
        for (i, row) in rows.iter().enumerate() {
            if let Some(cell) = low.get_mut(usize::from(row.tag)) {
                *cell = u8::try_from(i).expect("a message has at most 64 fields");
            }
        }
        Self {
            rows,
            low: low.into(),
        }
    }

    /// The number of the row of a tag.
    #[inline]
    pub(crate) fn find(&self, tag: u32) -> Option<usize> {
        match self.low.get(tag as usize) {
            Some(row) => (*row != NO_ROW).then_some(usize::from(*row)),
            None => self
                .rows
                .binary_search_by_key(&tag, |t| u32::from(t.tag))
                .ok(),
        }
    }

    fn each_slot(&self, visit: &mut impl FnMut(u8)) {
        for row in &self.rows {
            match &row.to {
                Target::Slot(number) => visit(*number),
                Target::Inline(tags) => tags.each_slot(visit),
            }
        }
    }
}

impl Slot {
    fn of(field: &'static Field) -> Self {
        let pointer = field.has(Flags::POINTER);
        let omit = field.has(Flags::OMIT_EMPTY);
        let empty = match (field.shape, field.kind) {
            _ if field.has(Flags::OMIT_ZERO) => Empty::Omit,
            (Shape::One, _) if pointer => {
                if omit {
                    Empty::Omit
                } else {
                    Empty::Null
                }
            }
            // Go's omitempty does nothing for structs held by value.
            (Shape::One, Kind::Message(message)) => Empty::Message(message),
            (Shape::One, Kind::Quantity) => Empty::Text("\"0\""),
            (Shape::One, Kind::IntOrString) => Empty::Text("0"),
            (Shape::One, Kind::SchemaOrBool) => Empty::Text("false"),
            (
                Shape::One,
                Kind::Time
                | Kind::MicroTime
                | Kind::RawExtension
                | Kind::FieldsV1
                | Kind::Json
                | Kind::SchemaOrArray
                | Kind::SchemaOrStrings,
            ) => Empty::Null,
            _ if omit => Empty::Omit,
            (Shape::One, Kind::String) => Empty::Text("\"\""),
            (Shape::One, Kind::Bool) => Empty::Text("false"),
            (Shape::One, Kind::Int32 | Kind::Int64 | Kind::Float64) => Empty::Text("0"),
            (Shape::One, Kind::Bytes | Kind::Strings) | (Shape::List | Shape::Map, _) => {
                Empty::Null
            }
        };
        let zero_is_absent = field.shape == Shape::One
            && !pointer
            && matches!(
                field.kind,
                Kind::String
                    | Kind::Bool
                    | Kind::Int32
                    | Kind::Int64
                    | Kind::Float64
                    | Kind::Quantity
                    | Kind::IntOrString
                    | Kind::Time
                    | Kind::MicroTime
            );
        Self {
            field,
            key: format!("\"{}\":", field.name.text()).into(),
            empty,
            zero_is_absent,
            is_type_meta: false,
        }
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
        Kind::Bytes
        | Kind::Strings
        | Kind::RawExtension
        | Kind::FieldsV1
        | Kind::Json
        | Kind::SchemaOrArray
        | Kind::SchemaOrStrings => Value::Null,
    }
}

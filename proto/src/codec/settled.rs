//! Whether an encoded object is as reading would leave it, told from its bytes.
//!
//! What is stored need not be what is served: older releases wrote without the fields that came later, with some that are
//! gone, and before defaults that are set today. Reading mends that by way of a tree. A [`Form`] says without one that there
//! is nothing to mend, which is so of almost every object: one walk over the bytes finds that every message has what
//! encoders always write and what has a default, and nothing that the catalogue does not know. What depends on more than one
//! field is asked by rules of who knows the resource.
//!
//! Where it is in doubt it says no: a tree may always decide.

use std::collections::HashMap;

use super::protobuf::wire::{Fields, Wire};
use super::{MAX_DEPTH, leaf, spans};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::NameId;

/// What else is so of a message that is as reading leaves it.
pub enum Rule {
    /// The field is there.
    Has(NameId),
    /// The field is there, and not zero.
    Filled(NameId),
    /// The field is not there.
    Lacks(NameId),
    /// At least one of its fields is there.
    Any,
    Holds(fn(Encoded<'_>) -> bool),
}

/// A message as it is encoded, read field by field. What cannot be read is absent.
#[derive(Clone, Copy)]
pub struct Encoded<'a> {
    raw: &'a [u8],
    message: MsgId,
}

impl<'a> Encoded<'a> {
    #[must_use]
    pub fn new(raw: &'a [u8], message: MsgId) -> Self {
        Self { raw, message }
    }

    fn field(self, name: NameId) -> Option<&'static Field> {
        self.message.fields_by_tag().find(|f| f.name == name)
    }

    fn wires(self, name: NameId) -> impl Iterator<Item = Wire<'a>> {
        let wanted = self.field(name).map(|field| u32::from(field.tag));
        let mut fields = Fields::new(self.raw, "");
        std::iter::from_fn(move || {
            let wanted = wanted?;
            loop {
                let (tag, wire) = fields.next().ok()??;
                if tag == wanted {
                    return Some(wire);
                }
            }
        })
    }

    #[must_use]
    pub fn has(self, name: NameId) -> bool {
        self.wires(name).next().is_some()
    }

    /// A string; empty where there is none.
    #[must_use]
    pub fn text(self, name: NameId) -> &'a str {
        self.texts(name).next().unwrap_or_default()
    }

    /// A list of strings.
    pub fn texts(self, name: NameId) -> impl Iterator<Item = &'a str> {
        self.wires(name).map(text)
    }

    /// A number, or 1 for true; 0 where there is none.
    #[must_use]
    pub fn number(self, name: NameId) -> i64 {
        let number = self.wires(name).next().and_then(Wire::as_varint);
        number.map_or(0, u64::cast_signed)
    }

    /// A list of messages, or the one.
    pub fn each(self, name: NameId) -> impl Iterator<Item = Self> {
        let message = self.field(name).and_then(|field| match field.kind {
            Kind::Message(message) => Some(message),
            _ => None,
        });
        self.wires(name)
            .filter_map(move |wire| Some(Self::new(wire.as_bytes()?, message?)))
    }

    /// A map. A value that is no string is an empty one.
    pub fn pairs(self, name: NameId) -> impl Iterator<Item = (&'a str, &'a str)> {
        let entries = self.wires(name).filter_map(spans::entry);
        entries.map(|(key, value)| (key, text(value)))
    }
}

fn text(wire: Wire<'_>) -> &str {
    let text = wire.as_bytes().map(std::str::from_utf8);
    text.and_then(Result::ok).unwrap_or_default()
}

/// What a kind of object looks like when there is nothing to mend.
pub struct Form {
    /// The first is of the object itself.
    nodes: Vec<Node>,
}

/// One message.
struct Node {
    message: MsgId,
    /// By tag.
    tags: Box<[Tag]>,
    /// The bits of fields that have to be there.
    needed: u64,
    /// Those of which none may be there.
    barred: u64,
    any: bool,
    rules: Vec<fn(Encoded<'_>) -> bool>,
}

#[derive(Clone, Copy)]
struct Tag {
    what: What,
    bit: u8,
    /// Zero is as good as nothing.
    filled: bool,
    /// Encoders write it once: what decoders make of a second one is for a tree to say.
    once: bool,
}

#[derive(Clone, Copy)]
enum What {
    Unknown,
    Leaf,
    /// The place of its message among the nodes.
    Message(u16),
    Messages(u16),
    Quantity,
    /// Amounts by name, which are kept in thousandths.
    Amounts,
}

impl Form {
    /// Of objects of `root`, with the rules of messages anywhere below it.
    #[must_use]
    pub fn new<'r>(root: MsgId, rules: impl IntoIterator<Item = &'r (MsgId, Rule)>) -> Self {
        let mut form = Self { nodes: Vec::new() };
        let mut known = HashMap::new();
        form.add(root, &mut known);
        for (message, rule) in rules {
            if let Some(at) = known.get(message) {
                form.nodes[usize::from(*at)].add(rule);
            }
        }
        form
    }

    fn add(&mut self, message: MsgId, known: &mut HashMap<MsgId, u16>) -> u16 {
        if let Some(at) = known.get(&message) {
            return *at;
        }
        let at = u16::try_from(self.nodes.len()).expect("a kind has a few hundred messages");
        known.insert(message, at);
        self.nodes.push(Node::new(message));
        for field in message.fields_by_tag() {
            if let Kind::Message(inner) = field.kind {
                let below = self.add(inner, known);
                let what = match field.shape {
                    Shape::Map => What::Messages(below),
                    _ => What::Message(below),
                };
                self.nodes[usize::from(at)].tags[usize::from(field.tag)].what = what;
            }
        }
        at
    }

    /// Whether there is nothing to mend in an encoded object (without envelope).
    #[must_use]
    pub fn holds(&self, raw: &[u8]) -> bool {
        self.walk(raw, 0, 0).is_some()
    }

    /// None where there is something, or the bytes are malformed.
    fn walk(&self, raw: &[u8], at: u16, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let node = &self.nodes[usize::from(at)];
        let (mut seen, mut last) = (0_u64, 0);
        let mut fields = Fields::new(raw, "");
        while let Some((number, wire)) = fields.next().ok()? {
            let tag = node.tags.get(number as usize)?;
            // Encoders write by ascending tag.
            if number < last {
                return None;
            }
            last = number;
            let bit = 1 << tag.bit;
            if tag.once && seen & bit != 0 {
                return None;
            }
            seen |= bit;
            match tag.what {
                What::Unknown => return None,
                What::Leaf if tag.filled => filled(wire)?,
                What::Leaf => {}
                What::Message(below) => self.walk(wire.as_bytes()?, below, depth + 1)?,
                What::Messages(below) => {
                    self.walk(spans::entry(wire)?.1.as_bytes()?, below, depth + 1)?
                }
                What::Quantity => canonical(spans::quantity(wire)?)?,
                What::Amounts => amount(spans::quantity(spans::entry(wire)?.1)?)?,
            }
        }
        let whole = seen & node.needed == node.needed && seen & node.barred == 0;
        let message = Encoded::new(raw, node.message);
        (whole && (!node.any || seen != 0) && node.rules.iter().all(|holds| holds(message)))
            .then_some(())
    }
}

impl Node {
    fn new(message: MsgId) -> Self {
        let own = || message.fields_by_tag();
        let unknown = Tag {
            what: What::Unknown,
            bit: 0,
            filled: false,
            once: false,
        };
        let length = own().map(|field| usize::from(field.tag) + 1).max();
        let mut tags = vec![unknown; length.unwrap_or(0)];
        let mut needed = 0;
        for (bit, field) in own().enumerate() {
            let pointer = field.has(Flags::POINTER);
            let optional = field.shape != Shape::One
                || pointer
                || matches!(field.kind, Kind::Bytes | Kind::Strings);
            let default = field.default().is_some();
            if default || !optional {
                needed |= 1 << bit;
            }
            tags[usize::from(field.tag)] = Tag {
                what: match (field.shape, field.kind) {
                    (Shape::Map, Kind::Quantity) => What::Amounts,
                    (_, Kind::Quantity) => What::Quantity,
                    _ => What::Leaf,
                },
                bit: u8::try_from(bit).expect("a message has at most 64 fields"),
                filled: default && !pointer,
                once: field.shape == Shape::One,
            };
        }
        Self {
            message,
            tags: tags.into(),
            needed,
            barred: 0,
            any: false,
            rules: Vec::new(),
        }
    }

    fn add(&mut self, rule: &Rule) {
        let tag_of = |name| {
            let of = Encoded::new(&[], self.message).field(name);
            usize::from(of.expect("rules name fields of their messages").tag)
        };
        match rule {
            Rule::Has(name) => self.needed |= 1 << self.tags[tag_of(*name)].bit,
            Rule::Filled(name) => {
                let tag = &mut self.tags[tag_of(*name)];
                tag.filled = true;
                self.needed |= 1 << tag.bit;
            }
            Rule::Lacks(name) => self.barred |= 1 << self.tags[tag_of(*name)].bit,
            Rule::Any => self.any = true,
            Rule::Holds(holds) => self.rules.push(*holds),
        }
    }
}

fn filled(wire: Wire<'_>) -> Option<()> {
    let zero = wire.as_varint() == Some(0) || wire.as_bytes().is_some_and(<[u8]>::is_empty);
    (!zero).then_some(())
}

/// That of most quantities is seen; of the others it is asked.
fn canonical(text: &str) -> Option<()> {
    let asked = || leaf::quantity(text).is_ok_and(|canonical| *canonical == *text);
    (leaf::is_plainly_canonical(text) || asked()).then_some(())
}

/// Of whole thousandths.
fn amount(text: &str) -> Option<()> {
    let fine = text.ends_with(['n', 'u']) || text.contains('-');
    canonical(text).filter(|()| !fine)
}

#[cfg(test)]
mod tests;

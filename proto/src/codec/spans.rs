//! Where the fields of an encoded message are: one walk over its bytes, so that the fields can then be
//! taken in JSON order.
//!
//! Functions return none for what no encoder writes (a single field given twice, an embedded struct in
//! two pieces, malformed bytes): whoever reads by spans then takes the way over the tree, which knows
//! what to do.

use super::layout::{Empty, Slot, Tag, Target, find_tag};
use super::protobuf::scalar;
use super::protobuf::wire::Fields;
pub(crate) use super::protobuf::wire::Wire;
use super::leaf;
use crate::catalogue::{Field, Flags, Kind, Shape};

/// Where the values of a field are.
#[derive(Clone, Copy)]
pub(crate) struct Span<'r> {
    count: u32,
    /// The first value.
    pub(crate) wire: Wire<'r>,
    /// What follows the first value in its message.
    rest: &'r [u8],
}

pub(crate) const ABSENT: Span<'static> = Span { count: 0, wire: Wire::Varint(0), rest: &[] };

/// Notes where the fields of a message are; `spans` has one for each slot.
pub(crate) fn note<'r>(raw: &'r [u8], tags: &'static [Tag], spans: &mut [Span<'r>]) -> Option<()> {
    let mut fields = Fields::new(raw, "");
    let mut guess = 0;
    let mut inlined = 0_u64;
    while let Some((tag, wire)) = fields.next().ok()? {
        let Some(i) = find_tag(tags, guess, tag) else { continue };
        guess = i;
        match &tags[i].to {
            Target::Slot(number) => {
                let span = &mut spans[usize::from(*number)];
                if span.count == 0 {
                    *span = Span { count: 0, wire, rest: fields.rest() };
                }
                span.count += 1;
            }
            Target::Inline(inner) => {
                let bit = 1_u64.checked_shl(u32::try_from(i).ok()?)?;
                if inlined & bit != 0 {
                    return None;
                }
                inlined |= bit;
                note(bytes(wire)?, inner, spans)?;
            }
        }
    }
    Some(())
}

impl<'r> Span<'r> {
    /// Whether the field shows as absent: not there, or Go cannot tell it from absence.
    pub(crate) fn is_absent(&self, slot: &Slot) -> Option<bool> {
        let field = slot.field;
        if self.count == 0 || field.shape != Shape::One {
            return Some(self.count == 0);
        }
        if self.count > 1 {
            return None;
        }
        if slot.zero_is_absent {
            return is_zero(field, self.wire);
        }
        let omit = slot.empty == Empty::Omit && !field.has(Flags::POINTER);
        Some(omit && matches!(field.kind, Kind::Bytes | Kind::Strings) && self.wire == Wire::Bytes(&[]))
    }

    /// The values of a list or the entries of a map that follow the first.
    pub(crate) fn others(&self, field: &Field) -> Others<'r> {
        Others { left: self.count.saturating_sub(1), tag: field.tag.into(), fields: Fields::new(self.rest, "") }
    }
}

/// What [`Span::others`] gives.
#[derive(Clone, Copy)]
pub(crate) struct Others<'r> {
    left: u32,
    tag: u32,
    fields: Fields<'r>,
}

impl<'r> Iterator for Others<'r> {
    type Item = Wire<'r>;

    fn next(&mut self) -> Option<Wire<'r>> {
        self.left = self.left.checked_sub(1)?;
        // The walk that counted them has read these bytes without an error.
        while let Ok(Some((tag, wire))) = self.fields.next() {
            if tag == self.tag {
                return Some(wire);
            }
        }
        None
    }
}

pub(crate) fn bytes(wire: Wire<'_>) -> Option<&[u8]> {
    match wire {
        Wire::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn varint(wire: Wire<'_>) -> Option<u64> {
    match wire {
        Wire::Varint(n) => Some(n),
        _ => None,
    }
}

/// Key and value of an entry of a map, written as encoders write it.
pub(crate) fn entry(wire: Wire<'_>) -> Option<(&str, Wire<'_>)> {
    let mut fields = Fields::new(bytes(wire)?, "");
    let (1, key) = fields.next().ok()?? else { return None };
    let (2, value) = fields.next().ok()?? else { return None };
    let key = std::str::from_utf8(bytes(key)?).ok()?;
    fields.rest().is_empty().then_some((key, value))
}

/// The text of a quantity, written as encoders write it; it need not be canonical.
pub(crate) fn quantity(wire: Wire<'_>) -> Option<&str> {
    let mut fields = Fields::new(bytes(wire)?, "");
    let (1, text) = fields.next().ok()?? else { return None };
    let text = std::str::from_utf8(bytes(text)?).ok()?;
    fields.rest().is_empty().then_some(text)
}

fn is_zero(field: &Field, wire: Wire<'_>) -> Option<bool> {
    Some(match field.kind {
        Kind::String => bytes(wire)?.is_empty(),
        Kind::Bool | Kind::Int64 => varint(wire)? == 0,
        Kind::Int32 => scalar::int32(varint(wire)?) == 0,
        Kind::Float64 => matches!(wire, Wire::Fixed64(bits) if f64::from_bits(bits) == 0.0),
        Kind::Time | Kind::MicroTime => scalar::timestamp(bytes(wire)?, field.kind).ok()?.is_none(),
        Kind::Quantity => {
            let text = quantity(wire)?;
            text == "0" || !leaf::is_plainly_canonical(text) && &*leaf::quantity(text).ok()? == "0"
        }
        Kind::IntOrString => scalar::int_or_bytes(bytes(wire)?).ok()? == Ok(0),
        _ => false,
    })
}

//! Where the fields of an encoded message are: one walk over its bytes, so that the fields can then be
//! taken in JSON order.
//!
//! Functions return none for what no encoder writes (a single field given twice, an embedded struct in
//! two pieces, malformed bytes): whoever reads by spans then takes the way over the tree, which knows
//! what to do.

use super::layout::{Empty, Slot, Tags, Target};
use super::leaf;
use super::protobuf::scalar;
use super::protobuf::wire::Fields;
pub(crate) use super::protobuf::wire::Wire;
use super::slots::Slots;
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

/// Notes where the fields of a message are.
pub(crate) fn note<'r>(
    raw: &'r [u8],
    tags: &'static Tags,
    slots: &mut Slots,
    spans: &mut Vec<Span<'r>>,
) -> Option<()> {
    let mut fields = Fields::new(raw, "");
    let mut inlined = 0_u64;
    while let Some((tag, wire)) = fields.next().ok()? {
        let Some(row) = tags.find(tag) else { continue };
        match &tags.rows[row].to {
            Target::Slot(number) => match slots.get_mut(spans, *number) {
                Some(span) => span.count += 1,
                None => slots.put(
                    spans,
                    *number,
                    Span {
                        count: 1,
                        wire,
                        rest: fields.rest(),
                    },
                ),
            },
            Target::Inline(inner) => {
                if inlined & (1 << row) != 0 {
                    return None;
                }
                inlined |= 1 << row;
                note(wire.as_bytes()?, inner, slots, spans)?;
            }
        }
    }
    Some(())
}

impl<'r> Span<'r> {
    /// Whether the field shows as absent all the same, because Go cannot tell it from absence.
    #[inline]
    pub(crate) fn is_absent(&self, slot: &Slot) -> Option<bool> {
        let field = slot.field;
        if field.shape != Shape::One {
            return Some(false);
        }
        if self.count > 1 {
            return None;
        }
        if slot.zero_is_absent {
            return is_zero(field, self.wire);
        }
        let omit = slot.empty == Empty::Omit && !field.has(Flags::POINTER);
        Some(
            omit && matches!(field.kind, Kind::Bytes | Kind::Strings)
                && self.wire.as_bytes() == Some(&[]),
        )
    }

    /// The values of a list or the entries of a map that follow the first.
    pub(crate) fn others(&self, field: &Field) -> Others<'r> {
        Others {
            left: self.count - 1,
            tag: field.tag.into(),
            fields: Fields::new(self.rest, ""),
        }
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

/// Key and value of an entry of a map, written as encoders write it.
pub(crate) fn entry(wire: Wire<'_>) -> Option<(&str, Wire<'_>)> {
    let mut fields = Fields::new(wire.as_bytes()?, "");
    let (1, key) = fields.next().ok()?? else {
        return None;
    };
    let (2, value) = fields.next().ok()?? else {
        return None;
    };
    let key = std::str::from_utf8(key.as_bytes()?).ok()?;
    fields.rest().is_empty().then_some((key, value))
}

/// The text of a quantity, written as encoders write it; it need not be canonical.
pub(crate) fn quantity(wire: Wire<'_>) -> Option<&str> {
    let mut fields = Fields::new(wire.as_bytes()?, "");
    let (1, text) = fields.next().ok()?? else {
        return None;
    };
    let text = std::str::from_utf8(text.as_bytes()?).ok()?;
    fields.rest().is_empty().then_some(text)
}

fn is_zero(field: &Field, wire: Wire<'_>) -> Option<bool> {
    Some(match field.kind {
        Kind::String => wire.as_bytes()?.is_empty(),
        Kind::Bool | Kind::Int64 => wire.as_varint()? == 0,
        Kind::Int32 => scalar::int32(wire.as_varint()?) == 0,
        Kind::Float64 => wire.as_double()? == 0.0,
        Kind::Time | Kind::MicroTime => scalar::timestamp(wire.as_bytes()?, field.kind)
            .ok()?
            .is_none(),
        Kind::Quantity => {
            let text = quantity(wire)?;
            text == "0" || !leaf::is_plainly_canonical(text) && &*leaf::quantity(text).ok()? == "0"
        }
        Kind::IntOrString => scalar::int_or_bytes(wire.as_bytes()?).ok()? == Ok(0),
        _ => false,
    })
}

//! What one version of an object adds, changes and removes against another.

use std::iter::Peekable;

use super::element::Element;
use super::filter::Filter;
use super::managed::Malformed;
use super::schema::{Merge, Treat, Type, element_of, equal, of_field, shown};
use super::set::Set;
use crate::catalogue::{MsgId, messages, names as n};
use crate::name::Name;
use crate::value::{Map, Value};

/// No field is in more than one of the sets.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    pub(super) fn filter(&mut self, filter: &Filter) {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            filter.apply(set);
        }
    }

    /// All fields that the newer object has another value in.
    pub(super) fn into_changed(mut self) -> Set {
        self.added.union(self.modified);
        self.added
    }
}

/// The form of the trees that are compared; see the module above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trees {
    Conformed,
    Explicit,
}

/// Compares two objects of a message.
///
/// # Errors
/// An element of a list has none of the keys that tell it from others.
pub fn compare(
    old: &Value,
    new: &Value,
    message: MsgId,
    trees: Trees,
) -> Result<Comparison, Malformed> {
    let walk = Walk { trees };
    let found = walk.node(Type::Message(message), Some(old), Some(new))?;
    Ok(found.sets)
}

struct Walk {
    trees: Trees,
}

/// What was found at and below a node.
#[derive(Default)]
struct Found {
    /// What happened to the node itself. A duplicate that becomes single is removed and added.
    marks: Marks,
    sets: Comparison,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Marks {
    added: bool,
    modified: bool,
    removed: bool,
}

impl Marks {
    /// What being there on one side only means.
    fn presence(old: Side<'_>, new: Side<'_>) -> Self {
        Self {
            added: old.is_none(),
            removed: old.is_some() && new.is_none(),
            modified: false,
        }
    }
}

impl Found {
    fn marked(marks: Marks) -> Self {
        Self {
            marks,
            sets: Comparison::default(),
        }
    }

    /// Adds what was found below, in ascending order of elements.
    fn push(&mut self, element: Element, below: Self) {
        let Self { marks, sets } = below;
        let rows = [
            (&mut self.sets.added, marks.added, sets.added),
            (&mut self.sets.modified, marks.modified, sets.modified),
            (&mut self.sets.removed, marks.removed, sets.removed),
        ];
        for (set, member, below) in rows {
            if member || !below.is_empty() {
                set.push(element.clone(), member, below);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.marks == Marks::default()
            && self.sets.added.is_empty()
            && self.sets.modified.is_empty()
            && self.sets.removed.is_empty()
    }
}

type Side<'a> = Option<&'a Value>;

impl Walk {
    /// At least one of the sides is there.
    fn node(&self, of: Type, old: Side<'_>, new: Side<'_>) -> Result<Found, Malformed> {
        if of.is_open() && kind(old).zip(kind(new)).is_some_and(|(a, b)| a != b) {
            let modified = true;
            return Ok(Found::marked(Marks {
                modified,
                ..Marks::default()
            }));
        }
        let mut found = match of.treat([old, new]) {
            Treat::Scalar(_) => return Ok(self.leaf(of, old, new)),
            Treat::List(merge) => {
                let (a, b) = (items(old), items(new));
                if matches!(merge, Merge::Atomic) || a.is_empty() && b.is_empty() {
                    return Ok(self.leaf(of, old, new));
                }
                self.list(of, merge, a, b)?
            }
            Treat::Map { atomic } => {
                if atomic || self.is_blank(of, old) && self.is_blank(of, new) {
                    return Ok(self.leaf(of, old, new));
                }
                self.map(of, old, new)?
            }
        };
        found.marks = Marks::presence(old, new);
        Ok(found)
    }

    /// One value, whatever is in it.
    fn leaf(&self, of: Type, old: Side<'_>, new: Side<'_>) -> Found {
        let mut marks = Marks::presence(old, new);
        if let (Some(old), Some(new)) = (old, new) {
            marks.modified = !self.same(of, old, new);
        }
        Found::marked(marks)
    }

    /// Whether two values show the same: what Go leaves out may be in a conformed tree or not.
    fn same(&self, of: Type, a: &Value, b: &Value) -> bool {
        if equal(a, b) {
            return true;
        }
        if self.trees == Trees::Explicit {
            return false;
        }
        match (a, b) {
            (Value::Map(a), Value::Map(b)) => match of.message() {
                Some(message) => message.fields().all(|field| {
                    match (shown(Some(a), field), shown(Some(b), field)) {
                        (Some(a), Some(b)) => self.same(of_field(message, field), a, b),
                        (a, b) => a.is_none() && b.is_none(),
                    }
                }),
                None => {
                    let below = |name| of.entry(name).unwrap_or(Type::Opaque);
                    let mut pairs = a.iter().zip(b.iter());
                    a.len() == b.len()
                        && pairs.all(|((x, a), (y, b))| x == y && self.same(below(x), a, b))
                }
            },
            (Value::List(a), Value::List(b)) => {
                let mut pairs = a.iter().zip(b);
                a.len() == b.len() && pairs.all(|(a, b)| self.same(of.element(), a, b))
            }
            _ => false,
        }
    }

    /// Nothing there, null, or a map in which nothing shows.
    fn is_blank(&self, of: Type, value: Side<'_>) -> bool {
        let Some(map) = value.and_then(Value::as_map) else {
            return value.is_none_or(Value::is_null);
        };
        let Some(message) = of.message() else {
            return map.is_empty();
        };
        if self.trees == Trees::Explicit {
            return map.is_empty();
        }
        let scalar = |v: &Value| !matches!(v, Value::Null | Value::List(_) | Value::Map(_));
        !map.iter().any(|(_, v)| scalar(v))
            && message.fields().all(|f| shown(Some(map), f).is_none())
    }

    fn map(&self, of: Type, old: Side<'_>, new: Side<'_>) -> Result<Found, Malformed> {
        match of.message() {
            Some(message) if self.trees == Trees::Conformed => self.message(message, old, new),
            _ => self.entries(of, old, new),
        }
    }

    fn message(&self, message: MsgId, old: Side<'_>, new: Side<'_>) -> Result<Found, Malformed> {
        let mut found = Found::default();
        let (a, b) = (old.and_then(Value::as_map), new.and_then(Value::as_map));
        if message == messages::meta_v1::OBJECT_META {
            typed(a)?;
            typed(b)?;
        }
        let whole = old.is_none_or(Value::is_null) || new.is_none_or(Value::is_null);
        let present = |side: Side<'_>| side.is_some_and(|v| !v.is_null());
        let (has_old, has_new) = (present(old), present(new));
        for field in message.fields_by_name() {
            // Where both are given, a field that neither tree has is the same in both.
            let given = |m: Option<&Map>| m.is_some_and(|m| m.contains(field.name));
            if !whole && !given(a) && !given(b) {
                continue;
            }
            let side = |has: bool, m| if has { shown(m, field) } else { None };
            self.child(
                &mut found,
                of_field(message, field),
                (side(has_old, a), side(has_new, b)),
                || Element::Field(Name::Known(field.name)),
            )?;
        }
        Ok(found)
    }

    fn entries(&self, of: Type, old: Side<'_>, new: Side<'_>) -> Result<Found, Malformed> {
        let mut found = Found::default();
        for (name, a, b) in zip(old, new) {
            let below = of.entry(name).unwrap_or(Type::Deduced);
            self.child(&mut found, below, (a, b), || Element::Field(name.clone()))?;
        }
        Ok(found)
    }

    fn child(
        &self,
        found: &mut Found,
        of: Type,
        (old, new): (Side<'_>, Side<'_>),
        element: impl FnOnce() -> Element,
    ) -> Result<(), Malformed> {
        if old.is_none() && new.is_none() {
            return Ok(());
        }
        let below = self.node(of, old, new)?;
        if !below.is_empty() {
            found.push(element(), below);
        }
        Ok(())
    }

    fn list(
        &self,
        of: Type,
        merge: Merge,
        old: &[Value],
        new: &[Value],
    ) -> Result<Found, Malformed> {
        let mut found = Found::default();
        if old == new {
            return Ok(found);
        }
        let mut a = sorted(of, merge, old)?.into_iter().peekable();
        let mut b = sorted(of, merge, new)?.into_iter().peekable();
        loop {
            let element = match (a.peek(), b.peek()) {
                (Some((x, _)), Some((y, _))) => x.min(y).clone(),
                (Some((x, _)), None) | (None, Some((x, _))) => x.clone(),
                (None, None) => return Ok(found),
            };
            let (was, is) = (take(&mut a, &element), take(&mut b, &element));
            let below = self.items(of.element(), &was, &is)?;
            if !below.is_empty() {
                found.push(element, below);
            }
        }
    }

    /// Elements of one key. More than one of them are one value: a duplicate cannot be merged.
    fn items(&self, of: Type, old: &[&Value], new: &[&Value]) -> Result<Found, Malformed> {
        match (old, new) {
            ([] | [_], [] | [_]) => self.node(of, old.first().copied(), new.first().copied()),
            ([_, _, ..], [_, _, ..]) => {
                let same = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| equal(a, b));
                let modified = !same;
                Ok(Found::marked(Marks {
                    modified,
                    ..Marks::default()
                }))
            }
            ([_, _, ..], new) => {
                let mut found = match new.first() {
                    Some(new) => self.node(of, None, Some(new))?,
                    None => Found::default(),
                };
                found.marks.removed = true;
                Ok(found)
            }
            (old, _) => {
                let mut found = match old.first() {
                    Some(old) => self.node(of, Some(old), None)?,
                    None => Found::default(),
                };
                found.marks.added = true;
                Ok(found)
            }
        }
    }
}

/// Upstream types whole objects before it compares them, and sets of fields are maps there: those in the metadata of a template
/// may hold anything.
fn typed(metadata: Option<&Map>) -> Result<(), Malformed> {
    let managed = metadata.and_then(|map| map.get(n::MANAGED_FIELDS)?.as_list());
    let untyped = |entry: &Value| match entry.get(n::FIELDS_V1) {
        Some(Value::Raw(raw)) => !raw.starts_with(b"{") && **raw != *b"null",
        _ => false,
    };
    match managed.unwrap_or_default().iter().any(untyped) {
        true => Err(Malformed::Fields),
        false => Ok(()),
    }
}

fn kind(side: Side<'_>) -> Option<u8> {
    match side? {
        Value::Null => None,
        Value::Map(_) => Some(0),
        Value::List(_) => Some(1),
        _ => Some(2),
    }
}

fn items(side: Side<'_>) -> &[Value] {
    side.and_then(Value::as_list).unwrap_or_default()
}

type Keyed<'a> = Vec<(Element, &'a Value)>;

/// The elements of a list by their keys; those of one key stay in their order.
fn sorted(of: Type, merge: Merge, items: &[Value]) -> Result<Keyed<'_>, Malformed> {
    let keyed = |item| Ok((element_of(of, merge, item)?, item));
    let mut keyed = items
        .iter()
        .map(keyed)
        .collect::<Result<Keyed<'_>, super::schema::Nameless>>()
        .map_err(|e| Malformed::List(e.to_string()))?;
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(keyed)
}

/// Takes the elements of a key.
fn take<'a>(
    from: &mut Peekable<std::vec::IntoIter<(Element, &'a Value)>>,
    element: &Element,
) -> Vec<&'a Value> {
    let mut taken = Vec::with_capacity(1);
    while let Some((_, value)) = from.next_if(|(e, _)| e == element) {
        taken.push(value);
    }
    taken
}

/// The entries of two maps by ascending name.
fn zip<'a>(old: Side<'a>, new: Side<'a>) -> impl Iterator<Item = (&'a Name, Side<'a>, Side<'a>)> {
    static NONE: Map = Map::new();
    let of = |side: Side<'a>| {
        side.and_then(Value::as_map)
            .unwrap_or(&NONE)
            .iter()
            .peekable()
    };
    let (mut a, mut b) = (of(old), of(new));
    std::iter::from_fn(move || {
        let name = match (a.peek(), b.peek()) {
            (Some((x, _)), Some((y, _))) => (*x).min(*y),
            (Some((x, _)), None) | (None, Some((x, _))) => *x,
            (None, None) => return None,
        };
        let was = a.next_if(|(n, _)| *n == name).map(|(_, v)| v);
        let is = b.next_if(|(n, _)| *n == name).map(|(_, v)| v);
        Some((name, was, is))
    })
}

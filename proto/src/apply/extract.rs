//! The set of the fields that an explicit tree has.

use super::element::Element;
use super::schema::{Merge, Nameless, Treat, Type, element_of};
use super::set::Set;
use crate::catalogue::MsgId;
use crate::value::{Map, Value};

impl Set {
    /// Every leaf of an object, every element of its merged lists, and every entry of its maps that is
    /// not declared by name.
    pub(super) fn of(object: &Value, message: MsgId) -> Result<Self, Nameless> {
        Ok(below(Type::Message(message), object)?.1)
    }

    /// The set with every declared field that leads to a member made a member.
    pub(super) fn with_named_fields(&self, message: MsgId) -> Self {
        named(self, Some(Type::Message(message)))
    }
}

/// Whether the node itself is a leaf, and the fields below it.
fn below(of: Type, value: &Value) -> Result<(bool, Set), Nameless> {
    let leaf = (true, Set::new());
    Ok(match (of.treat([Some(value), None]), value) {
        (Treat::Scalar(_) | Treat::List(Merge::Atomic) | Treat::Map { atomic: true }, _) => leaf,
        (Treat::List(merge), Value::List(items)) => (false, of_list(of, merge, items)?),
        (Treat::Map { .. }, Value::Map(map)) => (false, of_map(of, map)?),
        _ => (false, Set::new()),
    })
}

fn of_map(of: Type, map: &Map) -> Result<Set, Nameless> {
    let mut set = Set::new();
    for (name, value) in map.iter() {
        let (leaf, below) = below(of.entry(name).unwrap_or(Type::Deduced), value)?;
        let empty = value.is_null() || value.as_map().is_some_and(Map::is_empty);
        let member = leaf || empty || !of.declares(name);
        set.push(Element::Field(name.clone()), member, below);
    }
    Ok(set)
}

fn of_list(of: Type, merge: Merge, items: &[Value]) -> Result<Set, Nameless> {
    let mut keyed = items
        .iter()
        .map(|item| Ok((element_of(of, merge, item)?, item)))
        .collect::<Result<Vec<_>, Nameless>>()?;
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut set = Set::new();
    let mut rest = keyed.into_iter().peekable();
    while let Some((element, item)) = rest.next() {
        let mut duplicate = false;
        while rest.next_if(|(e, _)| *e == element).is_some() {
            duplicate = true;
        }
        // Nobody can own a part of a duplicate.
        let inner = if duplicate {
            Set::new()
        } else {
            below(of.element(), item)?.1
        };
        set.push(element, true, inner);
    }
    Ok(set)
}

fn named(set: &Set, of: Option<Type>) -> Set {
    let mut all = Set::new();
    for node in &set.nodes {
        let (declared, below) = match (&node.element, of) {
            (Element::Field(name), Some(of)) => (of.declares(name), of.entry(name)),
            (Element::Key(_), Some(of @ Type::List(_))) => (false, Some(of.element())),
            _ => (false, None),
        };
        let leads = declared && !node.below.is_empty();
        let below = named(&node.below, below);
        all.push(node.element.clone(), node.member || leads, below);
    }
    all
}

//! `FieldsV1`: sets as JSON, `{"f:spec":{"f:replicas":{}}}`; a dot among the entries of a node says
//! that the node itself is in the set.

use super::element::{Element, Escape, push_string};
use super::managed::Malformed;
use super::set::{Node, Set};
use crate::codec::json;
use crate::value::{Map, Value};

impl Set {
    /// Reads a set. Elements of unknown types are left out.
    ///
    /// # Errors
    /// It is not JSON, or a key in it is not a path element.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        match json::parse(text).map_err(|_| Malformed::Fields)? {
            Value::Map(map) => Ok(children(map)?.0),
            Value::Null => Ok(Self::new()),
            _ => Err(Malformed::Fields),
        }
    }

    /// The set as upstream prints it.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut key = Vec::with_capacity(64);
        self.push_text(false, &mut key, &mut out);
        out
    }

    fn push_text(&self, itself: bool, key: &mut Vec<u8>, out: &mut Vec<u8>) {
        out.push(b'{');
        if itself && !self.is_empty() {
            out.extend_from_slice(b"\".\":{}");
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if i > 0 || itself {
                out.push(b',');
            }
            push_key(&node.element, key, out);
            out.push(b':');
            node.below.push_text(node.member, key, out);
        }
        out.push(b'}');
    }
}

fn push_key(element: &Element, key: &mut Vec<u8>, out: &mut Vec<u8>) {
    key.clear();
    element.print(key);
    // An element is printed from strings, so this borrows.
    push_string(&String::from_utf8_lossy(key), Escape::Plain, out);
}

/// The nodes of a JSON object, and whether the object itself is in the set: it says so, or has no
/// nodes.
fn children(map: Map) -> Result<(Set, bool), Malformed> {
    let mut nodes = Vec::with_capacity(map.len());
    let mut member = false;
    for (key, value) in map {
        let text = key.as_str();
        if text == "." {
            member = true;
            continue;
        }
        let Some(element) = Element::parse(text).map_err(|_| Malformed::Fields)? else {
            continue;
        };
        let (below, member) = match value {
            Value::Map(map) => children(map)?,
            Value::Null => (Set::new(), true),
            _ => return Err(Malformed::Fields),
        };
        nodes.push(Node {
            element,
            member,
            below,
        });
    }
    // Stored sets are sorted already, up to the order of kinds of elements and of numbers in keys.
    nodes.sort_by(|a, b| a.element.cmp(&b.element));
    nodes.dedup_by(|later, earlier| {
        let same = later.element == earlier.element;
        if same {
            earlier.member |= later.member;
            earlier.below.union(std::mem::take(&mut later.below));
        }
        same
    });
    let empty = nodes.is_empty();
    Ok((Set { nodes }, member || empty))
}

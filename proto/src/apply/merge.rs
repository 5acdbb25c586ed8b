//! An applied configuration written over an object, both explicit trees. Nothing is removed.

use std::collections::HashMap;

use super::element::Element;
use super::schema::{Merge, Treat, Type, element_of};
use crate::catalogue::MsgId;
use crate::value::{Map, Value};

/// Why two trees cannot be merged, with the path to the node.
#[derive(thiserror::Error, Debug, Clone, PartialEq)]
#[error("{path}: {problem}")]
pub(super) struct Unmergeable {
    path: String,
    problem: String,
}

/// `over` wins wherever both have a leaf. Merged lists are ordered like `base` where `over` changes
/// nothing, and like `over` where it does.
pub(super) fn merge(base: &Value, over: &Value, message: MsgId) -> Result<Value, Unmergeable> {
    let merged = node(Type::Message(message), Some(base), Some(over))?;
    Ok(merged.unwrap_or_default())
}

type Side<'a> = Option<&'a Value>;

/// Nothing if nothing is left to show.
fn node(of: Type, base: Side<'_>, over: Side<'_>) -> Result<Option<Value>, Unmergeable> {
    let leaf = || over.or(base).cloned();
    let wins = if of.is_open() && over.is_some_and(|v| !v.is_null()) {
        // Another kind of value replaces the one that is there.
        [over, None]
    } else {
        [base, over]
    };
    match of.treat(wins) {
        Treat::Scalar(_) | Treat::List(Merge::Atomic) | Treat::Map { atomic: true } => Ok(leaf()),
        Treat::List(merge) => {
            let (a, b) = (items(base), items(over));
            if a.is_empty() && b.is_empty() {
                return Ok(leaf());
            }
            lists(of, merge, a, b)
        }
        Treat::Map { .. } => {
            let (a, b) = (entries(base), entries(over));
            if a.is_empty() && b.is_empty() {
                return Ok(leaf());
            }
            maps(of, a, b)
        }
    }
}

fn items(side: Side<'_>) -> &[Value] {
    side.and_then(Value::as_list).unwrap_or_default()
}

fn entries(side: Side<'_>) -> &Map {
    static NONE: Map = Map::new();
    side.and_then(Value::as_map).unwrap_or(&NONE)
}

fn maps(of: Type, base: &Map, over: &Map) -> Result<Option<Value>, Unmergeable> {
    let mut out = Vec::with_capacity(base.len() + over.len());
    let new = over.iter().filter(|(name, _)| !base.contains(*name));
    let names = base.iter().chain(new).map(|(name, _)| name);
    for name in names {
        let below = of.entry(name).unwrap_or(Type::Deduced);
        let merged = node(below, base.get(name), over.get(name))
            .map_err(|e| e.below(&format!(".{name}")))?;
        if let Some(value) = merged {
            out.push((name.clone(), value));
        }
    }
    Ok((!out.is_empty()).then(|| Value::Map(Map::from_entries(out).0)))
}

impl Unmergeable {
    fn below(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

/// The elements of one list, found by their keys.
struct Indexed<'a> {
    items: &'a [Value],
    /// The number of the key of each element.
    keys: Vec<usize>,
}

/// Gives equal elements equal numbers.
#[derive(Default)]
struct Numbers {
    known: Vec<Element>,
    by_text: HashMap<Vec<u8>, usize>,
}

impl Numbers {
    fn of(&mut self, element: Element) -> usize {
        // Elements that are equal print the same, numbers of different kinds apart, which no list has.
        let mut text = Vec::new();
        element.print(&mut text);
        *self.by_text.entry(text).or_insert_with(|| {
            self.known.push(element);
            self.known.len() - 1
        })
    }
}

impl<'a> Indexed<'a> {
    fn new(
        of: Type,
        merge: Merge,
        items: &'a [Value],
        numbers: &mut Numbers,
    ) -> Result<Self, Unmergeable> {
        let mut keys = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let element = element_of(of, merge, item).map_err(|e| Unmergeable {
                path: String::new(),
                problem: format!("element {i}: {e}"),
            })?;
            keys.push(numbers.of(element));
        }
        Ok(Self { items, keys })
    }

    /// The element of each key; none where there is none, or where there are several: a duplicate is
    /// not merged with anything.
    fn single(&self, keys: usize) -> Vec<Found<'a>> {
        let mut found = vec![Found::No; keys];
        for (item, key) in self.items.iter().zip(&self.keys) {
            found[*key] = match found[*key] {
                Found::No => Found::One(item),
                _ => Found::Several,
            };
        }
        found
    }
}

#[derive(Clone, Copy)]
enum Found<'a> {
    No,
    One(&'a Value),
    Several,
}

impl<'a> Found<'a> {
    fn is_there(self) -> bool {
        !matches!(self, Found::No)
    }

    fn one(self) -> Side<'a> {
        match self {
            Found::One(value) => Some(value),
            _ => None,
        }
    }
}

fn lists(
    of: Type,
    merge: Merge,
    base: &[Value],
    over: &[Value],
) -> Result<Option<Value>, Unmergeable> {
    let mut numbers = Numbers::default();
    let over = Indexed::new(of, merge, over, &mut numbers)?;
    let base = Indexed::new(of, merge, base, &mut numbers)?;
    let count = numbers.known.len();
    let (in_base, in_over) = (base.single(count), over.single(count));
    if let Some(twice) = in_over.iter().position(|f| matches!(f, Found::Several)) {
        return Err(Unmergeable {
            path: String::new(),
            problem: format!("duplicate entries for key {}", numbers.known[twice]),
        });
    }
    let mut out = Vec::with_capacity(base.items.len().max(over.items.len()));
    for step in plan(&base.keys, &over.keys, &in_base, &in_over) {
        let (key, a, b) = match step {
            // Of duplicates each stands for itself.
            Step::Base(i) => (base.keys[i], Some(&base.items[i]), None),
            Step::Both(key) => (key, in_base[key].one(), in_over[key].one()),
        };
        let merged =
            node(of.element(), a, b).map_err(|e| e.below(&numbers.known[key].to_string()))?;
        out.extend(merged);
    }
    Ok((!out.is_empty()).then_some(Value::List(out)))
}

enum Step {
    /// The element at this place of the base, which only the base has.
    Base(usize),
    /// The element of this key, which both may have.
    Both(usize),
}

/// The order of the merged list. What both lists have stands in the order of `over`; what only the base
/// has stays behind what it followed.
fn plan(base: &[usize], over: &[usize], in_base: &[Found<'_>], in_over: &[Found<'_>]) -> Vec<Step> {
    let mut shared = over.iter().filter(|key| in_base[**key].is_there()).copied();
    let mut next_shared = shared.next();
    let mut done = vec![false; in_base.len()];
    let mut steps = Vec::with_capacity(base.len() + over.len());
    let (mut l, mut r) = (0, 0);
    while l < base.len() || r < over.len() {
        if let (Some(a), Some(b)) = (base.get(l), over.get(r)) {
            if a == b {
                done[*a] = true;
                steps.push(Step::Both(*a));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if in_over[*a].is_there() && next_shared.is_some_and(|next| next != *a) {
                // Shared, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if let Some(a) = base.get(l) {
            if !in_over[*a].is_there() {
                steps.push(Step::Base(l));
                l += 1;
                continue;
            } else if done[*a] {
                l += 1;
            }
        }
        if let Some(b) = over.get(r) {
            done[*b] = true;
            steps.push(Step::Both(*b));
            r += 1;
            if next_shared == Some(*b) {
                next_shared = shared.next();
            }
        }
    }
    steps
}

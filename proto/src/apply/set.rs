//! Sets of fields.

use std::cmp::Ordering;

use super::element::Element;

/// A set of fields: a tree of path elements. A node that is a *member* is in the set; one that is not
/// only leads to members.
///
/// Invariants: nodes are sorted and unique; every node is a member or leads to one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    pub(super) nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) element: Element,
    pub(super) member: bool,
    pub(super) below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// Finds elements in ascending order: each search starts where the last one ended and doubles its
/// steps, so that a small set against a large one costs a logarithm each.
struct Cursor<'a> {
    rest: &'a [Node],
}

impl<'a> Cursor<'a> {
    fn seek(&mut self, element: &Element) -> Option<&'a Node> {
        let mut bound = 1;
        while self.rest.get(bound).is_some_and(|n| n.element < *element) {
            bound *= 2;
        }
        let window = &self.rest[..self.rest.len().min(bound + 1)];
        let at = window.partition_point(|n| n.element < *element);
        self.rest = &self.rest[at..];
        self.rest.first().filter(|n| n.element == *element)
    }
}

impl Set {
    #[must_use]
    pub const fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many fields are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        let sizes = self
            .nodes
            .iter()
            .map(|n| usize::from(n.member) + n.below.len());
        sizes.sum()
    }

    /// Adds the field at `path`; the fields on the way are not added. An empty path adds nothing.
    pub fn insert(&mut self, path: impl IntoIterator<Item = Element>) {
        let mut path = path.into_iter().peekable();
        let mut set = self;
        while let Some(element) = path.next() {
            let node = set.node(element);
            if path.peek().is_none() {
                node.member = true;
                return;
            }
            set = &mut node.below;
        }
    }

    fn node(&mut self, element: Element) -> &mut Node {
        let at = self.nodes.binary_search_by(|n| n.element.cmp(&element));
        let i = at.unwrap_or_else(|i| {
            let (member, below) = (false, Set::new());
            self.nodes.insert(
                i,
                Node {
                    element,
                    member,
                    below,
                },
            );
            i
        });
        &mut self.nodes[i]
    }

    /// The set of the fields named by dotted paths.
    pub(super) fn of_dotted<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(path.split('.').map(Element::field));
        }
        set
    }

    /// Appends a node behind all others; drops it if it would be empty.
    pub(super) fn push(&mut self, element: Element, member: bool, below: Set) {
        debug_assert!(self.nodes.last().is_none_or(|n| n.element < element));
        let node = Node {
            element,
            member,
            below,
        };
        if !node.is_empty() {
            self.nodes.push(node);
        }
    }

    pub(super) fn get(&self, element: &Element) -> Option<&Node> {
        let at = self
            .nodes
            .binary_search_by(|n| n.element.cmp(element))
            .ok()?;
        Some(&self.nodes[at])
    }

    #[must_use]
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|n| n.member),
            [first, rest @ ..] => self.get(first).is_some_and(|n| n.below.has(rest)),
        }
    }

    /// Adds all fields of another set.
    pub fn union(&mut self, other: Set) {
        if self.nodes.is_empty() {
            *self = other;
            return;
        }
        if other.nodes.is_empty() {
            return;
        }
        let ours = std::mem::take(&mut self.nodes);
        self.nodes.reserve(ours.len() + other.nodes.len());
        let mut ours = ours.into_iter().peekable();
        let mut theirs = other.nodes.into_iter().peekable();
        while let (Some(a), Some(b)) = (ours.peek(), theirs.peek()) {
            let next = match a.element.cmp(&b.element) {
                Ordering::Less => ours.next(),
                Ordering::Greater => theirs.next(),
                Ordering::Equal => ours.next().zip(theirs.next()).map(|(mut a, b)| {
                    a.member |= b.member;
                    a.below.union(b.below);
                    a
                }),
            };
            self.nodes.extend(next);
        }
        self.nodes.extend(ours);
        self.nodes.extend(theirs);
    }

    /// All fields of many sets, in time that does not depend on how they are spread over them.
    #[must_use]
    pub(super) fn union_all(mut sets: Vec<Self>) -> Self {
        while sets.len() > 1 {
            let mut pairs = sets.into_iter();
            let mut halved = Vec::with_capacity(pairs.len().div_ceil(2));
            while let Some(mut set) = pairs.next() {
                set.union(pairs.next().unwrap_or_default());
                halved.push(set);
            }
            sets = halved;
        }
        sets.pop().unwrap_or_default()
    }

    /// Takes away the fields of another set. Fields below or above them stay.
    pub fn difference(&mut self, other: &Set) {
        if other.is_empty() {
            return;
        }
        let mut cursor = Cursor { rest: &other.nodes };
        self.nodes.retain_mut(|node| {
            if let Some(theirs) = cursor.seek(&node.element) {
                node.member &= !theirs.member;
                node.below.difference(&theirs.below);
            }
            !node.is_empty()
        });
    }

    /// Takes away the fields of another set and everything below them.
    pub fn difference_deep(&mut self, other: &Set) {
        if other.is_empty() {
            return;
        }
        let mut cursor = Cursor { rest: &other.nodes };
        self.nodes.retain_mut(|node| {
            match cursor.seek(&node.element) {
                Some(theirs) if theirs.member => return false,
                Some(theirs) => node.below.difference_deep(&theirs.below),
                None => {}
            }
            !node.is_empty()
        });
    }

    /// The fields that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let (small, large) = if self.nodes.len() <= other.nodes.len() {
            (self, other)
        } else {
            (other, self)
        };
        let mut cursor = Cursor { rest: &large.nodes };
        let mut both = Set::new();
        for node in &small.nodes {
            if let Some(theirs) = cursor.seek(&node.element) {
                let member = node.member && theirs.member;
                let below = node.below.intersection(&theirs.below);
                both.push(node.element.clone(), member, below);
            }
        }
        both
    }

    /// The fields that have no field of the set below them.
    #[must_use]
    pub fn leaves(&self) -> Set {
        let mut leaves = Set::new();
        for node in &self.nodes {
            let member = node.member && node.below.is_empty();
            leaves.push(node.element.clone(), member, node.below.leaves());
        }
        leaves
    }

    /// Calls `f` with the path of every field, those of one level before those below it.
    pub fn each<'a>(&'a self, f: &mut impl FnMut(&[&'a Element])) {
        self.each_below(&mut Vec::new(), f);
    }

    fn each_below<'a>(&'a self, path: &mut Vec<&'a Element>, f: &mut impl FnMut(&[&'a Element])) {
        for node in self.nodes.iter().filter(|n| n.member) {
            path.push(&node.element);
            f(path);
            path.pop();
        }
        for node in &self.nodes {
            path.push(&node.element);
            node.below.each_below(path, f);
            path.pop();
        }
    }

    /// The paths of all fields, as conflicts show them.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.each(&mut |path| paths.push(path.iter().map(ToString::to_string).collect()));
        paths
    }
}

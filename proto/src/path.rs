//! Field paths and lists of errors: `spec.containers[0].name: Required value`.
//!
//! The error types, their texts and the order of their details follow upstream's
//! `apimachinery/pkg/util/validation/field`; clients match on `reason`, `field` and often on the text.
//!
//! Paths are not carried along: the first error makes an index of the tree from the address of each
//! node to its parent, so that rules which find nothing cost nothing, and an object with many errors
//! costs what it is long and not its square.

mod text;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

use crate::name::{Name, NameId};
use crate::value::Value;
use crate::view::View;

pub use text::{Named, Show, is_printable, push_field, push_index, push_key, quote};

/// Upstream's `field.ErrorType`, which becomes the `reason` of a cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    TypeInvalid,
    Internal,
}

impl Reason {
    /// The machine-readable form in `status.details.causes[].reason`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::TypeInvalid => "Invalid value",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal
        )
    }
}

/// One finding of validation.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldError {
    pub reason: Reason,
    /// `spec.containers[0].name`.
    pub field: String,
    /// The offending value as upstream prints it (strings quoted, objects as JSON). Empty where none
    /// is shown: an empty string shows as `""`.
    pub value: String,
    pub detail: String,
}

impl FieldError {
    #[must_use]
    pub fn new(
        reason: Reason,
        field: impl Into<String>,
        value: String,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            field: field.into(),
            value,
            detail: detail.into(),
        }
    }

    #[must_use]
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Reason::Required, field, String::new(), detail)
    }

    #[must_use]
    pub fn invalid(field: impl Into<String>, value: impl Show, detail: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, field, value.show(), detail)
    }

    #[must_use]
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Reason::Forbidden, field, String::new(), detail)
    }

    /// `Unsupported value: "x": supported values: "a", "b"`, the values in the order given. Upstream
    /// gives sets in sorted order and other lists as they stand in the source.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: impl Show, allowed: &[&str]) -> Self {
        let list: Vec<String> = allowed.iter().map(|v| quote(v)).collect();
        let detail = if list.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", list.join(", "))
        };
        Self::new(Reason::NotSupported, field, value.show(), detail)
    }

    #[must_use]
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        let detail = format!("may not be more than {max} {}", plural(max, "byte"));
        Self::new(Reason::TooLong, field, String::new(), detail)
    }

    /// The text without the field, as in `status.details.causes[].message`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut s = self.reason.text().to_owned();
        if self.reason.shows_value() && !self.value.is_empty() {
            let _ = write!(s, ": {}", self.value);
        }
        if !self.detail.is_empty() {
            let _ = write!(s, ": {}", self.detail);
        }
        s
    }
}

fn plural(n: usize, one: &str) -> String {
    if n == 1 {
        one.to_owned()
    } else {
        format!("{one}s")
    }
}

/// All errors in one text, each once: `a` or `[a, b]`, as upstream's aggregate of errors says it
/// (`apimachinery/pkg/util/errors`).
#[must_use]
pub fn aggregate(errors: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut seen = HashSet::new();
    let mut texts: Vec<String> = errors.into_iter().map(|e| e.to_string()).collect();
    texts.retain(|text| seen.insert(text.clone()));
    if texts.len() == 1 {
        texts.swap_remove(0)
    } else {
        format!("[{}]", texts.join(", "))
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Where an error is: a node of the tree, a field of it, or an element or key below that.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    node: &'a Value,
    tail: [Option<Segment<'a>>; 3],
}

#[derive(Clone, Copy)]
pub enum Segment<'a> {
    Field(NameId),
    Index(usize),
    Key(&'a str),
}

impl<'a> Spot<'a> {
    /// The node of a view itself.
    pub fn of<V: View<'a>>(view: V) -> Self {
        Self {
            node: view.node().value(),
            tail: [None; 3],
        }
    }

    /// A node of the tree.
    #[must_use]
    pub fn node(node: &'a Value) -> Self {
        Self {
            node,
            tail: [None; 3],
        }
    }

    #[must_use]
    fn push(mut self, segment: Segment<'a>) -> Self {
        let free = self.tail.iter_mut().find(|s| s.is_none());
        debug_assert!(free.is_some(), "more than three segments after a node");
        if let Some(free) = free {
            *free = Some(segment);
        }
        self
    }
    /// A field below; at most three segments may follow a node.
    #[must_use]
    pub fn field(self, name: NameId) -> Self {
        self.push(Segment::Field(name))
    }
    #[must_use]
    pub fn index(self, i: usize) -> Self {
        self.push(Segment::Index(i))
    }
    #[must_use]
    pub fn key(self, key: &'a str) -> Self {
        self.push(Segment::Key(key))
    }
}

impl<'a, V: View<'a>> From<(V, NameId)> for Spot<'a> {
    fn from((view, name): (V, NameId)) -> Self {
        Self::of(view).field(name)
    }
}

/// Collects the errors of one object. All of them are reported at once, in the order found.
pub struct Errors<'a> {
    root: &'a Value,
    index: Option<Index<'a>>,
    /// Paths that were looked for without an index.
    walks: usize,
    /// Maps whose keys are no fields, by address.
    keyed: HashSet<*const Value>,
    found: Vec<FieldError>,
    /// Places of what other rules may find too.
    covered: Vec<usize>,
    /// Whether old fields may have addresses of ambiguous forms: `StrictIPCIDRValidation` is off.
    pub lax_addresses: bool,
}

impl<'a> Errors<'a> {
    #[must_use]
    pub fn new(root: &'a Value) -> Self {
        Self {
            root,
            index: None,
            walks: 0,
            keyed: HashSet::new(),
            found: Vec::new(),
            covered: Vec::new(),
            lax_addresses: false,
        }
    }

    /// Says that this is a map of keys: a tree cannot tell one that is called like a field from that. Where paths lead through it,
    /// they have the key in brackets.
    pub fn keyed(&mut self, map: &Value) {
        self.keyed.insert(std::ptr::from_ref(map));
    }

    /// What `find` adds, declarative rules may find as well: then [`Errors::supersede`] drops it.
    pub fn covered(&mut self, find: impl FnOnce(&mut Self)) {
        let before = self.found.len();
        find(self);
        self.covered.extend(before..self.found.len());
    }

    /// Drops covered errors for those of the same reason and field from a place on.
    pub fn supersede(&mut self, from: usize) {
        let (older, newer) = self.found.split_at(from.min(self.found.len()));
        // What a field is and what became of it are two things, which upstream tells by their origins.
        let change = |e: &FieldError| e.detail.starts_with("field ");
        let again = |e: &FieldError| {
            let same = |n: &FieldError| {
                n.reason == e.reason && n.field == e.field && change(n) == change(e)
            };
            newer.iter().any(same)
        };
        let mut gone: Vec<usize> = std::mem::take(&mut self.covered);
        gone.retain(|i| older.get(*i).is_some_and(again));
        for i in gone.into_iter().rev() {
            self.found.remove(i);
        }
    }

    /// Drops errors that say what an earlier one says. Upstream's rules check some things more than
    /// once; `ErrorList.Filter`, through which what they find goes, drops what is repeated.
    pub fn dedup(&mut self) {
        if self.found.len() < 2 {
            return;
        }
        let covered = std::mem::take(&mut self.covered);
        let mut seen = HashSet::new();
        for (i, error) in std::mem::take(&mut self.found).into_iter().enumerate() {
            if seen.insert(error.to_string()) {
                if covered.contains(&i) {
                    self.covered.push(self.found.len());
                }
                self.found.push(error);
            }
        }
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.found
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// The path of a spot, found by the address of its node. A node that is not in the tree has none:
    /// the path is then that of the segments after it.
    #[must_use]
    pub fn path(&mut self, spot: Spot<'_>) -> String {
        let mut path = String::new();
        if self.walks < WALKS && self.walk(spot.node, &mut path).is_ok() {
            self.walks += 1;
        } else {
            self.index
                .get_or_insert_with(|| Index::new(self.root))
                .push(spot.node, &self.keyed, &mut path);
        }
        for segment in spot.tail.into_iter().flatten() {
            segment.push(&mut path);
        }
        path
    }

    /// Appends the path to a node that is found by going through the tree.
    fn walk(&self, to: &Value, path: &mut String) -> Result<(), TooDeep> {
        let mut trail = Vec::new();
        if find(self.root, to, &self.keyed, &mut trail)? {
            trail.iter().for_each(|segment| segment.push(path));
        }
        Ok(())
    }

    pub fn push(&mut self, error: FieldError) {
        self.found.push(error);
    }

    /// Adds an error of any reason.
    pub fn add<'s>(
        &mut self,
        reason: Reason,
        at: impl Into<Spot<'s>>,
        value: String,
        detail: impl Into<String>,
    ) {
        let field = self.path(at.into());
        self.push(FieldError::new(reason, field, value, detail));
    }

    pub fn required<'s>(&mut self, at: impl Into<Spot<'s>>, detail: impl Into<String>) {
        self.add(Reason::Required, at, String::new(), detail);
    }
    pub fn invalid<'s>(
        &mut self,
        at: impl Into<Spot<'s>>,
        value: impl Show,
        detail: impl Into<String>,
    ) {
        self.add(Reason::Invalid, at, value.show(), detail);
    }
    /// One error for each problem that a check of [`crate::meta::names`] found.
    pub fn invalid_each<'s>(
        &mut self,
        at: impl Into<Spot<'s>>,
        value: impl Show,
        problems: Vec<String>,
    ) {
        if problems.is_empty() {
            return;
        }
        let field = self.path(at.into());
        for problem in problems {
            self.push(FieldError::new(
                Reason::Invalid,
                field.as_str(),
                value.show(),
                problem,
            ));
        }
    }
    pub fn forbidden<'s>(&mut self, at: impl Into<Spot<'s>>, detail: impl Into<String>) {
        self.add(Reason::Forbidden, at, String::new(), detail);
    }
    pub fn duplicate<'s>(&mut self, at: impl Into<Spot<'s>>, value: impl Show) {
        self.add(Reason::Duplicate, at, value.show(), "");
    }
    pub fn not_found<'s>(&mut self, at: impl Into<Spot<'s>>, value: impl Show) {
        self.add(Reason::NotFound, at, value.show(), "");
    }
    /// As [`FieldError::not_supported`]: the values stand in the order given.
    pub fn not_supported<'s>(
        &mut self,
        at: impl Into<Spot<'s>>,
        value: impl Show,
        allowed: &[&str],
    ) {
        let field = self.path(at.into());
        self.push(FieldError::not_supported(field, value, allowed));
    }
    pub fn type_invalid<'s>(
        &mut self,
        at: impl Into<Spot<'s>>,
        value: impl Show,
        detail: impl Into<String>,
    ) {
        self.add(Reason::TypeInvalid, at, value.show(), detail);
    }
    pub fn internal<'s>(&mut self, at: impl Into<Spot<'s>>, detail: impl Into<String>) {
        self.add(Reason::Internal, at, String::new(), detail);
    }
    pub fn too_long<'s>(&mut self, at: impl Into<Spot<'s>>, max: usize) {
        let field = self.path(at.into());
        self.push(FieldError::too_long(field, max));
    }
    pub fn too_long_characters<'s>(&mut self, at: impl Into<Spot<'s>>, max: usize) {
        let detail = format!("may not be more than {max} {}", plural(max, "character"));
        self.add(Reason::TooLong, at, String::new(), detail);
    }
    pub fn too_short<'s>(&mut self, at: impl Into<Spot<'s>>, min: usize) {
        let detail = format!("must be at least {min} {}", plural(min, "character"));
        self.add(Reason::TooShort, at, String::new(), detail);
    }
    pub fn too_many<'s>(&mut self, at: impl Into<Spot<'s>>, actual: usize, max: usize) {
        let detail = format!("must have at most {max} {}", plural(max, "item"));
        self.add(Reason::TooMany, at, actual.to_string(), detail);
    }
    pub fn too_few<'s>(&mut self, at: impl Into<Spot<'s>>, actual: usize, min: usize) {
        let detail = format!("must have at least {min} {}", plural(min, "item"));
        self.add(Reason::TooFew, at, actual.to_string(), detail);
    }
}

/// So many paths are looked for by going through the tree; an index costs as much as several, and most objects with a problem
/// have one or two.
const WALKS: usize = 4;
/// Nobody goes deeper than this, where only an index finds the way.
const DEEP: usize = 64;

/// The tree is deeper than [`DEEP`].
struct TooDeep;

/// Whether `to` is `from` or below it, by its address; `trail` is extended by the way there.
fn find<'a>(
    from: &'a Value,
    to: &Value,
    keyed: &HashSet<*const Value>,
    trail: &mut Vec<Segment<'a>>,
) -> Result<bool, TooDeep> {
    if std::ptr::eq(from, to) {
        return Ok(true);
    }
    if trail.len() == DEEP {
        return Err(TooDeep);
    }
    let mut below = |segment, child| {
        trail.push(segment);
        let found = find(child, to, keyed, trail);
        if !matches!(found, Ok(true)) {
            trail.pop();
        }
        found
    };
    match from {
        Value::Map(map) => {
            let is_keyed = || keyed.contains(&std::ptr::from_ref(from));
            for (name, value) in map.iter() {
                let segment = match name {
                    Name::Known(id) if is_keyed() => Segment::Key(id.text()),
                    Name::Known(id) => Segment::Field(*id),
                    Name::Other(key) => Segment::Key(key),
                };
                if below(segment, value)? {
                    return Ok(true);
                }
            }
        }
        Value::List(items) => {
            for (i, value) in items.iter().enumerate() {
                if below(Segment::Index(i), value)? {
                    return Ok(true);
                }
            }
        }
        _ => {}
    }
    Ok(false)
}

/// The parent of every node of a tree, by address.
struct Index<'a>(HashMap<*const Value, (*const Value, Segment<'a>)>);

impl<'a> Index<'a> {
    fn new(root: &'a Value) -> Self {
        let mut parents = HashMap::new();
        let mut waiting = vec![root];
        while let Some(node) = waiting.pop() {
            let mut add = |segment, child: &'a Value| {
                parents.insert(
                    std::ptr::from_ref(child),
                    (std::ptr::from_ref(node), segment),
                );
                if matches!(child, Value::Map(_) | Value::List(_)) {
                    waiting.push(child);
                }
            };
            match node {
                Value::Map(map) => map.iter().for_each(|(name, value)| match name {
                    Name::Known(id) => add(Segment::Field(*id), value),
                    Name::Other(key) => add(Segment::Key(key), value),
                }),
                Value::List(items) => items
                    .iter()
                    .enumerate()
                    .for_each(|(i, value)| add(Segment::Index(i), value)),
                _ => {}
            }
        }
        Self(parents)
    }

    /// Appends the path to the node at the address of `to`; nothing if it is not in the tree.
    fn push(&self, to: &Value, keyed: &HashSet<*const Value>, path: &mut String) {
        let mut segments = Vec::new();
        let mut at = std::ptr::from_ref(to);
        while let Some((parent, segment)) = self.0.get(&at) {
            segments.push(match segment {
                Segment::Field(name) if keyed.contains(parent) => Segment::Key(name.text()),
                other => *other,
            });
            at = *parent;
        }
        segments.iter().rev().for_each(|s| s.push(path));
    }
}

impl Segment<'_> {
    fn push(self, path: &mut String) {
        match self {
            Self::Field(name) => push_field(path, name.text()),
            Self::Index(i) => push_index(path, i),
            Self::Key(key) => push_key(path, key),
        }
    }
}

#[cfg(test)]
mod tests;

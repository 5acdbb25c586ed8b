//! Structural schemas: what a CustomResourceDefinition says of its objects, and what is done by it.
//!
//! [`Schema::new`] reads the content of `openAPIV3Schema` once; all else walks an object and the schema
//! side by side. In the order in which a request meets them:
//!
//! | step | of what a client sends | of what is read from etcd |
//! |---|---|---|
//! | unknown fields go ([`Schema::prune`]) | told by `fieldValidation` | silently |
//! | metadata gets its types ([`Schema::coerce_metadata`]) | wrong ones are refused | wrong ones are dropped |
//! | nulls that nobody may give go ([`Schema::prune_nulls`]), defaults come ([`Schema::default`]) | yes | yes |
//! | values ([`Schema::validate`], [`Schema::validate_update`]), embedded metadata ([`Schema::validate_metadata`]), lists that are sets and maps ([`Schema::validate_lists`]) | yes | no |
//!
//! A definition is accepted if its schema is structural ([`Schema::validate_structure`]), its lists have
//! what their types need ([`Schema::validate_topology`]) and its defaults fit
//! ([`Schema::validate_defaults`]); before it is served, its defaults are brought to what this server
//! knows of metadata ([`Schema::prune_defaults`]).
//!
//! One type of node stands for upstream's `Structural` and for its `NestedValueValidation` (what is below
//! `allOf`, `anyOf`, `oneOf` and `not`): where a node stands tells which it is. Of `title`, `description`,
//! `externalDocs` and `example` is kept that they are there, because the rules ask no more and the texts
//! are most of a large definition; who publishes them reads the definition itself. Expression rules are
//! kept as they came.
//!
//! Errors are upstream's. Where upstream walks a map and so finds things in random order, it is the order
//! of the keys here.
//!
//! Upstream: `apiextensions-apiserver/pkg/apiserver/{schema,validation}`, `kube-openapi/pkg/validation`.

mod check;
mod correlate;
mod defaults;
mod field_path;
mod formats;
mod lists;
mod metadata;
mod number;
mod prune;
mod read;
pub(crate) mod text;
mod values;

use std::fmt;
use std::sync::{Arc, OnceLock};

use proto::Value;
use proto::name::{Key, Name};

pub use field_path::FieldPath;
pub use lists::Topology;
pub use metadata::{Malformed, coerce_root_metadata};

/// One node of a schema. Cheap to clone: what is below is shared.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`.
    kind: Option<Kind>,
    flags: Flags,
    /// `properties`, by ascending name.
    properties: Box<[(Name, Arc<Schema>)]>,
    items: Option<Arc<Schema>>,
    additional: Additional,
    checks: Option<Box<Checks>>,
    rare: Option<Box<Rare>>,
}

// A cluster has millions of them.
const _: () = assert!(size_of::<Schema>() <= 88);

/// `type` of a schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    Null,
    /// Anything else; no value is of it.
    Other(Box<str>),
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    #[default]
    Absent,
    Allowed(bool),
    Schema(Arc<Schema>),
}

/// What a node says with a word or two.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Flags(u16);

impl Flags {
    const NULLABLE: Self = Self(1);
    const PRESERVE_UNKNOWN: Self = Self(1 << 1);
    const EMBEDDED: Self = Self(1 << 2);
    const INT_OR_STRING: Self = Self(1 << 3);
    const TITLE: Self = Self(1 << 4);
    const DESCRIPTION: Self = Self(1 << 5);
    /// `externalDocs` or `example`.
    const DOCUMENTED: Self = Self(1 << 6);
    const EXCLUSIVE_MAXIMUM: Self = Self(1 << 7);
    const EXCLUSIVE_MINIMUM: Self = Self(1 << 8);
    const UNIQUE_ITEMS: Self = Self(1 << 9);

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, flag: Self, on: bool) {
        if on {
            self.0 |= flag.0;
        }
    }
}

/// What restricts values and not their structure (upstream's `ValueValidation`).
#[derive(Clone, Debug, Default)]
struct Checks {
    format: Option<Box<str>>,
    pattern: Option<Box<Pattern>>,
    /// `enum`; where it is empty nothing is checked.
    allowed: Box<[Value]>,
    required: Box<[Name]>,
    bounds: Option<Box<Bounds>>,
    junctors: Option<Box<Junctors>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Bounds {
    maximum: Option<f64>,
    minimum: Option<f64>,
    multiple_of: Option<f64>,
    max_length: Option<i64>,
    min_length: Option<i64>,
    max_items: Option<i64>,
    min_items: Option<i64>,
    max_properties: Option<i64>,
    min_properties: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Junctors {
    all_of: Box<[Arc<Schema>]>,
    any_of: Box<[Arc<Schema>]>,
    one_of: Box<[Arc<Schema>]>,
    not: Option<Arc<Schema>>,
}

/// What few nodes have.
#[derive(Clone, Debug, Default)]
struct Rare {
    default: Option<Value>,
    list_type: Option<Box<str>>,
    list_map_keys: Box<[Box<str>]>,
    map_type: Option<Box<str>>,
    /// `x-kubernetes-validations`.
    rules: Option<Value>,
}

/// A regular expression in Go's syntax, compiled when it is first asked: most schemas of a cluster see
/// no request for a long time, and an automaton is a thousand times larger than its text.
struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Result<cel::Pattern, String>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            compiled: OnceLock::new(),
        }
    }

    /// What is wrong with it, in Go's words.
    fn compiled(&self) -> Result<&cel::Pattern, &str> {
        self.compiled
            .get_or_init(|| cel::Pattern::new(&self.text))
            .as_ref()
            .map_err(String::as_str)
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self::new(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Kind {
    /// None of the empty text.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Some(match text {
            "" => return None,
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "null" => Self::Null,
            other => Self::Other(other.into()),
        })
    }

    /// As it stands in the schema.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
            Self::Other(text) => text,
        }
    }
}

impl Schema {
    /// `type`, if it is given.
    #[must_use]
    pub fn kind(&self) -> Option<&Kind> {
        self.kind.as_ref()
    }

    /// `properties`, by ascending name.
    pub fn properties(&self) -> impl ExactSizeIterator<Item = (&Name, &Arc<Self>)> {
        self.properties.iter().map(|(name, schema)| (name, schema))
    }

    /// The schema of one property; not that of additional ones.
    #[must_use]
    pub fn property(&self, key: impl Key) -> Option<&Arc<Self>> {
        let found = self
            .properties
            .binary_search_by(|(name, _)| key.cmp_name(name).reverse());
        found.ok().map(|i| &self.properties[i].1)
    }

    /// `items`.
    #[must_use]
    pub fn items(&self) -> Option<&Arc<Self>> {
        self.items.as_ref()
    }

    /// `additionalProperties`.
    #[must_use]
    pub fn additional(&self) -> &Additional {
        &self.additional
    }

    /// `allOf`.
    #[must_use]
    pub fn all_of(&self) -> &[Arc<Self>] {
        self.junctors().map_or(&[], |j| &j.all_of)
    }

    /// `anyOf`.
    #[must_use]
    pub fn any_of(&self) -> &[Arc<Self>] {
        self.junctors().map_or(&[], |j| &j.any_of)
    }

    /// `oneOf`.
    #[must_use]
    pub fn one_of(&self) -> &[Arc<Self>] {
        self.junctors().map_or(&[], |j| &j.one_of)
    }

    /// `not`.
    #[must_use]
    pub fn not(&self) -> Option<&Arc<Self>> {
        self.junctors()?.not.as_ref()
    }

    /// `nullable`.
    #[must_use]
    pub fn is_nullable(&self) -> bool {
        self.flags.has(Flags::NULLABLE)
    }

    /// `x-kubernetes-preserve-unknown-fields`.
    #[must_use]
    pub fn preserves_unknown_fields(&self) -> bool {
        self.flags.has(Flags::PRESERVE_UNKNOWN)
    }

    /// `x-kubernetes-embedded-resource`.
    #[must_use]
    pub fn is_embedded_resource(&self) -> bool {
        self.flags.has(Flags::EMBEDDED)
    }

    /// `x-kubernetes-int-or-string`.
    #[must_use]
    pub fn is_int_or_string(&self) -> bool {
        self.flags.has(Flags::INT_OR_STRING)
    }

    /// `default`; a null is none.
    #[must_use]
    pub fn default_value(&self) -> Option<&Value> {
        self.rare.as_ref()?.default.as_ref()
    }

    /// `x-kubernetes-list-type`.
    #[must_use]
    pub fn list_type(&self) -> Option<&str> {
        self.rare.as_ref()?.list_type.as_deref()
    }

    /// `x-kubernetes-list-map-keys`.
    #[must_use]
    pub fn list_map_keys(&self) -> &[Box<str>] {
        self.rare.as_ref().map_or(&[], |r| &r.list_map_keys)
    }

    /// `x-kubernetes-map-type`.
    #[must_use]
    pub fn map_type(&self) -> Option<&str> {
        self.rare.as_ref()?.map_type.as_deref()
    }

    /// `x-kubernetes-validations` as it came: a list that is not empty.
    #[must_use]
    pub fn rules(&self) -> Option<&Value> {
        self.rare.as_ref()?.rules.as_ref()
    }

    /// `format`. One that is not known restricts nothing, and the author of a definition is warned
    /// ([`Schema::has_unknown_format`]).
    #[must_use]
    pub fn format(&self) -> Option<&str> {
        self.checks.as_ref()?.format.as_deref()
    }

    /// `required`.
    #[must_use]
    pub fn required(&self) -> &[Name] {
        self.checks.as_ref().map_or(&[], |c| &c.required)
    }

    fn bounds(&self) -> Option<&Bounds> {
        self.checks.as_ref()?.bounds.as_deref()
    }

    fn junctors(&self) -> Option<&Junctors> {
        self.checks.as_ref()?.junctors.as_deref()
    }

    /// The schema of a value in a map: of the property, else of additional ones.
    fn of_key(&self, key: impl Key) -> Option<&Arc<Self>> {
        self.property(key).or_else(|| self.additional.schema())
    }
}

impl Additional {
    /// The schema of additional properties, if there is one.
    #[must_use]
    pub fn schema(&self) -> Option<&Arc<Schema>> {
        match self {
            Self::Schema(schema) => Some(schema),
            _ => None,
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// The fields that every object has, whose rules no schema can change.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn is_meta_field(name: &Name) -> bool {
    META_FIELDS.contains(&name.as_str())
}

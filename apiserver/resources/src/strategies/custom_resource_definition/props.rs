//! Schemas as they stand in a definition, before anybody knows whether they are structural.

use proto::catalogue::names as n;
use proto::view::apiextensions_v1beta1::CustomResourceDefinitionSpec;
use proto::view::{Node, View};
use proto::{Map, Name, Value};

/// A `JSONSchemaProps`.
#[derive(Clone, Copy)]
pub(super) struct Props<'a>(pub &'a Value);

impl<'a> Props<'a> {
    /// A field, unless it is absent or null.
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| match value {
            Value::Null => false,
            Value::Raw(json) => **json != *b"null",
            _ => true,
        })
    }

    pub(super) fn text(self, name: &str) -> &'a str {
        self.opt_text(name).unwrap_or_default()
    }

    pub(super) fn opt_text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    pub(super) fn flag(self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool) == Some(true)
    }

    pub(super) fn list(self, name: &str) -> &'a [Value] {
        let list = self.get(name).and_then(Value::as_list);
        list.unwrap_or_default()
    }

    pub(super) fn map(self, name: &str) -> &'a Map {
        static NONE: Map = Map::new();
        self.get(name).and_then(Value::as_map).unwrap_or(&NONE)
    }

    /// By ascending name.
    pub(super) fn entries(self, name: &str) -> impl Iterator<Item = (&'a Name, Self)> {
        let entries = self.map(name).iter();
        entries.map(|(name, value)| (name, Self(value)))
    }

    pub(super) fn each(self, name: &str) -> impl Iterator<Item = Self> {
        self.list(name).iter().map(Self)
    }

    /// What stands in a field if that is a schema.
    pub(super) fn schema(self, name: &str) -> Option<Self> {
        self.get(name).filter(|v| v.as_map().is_some()).map(Self)
    }

    /// A count, which below zero counts as zero.
    pub(super) fn limit(self, name: &str) -> Option<u64> {
        let count = self.get(name)?.as_int()?;
        Some(count.max(0).cast_unsigned())
    }

    pub(super) fn kind(self) -> &'a str {
        self.text("type")
    }

    /// Calls `see` with the schema and all below it, a schema before what is below it, until it says that
    /// it has seen enough; says whether it has.
    pub(super) fn any(self, see: &mut dyn FnMut(Self) -> bool) -> bool {
        if see(self) {
            return true;
        }
        let one = |name| self.schema(name).into_iter();
        let of = |name| self.entries(name).map(|(_, schema)| schema);
        one("items")
            .chain(self.each("items"))
            .chain(self.each("allOf"))
            .chain(self.each("anyOf"))
            .chain(self.each("oneOf"))
            .chain(one("not"))
            .chain(of("properties"))
            .chain(one("additionalProperties"))
            .chain(of("patternProperties"))
            .chain(one("additionalItems"))
            .chain(of("definitions"))
            .chain(of("dependencies").filter(|d| d.0.as_map().is_some()))
            .any(|schema| schema.any(see))
    }

    /// Whether it is so of the schema or of one below it.
    pub(super) fn has(self, is: impl Fn(Self) -> bool) -> bool {
        self.any(&mut |schema| is(schema))
    }
}

/// What stands in `openAPIV3Schema` of a `CustomResourceValidation`.
pub(super) fn content<'a, V: View<'a>>(validation: V) -> Option<Props<'a>> {
    validation.node().get(n::OPEN_APIV3_SCHEMA).map(Props)
}

/// All schemas of a definition: the one for all versions, then those of versions.
pub(super) fn all<'a>(spec: CustomResourceDefinitionSpec<'a>) -> impl Iterator<Item = Props<'a>> {
    let of_versions = spec.versions().into_iter().filter_map(|v| v.schema());
    let all = spec.validation().into_iter().chain(of_versions);
    all.filter_map(content)
}

/// The spec of a definition in the version that is stored.
pub(super) fn spec(object: &Value) -> CustomResourceDefinitionSpec<'_> {
    Node::new(object).message(n::SPEC)
}

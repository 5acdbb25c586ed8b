//! What is asked of a definition. Of one that changes some rules are not asked that the old one broke
//! already: they were made after such definitions had been stored.

use std::collections::HashSet;

use proto::Value;
use proto::catalogue::{messages::apiextensions_v1beta1 as m, names as n};
use proto::path::Errors;
use proto::view::apiextensions_v1beta1::{
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, SelectableField,
};
use proto::view::{List, Node, View};

use super::props::{self, Props};
use super::versions::MOST_SELECTABLE;
use super::{conversion, is_true, schema};
use crate::equal;
use crate::structural::{Schema, Topology};

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a rule that is asked or is not"
)]
pub(super) struct Asked<'a> {
    /// Webhooks speak a version of reviews that this server speaks.
    pub known_reviews: bool,
    /// Scope and kind stay: the resource is served.
    pub same_names: bool,
    /// Every version has a schema.
    pub schemas: bool,
    pub known_types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    pub topology: Topology,
    pub sound_bundle: bool,
    /// Expressions that the old definition had: any version of the language may read them.
    pub kept_rules: HashSet<&'a str>,
    pub kept_messages: HashSet<&'a str>,
    /// Versions whose schemas are as they were: what one rule costs is not asked.
    pub same_schemas: HashSet<&'a str>,
    /// Versions that may have more selectable fields than others; "" is what all of them have.
    pub many_selectable: HashSet<&'a str>,
}

impl<'a> Asked<'a> {
    /// All, of a new definition. The bundle of a webhook that nobody asks yet may come later.
    pub(super) fn of_new() -> Self {
        Self {
            known_reviews: true,
            same_names: false,
            schemas: true,
            known_types: true,
            structural: true,
            pruned_defaults: true,
            topology: Topology {
                atomic_sets: true,
                keys_are_set: true,
            },
            sound_bundle: false,
            kept_rules: HashSet::new(),
            kept_messages: HashSet::new(),
            same_schemas: HashSet::new(),
            many_selectable: HashSet::new(),
        }
    }

    pub(super) fn of_update(new: &'a Value, old: &'a Value) -> Self {
        let (now, was) = (props::spec(new), props::spec(old));
        let has = |is: fn(Props<'_>) -> bool| props::all(was).any(|schema| schema.has(is));
        let whole = |is: fn(Props<'_>) -> bool| props::all(was).any(is);
        let topology = |rules: Topology| props::all(was).any(|s| breaks(s, rules));
        let established = is_true(old, "Established");
        let (kept_rules, kept_messages) = expressions(was);
        Self {
            known_reviews: conversion::may_be_asked(was),
            same_names: established,
            schemas: have_schemas(was),
            known_types: !has(|s| !s.kind().is_empty() && !schema::TYPES.contains(&s.kind())),
            structural: !whole(|s| !is_structural(s)),
            pruned_defaults: !whole(has_unpruned_defaults),
            topology: Topology {
                atomic_sets: !topology(Topology {
                    atomic_sets: true,
                    keys_are_set: false,
                }),
                keys_are_set: !topology(Topology {
                    atomic_sets: false,
                    keys_are_set: true,
                }),
            },
            sound_bundle: established && !conversion::has_unsound_bundle(was),
            kept_rules,
            kept_messages,
            same_schemas: same_schemas(now, was),
            many_selectable: many_selectable(now, was),
        }
    }
}

fn have_schemas(was: CustomResourceDefinitionSpec<'_>) -> bool {
    let mut versions = was.versions().into_iter();
    was.validation().and_then(props::content).is_some()
        || versions.all(|v| v.schema().and_then(props::content).is_some())
}

fn is_structural(schema: Props<'_>) -> bool {
    Schema::new(schema.0).is_ok_and(|s| s.validate_structure("").is_empty())
}

fn has_unpruned_defaults(schema: Props<'_>) -> bool {
    let structural = || Schema::new(schema.0).ok();
    schema.has(|s| s.get("default").is_some())
        && structural()
            .is_some_and(|s| s.validate_structure("").is_empty() && s.has_unpruned_defaults())
}

/// Whether a schema breaks one of the rules that were made later, and only that.
fn breaks(schema: Props<'_>, rules: Topology) -> bool {
    schema.has(|s| {
        s.opt_text("x-kubernetes-list-type").is_some() && Schema::lenient(s.0).breaks(rules)
    })
}

fn expressions<'a>(was: CustomResourceDefinitionSpec<'a>) -> (HashSet<&'a str>, HashSet<&'a str>) {
    let (mut rules, mut messages) = (HashSet::new(), HashSet::new());
    for schema in props::all(was) {
        schema.any(&mut |schema| {
            for rule in schema.each("x-kubernetes-validations") {
                rules.insert(rule.text("rule"));
                messages.insert(rule.text("messageExpression"));
            }
            false
        });
    }
    (rules, messages)
}

/// What a version has for a schema. The outer none: nobody can say.
fn schema_of<'a>(
    spec: CustomResourceDefinitionSpec<'a>,
    version: &str,
) -> Option<Option<&'a Value>> {
    let own = |v: CustomResourceDefinitionVersion<'a>| v.node().get(n::SCHEMA);
    let versions = spec.versions();
    let of_all = spec.node().get(n::VALIDATION);
    if versions.iter().all(|v| own(v).is_none()) {
        return Some(of_all);
    }
    if of_all.is_some() {
        return None;
    }
    versions.iter().find(|v| v.name() == version).map(own)
}

fn same_schemas<'a>(
    now: CustomResourceDefinitionSpec<'a>,
    was: CustomResourceDefinitionSpec<'a>,
) -> HashSet<&'a str> {
    let same = |name: &&str| match (schema_of(now, name), schema_of(was, name)) {
        (Some(a), Some(b)) => {
            a.is_some() == b.is_some() && equal::alike(a, b, m::CUSTOM_RESOURCE_VALIDATION)
        }
        _ => false,
    };
    now.versions()
        .into_iter()
        .map(|v| v.name())
        .filter(same)
        .collect()
}

fn many_selectable<'a>(
    now: CustomResourceDefinitionSpec<'a>,
    was: CustomResourceDefinitionSpec<'a>,
) -> HashSet<&'a str> {
    let paths = |fields: List<'a, SelectableField<'a>>| {
        let paths = fields.into_iter().map(|f| f.json_path());
        paths.collect::<Vec<_>>()
    };
    let same = |now, was: List<'a, SelectableField<'a>>| {
        was.len() > MOST_SELECTABLE && paths(now) == paths(was)
    };
    let mut all = HashSet::new();
    if same(now.selectable_fields(), was.selectable_fields()) {
        all.insert("");
    }
    for version in now.versions() {
        // Of several with one name the last counts.
        let old = { was.versions().iter() }.rfind(|old| old.name() == version.name());
        if old.is_some_and(|old| same(version.selectable_fields(), old.selectable_fields())) {
            all.insert(version.name());
        }
    }
    all
}

/// Whether a check of a part of an old object finds anything.
pub(super) fn finds(part: Node<'_>, check: impl FnOnce(&mut Errors<'_>)) -> bool {
    let mut errors = Errors::new(part.value());
    check(&mut errors);
    !errors.is_empty()
}

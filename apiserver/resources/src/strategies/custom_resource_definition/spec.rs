//! What a definition must be: `ValidateCustomResourceDefinition` and its like in
//! `pkg/apis/apiextensions/validation`.
//!
//! Upstream's rules about what stands both once for all versions and in each of them are left out: the
//! version that is served says everything in each, and its conversion leaves nothing twice.

use std::collections::HashSet;

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::view::View;
use proto::view::apiextensions_v1beta1::{
    CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresources,
};

use super::asked::Asked;
use super::props::{self, content};
use super::root::Validation;
use super::schema;
use super::shown::Shown;
use super::versions::{self, Place, Selectable};
use super::{approval, conversion};
use crate::rules;

pub(super) fn created(object: &Value, e: &mut Errors<'_>) {
    name(object, e);
    spec(object, Asked::of_new(), e);
    status(object, e);
    stored_versions(object, e);
    approval::validate(object, None, e);
    preserve_unknown_fields(object, e);
}

pub(super) fn updated(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let asked = Asked::of_update(new, old);
    let same_names = asked.same_names;
    spec(new, asked, e);
    let (now, was) = (props::spec(new), props::spec(old));
    let mut same = |at: Spot<'_>, now: &str, was: &str, named: bool| {
        if now != was && named {
            e.invalid(at, Named(now), rules::IMMUTABLE);
        } else if now != was {
            e.invalid(at, now, rules::IMMUTABLE);
        }
    };
    let at = Spot::of(now);
    let names = at.field(n::NAMES);
    if same_names {
        same(at.field(n::SCOPE), now.scope(), was.scope(), true);
        let (now, was) = (now.names().kind(), was.names().kind());
        same(names.field(n::KIND), now, was, false);
    }
    same(at.field(n::GROUP), now.group(), was.group(), false);
    let plurals = (now.names().plural(), was.names().plural());
    same(names.field(n::PLURAL), plurals.0, plurals.1, false);
    status(new, e);
    stored_versions(new, e);
    approval::validate(new, Some(old), e);
    if was.preserve_unknown_fields() != Some(true) {
        preserve_unknown_fields(new, e);
    }
}

/// The name says what the resource is called.
fn name(object: &Value, e: &mut Errors<'_>) {
    let spec = props::spec(object);
    let wanted = format!("{}.{}", spec.names().plural(), spec.group());
    let at = Spot::node(object).field(n::METADATA);
    let detail = "must be spec.names.plural+\".\"+spec.group";
    let prefix = proto::meta::generate_name(object);
    if !prefix.is_empty() && prefix != wanted {
        e.invalid(at.field(n::GENERATE_NAME), prefix, detail);
    }
    let name = proto::meta::name(object);
    if !name.is_empty() && name != wanted {
        e.invalid(at.field(n::NAME), name, detail);
    }
}

fn spec(object: &Value, mut asked: Asked<'_>, e: &mut Errors<'_>) {
    let spec = props::spec(object);
    group_and_scope(spec, e);
    schemas(spec, &mut asked, e);
    for version in spec.versions() {
        self::version(spec, version, &asked, e);
    }
    together(spec, e);
    required_names(spec, e);
    names(spec.names(), e);
    let any_status = has_status(spec.subresources()) || { spec.versions().into_iter() }
        .any(|v| has_status(v.subresources()));
    Validation {
        of: spec.node().get(n::VALIDATION),
        at: Spot::of(spec).field(n::VALIDATION),
        has_status: any_status,
        same: asked.same_schemas.contains(spec.version()),
    }
    .validate(&asked, e);
    versions::subresources(spec.subresources(), e);
    versions::columns(spec.additional_printer_columns(), e);
    Selectable {
        fields: spec.selectable_fields(),
        of: Spot::of(spec),
        schema: match spec.validation() {
            None => Place::None("may only be set when validations.schema is included"),
            Some(of_all) => content(of_all).map_or(Place::Empty, |s| Place::At(s.0)),
        },
        many: asked.many_selectable.contains(""),
    }
    .validate(e);
    conversion::validate(spec, &asked, e);
}

fn group_and_scope(spec: CustomResourceDefinitionSpec<'_>, e: &mut Errors<'_>) {
    let (group, at) = (spec.group(), Spot::of(spec).field(n::GROUP));
    let problems = names::dns_subdomain_problems(group);
    if group.is_empty() {
        e.required(at, "");
    } else if !problems.is_empty() {
        e.invalid(at, group, problems.join(","));
    } else if !group.contains('.') {
        e.invalid(at, group, "should be a domain with at least one dot");
    }
    rules::required_one_of(e, spec, n::SCOPE, &["Cluster", "Namespaced"]);
}

/// Whether schemas are there, and what follows from what they have.
fn schemas(spec: CustomResourceDefinitionSpec<'_>, asked: &mut Asked<'_>, e: &mut Errors<'_>) {
    let pruned = spec.preserve_unknown_fields() == Some(false);
    let missing = |v: &CustomResourceDefinitionVersion<'_>| v.schema().and_then(content).is_none();
    if spec.validation().and_then(content).is_none() {
        for version in spec.versions().into_iter().filter(missing) {
            let at = Spot::of(version).field(n::SCHEMA);
            let at = at.field(n::OPEN_APIV3_SCHEMA);
            if asked.schemas {
                e.required(at, "");
            } else if pruned && version.served() {
                e.required(at, "because otherwise all fields are pruned");
            }
        }
    }
    let defaults = props::all(spec).any(|s| s.has(|s| s.get("default").is_some()));
    if defaults && !pruned {
        let detail = "must be false in order to use defaults in the schema";
        e.invalid(
            Spot::of(spec).field(n::PRESERVE_UNKNOWN_FIELDS),
            true,
            detail,
        );
    }
    let extensions = props::all(spec).any(|s| s.has(schema::is_extended));
    asked.structural |= pruned || defaults || extensions;
}

fn version(
    spec: CustomResourceDefinitionSpec<'_>,
    version: CustomResourceDefinitionVersion<'_>,
    asked: &Asked<'_>,
    e: &mut Errors<'_>,
) {
    let (at, name) = (Spot::of(version), version.name());
    let problems = names::dns_1035_label_problems(name);
    if !problems.is_empty() {
        e.invalid(at.field(n::NAME), name, problems.join(","));
    }
    versions::deprecation(version, e);
    Validation {
        of: version.node().get(n::SCHEMA),
        at: at.field(n::SCHEMA),
        has_status: has_status(subresources_of(spec, name)),
        same: asked.same_schemas.contains(name),
    }
    .validate(asked, e);
    versions::subresources(version.subresources(), e);
    versions::columns(version.additional_printer_columns(), e);
    let schema = version.schema().and_then(content);
    Selectable {
        fields: version.selectable_fields(),
        of: at,
        schema: schema.map_or(
            Place::None("may only be set when `version.schema.openAPIV3Schema` is not included"),
            |schema| Place::At(schema.0),
        ),
        many: asked.many_selectable.contains(name),
    }
    .validate(e);
}

fn has_status(of: Option<CustomResourceSubresources<'_>>) -> bool {
    of.is_some_and(|of| of.status().is_some())
}

fn subresources_of<'a>(
    spec: CustomResourceDefinitionSpec<'a>,
    version: &str,
) -> Option<CustomResourceSubresources<'a>> {
    let mut versions = spec.versions().iter();
    if { versions.clone() }.all(|v| v.subresources().is_none()) {
        return spec.subresources();
    }
    versions.find(|v| v.name() == version)?.subresources()
}

/// What versions must be together.
fn together(spec: CustomResourceDefinitionSpec<'_>, e: &mut Errors<'_>) {
    let (versions, at) = (spec.versions(), Spot::of(spec));
    let mut seen = HashSet::new();
    let all = || Shown::versions(spec.node().get(n::VERSIONS));
    if !{ versions.iter() }.all(|v| seen.insert(v.name())) {
        e.invalid(
            at.field(n::VERSIONS),
            all(),
            "must contain unique version names",
        );
    }
    if versions.iter().filter(|v| v.storage()).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        e.invalid(at.field(n::VERSIONS), all(), detail);
    }
    let first = spec.version();
    let problems = names::dns_1035_label_problems(first);
    if !first.is_empty() && !problems.is_empty() {
        e.invalid(at.field(n::VERSION), first, problems.join(","));
    }
}

fn required_names(spec: CustomResourceDefinitionSpec<'_>, e: &mut Errors<'_>) {
    let names = spec.names();
    for (field, name) in [
        (n::PLURAL, names.plural()),
        (n::SINGULAR, names.singular()),
        (n::KIND, names.kind()),
        (n::LIST_KIND, names.list_kind()),
    ] {
        if name.is_empty() {
            // The names may not be there at all.
            let at = Spot::of(spec).field(n::NAMES).field(field);
            e.required(at, "");
        }
    }
}

/// `ValidateCustomResourceDefinitionNames`.
fn names(of: CustomResourceDefinitionNames<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(of);
    for (field, name) in [(n::PLURAL, of.plural()), (n::SINGULAR, of.singular())] {
        let problems = names::dns_1035_label_problems(name);
        if !name.is_empty() && !problems.is_empty() {
            e.invalid(at.field(field), name, problems.join(","));
        }
    }
    for (field, kind) in [(n::KIND, of.kind()), (n::LIST_KIND, of.list_kind())] {
        let problems = names::dns_1035_label_problems(&kind.to_lowercase());
        if !kind.is_empty() && !problems.is_empty() {
            let problems = problems.join(",");
            let detail = format!("may have mixed case, but should otherwise match: {problems}");
            e.invalid(at.field(field), kind, detail);
        }
    }
    labels(of.short_names(), e);
    if !of.kind().is_empty() && of.kind() == of.list_kind() {
        let detail = "kind and listKind may not be the same";
        e.invalid(at.field(n::LIST_KIND), of.list_kind(), detail);
    }
    labels(of.categories(), e);
}

fn labels(items: &[Value], e: &mut Errors<'_>) {
    for item in items {
        let text = item.as_str().unwrap_or_default();
        let problems = names::dns_1035_label_problems(text);
        if !problems.is_empty() {
            e.invalid(Spot::node(item), text, problems.join(","));
        }
    }
}

pub(super) fn status(object: &Value, e: &mut Errors<'_>) {
    let accepted = object.at(&[n::STATUS, n::ACCEPTED_NAMES]);
    if let Some(accepted) = accepted.filter(|v| !v.is_null()) {
        names(View::of(proto::view::Node::new(accepted)), e);
    }
}

/// `ValidateCustomResourceDefinitionStoredVersions`.
fn stored_versions(object: &Value, e: &mut Errors<'_>) {
    let path = [n::STATUS, n::STORED_VERSIONS];
    let at = Spot::node(object)
        .field(n::STATUS)
        .field(n::STORED_VERSIONS);
    let list = object.at(&path);
    let stored = list.and_then(Value::as_list).unwrap_or_default();
    if stored.is_empty() {
        let shown = rules::json(list.filter(|v| !v.is_null()));
        return e.invalid(at, shown, "must have at least one stored version");
    }
    // Of a name that is there twice the last place counts, and the first version that has it.
    let mut left: Vec<(usize, &str)> = Vec::new();
    for (i, name) in rules::texts(stored).enumerate() {
        left.retain(|(_, other)| *other != name);
        left.push((i, name));
    }
    for version in props::spec(object).versions() {
        let name = version.name();
        let found = left.iter().position(|(_, stored)| *stored == name);
        if version.storage() && found.is_none() {
            let detail = format!("must have the storage version {name}");
            e.invalid(at, rules::json(list), detail);
        }
        if let Some(i) = found {
            left.remove(i);
        }
    }
    for (i, name) in left {
        let detail = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        e.invalid(at.index(i), name, detail);
    }
}

fn preserve_unknown_fields(object: &Value, e: &mut Errors<'_>) {
    let spec = props::spec(object);
    if spec.preserve_unknown_fields() == Some(true) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        e.invalid(
            Spot::of(spec).field(n::PRESERVE_UNKNOWN_FIELDS),
            true,
            detail,
        );
    }
}

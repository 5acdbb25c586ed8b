//! Definitions of custom resources: what they are asked for, and what becomes of one itself. What is served
//! by it is the business of others.
//!
//! Objects are of the version that is stored (v1beta1), whose shape is that of upstream's internal type:
//! what all versions have in common stands once, above them, and so do the paths in errors.
//!
//! Upstream: `apiextensions-apiserver/pkg/registry/customresourcedefinition`,
//! `pkg/apis/apiextensions/{v1,v1beta1,validation}`.

use proto::catalogue::names as n;
use proto::codec::json;
use proto::view::apiextensions_v1beta1::{
    CustomResourceDefinitionCondition, CustomResourceDefinitionSpec,
};
use proto::view::{List, Node};
use proto::{Value, meta, time};

use crate::before::{self, Deletion};
use crate::options::DeleteOptions;
use crate::status::Failure;
use crate::strategy::{Part, Strategy, clear_status, keep_status};

mod approval;
mod asked;
mod conversion;
mod cost;
mod defaults;
mod props;
mod root;
mod rules;
mod schema;
mod shown;
mod spec;
mod versions;
mod warnings;

#[cfg(test)]
mod tests;

/// Holds a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub static CUSTOM_RESOURCE_DEFINITION: Strategy = Strategy {
    default: |_, object| default(object),
    repeats: true,
    prepare_create: |_, new| {
        clear_status(new);
        add_stored_version(new);
    },
    prepare_update: |_, new, old| {
        keep_status(new, old);
        add_stored_version(new);
    },
    validate: |_, object, e| spec::created(object, e),
    validate_update: |_, new, old, e| {
        meta::validate_object_meta_update(new, old, e);
        spec::updated(new, old, e);
    },
    warnings: |_, object, old| warnings::of(object, old),
    status: Some(Part {
        validate_update: |_, new, old, e| {
            meta::validate_object_meta_update(new, old, e);
            spec::status(new, e);
        },
        ..Part::STATUS_AND_METADATA
    }),
    delete,
    on_read: Some(on_read),
    cells: Some(|object, _| cells(object)),
    ..Strategy::WITH_STATUS
};

/// `SetDefaults_CustomResourceDefinition`, as both versions have it. JSON in schemas is kept as upstream
/// keeps it: read, and written anew.
fn default(object: &mut Value) {
    let names = object.ensure(&[n::SPEC, n::NAMES]);
    let kind = Node::new(names).str(n::KIND).to_owned();
    if Node::new(names).str(n::SINGULAR).is_empty() {
        names.set(&[n::SINGULAR], kind.to_lowercase());
    }
    if Node::new(names).str(n::LIST_KIND).is_empty() && !kind.is_empty() {
        names.set(&[n::LIST_KIND], format!("{kind}List"));
    }
    if stored_versions(object).is_empty() {
        add_stored_version(object);
    }
    if let Some(spec) = object.get_mut(n::SPEC) {
        rewrite(spec);
    }
}

/// Writes all JSON in a value anew, whatever it stands in.
fn rewrite(value: &mut Value) {
    match value {
        Value::Raw(raw) => {
            if let Ok(parsed) = json::parse(raw) {
                let mut out = Vec::with_capacity(raw.len());
                json::write(&parsed, &mut out);
                *raw = out.into();
            }
        }
        Value::List(items) => items.iter_mut().for_each(rewrite),
        Value::Map(map) => map.iter_mut().for_each(|(_, value)| rewrite(value)),
        _ => {}
    }
}

/// What servers before 1.16 left out: the defaults of the old version alone.
fn on_read(object: &mut Value) {
    let spec = object.ensure(&[n::SPEC]);
    let version = Node::new(spec).str(n::VERSION).to_owned();
    let versions = spec.ensure(&[n::VERSIONS]).make_list();
    if versions.is_empty() && !version.is_empty() {
        let mut only = Value::object();
        only.set(&[n::NAME], version.as_str());
        only.set(&[n::SERVED], true);
        only.set(&[n::STORAGE], true);
        versions.push(only);
    }
    let first = versions.first().and_then(|v| v.get(n::NAME)).cloned();
    if let Some(first) = first.filter(|_| version.is_empty()) {
        spec.set(&[n::VERSION], first);
    }
    let conversion = spec.ensure(&[n::CONVERSION]);
    let reviews = Node::new(conversion).items(n::CONVERSION_REVIEW_VERSIONS);
    if Node::new(conversion).str(n::STRATEGY) == "Webhook" && reviews.is_empty() {
        conversion.set(&[n::CONVERSION_REVIEW_VERSIONS], vec!["v1beta1"]);
    }
}

fn stored_versions(object: &Value) -> &[Value] {
    let path = [n::STATUS, n::STORED_VERSIONS];
    object
        .at(&path)
        .and_then(Value::as_list)
        .unwrap_or_default()
}

/// Objects are stored in one version now; that they were is remembered.
fn add_stored_version(object: &mut Value) {
    let mut versions = props::spec(object).versions().into_iter();
    let Some(version) = versions.find(|v| v.storage()) else {
        return;
    };
    let name = version.name().to_owned();
    if !stored_versions(object)
        .iter()
        .any(|v| v.as_str() == Some(&name))
    {
        let stored = object.ensure(&[n::STATUS, n::STORED_VERSIONS]);
        stored.make_list().push(name.into());
    }
}

fn conditions(object: &Value) -> List<'_, CustomResourceDefinitionCondition<'_>> {
    let status = object.get(n::STATUS).unwrap_or(&Value::Null);
    Node::new(status).list(n::CONDITIONS)
}

/// Whether the first condition of a type holds.
fn is_true(object: &Value, kind: &str) -> bool {
    let found = conditions(object).into_iter().find(|c| c.r#type() == kind);
    found.is_some_and(|condition| condition.status() == "True")
}

/// The first request marks a definition, so that its objects are deleted before it (`REST.Delete`).
fn delete(
    object: &mut Value,
    options: &DeleteOptions,
    now: i64,
) -> Result<Option<Deletion>, Failure> {
    let resource = ("apiextensions.k8s.io", "customresourcedefinitions");
    before::preconditions(object, options, resource, "precondition failed")?;
    if meta::is_deleting(object) {
        return Ok(None);
    }
    meta::metadata_mut(object).insert(n::DELETION_TIMESTAMP, time::print_time(now));
    meta::add_finalizer(object, CLEANUP);
    terminating(object, now);
    Ok(Some(Deletion::Mark { then_remove: false }))
}

/// Sets the condition that says so.
fn terminating(object: &mut Value, now: i64) {
    const KIND: &str = "Terminating";
    let list = object.ensure(&[n::STATUS, n::CONDITIONS]).make_list();
    let is_meant = |c: &Value| Node::new(c).str(n::TYPE) == KIND;
    let at = list.iter().position(is_meant).unwrap_or_else(|| {
        list.push(Value::object());
        list.len() - 1
    });
    let condition = &mut list[at];
    let was = Node::new(condition);
    let since = was.str(n::LAST_TRANSITION_TIME);
    if was.str(n::STATUS) != "True" || time::unix_of(since).is_none() {
        condition.set(&[n::LAST_TRANSITION_TIME], time::print_time(now));
    }
    for (field, text) in [
        (n::TYPE, KIND),
        (n::STATUS, "True"),
        (n::REASON, "InstanceDeletionPending"),
        (
            n::MESSAGE,
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        ),
    ] {
        condition.set(&[field], text);
    }
}

fn cells(object: &Value) -> Vec<Value> {
    let spec = props::spec(object);
    let short: Vec<&str> = crate::rules::texts(spec.names().short_names()).collect();
    vec![
        meta::name(object).into(),
        spec.scope().into(),
        served(spec).into(),
        meta::creation_timestamp(object).into(),
        spec.group().into(),
        spec.names().kind().into(),
        short.join(",").into(),
        is_true(object, "Established").into(),
    ]
}

/// Versions that are served, sorted.
fn served(spec: CustomResourceDefinitionSpec<'_>) -> String {
    let served = spec.versions().into_iter().filter(|v| v.served());
    let mut served: Vec<String> = served
        .map(|v| {
            let storage = if v.storage() { "(storage)" } else { "" };
            format!("{}{storage}", v.name())
        })
        .collect();
    served.sort();
    served.join(",")
}

//! `scale` of deployments, replica sets, stateful sets and replication controllers: one small object
//! over four kinds.

use http::Response;
use hyper::body::Incoming;
use proto::Value;
use proto::apply::{self, Configuration, Filter, Managed, Subject, Version};
use proto::catalogue::{Column, messages, names as n};
use proto::patch::{json, merge};
use proto::path::{FieldError, Reason};
use proto::{codec, meta, selector};
use resources::clock::{self, Clock};
use resources::negotiate::{self, Encoding, Media, Offers};
use resources::object::{self, Type};
use resources::options::{FieldValidation, WriteOptions};
use resources::status::Failure;
use resources::table;

use super::apply::Applying;
use super::{get, manager, patch, read_body, update, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::managed;
use crate::registry::Endpoint;
use crate::registry::generic::{Lens, Update};
use crate::render::Computed;

const SCALE: Type = Type {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    message: messages::autoscaling_v1::SCALE,
};

/// A write of a scale is about the scale, not about what is scaled.
static LENS: Lens = Lens { of, put: scaled };

/// As upstream prints it (`pkg/printers/internalversion/printers.go`).
const COLUMNS: &[Column] = &[
    column("Name", "string"),
    column("Desired", "integer"),
    column("Available", "integer"),
    column("Age", "string"),
];

const fn column(name: &'static str, kind: &'static str) -> Column {
    Column {
        name,
        kind,
        format: "",
        priority: 0,
    }
}

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    match x.info.verb.as_str() {
        "get" => {
            let entry = get::entry(
                x,
                endpoint,
                get::at(x.query.get("resourceVersion").unwrap_or_default())?,
            )
            .await?;
            let object = object::from_body(&entry.body, &endpoint.hub)?;
            answer(&of(&object), media)
        }
        "update" | "patch" => change(x, endpoint, media, incoming).await,
        _ => Err(Failure::no_such_method()),
    }
}

fn answer(scale: &Value, media: Media) -> Result<Response<Body>, Failure> {
    let shown = Computed {
        of: &SCALE,
        columns: COLUMNS,
        cells,
    };
    let bytes = shown.one(scale, media)?;
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

fn cells(scale: &Value) -> Vec<Value> {
    let number = |path| scale.at(path).and_then(Value::as_int).unwrap_or(0);
    let created = table::age(meta::creation_timestamp(scale), clock::seconds());
    vec![
        meta::name(scale).into(),
        number(&[n::SPEC, n::REPLICAS]).into(),
        number(&[n::STATUS, n::REPLICAS]).into(),
        created.into(),
    ]
}

async fn change(
    x: &mut Exchange,
    endpoint: &Endpoint,
    media: Media,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let patch = match x.info.verb.as_str() {
        "patch" => Some(patch::kind(x)?),
        _ => None,
    };
    let body = read_body(&x.headers, incoming).await?;
    let kind = if patch.is_some() {
        "PatchOptions"
    } else {
        "UpdateOptions"
    };
    let options = WriteOptions::read(&x.query, kind)?;
    if let Some(kind) = patch {
        patch::check_options(kind, &options)?;
        x.record_patch(&body, kind == patch::Kind::Apply);
    }
    let given = match patch {
        Some(patch::Kind::Apply) => Given::Apply(Applying::read(&body)?),
        Some(kind) => Given::Patch(kind, &body),
        None => {
            let encoding = negotiate::input(&x.headers)?;
            let decoded = object::decode(&body, encoding, &SCALE, options.field_validation)?;
            x.record_object(&decoded.object, &SCALE);
            update::check_name(x, &decoded.object)?;
            Given::Whole(decoded.object)
        }
    };
    let name = x.info.name.clone();
    let manager = manager(x, &options.field_manager);
    let resource = endpoint.resource;
    let change = |old: Option<&Value>| {
        let kind = format!("{}/scale", resource.name);
        let old = old.ok_or_else(|| Failure::not_found(resource.group, &kind, &name))?;
        given.write(endpoint, old, &name, &manager, &options)
    };
    let how = Update {
        recorded: true,
        lens: Some(&LENS),
        ..Update::default()
    };
    let write = write(x, endpoint, &manager);
    let written = write.update(&name, &options, how, change).await;
    let mut warnings = write.into_warnings();
    x.warnings.append(&mut warnings);
    let written = written?;
    if let Given::Apply(applying) = &given
        && let Some(problem) = applying.complain(options.field_validation)?
    {
        x.warnings.push(problem.to_owned());
    }
    let object = object::from_body(&written.entry.body, &endpoint.hub)?;
    answer(&of(&object), media)
}

/// What the client sent.
enum Given<'a> {
    Whole(Value),
    Patch(patch::Kind, &'a [u8]),
    Apply(Applying),
}

impl Given<'_> {
    /// The object with the new scale, and with its managers.
    fn write(
        &self,
        endpoint: &Endpoint,
        old: &Value,
        name: &str,
        manager: &str,
        options: &WriteOptions,
    ) -> Result<Value, Failure> {
        let versions: Vec<&str> = versions(endpoint.resource.group).to_vec();
        let parent = managed::read(old)?;
        let owners = apply::scale::of_object(&parent, &versions);
        let before = of(old);
        let now = Clock::now().text;
        let (scale, owners) = match self {
            Self::Apply(applying) => {
                let configuration = Configuration {
                    object: &applying.object,
                    manager,
                    force: options.force.unwrap_or(false),
                    now: &now,
                };
                let applied = subject(|s| apply::apply(s, &before, owners, &configuration))
                    .map_err(managed::failure)?;
                applying.complain(options.field_validation)?;
                let scale = match applied.object {
                    Some(json) => {
                        apply::conformed(&json, SCALE.message).map_err(managed::failure)?
                    }
                    None => before,
                };
                (scale, applied.managed)
            }
            Self::Whole(scale) => {
                let scale = scale.clone();
                let owners = recorded(&before, &scale, owners, manager, &now);
                (scale, owners)
            }
            Self::Patch(kind, body) => {
                let scale = patched(&before, body, *kind)?;
                let owners = recorded(&before, &scale, owners, manager, &now);
                (scale, owners)
            }
        };
        check_uid(endpoint, old, &scale)?;
        let mut new = scaled(old, &scale, name)?;
        let version = endpoint.served.api_version();
        managed::set(
            &mut new,
            apply::scale::into_object(&parent, owners, &versions, &version),
        );
        Ok(new)
    }
}

fn check_uid(endpoint: &Endpoint, old: &Value, scale: &Value) -> Result<(), Failure> {
    let (asked, have) = (meta::uid(scale), meta::uid(old));
    if asked.is_empty() || asked == have {
        return Ok(());
    }
    let r = endpoint.resource;
    let why =
        format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {have}");
    let resource = format!("{}/scale", r.name);
    Err(Failure::conflict(r.group, &resource, meta::name(old), &why))
}

/// The versions in which replicas are known to be at `spec.replicas`, served or not.
fn versions(group: &str) -> &'static [&'static str] {
    match group {
        "apps" => &["apps/v1beta1", "apps/v1beta2", "apps/v1"],
        _ => &["v1"],
    }
}

fn subject<R>(f: impl FnOnce(&Subject<'_>) -> R) -> R {
    f(&Subject {
        kind: SCALE.kind,
        api_version: "autoscaling/v1",
        subresource: "scale",
        message: SCALE.message,
        version: &|version| {
            (version == "autoscaling/v1").then(|| Version {
                message: SCALE.message,
                filter: Filter::default(),
            })
        },
    })
}

fn recorded(old: &Value, new: &Value, owners: Managed, manager: &str, now: &str) -> Managed {
    let before = owners.clone();
    subject(|s| apply::update(s, old, new, owners, manager, now)).unwrap_or(before)
}

/// A patch of the small object.
fn patched(scale: &Value, body: &[u8], kind: patch::Kind) -> Result<Value, Failure> {
    let mut json = Vec::new();
    codec::json::encode(scale, SCALE.message, &mut json);
    let mut document = codec::json::parse(&json).map_err(Failure::internal)?;
    let change = codec::json::parse(body)
        .map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    if kind == patch::Kind::Json {
        json::Patch::read(&change)
            .and_then(|p| p.apply(&mut document))
            .map_err(patch::failure)?;
    } else {
        // The object has no lists: a strategic merge is a merge.
        merge::apply(&mut document, &change);
    }
    let mut out = Vec::new();
    codec::json::write(&document, &mut out);
    Ok(object::decode(&out, Encoding::Json, &SCALE, FieldValidation::Ignore)?.object)
}

/// The scale of an object.
fn of(object: &Value) -> Value {
    let mut scale = Value::object();
    let metadata = object.get(n::METADATA);
    for field in [
        n::NAME,
        n::NAMESPACE,
        n::UID,
        n::RESOURCE_VERSION,
        n::CREATION_TIMESTAMP,
    ] {
        if let Some(value) = metadata.and_then(|m| m.get(field)) {
            scale.set(&[n::METADATA, field], value.clone());
        }
    }
    scale.set(&[n::SPEC], Value::object());
    let number = |path: &[proto::NameId]| object.at(path).and_then(Value::as_int).unwrap_or(0);
    if number(&[n::SPEC, n::REPLICAS]) != 0 {
        scale.set(&[n::SPEC, n::REPLICAS], number(&[n::SPEC, n::REPLICAS]));
    }
    scale.set(&[n::STATUS, n::REPLICAS], number(&[n::STATUS, n::REPLICAS]));
    if let Some(text) = object.at(&[n::SPEC, n::SELECTOR]).and_then(selector_text) {
        scale.set(&[n::STATUS, n::SELECTOR], text);
    }
    scale
}

/// A replication controller selects by a plain map, the others by a label selector.
fn selector_text(value: &Value) -> Option<String> {
    let plain = value.as_map()?.iter().all(|(_, v)| v.as_str().is_some());
    let selector = if plain {
        selector::LabelSelector::from_map(value.as_map()?)
    } else {
        selector::LabelSelector::from_object(value).ok()?
    };
    Some(selector.to_string())
}

/// The object with the scale's replicas.
fn scaled(old: &Value, scale: &Value, name: &str) -> Result<Value, Failure> {
    let given = meta::name(scale);
    if !given.is_empty() && given != name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let replicas = scale
        .at(&[n::SPEC, n::REPLICAS])
        .and_then(Value::as_int)
        .unwrap_or(0);
    if replicas < 0 {
        let error = FieldError {
            reason: Reason::Invalid,
            field: "spec.replicas".into(),
            value: replicas.to_string(),
            detail: "must be greater than or equal to 0".into(),
        };
        return Err(Failure::invalid("autoscaling", "Scale", name, &[error]));
    }
    let mut new = old.clone();
    new.set(&[n::SPEC, n::REPLICAS], replicas);
    let version = meta::resource_version(scale);
    new.set(&[n::METADATA, n::RESOURCE_VERSION], version);
    let uid = meta::uid(scale);
    if !uid.is_empty() {
        new.set(&[n::METADATA, n::UID], uid);
    }
    Ok(new)
}

//! `scale` of deployments, replica sets, stateful sets and replication controllers: one small object
//! over four kinds.

use http::Response;
use hyper::body::Incoming;
use proto::Value;
use proto::catalogue::{messages, names as n};
use proto::path::{FieldError, Reason};
use proto::{codec, meta, patch, selector};

use super::{get, manager, read_body, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::negotiate::{self, Encoding, Media, Offers};
use crate::object::{self, Type};
use crate::options::{FieldValidation, WriteOptions};
use crate::registry::Endpoint;
use crate::registry::generic::Update;
use crate::render;
use crate::status::Failure;

const SCALE: Type = Type {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    message: messages::autoscaling_v1::SCALE,
};

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Plain)?;
    match x.info.verb.as_str() {
        "get" => {
            let entry = get::entry(
                x,
                endpoint,
                get::at(x.query.get("resourceVersion").unwrap_or_default())?,
            )
            .await?;
            let object = object::from_body(&entry.body, &endpoint.hub)?;
            Ok(answer(&of(&object), media))
        }
        "update" | "patch" => change(x, endpoint, media, incoming).await,
        _ => Err(Failure::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn answer(scale: &Value, media: Media) -> Response<Body> {
    body::answer(
        200,
        media.content_type(),
        body::full(render::tree(scale, &SCALE, media)),
    )
}

async fn change(
    x: &mut Exchange,
    endpoint: &Endpoint,
    media: Media,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let body = read_body(&x.headers, incoming).await?;
    let is_patch = x.info.verb == "patch";
    let options = WriteOptions::read(
        &x.query,
        if is_patch {
            "PatchOptions"
        } else {
            "UpdateOptions"
        },
    )?;
    let content_type = x
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let encoding = if is_patch {
        Encoding::Json
    } else {
        negotiate::input(&x.headers)?
    };
    let name = x.info.name.clone();
    let manager = manager(x, &options.field_manager);
    let resource = endpoint.resource;
    let apply = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Failure::not_found(resource.group, resource.name, &name))?;
        let scale = if is_patch {
            patched(&of(old), &body, &content_type)?
        } else {
            object::decode(&body, encoding, &SCALE, options.field_validation)?.object
        };
        scaled(old, &scale, &name)
    };
    let written = write(x, endpoint, &manager)
        .update(&name, &options, Update::default(), apply)
        .await?;
    let object = object::from_body(&written.entry.body, &endpoint.hub)?;
    Ok(answer(&of(&object), media))
}

/// A patch of the small object.
fn patched(scale: &Value, body: &[u8], content_type: &str) -> Result<Value, Failure> {
    let mut json = Vec::new();
    codec::json::encode(scale, SCALE.message, &mut json);
    let mut document = codec::json::parse(&json).map_err(Failure::internal)?;
    let change = codec::json::parse(body)
        .map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    let unprocessable = |e: patch::Error| Failure::new(422, "Invalid", e.to_string());
    if content_type.starts_with("application/json-patch+json") {
        patch::json::Patch::read(&change)
            .and_then(|p| p.apply(&mut document))
            .map_err(unprocessable)?;
    } else {
        // The object has no lists: a strategic merge is a merge.
        patch::merge::apply(&mut document, &change);
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

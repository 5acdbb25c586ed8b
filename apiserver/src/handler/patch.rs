//! PATCH: JSON patch, merge patch, strategic merge patch. Apply has its own way.
//!
//! A patch is worked on the object's JSON in the request's version, and the result is decoded like a
//! body, so that unknown fields and wrong types in a patch are found as they are in an object.

use http::Response;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use proto::catalogue::{self, Shape};
use proto::path::{FieldError, Reason, quote};
use proto::{MsgId, Value, codec, meta, patch};
use resources::negotiate;
use resources::object;
use resources::options::{FieldValidation, WriteOptions};
use resources::status::{Details, Failure};
use resources::strategy::Part;

use super::subresource::offers;
use super::{answered, apply, create, manager, read_body, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::registry::generic::Update;
use crate::render;

mod shown;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

pub(super) fn kind(x: &Exchange) -> Result<Kind, Failure> {
    let text = x
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => Ok(Kind::Json),
        "application/merge-patch+json" => Ok(Kind::Merge),
        "application/strategic-merge-patch+json" => Ok(Kind::Strategic),
        "application/apply-patch+yaml" => Ok(Kind::Apply),
        // Upstream refuses it before its own negotiation, in the words of its router.
        _ => Err(Failure::new(
            415,
            "UnsupportedMediaType",
            "415: Unsupported Media Type",
        )),
    }
}

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    part(x, endpoint, None, incoming).await
}

/// PATCH of the object or, with a part, of one of its subresources of the same kind.
pub async fn part(
    x: &mut Exchange,
    endpoint: &Endpoint,
    part: Option<Part>,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let kind = kind(x)?;
    let media = negotiate::output(&x.headers, &x.query, offers(&x.info))?;
    let body = read_body(&x.headers, incoming).await?;
    let options = WriteOptions::read(&x.query, "PatchOptions")?;
    check_options(kind, &options)?;
    x.record_patch(&body, kind == Kind::Apply);
    if kind == Kind::Apply {
        return apply::serve(x, endpoint, part, media, &body, &options).await;
    }
    let Ok(read) = codec::json::parse_strict(&body) else {
        return Err(Failure::bad_request("invalid JSON patch"));
    };
    let prepared = Patch::new(kind, read, &options);
    let manager = manager(x, &options.field_manager);
    let name = x.info.name.clone();
    let problems = parking_lot::Mutex::new(Vec::new());
    let write = write(x, endpoint, &manager);
    let change = |old: Option<&Value>| {
        let Some(old) = old else {
            return Err(Failure::not_found(
                endpoint.resource.group,
                endpoint.resource.name,
                &name,
            ));
        };
        // A patch that cannot be read is read once there is something to patch.
        let patch = prepared.as_ref().map_err(Clone::clone)?;
        let (object, found) = patch.apply(endpoint, old)?;
        *problems.lock() = found;
        check_name(&object, &name)?;
        Ok(object)
    };
    let written = write
        .update(
            &name,
            &options,
            Update {
                part,
                ..Update::default()
            },
            change,
        )
        .await;
    let mut warnings = write.into_warnings();
    x.warnings.append(&mut problems.into_inner());
    x.warnings.append(&mut warnings);
    let written = written?;
    let bytes = answered(x, endpoint, media, &written.entry)?;
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

fn check_name(object: &Value, name: &str) -> Result<(), Failure> {
    if meta::name(object) == name {
        return Ok(());
    }
    let given = meta::name(object);
    if given.is_empty() {
        return Err(Failure::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    Err(Failure::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    )))
}

pub(super) fn check_options(kind: Kind, options: &WriteOptions) -> Result<(), Failure> {
    let mut errors = Vec::new();
    let mut add = |reason, field: &str, detail: &str| {
        errors.push(FieldError {
            reason,
            field: field.into(),
            value: String::new(),
            detail: detail.into(),
        });
    };
    if kind == Kind::Apply {
        if options.field_manager.is_empty() {
            add(
                Reason::Required,
                "fieldManager",
                "is required for apply patch",
            );
        }
    } else if options.force.is_some() {
        add(
            Reason::Forbidden,
            "force",
            "may not be specified for non-apply patch",
        );
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", &errors))
    }
}

/// A patch, read once; it may be applied several times.
struct Patch {
    kind: Kind,
    patch: Value,
    operations: Option<patch::json::Patch>,
    validation: FieldValidation,
    /// Duplicate and unknown fields of the patch itself.
    problems: Vec<String>,
}

impl Patch {
    fn new(
        kind: Kind,
        read: codec::json::Decoded,
        options: &WriteOptions,
    ) -> Result<Self, Failure> {
        let validation = options.field_validation;
        let lenient = validation == FieldValidation::Ignore;
        let head = match kind {
            Kind::Strategic => "",
            _ if lenient => "",
            _ => "error decoding patch: ",
        };
        let unreadable = |e: &dyn std::fmt::Display| Failure::bad_request(format!("{head}{e}"));
        let codec::json::Decoded {
            value: patch,
            mut problems,
        } = read;
        let operations = match kind {
            Kind::Json => {
                let read = patch::json::Patch::read(&patch);
                let read = read.map_err(|e| match e.code() {
                    400 => failure(e).prefixed(head),
                    _ => failure(e),
                })?;
                let unknown = read.unknown_fields().iter();
                let unknown = unknown.map(|path| format!("unknown field {}", quote(path)));
                problems.extend(unknown);
                for problem in &mut problems {
                    problem.insert_str(0, "json patch ");
                }
                Some(read)
            }
            _ => None,
        };
        if kind != Kind::Json && !matches!(patch, Value::Map(_) | Value::Null) {
            let given = match patch {
                Value::Bool(_) => "bool",
                Value::List(_) => "array",
                Value::Int(_) | Value::Float(_) => "number",
                _ => "string",
            };
            let why = format!(
                "json: cannot unmarshal {given} into Go value of type map[string]interface {{}}"
            );
            return Err(unreadable(&why));
        }
        Ok(Self {
            kind,
            patch,
            operations,
            validation,
            problems: if lenient { Vec::new() } else { problems },
        })
    }

    /// The patched object in the hub's version, with what was unknown in it.
    fn apply(&self, endpoint: &Endpoint, old: &Value) -> Result<(Value, Vec<String>), Failure> {
        let served = object::convert(old.clone(), &endpoint.hub, &endpoint.served)?;
        let mut json = Vec::new();
        codec::json::encode(&served, endpoint.served.message, &mut json);
        let mut document = codec::json::parse(&json).map_err(Failure::internal)?;
        document.set(&["kind"], endpoint.served.kind);
        document.set(&["apiVersion"], endpoint.served.api_version());
        match self.kind {
            Kind::Json => {
                let operations = self
                    .operations
                    .as_ref()
                    .expect("read in `new` for this kind");
                operations.apply(&mut document).map_err(failure)?;
            }
            Kind::Merge if self.patch.is_null() => {
                return Err(Failure::bad_request("Invalid JSON Patch"));
            }
            Kind::Merge => patch::merge::apply(&mut document, &self.patch),
            _ => patch::strategic::apply(&mut document, &self.patch, endpoint.served.message)
                .map_err(failure)?,
        }
        let mut patched = Vec::with_capacity(json.len() + 64);
        codec::json::write(&document, &mut patched);
        let refused = |why: &str| match self.kind {
            Kind::Strategic => invalid(&shown::go(&self.patch), &shown::restored(why)),
            _ => invalid(&shown::patched(&document, &typed(endpoint, &json)), why),
        };
        let decoded =
            object::decode_patched(&patched, &endpoint.served).map_err(|why| refused(&why))?;
        let mut object = decoded.object;
        if self.kind != Kind::Strategic {
            keep_raw(&mut object, &served, endpoint.served.message);
        }
        let mut problems = self.problems.clone();
        problems.extend(decoded.problems);
        match self.validation {
            FieldValidation::Ignore => problems.clear(),
            FieldValidation::Strict if !problems.is_empty() => {
                let problems = problems.join(", ");
                return Err(refused(&format!("strict decoding error: {problems}")));
            }
            _ => {}
        }
        Ok((create::default(endpoint, object)?, problems))
    }
}

/// Raw JSON in which nothing was patched has the keys in the order that they had. Upstream's patches of
/// these types pass it on as bytes; strategic ones sort it.
pub(crate) fn keep_raw(new: &mut Value, old: &Value, message: MsgId) {
    let (Some(new), Some(old)) = (new.as_map_mut(), old.as_map()) else {
        return;
    };
    for field in message.fields() {
        let (Some(new), Some(old)) = (new.get_mut(field.name), old.get(field.name)) else {
            continue;
        };
        let each: &dyn Fn(&mut Value, &Value) = match field.kind {
            catalogue::Kind::RawExtension | catalogue::Kind::Json => &keep_bytes,
            catalogue::Kind::Message(below) => &move |new, old| keep_raw(new, old, below),
            _ => continue,
        };
        match (field.shape, new, old) {
            (Shape::One, new, old) => each(new, old),
            (Shape::List, Value::List(new), Value::List(old)) => {
                new.iter_mut()
                    .zip(old.iter())
                    .for_each(|(new, old)| each(new, old));
            }
            (Shape::Map, Value::Map(new), Value::Map(old)) => {
                for (name, new) in new.iter_mut() {
                    if let Some(old) = old.get(name) {
                        each(new, old);
                    }
                }
            }
            _ => {}
        }
    }
}

fn keep_bytes(new: &mut Value, old: &Value) {
    let (Value::Raw(patched), Value::Raw(was)) = (&*new, old) else {
        return;
    };
    let written = |value: &Value| {
        let mut bytes = Vec::with_capacity(was.len());
        codec::json::write(value, &mut bytes);
        bytes
    };
    if codec::json::parse(was).is_ok_and(|was| *written(&was) == **patched) {
        // As it was shown, without the space between its tokens.
        *new = Value::Raw(written(old).into());
    }
}

/// The JSON of an object with its type, as patches are worked on it.
fn typed(endpoint: &Endpoint, body: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(body.len() + 64);
    render::with_type(
        endpoint.served.kind,
        &endpoint.served.api_version(),
        body,
        &mut json,
    );
    json
}

/// A patched object that is not one, as upstream answers it.
fn invalid(shown: &str, why: &str) -> Failure {
    let error = FieldError {
        reason: Reason::Invalid,
        field: "patch".into(),
        value: quote(shown),
        detail: why.into(),
    };
    Failure::invalid("", "", "", &[error])
}

/// A patch that cannot be applied, as upstream answers it: a plain text with a code, and no reason
/// except where the code has one.
pub(super) fn failure(error: patch::Error) -> Failure {
    let text = error.to_string();
    match error.code() {
        400 => Failure::bad_request(text),
        413 => Failure::too_large(&text),
        // Upstream keeps the cause to itself.
        422 => Failure::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
        .with_details(Details::default()),
        code => Failure::new(code, "", text),
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::{apps_v1, resource_v1};
    use proto::codec::json::Strictness;

    use super::*;

    fn decode(text: &str, message: MsgId) -> Value {
        codec::json::decode(text.as_bytes(), message, Strictness::Strict)
            .expect("the test's JSON is valid")
            .value
    }

    fn kept(new: &str, old: &str, message: MsgId) -> String {
        let mut new = decode(new, message);
        keep_raw(&mut new, &decode(old, message), message);
        let mut text = Vec::new();
        codec::protobuf::encode(&new, message, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn raw_json_that_was_not_patched_keeps_its_bytes() {
        let revision = |data: &str| format!(r#"{{"data":{data},"revision":1}}"#);
        let old = revision(r#"{ "b": "<", "a": 1, "c": 1e3 }"#);
        let same = kept(
            &revision(r#"{"a":1,"b":"\u003c","c":1000}"#),
            &old,
            apps_v1::CONTROLLER_REVISION,
        );
        assert!(same.contains(r#"{"b":"\u003c","a":1,"c":1e3}"#), "{same}");
        let other = kept(
            &revision(r#"{"a":2,"b":"\u003c"}"#),
            &old,
            apps_v1::CONTROLLER_REVISION,
        );
        assert!(other.contains(r#"{"a":2,"b":"\u003c"}"#), "{other}");
        let claim = |parameters: &str| {
            format!(
                r#"{{"spec":{{"devices":{{"config":[{{"opaque":{{"driver":"d","parameters":{parameters}}}}}]}}}}}}"#
            )
        };
        let same = kept(
            &claim(r#"{"a":1,"b":2}"#),
            &claim(r#"{"b":2,"a":1}"#),
            resource_v1::RESOURCE_CLAIM,
        );
        assert!(same.contains(r#"{"b":2,"a":1}"#), "{same}");
    }
}

//! PATCH with an applied configuration: server-side apply. A name that does not exist is created.

use http::Response;
use proto::apply::Configuration;
use proto::{Value, codec, meta};
use resources::clock::Clock;
use resources::negotiate::Media;
use resources::options::{FieldValidation, WriteOptions};
use resources::status::Failure;
use resources::strategy::Part;

use super::update::check_name;
use super::{answered, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::registry::generic::Update;

/// A configuration as it came.
pub struct Applying {
    pub object: Value,
    /// What is wrong with it that decoding forgives: keys given twice.
    problem: Option<String>,
}

impl Applying {
    pub fn read(body: &[u8]) -> Result<Self, Failure> {
        // What looks like JSON passes upstream's first reader unread.
        let head = if body.trim_ascii_start().starts_with(b"{") {
            "error decoding patch: error converting YAML to JSON"
        } else {
            "error encoding patch"
        };
        let unreadable = |e: codec::DecodeError| Failure::bad_request(format!("{head}: {e}"));
        let (json, problem) = codec::yaml::to_json(body).map_err(unreadable)?;
        let object = match codec::json::parse(&json) {
            Ok(object @ Value::Map(_)) => object,
            Ok(Value::Null) => Value::object(),
            Ok(other) => return Err(not_an_object(&other)),
            Err(e) => return Err(Failure::bad_request(format!("error decoding patch: {e}"))),
        };
        Ok(Self { object, problem })
    }

    /// Upstream complains about the text only once everything else is right.
    pub fn complain(&self, validation: FieldValidation) -> Result<Option<&str>, Failure> {
        const HEAD: &str = "yaml: unmarshal errors:\n  ";
        match (&self.problem, validation) {
            (None, _) | (_, FieldValidation::Ignore) => Ok(None),
            (Some(problem), FieldValidation::Warn) => {
                Ok(Some(problem.strip_prefix(HEAD).unwrap_or(problem)))
            }
            (Some(problem), FieldValidation::Strict) => Err(Failure::bad_request(format!(
                "error strict decoding patch: error converting YAML to JSON: {problem}"
            ))),
        }
    }
}

fn not_an_object(value: &Value) -> Failure {
    let kind = match value {
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::List(_) => "array",
        _ => "string",
    };
    Failure::bad_request(format!(
        "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    part: Option<Part>,
    media: Media,
    body: &[u8],
    options: &WriteOptions,
) -> Result<Response<Body>, Failure> {
    let applying = Applying::read(body)?;
    let name = x.info.name.clone();
    let mut write = write(x, endpoint, &options.field_manager);
    if endpoint.resource.name == "namespaces" && endpoint.resource.group.is_empty() {
        // As in a create: a namespace is created in itself.
        write.namespace = &name;
    }
    let target = write.target();
    let change = |live: Option<&Value>| {
        let configuration = Configuration {
            object: &applying.object,
            manager: &options.field_manager,
            force: options.force.unwrap_or(false),
            now: &Clock::now().text,
        };
        let object = target.apply(live, &configuration)?;
        applying.complain(options.field_validation)?;
        if live.is_none() {
            check_new(endpoint, &name, &object)?;
        }
        check_name(x, &object)?;
        Ok(object)
    };
    let how = Update {
        part,
        may_create: part.is_none(),
        recorded: true,
        ..Update::default()
    };
    let written = write.update(&name, options, how, change).await;
    let mut warnings = write.into_warnings();
    if let Ok(Some(problem)) = applying.complain(options.field_validation) {
        warnings.insert(0, problem.to_owned());
    }
    x.warnings.append(&mut warnings);
    let written = written?;
    let bytes = answered(x, endpoint, media, &written.entry)?;
    let code = if written.created { 201 } else { 200 };
    Ok(body::answer(code, media.content_type(), body::full(bytes)))
}

/// A configuration that names an object by its uid is not meant to create another.
fn check_new(endpoint: &Endpoint, name: &str, object: &Value) -> Result<(), Failure> {
    let uid = meta::uid(object);
    if uid.is_empty() {
        return Ok(());
    }
    let r = endpoint.resource;
    let why = format!(
        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
    );
    Err(Failure::conflict(r.group, r.name, name, &why))
}

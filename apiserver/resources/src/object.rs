//! Bodies into trees, trees into stored bytes: where encodings, versions and stored form meet.

use bytes::Bytes;
use proto::catalogue::{self, Resource, names as n};
use proto::codec;
use proto::codec::json::Strictness;
use proto::{MsgId, Value};

use crate::negotiate::Encoding;
use crate::options::FieldValidation;
use crate::status::Failure;

/// A group, version and kind with the message that describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Type {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub message: MsgId,
}

impl Type {
    #[must_use]
    pub fn api_version(&self) -> String {
        catalogue::group_version(self.group, self.version)
    }
}

/// The type in which a resource is served and the one in which it is stored; none if it is not stored.
#[must_use]
pub fn types(resource: &'static Resource) -> Option<(Type, Type)> {
    let storage = resource.storage.as_ref()?;
    let kind = resource.kind;
    let served = Type {
        group: resource.group,
        version: resource.version,
        kind,
        message: resource.message,
    };
    let hub = Type {
        group: storage.group,
        version: storage.version,
        kind,
        message: storage.message,
    };
    Some((served, hub))
}

/// A decoded request body.
pub struct Decoded {
    /// Conformed, in the version of the request, without defaults.
    pub object: Value,
    /// Unknown and duplicate fields, to be sent as warnings.
    pub problems: Vec<String>,
}

/// Decodes a body that must be of the type `expected`. Strict problems fail it or come back as
/// warnings, as `validation` says.
pub fn decode(
    body: &[u8],
    encoding: Encoding,
    expected: &Type,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    match encoding {
        Encoding::Protobuf => decode_protobuf(body, expected),
        Encoding::Json => decode_json(body, expected, validation),
        Encoding::Yaml => {
            let (json, problems) =
                codec::yaml::to_json(body).map_err(|e| unrecognized(expected, &e, body))?;
            let mut decoded = decode_json(&json, expected, validation)?;
            decoded.problems.extend(problems);
            strict(decoded, expected, validation)
        }
    }
}

/// Decodes a body of a type whose version does not matter, such as options.
pub fn decode_any_version(
    body: &[u8],
    encoding: Encoding,
    expected: &Type,
) -> Result<Value, Failure> {
    let failed = |e: codec::DecodeError| unrecognized(expected, &e, body);
    let json = |json: &[u8]| {
        codec::json::decode(json, expected.message, Strictness::Lenient).map(|d| d.value)
    };
    match encoding {
        Encoding::Json => json(body).map_err(failed),
        Encoding::Yaml => json(&codec::yaml::to_json(body).map_err(failed)?.0).map_err(failed),
        Encoding::Protobuf => {
            let open = codec::protobuf::open(body).map_err(failed)?;
            codec::protobuf::decode(open.raw, expected.message).map_err(failed)
        }
    }
}

/// The declared kind must be the expected one, or be left out.
fn check_kind(api_version: &str, kind: &str, expected: &Type) -> Result<(), Failure> {
    let wanted = expected.api_version();
    if !kind.is_empty() && kind != expected.kind {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        return Err(Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: kinds differ",
            expected.kind
        )));
    }
    if !api_version.is_empty() && api_version != wanted {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
        )));
    }
    Ok(())
}

fn decode_json(
    body: &[u8],
    expected: &Type,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    let strictness = if validation == FieldValidation::Ignore {
        Strictness::Lenient
    } else {
        Strictness::Strict
    };
    let decoded = codec::json::decode(body, expected.message, strictness).map_err(|e| {
        // Upstream reads kind and version first: what it could read it names.
        let declared = codec::json::parse(body).ok();
        let field = |name| {
            declared
                .as_ref()
                .and_then(|v| v.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (api_version, kind) = (field(n::API_VERSION), field(n::KIND));
        if declared.is_none() {
            return unrecognized(expected, &e, body);
        }
        let kind = if kind.is_empty() {
            expected.kind.to_owned()
        } else {
            kind
        };
        let version = if api_version.is_empty() {
            expected.version
        } else {
            api_version.rsplit('/').next().unwrap_or_default()
        };
        Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: {e}",
            expected.kind
        ))
    })?;
    let mut object = decoded.value;
    let text = |object: &Value, name| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    check_kind(
        &text(&object, n::API_VERSION),
        &text(&object, n::KIND),
        expected,
    )?;
    strip_type(&mut object);
    strict(
        Decoded {
            object,
            problems: decoded.problems,
        },
        expected,
        validation,
    )
}

fn strict(
    decoded: Decoded,
    expected: &Type,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    if validation == FieldValidation::Strict && !decoded.problems.is_empty() {
        let problems = decoded.problems.join(", ");
        let (kind, version) = (expected.kind, expected.version);
        return Err(Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {problems}"
        )));
    }
    Ok(decoded)
}

fn decode_protobuf(body: &[u8], expected: &Type) -> Result<Decoded, Failure> {
    let open = codec::protobuf::open(body).map_err(|e| unrecognized(expected, &e, body))?;
    check_kind(open.api_version, open.kind, expected)?;
    let object = codec::protobuf::decode(open.raw, expected.message).map_err(|e| {
        Failure::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {e}",
            expected.kind, expected.version, expected.kind
        ))
    })?;
    Ok(Decoded {
        object,
        problems: Vec::new(),
    })
}

fn unrecognized(expected: &Type, error: &dyn std::fmt::Display, body: &[u8]) -> Failure {
    const SHOWN: usize = 30;
    let head: String = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    let dots = if body.len() > SHOWN { " ..." } else { "" };
    let kind = expected.kind;
    Failure::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {error} ({head}{dots})"
    ))
}

/// Trees carry no type: kind and version are known from where the tree stands.
fn strip_type(object: &mut Value) {
    if let Some(map) = object.as_map_mut() {
        map.remove(n::KIND);
        map.remove(n::API_VERSION);
    }
}

/// The bytes that etcd keeps: the envelope around the object without its resource version.
#[must_use]
pub fn to_stored(object: &Value, hub: &Type) -> Bytes {
    let mut bare;
    let object = if object.at(&[n::METADATA, n::RESOURCE_VERSION]).is_some()
        || object.at(&[n::METADATA, n::SELF_LINK]).is_some()
    {
        bare = object.clone();
        bare.remove(&[n::METADATA, n::RESOURCE_VERSION]);
        bare.remove(&[n::METADATA, n::SELF_LINK]);
        &bare
    } else {
        object
    };
    let mut out = Vec::with_capacity(1024);
    codec::protobuf::seal(object, hub.message, &hub.api_version(), hub.kind, &mut out);
    out.into()
}

/// The tree of a serving body (protobuf without envelope).
pub fn from_body(body: &[u8], hub: &Type) -> Result<Value, Failure> {
    codec::protobuf::decode(body, hub.message)
        .map_err(|e| Failure::internal(format!("a stored object cannot be decoded: {e}")))
}

/// A tree in another version of its kind.
pub fn convert(object: Value, from: &Type, to: &Type) -> Result<Value, Failure> {
    if from.message == to.message {
        return Ok(object);
    }
    proto::convert::convert(object, from.message, to.message).map_err(|e| Failure::internal(&e))
}

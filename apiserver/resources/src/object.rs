//! Bodies into trees, trees into stored bytes: where encodings, versions and stored form meet.

use bytes::Bytes;
use proto::catalogue::{self, Release, Resource, names as n};
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

/// The type in which a resource is served and the one in which it is stored in clusters with servers of the release
/// `least`; none if it is not stored.
#[must_use]
pub fn types(resource: &'static Resource, least: Release) -> Option<(Type, Type)> {
    let storage = resource.storage.as_ref()?;
    let kind = resource.kind;
    let (version, message) = storage.beside(least);
    let served = Type {
        group: resource.group,
        version: resource.version,
        kind,
        message: resource.message,
    };
    let hub = Type {
        group: storage.group,
        version,
        kind,
        message,
    };
    Some((served, hub))
}

/// The Go type in which upstream keeps objects of a kind, as its messages name it: `core.Pod`.
#[must_use]
pub fn internal(group: &str, kind: &str) -> String {
    let package = match group {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        other => other.split('.').next().unwrap_or_default(),
    };
    format!("{package}.{kind}")
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
        Encoding::Json => decode_json(body, body, expected, validation),
        Encoding::Yaml => {
            let (json, problems) =
                codec::yaml::to_json(body).map_err(|e| unrecognized(expected, &e, body))?;
            let mut decoded = decode_json(&json, body, expected, validation)?;
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
    let failed = |e: codec::DecodeError| Failure::bad_request(e.to_string());
    let json = |json: &[u8]| {
        let decoded = codec::json::decode(json, expected.message, Strictness::Lenient);
        let declared = decoded.as_ref().map(|d| Declared::of(&d.value)).ok();
        let declared = match declared {
            Some(declared) => declared,
            None => Declared::read(json).map_err(Failure::bad_request)?,
        };
        declared.is_a(expected).map_err(Failure::bad_request)?;
        decoded.map(|d| d.value).map_err(failed)
    };
    match encoding {
        Encoding::Json => json(body),
        Encoding::Yaml => json(&codec::yaml::to_json(body).map_err(failed)?.0),
        Encoding::Protobuf => {
            let open = codec::protobuf::open(body).map_err(failed)?;
            let declared = Declared::new(open.api_version, open.kind);
            declared.is_a(expected).map_err(Failure::bad_request)?;
            codec::protobuf::decode(open.raw, expected.message).map_err(failed)
        }
    }
}

/// What upstream calls the registry of kinds that its answers name.
const SCHEME: &str = "pkg/runtime/scheme.go:111";

/// The type that a body says it is of; both may be left out.
#[derive(Default)]
struct Declared {
    api_version: String,
    kind: String,
}

impl Declared {
    fn new(api_version: &str, kind: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    fn of(object: &Value) -> Self {
        let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
        Self::new(text(n::API_VERSION), text(n::KIND))
    }

    /// Of JSON that cannot be decoded: upstream reads kind and version before all else.
    fn read(json: &[u8]) -> Result<Self, String> {
        const HEAD: &str = "couldn't get version/kind; json parse error: ";
        const INTO: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        let given = |value: &Value| match value {
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Float(_) => "number",
            Value::List(_) => "array",
            Value::Map(_) => "object",
            _ => "string",
        };
        let cannot = |value: &Value, into: &str| {
            Err(format!(
                "{HEAD}json: cannot unmarshal {} into Go {into}",
                given(value)
            ))
        };
        let object = match codec::json::parse(json).map_err(|e| format!("{HEAD}{e}"))? {
            object @ Value::Map(_) => object,
            Value::Null => return Ok(Self::default()),
            other => return cannot(&other, &format!("value of type {INTO}")),
        };
        for name in [n::API_VERSION, n::KIND] {
            match object.get(name) {
                None | Some(Value::Null | Value::String(_)) => {}
                Some(other) => {
                    return cannot(
                        other,
                        &format!("struct field .{} of type string", name.text()),
                    );
                }
            }
        }
        Ok(Self::of(&object))
    }

    /// Whether the version is one at all: upstream finds that out when it reads it.
    fn parse(self) -> Result<Self, String> {
        if self.api_version.matches('/').count() > 1 {
            return Err(format!(
                "unexpected GroupVersion string: {}",
                self.api_version
            ));
        }
        Ok(self)
    }

    /// Group and version; those expected stand for what is left out.
    fn group_version<'a>(&'a self, expected: &'a Type) -> (&'a str, &'a str) {
        match self.api_version.rsplit_once('/') {
            None if self.api_version.is_empty() => (expected.group, expected.version),
            None => ("", &self.api_version),
            Some((group, version)) => (group, version),
        }
    }

    fn kind<'a>(&'a self, expected: &'a Type) -> &'a str {
        if self.kind.is_empty() {
            expected.kind
        } else {
            &self.kind
        }
    }

    /// Whether there is such a kind, and whether it is the one expected, in whatever version.
    fn is_a(&self, expected: &Type) -> Result<(), String> {
        let (group, version) = self.group_version(expected);
        let kind = self.kind(expected);
        // The codec of options knows no other kinds (`apimachinery/pkg/apis/meta/internalversion/scheme`).
        let foreign = expected.kind == "DeleteOptions" && kind != expected.kind;
        if foreign || catalogue::message_of(group, version, kind).is_none() {
            let at = proto::path::quote(&catalogue::group_version(group, version));
            let kind = proto::path::quote(kind);
            return Err(format!(
                "no kind {kind} is registered for version {at} in scheme \"{SCHEME}\""
            ));
        }
        if kind == expected.kind {
            return Ok(());
        }
        let wanted = internal(expected.group, expected.kind);
        Err(format!(
            "converting ({version}.{kind}) to ({wanted}): unknown conversion"
        ))
    }

    /// The version must be the expected one as well.
    fn check(&self, expected: &Type) -> Result<(), Failure> {
        self.is_a(expected)
            .map_err(|why| self.unhandled(expected, &why))?;
        let wanted = expected.api_version();
        if self.api_version.is_empty() || self.api_version == wanted {
            return Ok(());
        }
        let given = &self.api_version;
        Err(Failure::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({wanted})"
        )))
    }

    fn unhandled(&self, expected: &Type, why: &dyn std::fmt::Display) -> Failure {
        let kind = self.kind(expected);
        let version = proto::path::quote(self.group_version(expected).1);
        Failure::bad_request(format!(
            "{kind} in version {version} cannot be handled as a {}: {why}",
            expected.kind
        ))
    }
}

/// Decodes what a patch made of an object; what is wrong with it is said without the words around it that a body gets.
///
/// # Errors
/// The text of what is wrong.
pub fn decode_patched(json: &[u8], expected: &Type) -> Result<Decoded, String> {
    let decoded = codec::json::decode(json, expected.message, Strictness::Strict);
    let declared = match &decoded {
        Ok(decoded) => Declared::of(&decoded.value),
        Err(_) => Declared::read(json)?,
    };
    declared.is_a(expected)?;
    let mut decoded = decoded.map_err(|e| e.to_string())?;
    strip_type(&mut decoded.value);
    Ok(Decoded {
        object: decoded.value,
        problems: decoded.problems,
    })
}

fn decode_json(
    json: &[u8],
    body: &[u8],
    expected: &Type,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    let strictness = if validation == FieldValidation::Ignore {
        Strictness::Lenient
    } else {
        Strictness::Strict
    };
    let decoded = codec::json::decode(json, expected.message, strictness).map_err(|e| {
        let declared = match Declared::read(json).and_then(Declared::parse) {
            Ok(declared) => declared,
            Err(why) => return unrecognized(expected, &why, body),
        };
        match declared.is_a(expected) {
            Err(why) => declared.unhandled(expected, &why),
            Ok(()) => declared.unhandled(expected, &e),
        }
    })?;
    let mut object = decoded.value;
    let declared = Declared::of(&object).parse();
    let declared = declared.map_err(|why| unrecognized(expected, &why, body))?;
    declared.check(expected)?;
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
    let declared = Declared::new(open.api_version, open.kind);
    declared.check(expected)?;
    let object = codec::protobuf::decode(open.raw, expected.message)
        .map_err(|e| declared.unhandled(expected, &e))?;
    Ok(Decoded {
        object,
        problems: Vec::new(),
    })
}

fn unrecognized(expected: &Type, error: &dyn std::fmt::Display, body: &[u8]) -> Failure {
    let kind = expected.kind;
    let head = summary(body);
    Failure::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {error} ({head})"
    ))
}

/// The beginning of a body, as digits unless it looks like JSON.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let head = &body[..body.len().min(SHOWN)];
    let dots = if body.len() > SHOWN { " ..." } else { "" };
    let shown = match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(head).into_owned(),
        Some(_) => head.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    shown + dots
}

/// Trees carry no type: kind and version are known from where the tree stands.
pub(crate) fn strip_type(object: &mut Value) {
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

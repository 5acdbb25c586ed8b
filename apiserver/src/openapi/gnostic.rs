//! The v2 document in protobuf, which older clients ask for: `openapi.v2.Document` of
//! `google/gnostic-models` (`openapiv2/OpenAPIv2.proto`), made of the document in JSON.
//!
//! Only what our documents have is in the tables here; a test holds that nothing is left out.

use serde_json::{Map, Value};

/// A message: its fields by their JSON names, in the order of their numbers.
struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// The number under which `x-` fields are kept.
    extensions: u32,
}

/// How a value is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// Whatever it is, as YAML.
    Any,
    One(&'static Message),
    Each(&'static Kind),
    /// A message around the value, which it has under a number: one alternative of a `oneof`, or a list
    /// of one.
    In(u32, &'static Kind),
    /// A message with an entry under that number for each name: the name and a value.
    Named(u32, &'static Kind),
    /// A parameter: where it is tells its kind.
    Parameter,
}

const TEXTS: Kind = Kind::Each(&Kind::Text);

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::One(&INFO)),
        ("paths", 8, Kind::Named(2, &Kind::One(&PATH))),
        ("definitions", 9, Kind::Named(1, &Kind::One(&SCHEMA))),
        (
            "security",
            12,
            Kind::Each(&Kind::Named(1, &Kind::In(1, &TEXTS))),
        ),
        (
            "securityDefinitions",
            13,
            Kind::Named(1, &Kind::In(2, &Kind::One(&API_KEY))),
        ),
    ],
    extensions: 16,
};
static INFO: Message = Message {
    fields: &[
        ("title", 1, Kind::Text),
        ("version", 2, Kind::Text),
        ("description", 3, Kind::Text),
    ],
    extensions: 7,
};
static PATH: Message = Message {
    fields: &[
        ("get", 2, Kind::One(&OPERATION)),
        ("put", 3, Kind::One(&OPERATION)),
        ("post", 4, Kind::One(&OPERATION)),
        ("delete", 5, Kind::One(&OPERATION)),
        ("options", 6, Kind::One(&OPERATION)),
        ("head", 7, Kind::One(&OPERATION)),
        ("patch", 8, Kind::One(&OPERATION)),
        ("parameters", 9, Kind::Each(&Kind::Parameter)),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, TEXTS),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, TEXTS),
        ("consumes", 7, TEXTS),
        ("parameters", 8, Kind::Each(&Kind::Parameter)),
        (
            "responses",
            9,
            Kind::Named(1, &Kind::In(1, &Kind::One(&RESPONSE))),
        ),
        ("schemes", 10, TEXTS),
    ],
    extensions: 13,
};
static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Kind::Text),
        ("schema", 2, Kind::In(1, &Kind::One(&SCHEMA))),
    ],
    extensions: 5,
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("description", 4, Kind::Text),
        ("uniqueItems", 16, Kind::Flag),
        ("required", 19, TEXTS),
        ("enum", 20, Kind::Each(&Kind::Any)),
        ("additionalProperties", 21, Kind::In(1, &Kind::One(&SCHEMA))),
        ("type", 22, Kind::In(1, &Kind::Text)),
        ("items", 23, Kind::In(1, &Kind::One(&SCHEMA))),
        ("allOf", 24, Kind::Each(&Kind::One(&SCHEMA))),
        ("properties", 25, Kind::Named(1, &Kind::One(&SCHEMA))),
    ],
    extensions: 31,
};
static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("description", 4, Kind::Text),
    ],
    extensions: 5,
};
static BODY: Message = Message {
    fields: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::One(&SCHEMA)),
    ],
    extensions: 6,
};
static IN_PATH: Message = Message {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};
static IN_QUERY: Message = Message {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
};
/// A body is one alternative of a parameter; the others are alternatives of the second.
static OF_BODY: Kind = Kind::In(1, &Kind::In(1, &Kind::One(&BODY)));
static OF_QUERY: Kind = Kind::In(1, &Kind::In(2, &Kind::In(3, &Kind::One(&IN_QUERY))));
static OF_PATH: Kind = Kind::In(1, &Kind::In(2, &Kind::In(4, &Kind::One(&IN_PATH))));

/// The document's bytes.
pub(super) fn document(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&DOCUMENT, json, &mut out);
    out
}

fn message(of: &Message, value: &Value, out: &mut Vec<u8>) {
    for (name, number, kind) in of.fields {
        if let Some(value) = value.get(*name) {
            field(*number, *kind, value, out);
        }
    }
    for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
        named(of.extensions, name, Kind::Any, value, out);
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn field(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match kind {
        Kind::Text => {
            let text = value.as_str().unwrap_or_default();
            if !text.is_empty() {
                bytes(number, text.as_bytes(), out);
            }
        }
        Kind::Flag => {
            if value.as_bool() == Some(true) {
                varint(u64::from(number) << 3, out);
                out.push(1);
            }
        }
        Kind::Any => below(number, out, |out| bytes(2, &yaml(value), out)),
        Kind::One(of) => below(number, out, |out| message(of, value, out)),
        Kind::Each(kind) => {
            for item in value.as_array().into_iter().flatten() {
                field(number, *kind, item, out);
            }
        }
        Kind::In(inner, kind) => below(number, out, |out| field(inner, *kind, value, out)),
        Kind::Named(entry, kind) => below(number, out, |out| {
            for (name, value) in entries(value) {
                named(entry, name, *kind, value, out);
            }
        }),
        Kind::Parameter => {
            let kind = match value["in"].as_str() {
                Some("body") => OF_BODY,
                Some("path") => OF_PATH,
                _ => OF_QUERY,
            };
            field(number, kind, value, out);
        }
    }
}

/// A pair of a name and a value.
fn named(number: u32, name: &str, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    below(number, out, |out| {
        bytes(1, name.as_bytes(), out);
        field(2, kind, value, out);
    });
}

fn yaml(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    // What was made as JSON can be read as JSON.
    if let Ok(tree) = proto::codec::json::parse(value.to_string().as_bytes()) {
        proto::codec::yaml::write(&tree, &mut text);
    }
    text
}

/// A message, whose length stands before it.
fn below(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    bytes(number, &body, out);
}

fn bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;

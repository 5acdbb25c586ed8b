//! The messages of `openapi.v3` (`openapiv3/OpenAPIv3.proto`).

use serde_json::Value;

use super::{Kind, Message, TEXTS};

pub(super) static DOCUMENT: Message = Message {
    fields: &[
        ("openapi", 1, Kind::Text),
        ("info", 2, Kind::One(&INFO)),
        ("paths", 4, Kind::Named(1, &Kind::One(&PATH))),
        ("components", 5, Kind::One(&COMPONENTS)),
    ],
    extensions: 9,
};
static INFO: Message = Message {
    fields: &[("title", 1, Kind::Text), ("version", 6, Kind::Text)],
    extensions: 7,
};
static PATH: Message = Message {
    fields: &[
        ("get", 4, Kind::One(&OPERATION)),
        ("put", 5, Kind::One(&OPERATION)),
        ("post", 6, Kind::One(&OPERATION)),
        ("delete", 7, Kind::One(&OPERATION)),
        ("options", 8, Kind::One(&OPERATION)),
        ("head", 9, Kind::One(&OPERATION)),
        ("patch", 10, Kind::One(&OPERATION)),
        (
            "parameters",
            13,
            Kind::Each(&Kind::In(1, &Kind::One(&PARAMETER))),
        ),
    ],
    extensions: 14,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, TEXTS),
        ("operationId", 5, Kind::Text),
        (
            "parameters",
            6,
            Kind::Each(&Kind::In(1, &Kind::One(&PARAMETER))),
        ),
        ("requestBody", 7, Kind::In(1, &Kind::One(&REQUEST_BODY))),
        (
            "responses",
            8,
            Kind::Named(2, &Kind::In(1, &Kind::One(&RESPONSE))),
        ),
    ],
    extensions: 13,
};
static PARAMETER: Message = Message {
    fields: &[
        ("name", 1, Kind::Text),
        ("in", 2, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 10, Kind::By(schema)),
    ],
    extensions: 14,
};
static REQUEST_BODY: Message = Message {
    fields: &[
        ("content", 2, Kind::Named(1, &Kind::One(&MEDIA))),
        ("required", 3, Kind::Flag),
    ],
    extensions: 4,
};
static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Kind::Text),
        ("content", 3, Kind::Named(1, &Kind::One(&MEDIA))),
    ],
    extensions: 5,
};
static MEDIA: Message = Message {
    fields: &[("schema", 1, Kind::By(schema))],
    extensions: 5,
};
static COMPONENTS: Message = Message {
    fields: &[
        ("schemas", 1, Kind::Named(1, &Kind::By(schema))),
        (
            "securitySchemes",
            7,
            Kind::Named(1, &Kind::In(1, &Kind::One(&API_KEY))),
        ),
    ],
    extensions: 10,
};
static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Kind::Text),
        ("name", 3, Kind::Text),
        ("in", 4, Kind::Text),
    ],
    extensions: 9,
};
static REFERENCE: Message = Message {
    fields: &[("$ref", 1, Kind::Text)],
    extensions: 4,
};
static SCHEMA: Message = Message {
    fields: &[
        ("uniqueItems", 20, Kind::Flag),
        ("required", 23, TEXTS),
        ("enum", 24, Kind::Each(&Kind::Any)),
        ("type", 25, Kind::Text),
        ("allOf", 26, Kind::Each(&Kind::By(schema))),
        ("oneOf", 27, Kind::Each(&Kind::By(schema))),
        ("items", 30, Kind::In(1, &Kind::By(schema))),
        ("properties", 31, Kind::Named(1, &Kind::By(schema))),
        ("additionalProperties", 32, Kind::In(1, &Kind::By(schema))),
        ("default", 33, Kind::By(default)),
        ("format", 35, Kind::Text),
    ],
    extensions: 36,
};
static OF_SCHEMA: Kind = Kind::In(1, &Kind::One(&SCHEMA));
static OF_REFERENCE: Kind = Kind::In(2, &Kind::One(&REFERENCE));
static OF_OBJECT: Kind = Kind::Something;
static OF_NUMBER: Kind = Kind::In(1, &Kind::GivenNumber);
static OF_FLAG: Kind = Kind::In(2, &Kind::GivenFlag);
static OF_TEXT: Kind = Kind::In(3, &Kind::GivenText);

fn schema(value: &Value) -> &'static Kind {
    match value.get("$ref") {
        Some(_) => &OF_REFERENCE,
        None => &OF_SCHEMA,
    }
}

fn default(value: &Value) -> &'static Kind {
    match value {
        Value::Number(_) => &OF_NUMBER,
        Value::Bool(_) => &OF_FLAG,
        Value::String(_) => &OF_TEXT,
        _ => &OF_OBJECT,
    }
}

/// The messages of a document, for tests.
#[cfg(test)]
pub(super) const ALL: &[&Message] = &[
    &DOCUMENT,
    &INFO,
    &PATH,
    &OPERATION,
    &PARAMETER,
    &REQUEST_BODY,
    &RESPONSE,
    &MEDIA,
    &COMPONENTS,
    &API_KEY,
    &REFERENCE,
    &SCHEMA,
];

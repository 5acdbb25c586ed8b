//! The messages of `openapi.v2` (`openapiv2/OpenAPIv2.proto`).

use serde_json::Value;

use super::{Kind, Message, TEXTS};

pub(super) static DOCUMENT: Message = Message {
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
        ("parameters", 9, Kind::Each(&Kind::By(parameter))),
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
        ("parameters", 8, Kind::Each(&Kind::By(parameter))),
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

/// Where a parameter is tells its kind.
fn parameter(value: &Value) -> &'static Kind {
    match value["in"].as_str() {
        Some("body") => &OF_BODY,
        Some("path") => &OF_PATH,
        _ => &OF_QUERY,
    }
}

/// The messages of a document, for tests.
#[cfg(test)]
pub(super) const ALL: &[&Message] = &[
    &DOCUMENT, &INFO, &PATH, &OPERATION, &RESPONSE, &SCHEMA, &API_KEY, &BODY, &IN_PATH, &IN_QUERY,
];

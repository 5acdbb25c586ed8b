//! Content negotiation: which form a body has, and in which form the answer goes out.
//!
//! One module decides for every handler. Quality values are honoured, `as=Table` and
//! `as=PartialObjectMetadata[List]` choose a form of the object, unknown types are refused with the
//! texts of upstream's `endpoints/handlers/negotiation`.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::request::Query;
use crate::status::Failure;

/// The encoding of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What of an object is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Form {
    /// The object itself.
    Full,
    /// `meta.k8s.io` Table, v1 or v1beta1.
    Table { beta: bool, rows: Rows },
    /// Metadata only.
    Metadata { beta: bool },
}

/// What the rows of a table hold of their objects beside the cells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Rows {
    Metadata,
    Object,
    Nothing,
}

/// The form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Media {
    pub encoding: Encoding,
    pub form: Form,
    pub pretty: bool,
    /// `;stream=watch` was asked for.
    pub stream: bool,
}

impl Media {
    pub const JSON: Self = Self {
        encoding: Encoding::Json,
        form: Form::Full,
        pretty: false,
        stream: false,
    };

    /// The `Content-Type` of an answer that is one object.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The `Content-Type` of a watch.
    #[must_use]
    pub fn stream_type(self) -> &'static str {
        match self.encoding {
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Encoding::Json | Encoding::Yaml => "application/json",
        }
    }
}

/// The types an answer can have, as the refusal lists them.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// The types a watch can have.
const ACCEPTED_STREAM: &str = "application/json, application/vnd.kubernetes.protobuf;stream=watch";

/// Which forms an endpoint can give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    /// Objects of a resource: full, tables, metadata.
    Object,
    /// A watch of them.
    Stream,
    /// Discovery, versions, reviews: full only.
    Plain,
}

/// Chooses the form of the answer.
pub fn output(headers: &HeaderMap, query: &Query, offers: Offers) -> Result<Media, Failure> {
    let accept = accept(headers);
    let pretty = pretty(headers, query);
    let accepted = if offers == Offers::Stream {
        ACCEPTED_STREAM
    } else {
        ACCEPTED
    };
    if accept.trim().is_empty() {
        return Ok(Media {
            pretty,
            ..Media::JSON
        });
    }
    for clause in clauses(&accept) {
        if let Some(mut media) = match_clause(&clause, offers) {
            if let Form::Table { rows: held, .. } = &mut media.form {
                *held = rows(query)?;
            }
            return Ok(Media {
                pretty: pretty && media.encoding == Encoding::Json,
                ..media
            });
        }
    }
    Err(Failure::not_acceptable(accepted))
}

fn accept(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    values.join(",")
}

/// `?pretty=` decides; without it, browsers and curl get indented JSON as upstream gives them.
fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(asked) = query.flag("pretty") {
        return asked;
    }
    let agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|browser| agent.starts_with(browser))
}

/// One alternative of an Accept header.
struct Clause {
    main: String,
    sub: String,
    quality: f32,
    params: Vec<(String, String)>,
}

impl Clause {
    fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }
}

/// The alternatives, best first; equal qualities keep their order.
fn clauses(accept: &str) -> Vec<Clause> {
    let mut all: Vec<Clause> = accept.split(',').filter_map(clause).collect();
    all.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    all
}

fn clause(text: &str) -> Option<Clause> {
    let mut pieces = text.split(';').map(str::trim);
    let (main, sub) = pieces.next()?.split_once('/').unwrap_or((text.trim(), ""));
    let mut clause = Clause {
        main: main.trim().to_ascii_lowercase(),
        sub: sub.trim().to_ascii_lowercase(),
        quality: 1.0,
        params: vec![],
    };
    for piece in pieces {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        if name == "q" {
            clause.quality = value.parse().unwrap_or(1.0);
        } else {
            clause.params.push((name.to_owned(), value.to_owned()));
        }
    }
    Some(clause)
}

fn match_clause(clause: &Clause, offers: Offers) -> Option<Media> {
    let encoding = match (clause.main.as_str(), clause.sub.as_str()) {
        ("*", "*") | ("application", "*" | "json") => Encoding::Json,
        ("application", "yaml") if offers != Offers::Stream => Encoding::Yaml,
        ("application", "vnd.kubernetes.protobuf") => Encoding::Protobuf,
        _ => return None,
    };
    let form = match clause.param("as") {
        None => Form::Full,
        Some(kind) => form(kind, clause, offers)?,
    };
    // Tables have no protobuf form.
    if matches!(form, Form::Table { .. }) && encoding == Encoding::Protobuf {
        return None;
    }
    let stream = match clause.param("stream") {
        None => false,
        Some("watch") if offers == Offers::Stream => true,
        Some(_) => return None,
    };
    Some(Media {
        encoding,
        form,
        pretty: false,
        stream,
    })
}

fn form(kind: &str, clause: &Clause, offers: Offers) -> Option<Form> {
    if offers == Offers::Plain || clause.param("g")? != "meta.k8s.io" {
        return None;
    }
    let beta = match clause.param("v")? {
        "v1" => false,
        "v1beta1" => true,
        _ => return None,
    };
    match kind {
        "Table" => Some(Form::Table {
            beta,
            rows: Rows::Metadata,
        }),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata { beta }),
        _ => None,
    }
}

/// `?includeObject=`.
fn rows(query: &Query) -> Result<Rows, Failure> {
    match query.get("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(Rows::Metadata),
        "Object" => Ok(Rows::Object),
        "None" => Ok(Rows::Nothing),
        other => Err(Failure::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', \
             'None', or empty",
            proto::path::quote(other)
        ))),
    }
}

/// The encoding of a request body. None given means JSON.
pub fn input(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(Encoding::Json);
    };
    let text = value.to_str().unwrap_or_default();
    let mime = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match mime.as_str() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(Failure::unsupported_media_type(ACCEPTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(accept: &str, offers: Offers) -> Result<Media, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header value"));
        output(&headers, &Query::default(), offers).map_err(|f| f.code())
    }

    #[test]
    fn kubectl_gets_a_table_and_falls_back_to_the_object() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(
            out(kubectl, Offers::Object).map(|m| m.form),
            Ok(Form::Table {
                beta: false,
                rows: Rows::Metadata
            })
        );
        assert_eq!(out(kubectl, Offers::Plain).map(|m| m.form), Ok(Form::Full));
    }

    #[test]
    fn quality_decides_before_order() {
        let m = out(
            "application/json;q=0.5, application/vnd.kubernetes.protobuf",
            Offers::Object,
        );
        assert_eq!(m.map(|m| m.encoding), Ok(Encoding::Protobuf));
    }

    #[test]
    fn a_form_that_nothing_gives_is_refused() {
        assert_eq!(
            out(
                "application/json;as=Table;v=v1;g=example.com",
                Offers::Object
            ),
            Err(406)
        );
        assert_eq!(out("text/html", Offers::Object), Err(406));
        assert_eq!(
            out(
                "application/json;as=Table;v=v1;g=meta.k8s.io",
                Offers::Plain
            ),
            Err(406)
        );
    }
}

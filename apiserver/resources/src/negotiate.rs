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
    /// Metadata only; `list` is what the client takes the object for.
    Metadata { beta: bool, list: bool },
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
const ACCEPTED_STREAM: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Which forms an endpoint can give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    /// Objects of a resource: full, tables, metadata.
    Object,
    /// Objects of which there are no tables.
    Untabled,
    /// A watch of objects.
    Stream,
    /// Discovery, versions, failures: full only.
    Plain,
}

/// Chooses the form of the answer.
pub fn output(headers: &HeaderMap, query: &Query, offers: Offers) -> Result<Media, Failure> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    let pretty = pretty(headers, query);
    let refused = || {
        Failure::not_acceptable(if offers == Offers::Stream {
            ACCEPTED_STREAM
        } else {
            ACCEPTED
        })
    };
    let Some(accept) = accept.filter(|accept| !accept.is_empty()) else {
        return Ok(Media {
            pretty,
            ..Media::JSON
        });
    };
    let mut clauses = clauses(accept).into_iter();
    let (mut media, asked) = clauses
        .find_map(|clause| match_clause(&clause, offers))
        .ok_or_else(refused)?;
    if offers == Offers::Stream && media.encoding == Encoding::Yaml {
        return Err(refused());
    }
    if let Form::Table { rows: held, .. } = &mut media.form {
        *held = rows(query)?;
    }
    media.pretty = (asked || pretty) && media.encoding == Encoding::Json;
    Ok(media)
}

/// The first of the types offered that the client likes best; one that says nothing takes any.
#[must_use]
pub fn first<'a>(headers: &HeaderMap, offered: &[&'a str]) -> Option<&'a str> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    let accept = accept.filter(|accept| !accept.is_empty()).unwrap_or("*/*");
    clauses(accept).iter().find_map(|clause| {
        let fits = |asked: &str, own: &str| asked == "*" || asked == own;
        let mut offered = offered.iter().filter(|media| {
            let (main, sub) = media.split_once('/').unwrap_or((media, ""));
            fits(clause.main, main) && fits(clause.sub, sub)
        });
        offered.next().copied()
    })
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
struct Clause<'a> {
    main: &'a str,
    sub: &'a str,
    quality: f64,
    params: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        let mut found = self.params.iter().rev().filter(|(k, _)| *k == name);
        found.next().map(|(_, v)| *v)
    }

    /// Whether it goes before another: by quality, then by how much it leaves open.
    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.main != "*" && other.main == "*")
            || (self.sub != "*" && other.sub == "*")
    }
}

/// The alternatives, best first, in the order that `munnerz/goautoneg` finds: its comparison is none that sorts every list,
/// so that how it is sorted shows (Go inserts the members of a short list one after the other).
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut all: Vec<Clause<'_>> = accept.split(',').filter_map(clause).collect();
    for end in 1..all.len() {
        let mut at = end;
        while at > 0 && all[at].precedes(&all[at - 1]) {
            all.swap(at, at - 1);
            at -= 1;
        }
    }
    all
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut pieces = text.split(';');
    let media = pieces.next()?.trim_matches(' ');
    let (main, sub) = match media.split_once('/') {
        Some((main, sub)) if !sub.is_empty() => (main.trim_matches(' '), sub.trim_matches(' ')),
        _ if media.trim_end_matches('/') == "*" => ("*", "*"),
        _ => return None,
    };
    if sub.contains('/') {
        return None;
    }
    let mut clause = Clause {
        main,
        sub,
        quality: 1.0,
        params: vec![],
    };
    for piece in pieces {
        match piece.split_once('=') {
            Some((_, value)) if value.is_empty() || value.contains('=') => {}
            Some((name, value)) if name.trim_matches(' ') == "q" => {
                clause.quality = value.parse().unwrap_or(0.0);
            }
            Some((name, value)) => {
                let pair = (name.trim_matches(' '), value.trim_matches(' '));
                clause.params.push(pair);
            }
            None => {}
        }
    }
    Some(clause)
}

/// The first encoding that an alternative means, in a form that it asks for, and whether it asks for indentation.
fn match_clause(clause: &Clause<'_>, offers: Offers) -> Option<(Media, bool)> {
    const ALL: [(Encoding, &str); 3] = [
        (Encoding::Json, "json"),
        (Encoding::Yaml, "yaml"),
        (Encoding::Protobuf, "vnd.kubernetes.protobuf"),
    ];
    let means = |sub: &str| match (clause.main, clause.sub) {
        ("*", "*") | ("application", "*") => true,
        (main, named) => main == "application" && named == sub,
    };
    let meant = ALL.into_iter().filter(|(_, sub)| means(sub));
    let media = meant.filter_map(|(encoding, _)| {
        let stream = match clause.param("stream") {
            None => false,
            Some("watch") if encoding != Encoding::Yaml => true,
            Some(_) => return None,
        };
        // A version of the server can be named, which is that of the options.
        if clause
            .param("sv")
            .is_some_and(|v| offers == Offers::Plain || v != "v1")
        {
            return None;
        }
        Some(Media {
            encoding,
            form: form(clause, encoding, offers)?,
            pretty: false,
            stream,
        })
    });
    let pretty = clause.param("pretty") == Some("1");
    media.map(|media| (media, pretty)).next()
}

/// What is made of an object, if that can be had in an encoding.
fn form(clause: &Clause<'_>, encoding: Encoding, offers: Offers) -> Option<Form> {
    let [kind, group, version] = ["as", "g", "v"].map(|name| clause.param(name));
    if (kind, group, version) == (None, None, None) {
        return Some(Form::Full);
    }
    if offers == Offers::Plain || group != Some("meta.k8s.io") {
        return None;
    }
    let beta = match version? {
        "v1" => false,
        "v1beta1" => true,
        _ => return None,
    };
    match kind? {
        // Tables have no protobuf form.
        "Table" if encoding == Encoding::Protobuf || offers == Offers::Untabled => None,
        "Table" => Some(Form::Table {
            beta,
            rows: Rows::Metadata,
        }),
        "PartialObjectMetadata" => Some(Form::Metadata { beta, list: false }),
        "PartialObjectMetadataList" => Some(Form::Metadata { beta, list: true }),
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

impl Media {
    /// Refuses metadata of a list where there is one object, and the other way round. `kind` is the Go type that upstream
    /// names, as `core.Pod`.
    pub fn check(self, is_list: bool, kind: impl FnOnce() -> String) -> Result<(), Failure> {
        let what = match (self.form, is_list) {
            (Form::Metadata { list: false, .. }, true) => {
                "PartialObjectMetadata, but the requested object is a list"
            }
            (Form::Metadata { list: true, .. }, false) => {
                "PartialObjectMetadataList, but the requested object is not a list"
            }
            _ => return Ok(()),
        };
        Err(Failure::new(
            406,
            "NotAcceptable",
            format!("you requested {what} (*{})", kind()),
        ))
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
        let m = out("*/*, application/yaml", Offers::Object);
        assert_eq!(m.map(|m| m.encoding), Ok(Encoding::Yaml));
        assert_eq!(
            out("application/json;q", Offers::Object).map(|m| m.form),
            Ok(Form::Full)
        );
    }

    #[test]
    fn parameters_choose_among_encodings() {
        let m = out("application/json;stream=watch", Offers::Object);
        assert_eq!(m.map(|m| m.encoding), Ok(Encoding::Json));
        assert_eq!(
            out("application/yaml;stream=watch", Offers::Object),
            Err(406)
        );
        assert_eq!(out("application/yaml", Offers::Stream), Err(406));
        assert_eq!(
            out("application/yaml, application/json", Offers::Stream),
            Err(406)
        );
        let table = "application/*;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(
            out(table, Offers::Object).map(|m| m.encoding),
            Ok(Encoding::Json)
        );
        assert_eq!(out(table, Offers::Untabled), Err(406));
        let protobuf = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(out(protobuf, Offers::Object), Err(406));
        assert_eq!(
            out("application/json;pretty=1", Offers::Object).map(|m| m.pretty),
            Ok(true)
        );
    }

    #[test]
    fn metadata_of_a_list_is_not_that_of_an_object() {
        let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let media = out(accept, Offers::Object).expect("it is served");
        let pod = |kind: &str| format!("core.{kind}");
        assert!(media.check(true, || pod("PodList")).is_ok());
        let refused = media
            .check(false, || pod("Pod"))
            .expect_err("it is no list");
        let text = "you requested PartialObjectMetadataList, but the requested object is not a list (*core.Pod)";
        assert_eq!((refused.code(), refused.message()), (406, text));
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

//! Stored objects into answers: one object, a list, a watch event, in every form and encoding.
//!
//! A serving body is the protobuf of the hub version. JSON is transcoded from its bytes without a
//! tree; only tables, other versions and YAML build one. What is made for an entry is kept in the
//! store's form cache, so that a LIST and all watchers share it, frames included.

use std::sync::Arc;

use bytes::Bytes;
use proto::catalogue::{Resource, names as n};
use proto::{MsgId, Value, codec};
use resources::negotiate::{Encoding, Form, Media, Rows};
use resources::object::{self, Type};
use resources::status::Failure;
use resources::table;
use store::Entry;

use crate::registry::Endpoint;

mod computed;
mod frame;
mod member;
mod wire;

pub use computed::Computed;
pub use frame::{bookmark, error_frame, watch_frame};
pub(crate) use member::member;
pub(crate) use wire::FRAME_HEAD;

/// The forms that the store keeps per entry. Each endpoint (group version) has its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kept {
    /// JSON without kind and version: `{"metadata":...}`.
    Json,
    /// The same of `PartialObjectMetadata`.
    MetadataJson,
    /// Protobuf in another version than the hub's.
    Protobuf,
    /// Frames of watches; numbered by [`frame::shared`].
    Frame(u8),
    /// The same, compressed.
    Member(u8),
}

impl Kept {
    fn of(self, endpoint: &Endpoint) -> store::Form {
        let number = match self {
            Self::Json => 0,
            Self::MetadataJson => 1,
            Self::Protobuf => 2,
            Self::Frame(n) => 3 + u32::from(n),
            Self::Member(n) => 3 + u32::from(frame::NUMBERS) + u32::from(n),
        };
        store::Form(u32::from(endpoint.index) << 8 | number)
    }
}

/// JSON of an entry in the endpoint's version, without kind and version.
pub fn json_body(endpoint: &Endpoint, entry: &Arc<Entry>) -> Result<Bytes, Failure> {
    endpoint.forms.get(entry, Kept::Json.of(endpoint), |entry| {
        let mut out = Vec::with_capacity(json_room(entry));
        push_json(endpoint, entry, &mut out)?;
        Ok(out.into())
    })
}

/// What JSON of an entry mostly has room in.
fn json_room(entry: &Entry) -> usize {
    entry.body.len() * 5 / 4
}

/// Appends what [`json_body`] keeps.
fn push_json(endpoint: &Endpoint, entry: &Entry, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (hub, served) = (&endpoint.hub, &endpoint.served);
    let complete = endpoint.strategy.complete;
    if served.message == hub.message && complete.is_none() {
        return codec::transcode::to_json(&entry.body, hub.message, None, out)
            .map_err(Failure::internal);
    }
    let mut object = object::from_body(&entry.body, hub)?;
    if let Some(complete) = complete {
        complete(&mut object);
    }
    let object = object::convert(object, hub, served)?;
    codec::json::encode(&object, served.message, out);
    Ok(())
}

/// Whether entries hold the protobuf that the endpoint serves.
fn is_stored(endpoint: &Endpoint) -> bool {
    endpoint.served.message == endpoint.hub.message
}

/// Protobuf of an entry in the endpoint's version, without envelope.
pub fn protobuf_body(endpoint: &Endpoint, entry: &Arc<Entry>) -> Result<Bytes, Failure> {
    if is_stored(endpoint) {
        return Ok(entry.body.clone());
    }
    endpoint
        .forms
        .get(entry, Kept::Protobuf.of(endpoint), |entry| {
            let object = object::convert(
                object::from_body(&entry.body, &endpoint.hub)?,
                &endpoint.hub,
                &endpoint.served,
            )?;
            let mut out = Vec::with_capacity(entry.body.len());
            codec::protobuf::encode(&object, endpoint.served.message, &mut out);
            Ok(out.into())
        })
}

/// JSON of an entry's metadata alone, as the body of a `PartialObjectMetadata`.
fn metadata_json(endpoint: &Endpoint, entry: &Arc<Entry>) -> Result<Bytes, Failure> {
    endpoint
        .forms
        .get(entry, Kept::MetadataJson.of(endpoint), |entry| {
            let mut out = Vec::with_capacity(256);
            let partial = metadata_protobuf(endpoint, entry)?;
            let message = proto::catalogue::messages::meta_v1::PARTIAL_OBJECT_METADATA;
            codec::transcode::to_json(&partial, message, None, &mut out)
                .map_err(Failure::internal)?;
            Ok(out.into())
        })
}

/// Protobuf of an entry's metadata alone: every object has its metadata at tag 1, and so has
/// `PartialObjectMetadata`.
fn metadata_protobuf(endpoint: &Endpoint, entry: &Entry) -> Result<Bytes, Failure> {
    let metadata = wire::only_metadata(&entry.body)
        .ok_or_else(|| Failure::internal(format!("{}: {}", endpoint.resource.name, entry.key)))?;
    match endpoint.strategy.own_annotation {
        Some(own) => without_annotation(&metadata, own),
        None => Ok(metadata),
    }
}

fn without_annotation(metadata: &[u8], name: &str) -> Result<Bytes, Failure> {
    let message = proto::catalogue::messages::meta_v1::PARTIAL_OBJECT_METADATA;
    let mut partial = codec::protobuf::decode(metadata, message).map_err(Failure::internal)?;
    let annotations = partial.at_mut(&[n::METADATA, n::ANNOTATIONS]);
    if let Some(annotations) = annotations.and_then(Value::as_map_mut) {
        annotations.remove(name);
        if annotations.is_empty() {
            partial.remove(&[n::METADATA, n::ANNOTATIONS]);
        }
    }
    let mut out = Vec::with_capacity(metadata.len());
    codec::protobuf::encode(&partial, message, &mut out);
    Ok(out.into())
}

/// `{"kind":...,"apiVersion":...,` in front of a JSON body.
pub fn with_type(kind: &str, api_version: &str, body: &[u8], out: &mut Vec<u8>) {
    push_type(kind, api_version, out);
    // An object without a field is `{}`.
    if body.len() > 2 {
        out.push(b',');
    }
    out.extend_from_slice(&body[1..]);
}

fn push_type(kind: &str, api_version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    if !api_version.is_empty() {
        out.extend_from_slice(b"\",\"apiVersion\":\"");
        out.extend_from_slice(api_version.as_bytes());
    }
    out.push(b'"');
}

/// The answer to a write. What is made for it is not kept: whoever wrote the object has it now, and hardly anybody reads all
/// that is written.
pub fn written(
    endpoint: &Endpoint,
    media: Media,
    entry: &Arc<Entry>,
    now: i64,
) -> Result<Bytes, Failure> {
    let is_json = media.form == Form::Full && media.encoding != Encoding::Protobuf;
    let made = || endpoint.forms.find(entry, Kept::Json.of(endpoint));
    if !is_json || made().is_some() {
        return self::entry(endpoint, media, entry, now);
    }
    let mut out = Vec::with_capacity(json_room(entry) + 64);
    let (kind, version) = (endpoint.served.kind, endpoint.served.api_version());
    push_type(kind, &version, &mut out);
    let body = out.len();
    push_json(endpoint, entry, &mut out)?;
    // Its brace is where the comma has to be; without a field there is none.
    if out.len() - body > 2 {
        out[body] = b',';
    } else {
        out.remove(body);
    }
    finish_json(out, media)
}

/// The kind and version that metadata forms carry.
fn meta_version(beta: bool) -> &'static str {
    if beta {
        "meta.k8s.io/v1beta1"
    } else {
        "meta.k8s.io/v1"
    }
}

/// An answer that is one stored object.
pub fn entry(
    endpoint: &Endpoint,
    media: Media,
    entry: &Arc<Entry>,
    now: i64,
) -> Result<Bytes, Failure> {
    let kind = || object::internal(endpoint.resource.group, endpoint.served.kind);
    media.check(false, kind)?;
    match (media.form, media.encoding) {
        (Form::Table { beta, rows }, _) => {
            let mut table = table_of(endpoint.resource, meta_of(entry));
            let entries = std::slice::from_ref(entry);
            table.set(
                &[n::ROWS],
                self::rows(endpoint, entries, (beta, rows), now)?,
            );
            Ok(sent_table(&table, beta, media))
        }
        (Form::Metadata { beta, .. }, Encoding::Protobuf) => {
            let body = metadata_protobuf(endpoint, entry)?;
            Ok(wire::sealed(meta_version(beta), "PartialObjectMetadata", &body).into())
        }
        (Form::Metadata { beta, .. }, _) => {
            let body = metadata_json(endpoint, entry)?;
            let mut out = Vec::with_capacity(body.len() + 64);
            with_type("PartialObjectMetadata", meta_version(beta), &body, &mut out);
            finish_json(out, media)
        }
        (Form::Full, Encoding::Protobuf) => {
            let body = protobuf_body(endpoint, entry)?;
            Ok(wire::sealed(&endpoint.served.api_version(), endpoint.served.kind, &body).into())
        }
        (Form::Full, _) => {
            let body = json_body(endpoint, entry)?;
            let mut out = Vec::with_capacity(body.len() + 64);
            with_type(
                endpoint.served.kind,
                &endpoint.served.api_version(),
                &body,
                &mut out,
            );
            finish_json(out, media)
        }
    }
}

/// JSON as it is asked for: indented, or as YAML.
fn finish_json(json: Vec<u8>, media: Media) -> Result<Bytes, Failure> {
    match media.encoding {
        Encoding::Yaml => {
            let tree = codec::json::parse(&json).map_err(Failure::internal)?;
            let mut yaml = Vec::with_capacity(json.len());
            codec::yaml::write(&tree, &mut yaml);
            Ok(yaml.into())
        }
        _ if media.pretty => {
            let mut pretty = Vec::with_capacity(json.len() * 3 / 2);
            codec::json::indent(&json, &mut pretty);
            Ok(pretty.into())
        }
        _ => Ok(json.into()),
    }
}

/// An answer that is a tree: statuses, reviews, scales, tables.
#[must_use]
pub fn encode(
    object: &Value,
    message: MsgId,
    kind: &str,
    api_version: &str,
    media: Media,
) -> Bytes {
    if media.encoding == Encoding::Protobuf {
        let mut out = Vec::with_capacity(512);
        codec::protobuf::seal(object, message, api_version, kind, &mut out);
        return out.into();
    }
    let mut body = Vec::with_capacity(512);
    codec::json::encode(object, message, &mut body);
    let mut out = Vec::with_capacity(body.len() + 64);
    with_type(kind, api_version, &body, &mut out);
    finish_json(out, media).unwrap_or_else(|_| Bytes::from_static(b"{}"))
}

/// A tree that is of a known type.
#[must_use]
pub fn tree(object: &Value, of: &Type, media: Media) -> Bytes {
    encode(object, of.message, of.kind, &of.api_version(), media)
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining: Option<i64>,
}

fn meta_of(entry: &Entry) -> ListMeta {
    ListMeta {
        resource_version: entry.revision.to_string(),
        ..ListMeta::default()
    }
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut v = Value::object();
        if !self.resource_version.is_empty() {
            v.set(&[n::RESOURCE_VERSION], self.resource_version.as_str());
        }
        if !self.continue_token.is_empty() {
            v.set(&[n::CONTINUE], self.continue_token.as_str());
        }
        if let Some(remaining) = self.remaining {
            v.set(&[n::REMAINING_ITEM_COUNT], remaining);
        }
        v
    }
}

fn table_of(resource: &Resource, meta: ListMeta) -> Value {
    let mut table = Value::object();
    table.set(&[n::METADATA], meta.to_value());
    table.set(
        &[n::COLUMN_DEFINITIONS],
        table::definitions(table::columns(resource)),
    );
    table
}

fn sent_table(table: &Value, beta: bool, media: Media) -> Bytes {
    let message = proto::catalogue::messages::meta_v1::TABLE;
    encode(table, message, "Table", meta_version(beta), media)
}

/// The rows of a list. Only lists can tell the order of rows, and which of their objects is the default.
fn list_rows(
    endpoint: &Endpoint,
    entries: &[Arc<Entry>],
    how: (bool, Rows),
    now: i64,
) -> Result<Value, Failure> {
    let Some(order) = endpoint.strategy.row_order else {
        return marked_rows(endpoint, entries, how, now);
    };
    let decoded = |entry: &Arc<Entry>| {
        let object = object::from_body(&entry.body, &endpoint.hub)?;
        Ok((object, Arc::clone(entry)))
    };
    let mut sorted: Vec<_> = entries
        .iter()
        .map(decoded)
        .collect::<Result<_, Failure>>()?;
    sorted.sort_by(|(a, _), (b, _)| order(a, b));
    let entries: Vec<_> = sorted.into_iter().map(|(_, entry)| entry).collect();
    rows(endpoint, &entries, how, now)
}

fn marked_rows(
    endpoint: &Endpoint,
    entries: &[Arc<Entry>],
    how: (bool, Rows),
    now: i64,
) -> Result<Value, Failure> {
    let mut rows = rows(endpoint, entries, how, now)?;
    let Some(default_among) = endpoint.strategy.default_among else {
        return Ok(rows);
    };
    let objects: Result<Vec<Value>, Failure> = entries
        .iter()
        .map(|entry| object::from_body(&entry.body, &endpoint.hub))
        .collect();
    let name = default_among(&objects?);
    let at = entries
        .iter()
        .position(|e| Some(e.name()) == name.as_deref());
    let row = at.and_then(|at| rows.as_list_mut()?.get_mut(at)?.get_mut(n::CELLS));
    let first = row.and_then(|cells| cells.as_list_mut()?.first_mut());
    if let (Some(first), Some(name)) = (first, name) {
        *first = cell(&format!("{name} (default)").into());
    }
    Ok(rows)
}

/// Rows of a table in a version of it, with what they hold of their objects.
fn rows(
    endpoint: &Endpoint,
    entries: &[Arc<Entry>],
    (beta, held): (bool, Rows),
    now: i64,
) -> Result<Value, Failure> {
    let row = |entry: &Arc<Entry>| {
        let object = object::from_body(&entry.body, &endpoint.hub)?;
        let cells = match endpoint.strategy.cells {
            Some(cells) => cells(&object, now),
            None => table::plain_cells(endpoint.resource, &object, now),
        };
        let mut row = Value::object();
        row.set(&[n::CELLS], Value::List(cells.iter().map(cell).collect()));
        let (kind, version, body) = match held {
            Rows::Nothing => return Ok(row),
            Rows::Metadata => (
                "PartialObjectMetadata",
                meta_version(beta).to_owned(),
                metadata_json(endpoint, entry)?,
            ),
            Rows::Object => (
                endpoint.served.kind,
                endpoint.served.api_version(),
                json_body(endpoint, entry)?,
            ),
        };
        let mut raw = Vec::with_capacity(body.len() + 64);
        with_type(kind, &version, &body, &mut raw);
        row.set(&[n::OBJECT], Value::Raw(raw.into()));
        Ok(row)
    };
    let rows: Result<Vec<Value>, Failure> = entries.iter().map(row).collect();
    rows.map(Value::List)
}

/// A cell as JSON text, which is how the message holds it.
fn cell(value: &Value) -> Value {
    let mut json = Vec::new();
    codec::json::write(value, &mut json);
    Value::Raw(json.into())
}

/// The pieces of a list answer: a head, one piece an entry, a tail. They are sent as they are made.
pub struct List<'a> {
    endpoint: &'a Endpoint,
    media: Media,
    meta: ListMeta,
    first: bool,
}

impl<'a> List<'a> {
    #[must_use]
    pub fn new(endpoint: &'a Endpoint, media: Media, meta: ListMeta) -> Self {
        Self {
            endpoint,
            media,
            meta,
            first: true,
        }
    }

    /// The same list, later: pieces are made between awaits.
    #[must_use]
    pub fn resume(endpoint: &'a Endpoint, media: Media, meta: ListMeta, first: bool) -> Self {
        Self {
            endpoint,
            media,
            meta,
            first,
        }
    }

    /// Whether no entry was appended yet.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first
    }

    #[must_use]
    pub fn into_meta(self) -> ListMeta {
        self.meta
    }

    /// Whether the answer can be made piece by piece; tables, YAML and indented JSON are made whole.
    #[must_use]
    pub fn can_stream(&self) -> bool {
        !self.media.pretty
            && self.media.encoding != Encoding::Yaml
            && !matches!(self.media.form, Form::Table { .. })
    }

    fn kind(&self) -> (String, String) {
        match self.media.form {
            Form::Metadata { beta, .. } => (
                "PartialObjectMetadataList".into(),
                meta_version(beta).into(),
            ),
            _ => (
                self.endpoint.resource.list_kind(),
                self.endpoint.served.api_version(),
            ),
        }
    }

    /// What precedes the entries. For protobuf the length of everything must be known: the caller
    /// gives the bodies' total from [`List::protobuf_size`].
    pub fn head(&self, items_size: usize, out: &mut Vec<u8>) {
        let (kind, api_version) = self.kind();
        let list_meta = proto::catalogue::messages::meta_v1::LIST_META;
        if self.media.encoding == Encoding::Protobuf {
            let mut meta = Vec::new();
            codec::protobuf::encode(&self.meta.to_value(), list_meta, &mut meta);
            wire::list_head(&api_version, &kind, &meta, items_size, out);
            return;
        }
        out.extend_from_slice(
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":")
                .as_bytes(),
        );
        codec::json::encode(&self.meta.to_value(), list_meta, out);
        out.extend_from_slice(b",\"items\":[");
    }

    /// Appends one entry.
    pub fn item(&mut self, entry: &Arc<Entry>, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.media.encoding == Encoding::Protobuf {
            return self.protobuf_item(entry, |item| wire::list_item(item, out));
        }
        if !std::mem::replace(&mut self.first, false) {
            out.push(b',');
        }
        match self.media.form {
            Form::Metadata { beta, .. } => {
                with_type(
                    "PartialObjectMetadata",
                    meta_version(beta),
                    &metadata_json(self.endpoint, entry)?,
                    out,
                );
            }
            _ => out.extend_from_slice(&json_body(self.endpoint, entry)?),
        }
        Ok(())
    }

    /// What `make` makes of the entry in protobuf. Most are there as they are sent, and are only lent: a list has thousands.
    fn protobuf_item<T>(
        &self,
        entry: &Arc<Entry>,
        make: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Failure> {
        Ok(match self.media.form {
            Form::Metadata { .. } => make(&metadata_protobuf(self.endpoint, entry)?),
            _ if is_stored(self.endpoint) => make(&entry.body),
            _ => make(&protobuf_body(self.endpoint, entry)?),
        })
    }

    /// The bytes that [`List::item`] will append for `entry` in protobuf; 0 for JSON, which needs no
    /// lengths.
    pub fn protobuf_size(&self, entry: &Arc<Entry>) -> Result<usize, Failure> {
        match self.media.encoding {
            Encoding::Protobuf => {
                self.protobuf_item(entry, |item| wire::list_item_size(item.len()))
            }
            _ => Ok(0),
        }
    }

    /// What follows the entries.
    pub fn tail(&self, out: &mut Vec<u8>) {
        if self.media.encoding == Encoding::Protobuf {
            wire::list_tail(out);
        } else if self.first && matches!(self.media.form, Form::Metadata { .. }) {
            // Upstream makes a list of metadata of what there is, and nothing of nothing.
            out.pop();
            out.extend_from_slice(b"null}");
        } else {
            out.extend_from_slice(b"]}");
        }
    }

    /// The whole answer at once.
    pub fn whole(mut self, entries: &[Arc<Entry>], now: i64) -> Result<Bytes, Failure> {
        if let Form::Table { beta, rows } = self.media.form {
            let mut table = table_of(self.endpoint.resource, self.meta);
            // Upstream's table of a kind without a printer is made of what there is, and nothing of nothing.
            let rows = match entries {
                [] if table::is_plain(self.endpoint.resource) => Value::Null,
                _ => list_rows(self.endpoint, entries, (beta, rows), now)?,
            };
            table.set(&[n::ROWS], rows);
            return Ok(sent_table(&table, beta, self.media));
        }
        let mut out = Vec::new();
        let mut size = 0;
        for entry in entries {
            size += self.protobuf_size(entry)?;
        }
        self.head(size, &mut out);
        for entry in entries {
            self.item(entry, &mut out)?;
        }
        self.tail(&mut out);
        if self.media.encoding == Encoding::Protobuf {
            Ok(out.into())
        } else {
            finish_json(out, self.media)
        }
    }
}

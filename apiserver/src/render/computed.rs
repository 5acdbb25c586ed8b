//! Objects that are made for one answer and not stored, in every form: scales, statuses of components.

use bytes::Bytes;
use proto::catalogue::{Column, messages, names as n};
use proto::{Value, codec};
use resources::negotiate::{Encoding, Form, Media, Rows};
use resources::object::{self, Type};
use resources::status::Failure;
use resources::table;

use super::{ListMeta, cell, encode, finish_json, meta_version, sent_table, tree};

/// Objects of one type, and the row of each in a table.
pub struct Computed<'a> {
    pub of: &'a Type,
    pub columns: &'a [Column],
    pub cells: fn(&Value) -> Vec<Value>,
}

impl Computed<'_> {
    /// # Errors
    /// If a form of lists is asked for.
    pub fn one(&self, object: &Value, media: Media) -> Result<Bytes, Failure> {
        media.check(false, || object::internal(self.of.group, self.of.kind))?;
        Ok(match media.form {
            Form::Full => tree(object, self.of, media),
            Form::Metadata { beta, .. } => partial(object, beta, media),
            Form::Table { beta, rows } => {
                let meta = ListMeta {
                    resource_version: proto::meta::resource_version(object).to_owned(),
                    ..ListMeta::default()
                };
                let objects = std::slice::from_ref(object);
                let table = self.table(meta, objects, (beta, rows));
                sent_table(&table, beta, media)
            }
        })
    }

    /// A list of no version; `list` is its type.
    ///
    /// # Errors
    /// If a form of single objects is asked for.
    pub fn list(&self, objects: Vec<Value>, list: &Type, media: Media) -> Result<Bytes, Failure> {
        media.check(true, || object::internal(list.group, list.kind))?;
        match media.form {
            Form::Full => {
                let mut all = Value::object();
                all.set(&[n::METADATA], Value::object());
                all.set(&[n::ITEMS], Value::List(objects));
                Ok(tree(&all, list, media))
            }
            Form::Metadata { beta, .. } => partial_list(&objects, beta, media),
            Form::Table { beta, rows } => {
                let table = self.table(ListMeta::default(), &objects, (beta, rows));
                Ok(sent_table(&table, beta, media))
            }
        }
    }

    fn table(&self, meta: ListMeta, objects: &[Value], (beta, rows): (bool, Rows)) -> Value {
        let row = |object: &Value| {
            let cells = (self.cells)(object);
            let mut row = Value::object();
            row.set(&[n::CELLS], Value::List(cells.iter().map(cell).collect()));
            let held = match rows {
                Rows::Nothing => return row,
                Rows::Metadata => partial(object, beta, Media::JSON),
                Rows::Object => tree(object, self.of, Media::JSON),
            };
            row.set(&[n::OBJECT], Value::Raw(held.as_ref().into()));
            row
        };
        let rows: Vec<Value> = objects.iter().map(row).collect();
        let mut table = Value::object();
        table.set(&[n::METADATA], meta.to_value());
        table.set(&[n::COLUMN_DEFINITIONS], table::definitions(self.columns));
        table.set(&[n::ROWS], rows);
        table
    }
}

/// The metadata of an object, as the body of a `PartialObjectMetadata`.
fn metadata_of(object: &Value) -> Value {
    let mut partial = Value::object();
    let metadata = object.get(n::METADATA).cloned().unwrap_or_default();
    partial.set(&[n::METADATA], metadata);
    partial
}

fn partial(object: &Value, beta: bool, media: Media) -> Bytes {
    encode(
        &metadata_of(object),
        messages::meta_v1::PARTIAL_OBJECT_METADATA,
        "PartialObjectMetadata",
        meta_version(beta),
        media,
    )
}

/// Each member of such a list says what it is, which no message has.
fn partial_list(objects: &[Value], beta: bool, media: Media) -> Result<Bytes, Failure> {
    const KIND: &str = "PartialObjectMetadataList";
    let mut list = Value::object();
    list.set(&[n::METADATA], Value::object());
    if media.encoding == Encoding::Protobuf {
        let items: Vec<Value> = objects.iter().map(metadata_of).collect();
        list.set(&[n::ITEMS], items);
        let message = messages::meta_v1::PARTIAL_OBJECT_METADATA_LIST;
        return Ok(encode(&list, message, KIND, meta_version(beta), media));
    }
    let item = |object: &Value| Value::Raw(partial(object, beta, Media::JSON).as_ref().into());
    let items = match objects {
        [] => Value::Null,
        objects => Value::List(objects.iter().map(item).collect()),
    };
    list.set(&[n::ITEMS], items);
    list.set(&[n::KIND], KIND);
    list.set(&[n::API_VERSION], meta_version(beta));
    let mut json = Vec::with_capacity(512);
    codec::json::write(&list, &mut json);
    finish_json(json, media)
}

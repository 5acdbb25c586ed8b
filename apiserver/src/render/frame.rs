//! Frames of a watch: an event's type and its object, in every form and encoding.
//!
//! A frame is the same bytes for everybody who watches the same form of a resource, unless its table tells ages. So it is made
//! once, and kept for as long as it takes until all have sent it.

use std::sync::Arc;

use bytes::Bytes;
use proto::Value;
use proto::catalogue::names as n;
use resources::negotiate::{Encoding, Form, Media};
use resources::status::Failure;
use store::{Entry, Forms};

use super::{Kept, ListMeta, encode, meta_of, meta_version, sent_table, table_of, tree, wire};
use crate::registry::Endpoint;

/// How many numbers [`shared`] gives.
pub(super) const NUMBERS: u8 = 18;

/// The number of a frame's form, if its bytes are the same for everybody: rows of tables tell ages, which differ from moment to
/// moment.
pub(super) fn shared(media: Media, kind: &str) -> Option<u8> {
    let kind = match kind {
        "ADDED" => 0,
        "MODIFIED" => 1,
        "DELETED" => 2,
        _ => return None,
    };
    let form = match event_form(media.form) {
        Form::Full => 0,
        Form::Metadata { beta: false, .. } => 1,
        Form::Metadata { beta: true, .. } => 2,
        Form::Table { .. } => return None,
    };
    let encoding = match media.encoding {
        Encoding::Json => 0,
        Encoding::Protobuf => 1,
        Encoding::Yaml => return None,
    };
    Some((kind * 3 + form) * 2 + encoding)
}

/// What of its object an event of a watch shows. It cannot be refused any more: upstream sends what it has.
fn event_form(form: Form) -> Form {
    match form {
        Form::Metadata { list: true, .. } => Form::Full,
        form => form,
    }
}

/// One frame of a watch: the event's type and the object in the stream's form.
pub fn watch_frame(
    endpoint: &Endpoint,
    media: Media,
    kind: &str,
    entry: &Arc<Entry>,
    now: i64,
    first: bool,
) -> Result<Bytes, Failure> {
    let make = || plain(endpoint, media, kind, entry, now, first);
    let Some(form) = shared(media, kind).map(|n| Kept::Frame(n).of(endpoint)) else {
        return make();
    };
    once(&endpoint.frames, entry, form, make)
}

/// What was made of the entry, or is made now. `make` may ask for other forms of the entry, which is not so of [`Forms::get`].
pub(super) fn once(
    forms: &Forms,
    entry: &Arc<Entry>,
    form: store::Form,
    make: impl FnOnce() -> Result<Bytes, Failure>,
) -> Result<Bytes, Failure> {
    if let Some(made) = forms.find(entry, form) {
        return Ok(made);
    }
    let made = make()?;
    forms.get(entry, form, |_| Ok(made))
}

/// A frame, made anew.
pub(super) fn plain(
    endpoint: &Endpoint,
    media: Media,
    kind: &str,
    entry: &Arc<Entry>,
    now: i64,
    first: bool,
) -> Result<Bytes, Failure> {
    let plain = Media {
        pretty: false,
        form: event_form(media.form),
        ..media
    };
    if let Form::Table { beta, rows } = media.form {
        let mut table = table_of(endpoint.resource, meta_of(entry));
        if !first {
            // Only the first table of a watch names its columns.
            table.set(&[n::COLUMN_DEFINITIONS], Value::Null);
        }
        let entries = std::slice::from_ref(entry);
        table.set(
            &[n::ROWS],
            super::rows(endpoint, entries, (beta, rows), now)?,
        );
        return Ok(frame(
            kind,
            &sent_table(&table, beta, plain),
            media.encoding,
        ));
    }
    Ok(frame(
        kind,
        &super::entry(endpoint, plain, entry, now)?,
        media.encoding,
    ))
}

/// The annotation of the bookmark that ends the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A bookmark: an object of the stream's kind with nothing but a resource version, and the mark that
/// the initial events are complete, once.
#[must_use]
pub fn bookmark(endpoint: &Endpoint, media: Media, revision: i64, initial_done: bool) -> Bytes {
    let mut object = Value::object();
    object.set(&[n::METADATA, n::RESOURCE_VERSION], revision.to_string());
    if initial_done {
        let annotations = object.ensure(&[n::METADATA, n::ANNOTATIONS]).make_map();
        annotations.insert(INITIAL_EVENTS_END, "true");
    }
    let plain = Media {
        pretty: false,
        ..media
    };
    let body = match media.form {
        Form::Full => tree(&object, &endpoint.served, plain),
        Form::Metadata { beta, .. } => {
            let message = proto::catalogue::messages::meta_v1::PARTIAL_OBJECT_METADATA;
            encode(
                &object,
                message,
                "PartialObjectMetadata",
                meta_version(beta),
                plain,
            )
        }
        Form::Table { beta, .. } => {
            let meta = ListMeta {
                resource_version: revision.to_string(),
                ..ListMeta::default()
            };
            let mut table = table_of(endpoint.resource, meta);
            table.set(&[n::COLUMN_DEFINITIONS], Value::Null);
            sent_table(&table, beta, plain)
        }
    };
    frame("BOOKMARK", &body, media.encoding)
}

/// An error event: the last frame of a watch that cannot go on.
#[must_use]
pub fn error_frame(failure: &Failure, media: Media) -> Bytes {
    let status = proto::catalogue::messages::meta_v1::STATUS;
    let plain = Media {
        pretty: false,
        form: Form::Full,
        ..media
    };
    frame(
        "ERROR",
        &encode(&failure.to_value(), status, "Status", "v1", plain),
        media.encoding,
    )
}

fn frame(kind: &str, object: &[u8], encoding: Encoding) -> Bytes {
    if encoding == Encoding::Protobuf {
        return wire::watch_frame(kind, object).into();
    }
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use resources::negotiate::Rows;

    use super::*;

    #[test]
    fn forms_that_differ_have_numbers_that_differ() {
        let mut numbers = Vec::new();
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let metadata = |beta| Form::Metadata { beta, list: false };
                for form in [Form::Full, metadata(false), metadata(true)] {
                    let media = Media {
                        encoding,
                        form,
                        ..Media::JSON
                    };
                    numbers.extend(shared(media, kind));
                }
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..18).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_shown_as_it_is_has_the_number_of_that() {
        let list = Form::Metadata {
            beta: false,
            list: true,
        };
        let media = Media {
            form: list,
            ..Media::JSON
        };
        assert_eq!(shared(media, "ADDED"), shared(Media::JSON, "ADDED"));
    }

    #[test]
    fn who_asks_later_is_given_the_same_bytes() {
        let (forms, form) = (Forms::new(1 << 20), store::Form(7));
        let entry = |key| {
            let (labels, fields) = (store::Labels::default(), store::Fields::default());
            Arc::new(Entry::new(key, 1, Bytes::new(), labels, fields))
        };
        let (one, other) = (entry("a"), entry("b"));
        let make = || Ok(Bytes::from(vec![b'x'; 100]));
        let first = once(&forms, &one, form, make).unwrap();
        let again = once(&forms, &one, form, || panic!("it is there")).unwrap();
        assert_eq!(first.as_ptr(), again.as_ptr());
        let failed = || Err(Failure::internal("no"));
        assert!(once(&forms, &other, form, failed).is_err());
        let made = once(&forms, &other, form, make).unwrap();
        assert_ne!(made.as_ptr(), first.as_ptr());
    }

    #[test]
    fn what_depends_on_the_moment_is_not_shared() {
        let table = Media {
            form: Form::Table {
                beta: false,
                rows: Rows::Metadata,
            },
            ..Media::JSON
        };
        assert_eq!(shared(table, "ADDED"), None);
        assert_eq!(shared(Media::JSON, "BOOKMARK"), None);
    }
}

//! Frames of a watch as gzip members.
//!
//! Each event is a member of its own, and members may follow each other. So everybody who watches the same form of a resource
//! is sent the same bytes, and an event is compressed once for all of them.

use std::sync::Arc;

use bytes::Bytes;
use resources::negotiate::{Encoding, Form, Media};
use resources::status::Failure;
use store::Entry;

use super::{Kept, event_form, watch_frame};
use crate::compress::gzip::Pool;
use crate::registry::Endpoint;

/// One frame of a watch, compressed: a link of the watch's chain.
pub(crate) fn member(
    endpoint: &Endpoint,
    media: Media,
    kind: &str,
    entry: &Arc<Entry>,
    now: i64,
    first: bool,
    pool: &Pool,
) -> Result<Bytes, Failure> {
    let make = || watch_frame(endpoint, media, kind, entry, now, first).map(|f| pool.link(&f));
    let Some(form) = shared(media, kind).map(|n| Kept::Member(n).of(endpoint)) else {
        return Ok(make()?.into());
    };
    if let Some(made) = endpoint.forms.find(entry, form) {
        return Ok(made);
    }
    let made = Bytes::from(make()?);
    endpoint.forms.get(entry, form, |_| Ok(made))
}

/// The number of a frame's form, if its bytes are the same for everybody: rows of tables tell ages, which differ from moment to
/// moment.
fn shared(media: Media, kind: &str) -> Option<u8> {
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

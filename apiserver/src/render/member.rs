//! Frames of a watch as gzip members.
//!
//! Each event is a member of its own, and members may follow each other. So everybody who watches the same form of a resource
//! is sent the same bytes, and an event is compressed once for all of them.

use std::sync::Arc;

use bytes::Bytes;
use resources::negotiate::Media;
use resources::status::Failure;
use store::Entry;

use super::Kept;
use super::frame::{once, plain, shared};
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
    let make = || {
        let plain = plain(endpoint, media, kind, entry, now, first)?;
        Ok(Bytes::from(pool.link(&plain)))
    };
    match shared(media, kind).map(|n| Kept::Member(n).of(endpoint)) {
        Some(form) => once(&endpoint.frames, entry, form, make),
        None => make(),
    }
}

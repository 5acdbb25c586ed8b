//! GET of a collection with `watch=true`: a stream of events.
//!
//! Nothing is buffered here: the next event is taken from the store when the connection has room for
//! it. A watch ends at its time limit, when the store ends it, or when the client takes nothing for
//! [`STALL`].

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Response;
use rand::Rng;
use store::watch::Begin;
use store::{End, Event, WatchQuery, Watcher};
use tokio::time::{Instant, timeout_at};

use super::get::parse_version;
use super::list::scope;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::negotiate::{self, Media, Offers};
use crate::options::ListOptions;
use crate::registry::Endpoint;
use crate::registry::generic::Clock;
use crate::render;
use crate::select::Select;
use crate::server::{Server, read_failure};
use crate::status::Failure;

/// Upstream's `--min-request-timeout`: a watch without a limit of its own lasts that long or up to
/// twice as long.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);

pub async fn serve(x: &mut Exchange, endpoint: &Endpoint) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Stream)?;
    let options = ListOptions::read(&x.query, true)?;
    let length = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => MIN_TIMEOUT.mul_f64(rand::rng().random_range(1.0..2.0)),
    };
    let until = Instant::now() + length;
    let revision = match options.resource_version.as_str() {
        "" => None,
        text => Some(parse_version(text)?),
    };
    let query = WatchQuery {
        scope: scope(x, endpoint),
        filter: Select::read(endpoint, &options)?,
        begin: Begin::of_watch(revision, options.send_initial_events, options.bookmarks),
        bookmarks: options.bookmarks,
        deadline: Some(until),
    };
    let watcher = endpoint
        .collection
        .watch(query)
        .await
        .map_err(read_failure)?;
    let watch = Watch {
        server: x.server.clone(),
        place: (
            endpoint.resource.group,
            endpoint.resource.version,
            endpoint.resource.name,
        ),
        media,
        watcher,
        until,
        first: true,
    };
    let frames = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let (frame, go_on) = watch.next().await?;
        Some((frame, go_on.then_some(watch)))
    });
    Ok(body::answer(200, media.stream_type(), body::stream(frames)))
}

struct Watch {
    server: std::sync::Arc<Server>,
    place: (&'static str, &'static str, &'static str),
    media: Media,
    watcher: Watcher,
    until: Instant,
    /// Only the first table names its columns.
    first: bool,
}

impl Watch {
    /// The next frame, and whether another may follow; none at the end of the stream.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        let event = timeout_at(self.until, self.watcher.next()).await.ok()?;
        let server = self.server.clone();
        let (group, version, resource) = self.place;
        let endpoint = server.registry.find(group, version, resource)?;
        let frame = match event {
            Ok(event) => self.frame(endpoint, event),
            Err(End::Expired) => Err(Failure::gone(End::Expired.to_string())),
            Err(End::Reset) => return None,
        };
        match frame {
            Ok(frame) => Some((frame, true)),
            Err(failure) => Some((render::error_frame(&failure, self.media), false)),
        }
    }

    fn frame(&mut self, endpoint: &Endpoint, event: Event) -> Result<Bytes, Failure> {
        let (kind, entry) = match event {
            Event::Added(entry) => ("ADDED", entry),
            Event::Modified(entry) => ("MODIFIED", entry),
            Event::Deleted(entry) => ("DELETED", entry),
            Event::Bookmark {
                revision,
                initial_end,
            } => {
                return Ok(render::bookmark(
                    endpoint,
                    self.media,
                    revision,
                    initial_end,
                ));
            }
        };
        let first = std::mem::replace(&mut self.first, false);
        render::watch_frame(
            endpoint,
            self.media,
            kind,
            &entry,
            Clock::now().seconds,
            first,
        )
    }
}

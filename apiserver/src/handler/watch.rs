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
use store::{Event, From, WatchQuery, Watcher};
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
    let query = WatchQuery {
        scope: scope(x, endpoint),
        filter: Select::read(endpoint, &options)?,
        from: from(&options)?,
        bookmarks: options.bookmarks,
    };
    let watcher = endpoint.collection.watch(query).await.map_err(read_failure)?;
    let watch = Watch {
        server: x.server.clone(),
        place: (endpoint.resource.group, endpoint.resource.version, endpoint.resource.name),
        media,
        watcher,
        until: Instant::now() + length,
        first: true,
    };
    let frames = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let (frame, go_on) = watch.next().await?;
        Some((frame, go_on.then_some(watch)))
    });
    Ok(body::answer(200, media.stream_type(), body::stream(frames)))
}

/// Where the events start: upstream's table of resourceVersion and sendInitialEvents for watches.
fn from(options: &ListOptions) -> Result<From, Failure> {
    let version = match options.resource_version.as_str() {
        "" | "0" => None,
        text => Some(parse_version(text)?),
    };
    Ok(match (options.send_initial_events, version) {
        // With initial events the state sent is at least as new as the version, or the newest.
        (Some(true), Some(version)) => From::Initial { not_older: Some(version) },
        (Some(true), None) if options.resource_version == "0" => From::Initial { not_older: None },
        (Some(true), None) => From::InitialLatest,
        (Some(false), None) => From::Now,
        (None, None) => From::Synthetic,
        (_, Some(version)) => From::Revision(version),
    })
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
        match self.frame(endpoint, event) {
            Ok(frame) => frame.map(|f| (f, true)),
            Err(failure) => Some((render::error_frame(&failure, self.media), false)),
        }
    }

    fn frame(&mut self, endpoint: &Endpoint, event: Event) -> Result<Option<Bytes>, Failure> {
        let (kind, entry) = match event {
            Event::Added(entry) => ("ADDED", entry),
            Event::Modified(entry) => ("MODIFIED", entry),
            Event::Deleted(entry) => ("DELETED", entry),
            Event::Bookmark { revision, initial_done } => {
                return Ok(Some(render::bookmark(endpoint, self.media, revision, initial_done)));
            }
            Event::End(end) => {
                return match end.failure() {
                    Some(error) => Err(read_failure(error)),
                    None => Ok(None),
                };
            }
        };
        let first = std::mem::replace(&mut self.first, false);
        render::watch_frame(endpoint, self.media, kind, &entry, Clock::now().seconds, first).map(Some)
    }
}

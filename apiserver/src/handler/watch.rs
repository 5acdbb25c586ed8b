//! GET of a collection with `watch=true`: a stream of events.
//!
//! Nothing is buffered here: the next event is taken from the store when the connection has room for
//! it. A watch ends at its time limit, or when the store ends it. Browsers may have it over a WebSocket,
//! an event in each message.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use component::streaming::websocket::Form;
use futures::{StreamExt, stream};
use http::Response;
use rand::Rng;
use resources::clock::Clock;
use resources::negotiate::{self, Encoding, Media, Offers};
use resources::options::ListOptions;
use resources::status::Failure;
use store::watch::Begin;
use store::{End, Event, WatchQuery, Watcher};
use tokio::time::{Instant, Sleep, sleep_until};

use super::get::parse_version;
use super::list::scope;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::flowcontrol::Opening;
use crate::registry::Endpoint;
use crate::render;
use crate::select::Select;
use crate::server::{Server, read_failure};
use crate::stream::websocket;

pub async fn serve(x: &mut Exchange, endpoint: &Endpoint) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Stream)?;
    let options = ListOptions::read(&x.query, true)?;
    let length = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        // Up to twice the least, so that not all end at once.
        _ => (x.server.config.min_watch).mul_f64(rand::rng().random_range(1.0..2.0)),
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
    let mut watcher = endpoint
        .collection
        .watch(query)
        .await
        .map_err(read_failure)?;
    let server = x.server.clone();
    let mut opening = x.place.opening(&server.flow_control);
    let ready = watcher.try_next().await;
    match ready {
        Ok(None) => opening.end(),
        _ => opening.begin(),
    }
    let watch = Watch {
        server,
        place: (
            endpoint.resource.group,
            endpoint.resource.version,
            endpoint.resource.name,
        ),
        media,
        watcher,
        ready: Some(ready),
        opening,
        until: Box::pin(sleep_until(until)),
        first: true,
    };
    let frames = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let (frame, go_on) = watch.next().await?;
        Some((frame, go_on.then_some(watch)))
    });
    let Some(end) = websocket::wanted(x) else {
        return Ok(body::answer(200, media.stream_type(), body::stream(frames)));
    };
    // What tells frames apart in a body is not needed between messages.
    let (form, head) = match media.encoding {
        Encoding::Protobuf => (Form::Binary, render::FRAME_HEAD),
        Encoding::Json | Encoding::Yaml => (Form::Text, 0),
    };
    let events = frames.map(move |frame| frame.slice(head..));
    Ok(websocket::events(x, end, form, events))
}

struct Watch {
    server: std::sync::Arc<Server>,
    place: (&'static str, &'static str, &'static str),
    media: Media,
    watcher: Watcher,
    /// What there was when the watch began, until it is sent.
    ready: Option<Result<Option<Event>, End>>,
    opening: Opening,
    /// One timer for all events: setting one for each would cost more than finding it.
    until: Pin<Box<Sleep>>,
    /// Only the first table names its columns.
    first: bool,
}

impl Watch {
    /// The next frame, and whether another may follow; none at the end of the stream.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        if self.opening.is_open() && self.until.deadline() <= Instant::now() {
            return None;
        }
        let event = match self.initial().await {
            Some(event) => event,
            None => tokio::select! {
                // First, or events without a pause would keep it open.
                biased;
                () = self.until.as_mut() => return None,
                event = self.watcher.next() => event,
            },
        };
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

    /// The next of the events that were there already; the watch has its place until all are sent.
    async fn initial(&mut self) -> Option<Result<Event, End>> {
        let ready = match self.ready.take() {
            Some(ready) => ready,
            None if self.opening.is_open() => self.watcher.try_next().await,
            None => return None,
        };
        if let Ok(None) = ready {
            self.opening.end();
        }
        ready.transpose()
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

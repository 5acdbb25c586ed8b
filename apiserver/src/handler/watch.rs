//! GET of a collection with `watch=true`: a stream of events.
//!
//! Nothing is buffered here: the next event is taken from the store when the connection has room for
//! it. A watch ends at its time limit, or when the store ends it. Browsers may have it over a WebSocket,
//! an event in each message.
//!
//! A watch that begins with the objects as they are goes out in gzip members if the client takes them (gate
//! `WatchListCompression`): those objects together, then each event as a member that all watchers share. Between two members
//! nothing is kept, so that an idle watch holds no compressor.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component::serving::Quiet;
use component::streaming::websocket::Form;
use futures::{StreamExt, stream};
use http::Response;
use rand::Rng;
use resources::clock;
use resources::negotiate::{self, Encoding, Media, Offers};
use resources::options::ListOptions;
use resources::status::Failure;
use store::watch::Begin;
use store::{End, Entry, Event, WatchQuery, Watcher};
use tokio::time::Instant;

use super::get::parse_version;
use super::list::scope;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::compress;
use crate::flowcontrol::Opening;
use crate::registry::Endpoint;
use crate::render;
use crate::select::Select;
use crate::server::{Server, read_failure};
use crate::stream::websocket;

/// How much of the objects that a watch begins with is compressed together.
const BATCH: usize = 64 * 1024;

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
        // An error of upstream's cache that nothing gives a code to.
        text => Some(parse_version(text).map_err(|e| Failure::new(500, "", e.message()))?),
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
    let end = websocket::wanted(x);
    let gzip = end.is_none()
        && options.send_initial_events == Some(true)
        && options.bookmarks
        && x.server.config.features.enabled("WatchListCompression")
        && compress::is_accepted(&x.headers);
    let server = x.server.clone();
    let mut opening = x.place.opening(&server.flow_control);
    let ready = watcher.try_next().await;
    match ready {
        Ok(None) => opening.end(),
        _ => opening.begin(),
    }
    // In a box, since it is handed on with every event.
    let watch = Box::new(Watch {
        server,
        endpoint: endpoint.index,
        media,
        gzip,
        watcher,
        ready: Some(ready),
        opening,
        until,
        first: true,
    });
    let frames = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let (frame, go_on) = watch.next().await?;
        Some((frame, go_on.then_some(watch)))
    });
    let Some(end) = end else {
        let frames = match gzip {
            false => body::stream(frames),
            true => body::stream(compress::gzip::chain(frames)),
        };
        let mut answer = body::answer(200, media.stream_type(), frames);
        if gzip {
            compress::mark(answer.headers_mut());
        }
        answer.extensions_mut().insert(Quiet);
        return Ok(answer);
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
    server: Arc<Server>,
    endpoint: u16,
    media: Media,
    gzip: bool,
    watcher: Watcher,
    /// What there was when the watch began, until it is sent.
    ready: Option<Result<Option<Event>, End>>,
    opening: Opening,
    until: Instant,
    /// Only the first table names its columns.
    first: bool,
}

impl Watch {
    /// The next frames, and whether others may follow; none at the end of the stream.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        let event = self.event().await?;
        let server = self.server.clone();
        let endpoint = server.registry.at(self.endpoint)?;
        if self.gzip {
            self.member(endpoint, event).await
        } else {
            self.frame(endpoint, event)
        }
    }

    /// What happens next; none when the time is over.
    async fn event(&mut self) -> Option<Result<Event, End>> {
        if self.opening.is_open() && self.until <= Instant::now() {
            return None;
        }
        match self.initial().await {
            Some(event) => Some(event),
            None => Some(self.watcher.next().await),
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

    /// The event as it is sent.
    fn frame(&mut self, endpoint: &Endpoint, event: Result<Event, End>) -> Option<(Bytes, bool)> {
        let (kind, entry) = match event {
            Ok(Event::Bookmark {
                revision,
                initial_end,
            }) => {
                let bookmark = render::bookmark(endpoint, self.media, revision, initial_end);
                return Some((bookmark, true));
            }
            Ok(event) => object(event)?,
            Err(End::Expired) => {
                let failure = Failure::gone(End::Expired.to_string());
                return Some((render::error_frame(&failure, self.media), false));
            }
            Err(End::Reset | End::Over) => return None,
        };
        let (now, first) = (clock::seconds(), std::mem::take(&mut self.first));
        let frame = render::watch_frame(endpoint, self.media, kind, &entry, now, first);
        Some(self.or_the_end(frame))
    }

    /// The event compressed, and all objects that are there already with it.
    async fn member(
        &mut self,
        endpoint: &Endpoint,
        event: Result<Event, End>,
    ) -> Option<(Bytes, bool)> {
        let gzip = Arc::clone(&self.server.gzip);
        let event = match event {
            Ok(event) if !self.watcher.is_beginning() && !is_bookmark(&event) => {
                let (kind, entry) = object(event)?;
                let (now, first) = (clock::seconds(), std::mem::take(&mut self.first));
                let made = render::member(endpoint, self.media, kind, &entry, now, first, &gzip);
                let (member, go_on) = self.or_the_end(made);
                let whole = if go_on {
                    member
                } else {
                    gzip.link(&member).into()
                };
                return Some((whole, go_on));
            }
            other => other,
        };
        let (frame, mut go_on) = self.frame(endpoint, event)?;
        let mut plain = Vec::from(frame);
        while go_on && plain.len() < BATCH && self.watcher.is_beginning() {
            let Some(event) = self.watcher.try_next().await.transpose() else {
                break;
            };
            let Some((frame, more)) = self.frame(endpoint, event) else {
                go_on = false;
                break;
            };
            plain.extend_from_slice(&frame);
            go_on = more;
        }
        Some((gzip.link(&plain).into(), go_on))
    }

    /// The frames, or an error as the last one.
    fn or_the_end(&self, made: Result<Bytes, Failure>) -> (Bytes, bool) {
        match made {
            Ok(frames) => (frames, true),
            Err(failure) => (render::error_frame(&failure, self.media), false),
        }
    }
}

fn is_bookmark(event: &Event) -> bool {
    matches!(event, Event::Bookmark { .. })
}

/// The type and the object of an event that has one.
fn object(event: Event) -> Option<(&'static str, Arc<Entry>)> {
    match event {
        Event::Added(entry) => Some(("ADDED", entry)),
        Event::Modified(entry) => Some(("MODIFIED", entry)),
        Event::Deleted(entry) => Some(("DELETED", entry)),
        Event::Bookmark { .. } => None,
    }
}

//! GET of a collection.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use component::tracing as trace;
use futures::stream;
use http::Response;
use resources::clock;
use resources::negotiate::{self, Offers};
use resources::object;
use resources::options::ListOptions;
use resources::status::{Failure, qualified};
use store::read::Match;
use store::{At, Entry, Query, Scope};

use super::get::parse_version;
use crate::audit::Part;
use crate::body::{self, Body};
use crate::chain::{Exchange, traces};
use crate::registry::Endpoint;
use crate::render::{self, ListMeta};
use crate::select::Select;
use crate::server::list_failure;

/// How much of a list is made before it is handed to the connection. Each piece wakes its task and that of the connection; with
/// its last object it should not be more than the connection takes at once.
const PIECE: usize = component::serving::PIECE - 16 * 1024;

pub async fn serve(x: &mut Exchange, endpoint: &Endpoint) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    let options = ListOptions::read(&x.query, false)?;
    let r = endpoint.resource;
    let query = query(x, endpoint, &options)?;
    let started = Instant::now();
    let page = {
        let _span = trace::span("cacher.GetList", |a| {
            a.audit_id();
            a.text("type", qualified(r.group, r.name));
        });
        endpoint.collection.list(query).await
    };
    x.spent(Part::Storage, started);
    let page = page.map_err(|error| list_failure(error, r.group, r.name))?;
    media.check(true, || object::internal(r.group, &r.list_kind()))?;
    let meta = ListMeta {
        resource_version: page.revision.to_string(),
        continue_token: page.next.unwrap_or_default(),
        remaining: page.remaining,
    };
    let _span = traces::serializing(x, media.content_type());
    let entries: Vec<Arc<Entry>> = page.entries.into_iter().collect();
    let list = render::List::new(endpoint, media, meta);
    let body = if list.can_stream() {
        pieces(x, endpoint, media, list, entries)?
    } else {
        body::full(list.whole(&entries, clock::seconds())?)
    };
    Ok(body::answer(200, media.content_type(), body))
}

/// What the options ask for.
pub fn query(x: &Exchange, endpoint: &Endpoint, options: &ListOptions) -> Result<Query, Failure> {
    Ok(Query {
        scope: scope(x, endpoint),
        filter: Select::read(endpoint, options)?,
        at: at(options, !x.info.name.is_empty())?,
        limit: usize::try_from(options.limit).unwrap_or(0),
        continue_token: (!options.continue_token.is_empty())
            .then(|| options.continue_token.clone()),
    })
}

/// What of the resource the path is about.
#[must_use]
pub fn scope(x: &Exchange, endpoint: &Endpoint) -> Scope {
    if endpoint.resource.namespaced && !x.info.namespace.is_empty() {
        Scope::Namespace(x.info.namespace.as_str().into())
    } else {
        Scope::All
    }
}

/// Which version is asked for. One object, chosen by its name, is no page of others.
fn at(options: &ListOptions, one: bool) -> Result<At, Failure> {
    let revision = match options.resource_version.as_str() {
        "" => None,
        text => Some(match parse_version(text) {
            Ok(version) => version,
            // Which version it would be does not matter where none may be given.
            Err(_) if !options.continue_token.is_empty() => 1,
            Err(failure) => return Err(failure.prefixed("invalid resource version: ")),
        }),
    };
    let matching = match options.resource_version_match.as_str() {
        "Exact" => Some(Match::Exact),
        "NotOlderThan" => Some(Match::NotOlderThan),
        _ => None,
    };
    let limit = match one {
        true => 0,
        false => usize::try_from(options.limit).unwrap_or(0),
    };
    Ok(At::of_list(
        revision,
        matching,
        limit,
        !options.continue_token.is_empty(),
    ))
}

/// The list as a stream of pieces: the head, as many entries as fill a piece, and so on.
fn pieces(
    x: &Exchange,
    endpoint: &Endpoint,
    media: negotiate::Media,
    list: render::List<'_>,
    entries: Vec<Arc<Entry>>,
) -> Result<Body, Failure> {
    let (mut size, mut bytes) = (0, 0);
    for entry in &entries {
        size += list.protobuf_size(entry)?;
        bytes += entry.body.len();
    }
    let mut head = Vec::with_capacity(bytes.min(PIECE) + PIECE / 4);
    list.head(size, &mut head);
    // A short list is one piece: no stream, and a Content-Length.
    if bytes < PIECE {
        let mut list = list;
        for entry in &entries {
            list.item(entry, &mut head)?;
        }
        list.tail(&mut head);
        return Ok(body::full(head));
    }
    let meta = list.into_meta();
    let server = x.server.clone();
    let index = endpoint.index;
    let state = (head, entries.into_iter(), true, false);
    Ok(body::try_stream(stream::unfold(
        state,
        move |(mut out, mut rest, first, done)| {
            let (server, meta) = (server.clone(), meta.clone());
            async move {
                if done {
                    return None;
                }
                let endpoint = server.registry.at(index)?;
                let mut list = render::List::resume(endpoint, media, meta, first);
                let mut ended = true;
                for entry in rest.by_ref() {
                    if let Err(failure) = list.item(&entry, &mut out) {
                        // The head is gone already: break off, so that nobody takes this for all of it.
                        tracing::error!(error = %failure, "an entry of a list cannot be rendered");
                        return Some((Err(failure.into()), (Vec::new(), rest, first, true)));
                    }
                    if out.len() >= PIECE {
                        ended = false;
                        break;
                    }
                }
                if ended {
                    list.tail(&mut out);
                }
                let first = list.is_first();
                Some((
                    Ok(Bytes::from(out)),
                    (Vec::with_capacity(PIECE + PIECE / 4), rest, first, ended),
                ))
            }
        },
    )))
}

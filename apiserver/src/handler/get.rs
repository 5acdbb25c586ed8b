//! GET of one object.

use std::time::Instant;

use component::tracing as trace;
use http::Response;
use resources::negotiate;
use resources::status::Failure;
use store::At;

use super::rendered;
use super::subresource::offers;
use crate::audit::Part;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::registry::generic::check_segment;
use crate::server::read_failure;

pub async fn serve(x: &mut Exchange, endpoint: &Endpoint) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, offers(&x.info))?;
    let at = at(x.query.get("resourceVersion").unwrap_or_default())?;
    let entry = entry(x, endpoint, at).await?;
    let bytes = rendered(x, endpoint, media, &entry)?;
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

/// The object that the path names.
pub async fn entry(
    x: &Exchange,
    endpoint: &Endpoint,
    at: At,
) -> Result<std::sync::Arc<store::Entry>, Failure> {
    let r = endpoint.resource;
    check_segment(&x.info.name)?;
    let key = if r.namespaced {
        format!("{}/{}", x.info.namespace, x.info.name)
    } else {
        x.info.name.clone()
    };
    let started = Instant::now();
    let found = {
        // Upstream's storage answers what must be as fresh as etcd, its cache what need not.
        let fresh = at == At::Latest;
        let name = if fresh { "Get etcd3" } else { "cacher.Get" };
        let _span = trace::span(name, |a| {
            a.audit_id();
            a.text("key", format!("/{}/{key}", endpoint.collection.path()));
            if fresh {
                a.text("group", r.group);
                a.text("resource", r.name);
            } else {
                let version = x.query.get("resourceVersion");
                a.text("resource-version", version.unwrap_or_default());
            }
        });
        endpoint.collection.get(&key, at).await
    };
    x.spent(Part::Storage, started);
    let found = found.map_err(read_failure)?;
    found.ok_or_else(|| Failure::not_found(r.group, r.name, &x.info.name))
}

/// How fresh a read must be.
pub fn at(version: &str) -> Result<At, Failure> {
    let revision = if version.is_empty() {
        None
    } else {
        Some(parse_version(version)?)
    };
    Ok(At::of_get(revision))
}

/// A resource version as a number.
pub fn parse_version(text: &str) -> Result<i64, Failure> {
    match text.parse::<u64>().ok().and_then(|v| i64::try_from(v).ok()) {
        Some(version) => Ok(version),
        None => Err(Failure::bad_request(format!(
            "resourceVersion: Invalid value: {}: strconv.ParseUint: parsing {}: invalid syntax",
            proto::path::quote(text),
            proto::path::quote(text)
        ))),
    }
}

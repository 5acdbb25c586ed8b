//! DELETE of a collection: a list, then a delete of each, as upstream does it.

use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;
use proto::path::FieldError;
use resources::clock;
use resources::negotiate::{self, Offers};
use resources::object;
use resources::options::{ListOptions, UNREAD};
use resources::status::Failure;
use store::Entry;

use super::{list, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::render::{self, ListMeta};
use crate::server::read_failure;

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    let list_options = ListOptions::read(&x.query, false)?;
    let options = super::delete::options(x, incoming).await?;
    if options.unread && super::unread::is_served(x) {
        options.check_unread()?;
        let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
        let error = FieldError::invalid(UNREAD.text(), true, why);
        return Err(Failure::invalid(
            "meta.k8s.io",
            "DeleteOptions",
            "",
            &[error],
        ));
    }
    let query = list::query(x, endpoint, &list_options)?;
    let warning = (endpoint.strategy.delete_warning)(&options);
    x.warnings.extend(warning.map(str::to_owned));
    let page = endpoint
        .collection
        .list(query)
        .await
        .map_err(read_failure)?;
    let listed: Vec<Arc<Entry>> = page.entries.into_iter().collect();
    let mut warnings = Vec::new();
    let mut failed = None;
    for entry in &listed {
        let namespace = entry.namespace().to_owned();
        let mut write = write(x, endpoint, "");
        write.namespace = &namespace;
        let outcome = write.delete(entry.name(), &options).await;
        warnings.append(&mut write.into_warnings());
        // Not found: somebody else was faster.
        failed = outcome
            .err()
            .filter(|failure| failure.reason() != "NotFound");
        if failed.is_some() {
            break;
        }
    }
    x.warnings.append(&mut warnings);
    if let Some(failure) = failed {
        return Err(failure);
    }
    let r = endpoint.resource;
    media.check(true, || object::internal(r.group, &r.list_kind()))?;
    let meta = ListMeta {
        resource_version: page.revision.to_string(),
        continue_token: page.next.unwrap_or_default(),
        remaining: page.remaining,
    };
    // The objects are shown as they were when they were listed.
    let bytes = render::List::new(endpoint, media, meta).whole(&listed, clock::seconds())?;
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

//! DELETE of a collection: a list, then a delete of each, as upstream does it.

use http::Response;
use hyper::body::Incoming;
use resources::clock::Clock;
use resources::negotiate::{self, Offers};
use resources::options::ListOptions;
use resources::status::Failure;
use store::{At, Query};

use super::list::scope;
use super::write;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::render::{self, ListMeta};
use crate::select::Select;
use crate::server::read_failure;

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    let list_options = ListOptions::read(&x.query, false)?;
    let options = super::delete::options(x, incoming).await?;
    let warning = (endpoint.strategy.delete_warning)(&options);
    x.warnings.extend(warning.map(str::to_owned));
    let query = Query {
        scope: scope(x, endpoint),
        filter: Select::read(endpoint, &list_options)?,
        at: At::Latest,
        limit: 0,
        continue_token: None,
    };
    let page = endpoint
        .collection
        .list(query)
        .await
        .map_err(read_failure)?;
    let mut deleted = Vec::new();
    let mut warnings = Vec::new();
    let mut failed = None;
    let revision = page.revision;
    for entry in page.entries {
        let namespace = entry.namespace().to_owned();
        let mut write = write(x, endpoint, "");
        write.namespace = &namespace;
        match write.delete(entry.name(), &options).await {
            Ok((entry, _)) => deleted.push(entry),
            // Somebody else was faster.
            Err(failure) if failure.reason() == "NotFound" => {}
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
        warnings.append(&mut write.into_warnings());
    }
    x.warnings.append(&mut warnings);
    if let Some(failure) = failed {
        return Err(failure);
    }
    let meta = ListMeta {
        resource_version: revision.to_string(),
        ..ListMeta::default()
    };
    let bytes = render::List::new(endpoint, media, meta).whole(&deleted, Clock::now().seconds)?;
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

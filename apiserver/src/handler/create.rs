//! POST of a new object.

use http::Response;
use hyper::body::Incoming;
use resources::defaults;
use resources::negotiate::{self, Offers};
use resources::object;
use resources::options::WriteOptions;
use resources::status::Failure;

use super::{answered, manager, read_body, record, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    let encoding = negotiate::input(&x.headers)?;
    let body = read_body(&x.headers, incoming).await?;
    let options = WriteOptions::read(&x.query, "CreateOptions")?;
    let decoded = object::decode(&body, encoding, &endpoint.served, options.field_validation)?;
    if options.field_validation == resources::options::FieldValidation::Warn {
        x.warnings.extend(decoded.problems);
    }
    let object = default(endpoint, decoded.object)?;
    record(x, endpoint, &object);
    let manager = manager(x, &options.field_manager);
    let mut write = write(x, endpoint, &manager);
    let own;
    if endpoint.resource.name == "namespaces" && endpoint.resource.group.is_empty() {
        // A namespace is created in itself, as far as admission is concerned.
        own = proto::meta::name(&object).to_owned();
        write.namespace = &own;
    }
    let written = write.create(object, &options).await;
    let mut warnings = write.into_warnings();
    x.warnings.append(&mut warnings);
    let written = written?;
    let bytes = answered(x, endpoint, media, &written.entry)?;
    Ok(body::answer(201, media.content_type(), body::full(bytes)))
}

/// Defaults in the request's version, then brings the object into the hub's.
pub fn default(endpoint: &Endpoint, object: proto::Value) -> Result<proto::Value, Failure> {
    let (served, hub) = (&endpoint.served, &endpoint.hub);
    defaults::complete(endpoint.gates, endpoint.strategy, served, hub, object)
}

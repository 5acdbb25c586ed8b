//! PUT: the client's object replaces the stored one.

use http::Response;
use hyper::body::Incoming;
use proto::Value;
use resources::before;
use resources::negotiate;
use resources::object;
use resources::options::{FieldValidation, WriteOptions};
use resources::status::Failure;
use resources::strategy::Part;

use super::subresource::offers;
use super::{answered, create, manager, read_body, record, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::registry::generic::Update;

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    part(x, endpoint, None, incoming).await
}

/// PUT of the object or, with a part, of one of its subresources of the same kind.
pub async fn part(
    x: &mut Exchange,
    endpoint: &Endpoint,
    part: Option<Part>,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, offers(&x.info))?;
    let encoding = negotiate::input(&x.headers)?;
    let body = read_body(&x.headers, incoming).await?;
    let options = WriteOptions::read(&x.query, "UpdateOptions")?;
    let decoded = object::decode(&body, encoding, &endpoint.served, options.field_validation)?;
    if options.field_validation == FieldValidation::Warn {
        x.warnings.extend(decoded.problems);
    }
    let mut object = create::default(endpoint, decoded.object)?;
    record(x, endpoint, &object);
    check_name(x, &object)?;
    let twice = before::dedup_owner_references(&mut object, before::ON_ARRIVAL);
    x.warnings.extend(twice);
    let manager = manager(x, &options.field_manager);
    let name = x.info.name.clone();
    let write = write(x, endpoint, &manager);
    let how = Update {
        part,
        whole: true,
        ..Update::default()
    };
    let written = write
        .update(&name, &options, how, |_: Option<&Value>| Ok(object.clone()))
        .await;
    let mut warnings = write.into_warnings();
    x.warnings.append(&mut warnings);
    let written = written?;
    let bytes = answered(x, endpoint, media, &written.entry)?;
    Ok(body::answer(
        if written.created { 201 } else { 200 },
        media.content_type(),
        body::full(bytes),
    ))
}

/// Name and namespace of the object must be the path's.
pub fn check_name(x: &Exchange, object: &Value) -> Result<(), Failure> {
    let (asked, namespace) = (&x.info.name, proto::meta::namespace(object));
    // A namespace is asked for as one that its objects are in.
    let within = x.info.resource != "namespaces" && !x.info.namespace.is_empty();
    if !namespace.is_empty() && within && namespace != x.info.namespace {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    match proto::meta::name(object) {
        "" => Err(Failure::bad_request(format!(
            "the name of the object ({asked} based on URL) was undeterminable: name must be provided"
        ))),
        name if name != asked => Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({asked})"
        ))),
        _ => Ok(()),
    }
}

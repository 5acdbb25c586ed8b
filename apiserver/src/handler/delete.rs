//! DELETE of one object.

use http::Response;
use hyper::body::Incoming;
use proto::Value;
use proto::catalogue::{ResourceFlags, names as n};
use proto::meta;
use resources::negotiate::{self, Media, Offers};
use resources::object::{self, Type};
use resources::options::DeleteOptions;
use resources::status::Failure;

use super::{answered, read_body, unread, write};
use crate::body::{self, Body};
use crate::chain::{Exchange, traces};
use crate::registry::Endpoint;
use crate::render;

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    let options = options(x, incoming).await?;
    if options.unread && unread::is_served(x) {
        let status = unread::delete(x, endpoint, &options).await?;
        x.record_status(&status);
        let bytes = status_bytes(&status, media);
        return Ok(body::answer(200, media.content_type(), body::full(bytes)));
    }
    let warning = (endpoint.strategy.delete_warning)(&options);
    x.warnings.extend(warning.map(str::to_owned));
    let name = x.info.name.clone();
    let write = write(x, endpoint, "");
    let outcome = write.delete(&name, &options).await;
    let mut warnings = write.into_warnings();
    x.warnings.append(&mut warnings);
    let (entry, gone) = outcome?;
    // An object that waits for its finalizers, or that the resource returns, is shown; of one that is
    // simply gone the client hears so.
    if gone && !endpoint.resource.has(ResourceFlags::RETURN_DELETED) {
        let object = object::from_body(&entry.body, &endpoint.hub)?;
        let status = success(endpoint, meta::name(&object), meta::uid(&object));
        x.record_status(&status);
        let _span = traces::serializing(x, media.content_type());
        return Ok(body::answer(
            200,
            media.content_type(),
            body::full(status_bytes(&status, media)),
        ));
    }
    let bytes = answered(x, endpoint, media, &entry)?;
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

/// Options from the body, or from the query if there is none.
pub async fn options(x: &Exchange, incoming: Incoming) -> Result<DeleteOptions, Failure> {
    let body = read_body(&x.headers, incoming).await?;
    if body.is_empty() {
        return DeleteOptions::from_query(&x.query);
    }
    let message = proto::catalogue::messages::meta_v1::DELETE_OPTIONS;
    let encoding = negotiate::input(&x.headers)?;
    // Clients send it as v1, as meta.k8s.io/v1 or in the resource's own group; all are the same.
    let expected = Type {
        group: "",
        version: "v1",
        kind: "DeleteOptions",
        message,
    };
    let decoded = object::decode_any_version(&body, encoding, &expected)?;
    // Upstream's codec of options writes them in its internal version (`apimachinery/pkg/apis/meta/internalversion/register.go`).
    if x.trail.is_some() {
        let mut told = decoded.clone();
        told.set(&[n::API_VERSION], "meta.k8s.io/__internal");
        x.record_object(&told, &expected);
    }
    DeleteOptions::from_body(&decoded)
}

/// The `Status` of a successful deletion.
fn success(endpoint: &Endpoint, name: &str, uid: &str) -> Value {
    let mut status = Value::object();
    status.set(&[n::METADATA], Value::object());
    status.set(&[n::STATUS], "Success");
    let mut details = Value::object();
    details.set(&[n::NAME], name);
    if !endpoint.resource.group.is_empty() {
        details.set(&[n::GROUP], endpoint.resource.group);
    }
    details.set(&[n::KIND], endpoint.resource.name);
    details.set(&[n::UID], uid);
    status.set(&[n::DETAILS], details);
    status
}

fn status_bytes(status: &Value, media: Media) -> bytes::Bytes {
    let message = proto::catalogue::messages::meta_v1::STATUS;
    render::encode(
        status,
        message,
        "Status",
        "v1",
        Media {
            form: negotiate::Form::Full,
            ..media
        },
    )
}

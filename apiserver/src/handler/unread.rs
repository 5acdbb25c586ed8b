//! DELETE of an object that cannot be read (KEP-3926, gate `AllowUnsafeMalformedObjectDeletion`).
//!
//! What is lost for ever (a key that is gone, bytes that nobody understands) would keep its kind from being listed for ever. So
//! it may be deleted unread: without preconditions, finalizers, admission or anything else that looks at the object, by who may
//! `unsafe-delete-ignore-read-errors`, and only if it really cannot be read
//! (upstream: `registry/corrupt_obj_deleter.go`, `handlers/delete.go`).

use proto::Value;
use proto::catalogue::names as n;
use resources::options::DeleteOptions;
use resources::status::Failure;
use store::WriteError;

use crate::authz::{Attributes, Decision};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::server::write_failure;

const VERB: &str = "unsafe-delete-ignore-read-errors";
/// Says in the request's events that this was tried.
const TRIED: &str = "apiserver.k8s.io/unsafe-delete-ignore-read-error";

/// Whether the option is heeded.
#[must_use]
pub fn is_served(x: &Exchange) -> bool {
    let features = &x.server.config.features;
    features.enabled("AllowUnsafeMalformedObjectDeletion")
}

/// Deletes the object that the path names. What the client is told: of the object nothing is known.
pub async fn delete(
    x: &Exchange,
    endpoint: &Endpoint,
    options: &DeleteOptions,
) -> Result<Value, Failure> {
    options.check_unread()?;
    if let Some(trail) = &x.trail {
        trail.annotate(TRIED, "");
    }
    authorize(x).await?;
    let (resource, name) = (endpoint.resource, x.info.name.as_str());
    let key = if resource.namespaced {
        format!("{}/{name}", x.info.namespace)
    } else {
        name.to_owned()
    };
    tracing::info!(resource = resource.name, key, "Deleting an object unread");
    let deleted = endpoint
        .collection
        .delete_undecodable(&key, options.dry_run);
    match deleted.await {
        Ok(()) => Ok(success(name, endpoint.served.kind)),
        Err(WriteError::Decodable(key)) => {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: unsafe \
                 deletion is not allowed because the object is decodable from storage"
            );
            Err(Failure::conflict(resource.group, resource.name, name, &why))
        }
        Err(error) => Err(write_failure(&error, resource.group, resource.name, name)),
    }
}

/// Who may delete may not yet do this.
async fn authorize(x: &Exchange) -> Result<(), Failure> {
    let asked = Attributes {
        verb: VERB,
        ..Attributes::of(&x.user, &x.info)
    };
    let outcome = x.server.authorizers.explain(&asked).await;
    let why = match (outcome.decision, outcome.error) {
        (Decision::Allow, _) => return Ok(()),
        (_, Some(error)) => format!("error while checking permission for \"{VERB}\", {error}"),
        (Decision::Deny(reason) | Decision::NoOpinion(reason), None) => {
            format!("not permitted to do \"{VERB}\", reason: {reason}")
        }
    };
    Err(Failure::forbidden(
        asked.group,
        asked.resource,
        asked.name,
        &why,
    ))
}

fn success(name: &str, kind: &str) -> Value {
    let mut status = Value::object();
    status.set(&[n::METADATA], Value::object());
    status.set(&[n::STATUS], "Success");
    status.set(&[n::DETAILS, n::NAME], name);
    status.set(&[n::DETAILS, n::KIND], kind);
    status.set(&[n::CODE], 200_i64);
    status
}

//! Removing requests that are done with, or that nobody cared for
//! (`certificatesigningrequest-cleaner-controller`, `podcertificaterequest-cleaner-controller`).
//!
//! Upstream lists all of them from time to time; here each is looked at when it changes and when its
//! time is over.

use std::sync::Arc;
use std::time::Duration;

use component::client::Kind;
use component::controller::Next;
use component::informer::{Event, Key};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, PodCertificateRequest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Time};
use k8s_openapi::jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{conditions, is_issued};
use crate::context::Context;
use crate::error::Error;

const DECIDED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);
const POD: Duration = Duration::from_secs(15 * 60);

/// Starts the controller of certificate signing requests.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    clean(cx, "csr_cleaner", ends);
    Ok(())
}

/// Starts the controller of pods' certificate requests, which are answered within minutes or never.
///
/// # Errors
/// None.
pub fn start_pods(cx: &Context) -> anyhow::Result<()> {
    clean(cx, "pcr_cleaner", |request: &PodCertificateRequest| {
        let created = request.metadata.creation_timestamp.as_ref()?;
        Some(created.0 + POD)
    });
    Ok(())
}

/// Removes objects at the time that `ends` says.
fn clean<K: Kind>(
    cx: &Context,
    queue: &str,
    ends: impl Fn(&K) -> Option<Timestamp> + Send + Sync + 'static,
) {
    let queue = cx.queue::<Key>(queue);
    let requests = cx.informer::<K>();
    let wake = queue.clone();
    requests.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let (lister, context, ends) = (requests.lister(), cx.clone(), Arc::new(ends));
    cx.run(1, &queue, move |key| {
        let (lister, cx, ends) = (lister.clone(), context.clone(), Arc::clone(&ends));
        async move {
            let Some(request) = lister.by_key(&key) else {
                return Ok(Next::Done);
            };
            let Some(end) = ends(&request) else {
                return Ok(Next::Done);
            };
            match Duration::try_from(end.duration_since(cx.now())) {
                Ok(left) if !left.is_zero() => Ok(Next::After(left)),
                _ => delete(&cx, &*request).await,
            }
        }
    });
}

async fn delete<K: Kind>(cx: &Context, request: &K) -> Result<Next, Error> {
    let meta = request.metadata();
    let options = DeleteOptions {
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: None,
        }),
        ..DeleteOptions::default()
    };
    let client = cx.client().await?;
    let api = match meta.namespace.as_deref() {
        Some(namespace) => client.namespaced::<K>(namespace),
        None => client.all::<K>(),
    };
    let name = meta.name.as_deref().unwrap_or_default();
    match api.delete(name, &options).await {
        // Conflict: another of that name, whose time is not over.
        Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
        _ => Ok(Next::Done),
    }
}

/// When the time of a request is over.
fn ends(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let issued = is_issued(request);
    let after = |at: Option<&Time>, time: Duration| at.map(|at| at.0 + time);
    if conditions(request).is_empty() {
        return after(request.metadata.creation_timestamp.as_ref(), PENDING);
    }
    let of_condition = |(kind, at): (&str, Option<&Time>)| match kind {
        "Approved" if issued => after(at, DECIDED),
        "Approved" => after(at, PENDING),
        "Denied" | "Failed" => after(at, DECIDED),
        _ => None,
    };
    let all = conditions(request).iter();
    let all = all.filter_map(|c| of_condition((&c.type_, c.last_update_time.as_ref())));
    let approved = conditions(request).iter().any(|c| c.type_ == "Approved");
    let expires = if approved { expiry(request) } else { None };
    all.chain(expires).min()
}

/// When the certificate of a request is not good any more.
fn expiry(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    let der = CertificateDer::from_pem_slice(&certificate.0).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn end(conditions: serde_json::Value, certificate: &str) -> String {
        let request = proto::typed::from_json_value(json!({
            "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": "s"},
            "status": {"conditions": conditions, "certificate": certificate}
        }));
        ends(&request.unwrap())
            .map(|t| t.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_request_stays_as_long_as_its_state_says() {
        let at = "2026-01-02T00:00:00Z";
        let one = |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": at}]);
        assert_eq!(end(json!([]), ""), "2026-01-02T00:00:00Z");
        assert_eq!(end(one("Approved"), ""), "2026-01-03T00:00:00Z");
        assert_eq!(end(one("Approved"), "eA=="), "2026-01-02T01:00:00Z");
        assert_eq!(end(one("Denied"), ""), "2026-01-02T01:00:00Z");
        assert_eq!(end(one("Failed"), ""), "2026-01-02T01:00:00Z");
    }
}

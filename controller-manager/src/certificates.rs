//! Certificate requests: approving, signing and removing them (`certificatesigningrequest-*-controller`).
//!
//! Each controller owns a part of the status: approval the condition `Approved` of kubelets' requests,
//! signing the certificate or the condition `Failed`.
//!
//! Source: `pkg/controller/certificates`.

use std::sync::Arc;

use component::client::RateLimit;
use component::controller::Next;
use component::informer::{Event, Key, Lister};
use component::queue::Retry;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};

use crate::context::Context;
use crate::error::Error;

pub mod approve;
pub mod authority;
pub mod clean;
pub mod request;
pub mod sign;

/// Upstream's number of workers.
const WORKERS: i32 = 5;

/// Runs a controller over requests that have no certificate yet.
fn run<F>(
    cx: &Context,
    handle: impl Fn(Context, Arc<CertificateSigningRequest>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<Next, Error>> + Send + 'static,
{
    let retry = Retry {
        first: std::time::Duration::from_millis(200),
        most: std::time::Duration::from_secs(1000),
        overall: RateLimit::new(10.0, 100),
    };
    let queue = cx.queue_with::<Key>("certificate", retry);
    let requests = cx.informer::<CertificateSigningRequest>();
    let wake = queue.clone();
    requests.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let lister: Lister<CertificateSigningRequest> = requests.lister();
    let context = cx.clone();
    let handle = Arc::new(handle);
    cx.run(WORKERS, &queue, move |key| {
        let (lister, context, handle) = (lister.clone(), context.clone(), Arc::clone(&handle));
        async move {
            match lister.by_key(&key).filter(|r| !is_issued(r)) {
                Some(request) => handle(context, request).await,
                None => Ok(Next::Done),
            }
        }
    });
}

fn status(request: &CertificateSigningRequest) -> CertificateSigningRequestStatus {
    request.status.clone().unwrap_or_default()
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let conditions = request
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref());
    conditions.unwrap_or_default()
}

fn condition<'r>(
    request: &'r CertificateSigningRequest,
    kind: &str,
) -> Option<&'r CertificateSigningRequestCondition> {
    conditions(request).iter().find(|c| c.type_ == kind)
}

/// Whether there is a certificate.
fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.is_some_and(|c| !c.0.is_empty())
}

/// The request with one more condition.
fn with(
    request: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    cx: &Context,
) -> CertificateSigningRequest {
    let mut status = status(request);
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(cx.now());
    let condition = CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    status.conditions.get_or_insert_default().push(condition);
    CertificateSigningRequest {
        status: Some(status),
        ..request.clone()
    }
}

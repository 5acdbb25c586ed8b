//! Approving kubelets' requests for client certificates, if the one who asks may have them
//! (`certificatesigningrequest-approving-controller`).

use std::sync::Arc;

use component::controller::Next;
use http::Method;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::request::Request;
use super::{condition, run, with};
use crate::context::Context;
use crate::error::Error;
use crate::update::update;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// What may be asked for: the permission that it takes, and what is said when it is given. The first is
/// for those who ask for themselves.
const RECOGNIZED: [(&str, bool, &str); 2] = [
    (
        "selfnodeclient",
        true,
        "Auto approving self kubelet client certificate after SubjectAccessReview.",
    ),
    (
        "nodeclient",
        false,
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    ),
];

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    run(cx, handle);
    Ok(())
}

async fn handle(cx: Context, request: Arc<CertificateSigningRequest>) -> Result<Next, Error> {
    if condition(&request, "Approved").is_some() || condition(&request, "Denied").is_some() {
        return Ok(Next::Done);
    }
    let mut tried = false;
    for (permission, own, message) in RECOGNIZED {
        if !recognizes(&request, own)? {
            continue;
        }
        tried = true;
        if is_allowed(&cx, &request, permission).await? {
            let approved = with(&request, "Approved", "AutoApproved", message, &cx);
            let api = cx.client().await?.all::<CertificateSigningRequest>();
            update(&api, "approval", &request, &approved).await?;
            return Ok(Next::Done);
        }
    }
    // Recognized, but not allowed: the rights may come later.
    Ok(if tried { Next::Again } else { Next::Done })
}

/// Whether this is a kubelet's request, made by the kubelet itself if `own`.
fn recognizes(request: &CertificateSigningRequest, own: bool) -> Result<bool, Error> {
    if request.spec.signer_name != SIGNER {
        return Ok(false);
    }
    let asked = Request::read(&request.spec.request.0)
        .map_err(|e| Error::Unusable(component::supervisor::chain(&e)))?;
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let by_itself = request.spec.username.as_deref() == Some(asked.common_name.as_str());
    Ok(asked.is_kubelet_client(usages).is_ok() && (by_itself || !own))
}

async fn is_allowed(
    cx: &Context,
    request: &CertificateSigningRequest,
    subresource: &str,
) -> Result<bool, Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let client = cx.client().await?;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer: SubjectAccessReview = client
        .request(Method::POST, path, &[], Some(&review))
        .await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

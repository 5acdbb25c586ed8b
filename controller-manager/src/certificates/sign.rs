//! Signing approved requests (`certificatesigningrequest-signing-controller`).
//!
//! The authority's files are read for each certificate: signing is rare, and files that were replaced
//! are used at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use component::controller::Next;
use component::supervisor::chain;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::authority::{Authority, AuthorityError, life};
use super::request::{Request, are_client_usages};
use super::{condition, run, status, with};
use crate::config::{CsrSigning, Signer};
use crate::context::Context;
use crate::error::Error;
use crate::update::update;

type Check = fn(&Request, &[String]) -> Result<(), String>;

/// A signer, its files when each has its own, and the rule of its requests.
type Row = (&'static str, fn(&CsrSigning) -> &Signer, Check);

const SIGNERS: [Row; 4] = [
    (
        "kubernetes.io/kubelet-serving",
        |c| &c.kubelet_serving_signer_configuration,
        Request::is_kubelet_serving,
    ),
    (
        "kubernetes.io/kube-apiserver-client-kubelet",
        |c| &c.kubelet_client_signer_configuration,
        Request::is_kubelet_client,
    ),
    (
        "kubernetes.io/kube-apiserver-client",
        |c| &c.kube_apiserver_client_signer_configuration,
        |_, usages| are_client_usages(usages),
    ),
    (
        "kubernetes.io/legacy-unknown",
        |c| &c.legacy_unknown_signer_configuration,
        |_, _| Ok(()),
    ),
];

/// A signer with its files.
struct Configured {
    name: &'static str,
    certificate: PathBuf,
    key: PathBuf,
    check: Check,
}

/// Starts the controller, if there are files to sign with.
///
/// # Errors
/// If the files cannot be used.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let config = &cx.config().csr_signing;
    let signers = configured(config);
    if signers.is_empty() {
        tracing::info!("No files to sign certificates with, requests are not signed");
        return Ok(());
    }
    for signer in &signers {
        Authority::load(&signer.certificate, &signer.key)?;
    }
    let most = config.cluster_signing_duration.0;
    let signers = Arc::new(signers);
    run(cx, move |cx, request| {
        let signers = Arc::clone(&signers);
        async move { handle(&cx, &request, &signers, most).await }
    });
    Ok(())
}

fn configured(config: &CsrSigning) -> Vec<Configured> {
    let specific = SIGNERS
        .iter()
        .any(|(_, files, _)| !files(config).cert_file.is_empty());
    let row = |(name, files, check): &Row| {
        let own = files(config);
        let (certificate, key) = if specific {
            (&own.cert_file, &own.key_file)
        } else {
            (
                &config.cluster_signing_cert_file,
                &config.cluster_signing_key_file,
            )
        };
        (!certificate.is_empty() && !key.is_empty()).then(|| Configured {
            name,
            certificate: certificate.into(),
            key: key.into(),
            check: *check,
        })
    };
    SIGNERS.iter().filter_map(row).collect()
}

fn unusable(e: &(dyn std::error::Error + 'static)) -> Error {
    Error::Unusable(chain(e))
}

async fn handle(
    cx: &Context,
    request: &CertificateSigningRequest,
    signers: &[Configured],
    most: Duration,
) -> Result<Next, Error> {
    let approved =
        condition(request, "Approved").is_some() && condition(request, "Denied").is_none();
    let failed = condition(request, "Failed").is_some_and(|c| c.status != "False");
    let signer = signers.iter().find(|s| s.name == request.spec.signer_name);
    let Some(signer) = signer.filter(|_| approved && !failed) else {
        return Ok(Next::Done);
    };
    let asked = Request::read(&request.spec.request.0).map_err(|e| unusable(&e))?;
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let api = cx.client().await?.all::<CertificateSigningRequest>();
    let after = match (signer.check)(&asked, usages) {
        Err(why) => with(request, "Failed", "SignerValidationFailure", &why, cx),
        Ok(()) => {
            let life = life(request.spec.expiration_seconds, most);
            let certificate = sign(signer, &asked, usages, life, cx).map_err(|e| unusable(&e))?;
            let mut signed = status(request);
            signed.certificate = Some(ByteString(certificate.into_bytes()));
            CertificateSigningRequest {
                status: Some(signed),
                ..request.clone()
            }
        }
    };
    update(&api, "status", request, &after).await?;
    Ok(Next::Done)
}

fn sign(
    signer: &Configured,
    asked: &Request,
    usages: &[String],
    life: Duration,
    cx: &Context,
) -> Result<String, AuthorityError> {
    Authority::load(&signer.certificate, &signer.key)?.sign(asked, usages, life, cx.now())
}

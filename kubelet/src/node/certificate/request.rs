//! Asking the API server for a certificate.

use std::time::Duration;

use component::client::{Api, Client, ListParams, WatchEvent, WatchParams};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::{Error, Names};

/// How long a request may wait for its signature before a new one is made; upstream's figure.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Client,
    Server,
}

impl Purpose {
    const fn signer(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Server => "kubernetes.io/kubelet-serving",
        }
    }

    /// Those of a key that cannot encipher: elliptic curves.
    const fn usages(self) -> [&'static str; 2] {
        match self {
            Self::Client => ["digital signature", "client auth"],
            Self::Server => ["digital signature", "server auth"],
        }
    }
}

/// A new key and the certificate for it, both in PEM.
pub(super) async fn certificate(
    client: &Client,
    purpose: Purpose,
    node: &str,
    names: &Names,
) -> Result<(String, String), Error> {
    let key = KeyPair::generate()?;
    let request = params(node, names)?.serialize_request(&key)?.pem()?;
    let api = client.all::<CertificateSigningRequest>();
    let usages = purpose.usages().map(str::to_owned);
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: purpose.signer().to_owned(),
            usages: Some(usages.to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let created = api.create(&request).await?;
    let name = created.metadata.name.unwrap_or_default();
    tracing::info!(csr = name, "Waiting for the certificate to be signed");
    let signed = tokio::time::timeout(PATIENCE, signed(&api, &name)).await;
    let cert = signed.map_err(|_| Error::Unsigned(name))??;
    Ok((cert, key.serialize_pem()))
}

fn params(node: &str, names: &Names) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names.dns.clone())?;
    let ips = names.ips.iter().copied().map(SanType::IpAddress);
    params.subject_alt_names.extend(ips);
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "system:nodes");
    subject.push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name = subject;
    Ok(params)
}

/// Waits for a request's outcome.
async fn signed(api: &Api<CertificateSigningRequest>, name: &str) -> Result<String, Error> {
    let selector = format!("metadata.name={name}");
    loop {
        let params = ListParams {
            field_selector: selector.clone(),
            ..ListParams::default()
        };
        let list = api.list(&params).await?;
        let version = list.resource_version().to_owned();
        if list.items.is_empty() {
            return Err(refused(name, "gone", String::new()));
        }
        for request in &list.items {
            if let Some(cert) = outcome(request, name)? {
                return Ok(cert);
            }
        }
        let mut watch = api
            .watch(&WatchParams {
                field_selector: selector.clone(),
                resource_version: version,
                ..WatchParams::default()
            })
            .await?;
        // However the watch ends, the list tells how things stand.
        while let Some(Ok(event)) = watch.next().await {
            match event {
                WatchEvent::Added(request) | WatchEvent::Modified(request) => {
                    if let Some(cert) = outcome(&request, name)? {
                        return Ok(cert);
                    }
                }
                WatchEvent::Deleted(_) => return Err(refused(name, "gone", String::new())),
                WatchEvent::Bookmark { .. } => {}
            }
        }
        // A server that ends watches at once must not be asked in a circle.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn refused(name: &str, outcome: &'static str, message: String) -> Error {
    Error::Refused {
        name: name.to_owned(),
        outcome,
        message,
    }
}

/// The certificate, once there is one.
fn outcome(request: &CertificateSigningRequest, name: &str) -> Result<Option<String>, Error> {
    let Some(status) = &request.status else {
        return Ok(None);
    };
    let mut approved = false;
    for condition in status.conditions.iter().flatten() {
        let message = || condition.message.clone().unwrap_or_default();
        match condition.type_.as_str() {
            "Denied" => return Err(refused(name, "denied", message())),
            "Failed" => return Err(refused(name, "failed", message())),
            "Approved" => approved = true,
            _ => {}
        }
    }
    let cert = status.certificate.as_ref().filter(|c| !c.0.is_empty());
    Ok(cert
        .filter(|_| approved)
        .map(|cert| String::from_utf8_lossy(&cert.0).into_owned()))
}

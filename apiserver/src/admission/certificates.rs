//! Certificates: who may approve, sign and attest in the name of a signer, and that nobody gets a
//! client certificate of the group that may do everything.
//!
//! Upstream: `plugin/pkg/admission/certificates`, `pkg/certauthorization`.

use proto::catalogue::names as n;
use proto::path::quote;
use proto::{NameId, Value, meta};
use resources::equal::same_at;
use resources::status::Failure;

use super::{Attributes, CREATE, Operation, Plugin, UPDATE, WRITES};
use crate::auth::User;
use crate::auth::service_account::pem_blocks;
use crate::authz::{self, Decision};
use crate::server::Server;

pub(super) const APPROVAL: Plugin = Plugin {
    name: "CertificateApproval",
    on_by_default: true,
    operations: UPDATE,
    validate: Some(|server, write| Box::pin(approval(server, write))),
    ..Plugin::OFF
};

pub(super) const SIGNING: Plugin = Plugin {
    name: "CertificateSigning",
    on_by_default: true,
    operations: UPDATE,
    validate: Some(|server, write| Box::pin(signing(server, write))),
    ..Plugin::OFF
};

pub(super) const ATTEST: Plugin = Plugin {
    name: "ClusterTrustBundleAttest",
    on_by_default: true,
    operations: WRITES,
    validate: Some(|server, write| Box::pin(attest(server, write))),
    ..Plugin::OFF
};

pub(super) const SUBJECT: Plugin = Plugin {
    name: "CertificateSubjectRestriction",
    on_by_default: true,
    operations: CREATE,
    validate: Some(|_, write| Box::pin(std::future::ready(subject(write)))),
    ..Plugin::OFF
};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn signer(object: Option<&Value>) -> &str {
    object
        .and_then(|o| o.at(&[n::SPEC, n::SIGNER_NAME]))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether the user may do this for the signer, by its name or by its domain.
async fn may(server: &Server, write: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    for name in [signer, &domain] {
        let asked = authz::Attributes {
            name,
            ..authz::Attributes::about(write.user, verb, GROUP, "*", "signers")
        };
        if server.authorizers.decide(&asked).await == Decision::Allow {
            return true;
        }
    }
    false
}

async fn approval(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Update
        || write.subresource != "approval"
        || !write.is_any(GROUP, REQUESTS)
    {
        return Ok(());
    }
    // The old request's: a changed one is refused later.
    let signer = signer(write.old);
    if may(server, write, "approve", signer).await {
        return Ok(());
    }
    Err(write.forbid(&format!(
        "user not permitted to approve requests with signerName {}",
        quote(signer)
    )))
}

async fn signing(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Update
        || write.subresource != "status"
        || !write.is_any(GROUP, REQUESTS)
    {
        return Ok(());
    }
    let (Some(old), Some(new)) = (write.old, write.object.as_deref()) else {
        return Ok(());
    };
    let kept = |field: NameId| same_at(old, new, &[n::STATUS, field]);
    let signer = signer(Some(old));
    if kept(n::CERTIFICATE) && kept(n::CONDITIONS) || may(server, write, "sign", signer).await {
        return Ok(());
    }
    Err(write.forbid(&format!(
        "user not permitted to sign requests with signerName {}",
        quote(signer)
    )))
}

async fn attest(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !matches!(write.operation, Operation::Create | Operation::Update)
        || !write.is_any(GROUP, "clustertrustbundles")
    {
        return Ok(());
    }
    let Some(new) = write.object.as_deref() else {
        return Ok(());
    };
    let signer = signer(Some(new));
    if signer.is_empty()
        || write.old.is_some_and(|old| only_collected(new, old))
        || may(server, write, "attest", signer).await
    {
        return Ok(());
    }
    Err(write.forbid(&format!(
        "user not permitted to attest for signerName {}",
        quote(signer)
    )))
}

/// Whether an update changes nothing but what the garbage collector changes.
fn only_collected(new: &Value, old: &Value) -> bool {
    let (mut new, mut old) = (new.clone(), old.clone());
    for object in [&mut new, &mut old] {
        for field in [n::OWNER_REFERENCES, n::FINALIZERS, n::MANAGED_FIELDS] {
            meta::metadata_mut(object).remove(field);
        }
    }
    same_at(&new, &old, &[])
}

fn subject(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Create
        || !write.is(GROUP, REQUESTS)
        || signer(write.object.as_deref()) != CLIENT_SIGNER
    {
        return Ok(());
    }
    let asked = Subject::of(write.object.as_deref())
        .map_err(|why| write.forbid(&format!("failed to parse CSR: {why}")))?;
    if asked.organizations.iter().any(|o| o == User::MASTERS) {
        return Err(write.forbid(&format!(
            "use of {CLIENT_SIGNER} signer with {} group is not allowed",
            User::MASTERS
        )));
    }
    Ok(())
}

/// Whom a certificate request is for.
#[derive(Debug, PartialEq)]
pub(super) struct Subject {
    /// The last common name, as Go's parser takes it.
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

impl Subject {
    /// Of the PEM in `spec.request`.
    ///
    /// # Errors
    /// If there is no certificate request in it.
    pub(super) fn of(object: Option<&Value>) -> Result<Self, String> {
        match object.and_then(|o| o.at(&[n::SPEC, n::REQUEST])) {
            Some(Value::Bytes(pem)) => Self::parse(pem),
            _ => Self::parse(&[]),
        }
    }

    fn parse(pem: &[u8]) -> Result<Self, String> {
        use x509_parser::certification_request::X509CertificationRequest;
        use x509_parser::prelude::FromDer;
        const LABEL: &str = "CERTIFICATE REQUEST";
        let text = std::str::from_utf8(pem).map_err(|e| e.to_string())?;
        let block = pem_blocks(text)
            .into_iter()
            .next()
            .filter(|(label, _)| label == LABEL);
        let (_, der) = block.ok_or_else(|| format!("PEM block type must be {LABEL}"))?;
        let (_, request) = X509CertificationRequest::from_der(&der).map_err(|e| e.to_string())?;
        let subject = &request.certification_request_info.subject;
        let common_name = subject
            .iter_common_name()
            .last()
            .and_then(|cn| cn.as_str().ok());
        let organizations = subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok())
            .map(str::to_owned);
        Ok(Self {
            common_name: common_name.unwrap_or_default().to_owned(),
            organizations: organizations.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_request_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "system:node:a");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:masters");
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let wanted = Subject {
            common_name: "system:node:a".into(),
            organizations: vec!["system:masters".into()],
        };
        assert_eq!(Subject::parse(pem.as_bytes()), Ok(wanted));
        assert!(Subject::parse(b"").is_err());
        assert!(Subject::parse(key.serialize_pem().as_bytes()).is_err());
    }

    #[test]
    fn what_the_garbage_collector_changes_needs_no_attestation() {
        let mut old = Value::object();
        old.set(&[n::SPEC, n::TRUST_BUNDLE], "a");
        let mut new = old.clone();
        meta::add_finalizer(&mut new, "x");
        assert!(only_collected(&new, &old));
        new.set(&[n::SPEC, n::TRUST_BUNDLE], "b");
        assert!(!only_collected(&new, &old));
    }
}

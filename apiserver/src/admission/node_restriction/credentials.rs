//! Tokens and certificates that a node asks for: its own, and those of its pods.

use proto::catalogue::names as n;
use proto::path::quote;
use proto::view::authentication_v1::TokenRequest;
use proto::view::core_v1::{PersistentVolume, Pod, Volume};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};
use resources::status::Failure;

use super::super::certificates::Subject;
use super::super::{Attributes, Operation};
use super::{Verdict, existing, node_of};
use crate::authz::node::references::is_mirror;
use crate::authz::{self, Decision};
use crate::server::Server;

/// In-tree volumes and the drivers that took them over. Upstream: `k8s.io/csi-translation-lib`.
const TAKEN_OVER: [(NameId, &str); 7] = [
    (n::AWS_ELASTIC_BLOCK_STORE, "ebs.csi.aws.com"),
    (n::AZURE_DISK, "disk.csi.azure.com"),
    (n::AZURE_FILE, "file.csi.azure.com"),
    (n::CINDER, "cinder.csi.openstack.org"),
    (n::GCE_PERSISTENT_DISK, "pd.csi.storage.gke.io"),
    (n::PORTWORX_VOLUME, "pxd.portworx.com"),
    (n::VSPHERE_VOLUME, "csi.vsphere.vmware.com"),
];

/// A token must be bound to a pod on the node, and for an audience that the pod has a use for.
pub(super) async fn token(server: &Server, node: &str, write: &Attributes<'_>) -> Verdict {
    let (Operation::Create, Some(request)) = (write.operation, write.object.as_deref()) else {
        return Ok(());
    };
    let spec = TokenRequest::of(Node::new(request)).spec();
    let bound = spec
        .bound_object_ref()
        .filter(|r| r.api_version() == "v1" && r.kind() == "Pod" && !r.name().is_empty());
    let Some(bound) = bound else {
        return Err(write.forbid("node requested token not bound to a pod"));
    };
    if bound.uid().is_empty() {
        return Err(write.forbid("node requested token with a pod binding without a uid"));
    }
    let pod = existing(server, write, bound.name()).await?;
    if meta::uid(&pod) != bound.uid() {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            bound.uid()
        );
        return Err(write.forbid(&why));
    }
    if node_of(&pod) != node {
        return Err(
            write.forbid("node requested token bound to a pod scheduled on a different node")
        );
    }
    if !server
        .config
        .features
        .enabled("ServiceAccountNodeAudienceRestriction")
    {
        return Ok(());
    }
    let audience = match spec.audiences() {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(write.forbid("node may only request 0 or 1 audiences")),
    };
    if uses_audience(server, &pod, audience).await
        || may(
            server,
            write,
            "request-serviceaccounts-token-audience",
            audience,
            write.name,
        )
        .await
    {
        return Ok(());
    }
    let (user, audience) = (&write.user.name, quote(audience));
    Err(write.forbid(&format!(
        "{user} is not authorized to request tokens for audience {audience}"
    )))
}

/// Whether the node's user may do this about an object in the namespace of the write.
async fn may(
    server: &Server,
    write: &Attributes<'_>,
    verb: &str,
    resource: &str,
    name: &str,
) -> bool {
    let about = authz::Attributes::about(
        write.user,
        verb,
        write.resource.group,
        write.resource.version,
        resource,
    );
    let asked = authz::Attributes {
        namespace: write.namespace,
        name,
        ..about
    };
    server.authorizers.decide(&asked).await == Decision::Allow
}

/// Whether a pod projects a token for an audience, or has a volume whose driver wants one.
async fn uses_audience(server: &Server, pod: &Value, audience: &str) -> bool {
    let view = Pod::of(Node::new(pod));
    let mut projected = view
        .spec()
        .volumes()
        .iter()
        .filter_map(|v| v.projected())
        .flat_map(|p| p.sources().iter());
    if projected.any(|s| {
        s.service_account_token()
            .is_some_and(|t| t.audience() == audience)
    }) {
        return true;
    }
    for volume in view.spec().volumes() {
        let Some(driver) = driver(server, pod, volume).await else {
            continue;
        };
        // A driver that is not there wants nothing.
        let found = server
            .lookup("storage.k8s.io", "csidrivers", "", &driver)
            .await
            .ok()
            .flatten();
        let requests = found
            .as_ref()
            .and_then(|d| d.at(&[n::SPEC, n::TOKEN_REQUESTS]))
            .and_then(Value::as_list);
        let wants = |r: &Value| {
            r.get(n::AUDIENCE)
                .and_then(Value::as_str)
                .unwrap_or_default()
                == audience
        };
        if requests.is_some_and(|all| all.iter().any(wants)) {
            return true;
        }
    }
    false
}

/// The driver of a volume, if it has one.
async fn driver(server: &Server, pod: &Value, volume: Volume<'_>) -> Option<String> {
    if let Some(csi) = volume.csi() {
        return Some(csi.driver().to_owned());
    }
    let claim = match (volume.persistent_volume_claim(), volume.ephemeral()) {
        (Some(claim), _) => claim.claim_name().to_owned(),
        (None, Some(_)) => format!("{}-{}", meta::name(pod), volume.name()),
        (None, None) => return taken_over(volume.node()),
    };
    let claim = server
        .lookup("", "persistentvolumeclaims", meta::namespace(pod), &claim)
        .await
        .ok()??;
    let name = claim
        .at(&[n::SPEC, n::VOLUME_NAME])
        .and_then(Value::as_str)?;
    let pv = server
        .lookup("", "persistentvolumes", "", name)
        .await
        .ok()??;
    let spec = PersistentVolume::of(Node::new(&pv)).spec();
    spec.csi()
        .map(|csi| csi.driver().to_owned())
        .or_else(|| taken_over(spec.node()))
}

fn taken_over(source: Node<'_>) -> Option<String> {
    TAKEN_OVER
        .iter()
        .find(|(field, _)| source.get(*field).is_some())
        .map(|(_, driver)| (*driver).to_owned())
}

/// A certificate for a pod: everything in the request is what the cluster knows of the pod, and the
/// pod mounts a certificate of that signer.
pub(super) async fn pod_certificate(
    server: &Server,
    node: &str,
    write: &Attributes<'_>,
) -> Verdict {
    if !server.config.features.enabled("PodCertificateRequest") {
        return Err(write.forbid("PodCertificateRequest feature gate is disabled"));
    }
    let (Operation::Create, Some(request)) = (write.operation, write.object.as_deref()) else {
        return Err(write.forbid(&format!("unexpected operation {}", write.operation.text())));
    };
    if !write.subresource.is_empty() {
        return Err(write.forbid(&format!("unexpected subresource {}", write.subresource)));
    }
    let of = |name: NameId| {
        request
            .at(&[n::SPEC, name])
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if of(n::NODE_NAME) != node {
        let why = format!(
            "PodCertificateRequest.Spec.NodeName={}, which is not the requesting node {}",
            quote(of(n::NODE_NAME)),
            quote(node)
        );
        return Err(write.forbid(&why));
    }
    let pod_key = quote(&write.key(of(n::POD_NAME)));
    known(server, ("nodes", "", node), of(n::NODE_UID), "node").await?;
    let pod = known(
        server,
        ("pods", write.namespace, of(n::POD_NAME)),
        of(n::POD_UID),
        "pod",
    )
    .await?;
    if node_of(&pod) != node {
        let why = format!(
            "pod {pod_key} is not running on node {} named in the PodCertificateRequest",
            quote(node)
        );
        return Err(write.forbid(&why));
    }
    if is_mirror(&pod) {
        return Err(write.forbid(&format!("pod {pod_key} is a mirror pod")));
    }
    let (asked, runs_as) = (
        of(n::SERVICE_ACCOUNT_NAME),
        Pod::of(Node::new(&pod)).spec().service_account_name(),
    );
    if asked != runs_as {
        let (asked, runs_as) = (quote(asked), quote(runs_as));
        let why = format!(
            "PodCertificateRequest for pod {pod_key} contains serviceAccountName ({asked}) that differs from running pod ({runs_as})"
        );
        return Err(write.forbid(&why));
    }
    known(
        server,
        ("serviceaccounts", write.namespace, asked),
        of(n::SERVICE_ACCOUNT_UID),
        "service account",
    )
    .await?;
    let signer = of(n::SIGNER_NAME);
    // Rules of access cannot name what has a slash.
    let resource = signer.replace('/', ":");
    if mounts_certificate(&pod, signer)
        || may(
            server,
            write,
            "request-serviceaccounts-podcertificate-signer",
            &resource,
            asked,
        )
        .await
    {
        return Ok(());
    }
    let why = format!(
        "pod {pod_key} does not mount a podCertificate projected volume for signer {}",
        quote(signer)
    );
    Err(write.forbid(&why))
}

/// An object of the core group with the UID that the request says. The cache may lag behind: what
/// differs is an error that a client tries again after, not a refusal.
async fn known(
    server: &Server,
    (resource, namespace, name): (&str, &str, &str),
    uid: &str,
    what: &str,
) -> Result<Value, Failure> {
    let found = server.lookup("", resource, namespace, name).await?;
    let found = found.ok_or_else(|| Failure::not_found("", resource, name))?;
    if meta::uid(&found) == uid {
        return Ok(found);
    }
    let (asked, have) = (quote(uid), quote(meta::uid(&found)));
    Err(Failure::internal(format!(
        "PodCertificateRequest names {what} UID {asked}, inconsistent with the running {what} ({have})"
    )))
}

fn mounts_certificate(pod: &Value, signer: &str) -> bool {
    let volumes = Pod::of(Node::new(pod)).spec().volumes();
    let mut sources = volumes
        .iter()
        .filter_map(|v| v.projected())
        .flat_map(|p| p.sources().iter());
    sources.any(|s| {
        s.pod_certificate()
            .is_some_and(|c| c.signer_name() == signer)
    })
}

/// A node's own certificates are in its own name.
pub(super) fn signing_request(node: &str, write: &Attributes<'_>) -> Result<(), String> {
    let (Operation::Create, Some(request)) = (write.operation, write.object.as_deref()) else {
        return Ok(());
    };
    let signer = request
        .at(&[n::SPEC, n::SIGNER_NAME])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(
        signer,
        "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
    ) {
        return Ok(());
    }
    let subject =
        Subject::of(Some(request)).map_err(|why| format!("unable to parse csr: {why}"))?;
    if subject.common_name != format!("system:node:{node}") {
        return Err(format!(
            "can only create a node CSR with CN=system:node:{node}"
        ));
    }
    Ok(())
}

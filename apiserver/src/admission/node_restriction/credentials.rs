//! Tokens and certificates that a node asks for: its own, and those of its pods.

use proto::catalogue::names as n;
use proto::path::quote;
use proto::view::authentication_v1::TokenRequest;
use proto::view::core_v1::{PersistentVolume, Pod, ProjectedVolumeSource, Volume};
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
    let used = uses_audience(server, &pod, audience).await;
    let used = used.map_err(|why| {
        let audience = quote(audience);
        write.forbid(&format!("error validating audience {audience}: {why}"))
    })?;
    let verb = "request-serviceaccounts-token-audience";
    if used || may(server, write, verb, audience, write.name).await {
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
///
/// # Errors
/// If it is not found, but something that a volume refers to is not there, either.
async fn uses_audience(server: &Server, pod: &Value, audience: &str) -> Result<bool, String> {
    let mut missing = Vec::new();
    for volume in Pod::of(Node::new(pod)).spec().volumes() {
        let projects = |projected: ProjectedVolumeSource<'_>| {
            let mut tokens =
                { projected.sources().iter() }.filter_map(|source| source.service_account_token());
            tokens.any(|token| token.audience() == audience)
        };
        if volume.projected().is_some_and(projects) {
            return Ok(true);
        }
        match wants(server, pod, volume, audience).await {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(failure) => missing.push(failure.message().to_owned()),
        }
    }
    if missing.is_empty() {
        Ok(false)
    } else {
        Err(proto::path::aggregate(&missing))
    }
}

/// Whether the driver of a volume wants tokens for an audience.
async fn wants(
    server: &Server,
    pod: &Value,
    volume: Volume<'_>,
    audience: &str,
) -> Result<bool, Failure> {
    let Some(name) = driver(server, pod, volume).await? else {
        return Ok(false);
    };
    let group = "storage.k8s.io";
    let driver = server.lookup(group, "csidrivers", "", &name).await?;
    let driver = driver.ok_or_else(|| Failure::not_found(group, "csidriver", &name))?;
    let requests = driver.at(&[n::SPEC, n::TOKEN_REQUESTS]);
    let requests = requests.and_then(Value::as_list).unwrap_or_default();
    let of = |request: &Value| {
        let audience = request.get(n::AUDIENCE).and_then(Value::as_str);
        audience.unwrap_or_default().to_owned()
    };
    Ok(requests.iter().any(|request| of(request) == audience))
}

/// The driver of a volume, if it has one.
async fn driver(
    server: &Server,
    pod: &Value,
    volume: Volume<'_>,
) -> Result<Option<String>, Failure> {
    if let Some(csi) = volume.csi() {
        return Ok(Some(csi.driver().to_owned()));
    }
    let name = match (volume.persistent_volume_claim(), volume.ephemeral()) {
        (Some(claim), _) => claim.claim_name().to_owned(),
        (None, Some(_)) => format!("{}-{}", meta::name(pod), volume.name()),
        (None, None) => return Ok(taken_over(volume.node())),
    };
    let namespace = meta::namespace(pod);
    let claim = server.lookup("", "persistentvolumeclaims", namespace, &name);
    let missing = || Failure::not_found("", "persistentvolumeclaim", &name);
    let claim = claim.await?.ok_or_else(missing)?;
    let name = claim.at(&[n::SPEC, n::VOLUME_NAME]).and_then(Value::as_str);
    let name = name.unwrap_or_default();
    let missing = || Failure::not_found("", "persistentvolume", name);
    let volume = match name {
        "" => None,
        name => server.lookup("", "persistentvolumes", "", name).await?,
    };
    let volume = volume.ok_or_else(missing)?;
    let spec = PersistentVolume::of(Node::new(&volume)).spec();
    let own = spec.csi().map(|csi| csi.driver().to_owned());
    Ok(own.or_else(|| taken_over(spec.node())))
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
    if write.operation != Operation::Create {
        return Err(write.forbid(&format!("unexpected operation {}", write.operation.text())));
    }
    if !write.subresource.is_empty() {
        return Err(write.forbid(&format!("unexpected subresource {}", write.subresource)));
    }
    let of = |name: NameId| of(write, name);
    if of(n::NODE_NAME) != node {
        let why = format!(
            "PodCertificateRequest.Spec.NodeName={}, which is not the requesting node {}",
            quote(of(n::NODE_NAME)),
            quote(node)
        );
        return Err(write.forbid(&why));
    }
    let pod_key = quote(&write.key(of(n::POD_NAME)));
    let found = named(server, ("nodes", "", node), "node").await?;
    let (asked, have) = (of(n::NODE_UID), meta::uid(&found));
    if asked != have {
        let (asked, have) = (quote(asked), quote(have));
        return Err(again(format!(
            "PodCertificateRequest for pod {pod_key} names node UID {asked}, inconsistent with the running node ({have})"
        )));
    }
    let pod = running(server, node, write, &pod_key).await?;
    account(server, write, &pod, &pod_key).await?;
    let signer = of(n::SIGNER_NAME);
    // Rules of access cannot name what has a slash.
    let resource = signer.replace('/', ":");
    if mounts_certificate(&pod, signer)
        || may(
            server,
            write,
            "request-serviceaccounts-podcertificate-signer",
            &resource,
            of(n::SERVICE_ACCOUNT_NAME),
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

/// The pod that a request for a certificate is for: it runs on the node, and not on the node's own
/// account.
async fn running(
    server: &Server,
    node: &str,
    write: &Attributes<'_>,
    pod_key: &str,
) -> Result<Value, Failure> {
    let at = ("pods", write.namespace, of(write, n::POD_NAME));
    let pod = named(server, at, "pod").await?;
    let (asked, have) = (of(write, n::POD_UID), meta::uid(&pod));
    if asked != have {
        let (asked, have) = (quote(asked), quote(have));
        return Err(again(format!(
            "PodCertificateRequest for pod {pod_key} contains pod UID ({asked}) which differs from running pod {have}"
        )));
    }
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
    Ok(pod)
}

/// The account that the request names is the pod's.
async fn account(
    server: &Server,
    write: &Attributes<'_>,
    pod: &Value,
    pod_key: &str,
) -> Result<(), Failure> {
    let name = of(write, n::SERVICE_ACCOUNT_NAME);
    let runs_as = Pod::of(Node::new(pod)).spec().service_account_name();
    if name != runs_as {
        let (asked, runs_as) = (quote(name), quote(runs_as));
        let why = format!(
            "PodCertificateRequest for pod {pod_key} contains serviceAccountName ({asked}) that differs from running pod ({runs_as})"
        );
        return Err(write.forbid(&why));
    }
    let at = ("serviceaccounts", write.namespace, name);
    let account = named(server, at, "service account").await?;
    let (asked, have) = (of(write, n::SERVICE_ACCOUNT_UID), meta::uid(&account));
    if asked != have {
        let (asked, have) = (quote(asked), quote(have));
        return Err(again(format!(
            "PodCertificateRequest for pod {pod_key} names service account UID {asked}, which differs from the running service account ({have})"
        )));
    }
    Ok(())
}

/// A text in the spec of the object of a write.
fn of<'a>(write: &'a Attributes<'_>, name: NameId) -> &'a str {
    let object = write.object.as_deref();
    let text = object.and_then(|o| o.at(&[n::SPEC, name])?.as_str());
    text.unwrap_or_default()
}

/// An object that a request for a certificate names. The cache may lag behind: what is not there, or is
/// another one, is an error that a client tries again after, not a refusal.
async fn named(
    server: &Server,
    (resource, namespace, name): (&str, &str, &str),
    what: &str,
) -> Result<Value, Failure> {
    let found = server.lookup("", resource, namespace, name).await?;
    found.ok_or_else(|| {
        let shown = match namespace {
            "" => quote(name),
            namespace => quote(&format!("{namespace}/{name}")),
        };
        // Upstream's listers name what they do not find by the singular.
        let singular = Failure::not_found("", resource.trim_end_matches('s'), name);
        let why = singular.message();
        again(format!(
            "while retrieving {what} {shown} named in the PodCertificateRequest: {why}"
        ))
    })
}

fn again(why: String) -> Failure {
    Failure::new(500, "", why)
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

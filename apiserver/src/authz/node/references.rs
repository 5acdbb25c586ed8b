//! What a pod or a volume refers to, by name.
//!
//! Upstream: `VisitPodSecretNames`, `VisitPodConfigmapNames` and `HasAPIObjectReference` of
//! `pkg/api/pod`, `VisitPVSecretNames` of `pkg/api/persistentvolume`.

use proto::catalogue::names as n;
use proto::view::core_v1::{
    Container, EnvFromSource, EnvVar, EphemeralContainer, PersistentVolume, Pod, PodSpec, Volume,
    VolumeProjection,
};
use proto::view::{List, Node, View};
use proto::{NameId, Value, meta};

/// Marks a pod that a kubelet made for a file of its own.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod only shows what runs on a node anyway.
#[must_use]
pub fn is_mirror(pod: &Value) -> bool {
    meta::annotations(pod).contains(MIRROR)
}

/// What a container takes its environment from.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The container's name.
    pub name: &'a str,
    pub env: List<'a, EnvVar<'a>>,
    pub from: List<'a, EnvFromSource<'a>>,
}

impl<'a> From<Container<'a>> for Environment<'a> {
    fn from(c: Container<'a>) -> Self {
        Self {
            name: c.name(),
            env: c.env(),
            from: c.env_from(),
        }
    }
}

impl<'a> From<EphemeralContainer<'a>> for Environment<'a> {
    fn from(c: EphemeralContainer<'a>) -> Self {
        Self {
            name: c.name(),
            env: c.env(),
            from: c.env_from(),
        }
    }
}

/// The containers of all three kinds.
pub fn environments<'a>(spec: PodSpec<'a>) -> impl Iterator<Item = Environment<'a>> {
    let usual = spec
        .init_containers()
        .iter()
        .chain(spec.containers().iter())
        .map(Environment::from);
    usual.chain(spec.ephemeral_containers().iter().map(Environment::from))
}

/// The name in a reference below a node.
fn named<'a>(node: Node<'a>, reference: NameId) -> &'a str {
    node.get(reference)
        .and_then(|r| r.get(n::NAME))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn from_environment<'a>(
    spec: PodSpec<'a>,
    key_ref: NameId,
    env_ref: NameId,
) -> impl Iterator<Item = &'a str> {
    environments(spec).flat_map(move |c| {
        let single = c
            .env
            .iter()
            .filter_map(|e| e.value_from())
            .map(move |from| named(from.node(), key_ref));
        single.chain(c.from.iter().map(move |from| named(from.node(), env_ref)))
    })
}

/// The secrets that a pod uses.
pub fn secrets<'a>(spec: PodSpec<'a>) -> impl Iterator<Item = &'a str> {
    let pulled = spec.image_pull_secrets().iter().map(|s| s.name());
    let volumes = spec.volumes().iter().flat_map(|v| {
        let projected = v
            .projected()
            .into_iter()
            .flat_map(|p| p.sources().iter())
            .map(|s| named(s.node(), n::SECRET));
        projected.chain(std::iter::once(volume_secret(v)))
    });
    pulled
        .chain(from_environment(spec, n::SECRET_KEY_REF, n::SECRET_REF))
        .chain(volumes)
        .filter(|name| !name.is_empty())
}

fn volume_secret(v: Volume<'_>) -> &str {
    const BY_SECRET_REF: [NameId; 7] = [
        n::CEPHFS,
        n::CINDER,
        n::FLEX_VOLUME,
        n::RBD,
        n::SCALE_IO,
        n::ISCSI,
        n::STORAGEOS,
    ];
    if let Some(secret) = v.secret() {
        return secret.secret_name();
    }
    if let Some(file) = v.azure_file() {
        return file.secret_name();
    }
    if let Some(csi) = v.csi() {
        return named(csi.node(), n::NODE_PUBLISH_SECRET_REF);
    }
    let source = BY_SECRET_REF.iter().find_map(|name| v.node().get(*name));
    source
        .map(|s| named(Node::new(s), n::SECRET_REF))
        .unwrap_or_default()
}

/// The config maps that a pod uses.
pub fn config_maps<'a>(spec: PodSpec<'a>) -> impl Iterator<Item = &'a str> {
    let volumes = spec.volumes().iter().flat_map(|v| {
        let projected = v
            .projected()
            .into_iter()
            .flat_map(|p| p.sources().iter())
            .map(|s| named(s.node(), n::CONFIG_MAP));
        projected.chain(std::iter::once(named(v.node(), n::CONFIG_MAP)))
    });
    from_environment(spec, n::CONFIG_MAP_KEY_REF, n::CONFIG_MAP_REF)
        .chain(volumes)
        .filter(|name| !name.is_empty())
}

/// The claims that a pod mounts; one for an ephemeral volume is named after pod and volume.
pub fn claims<'a>(pod: Pod<'a>) -> impl Iterator<Item = String> + 'a {
    let name = pod.metadata().name();
    pod.spec()
        .volumes()
        .iter()
        .filter_map(move |v| claim(name, v))
}

fn claim(pod: &str, v: Volume<'_>) -> Option<String> {
    match v.persistent_volume_claim() {
        Some(claim) => Some(claim.claim_name().to_owned()).filter(|c| !c.is_empty()),
        None => v.ephemeral().map(|_| format!("{pod}-{}", v.name())),
    }
}

/// The resource claims that a pod has: named in its spec, or made for it and named in its status.
pub fn resource_claims<'a>(pod: Pod<'a>) -> impl Iterator<Item = &'a str> {
    let status = pod.status();
    let own = pod
        .spec()
        .resource_claims()
        .iter()
        .filter_map(move |wanted| match wanted.resource_claim_name() {
            Some(name) => Some(name),
            None => status
                .resource_claim_statuses()
                .iter()
                .find(|s| s.name() == wanted.name())?
                .resource_claim_name(),
        });
    let extended = status
        .extended_resource_claim_status()
        .into_iter()
        .map(|s| s.resource_claim_name());
    own.chain(extended).filter(|name| !name.is_empty())
}

/// The secrets of a volume that kubelets must see, as namespace and name; `claim` is the namespace of
/// the claim that it is bound to.
#[must_use]
pub fn volume_secrets<'a>(pv: PersistentVolume<'a>, claim: &'a str) -> Vec<(&'a str, &'a str)> {
    let spec = pv.spec().node();
    if let Some(file) = spec.get(n::AZURE_FILE).map(Node::new) {
        return found(
            file.str(n::SECRET_NAMESPACE),
            claim,
            file.str(n::SECRET_NAME),
        );
    }
    if let Some(csi) = spec.get(n::CSI).map(Node::new) {
        let seen = [
            n::NODE_PUBLISH_SECRET_REF,
            n::NODE_STAGE_SECRET_REF,
            n::NODE_EXPAND_SECRET_REF,
        ];
        return seen
            .iter()
            .filter_map(|name| csi.get(*name))
            .flat_map(|r| reference(r, claim))
            .collect();
    }
    let sources = [
        n::CEPHFS,
        n::CINDER,
        n::FLEX_VOLUME,
        n::RBD,
        n::SCALE_IO,
        n::ISCSI,
        n::STORAGEOS,
    ];
    let secret = sources
        .iter()
        .find_map(|name| spec.get(*name))
        .and_then(|s| s.get(n::SECRET_REF));
    secret.map(|r| reference(r, claim)).unwrap_or_default()
}

fn reference<'a>(r: &'a Value, claim: &'a str) -> Vec<(&'a str, &'a str)> {
    let r = Node::new(r);
    found(r.str(n::NAMESPACE), claim, r.str(n::NAME))
}

fn found<'a>(namespace: &'a str, claim: &'a str, name: &'a str) -> Vec<(&'a str, &'a str)> {
    if name.is_empty() {
        return Vec::new();
    }
    vec![(
        if namespace.is_empty() {
            claim
        } else {
            namespace
        },
        name,
    )]
}

/// The first kind of API object that a pod refers to, in the words of a refusal.
///
/// # Errors
/// If a volume is of no kind that is known here: it may refer to anything.
pub fn api_object(spec: PodSpec<'_>) -> Result<Option<&'static str>, String> {
    if !spec.service_account_name().is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if secrets(spec).next().is_some() {
        return Ok(Some("secrets"));
    }
    if config_maps(spec).next().is_some() {
        return Ok(Some("configmaps"));
    }
    if !spec.resource_claims().is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for v in spec.volumes() {
        if let Some(what) = volume_object(v)? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn volume_object(v: Volume<'_>) -> Result<Option<&'static str>, String> {
    const HARMLESS: [NameId; 22] = [
        n::AWS_ELASTIC_BLOCK_STORE,
        n::AZURE_DISK,
        n::CEPHFS,
        n::CINDER,
        n::DOWNWARD_API,
        n::EMPTY_DIR,
        n::FC,
        n::FLEX_VOLUME,
        n::FLOCKER,
        n::GCE_PERSISTENT_DISK,
        n::GIT_REPO,
        n::HOST_PATH,
        n::IMAGE,
        n::ISCSI,
        n::NFS,
        n::PHOTON_PERSISTENT_DISK,
        n::PORTWORX_VOLUME,
        n::QUOBYTE,
        n::RBD,
        n::SCALE_IO,
        n::STORAGEOS,
        n::VSPHERE_VOLUME,
    ];
    const OBJECTS: [(NameId, &str); 7] = [
        (n::CONFIG_MAP, "configmaps (via configmap volumes)"),
        (n::SECRET, "secrets (via secret volumes)"),
        (n::CSI, "csidrivers (via CSI volumes)"),
        (n::GLUSTERFS, "endpoints (via glusterFS volumes)"),
        (n::PERSISTENT_VOLUME_CLAIM, "persistentvolumeclaims"),
        (
            n::EPHEMERAL,
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (n::AZURE_FILE, "secrets (via azureFile volumes)"),
    ];
    if HARMLESS.iter().any(|name| v.node().get(*name).is_some()) {
        return Ok(None);
    }
    if let Some((_, what)) = OBJECTS
        .iter()
        .find(|(name, _)| v.node().get(*name).is_some())
    {
        return Ok(Some(what));
    }
    let projected = v.projected().ok_or_else(|| {
        format!(
            "unknown volume type for volume  {}",
            proto::path::quote(v.name())
        )
    })?;
    for source in projected.sources() {
        if let Some(what) = projected_object(v, source)? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn projected_object(
    v: Volume<'_>,
    source: VolumeProjection<'_>,
) -> Result<Option<&'static str>, String> {
    const OBJECTS: [(NameId, &str); 5] = [
        (n::CONFIG_MAP, "configmaps (via projected volumes)"),
        (n::SECRET, "secrets (via projected volumes)"),
        (
            n::SERVICE_ACCOUNT_TOKEN,
            "serviceaccounts (via projected volumes)",
        ),
        (n::CLUSTER_TRUST_BUNDLE, "clustertrustbundles"),
        (n::POD_CERTIFICATE, "podcertificates"),
    ];
    match OBJECTS
        .iter()
        .find(|(name, _)| source.node().get(*name).is_some())
    {
        Some((_, what)) => Ok(Some(what)),
        None if source.downward_api().is_some() => Ok(None),
        None => Err(format!(
            "unknown source for projected volume {}",
            proto::path::quote(v.name())
        )),
    }
}

//! What a pod's volumes are to hold. Pure.
//!
//! configMap, secret, downwardAPI and projected volumes are one thing here: files from sources.

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection, PodSpec, Volume,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::claim::{Claimed, Uses};
use super::{Allocatable, TrustBundles};

/// A volume to be made.
#[derive(Clone, Debug)]
pub struct Planned {
    pub name: String,
    pub source: Source,
}

/// What a volume is made from.
#[derive(Clone, Debug)]
pub enum Source {
    EmptyDir(Medium),
    HostPath {
        path: String,
        kind: String,
    },
    Files(Files),
    /// The persistent volume that a claim is bound to.
    Claim(Claimed),
    /// An image, mounted by whoever pulls images.
    Image {
        reference: String,
        pull_policy: String,
    },
}

/// Where an empty directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    /// A tmpfs of at most so many bytes.
    Memory {
        size: Option<u64>,
    },
    /// A hugetlbfs with pages of so many bytes.
    HugePages {
        page_size: u64,
    },
}

/// Files that the kubelet writes and keeps up to date.
#[derive(Clone, Debug)]
pub struct Files {
    /// Upstream's name of the plugin, for the directory.
    pub plugin: &'static str,
    /// On a tmpfs, because it may hold secrets.
    pub in_memory: bool,
    pub default_mode: u32,
    /// The later wins where two give the same file.
    pub sources: Vec<FileSource>,
}

#[derive(Clone, Debug)]
pub enum FileSource {
    ConfigMap(Keys),
    Secret(Keys),
    DownwardApi(Vec<DownwardAPIVolumeFile>),
    Token {
        audience: String,
        expiration_seconds: Option<i64>,
        path: String,
    },
    Trust {
        bundles: TrustBundles,
        allow_empty: bool,
        path: String,
    },
    Certificate {
        /// Which of the volume's sources it is, from zero.
        source: usize,
        projection: Box<PodCertificateProjection>,
    },
}

/// Which keys of an object become which files.
#[derive(Clone, Debug)]
pub struct Keys {
    pub name: String,
    /// All, each under its own name, if empty.
    pub items: Vec<KeyToPath>,
    /// Neither the object nor a key has to be there.
    pub optional: bool,
}

/// Why a volume cannot be made at all.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("{0} volumes are not supported by this kubelet yet")]
    Unsupported(&'static str),
    #[error("no volume plugin matched")]
    Unknown,
    #[error("unknown storage medium {0:?}")]
    Medium(String),
    #[error(
        "medium {0}: hugePages storage requested, but there is no resource request for huge pages"
    )]
    NoHugePages(String),
    #[error("medium: {0} can't be used if container requests multiple huge page sizes")]
    SeveralPageSizes(String),
    #[error("ClusterTrustBundle projection requires either name or signerName to be set")]
    TrustBundle,
}

/// The volumes of a pod that its containers use, in its order, or why one cannot be.
pub fn plan(pod: &Pod, allocatable: &Allocatable) -> Vec<(String, Result<Planned, Error>)> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let uses = Uses::of(spec);
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter(|volume| uses.contains(&volume.name))
        .map(|volume| {
            let source = match claimed(volume, pod, &uses) {
                Some(claimed) => Ok(Source::Claim(claimed)),
                None => source(volume, spec, allocatable),
            };
            let name = volume.name.clone();
            (name.clone(), source.map(|source| Planned { name, source }))
        })
        .collect()
}

/// The claim that a volume names. That of an ephemeral volume is called after pod and volume.
fn claimed(volume: &Volume, pod: &Pod, uses: &Uses) -> Option<Claimed> {
    let named = volume.persistent_volume_claim.as_ref();
    let claim = match (named, &volume.ephemeral) {
        (Some(named), _) => named.claim_name.clone(),
        (None, Some(_)) => {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            format!("{pod}-{}", volume.name)
        }
        (None, None) => return None,
    };
    Some(Claimed {
        claim,
        read_only: named.and_then(|named| named.read_only).unwrap_or_default(),
        ephemeral: named.is_none(),
        mounted: uses.mounts.contains(&volume.name),
        mapped: uses.devices.contains(&volume.name),
    })
}

fn source(volume: &Volume, spec: &PodSpec, allocatable: &Allocatable) -> Result<Source, Error> {
    if let Some(dir) = &volume.empty_dir {
        let medium = dir.medium.as_deref().unwrap_or_default();
        return self::medium(medium, dir.size_limit.as_ref(), spec, allocatable)
            .map(Source::EmptyDir);
    }
    if let Some(host) = &volume.host_path {
        let kind = host.type_.clone().unwrap_or_default();
        return Ok(Source::HostPath {
            path: host.path.clone(),
            kind,
        });
    }
    if let Some(image) = &volume.image {
        return Ok(Source::Image {
            reference: image.reference.clone().unwrap_or_default(),
            pull_policy: image.pull_policy.clone().unwrap_or_default(),
        });
    }
    if let Some(files) = files(volume)? {
        return Ok(Source::Files(files));
    }
    Err(unsupported(volume))
}

fn files(volume: &Volume) -> Result<Option<Files>, Error> {
    const DEFAULT_MODE: i32 = 0o644;
    let keys = |name: &str, items: &Option<Vec<KeyToPath>>, optional: Option<bool>| Keys {
        name: name.to_owned(),
        items: items.clone().unwrap_or_default(),
        optional: optional.unwrap_or_default(),
    };
    let (plugin, in_memory, mode, sources) = if let Some(map) = &volume.config_map {
        let keys = keys(&map.name, &map.items, map.optional);
        (
            "kubernetes.io~configmap",
            false,
            map.default_mode,
            vec![FileSource::ConfigMap(keys)],
        )
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let keys = keys(name, &secret.items, secret.optional);
        (
            "kubernetes.io~secret",
            true,
            secret.default_mode,
            vec![FileSource::Secret(keys)],
        )
    } else if let Some(downward) = &volume.downward_api {
        let items = downward.items.clone().unwrap_or_default();
        let sources = vec![FileSource::DownwardApi(items)];
        (
            "kubernetes.io~downward-api",
            true,
            downward.default_mode,
            sources,
        )
    } else if let Some(projected) = &volume.projected {
        let sources = projected.sources.iter().flatten();
        let sources = sources
            .enumerate()
            .filter_map(|(index, source)| projection(index, source).transpose())
            .collect::<Result<_, _>>()?;
        (
            "kubernetes.io~projected",
            true,
            projected.default_mode,
            sources,
        )
    } else {
        return Ok(None);
    };
    let default_mode = mode.unwrap_or(DEFAULT_MODE) as u32 & 0o7777;
    Ok(Some(Files {
        plugin,
        in_memory,
        default_mode,
        sources,
    }))
}

fn projection(index: usize, source: &VolumeProjection) -> Result<Option<FileSource>, Error> {
    let keys = |name: &str, items: &Option<Vec<KeyToPath>>, optional: Option<bool>| Keys {
        name: name.to_owned(),
        items: items.clone().unwrap_or_default(),
        optional: optional.unwrap_or_default(),
    };
    Ok(if let Some(map) = &source.config_map {
        Some(FileSource::ConfigMap(keys(
            &map.name,
            &map.items,
            map.optional,
        )))
    } else if let Some(secret) = &source.secret {
        Some(FileSource::Secret(keys(
            &secret.name,
            &secret.items,
            secret.optional,
        )))
    } else if let Some(downward) = &source.downward_api {
        Some(FileSource::DownwardApi(
            downward.items.clone().unwrap_or_default(),
        ))
    } else if let Some(token) = &source.service_account_token {
        Some(FileSource::Token {
            audience: token.audience.clone().unwrap_or_default(),
            expiration_seconds: token.expiration_seconds,
            path: token.path.clone(),
        })
    } else if let Some(trust) = &source.cluster_trust_bundle {
        let bundles = match (&trust.name, &trust.signer_name) {
            (Some(name), _) => TrustBundles::Named(name.clone()),
            (None, Some(signer)) => TrustBundles::Signed {
                signer: signer.clone(),
                selector: trust.label_selector.clone(),
            },
            (None, None) => return Err(Error::TrustBundle),
        };
        let allow_empty = trust.optional.unwrap_or_default();
        Some(FileSource::Trust {
            bundles,
            allow_empty,
            path: trust.path.clone(),
        })
    } else {
        let projection = source.pod_certificate.clone().map(Box::new);
        projection.map(|projection| FileSource::Certificate {
            source: index,
            projection,
        })
    })
}

fn unsupported(volume: &Volume) -> Error {
    let kinds = [
        ("csi", volume.csi.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
    ];
    match kinds.iter().find(|(_, there)| *there) {
        Some((kind, _)) => Error::Unsupported(kind),
        // What upstream no longer has either; gitRepo ran what a pod told it to, as root.
        None => Error::Unknown,
    }
}

fn medium(
    medium: &str,
    size_limit: Option<&Quantity>,
    spec: &PodSpec,
    allocatable: &Allocatable,
) -> Result<Medium, Error> {
    match medium {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory {
            size: memory_size(size_limit, spec, allocatable),
        }),
        "HugePages" => {
            let mut sizes = page_sizes(spec);
            sizes.sort_unstable();
            sizes.dedup();
            match sizes[..] {
                [] => Err(Error::NoHugePages(medium.to_owned())),
                [page_size] => Ok(Medium::HugePages { page_size }),
                _ => Err(Error::SeveralPageSizes(medium.to_owned())),
            }
        }
        _ => {
            let size = medium.strip_prefix("HugePages-").and_then(number);
            let page_size = size.ok_or_else(|| Error::Medium(medium.to_owned()))?;
            match page_sizes(spec).contains(&page_size) {
                true => Ok(Medium::HugePages { page_size }),
                false => Err(Error::NoHugePages(medium.to_owned())),
            }
        }
    }
}

/// The smallest of what the node has, what the pod may use and what the volume asks for.
fn memory_size(
    size_limit: Option<&Quantity>,
    spec: &PodSpec,
    allocatable: &Allocatable,
) -> Option<u64> {
    let node = allocatable
        .get("memory")
        .and_then(|quantity| number(&quantity.0));
    let own = size_limit.and_then(|quantity| number(&quantity.0));
    [node, memory_limit(spec), own]
        .into_iter()
        .flatten()
        .filter(|size| *size > 0)
        .min()
}

/// The memory limit of the whole pod, if it has one: that of its cgroup.
fn memory_limit(spec: &PodSpec) -> Option<u64> {
    let of = |resources: Option<&k8s_openapi::api::core::v1::ResourceRequirements>| {
        number(&resources?.limits.as_ref()?.get("memory")?.0)
    };
    if let Some(limit) = of(spec.resources.as_ref()) {
        return Some(limit);
    }
    let limit = |container: &Container| of(container.resources.as_ref());
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let main: Option<u64> = spec.containers.iter().map(limit).sum();
    let init = spec.init_containers.iter().flatten();
    let sidecars: Option<u64> = init.clone().filter(sidecar).map(limit).sum();
    let (main, sidecars) = (main?, sidecars?);
    let once: Option<Vec<_>> = init.filter(|c| !sidecar(c)).map(limit).collect();
    let largest = once?.into_iter().max().unwrap_or_default();
    Some(sidecars + main.max(largest))
}

fn page_sizes(spec: &PodSpec) -> Vec<u64> {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let resources = containers
        .map(|c| c.resources.as_ref())
        .chain([spec.resources.as_ref()]);
    let names = resources
        .flatten()
        .flat_map(|r| r.requests.iter().chain(&r.limits));
    let names = names.flat_map(|list| list.keys());
    names
        .filter_map(|name| number(name.strip_prefix("hugepages-")?))
        .collect()
}

/// A quantity as whole bytes, rounded up.
fn number(text: &str) -> Option<u64> {
    let quantity: proto::quantity::Quantity = text.parse().ok()?;
    u64::try_from(quantity.value()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(mut spec: serde_json::Value) -> Pod {
        // Volumes that nobody uses are none.
        spec["ephemeralContainers"] = json!([{
            "name": "user", "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        }]);
        let meta = json!({ "name": "p", "namespace": "ns" });
        proto::typed::from_json_value(json!({ "metadata": meta, "spec": spec })).unwrap()
    }

    fn only(spec: serde_json::Value) -> Result<Source, Error> {
        let node = Allocatable::from([("memory".into(), Quantity("1Gi".into()))]);
        plan(&pod(spec), &node)
            .remove(0)
            .1
            .map(|planned| planned.source)
    }

    #[test]
    fn memory_volumes_are_as_large_as_the_smallest_bound() {
        let with = |limits: serde_json::Value, size: serde_json::Value| {
            let spec = json!({
                "containers": [
                    { "name": "a", "resources": { "limits": limits } },
                    { "name": "b", "resources": { "limits": { "memory": "100Mi" } } },
                ],
                "volumes": [{ "name": "v", "emptyDir": { "medium": "Memory", "sizeLimit": size } }],
            });
            match only(spec) {
                Ok(Source::EmptyDir(Medium::Memory { size })) => size.unwrap() >> 20,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with(json!({ "memory": "100Mi" }), json!("64Mi")), 64);
        assert_eq!(with(json!({ "memory": "100Mi" }), json!("2Gi")), 200);
        // One container without a limit, and the pod has none.
        assert_eq!(with(json!({}), json!(null)), 1024);
        assert_eq!(with(json!({}), json!("0")), 1024);
    }

    #[test]
    fn huge_pages_need_a_request_of_their_size() {
        let with = |medium: &str, request: serde_json::Value| {
            only(json!({
                "containers": [{ "name": "a", "resources": { "requests": request } }],
                "volumes": [{ "name": "v", "emptyDir": { "medium": medium } }],
            }))
        };
        let two = json!({ "hugepages-2Mi": "4Mi" });
        let page_size = |r| match r {
            Ok(Source::EmptyDir(Medium::HugePages { page_size })) => Ok(page_size),
            Err(err) => Err(err),
            other => panic!("{other:?}"),
        };
        assert_eq!(page_size(with("HugePages", two.clone())), Ok(2 << 20));
        assert_eq!(page_size(with("HugePages-2Mi", two.clone())), Ok(2 << 20));
        assert!(page_size(with("HugePages-1Gi", two)).is_err());
        assert!(page_size(with("HugePages", json!({}))).is_err());
        assert!(page_size(with("Floppy", json!({}))).is_err());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let nfs = json!({ "name": "v", "nfs": { "server": "s", "path": "/" } });
        let spec = json!({ "containers": [], "volumes": [nfs] });
        assert_eq!(
            only(spec).unwrap_err().to_string(),
            "nfs volumes are not supported by this kubelet yet"
        );
        let git = json!({ "name": "v", "gitRepo": { "repository": "x" } });
        let spec = json!({ "containers": [], "volumes": [git] });
        assert_eq!(only(spec).unwrap_err(), Error::Unknown);
    }
    #[test]
    fn only_volumes_that_containers_use_are_made() {
        let spec = json!({
            "containers": [{
                "name": "c", "volumeDevices": [{ "name": "block", "devicePath": "/dev/b" }],
            }],
            "volumes": [
                { "name": "unused", "emptyDir": {} },
                { "name": "v", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } },
                { "name": "block", "persistentVolumeClaim": { "claimName": "b", "readOnly": true } },
            ],
        });
        let planned = plan(&pod(spec), &Allocatable::new());
        let claims: Vec<_> = planned
            .into_iter()
            .map(|(_, planned)| match planned.unwrap().source {
                Source::Claim(claimed) => claimed,
                other => panic!("{other:?}"),
            })
            .collect();
        let own = Claimed {
            claim: "p-v".into(),
            read_only: false,
            ephemeral: true,
            mounted: true,
            mapped: false,
        };
        let block = Claimed {
            claim: "b".into(),
            read_only: true,
            ephemeral: false,
            mounted: false,
            mapped: true,
        };
        assert_eq!(claims, [own, block]);
    }
}

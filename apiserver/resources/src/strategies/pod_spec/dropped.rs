//! Fields of gates that are off by default in 1.37: new objects lose them, those that have them keep them.
//!
//! Upstream: `DropDisabledPodFields`, `DropDisabledTemplateFields` in `pkg/api/pod/util.go`.

use proto::catalogue::names as n;
use proto::{NameId, Value, meta};

const LISTS: [NameId; 3] = [n::INIT_CONTAINERS, n::CONTAINERS, n::EPHEMERAL_CONTAINERS];
const PROBES: [NameId; 3] = [n::LIVENESS_PROBE, n::READINESS_PROBE, n::STARTUP_PROBE];
const HOOKS: [NameId; 2] = [n::POST_START, n::PRE_STOP];
const PROJECTIONS: [NameId; 6] = [
    n::SECRET,
    n::DOWNWARD_API,
    n::CONFIG_MAP,
    n::SERVICE_ACCOUNT_TOKEN,
    n::CLUSTER_TRUST_BUNDLE,
    n::POD_CERTIFICATE,
];
const STATUSES: [NameId; 3] = [
    n::CONTAINER_STATUSES,
    n::INIT_CONTAINER_STATUSES,
    n::EPHEMERAL_CONTAINER_STATUSES,
];

/// Where init containers were before there was a field for them.
const OLD_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// Fields of a specification that go together: all of those that the old object has none of are dropped.
type Rule = fn(&mut Value, &mut Sweep);

/// The gates, by what hides behind them.
const RULES: &[Rule] = &[
    // AtomicWriteVolumeUserFields
    |spec, sweep| {
        for volume in items(spec, n::VOLUMES) {
            // Of several sources, which validation refuses, upstream looks at the first.
            let sources = [n::SECRET, n::CONFIG_MAP, n::DOWNWARD_API, n::PROJECTED];
            if let Some((_, source)) = first(volume, &sources) {
                sweep.field(source, n::DEFAULT_USER);
                files(source, sweep);
                for projection in items(source, n::SOURCES) {
                    match first(projection, &PROJECTIONS) {
                        Some((n::SECRET | n::DOWNWARD_API | n::CONFIG_MAP, source)) => {
                            files(source, sweep);
                        }
                        Some((_, source)) => sweep.field(source, n::USER),
                        None => {}
                    }
                }
            }
        }
    },
    // GenericWorkload
    |spec, sweep| sweep.field(spec, n::SCHEDULING_GROUP),
    // GRPCContainerProbeTLS
    |spec, sweep| {
        for container in containers(spec) {
            for probe in PROBES {
                if let Some(grpc) = container.at_mut(&[probe, n::GRPC]) {
                    sweep.field(grpc, n::MODE);
                }
            }
        }
    },
    // EvictionRequestAPI
    |spec, sweep| sweep.list(spec, n::EVICTION_RESPONDERS),
    // EmptyDirVolumeMode
    |spec, sweep| {
        for volume in items(spec, n::VOLUMES) {
            if let Some(empty) = volume.get_mut(n::EMPTY_DIR) {
                sweep.field(empty, n::MODE);
            }
        }
    },
    // VolumeBindMountOptions
    |spec, sweep| {
        for container in containers(spec) {
            for mount in items(container, n::VOLUME_MOUNTS) {
                sweep.list(mount, n::BIND_MOUNT_OPTIONS);
            }
        }
    },
    // ContainerStopSignals
    |spec, sweep| {
        for container in containers(spec) {
            let Some(lifecycle) = container.get_mut(n::LIFECYCLE) else {
                continue;
            };
            let before = sweep.found;
            sweep.found = false;
            sweep.field(lifecycle, n::STOP_SIGNAL);
            let empty = lifecycle.as_map().is_some_and(proto::Map::is_empty);
            if sweep.found && sweep.drops && empty {
                container.remove(&[n::LIFECYCLE]);
            }
            sweep.found |= before;
        }
    },
    // H2CContainerProbe
    |spec, sweep| {
        for container in containers(spec) {
            for probe in PROBES {
                if let Some(http) = container.at_mut(&[probe, n::HTTP_GET]) {
                    sweep.field(http, n::PROTOCOL);
                }
            }
            for hook in HOOKS {
                if let Some(http) = container.at_mut(&[n::LIFECYCLE, hook, n::HTTP_GET]) {
                    sweep.field(http, n::PROTOCOL);
                }
            }
        }
    },
];

/// The same of a pod's status.
const STATUS_RULES: &[Rule] = &[
    // ImageVolumeWithDigest
    |status, sweep| {
        for list in STATUSES {
            for container in items(status, list) {
                for mount in items(container, n::VOLUME_MOUNTS) {
                    sweep.field(mount, n::VOLUME_STATUS);
                }
            }
        }
    },
    // DRANodeAllocatableResources
    |status, sweep| sweep.list(status, n::NODE_ALLOCATABLE_RESOURCE_CLAIM_STATUSES),
    // CSIVolumeHealth
    |status, sweep| sweep.list(status, n::VOLUME_HEALTH),
];

/// Looks for fields, and drops them if it is told to.
struct Sweep {
    drops: bool,
    /// An object that is stored uses no list that is empty.
    stored: bool,
    found: bool,
}

impl Sweep {
    fn field(&mut self, owner: &mut Value, field: NameId) {
        if owner.get(field).is_some_and(|v| !v.is_null()) {
            self.found = true;
            if self.drops {
                owner.remove(&[field]);
            }
        }
    }

    /// A list that is not used when it is empty.
    fn list(&mut self, owner: &mut Value, field: NameId) {
        let list = owner.get(field).and_then(Value::as_list);
        if list.is_some_and(|list| !(self.stored && list.is_empty())) {
            self.field(owner, field);
        }
    }
}

/// The first of some fields that is there.
fn first<'v>(owner: &'v mut Value, fields: &[NameId]) -> Option<(NameId, &'v mut Value)> {
    let there = |field: &&NameId| owner.get(**field).is_some_and(|v| !v.is_null());
    let field = *fields.iter().find(there)?;
    Some((field, owner.get_mut(field)?))
}

fn items(owner: &mut Value, list: NameId) -> impl Iterator<Item = &mut Value> {
    let list = owner.get_mut(list).and_then(Value::as_list_mut);
    list.into_iter().flatten()
}

fn containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let lists = spec.as_map_mut().into_iter().flat_map(proto::Map::iter_mut);
    lists
        .filter(|(name, _)| name.known().is_some_and(|id| LISTS.contains(&id)))
        .filter_map(|(_, list)| list.as_list_mut())
        .flatten()
}

fn files(source: &mut Value, sweep: &mut Sweep) {
    for item in items(source, n::ITEMS) {
        sweep.field(item, n::USER);
    }
}

fn sweep(rules: &[Rule], part: &mut Value, old: Option<&Value>) {
    for rule in rules {
        let look = |part: &mut Value, drops, stored| {
            let mut sweep = Sweep {
                drops,
                stored,
                found: false,
            };
            rule(part, &mut sweep);
            sweep.found
        };
        // Hardly ever does an object have such a field: the old one is looked at only then.
        if look(part, false, false) && !old.is_some_and(|old| look(&mut old.clone(), false, true)) {
            look(part, true, false);
        }
    }
}

/// Drops from a pod or template what is off, unless the old one has it.
pub fn from_spec(holder: &mut Value, old: Option<&Value>) {
    if let Some(spec) = holder.get_mut(n::SPEC) {
        sweep(RULES, spec, old.and_then(|old| old.get(n::SPEC)));
    }
    if OLD_ANNOTATIONS
        .iter()
        .any(|key| meta::annotation(holder, key).is_some())
        && let Some(annotations) = holder.at_mut(&[n::METADATA, n::ANNOTATIONS])
    {
        for key in OLD_ANNOTATIONS {
            annotations.make_map().remove(key);
        }
    }
}

/// Drops the same from a pod's status.
pub fn from_status(pod: &mut Value, old: &Value) {
    if let Some(status) = pod.get_mut(n::STATUS) {
        sweep(STATUS_RULES, status, old.get(n::STATUS));
    }
}

#[cfg(test)]
mod tests {
    use proto::codec::json::parse;

    use super::*;

    #[test]
    fn fields_of_gates_that_are_off_go_unless_they_were_there() {
        let text = r#"{"metadata":{"annotations":{"a":"b","pod.beta.kubernetes.io/init-containers":"x"}},"spec":{
            "schedulingGroup":{},"evictionResponders":[{"name":"a/b"}],
            "volumes":[{"name":"a","emptyDir":{"mode":511}},{"name":"b","secret":{"defaultUser":1,"items":[{"key":"k","user":2}]}},
                {"name":"c","projected":{"sources":[{"serviceAccountToken":{"path":"t","user":3}}]}}],
            "containers":[{"name":"a","lifecycle":{"stopSignal":"SIGINT"},"volumeMounts":[{"name":"a","bindMountOptions":["noexec"]}],
                "livenessProbe":{"httpGet":{"port":1,"protocol":"HTTP2"}},"readinessProbe":{"grpc":{"port":1,"mode":"TLS"}}}]}}"#;
        let empty = parse(br#"{"spec":{"evictionResponders":[]}}"#).unwrap();
        let mut new = empty.clone();
        from_spec(&mut new, Some(&empty));
        assert_eq!(new, parse(br#"{"spec":{}}"#).unwrap());
        let all = parse(text.as_bytes()).unwrap();
        let mut new = all.clone();
        from_spec(&mut new, Some(&all));
        assert_eq!(new.get(n::SPEC), all.get(n::SPEC));
        from_spec(&mut new, None);
        let left = r#"{"metadata":{"annotations":{"a":"b"}},"spec":{
            "volumes":[{"name":"a","emptyDir":{}},{"name":"b","secret":{"items":[{"key":"k"}]}},
                {"name":"c","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}],
            "containers":[{"name":"a","volumeMounts":[{"name":"a"}],
                "livenessProbe":{"httpGet":{"port":1}},"readinessProbe":{"grpc":{"port":1}}}]}}"#;
        assert_eq!(new, parse(left.as_bytes()).unwrap());
    }
}

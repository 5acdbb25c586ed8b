//! Fields of gates that are off: new objects lose them, those that have them keep them.
//!
//! Upstream: `DropDisabledPodFields`, `DropDisabledTemplateFields` in `pkg/api/pod/util.go`.

use proto::catalogue::{GateId, Gates, gate, names as n};
use proto::{NameId, Value, meta};

use super::{HOOKS, PROBES};

const LISTS: [NameId; 3] = [n::INIT_CONTAINERS, n::CONTAINERS, n::EPHEMERAL_CONTAINERS];
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

/// The gates, with what hides behind them.
const RULES: &[(GateId, Rule)] = &[
    (gate::USER_NAMESPACES_SUPPORT, |spec, sweep| {
        sweep.field(spec, n::HOST_USERS);
    }),
    (gate::SUPPLEMENTAL_GROUPS_POLICY, groups_policy),
    (gate::POD_LEVEL_RESOURCES, |spec, sweep| {
        let says = |field| {
            let amounts = spec.at(&[n::RESOURCES, field]).and_then(Value::as_map);
            amounts.is_some_and(|amounts| !amounts.is_empty())
        };
        if !sweep.stored || says(n::REQUESTS) || says(n::LIMITS) {
            sweep.field(spec, n::RESOURCES);
        }
    }),
    (gate::PROC_MOUNT_TYPE, |spec, sweep| {
        const DEFAULT: &str = "Default";
        for container in containers(spec) {
            let mount = container.at_mut(&[n::SECURITY_CONTEXT, n::PROC_MOUNT]);
            if let Some(mount) = mount.filter(|m| !m.is_null() && m.as_str() != Some(DEFAULT)) {
                sweep.found = true;
                if sweep.drops {
                    *mount = DEFAULT.into();
                }
            }
        }
    }),
    (
        gate::NODE_INCLUSION_POLICY_IN_POD_TOPOLOGY_SPREAD,
        |spec, sweep| {
            let constraints = items(spec, n::TOPOLOGY_SPREAD_CONSTRAINTS);
            sweep.fields(constraints, n::NODE_TAINTS_POLICY);
        },
    ),
    (
        gate::NODE_INCLUSION_POLICY_IN_POD_TOPOLOGY_SPREAD,
        |spec, sweep| {
            let constraints = items(spec, n::TOPOLOGY_SPREAD_CONSTRAINTS);
            sweep.fields(constraints, n::NODE_AFFINITY_POLICY);
        },
    ),
    (
        gate::MATCH_LABEL_KEYS_IN_POD_TOPOLOGY_SPREAD,
        |spec, sweep| {
            let constraints = items(spec, n::TOPOLOGY_SPREAD_CONSTRAINTS);
            sweep.lists(constraints, n::MATCH_LABEL_KEYS);
        },
    ),
    (gate::MATCH_LABEL_KEYS_IN_POD_AFFINITY, |spec, sweep| {
        for side in [n::POD_AFFINITY, n::POD_ANTI_AFFINITY] {
            let Some(side) = spec.at_mut(&[n::AFFINITY, side]) else {
                continue;
            };
            for term in items(side, n::REQUIRED_DURING_SCHEDULING_IGNORED_DURING_EXECUTION) {
                label_keys(term, sweep);
            }
            for weighted in items(
                side,
                n::PREFERRED_DURING_SCHEDULING_IGNORED_DURING_EXECUTION,
            ) {
                if let Some(term) = weighted.get_mut(n::POD_AFFINITY_TERM) {
                    label_keys(term, sweep);
                }
            }
        }
    }),
    (gate::DYNAMIC_RESOURCE_ALLOCATION, claims),
    (gate::CLUSTER_TRUST_BUNDLE_PROJECTION, |spec, sweep| {
        projections(spec, n::CLUSTER_TRUST_BUNDLE, sweep);
    }),
    (gate::POD_CERTIFICATE_REQUEST, |spec, sweep| {
        projections(spec, n::POD_CERTIFICATE, sweep);
    }),
    (gate::IN_PLACE_POD_VERTICAL_SCALING, resize_policies),
    (gate::CONTAINER_RESTART_RULES, |spec, sweep| {
        for list in LISTS {
            for container in items(spec, list) {
                let policy = container.get(n::RESTART_POLICY).and_then(Value::as_str);
                // An init container that is always restarted runs beside the others, by another gate.
                let always = list == n::INIT_CONTAINERS && policy == Some("Always");
                // What upstream takes for a use (`containerRestartRulesInUse`) is less than what it drops.
                let before = sweep.found;
                if !always {
                    sweep.field(container, n::RESTART_POLICY);
                }
                if sweep.stored && list == n::EPHEMERAL_CONTAINERS {
                    sweep.found = before;
                }
                let before = sweep.found;
                sweep.list(container, n::RESTART_POLICY_RULES);
                if sweep.stored && list != n::INIT_CONTAINERS {
                    sweep.found = before;
                }
            }
        }
    }),
    (gate::RECURSIVE_READ_ONLY_MOUNTS, recursive_mounts),
    (gate::HOSTNAME_OVERRIDE, |spec, sweep| {
        sweep.field(spec, n::HOSTNAME_OVERRIDE);
    }),
    (gate::ENV_FILES, |spec, sweep| {
        for container in containers(spec) {
            for var in items(container, n::ENV) {
                if let Some(from) = var.get_mut(n::VALUE_FROM) {
                    sweep.field(from, n::FILE_KEY_REF);
                }
            }
        }
    }),
    (gate::IMAGE_VOLUME, images),
    (gate::SE_LINUX_CHANGE_POLICY, |spec, sweep| {
        if let Some(context) = spec.get_mut(n::SECURITY_CONTEXT) {
            sweep.field(context, n::SE_LINUX_CHANGE_POLICY);
        }
    }),
    (gate::ATOMIC_WRITE_VOLUME_USER_FIELDS, |spec, sweep| {
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
    }),
    (gate::GENERIC_WORKLOAD, |spec, sweep| {
        sweep.field(spec, n::SCHEDULING_GROUP);
    }),
    (gate::GRPC_CONTAINER_PROBE_TLS, |spec, sweep| {
        for container in containers(spec) {
            for probe in PROBES {
                if let Some(grpc) = container.at_mut(&[probe, n::GRPC]) {
                    sweep.field(grpc, n::MODE);
                }
            }
        }
    }),
    (gate::EVICTION_REQUEST_API, |spec, sweep| {
        sweep.list(spec, n::EVICTION_RESPONDERS);
    }),
    (gate::EMPTY_DIR_VOLUME_MODE, |spec, sweep| {
        for volume in items(spec, n::VOLUMES) {
            if let Some(empty) = volume.get_mut(n::EMPTY_DIR) {
                sweep.field(empty, n::MODE);
            }
        }
    }),
    (gate::VOLUME_BIND_MOUNT_OPTIONS, |spec, sweep| {
        for container in containers(spec) {
            for mount in items(container, n::VOLUME_MOUNTS) {
                sweep.list(mount, n::BIND_MOUNT_OPTIONS);
            }
        }
    }),
    (gate::CONTAINER_STOP_SIGNALS, |spec, sweep| {
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
    }),
    (gate::H2_C_CONTAINER_PROBE, |spec, sweep| {
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
    }),
];

/// What hides behind a gate in a pod's status, and whether the old specification says that it is used, and how.
type StatusRule = (GateId, Rule, Option<Rule>);

const STATUS_RULES: &[StatusRule] = &[
    (
        gate::IN_PLACE_POD_LEVEL_RESOURCES_VERTICAL_SCALING,
        |status, sweep| {
            sweep.field(status, n::RESOURCES);
            sweep.field(status, n::ALLOCATED_RESOURCES);
        },
        None,
    ),
    (
        gate::IN_PLACE_POD_VERTICAL_SCALING,
        |status, sweep| {
            for container in statuses(status) {
                sweep.field(container, n::RESOURCES);
                sweep.field(container, n::ALLOCATED_RESOURCES);
            }
        },
        Some(resize_policies),
    ),
    (
        gate::DYNAMIC_RESOURCE_ALLOCATION,
        |status, sweep| sweep.field(status, n::RESOURCE_CLAIM_STATUSES),
        Some(claims),
    ),
    (
        gate::DRA_EXTENDED_RESOURCE,
        |status, sweep| sweep.field(status, n::EXTENDED_RESOURCE_CLAIM_STATUS),
        None,
    ),
    (
        gate::RECURSIVE_READ_ONLY_MOUNTS,
        |status, sweep| sweep.fields(statuses(status), n::VOLUME_MOUNTS),
        Some(recursive_mounts),
    ),
    (
        gate::RESOURCE_HEALTH_STATUS,
        |status, sweep| sweep.lists(statuses(status), n::ALLOCATED_RESOURCES_STATUS),
        None,
    ),
    (
        gate::RESOURCE_HEALTH_STATUS_MESSAGE,
        |status, sweep| {
            for container in statuses(status) {
                for device in items(container, n::ALLOCATED_RESOURCES_STATUS) {
                    for health in items(device, n::RESOURCES) {
                        sweep.field(health, n::MESSAGE);
                    }
                }
            }
        },
        None,
    ),
    (
        gate::SUPPLEMENTAL_GROUPS_POLICY,
        |status, sweep| sweep.fields(statuses(status), n::USER),
        Some(groups_policy),
    ),
    (
        gate::POD_OBSERVED_GENERATION_TRACKING,
        |status, sweep| {
            sweep.number(status, n::OBSERVED_GENERATION);
            for condition in items(status, n::CONDITIONS) {
                sweep.number(condition, n::OBSERVED_GENERATION);
            }
        },
        None,
    ),
    (
        gate::IMAGE_VOLUME_WITH_DIGEST,
        |status, sweep| {
            for container in statuses(status) {
                for mount in items(container, n::VOLUME_MOUNTS) {
                    sweep.field(mount, n::VOLUME_STATUS);
                }
            }
        },
        None,
    ),
    (
        gate::DRA_NODE_ALLOCATABLE_RESOURCES,
        |status, sweep| sweep.list(status, n::NODE_ALLOCATABLE_RESOURCE_CLAIM_STATUSES),
        None,
    ),
    (
        gate::CSI_VOLUME_HEALTH,
        |status, sweep| sweep.list(status, n::VOLUME_HEALTH),
        None,
    ),
];

fn groups_policy(spec: &mut Value, sweep: &mut Sweep) {
    if let Some(context) = spec.get_mut(n::SECURITY_CONTEXT) {
        sweep.field(context, n::SUPPLEMENTAL_GROUPS_POLICY);
    }
}

fn resize_policies(spec: &mut Value, sweep: &mut Sweep) {
    sweep.lists(containers(spec), n::RESIZE_POLICY);
}

fn recursive_mounts(spec: &mut Value, sweep: &mut Sweep) {
    for container in containers(spec) {
        for mount in items(container, n::VOLUME_MOUNTS) {
            sweep.field(mount, n::RECURSIVE_READ_ONLY);
        }
    }
}

/// Containers cannot use claims that their pod does not name.
fn claims(spec: &mut Value, sweep: &mut Sweep) {
    sweep.list(spec, n::RESOURCE_CLAIMS);
    if !sweep.stored {
        for container in containers(spec) {
            if let Some(resources) = container.get_mut(n::RESOURCES) {
                sweep.field(resources, n::CLAIMS);
            }
        }
    }
}

/// Images as volumes go, and what is mounted of them.
fn images(spec: &mut Value, sweep: &mut Sweep) {
    let is_image = |volume: &Value| volume.get(n::IMAGE).is_some_and(|v| !v.is_null());
    let name = |of: &Value| of.get(n::NAME).and_then(Value::as_str).map(str::to_owned);
    let volumes = spec.get_mut(n::VOLUMES).and_then(Value::as_list_mut);
    let Some(volumes) = volumes.filter(|volumes| volumes.iter().any(is_image)) else {
        return;
    };
    sweep.found = true;
    if !sweep.drops {
        return;
    }
    let gone: Vec<_> = volumes.iter().filter(|v| is_image(v)).map(name).collect();
    volumes.retain(|volume| !is_image(volume));
    for container in containers(spec) {
        let mounts = container.get_mut(n::VOLUME_MOUNTS);
        if let Some(mounts) = mounts.and_then(Value::as_list_mut) {
            mounts.retain(|mount| !gone.contains(&name(mount)));
        }
    }
}

fn label_keys(term: &mut Value, sweep: &mut Sweep) {
    sweep.list(term, n::MATCH_LABEL_KEYS);
    sweep.list(term, n::MISMATCH_LABEL_KEYS);
}

/// A kind of what is put together into one volume.
fn projections(spec: &mut Value, kind: NameId, sweep: &mut Sweep) {
    for volume in items(spec, n::VOLUMES) {
        if let Some(projected) = volume.get_mut(n::PROJECTED) {
            for source in items(projected, n::SOURCES) {
                sweep.field(source, kind);
            }
        }
    }
}

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

    /// The same field of several.
    fn fields<'v>(&mut self, owners: impl Iterator<Item = &'v mut Value>, field: NameId) {
        owners.for_each(|owner| self.field(owner, field));
    }

    /// The same list of several.
    fn lists<'v>(&mut self, owners: impl Iterator<Item = &'v mut Value>, field: NameId) {
        owners.for_each(|owner| self.list(owner, field));
    }

    /// A number that is not there when it is zero.
    fn number(&mut self, owner: &mut Value, field: NameId) {
        if owner.get(field).and_then(Value::as_int) != Some(0) {
            self.field(owner, field);
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
    of_lists(spec, &LISTS)
}

fn statuses(status: &mut Value) -> impl Iterator<Item = &mut Value> {
    of_lists(status, &STATUSES)
}

/// The items of some lists.
fn of_lists<'v>(
    owner: &'v mut Value,
    names: &'static [NameId],
) -> impl Iterator<Item = &'v mut Value> {
    let lists = owner
        .as_map_mut()
        .into_iter()
        .flat_map(proto::Map::iter_mut);
    lists
        .filter(|(name, _)| name.known().is_some_and(|id| names.contains(&id)))
        .filter_map(|(_, list)| list.as_list_mut())
        .flatten()
}

fn files(source: &mut Value, sweep: &mut Sweep) {
    for item in items(source, n::ITEMS) {
        sweep.field(item, n::USER);
    }
}

/// What a rule finds; it is dropped, or in what is stored.
fn look(rule: Rule, part: &mut Value, drops: bool, stored: bool) -> bool {
    let mut sweep = Sweep {
        drops,
        stored,
        found: false,
    };
    rule(part, &mut sweep);
    sweep.found
}

/// Drops what is not used already. Hardly ever does an object have such a field: the old one is looked at only then.
fn sweep(rule: Rule, part: &mut Value, used: Rule, old: Option<&Value>) {
    let uses = |old: &Value| look(used, &mut old.clone(), false, true);
    if look(rule, part, false, false) && !old.is_some_and(uses) {
        look(rule, part, true, false);
    }
}

/// Drops from a pod or template what is off, unless the old one has it.
pub fn from_spec(gates: Gates, holder: &mut Value, old: Option<&Value>) {
    if let Some(spec) = holder.get_mut(n::SPEC) {
        let old = old.and_then(|old| old.get(n::SPEC));
        for (_, rule) in RULES.iter().filter(|(gate, _)| !gates.has(*gate)) {
            sweep(*rule, spec, *rule, old);
        }
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
pub fn from_status(gates: Gates, pod: &mut Value, old: &Value) {
    let Some(status) = pod.get_mut(n::STATUS) else {
        return;
    };
    for (_, rule, of_spec) in STATUS_RULES.iter().filter(|(gate, ..)| !gates.has(*gate)) {
        match of_spec {
            Some(used) => sweep(*rule, status, *used, old.get(n::SPEC)),
            None => sweep(*rule, status, *rule, old.get(n::STATUS)),
        }
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
        let gates = Gates::defaults();
        from_spec(gates, &mut new, Some(&empty));
        assert_eq!(new, parse(br#"{"spec":{}}"#).unwrap());
        let all = parse(text.as_bytes()).unwrap();
        let mut new = all.clone();
        from_spec(gates, &mut new, Some(&all));
        assert_eq!(new.get(n::SPEC), all.get(n::SPEC));
        from_spec(gates, &mut new, None);
        let left = r#"{"metadata":{"annotations":{"a":"b"}},"spec":{
            "volumes":[{"name":"a","emptyDir":{}},{"name":"b","secret":{"items":[{"key":"k"}]}},
                {"name":"c","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}],
            "containers":[{"name":"a","volumeMounts":[{"name":"a"}],
                "livenessProbe":{"httpGet":{"port":1}},"readinessProbe":{"grpc":{"port":1}}}]}}"#;
        assert_eq!(new, parse(left.as_bytes()).unwrap());
    }

    /// A specification with something behind each gate that is on by default.
    const EVERYTHING: &str = r#"{"spec":{"hostUsers":false,"hostnameOverride":"h","resources":{"limits":{"cpu":"1"}},
        "resourceClaims":[{"name":"c"}],"securityContext":{"supplementalGroupsPolicy":"Strict","seLinuxChangePolicy":"Recursive"},
        "topologySpreadConstraints":[{"nodeTaintsPolicy":"Honor","nodeAffinityPolicy":"Honor","matchLabelKeys":["a"]}],
        "affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"matchLabelKeys":["a"],"mismatchLabelKeys":["b"]}]}},
        "volumes":[{"name":"i","image":{"reference":"r"}},{"name":"p","projected":{"sources":[
            {"clusterTrustBundle":{"path":"a"}},{"podCertificate":{"keyType":"ED25519"}}]}}],
        "initContainers":[{"name":"s","restartPolicy":"Always"},{"name":"o","restartPolicy":"OnFailure"}],
        "containers":[{"name":"a","restartPolicy":"Never","restartPolicyRules":[{"action":"Restart"}],
            "resizePolicy":[{"resourceName":"cpu"}],"resources":{"claims":[{"name":"c"}]},
            "securityContext":{"procMount":"Unmasked"},"env":[{"name":"e","valueFrom":{"fileKeyRef":{"key":"k"}}}],
            "volumeMounts":[{"name":"i"},{"name":"p","recursiveReadOnly":"Enabled"}]}]}}"#;

    #[test]
    fn fields_of_gates_that_were_turned_off_go_too() {
        let all = parse(EVERYTHING.as_bytes()).unwrap();
        let mut new = all.clone();
        from_spec(Gates::defaults(), &mut new, None);
        assert_eq!(new, all);
        from_spec(Gates::default(), &mut new, Some(&all));
        assert_eq!(new, all);
        from_spec(Gates::default(), &mut new, None);
        let left = r#"{"spec":{"securityContext":{},"topologySpreadConstraints":[{}],
            "affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{}]}},
            "volumes":[{"name":"p","projected":{"sources":[{},{}]}}],
            "initContainers":[{"name":"s","restartPolicy":"Always"},{"name":"o"}],
            "containers":[{"name":"a","resources":{},"securityContext":{"procMount":"Default"},
                "env":[{"name":"e","valueFrom":{}}],"volumeMounts":[{"name":"p"}]}]}}"#;
        assert_eq!(new, parse(left.as_bytes()).unwrap());
    }

    #[test]
    fn a_status_keeps_what_the_old_specification_uses() {
        let text = r#"{"status":{"observedGeneration":3,"containerStatuses":[{"name":"a","resources":{},
            "volumeMounts":[{"name":"p"}],"user":{"linux":{}}}]},"#;
        let pod = |spec: &str| parse(format!("{text}{spec}}}").as_bytes()).unwrap();
        let uses = r#""spec":{"containers":[{"name":"a","resizePolicy":[{}],"volumeMounts":[{"recursiveReadOnly":"Enabled"}]}],
            "securityContext":{"supplementalGroupsPolicy":"Strict"}}"#;
        let all = pod(uses);
        let mut new = all.clone();
        from_status(Gates::default(), &mut new, &all);
        assert_eq!(new, all);
        let none = parse(br#"{"spec":{"containers":[{"name":"a"}]},"status":{}}"#).unwrap();
        let mut new = pod(r#""spec":{}"#);
        from_status(Gates::default(), &mut new, &none);
        let left = br#"{"containerStatuses":[{"name":"a"}]}"#;
        assert_eq!(new.get(n::STATUS), Some(&parse(left).unwrap()));
    }
}

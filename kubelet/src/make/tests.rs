use super::*;
use crate::runtime::container::SupplementalGroupsPolicy;
use crate::runtime::sandbox::IdMapping;
use crate::runtime::{Resources, SecurityProfile};
use serde_json::{Value, json};

mod amounts;

pub(super) fn pod(spec: Value) -> Pod {
    let pod = json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": { "app": "x" } },
        "spec": spec,
    });
    proto::typed::from_json_value(pod).unwrap()
}

/// A pod of one container.
pub(super) fn single(container: Value) -> Pod {
    pod(json!({ "containers": [container] }))
}

pub(super) fn first(pod: &Pod) -> &Container {
    &spec(pod).containers[0]
}

fn ingredients<'a>(pod: &'a Pod, facts: &'a NodeFacts) -> Ingredients<'a> {
    Ingredients {
        pod,
        container: first(pod),
        facts,
        env: vec![("WHO".into(), "world".into())],
        mounts: vec![Mount::default()],
        devices: Vec::new(),
        volume_groups: BTreeSet::new(),
        user: None,
        image_ref: "sha256:1".into(),
        image_config: ImageConfig::default(),
        rootfs: "/r".into(),
        attempt: 3,
        log_path: log_path(pod, "c", 3, facts),
        target: None,
    }
}

fn made(container: Value) -> Result<ContainerConfig, Error> {
    super::container(ingredients(&single(container), &NodeFacts::default()))
}

#[test]
fn volumes_give_their_groups_to_every_container() {
    let pod = pod(json!({
        "containers": [{ "name": "c" }], "securityContext": { "supplementalGroups": [777] },
    }));
    let facts = NodeFacts::default();
    let made = container(Ingredients {
        volume_groups: [777, 2000].into(),
        ..ingredients(&pod, &facts)
    });
    assert_eq!(made.unwrap().security.supplemental_groups, [777, 2000]);
}

#[test]
fn a_container_is_what_its_specification_says() {
    let made = made(json!({
        "name": "c", "image": "busybox", "workingDir": "/w", "stdin": true, "stdinOnce": true,
        "tty": true, "command": ["echo", "$(WHO)"], "args": ["$$(WHO)", "$(NOBODY)"],
    }))
    .unwrap();
    assert_eq!(made.metadata.name, "c");
    assert_eq!(made.metadata.attempt, 3);
    assert_eq!(
        (made.image.as_str(), made.image_ref.as_str()),
        ("busybox", "sha256:1")
    );
    assert_eq!(made.command, ["echo", "world"]);
    assert_eq!(made.args, ["$(WHO)", "$(NOBODY)"]);
    assert_eq!(made.working_dir, "/w");
    assert!(made.stdin && made.stdin_once && made.tty);
    assert_eq!(made.log_path, Some("/var/log/pods/n_p_u/c/3.log".into()));
    assert_eq!((made.log_max_size, made.log_max_files), (10 << 20, 5));
    assert_eq!(made.stop_signal, None);
}

#[test]
fn a_stop_signal_counts_only_with_its_feature() {
    let container = json!({ "name": "c", "lifecycle": { "stopSignal": "SIGUSR1" } });
    let pod = single(container);
    let mut facts = NodeFacts::default();
    let signal = |facts: &NodeFacts| {
        super::container(ingredients(&pod, facts))
            .unwrap()
            .stop_signal
    };
    assert_eq!(signal(&facts), None);
    facts.features = Features::defaults()
        .with([("ContainerStopSignals", true)])
        .unwrap();
    assert_eq!(signal(&facts), Some(Signal(libc::SIGUSR1)));
}

#[test]
fn the_hash_is_upstreams_and_follows_name_and_image_only() {
    let container = |value| first(&single(value)).clone();
    let sample = container(json!({
        "name": "test_container", "image": "foo/image:v1", "command": ["/bin/testcmd"],
    }));
    assert_eq!(hash(&sample), 0x8e45_cbd0);
    let other_command = container(json!({ "name": "test_container", "image": "foo/image:v1" }));
    assert_eq!(hash(&other_command), hash(&sample));
    let other_image = container(json!({ "name": "test_container", "image": "foo/image:v2" }));
    assert_ne!(hash(&other_image), hash(&sample));
}

#[test]
fn what_the_runtime_keeps_is_enough_to_recover_everything() {
    let mut pod = pod(json!({
        "terminationGracePeriodSeconds": 10,
        "containers": [{
            "name": "c", "image": "i", "terminationMessagePath": "/dev/log",
            "terminationMessagePolicy": "File",
            "lifecycle": { "preStop": { "exec": { "command": ["a", "b"] } } },
            "ports": [{ "name": "web", "containerPort": 80, "hostPort": 8080 }],
        }],
    }));
    pod.metadata.deletion_grace_period_seconds = Some(7);
    let container = first(&pod);
    let (labels, annotations) = (
        labels::of_container(&pod, container),
        labels::annotations(&pod, container, 5),
    );
    assert_eq!(
        annotations["io.kubernetes.container.preStopHandler"],
        r#"{"exec":{"command":["a","b"]}}"#
    );
    let expected = Recovered {
        pod_name: "p".into(),
        pod_namespace: "n".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        hash: hash(container),
        restart_count: 5,
        deletion_grace_period_seconds: Some(7),
        termination_grace_period_seconds: Some(10),
        termination_message_path: "/dev/log".into(),
        termination_message_policy: "File".into(),
        pre_stop: container.lifecycle.clone().unwrap().pre_stop,
        ports: container.ports.clone().unwrap(),
    };
    assert_eq!(recover(&labels, &annotations), expected);
    assert_eq!(
        recover(&BTreeMap::new(), &BTreeMap::new()),
        Recovered::default()
    );
}

#[test]
fn a_sandbox_shares_what_the_pod_shares() {
    let make = |spec: Value| {
        let pod = pod(spec);
        let network = Network::Isolated;
        sandbox(&pod, &NodeFacts::default(), network, None, Vec::new(), 2)
    };
    let plain = make(json!({ "containers": [{ "name": "c" }] })).unwrap();
    assert_eq!(plain.metadata.attempt, 2);
    assert_eq!(plain.hostname, "p");
    assert_eq!(plain.cgroup_parent, "/kubepods/besteffort/podu");
    assert_eq!(
        (plain.ipc, plain.pid),
        (NamespaceMode::Pod, NamespaceMode::Container)
    );
    assert_eq!(plain.labels["app"], "x");
    assert_eq!(plain.labels["io.kubernetes.pod.uid"], "u");
    let host = make(json!({
        "containers": [{ "name": "c" }], "hostPID": true, "hostIPC": true, "hostNetwork": true,
        "shareProcessNamespace": true,
    }))
    .unwrap();
    assert_eq!(
        (host.ipc, host.pid),
        (NamespaceMode::Node, NamespaceMode::Node)
    );
    assert_eq!(host.hostname, "");
    let shared = make(json!({ "containers": [], "shareProcessNamespace": true })).unwrap();
    assert_eq!(shared.pid, NamespaceMode::Pod);
    let sysctls = make(json!({ "containers": [], "securityContext": { "sysctls": [
        { "name": "net/ipv4/conf/eno2.100/rp_filter", "value": "1" },
        { "name": "kernel.shm_rmid_forced", "value": "0" },
    ] } }))
    .unwrap()
    .sysctls;
    assert_eq!(
        sysctls.into_iter().collect::<Vec<_>>(),
        [
            ("kernel.shm_rmid_forced".to_owned(), "0".to_owned()),
            (
                "net.ipv4.conf.eno2/100.rp_filter".to_owned(),
                "1".to_owned()
            ),
        ]
    );
    let userns = make(json!({ "containers": [], "hostUsers": false }));
    assert_eq!(userns, Err(Error::NoUserNamespace));
}

#[test]
fn a_full_name_is_told_if_asked_for_and_if_it_fits() {
    let mut facts = NodeFacts::default();
    facts.dns.cluster_domain = "cluster.local".into();
    let name = |subdomain: &str| {
        let pod = pod(json!({
            "containers": [], "subdomain": subdomain, "setHostnameAsFQDN": true,
        }));
        let made = sandbox(&pod, &facts, Network::Isolated, None, Vec::new(), 0);
        made.map(|made| made.hostname)
    };
    assert_eq!(name("s").unwrap(), "p.s.n.svc.cluster.local");
    let error = name(&"s".repeat(60)).unwrap_err().to_string();
    assert!(error.starts_with("failed to construct FQDN from pod hostname and cluster domain"));
    assert!(error.ends_with("is too long (64 characters is the max, 82 characters requested)"));
}

#[test]
fn mounts_of_a_pod_with_users_of_its_own_are_mapped() {
    let (pod, facts) = (single(json!({ "name": "c" })), NodeFacts::default());
    let map = vec![IdMapping {
        host_id: 65_536,
        container_id: 0,
        length: 65_536,
    }];
    let user = UserNamespace {
        uids: map.clone(),
        gids: map.clone(),
    };
    let image = Mount {
        image: true,
        ..Mount::default()
    };
    let of = Ingredients {
        user: Some(&user),
        mounts: vec![Mount::default(), image],
        ..ingredients(&pod, &facts)
    };
    let made = container(of).unwrap();
    assert_eq!(made.mounts[0].uid_mappings, map);
    assert_eq!(made.mounts[0].gid_mappings, map);
    // An image comes as the pod's users see it.
    assert!(made.mounts[1].uid_mappings.is_empty());
}

#[test]
fn the_container_speaks_before_the_pod() {
    let pod = pod(json!({
        "securityContext": {
            "runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 3],
            "supplementalGroupsPolicy": "Strict", "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{ "name": "c", "securityContext": {
            "runAsUser": 7, "privileged": true, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "procMount": "Unmasked",
            "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
            "seccompProfile": { "type": "Localhost", "localhostProfile": "a/b.json" },
        } }],
    }));
    let made = container(ingredients(&pod, &NodeFacts::default())).unwrap();
    let security = made.security;
    assert_eq!(
        (security.run_as_user, security.run_as_group),
        (Some(7), Some(2))
    );
    assert_eq!(security.supplemental_groups, [3, 4, 3]);
    assert_eq!(
        security.supplemental_groups_policy,
        SupplementalGroupsPolicy::Strict
    );
    assert!(security.privileged && security.readonly_rootfs && security.no_new_privs);
    assert_eq!(security.add_capabilities, ["NET_ADMIN"]);
    assert_eq!(security.drop_capabilities, ["ALL"]);
    assert!(security.masked_paths.is_empty() && security.readonly_paths.is_empty());
    assert_eq!(
        security.seccomp,
        SecurityProfile::Localhost("/var/lib/kubelet/seccomp/a/b.json".into())
    );
}

#[test]
fn without_a_word_containers_are_confined_as_upstream_confines_them() {
    let security = made(json!({ "name": "c" })).unwrap().security;
    assert!(!security.privileged && !security.no_new_privs);
    assert_eq!(security.seccomp, SecurityProfile::Unconfined);
    assert_eq!(security.apparmor, SecurityProfile::RuntimeDefault);
    assert!(
        security
            .masked_paths
            .iter()
            .any(|path| path == "/proc/kcore")
    );
    assert!(
        security
            .readonly_paths
            .iter()
            .any(|path| path == "/proc/sys")
    );
    assert_eq!(security.pid, NamespaceMode::Pod);
    let pod = single(json!({ "name": "c" }));
    let facts = NodeFacts {
        seccomp_default: true,
        masked_paths: vec!["/sys/x".into()],
        ..NodeFacts::default()
    };
    let security = container(ingredients(&pod, &facts)).unwrap().security;
    assert_eq!(security.seccomp, SecurityProfile::RuntimeDefault);
    assert_eq!(security.masked_paths.last().unwrap(), "/sys/x");
}

#[test]
fn contradictions_are_refused_in_upstreams_words() {
    let error = |context: Value| {
        let made = made(json!({ "name": "c", "securityContext": context }));
        made.unwrap_err().to_string()
    };
    assert_eq!(
        error(json!({ "seccompProfile": { "type": "Localhost" } })),
        "localhostProfile must be set if seccompProfile type is Localhost."
    );
    assert_eq!(
        error(json!({ "appArmorProfile": { "type": "Localhost" } })),
        "missing localhost apparmor profile name"
    );
    assert_eq!(
        error(json!({ "appArmorProfile": { "type": "x" } })),
        "unknown apparmor profile type: \"x\""
    );
    assert_eq!(
        error(json!({ "runAsUser": -1 })),
        "-1 is no id of a user or group"
    );
    let policy = pod(json!({
        "containers": [{ "name": "c" }], "securityContext": { "supplementalGroupsPolicy": "x" },
    }));
    let made = container(ingredients(&policy, &NodeFacts::default()));
    assert_eq!(
        made.unwrap_err().to_string(),
        "unsupported supplementalGroupsPolicy: x"
    );
}

#[test]
fn apparmor_is_read_from_fields_and_from_what_was_before_them() {
    let profile = |annotation: Option<&str>, own: Value, of_pod: Value| {
        let mut pod = pod(json!({
            "containers": [{ "name": "c", "securityContext": { "appArmorProfile": own } }],
            "securityContext": { "appArmorProfile": of_pod },
        }));
        pod.metadata.annotations = annotation.map(|value| {
            let key = "container.apparmor.security.beta.kubernetes.io/c".to_owned();
            BTreeMap::from([(key, value.to_owned())])
        });
        let made = container(ingredients(&pod, &NodeFacts::default()));
        made.unwrap().security.apparmor
    };
    let localhost = |name: &str| SecurityProfile::Localhost(name.into());
    let unconfined = json!({ "type": "Unconfined" });
    let own = json!({ "type": "Localhost", "localhostProfile": "own" });
    let null = || Value::Null;
    assert_eq!(
        profile(Some("unconfined"), own, unconfined.clone()),
        localhost("own")
    );
    assert_eq!(
        profile(Some("localhost/x"), null(), unconfined.clone()),
        localhost("x")
    );
    assert_eq!(
        profile(Some("runtime/default"), null(), unconfined.clone()),
        SecurityProfile::RuntimeDefault
    );
    assert_eq!(
        profile(Some("nonsense"), null(), unconfined.clone()),
        SecurityProfile::Unconfined
    );
    assert_eq!(
        profile(None, null(), unconfined),
        SecurityProfile::Unconfined
    );
}

/// Upstream's `TestVerifyRunAsNonRoot`, and its messages.
#[test]
fn root_is_kept_out_where_it_must_not_be() {
    let verify = |context: Value, of_pod: Value, image: &str| {
        let pod = pod(json!({
            "containers": [{ "name": "c", "securityContext": context }],
            "securityContext": of_pod,
        }));
        let done = verify_non_root(&pod, first(&pod), image);
        done.map_err(|error| error.to_string())
    };
    let non_root = || json!({ "runAsNonRoot": true });
    let of = "(pod: \"p_n(u)\", container: c)";
    assert_eq!(verify(Value::Null, Value::Null, "0"), Ok(()));
    assert_eq!(verify(json!({ "runAsUser": 0 }), Value::Null, ""), Ok(()));
    assert_eq!(
        verify(json!({ "runAsNonRoot": false }), non_root(), ""),
        Ok(())
    );
    assert_eq!(verify(non_root(), Value::Null, "1"), Ok(()));
    assert_eq!(
        verify(non_root(), json!({ "runAsUser": 5 }), "root"),
        Ok(())
    );
    assert_eq!(verify(Value::Null, non_root(), "65534:0"), Ok(()));
    for (context, image, expected) in [
        (
            json!({ "runAsNonRoot": true, "runAsUser": 0 }),
            "1",
            "container's runAsUser breaks non-root policy",
        ),
        (
            non_root(),
            "",
            "container has runAsNonRoot and image will run as root",
        ),
        (
            non_root(),
            "0:1000",
            "container has runAsNonRoot and image will run as root",
        ),
        (
            non_root(),
            "nobody:x",
            "container has runAsNonRoot and image has non-numeric user (nobody), cannot verify \
             user is non-root",
        ),
        (
            non_root(),
            "2147483648",
            "container has runAsNonRoot and image has an invalid user id (2147483648). (Must be \
             1-(2147483647)): must be between 0 and 2147483647, inclusive",
        ),
        (
            non_root(),
            "-1",
            "container has runAsNonRoot and image has an invalid user id (-1). (Must be \
             1-(2147483647)): must be between 0 and 2147483647, inclusive",
        ),
    ] {
        let error = verify(context, Value::Null, image).unwrap_err();
        assert_eq!(error, format!("{expected} {of}"));
    }
}

#[test]
fn an_ephemeral_container_sees_its_target_unless_all_is_shared_anyway() {
    let facts = NodeFacts::default();
    let pid = |spec: Value| {
        let pod = pod(spec);
        let debugger = &spec_of(&pod).ephemeral_containers.as_ref().unwrap()[0];
        let container = ephemeral(debugger);
        assert_eq!(container.name, "debug");
        let of = Ingredients {
            container: &container,
            target: Some("id".into()),
            ..ingredients(&pod, &facts)
        };
        super::container(of).unwrap().security.pid
    };
    let debug = || json!([{ "name": "debug", "targetContainerName": "c" }]);
    let containers = || json!([{ "name": "c" }]);
    assert_eq!(
        pid(json!({ "containers": containers(), "ephemeralContainers": debug() })),
        NamespaceMode::Target("id".into())
    );
    assert_eq!(
        pid(json!({
            "containers": containers(), "ephemeralContainers": debug(), "hostPID": true,
        })),
        NamespaceMode::Pod
    );
}

fn spec_of(pod: &Pod) -> &PodSpec {
    spec(pod)
}

#[test]
fn host_ports_and_bandwidth_are_for_the_pod_network() {
    let mut pod = pod(json!({
        "initContainers": [{ "name": "i", "ports": [{ "containerPort": 1, "hostPort": 1 }] }],
        "containers": [{ "name": "c", "ports": [
            { "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1" },
            { "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
            { "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
            { "name": "twice", "containerPort": 1, "hostPort": 10 },
            { "name": "twice", "containerPort": 1, "hostPort": 11 },
            { "containerPort": 9090 },
        ] }],
    }));
    let annotations = |value: &str| {
        Some(BTreeMap::from([(
            "kubernetes.io/egress-bandwidth".to_owned(),
            value.to_owned(),
        )]))
    };
    pod.metadata.annotations = annotations("10M");
    let made = network(&pod, None).unwrap();
    let ports: Vec<String> = made.host_ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["127.0.0.1:8080/TCP", "53/UDP", "10/TCP"]);
    assert_eq!(made.egress_bandwidth, Some(10_000_000));
    assert_eq!(made.ingress_bandwidth, None);
    for bad in ["1", "x", "2P"] {
        pod.metadata.annotations = annotations(bad);
        assert!(
            matches!(network(&pod, None), Err(Error::Bandwidth { .. })),
            "{bad}"
        );
    }
}

#[test]
fn containers_are_referred_to_by_where_they_stand() {
    let pod = pod(json!({
        "containers": [{ "name": "c" }], "initContainers": [{ "name": "i" }],
        "ephemeralContainers": [{ "name": "e" }],
    }));
    let at = |name| reference(&pod, name).field_path.unwrap();
    assert_eq!(at("c"), "spec.containers{c}");
    assert_eq!(at("i"), "spec.initContainers{i}");
    assert_eq!(at("e"), "spec.ephemeralContainers{e}");
    let whole = reference(&pod, "c");
    assert_eq!(whole.kind.as_deref(), Some("Pod"));
    assert_eq!(whole.uid.as_deref(), Some("u"));
}

#[test]
fn log_links_keep_within_the_length_of_a_file_name() {
    let pod = single(json!({ "name": "c" }));
    let link = log_link(Path::new("/l"), &pod, "c", "id");
    assert_eq!(link, Path::new("/l/p_n_c-id.log"));
    let long = log_link(Path::new("/l"), &pod, &"c".repeat(300), "id");
    assert_eq!(long.file_name().unwrap().len(), 255);
}

#[test]
fn limits_of_the_node_are_in_the_sandbox() {
    let pod = single(json!({ "name": "c", "resources": {
        "requests": { "cpu": "100m" }, "limits": { "cpu": "200m", "memory": "1Gi" },
    } }));
    let facts = NodeFacts {
        pods_pids_limit: 100,
        ..NodeFacts::default()
    };
    let made = sandbox(&pod, &facts, Network::Isolated, None, Vec::new(), 0).unwrap();
    assert_eq!(made.resources, pod_resources(&pod, &facts));
    assert_eq!(made.resources.pids_limit, Some(100));
    assert_ne!(made.resources, Resources::default());
}

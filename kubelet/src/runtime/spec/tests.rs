use super::*;
use crate::runtime::container::{Mount, MountPropagation};
use crate::runtime::sandbox::UserNamespace;

fn container() -> ContainerConfig {
    ContainerConfig {
        command: vec!["sh".into()],
        rootfs: "/rootfs".into(),
        ..Default::default()
    }
}

fn document(container: &ContainerConfig, sandbox: &PodSandboxConfig) -> Result<Value, Error> {
    build(&Input {
        container,
        sandbox,
        user: &ContainerUser {
            uid: 7,
            gid: 8,
            supplemental_groups: vec![8, 9],
        },
        cgroup: "/kubepods/podx/c",
        shm: Path::new("/shm"),
        hostname: "web-0",
        devices: &[],
        unified: false,
        capabilities: u64::MAX,
    })
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect()
}

#[test]
fn the_document_is_one_of_the_oci_specification() {
    let document = document(&container(), &PodSandboxConfig::default()).unwrap();
    let spec: oci_spec::runtime::Spec = proto::typed::from_json_value(document).unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
    assert_eq!(
        process.no_new_privileges(),
        None,
        "written false, it fails the create"
    );
    assert!(spec.linux().as_ref().unwrap().seccomp().is_none());
}

#[test]
fn the_pods_command_drops_the_images_arguments_but_not_the_other_way() {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let mut c = ContainerConfig::default();
    assert_eq!(args(&c), Err(Error::NoCommand));
    c.image_config.entrypoint = words(&["entry"]);
    c.image_config.cmd = words(&["cmd"]);
    assert_eq!(args(&c), Ok(words(&["entry", "cmd"])));
    c.args = words(&["arg"]);
    assert_eq!(args(&c), Ok(words(&["entry", "arg"])));
    c.command = words(&["command"]);
    assert_eq!(args(&c), Ok(words(&["command", "arg"])));
    c.args.clear();
    assert_eq!(args(&c), Ok(words(&["command"])));
}

#[test]
fn the_last_variable_of_a_name_wins_and_a_path_is_always_there() {
    let mut c = container();
    c.image_config.env = vec!["A=1".into(), "AB=2".into(), "broken".into()];
    c.envs = vec![
        ("A".into(), "3=4".into()),
        ("HOSTNAME".into(), "mine".into()),
    ];
    let document = document(&c, &PodSandboxConfig::default()).unwrap();
    let env = strings(&document["process"]["env"]);
    assert_eq!(env, [DEFAULT_PATH, "HOSTNAME=mine", "A=3=4", "AB=2"]);
}

#[test]
fn capabilities_are_added_and_dropped_as_in_every_runtime() {
    let set = |add: &[&str], drop: &[&str]| {
        let mut c = container();
        c.security.add_capabilities = add.iter().map(|s| (*s).to_owned()).collect();
        c.security.drop_capabilities = drop.iter().map(|s| (*s).to_owned()).collect();
        capability_names(&c, u64::MAX)
    };
    assert_eq!(set(&[], &[]).unwrap(), DEFAULT_CAPABILITIES);
    assert_eq!(set(&["NET_ADMIN"], &["ALL"]).unwrap(), ["NET_ADMIN"]);
    assert_eq!(set(&["cap_net_admin"], &["ALL"]).unwrap(), ["NET_ADMIN"]);
    assert_eq!(set(&["ALL"], &["CHOWN"]).unwrap().len(), 40);
    assert!(!set(&[], &["NET_RAW"]).unwrap().contains(&"NET_RAW"));
    assert_eq!(set(&["NOPE"], &[]), Err(Error::Capability("NOPE".into())));
}

#[test]
fn namespaces_of_the_node_are_left_out() {
    let kinds = |sandbox: &PodSandboxConfig| -> Vec<String> {
        let document = document(&container(), sandbox).unwrap();
        let all = document["linux"]["namespaces"].as_array().unwrap().clone();
        all.iter()
            .map(|n| match n["path"].as_str() {
                Some(path) => format!("{}={path}", n["type"].as_str().unwrap()),
                None => n["type"].as_str().unwrap().to_owned(),
            })
            .collect()
    };
    let own = PodSandboxConfig {
        pid: NamespaceMode::Container,
        ..Default::default()
    };
    let fd = |n| format!("/proc/self/fd/{n}");
    let expected = [
        "mount".into(),
        format!("network={}", fd(10)),
        format!("uts={}", fd(12)),
        format!("ipc={}", fd(11)),
        "pid".into(),
    ];
    assert_eq!(kinds(&own), expected);
    let node = PodSandboxConfig {
        network: Network::Node,
        ipc: NamespaceMode::Node,
        pid: NamespaceMode::Node,
        ..Default::default()
    };
    assert_eq!(kinds(&node), ["mount"]);
    let shared = PodSandboxConfig {
        pid: NamespaceMode::Pod,
        ..node
    };
    assert_eq!(
        kinds(&shared),
        ["mount".to_owned(), format!("pid={}", fd(13))]
    );
}

#[test]
fn privileged_containers_see_everything_and_others_what_is_left() {
    let mut c = container();
    c.security.masked_paths = vec!["/proc/kcore".into()];
    let sandbox = PodSandboxConfig::default();
    let plain = document(&c, &sandbox).unwrap();
    assert_eq!(strings(&plain["linux"]["maskedPaths"]), ["/proc/kcore"]);
    assert_eq!(plain["linux"]["resources"]["devices"][0]["allow"], false);
    c.security.privileged = true;
    let privileged = document(&c, &sandbox).unwrap();
    assert_eq!(strings(&privileged["linux"]["maskedPaths"]), [""; 0]);
    assert_eq!(
        privileged["linux"]["resources"]["devices"][0]["allow"],
        true
    );
    assert_eq!(
        privileged["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        41
    );
}

#[test]
fn a_pods_mount_takes_the_place_of_the_runtimes_and_parents_come_first() {
    let mut c = container();
    let mount = |at: &str, propagation| Mount {
        container_path: at.into(),
        host_path: "/from".into(),
        propagation,
        ..Default::default()
    };
    c.mounts = vec![
        mount("/a/b/c", MountPropagation::Private),
        mount("/a", MountPropagation::HostToContainer),
        mount("/dev/shm", MountPropagation::Private),
    ];
    let document = document(&c, &PodSandboxConfig::default()).unwrap();
    let mounts = document["mounts"].as_array().unwrap();
    let at: Vec<_> = mounts
        .iter()
        .map(|m| m["destination"].as_str().unwrap())
        .collect();
    assert_eq!(at.iter().filter(|at| **at == "/dev/shm").count(), 1);
    let place = |wanted: &str| at.iter().position(|at| *at == wanted).unwrap();
    assert!(place("/a") < place("/a/b/c"));
    assert_eq!(
        strings(&mounts[place("/a")]["options"]),
        ["rbind", "rslave", "rw"]
    );
    assert_eq!(document["linux"]["rootfsPropagation"], "slave");
}

#[test]
fn a_pod_with_users_of_its_own_joins_their_namespace() {
    let ids = vec![IdMapping {
        host_id: 65_536,
        container_id: 0,
        length: 65_536,
    }];
    let mut mapped = Mount {
        container_path: "/data".into(),
        host_path: "/host".into(),
        uid_mappings: ids.clone(),
        gid_mappings: ids.clone(),
        ..Mount::default()
    };
    let mut c = container();
    c.mounts = vec![mapped.clone()];
    let refused = document(&c, &PodSandboxConfig::default());
    assert_eq!(refused.unwrap_err(), Error::IdMapped);
    let sandbox = PodSandboxConfig {
        user: Some(UserNamespace {
            uids: ids.clone(),
            gids: ids,
        }),
        ..Default::default()
    };
    let made = document(&c, &sandbox).unwrap();
    let range = json!([{ "containerID": 0, "hostID": 65_536, "size": 65_536 }]);
    assert_eq!(made["linux"]["uidMappings"], range);
    assert_eq!(made["linux"]["gidMappings"], range);
    let namespaces = made["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!({ "type": "user", "path": "/proc/self/fd/14" })));
    let mount = |made: &Value, at: &str| {
        let mut all = made["mounts"].as_array().unwrap().iter();
        all.find(|m| m["destination"] == at).cloned()
    };
    assert_eq!(mount(&made, "/data").unwrap()["uidMappings"], range);
    // Images come as the pod sees them.
    mapped.uid_mappings.clear();
    mapped.gid_mappings.clear();
    c.mounts = vec![mapped];
    let made = document(&c, &sandbox).unwrap();
    assert!(mount(&made, "/data").unwrap()["uidMappings"].is_null());
}

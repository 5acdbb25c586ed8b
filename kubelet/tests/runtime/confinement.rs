//! What containers are and may, and that exec is the same.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use kubelet::runtime::spec::{DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS};
use kubelet::runtime::{
    ContainerConfig, Device, Mount, MountPropagation, Runtime, SecurityProfile,
};
use nix::mount::{MsFlags, mount};

use crate::node::{LIMIT, Node};

/// What of `/proc/self/status` says who a process is and what it may.
const IDENTITY: [&str; 17] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed",
    "Mems_allowed",
    "SigBlk",
    "SigIgn",
    "SigCgt",
];

/// Everything about a process that exec has to give as create does.
const PROBE: &str = "cat /proc/self/status; echo cgroup: $(cat /proc/self/cgroup); \
    echo oom: $(cat /proc/self/oom_score_adj); echo cwd: $(pwd); echo env: $(env | grep -v ^SHLVL | sort); \
    echo ns: $(cd /proc/self/ns; for n in net ipc uts pid mnt user cgroup; do readlink $n; done); \
    echo limits: $(cat /proc/self/limits); echo fds: $(ls /proc/self/fd)";

fn probe(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let wanted = ["cgroup", "oom", "cwd", "env", "ns", "limits", "fds"];
    lines
        .filter(|(name, _)| IDENTITY.contains(name) || wanted.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

pub(crate) async fn compare(
    node: &Node,
    sandbox: &str,
    mut config: ContainerConfig,
) -> BTreeMap<String, String> {
    let script = format!("{PROBE}; while :; do sleep 1; done");
    config.command = vec!["/bin/sh".into(), "-c".into(), script];
    let log = config.log_path.clone().unwrap();
    let id = node.run(sandbox, config).await;
    node.until("the probe is written", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("fds:"))
    })
    .await;
    let created = probe(&node.output(&node.status(&id).await));
    let command = vec!["/bin/sh".into(), "-c".into(), PROBE.into()];
    let output = node.runtime().exec_sync(&id, command, LIMIT).await.unwrap();
    let executed = probe(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(created, executed);
    assert_eq!(created.len(), IDENTITY.len() + 7);
    created
}

#[tokio::test]
async fn exec_is_what_create_made_for_a_user_with_a_filter() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("");
    config.security.run_as_user = Some(33);
    config.security.supplemental_groups = vec![70, 71];
    config.security.no_new_privs = true;
    config.security.seccomp = SecurityProfile::RuntimeDefault;
    config.resources.oom_score_adj = Some(500);
    config.working_dir = "/made/for/it".into();
    config.envs = vec![("A".into(), "b c".into())];
    let seen = compare(&node, &sandbox, config).await;
    assert_eq!(seen["Uid"], "33\t33\t33\t33");
    assert_eq!(seen["Groups"], "34 50 70 71");
    assert_eq!(
        (seen["CapEff"].as_str(), seen["CapBnd"].as_str()),
        ("0000000000000000", "00000000a80425fb")
    );
    assert_eq!(
        (seen["Seccomp"].as_str(), seen["NoNewPrivs"].as_str()),
        ("2", "1")
    );
    assert_eq!(
        (seen["oom"].as_str(), seen["cwd"].as_str()),
        ("500", "/made/for/it")
    );
    assert!(seen["env"].contains("A=b c") && seen["env"].contains("HOME=/home/web"));
    assert!(seen["env"].contains("HOSTNAME=pod-host"));
    assert_eq!(seen["fds"], "0 1 2 3", "3 is the listing itself");
    assert!(seen["cgroup"].contains("/kubepods/burstable/poduid/"));
}

#[tokio::test]
async fn exec_is_what_create_made_for_root_without_a_filter() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("");
    config.security.add_capabilities = vec!["NET_ADMIN".into()];
    config.security.drop_capabilities = vec!["MKNOD".into()];
    let seen = compare(&node, &sandbox, config).await;
    assert_eq!(
        (seen["Seccomp"].as_str(), seen["NoNewPrivs"].as_str()),
        ("0", "0")
    );
    assert_eq!(seen["CapEff"], "00000000a00435fb");
    assert_eq!(seen["CapInh"], "0000000000000000");
}

#[tokio::test]
async fn exec_is_what_create_made_for_root_with_a_filter() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("");
    config.security.seccomp = SecurityProfile::RuntimeDefault;
    let seen = compare(&node, &sandbox, config).await;
    assert_eq!(
        (seen["Seccomp"].as_str(), seen["NoNewPrivs"].as_str()),
        ("2", "0")
    );
    assert_eq!(seen["CapEff"], "00000000a80425fb");
}

#[tokio::test]
async fn the_default_filter_refuses_what_it_should() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("unshare -m true; echo $?; mount -t tmpfs x /tmp; echo $?");
    config.security.add_capabilities = vec!["SYS_ADMIN".into()];
    let (output, _) = node.finish(&sandbox, config.clone()).await;
    assert!(
        output.ends_with("0\n0\n"),
        "with the capability and no filter: {output}"
    );
    config.security.add_capabilities.clear();
    config.security.seccomp = SecurityProfile::RuntimeDefault;
    let (output, _) = node.finish(&sandbox, config).await;
    assert!(
        output.contains("unshare: unshare") && output.contains("not permitted"),
        "{output}"
    );
}

#[tokio::test]
async fn a_profile_of_the_node_is_used_and_a_bad_one_refused() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let profile = node.root.path().join("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat","nosuchcall"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;
    std::fs::write(&profile, text).unwrap();
    let mut config = node.shell("mkdir /tmp/x; true");
    config.security.seccomp = SecurityProfile::Localhost(profile.display().to_string());
    let (output, _) = node.finish(&sandbox, config.clone()).await;
    assert!(output.contains("not supported"), "{output}");
    for bad in ["", "{", r#"{"defaultAction":"SCMP_ACT_NOPE"}"#] {
        std::fs::write(&profile, bad).unwrap();
        let refused = node
            .runtime()
            .create_container(&sandbox, config.clone())
            .await;
        assert!(
            refused.unwrap_err().to_string().contains("seccomp profile"),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn a_container_sees_a_masked_and_read_only_node() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell(
        "wc -c </proc/interrupts; echo x 2>&1 >/proc/sys/kernel/hostname; ls /sys/firmware | wc -l; \
         touch /sys/x 2>&1; touch /x && echo rw; hostname; ls /dev | tr '\\n' ' '; id",
    );
    config.security.masked_paths = DEFAULT_MASKED_PATHS.iter().map(|s| (*s).into()).collect();
    config.security.readonly_paths = DEFAULT_READONLY_PATHS.iter().map(|s| (*s).into()).collect();
    let (output, _) = node.finish(&sandbox, config.clone()).await;
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "0");
    assert!(lines[1].contains("Read-only file system"), "{output}");
    assert_eq!(lines[2], "0");
    assert!(lines[3].contains("Read-only file system"), "{output}");
    assert_eq!(lines[4..6], ["rw", "pod-host"]);
    for device in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm",
    ] {
        assert!(
            lines[6].split(' ').any(|name| name == device),
            "{device}: {output}"
        );
    }
    assert!(
        !lines[6].contains("sda") && !lines[6].contains("vda"),
        "{output}"
    );

    config.security.readonly_rootfs = true;
    config.command[2] = "touch /y 2>&1; touch /dev/shm/z && echo shm".into();
    let (output, _) = node.finish(&sandbox, config).await;
    assert!(
        output.contains("Read-only file system") && output.ends_with("shm\n"),
        "{output}"
    );
}

#[tokio::test]
async fn a_device_is_usable_only_if_it_was_given() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let known = ["/dev/fuse", "/dev/vcs", "/dev/tty1", "/dev/loop-control"];
    let device = known
        .into_iter()
        .find(|path| std::fs::File::open(path).is_ok())
        .unwrap();
    let rdev = std::fs::metadata(device).unwrap().rdev();
    let (major, minor) = (libc::major(rdev), libc::minor(rdev));
    let mknod = format!("mknod /tmp/own c {major} {minor}; : </tmp/own && echo open");
    let (output, _) = node.script(&sandbox, &mknod).await;
    assert!(
        output.contains("not permitted") && !output.contains("open\n"),
        "{output}"
    );
    let mut config = node.shell(": </dev/mine && echo open");
    config.devices = vec![Device {
        container_path: "/dev/mine".into(),
        host_path: device.into(),
        permissions: "rw".into(),
    }];
    let (output, _) = node.finish(&sandbox, config).await;
    assert_eq!(output, "open\n");
    // Pods may want them anywhere, and privileged ones beside all others.
    for privileged in [false, true] {
        let mut config = node.shell(": </srv/disk/mine && test -c /srv/disk/mine && echo open");
        config.security.privileged = privileged;
        config.devices = vec![Device {
            container_path: "/srv/disk/mine".into(),
            host_path: device.into(),
            permissions: "rw".into(),
        }];
        let (output, _) = node.finish(&sandbox, config).await;
        assert_eq!(output, "open\n");
    }
}

#[tokio::test]
async fn privileged_is_everything() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell(
        "grep CapEff /proc/self/status; mount -t tmpfs x /tmp && echo mounted; ls /dev/kmsg",
    );
    config.security.privileged = true;
    config.security.seccomp = SecurityProfile::RuntimeDefault;
    let (output, _) = node.finish(&sandbox, config).await;
    assert!(output.contains("mounted\n/dev/kmsg\n"), "{output}");
    assert!(!output.contains("00000000a80425fb"), "{output}");
}

#[tokio::test]
async fn mounts_are_as_the_pod_asks() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let volume = node.root.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "content\n").unwrap();
    let mut config = node.shell("cat /ro/file /one; touch /rw/new; touch /ro/new 2>&1; true");
    let bind = |at: &str, from: std::path::PathBuf, readonly| Mount {
        container_path: at.into(),
        host_path: from,
        readonly,
        ..Default::default()
    };
    config.mounts = vec![
        bind("/rw", volume.clone(), false),
        bind("/ro", volume.clone(), true),
        bind("/one", volume.join("file"), true),
    ];
    let (output, _) = node.finish(&sandbox, config).await;
    assert!(
        output.starts_with("content\ncontent\n") && output.contains("Read-only"),
        "{output}"
    );
    assert!(volume.join("new").exists());
}

#[tokio::test]
async fn mounts_made_later_spread_as_the_pod_asks() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let volume = node.root.path().join("spread");
    for dir in ["host", "container"] {
        std::fs::create_dir_all(volume.join(dir)).unwrap();
    }
    let none = None::<&str>;
    mount(
        Some("tmpfs"),
        &volume,
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    mount(none, &volume, none, MsFlags::MS_PRIVATE, none).unwrap();
    for dir in ["host", "container"] {
        std::fs::create_dir_all(volume.join(dir)).unwrap();
    }
    let mut config = node.shell(
        "mount -t tmpfs x /v/container && touch /v/container/made; echo mounted; \
         while [ ! -e /v/host/seen ]; do sleep 0.01; done",
    );
    config.security.privileged = true;
    config.mounts = vec![Mount {
        container_path: "/v".into(),
        host_path: volume.clone(),
        propagation: MountPropagation::Bidirectional,
        ..Default::default()
    }];
    let refused = node
        .runtime()
        .create_container(&sandbox, config.clone())
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("not a shared mount"),
        "{refused}"
    );
    mount(none, &volume, none, MsFlags::MS_SHARED, none).unwrap();
    let id = node.run(&sandbox, config).await;
    node.until("the container's mount is here", || {
        volume.join("container/made").exists()
    })
    .await;
    mount(
        Some("tmpfs"),
        &volume.join("host"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    std::fs::write(volume.join("host/seen"), "").unwrap();
    assert_eq!(node.exited(&id).await.exit_code, 0);
}

#[tokio::test]
async fn a_working_directory_is_made_but_leads_nowhere_else() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("pwd");
    config.working_dir = "/new/dir".into();
    config.security.readonly_rootfs = true;
    let (output, _) = node.finish(&sandbox, config.clone()).await;
    assert_eq!(output, "/new/dir\n");
    config.security.readonly_rootfs = false;
    for fd in 3..20 {
        // Descriptors of the runtime are open at that moment; some are directories of the node.
        config.working_dir = format!("/proc/self/fd/{fd}/../../x");
        let id = node
            .runtime()
            .create_container(&sandbox, config.clone())
            .await
            .unwrap();
        node.runtime().start_container(&id).await.unwrap_err();
        node.runtime().remove_container(&id).await.unwrap();
    }
}

#[tokio::test]
async fn standard_streams_can_be_opened_again_by_their_user() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("echo again >/proc/self/fd/1; echo err >/dev/stderr");
    config.security.run_as_user = Some(33);
    let (output, status) = node.finish(&sandbox, config).await;
    assert_eq!((output.as_str(), status.exit_code), ("again\nerr\n", 0));
}

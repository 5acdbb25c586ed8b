//! Pods with users of their own (`hostUsers: false`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kubelet::runtime::sandbox::{IdMapping, UserNamespace};
use kubelet::runtime::spec::{DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS};
use kubelet::runtime::{
    ContainerConfig, Mount, NamespaceMode, Network, PodSandboxConfig, Runtime, SecurityProfile,
};
use kubelet::sys::mount;
use kubelet::sys::userns;
use nix::mount::MsFlags;

use crate::confinement::compare;
use crate::node::Node;

const FIRST: u32 = 20 * 65_536;

fn users() -> UserNamespace {
    let ids = vec![IdMapping {
        host_id: FIRST,
        container_id: 0,
        length: 65_536,
    }];
    UserNamespace {
        uids: ids.clone(),
        gids: ids,
    }
}

impl Node {
    fn pod_with_users(&self, uid: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            user: Some(users()),
            ..self.pod(uid)
        }
    }

    async fn sandbox_with_users(&self) -> String {
        let pod = self.pod_with_users("users");
        self.runtime().run_pod_sandbox(pod).await.unwrap()
    }

    /// A container of such a pod: root sees the image's files as its own.
    fn mapped(&self, script: &str) -> ContainerConfig {
        let rootfs = self.root.path().join("mapped");
        if !rootfs.exists() {
            fs::create_dir(&rootfs).unwrap();
            let users = userns::create(&users().ids(), &users().ids()).unwrap();
            let tree = mount::id_mapped(&self.rootfs(), users.as_fd()).unwrap();
            tree.attach(&rootfs).unwrap();
        }
        ContainerConfig {
            rootfs,
            ..self.shell(script)
        }
    }

    fn volume(&self, name: &str, mapped: bool) -> Mount {
        let path = self.root.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), "of root\n").unwrap();
        fs::set_permissions(path.join("file"), PermissionsExt::from_mode(0o600)).unwrap();
        let ids = if mapped { users().uids } else { Vec::new() };
        Mount {
            container_path: format!("/{name}").into(),
            host_path: path,
            uid_mappings: ids.clone(),
            gid_mappings: ids,
            ..Mount::default()
        }
    }
}

#[tokio::test]
async fn root_of_the_pod_is_nobody_on_the_node_and_owns_its_files() {
    let node = Node::start().await;
    let sandbox = node.sandbox_with_users().await;
    let mut config = node.mapped(
        "set -e; cat /proc/self/uid_map; id -u; hostname; stat -c %u /bin/busybox /dev/shm; \
         cat /own/file; echo new >/own/new; chown 7 /own/new; stat -c %u /own/new; \
         cat /other/file 2>&1 || true; echo >/dev/null; test -r /sys/kernel; echo x >/tmp/f",
    );
    config.mounts = vec![node.volume("own", true), node.volume("other", false)];
    let (output, status) = node.finish(&sandbox, config).await;
    let lines: Vec<_> = output.lines().map(str::trim).collect();
    assert_eq!(status.exit_code, 0, "{output}");
    let map: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(map, ["0", &FIRST.to_string(), "65536"]);
    assert_eq!(
        lines[1..6],
        ["0", "pod-host", "0", "0", "of root"],
        "{output}"
    );
    assert_eq!(lines[6], "7");
    assert!(lines[7].contains("Permission denied"), "{output}");
    let owner = |path: &str| fs::metadata(node.root.path().join(path)).unwrap().uid();
    assert_eq!(owner("own/new"), 7);
    assert_eq!(owner("image/tmp/f"), 0);
}

#[tokio::test]
async fn containers_of_the_pod_share_the_users_and_exec_is_what_create_made() {
    let node = Node::start().await;
    let sandbox = node.sandbox_with_users().await;
    let mut config = node.mapped("");
    config.security.run_as_user = Some(33);
    config.security.no_new_privs = true;
    let web = compare(&node, &sandbox, config).await;
    let mut config = node.mapped("");
    config.security.add_capabilities = vec!["NET_ADMIN".into()];
    let root = compare(&node, &sandbox, config).await;
    assert_eq!(
        (web["Uid"].as_str(), root["Uid"].as_str()),
        ("33\t33\t33\t33", "0\t0\t0\t0")
    );
    let namespaces = |seen: &str| seen.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (web, root) = (namespaces(&web["ns"]), namespaces(&root["ns"]));
    // net ipc uts pid mnt user cgroup
    assert_eq!((&web[..3], &web[5]), (&root[..3], &root[5]));
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(web[5], own.display().to_string());
}

#[tokio::test]
async fn processes_can_be_shared_and_the_network_is_the_pods_own_to_configure() {
    let node = Node::start().await;
    let ids = users().ids();
    let network = userns::create_network(&ids, &ids).unwrap();
    let mut pod = node.pod_with_users("users");
    let path = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    pod.network = Network::Path(path.into());
    pod.pid = NamespaceMode::Pod;
    pod.sysctls = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
    let sandbox = node.runtime().run_pod_sandbox(pod).await.unwrap();
    let first = node.run(&sandbox, node.mapped("exec sleep 1000")).await;
    let script = "set -e; cat /proc/sys/net/ipv4/ip_forward; ip link set lo up; ip addr add \
                  10.9.8.7/32 dev lo; ping -c 1 10.9.8.7 >/dev/null; ps -o user,args";
    let mut config = node.mapped(script);
    config.security.add_capabilities = vec!["NET_ADMIN".into()];
    let (output, status) = node.finish(&sandbox, config).await;
    assert_eq!(status.exit_code, 0, "{output}");
    assert!(output.starts_with("1\n"), "{output}");
    assert!(
        output
            .lines()
            .any(|line| line.contains("root") && line.contains("sleep 1000"))
    );
    let said = node
        .exec(
            &first,
            "id -u; echo written >/proc/1/fd/1 2>&1; echo x >/tmp/g",
        )
        .await;
    assert!(said.starts_with("0\n"), "{said}");
    // Another network's owner is not the pod's.
    let mut foreign = node.pod_with_users("foreign");
    foreign.network = Network::Path("/proc/self/ns/net".into());
    let refused = node.runtime().run_pod_sandbox(foreign).await.unwrap_err();
    assert!(refused.to_string().contains("does not belong"), "{refused}");
}

#[tokio::test]
async fn what_is_read_only_or_hidden_is_so_for_the_pods_root() {
    let node = Node::start().await;
    let sandbox = node.sandbox_with_users().await;
    let script = "for f in /f /own/f /strict/f; do echo x 2>&1 >$f; done; \
                  echo 1 2>&1 >/proc/sys/net/ipv4/ip_forward; cat /proc/interrupts | wc -c; \
                  cat /strict/file; mount -o remount,rw,bind /own 2>&1";
    let mut config = node.mapped(script);
    config.security.readonly_rootfs = true;
    config.security.seccomp = SecurityProfile::RuntimeDefault;
    let paths = |all: &[&str]| all.iter().map(|path| (*path).to_owned()).collect();
    config.security.masked_paths = paths(DEFAULT_MASKED_PATHS);
    config.security.readonly_paths = paths(DEFAULT_READONLY_PATHS);
    // What the node has mounted with less rights, a pod cannot give itself back.
    let strict = node.root.path().join("strict");
    fs::create_dir(&strict).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("tmpfs"), &strict, Some("tmpfs"), flags, None::<&str>).unwrap();
    config.mounts = vec![node.volume("own", true), node.volume("strict", true)];
    for mount in &mut config.mounts {
        mount.readonly = true;
    }
    config.mounts[1].recursive_read_only = true;
    let (output, status) = node.finish(&sandbox, config).await;
    let lines: Vec<_> = output.lines().collect();
    let refused = |line: &str| line.contains("Read-only file system");
    assert!(lines[..4].iter().all(|line| refused(line)), "{output}");
    assert_eq!((lines[4], lines[5]), ("0", "of root"), "{output}");
    assert!(lines[6].contains("mount"), "{output}");
    assert_ne!(status.exit_code, 0);
}

#[tokio::test]
async fn output_is_written_again_through_the_names_of_the_streams() {
    let node = Node::start().await;
    let sandbox = node.sandbox_with_users().await;
    let mut config = node.mapped("echo again >/dev/stdout; echo wrong >/proc/self/fd/2");
    config.security.run_as_user = Some(33);
    let (output, status) = node.finish(&sandbox, config).await;
    assert_eq!((output.as_str(), status.exit_code), ("again\nwrong\n", 0));
    let mut config = node.mapped("tty; echo $TERM");
    config.tty = true;
    let (output, _) = node.finish(&sandbox, config).await;
    assert!(output.starts_with("/dev/pts/0"), "{output}");
}

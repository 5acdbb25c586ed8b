//! Persistent volumes on the real file system: directories, and devices that are files behind loop
//! devices.

use std::path::Path;
use std::process::Command;

use super::*;

/// A pod of this uid that mounts the claims of these names.
fn claims(uid: &str, names: &[&str]) -> Pod {
    let volumes: Vec<_> = names
        .iter()
        .map(|name| json!({ "name": format!("of-{name}"), "persistentVolumeClaim": { "claimName": name } }))
        .collect();
    let mut pod = pod(volumes.into(), json!([]));
    pod.metadata.uid = Some(uid.into());
    pod
}

fn with_group(mut pod: Pod, group: u32, policy: &str) -> Pod {
    let context = json!({ "fsGroup": group, "fsGroupChangePolicy": policy });
    let context = proto::typed::from_json_value(context).unwrap();
    pod.spec.as_mut().unwrap().security_context = Some(context);
    pod
}

fn read_only(mut pod: Pod) -> Pod {
    let volumes = pod.spec.as_mut().unwrap().volumes.iter_mut().flatten();
    for claim in volumes.filter_map(|v| v.persistent_volume_claim.as_mut()) {
        claim.read_only = Some(true);
    }
    pod
}

/// All claims as devices, not as file systems.
fn mapped(mut pod: Pod) -> Pod {
    let spec = pod.spec.as_mut().unwrap();
    let devices = spec.volumes.iter().flatten();
    let devices: Vec<_> = devices
        .map(|v| json!({ "name": v.name, "devicePath": format!("/dev/{}", v.name) }))
        .collect();
    let container = json!({ "name": "c", "volumeDevices": devices });
    spec.containers = vec![proto::typed::from_json_value(container).unwrap()];
    pod
}

fn local(path: &Path) -> serde_json::Value {
    json!({
        "local": { "path": path }, "capacity": { "storage": "1Gi" },
        "accessModes": ["ReadWriteOnce"],
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "kubernetes.io/hostname", "operator": "In", "values": ["here"] },
        ] }] } },
    })
}

impl Node {
    fn here() -> Self {
        let mut node = Self::new();
        node.restart();
        node
    }

    /// Another kubelet on the same node.
    fn restart(&mut self) {
        let volumes = Volumes::new(self.dir.path(), self.cluster.clone(), Allocatable::new());
        self.volumes = volumes.with_labels(|| {
            BTreeMap::from([("kubernetes.io/hostname".to_owned(), "here".to_owned())])
        });
    }

    async fn fails(&self, pod: &Pod) -> String {
        let failures = self.volumes.set_up(pod).await.unwrap_err();
        let mut events = events(&failures);
        assert_eq!(events.len(), 1, "{events:?}");
        let (reason, message) = events.remove(0);
        format!("{reason}: {message}")
    }
}

#[tokio::test]
async fn a_local_directory_is_shared_by_pods_and_outlives_them() {
    let node = Node::here();
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("old"), "data").unwrap();
    node.cluster.put_volume("pv.1", local(disk.path()));
    let first = claims("uid-1", &["pv.1"]);
    let made = node.volumes.set_up(&first).await.unwrap();
    let path = &made.volumes["of-pv.1"].path;
    let shown = "pods/uid-1/volumes/kubernetes.io~local-volume/pv.1";
    assert_eq!(*path, node.dir.path().join(shown));
    assert_eq!(fs::read_to_string(path.join("old")).unwrap(), "data");
    fs::write(path.join("new"), "more").unwrap();
    assert!(!made.volumes["of-pv.1"].read_only);
    let again = node.volumes.set_up(&first).await.unwrap();
    assert_eq!(again.volumes, made.volumes);
    assert_eq!(mount::mounts_under(path).unwrap().len(), 1);

    let second = read_only(claims("uid-2", &["pv.1"]));
    let made = node.volumes.set_up(&second).await.unwrap();
    let other = &made.volumes["of-pv.1"];
    assert!(other.read_only);
    let refused = fs::write(other.path.join("x"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    // A container sees it as any other volume.
    let none = BTreeMap::new();
    let mut mounting = second.clone();
    let container = &mut mounting.spec.as_mut().unwrap().containers[0];
    let wanted = json!({ "name": "of-pv.1", "mountPath": "/m", "subPath": "old" });
    container.volume_mounts = Some(vec![proto::typed::from_json_value(wanted).unwrap()]);
    let mounts = node.mounts(&mounting, &made, &none).unwrap();
    assert_eq!(fs::read_to_string(&mounts[0].host_path).unwrap(), "data");
    assert!(mounts[0].readonly);

    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    node.volumes.remove_pod_dir("uid-2").await.unwrap();
    let pods = node.dir.path().join("pods");
    assert!(mount::mounts_under(&pods).unwrap().is_empty());
    assert_eq!(fs::read_dir(&pods).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(disk.path().join("new")).unwrap(), "more");
}

#[tokio::test]
async fn the_first_pods_group_owns_a_volume_and_others_are_warned() {
    let node = Node::here();
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("f"), "").unwrap();
    let gid = |name: &str| fs::metadata(disk.path().join(name)).unwrap().gid();
    node.cluster.put_volume("pv", local(disk.path()));
    let first = with_group(claims("uid-1", &["pv"]), 2000, "OnRootMismatch");
    let made = node.volumes.set_up(&first).await.unwrap();
    assert!(made.warnings.is_empty());
    assert_eq!((gid(""), gid("f")), (2000, 2000));
    assert_eq!(mode(disk.path()) & 0o2770, 0o2770);
    let second = with_group(claims("uid-2", &["pv"]), 3000, "Always");
    let made = node.volumes.set_up(&second).await.unwrap();
    assert_eq!(
        made.warnings,
        [(
            "AlreadyMountedVolume",
            "The requested fsGroup is 3000, but the volume pv has GID 2000. The volume may not be \
             shareable."
                .to_owned()
        )]
    );
    assert_eq!(gid("f"), 2000);
    assert!(
        node.volumes
            .set_up(&second)
            .await
            .unwrap()
            .warnings
            .is_empty()
    );

    // The root is as it should be: what is below is left alone, unless the pod wants all.
    for uid in ["uid-1", "uid-2"] {
        node.volumes.tear_down(uid).await.unwrap();
    }
    std::os::unix::fs::chown(disk.path().join("f"), None, Some(0)).unwrap();
    node.volumes.set_up(&first).await.unwrap();
    assert_eq!(gid("f"), 0);
    node.volumes.tear_down("uid-1").await.unwrap();
    let always = with_group(first, 2000, "Always");
    node.volumes.set_up(&always).await.unwrap();
    assert_eq!(gid("f"), 2000);
}

#[tokio::test]
async fn what_cannot_be_is_told_in_upstreams_words() {
    let node = Node::here();
    let disk = tempfile::tempdir().unwrap();
    assert_eq!(
        node.fails(&claims("uid-1", &["none"])).await,
        "FailedMount: Unable to attach or mount volumes: unmounted volumes=[of-none], unattached \
         volumes=[], failed to process volumes=[of-none]: error processing PVC ns/none: failed to \
         fetch PVC from API server: persistentvolumeclaims \"none\" not found"
    );
    node.cluster.put_volume("pv", local(disk.path()));
    let mut pending = node.cluster.claims.lock()["pv"].clone();
    pending.status.as_mut().unwrap().phase = Some("Pending".into());
    node.cluster.claims.lock().insert("pending".into(), pending);
    let said = node.fails(&claims("uid-1", &["pending"])).await;
    assert!(
        said.ends_with("error processing PVC ns/pending: PVC is not bound"),
        "{said}"
    );

    let put = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let mut spec = local(disk.path());
        change(&mut spec);
        node.cluster.put_volume(name, spec);
    };
    put("elsewhere", &|spec| {
        let terms = &mut spec["nodeAffinity"]["required"]["nodeSelectorTerms"];
        terms[0]["matchExpressions"][0]["values"] = json!(["there"]);
    });
    assert_eq!(
        node.fails(&claims("uid-1", &["elsewhere"])).await,
        "FailedMount: MountVolume.NodeAffinity check failed for volume \"elsewhere\" : no matching \
         NodeSelectorTerms"
    );
    put("missing", &|spec| {
        spec["local"]["path"] = "/nowhere/at/all".into()
    });
    let said = node.fails(&claims("uid-1", &["missing"])).await;
    assert_eq!(
        said,
        "FailedMount: MountVolume.NewMounter initialization failed for volume \"missing\" : path \
         \"/nowhere/at/all\" does not exist"
    );
    put("option", &|spec| spec["mountOptions"] = json!(["subvol=x"]));
    let said = node.fails(&claims("uid-1", &["option"])).await;
    assert!(said.contains("mount option \"subvol\""), "{said}");
    let host = json!({ "hostPath": { "path": disk.path() }, "mountOptions": ["noexec"] });
    node.cluster.put_volume("host", host);
    assert_eq!(
        node.fails(&claims("uid-1", &["host"])).await,
        "FailedMount: MountVolume.MountOptionSupport check failed for volume \"host\" : mount \
         options are not supported for this volume type"
    );
    node.cluster
        .put_volume("nfs", json!({ "nfs": { "server": "s", "path": "/" } }));
    let said = node.fails(&claims("uid-1", &["nfs"])).await;
    assert!(
        said.ends_with(
            "failed to get Plugin from volumeSpec for volume \"nfs\" err=no volume plugin matched"
        ),
        "{said}"
    );
    put("block", &|spec| spec["volumeMode"] = "Block".into());
    let said = node.fails(&claims("uid-1", &["block"])).await;
    assert!(
        said.ends_with("has volumeMode Block, but is specified in volumeMounts"),
        "{said}"
    );
    let said = node.fails(&mapped(claims("uid-1", &["block"]))).await;
    assert!(
        said.starts_with("FailedMapVolume: MapVolume.MapPodDevice failed for volume \"block\" : "),
        "{said}"
    );

    put("once", &|spec| {
        spec["accessModes"] = json!(["ReadWriteOncePod"])
    });
    node.volumes
        .set_up(&claims("uid-1", &["once"]))
        .await
        .unwrap();
    assert_eq!(
        node.fails(&claims("uid-2", &["once"])).await,
        "FailedMount: MountVolume.SetUp failed for volume \"once\" : volume uses the \
         ReadWriteOncePod access mode and is already in use by another pod"
    );
    node.volumes.tear_down("uid-1").await.unwrap();
    node.volumes
        .set_up(&claims("uid-2", &["once"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn directories_of_the_node_and_ephemeral_claims() {
    let node = Node::here();
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().join("made");
    let host = json!({ "hostPath": { "path": path, "type": "DirectoryOrCreate" } });
    node.cluster.put_volume("p-scratch", host);
    let volumes =
        json!([{ "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }]);
    let pod = pod(volumes, json!([]));
    let said = node.fails(&pod).await;
    assert!(
        said.ends_with("PVC ns/p-scratch was not created for pod ns/p (pod is not owner)"),
        "{said}"
    );
    let owner = json!([{
        "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-1", "controller": true,
    }]);
    let owner = proto::typed::from_json_value(owner).unwrap();
    node.cluster
        .claims
        .lock()
        .get_mut("p-scratch")
        .unwrap()
        .metadata
        .owner_references = owner;
    let annotations = BTreeMap::from([("pv.beta.kubernetes.io/gid".into(), "777".into())]);
    {
        let mut all = node.cluster.volumes.lock();
        all.get_mut("p-scratch").unwrap().metadata.annotations = Some(annotations);
    }
    let made = node.volumes.set_up(&pod).await.unwrap();
    assert_eq!(made.volumes["scratch"].path, path);
    assert!(path.is_dir());
    assert_eq!(made.groups(), [777].into());
    fs::write(path.join("f"), "x").unwrap();
    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    assert!(path.join("f").exists());
}

#[tokio::test]
async fn what_a_pod_has_is_known_to_the_next_kubelet_and_without_the_api_server() {
    let mut node = Node::here();
    let disk = tempfile::tempdir().unwrap();
    let mut once = local(disk.path());
    once["accessModes"] = json!(["ReadWriteOncePod"]);
    node.cluster.put_volume("pv", once);
    let first = claims("uid-1", &["pv"]);
    let made = node.volumes.set_up(&first).await.unwrap();
    node.restart();
    assert!(
        node.fails(&claims("uid-2", &["pv"]))
            .await
            .contains("already in use")
    );
    node.cluster.down.store(true, Ordering::Relaxed);
    let known = node.volumes.set_up(&first).await.unwrap();
    assert_eq!(known.volumes, made.volumes);
    let said = node.fails(&claims("uid-2", &["pv"])).await;
    assert!(
        said.ends_with("failed to fetch PVC from API server: connection refused"),
        "{said}"
    );
    // As after a boot: what is written down is not mounted any more.
    mount::unmount(&made.volumes["of-pv"].path).unwrap();
    node.fails(&first).await;
    let orphans = node.volumes.orphans(&BTreeSet::new());
    assert_eq!(orphans, ["uid-1"]);
    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    node.cluster.down.store(false, Ordering::Relaxed);
    node.volumes
        .set_up(&claims("uid-2", &["pv"]))
        .await
        .unwrap();
}

/// A block device of 64 MiB that ends with the test.
struct Disk {
    device: String,
    _file: tempfile::NamedTempFile,
}

impl Disk {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file.path())
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        Self {
            device: String::from_utf8(made.stdout).unwrap().trim().to_owned(),
            _file: file,
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .args(["--detach", &self.device])
            .status();
    }
}

#[tokio::test]
async fn a_device_gets_a_file_system_that_is_mounted_once_for_all_pods() {
    let disk = Disk::new();
    let mut node = Node::here();
    let mut spec = local(Path::new(&disk.device));
    spec["mountOptions"] = json!(["noexec", "noatime"]);
    spec["local"]["fsType"] = "".into();
    node.cluster.put_volume("pv", spec);
    let said = node.fails(&read_only(claims("uid-1", &["pv"]))).await;
    assert!(said.contains("cannot mount unformatted disk"), "{said}");
    let made = node
        .volumes
        .set_up(&claims("uid-1", &["pv"]))
        .await
        .unwrap();
    fs::write(made.volumes["of-pv"].path.join("f"), "kept").unwrap();
    let other = node
        .volumes
        .set_up(&claims("uid-2", &["pv"]))
        .await
        .unwrap();
    let path = other.volumes["of-pv"].path.join("f");
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    let flags = nix::sys::statvfs::statvfs(&path).unwrap().flags();
    assert!(
        flags.contains(
            nix::sys::statvfs::FsFlags::ST_NOEXEC | nix::sys::statvfs::FsFlags::ST_NOATIME
        )
    );
    let staged = node
        .dir
        .path()
        .join("plugins/kubernetes.io/local-volume/mounts/pv");
    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    assert!(mount::is_mount_point(&staged).unwrap() && path.exists());
    node.volumes.remove_pod_dir("uid-2").await.unwrap();
    assert!(!staged.exists());

    // What has a file system is not formatted again. What a kubelet leaves staged for nobody goes.
    let made = node
        .volumes
        .set_up(&claims("uid-3", &["pv"]))
        .await
        .unwrap();
    assert!(made.volumes["of-pv"].path.join("f").exists());
    let pod_dir = node.volumes.pod_dir("uid-3");
    mount::unmount_under(&pod_dir).unwrap();
    fs::remove_dir_all(&pod_dir).unwrap();
    node.restart();
    node.volumes.sweep().await;
    assert!(!staged.exists());
}

#[tokio::test]
async fn a_device_is_given_to_containers_as_it_is() {
    let disk = Disk::new();
    let node = Node::here();
    let mut spec = local(Path::new(&disk.device));
    spec["volumeMode"] = "Block".into();
    node.cluster.put_volume("pv", spec);
    let pod = read_only(mapped(claims("uid-1", &["pv"])));
    let made = node.volumes.set_up(&pod).await.unwrap();
    let volume = &made.volumes["of-pv"];
    let link = "pods/uid-1/volumeDevices/kubernetes.io~local-volume/pv";
    assert_eq!(volume.path, node.dir.path().join(link));
    assert_eq!(
        fs::read_link(&volume.path).unwrap(),
        Path::new(&disk.device)
    );
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let images = BTreeMap::new();
    let of = ContainerMounts {
        pod_uid: "uid-1",
        container: "c",
        mounts: &[],
        devices: container.volume_devices.as_deref().unwrap(),
        volumes: &made,
        images: &images,
        expand: &|text| Ok(text.to_owned()),
    };
    let devices = node.volumes.container_devices(&of).unwrap();
    assert_eq!(devices[0].container_path, Path::new("/dev/of-pv"));
    assert_eq!(
        (devices[0].permissions.as_str(), &devices[0].host_path),
        ("r", &volume.path)
    );
    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    assert!(Path::new(&disk.device).exists());
}

//! Pods' volumes on the real file system, with the mounts of this machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::FutureExt;
use k8s_openapi::ByteString;
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::runtime::{Mount, MountPropagation};
use crate::sys::mount;

mod persistent;

/// Objects of a small cluster.
#[derive(Default)]
struct Cluster {
    maps: Mutex<BTreeMap<String, ConfigMap>>,
    secrets: Mutex<BTreeMap<String, Secret>>,
    tokens: AtomicU32,
    claims: Mutex<BTreeMap<String, PersistentVolumeClaim>>,
    volumes: Mutex<BTreeMap<String, PersistentVolume>>,
    /// The API server does not answer.
    down: AtomicBool,
}

impl Cluster {
    fn read<T: Clone>(
        &self,
        from: &Mutex<BTreeMap<String, T>>,
        kind: &'static str,
        name: &str,
    ) -> Result<T, ObjectError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(ObjectError::Failed("connection refused".into()));
        }
        get(&from.lock(), kind, name).map(|found| T::clone(&found))
    }

    /// A volume and the claim that is bound to it, both of this name.
    pub(super) fn put_volume(&self, name: &str, spec: serde_json::Value) {
        let claim = json!({
            "metadata": { "name": name, "namespace": "ns", "uid": format!("claim-{name}") },
            "spec": { "volumeName": name }, "status": { "phase": "Bound" },
        });
        let claim = proto::typed::from_json_value(claim).unwrap();
        self.claims.lock().insert(name.into(), claim);
        let mut volume = json!({ "metadata": { "name": name }, "spec": spec });
        volume["spec"]["claimRef"] = json!({ "uid": format!("claim-{name}") });
        let volume = proto::typed::from_json_value(volume).unwrap();
        self.volumes.lock().insert(name.into(), volume);
    }

    fn put_map(&self, name: &str, data: &[(&str, &str)]) {
        let data = data
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        let map = ConfigMap {
            data: Some(data),
            ..ConfigMap::default()
        };
        self.maps.lock().insert(name.into(), map);
    }

    fn put_secret(&self, name: &str, data: &[(&str, &str)]) {
        let data = data
            .iter()
            .map(|(k, v)| ((*k).into(), ByteString((*v).into())))
            .collect();
        let secret = Secret {
            data: Some(data),
            ..Secret::default()
        };
        self.secrets.lock().insert(name.into(), secret);
    }
}

fn get<T: Clone>(
    from: &BTreeMap<String, T>,
    kind: &'static str,
    name: &str,
) -> Result<Arc<T>, ObjectError> {
    let missing = || ObjectError::NotFound {
        kind,
        name: name.to_owned(),
    };
    from.get(name).cloned().map(Arc::new).ok_or_else(missing)
}

impl Objects for Cluster {
    fn config_map<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        async { get(&self.maps.lock(), "configmap", name) }.boxed()
    }

    fn secret<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>> {
        async { get(&self.secrets.lock(), "secret", name) }.boxed()
    }

    fn token(&self, request: TokenRequest) -> Answer<'_, String> {
        async move {
            let n = self.tokens.load(Ordering::Relaxed);
            Ok(format!(
                "{}/{}/{}/{n}",
                request.service_account, request.pod, request.audience
            ))
        }
        .boxed()
    }

    fn trust_anchors(&self, _: TrustBundles, _: bool) -> Answer<'_, Vec<u8>> {
        async { Ok(b"PEM".to_vec()) }.boxed()
    }

    fn certificate(&self, request: CertificateRequest) -> Answer<'_, Arc<Credentials>> {
        async move {
            let CertificateRequest { volume, source, .. } = request;
            Ok(Arc::new(Credentials {
                key: format!("KEY {}\n", request.key_type).into_bytes(),
                chain: format!("CHAIN {} {volume} {source}\n", request.signer).into_bytes(),
            }))
        }
        .boxed()
    }

    fn claim<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, PersistentVolumeClaim> {
        async { self.read(&self.claims, "persistentvolumeclaims", name) }.boxed()
    }

    fn persistent_volume<'a>(&'a self, name: &'a str) -> Answer<'a, PersistentVolume> {
        async { self.read(&self.volumes, "persistentvolumes", name) }.boxed()
    }
}

/// A node whose mounts end with the test.
struct Node {
    dir: tempfile::TempDir,
    cluster: Arc<Cluster>,
    volumes: Volumes,
}

impl Node {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Arc::new(Cluster::default());
        let volumes = Volumes::new(dir.path(), cluster.clone(), Allocatable::new());
        Self {
            dir,
            cluster,
            volumes,
        }
    }

    fn mounts(
        &self,
        pod: &Pod,
        volumes: &PodVolumes,
        images: &BTreeMap<String, PathBuf>,
    ) -> Result<Vec<Mount>, MountError> {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        self.volumes.container_mounts(&ContainerMounts {
            pod_uid: pod.metadata.uid.as_deref().unwrap(),
            container: &container.name,
            mounts: container.volume_mounts.as_deref().unwrap_or_default(),
            devices: container.volume_devices.as_deref().unwrap_or_default(),
            volumes,
            images,
            expand: &|text| Ok(text.replace("$(NAME)", "expanded")),
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        mount::unmount_under(self.dir.path()).unwrap();
    }
}

/// A pod with one container that mounts what it says, and another that mounts everything.
fn pod(volumes: serde_json::Value, mounts: serde_json::Value) -> Pod {
    let all = volumes.as_array().unwrap().iter();
    let all: Vec<_> = all
        .map(|v| json!({ "name": v["name"], "mountPath": "/all/".to_owned() + v["name"].as_str().unwrap() }))
        .collect();
    proto::typed::from_json_value(json!({
        "metadata": {
            "name": "p", "namespace": "ns", "uid": "uid-1", "labels": { "app": "web" },
        },
        "spec": {
            "serviceAccountName": "sa",
            "containers": [
                { "name": "c", "volumeMounts": mounts },
                { "name": "all", "volumeMounts": all },
            ],
            "volumes": volumes,
        },
    }))
    .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn read(volumes: &PodVolumes, volume: &str, file: &str) -> String {
    fs::read_to_string(volumes.volumes[volume].path.join(file)).unwrap()
}

#[tokio::test]
async fn files_follow_their_sources_and_say_when_they_changed() {
    let node = Node::new();
    node.cluster.put_map("cm", &[("a", "1"), ("b", "2")]);
    node.cluster.put_secret("s", &[("key", "hidden")]);
    let pod = pod(
        json!([
            { "name": "map", "configMap": { "name": "cm", "defaultMode": 420 } },
            { "name": "sec", "secret": {
                "secretName": "s", "defaultMode": 256,
                "items": [{ "key": "key", "path": "dir/renamed", "mode": 288 }],
            } },
            { "name": "down", "downwardAPI": { "defaultMode": 420, "items": [
                { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
            ] } },
            { "name": "all", "projected": { "defaultMode": 420, "sources": [
                { "configMap": { "name": "cm", "items": [{ "key": "a", "path": "cfg" }] } },
                { "secret": { "name": "nobody", "optional": true } },
                { "serviceAccountToken": { "path": "token", "audience": "vault" } },
                { "clusterTrustBundle": { "name": "b", "path": "ca.pem" } },
            ] } },
        ]),
        json!([]),
    );
    let first = node.volumes.set_up(&pod).await.unwrap();
    assert!(first.changed);
    assert_eq!(read(&first, "map", "a"), "1");
    assert_eq!(mode(&first.volumes["map"].path.join("b")), 0o644);
    assert_eq!(read(&first, "sec", "dir/renamed"), "hidden");
    assert_eq!(mode(&first.volumes["sec"].path.join("dir/renamed")), 0o440);
    assert_eq!(read(&first, "down", "labels"), "app=\"web\"");
    assert_eq!(read(&first, "all", "token"), "sa/p/vault/0");
    assert_eq!(
        read(&first, "all", "cfg") + &read(&first, "all", "ca.pem"),
        "1PEM"
    );
    // What may be secret is in memory, and only there.
    for (volume, in_memory) in [("map", false), ("sec", true), ("down", true), ("all", true)] {
        let path = &first.volumes[volume].path;
        assert_eq!(mount::is_mount_point(path).unwrap(), in_memory, "{volume}");
        assert!(first.volumes[volume].read_only);
    }
    let path = "pods/uid-1/volumes/kubernetes.io~secret/sec";
    assert_eq!(first.volumes["sec"].path, node.dir.path().join(path));

    assert!(!node.volumes.set_up(&pod).await.unwrap().changed);
    node.cluster.put_map("cm", &[("a", "new")]);
    node.cluster.tokens.store(1, Ordering::Relaxed);
    let second = node.volumes.set_up(&pod).await.unwrap();
    assert!(second.changed);
    assert_eq!(
        read(&second, "all", "cfg") + &read(&second, "map", "a"),
        "newnew"
    );
    assert_eq!(read(&second, "all", "token"), "sa/p/vault/1");
    assert!(!second.volumes["map"].path.join("b").exists());
    assert!(!node.volumes.set_up(&pod).await.unwrap().changed);
}

#[tokio::test]
async fn a_certificate_is_written_as_a_bundle_or_as_two_files() {
    let node = Node::new();
    let mut pod = pod(
        json!([{ "name": "tls", "projected": { "defaultMode": 420, "sources": [
            { "podCertificate": {
                "signerName": "x/one", "keyType": "ECDSAP256", "credentialBundlePath": "all.pem",
            } },
            { "podCertificate": {
                "signerName": "x/two", "keyType": "ED25519",
                "keyPath": "two/key", "certificateChainPath": "two/chain",
            } },
        ] } }]),
        json!([]),
    );
    let made = node.volumes.set_up(&pod).await.unwrap();
    let bundle = read(&made, "tls", "all.pem");
    assert_eq!(bundle, "KEY ECDSAP256\nCHAIN x/one tls 0\n");
    assert_eq!(read(&made, "tls", "two/key"), "KEY ED25519\n");
    assert_eq!(read(&made, "tls", "two/chain"), "CHAIN x/two tls 1\n");
    assert_eq!(mode(&made.volumes["tls"].path.join("all.pem")), 0o644);
    // With a user of its own, nobody else reads them.
    pod.metadata.uid = Some("uid-2".into());
    let spec = pod.spec.as_mut().unwrap();
    spec.security_context = proto::typed::from_json_value(json!({ "runAsUser": 1000 })).unwrap();
    let made = node.volumes.set_up(&pod).await.unwrap();
    let meta = fs::metadata(made.volumes["tls"].path.join("two/key")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (1000, 0o600));
}

#[tokio::test]
async fn every_failure_is_told_in_upstreams_words_and_the_rest_is_made() {
    let node = Node::new();
    node.cluster.put_map("cm", &[("a", "1")]);
    let pod = pod(
        json!([
            { "name": "good", "emptyDir": {} },
            { "name": "none", "configMap": { "name": "missing" } },
            { "name": "key", "configMap": {
                "name": "cm", "items": [{ "key": "z", "path": "z" }],
            } },
            { "name": "two", "projected": { "sources": [
                { "secret": { "name": "x" } }, { "configMap": { "name": "y" } },
            ] } },
            { "name": "host", "hostPath": { "path": "/nowhere/at/all", "type": "Directory" } },
            { "name": "none-2", "nfs": { "server": "s", "path": "/" } },
            { "name": "dots", "configMap": {
                "name": "cm", "items": [{ "key": "a", "path": "../a" }],
            } },
        ]),
        json!([]),
    );
    let failures = node.volumes.set_up(&pod).await.unwrap_err();
    let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
    let said = |text: &str| assert!(texts.iter().any(|t| t == text), "{text} not in {texts:#?}");
    said(r#"MountVolume.SetUp failed for volume "none" : configmap "missing" not found"#);
    said(
        "MountVolume.SetUp failed for volume \"key\" : configmap references non-existent config \
         key: z",
    );
    said(
        "MountVolume.SetUp failed for volume \"two\" : [secret \"x\" not found, configmap \"y\" \
         not found]",
    );
    said(
        "MountVolume.SetUp failed for volume \"dots\" : invalid path: must not contain '..': ../a",
    );
    assert_eq!(failures.len(), 6);
    assert!(
        node.dir
            .path()
            .join("pods/uid-1/volumes/kubernetes.io~empty-dir/good")
            .is_dir()
    );
}

#[tokio::test]
async fn the_group_of_the_pod_owns_its_volumes() {
    let node = Node::new();
    node.cluster.put_secret("s", &[("key", "x")]);
    let mut pod = pod(
        json!([
            { "name": "dir", "emptyDir": {} },
            { "name": "mem", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "sec", "secret": { "secretName": "s", "defaultMode": 256 } },
            { "name": "tok", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } },
            ] } },
        ]),
        json!([]),
    );
    let spec = pod.spec.as_mut().unwrap();
    spec.security_context =
        proto::typed::from_json_value(json!({ "fsGroup": 2000, "runAsUser": 1000 })).unwrap();
    let made = node.volumes.set_up(&pod).await.unwrap();
    let meta = |volume: &str, file: &str| {
        let meta = fs::metadata(made.volumes[volume].path.join(file)).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    assert_eq!(meta("dir", ""), (0, 2000, 0o2777));
    assert_eq!(meta("mem", ""), (0, 2000, 0o3777));
    assert_eq!(meta("sec", "key"), (0, 2000, 0o440));
    assert_eq!(meta("tok", "token"), (1000, 2000, 0o640));
    // What the pod does with its own directory stays as it is.
    let dir = &made.volumes["dir"].path;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    node.volumes.set_up(&pod).await.unwrap();
    assert_eq!(mode(dir), 0o700);
    // A memory volume ends at its size.
    let full = fs::write(made.volumes["mem"].path.join("f"), vec![0; 2 << 20]);
    assert_eq!(full.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
}

#[tokio::test]
async fn mounts_are_as_the_container_asks_and_files_are_never_writable() {
    let node = Node::new();
    node.cluster.put_map("cm", &[("a", "1")]);
    let pod = pod(
        json!([
            { "name": "map", "configMap": { "name": "cm" } },
            { "name": "dir", "emptyDir": {} },
            { "name": "img", "image": { "reference": "x" } },
        ]),
        json!([
            { "name": "map", "mountPath": "/etc/app" },
            { "name": "dir", "mountPath": "/etc/app/nested/deep" },
            { "name": "dir", "mountPath": "data", "readOnly": true,
              "recursiveReadOnly": "Enabled" },
            { "name": "dir", "mountPath": "/bi", "mountPropagation": "Bidirectional" },
            { "name": "img", "mountPath": "/img" },
        ]),
    );
    let made = node.volumes.set_up(&pod).await.unwrap();
    assert!(made.volumes["map"].path.join("nested/deep").is_dir());
    let image = tempfile::tempdir().unwrap();
    let images = BTreeMap::from([("img".to_owned(), image.path().to_owned())]);
    let mounts = node.mounts(&pod, &made, &images).unwrap();
    let at = |n: usize| {
        (
            mounts[n].readonly,
            mounts[n].recursive_read_only,
            mounts[n].propagation,
        )
    };
    assert_eq!(at(0), (true, false, MountPropagation::Private));
    assert_eq!(at(2), (true, true, MountPropagation::Private));
    assert_eq!(mounts[2].container_path, Path::new("/data"));
    assert_eq!(at(3), (false, false, MountPropagation::Bidirectional));
    assert_eq!(
        (mounts[4].readonly, &*mounts[4].host_path),
        (true, image.path())
    );
    let missing = node.mounts(&pod, &made, &BTreeMap::new()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        r#"cannot find volume "img" to mount into container "c""#
    );
}

#[tokio::test]
async fn a_sub_path_shows_that_part_and_follows_no_link_out_of_the_volume() {
    let node = Node::new();
    node.cluster.put_map("cm", &[("file", "1")]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "host").unwrap();
    let with = |volume: &str, sub_path: &str| {
        pod(
            json!([
                { "name": "dir", "emptyDir": {} },
                { "name": "map", "configMap": { "name": "cm" } },
            ]),
            json!([{ "name": volume, "mountPath": "/m", "subPath": sub_path }]),
        )
    };
    let none = BTreeMap::new();
    let made = node.volumes.set_up(&with("dir", "x")).await.unwrap();
    let dir = &made.volumes["dir"].path;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o2770)).unwrap();
    let mounts = |volume: &str, sub_path: &str| {
        node.mounts(&with(volume, sub_path), &made, &none)
            .map(|mut m| m.remove(0).host_path)
    };
    // Made if it is missing, with the volume's mode.
    let part = mounts("dir", "new/inner").unwrap();
    fs::write(part.join("f"), "x").unwrap();
    assert!(dir.join("new/inner/f").exists());
    assert_eq!((mode(&dir.join("new")), mode(&part)), (0o2770, 0o2770));
    // The same again after a restart of the container, and another part in its place.
    assert_eq!(mounts("dir", "new/inner").unwrap(), part);
    assert_eq!(mount::mounts_under(&part).unwrap().len(), 1);
    mounts("dir", "new").unwrap();
    assert!(part.join("inner").is_dir());
    // A single file, through the volume's own links.
    let file = mounts("map", "file").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "1");

    symlink(outside.path(), dir.join("abs")).unwrap();
    symlink("../../../../../../../../..", dir.join("up")).unwrap();
    symlink("new", dir.join("rel")).unwrap();
    for escape in ["abs", "abs/secret", "up", "up/etc", "abs/made"] {
        let refused = mounts("dir", escape).unwrap_err().to_string();
        assert_eq!(
            refused, r#"failed to prepare subPath for volumeMount "dir" of container "c""#,
            "{escape}"
        );
    }
    assert!(!outside.path().join("made").exists());
    assert!(mounts("dir", "rel/inner").is_ok());
    assert!(
        mounts("dir", "../x")
            .unwrap_err()
            .to_string()
            .contains("must not contain '..'")
    );
    assert!(
        mounts("dir", "/x")
            .unwrap_err()
            .to_string()
            .contains("must not be an absolute path")
    );

    let mut expression = with("dir", "");
    let container = &mut expression.spec.as_mut().unwrap().containers[0];
    container.volume_mounts.as_mut().unwrap()[0].sub_path_expr = Some("$(NAME)/x".into());
    node.mounts(&expression, &made, &none).unwrap();
    assert!(dir.join("expanded/x").is_dir());
}

#[tokio::test]
async fn a_part_that_is_swapped_for_a_link_at_any_moment_never_shows_the_node() {
    let node = Node::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "host").unwrap();
    let pod = pod(
        json!([{ "name": "dir", "emptyDir": {} }]),
        json!([{ "name": "dir", "mountPath": "/m", "subPath": "part" }]),
    );
    let made = node.volumes.set_up(&pod).await.unwrap();
    let dir = made.volumes["dir"].path.clone();
    let (part, link) = (dir.join("part"), dir.join("link"));
    fs::create_dir(&part).unwrap();
    symlink(outside.path(), &link).unwrap();
    let stop = Arc::new(AtomicU32::new(0));
    let stopped = stop.clone();
    let swapper = std::thread::spawn(move || {
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        let cwd = nix::fcntl::AT_FDCWD;
        while stopped.load(Ordering::Relaxed) == 0 {
            nix::fcntl::renameat2(cwd, &part, cwd, &link, flags).unwrap();
        }
    });
    let (mut bound, mut refused) = (0, 0);
    for _ in 0..500 {
        match node.mounts(&pod, &made, &BTreeMap::new()) {
            Ok(mounts) => {
                bound += 1;
                assert!(!mounts[0].host_path.join("secret").exists());
                mount::unmount(&mounts[0].host_path).unwrap();
            }
            Err(_) => refused += 1,
        }
    }
    stop.store(1, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(
        bound > 0 && refused > 0,
        "no race: {bound} bound, {refused} refused"
    );
}

#[tokio::test]
async fn mounts_are_found_where_the_root_is_a_link() {
    let mut node = Node::new();
    node.cluster.put_secret("s", &[("key", "x")]);
    let link = node.dir.path().join("link");
    fs::create_dir(node.dir.path().join("real")).unwrap();
    symlink("real", &link).unwrap();
    node.volumes = Volumes::new(&link, node.cluster.clone(), Allocatable::new());
    let pod = pod(
        json!([{ "name": "sec", "secret": { "secretName": "s" } }]),
        json!([]),
    );
    node.volumes.set_up(&pod).await.unwrap();
    assert_eq!(mount::mounts_under(&link).unwrap().len(), 1);
    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    assert!(!link.join("pods/uid-1").exists());
}

#[tokio::test]
async fn tearing_down_leaves_nothing_and_touches_nothing_of_the_node() {
    let node = Node::new();
    node.cluster.put_secret("s", &[("key", "x")]);
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("sub")).unwrap();
    fs::write(host.path().join("sub/precious"), "x").unwrap();
    let pod = pod(
        json!([
            { "name": "sec", "secret": { "secretName": "s" } },
            { "name": "mem", "emptyDir": { "medium": "Memory" } },
            { "name": "dir", "emptyDir": {} },
            { "name": "host", "hostPath": { "path": host.path(), "type": "Directory" } },
        ]),
        json!([
            { "name": "host", "mountPath": "/h", "subPath": "sub" },
            { "name": "mem", "mountPath": "/m", "subPath": "a" },
        ]),
    );
    let made = node.volumes.set_up(&pod).await.unwrap();
    node.mounts(&pod, &made, &BTreeMap::new()).unwrap();
    fs::write(made.volumes["dir"].path.join("f"), "x").unwrap();
    let pods = node.dir.path().join("pods");
    assert_eq!(mount::mounts_under(&pods).unwrap().len(), 4);
    // A kubelet that starts sees a pod that nobody knows.
    let living = BTreeSet::from(["uid-1".to_owned()]);
    assert!(node.volumes.orphans(&living).is_empty());
    assert_eq!(node.volumes.orphans(&BTreeSet::new()), ["uid-1"]);
    fs::write(pods.join("uid-1/etc-hosts"), "").unwrap();
    node.volumes.tear_down("uid-1").await.unwrap();
    node.volumes.tear_down("uid-1").await.unwrap();
    assert!(mount::mounts_under(&pods).unwrap().is_empty());
    assert!(pods.join("uid-1/etc-hosts").exists());
    node.volumes.remove_pod_dir("uid-1").await.unwrap();
    assert!(!pods.join("uid-1").exists());
    assert!(host.path().join("sub/precious").exists());
    assert!(node.volumes.tear_down("../x").await.is_err());
}

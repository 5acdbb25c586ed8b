use std::io::Write;

use serde_json::json;

use super::*;

/// The files of an archive under construction.
#[derive(Default)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((name.into(), bytes.into()));
    }

    fn blob(&mut self, bytes: Vec<u8>) -> serde_json::Value {
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        self.add(blob_name(&digest), bytes);
        json!({ "digest": digest, "size": size })
    }

    fn tar(&self) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, bytes) in &self.0 {
            let mut header = ::tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }
}

fn layer_of(name: &str) -> Vec<u8> {
    let mut files = Files::default();
    files.add(name, "x");
    files.tar()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn here() -> Platform {
    Platform {
        architecture: "amd64".into(),
        os: "linux".into(),
        variant: None,
    }
}

fn config(diff_id: &Digest) -> Vec<u8> {
    let config = json!({
        "os": "linux",
        "config": { "Cmd": ["run"] },
        "rootfs": { "diff_ids": [diff_id] },
    });
    config.to_string().into_bytes()
}

/// An OCI layout with one image for two platforms under an index, called `name`.
fn layout(name: &str, file: &str) -> Files {
    let mut files = Files::default();
    files.add("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut manifests = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let layer = layer_of(&format!("{file}-{architecture}"));
        let config = files.blob(config(&Digest::of(&layer)));
        let layers = [files.blob(gzip(&layer))];
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut descriptor = files.blob(manifest.to_string().into_bytes());
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifests.push(descriptor);
    }
    let inner = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    let mut entry = files.blob(inner.into_bytes());
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    files.add("index.json", index.to_string());
    files
}

#[test]
fn an_oci_layout_gives_the_image_of_this_platform() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let tar = layout("example.com/app:1", "f").tar();
    for (name, bytes) in [("a.tar", tar.clone()), ("b.tar.gz", gzip(&tar))] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let images = import(&store, &path, &here(), true).unwrap();
        assert_eq!(images.len(), 1);
        assert!(images[0].tags.contains("example.com/app:1") && images[0].pinned);
    }
    let image = store.image("example.com/app:1").unwrap();
    assert!(image.status_id().starts_with("example.com/app@sha256:"));
    assert_eq!(image.config.config.cmd, ["run"]);
    let rootfs = store.prepare("c", &image, &[]).unwrap();
    assert!(rootfs.join("f-amd64").is_file() && !rootfs.join("f-arm64").exists());
    store.release("c").unwrap();
}

#[test]
fn a_docker_archive_is_read_whatever_the_order_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let layer = layer_of("f");
    let config = config(&Digest::of(&layer));
    let list = json!([
        {
            "Config": "c.json",
            "RepoTags": ["app:1", "localhost:5000/app:2"],
            "Layers": ["l/layer.tar"],
        },
        { "Config": "c.json", "RepoTags": null, "Layers": ["l/layer.tar"] },
    ]);
    let mut files = Files::default();
    files.add("manifest.json", list.to_string());
    files.add("./l/layer.tar", layer);
    files.add("c.json", config.clone());
    let path = dir.path().join("a.tar");
    fs::write(&path, files.tar()).unwrap();
    let images = import(&store, &path, &here(), false).unwrap();
    assert_eq!((images.len(), store.images().len()), (2, 1));
    assert_eq!(store.image("app:1").unwrap().id, Digest::of(&config));
    assert!(store.image("localhost:5000/app:2").is_some());
}

#[test]
fn archives_that_lie_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let path = dir.path().join("a.tar");
    let try_it = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        import(&store, &path, &here(), false).unwrap_err()
    };
    assert!(matches!(try_it(Files::default().tar()), Error::Unknown));
    assert!(matches!(
        try_it(b"not a tar, but longer than a header".repeat(20)),
        Error::Archive(_)
    ));
    let mut files = layout("example.com/app:1", "f");
    for (name, bytes) in &mut files.0 {
        if name.starts_with("blobs/") && bytes.windows(6).any(|w| w == b"layers") {
            bytes.push(b' ');
        }
    }
    assert!(matches!(try_it(files.tar()), Error::Digest { .. }));
    let mut missing = layout("example.com/app:1", "f");
    missing
        .0
        .retain(|(_, bytes)| !bytes.starts_with(&[0x1f, 0x8b]));
    assert!(matches!(try_it(missing.tar()), Error::Missing(_)));
    assert!(store.images().is_empty());
}

/// A pull and an import, or two imports, may bring the same image at the same moment.
#[test]
fn the_same_archive_can_be_imported_by_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let path = dir.path().join("a.tar");
    fs::write(&path, layout("example.com/app:1", "f").tar()).unwrap();
    for _ in 0..8 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| import(&store, &path, &here(), false).unwrap());
            }
        });
        let image = store.image("example.com/app:1").unwrap();
        store.remove(&image.id).unwrap();
    }
}

#[tokio::test]
async fn an_archive_dropped_into_the_directory_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let path = dir.path().join("images");
    let directory = Directory {
        store: store.clone(),
        path: path.clone(),
        platform: here(),
    };
    fs::create_dir(&path).unwrap();
    let (reading, was_read) = tokio::sync::watch::channel(Reading::Archives(0));
    let drop_one = async {
        fs::write(path.join("broken.tar"), "no").unwrap();
        fs::write(dir.path().join("x"), layout("example.com/app:1", "f").tar()).unwrap();
        fs::rename(dir.path().join("x"), path.join("app.tar")).unwrap();
        while store.image("example.com/app:1").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = directory.run(reading) => panic!("{ended:?}"),
        () = drop_one => {}
    }
    assert_ne!(*was_read.borrow(), Reading::Archives(0));
}

#[test]
fn an_image_removed_by_hand_comes_back_while_its_archive_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let path = dir.path().join("images");
    fs::create_dir(&path).unwrap();
    let archive = layout("example.com/app:1", "f").tar();
    fs::write(path.join("app.tar"), archive).unwrap();
    let directory = Directory {
        store: store.clone(),
        path,
        platform: here(),
    };
    directory.scan(drop).unwrap();
    let id = store.image("example.com/app:1").unwrap().id.clone();
    store.remove(&id).unwrap();
    directory.scan(drop).unwrap();
    assert!(store.image("example.com/app:1").is_some());
}

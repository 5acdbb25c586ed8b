use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;
use crate::image::manifest::RootFs;
use crate::sys::mount;
use crate::sys::userns::IdMap;

/// A layer as a tar stream: `(path, contents)`, a path that ends in a slash is a directory.
fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if path.ends_with('/') { 0o755 } else { 0o644 });
        header.set_uid(5);
        header.set_gid(6);
        header.set_entry_type(match path.ends_with('/') {
            true => tar::EntryType::Directory,
            false => tar::EntryType::Regular,
        });
        header.set_size(data.len() as u64);
        builder
            .append_data(&mut header, path, data.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn add(store: &Arc<Store>, name: &str, layers: &[&[(&str, &str)]]) -> Arc<Image> {
    let tars: Vec<_> = layers.iter().map(|files| tar_of(files)).collect();
    let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let mut pins: Vec<LayerPin> = Vec::new();
    for (n, tar) in tars.iter().enumerate() {
        let pin = store.find_layer(&diff_ids[..=n]).unwrap_or_else(|| {
            let staged = store.stage().unwrap();
            let unpacked = layer::unpack(&tar[..], &diff_ids[n], &staged.fs()).unwrap();
            store
                .adopt(staged, &unpacked, &diff_ids[..=n], &pins)
                .unwrap()
        });
        pins.push(pin);
    }
    let config = ImageConfig {
        rootfs: RootFs { diff_ids },
        ..Default::default()
    };
    let id = Digest::of(&serde_json::to_vec(&config).unwrap());
    let reference: Reference = name.parse().unwrap();
    let image = NewImage {
        id,
        config,
        tags: [reference.tagged().unwrap()].into(),
        digests: [reference.at(&Digest::of(name.as_bytes()))].into(),
        pinned: false,
        access: Accesses::new(),
    };
    store.commit(image, &pins).unwrap()
}

fn layers_on_disk(root: &Path) -> usize {
    fs::read_dir(root.join("layers")).unwrap().count() - 1
}

#[test]
fn an_image_is_found_by_every_name_and_a_tag_moves() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let old = add(&store, "app:v1", &[&[("a", "1")]]);
    for name in [
        "app:v1".to_owned(),
        "docker.io/library/app:v1".into(),
        old.id.to_string(),
        old.id.hex().into(),
        old.status_id(),
    ] {
        assert_eq!(store.image(&name).unwrap().id, old.id, "{name}");
    }
    assert!(store.image("app").is_none());
    let new = add(&store, "app:v1", &[&[("a", "2")]]);
    assert_eq!(store.image("app:v1").unwrap().id, new.id);
    assert!(store.image(&old.id.to_string()).unwrap().tags.is_empty());
    // The same after a restart.
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.image("app:v1").unwrap().id, new.id);
    assert_eq!(store.images().len(), 2);
}

#[test]
fn a_layer_goes_with_its_last_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base: &[(&str, &str)] = &[("base", "b")];
    let one = add(&store, "one", &[base, &[("x", "1")]]);
    let two = add(&store, "two", &[base, &[("x", "2")]]);
    assert_eq!(layers_on_disk(dir.path()), 3);
    store.remove(&one.id).unwrap();
    assert_eq!(layers_on_disk(dir.path()), 2);
    assert!(store.image("one").is_none());
    let rootfs = store.prepare("c1", &two, &[]).unwrap();
    assert!(matches!(store.remove(&two.id), Err(Error::InUse(_))));
    assert_eq!(fs::read_to_string(rootfs.join("x")).unwrap(), "2");
    store.release("c1").unwrap();
    store.remove(&two.id).unwrap();
    assert_eq!(layers_on_disk(dir.path()), 0);
    assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
}

#[test]
fn containers_of_one_image_do_not_see_each_others_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let image = add(
        &store,
        "app",
        &[&[("d/", ""), ("d/a", "low")], &[("d/b", "top")]],
    );
    let one = store.prepare("one", &image, &[]).unwrap();
    let two = store.prepare("two", &image, &[]).unwrap();
    fs::write(one.join("d/a"), "changed").unwrap();
    fs::remove_file(one.join("d/b")).unwrap();
    assert_eq!(fs::read_to_string(two.join("d/a")).unwrap(), "low");
    assert_eq!(fs::read_to_string(two.join("d/b")).unwrap(), "top");
    assert!(matches!(
        store.prepare("one", &image, &[]),
        Err(Error::Exists(_))
    ));
    assert!(store.snapshot_usage("one").unwrap().0 > store.snapshot_usage("two").unwrap().0);
    // A restart keeps the mount and the changes; a lost mount comes back with them.
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.snapshots().len(), 2);
    mount::unmount(&one).unwrap();
    assert!(!one.join("d").exists());
    store.remount("one").unwrap();
    assert_eq!(fs::read_to_string(one.join("d/a")).unwrap(), "changed");
    let view = store.view("view", &image, &[]).unwrap();
    assert!(fs::write(view.join("d/a"), "").is_err());
    for id in ["one", "two", "view"] {
        store.release(id).unwrap();
        store.release(id).unwrap();
    }
    assert!(mount::mounts_under(dir.path()).unwrap().is_empty());
}

#[test]
fn a_user_namespace_sees_the_images_owners() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (name, layers) in [
        ("two", [[("a", "1")].as_slice(), &[("b", "2")]].as_slice()),
        ("one", &[&[("a", "1")]]),
    ] {
        let image = add(&store, name, layers);
        let ids = [IdMap {
            inside: 0,
            host: 100_000,
            length: 65_536,
        }];
        let rootfs = store.prepare("c", &image, &ids).unwrap();
        let meta = fs::metadata(rootfs.join("a")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (100_005, 100_006));
        assert_eq!(fs::metadata(&rootfs).unwrap().uid(), 100_000);
        let view = store.view("v", &image, &ids).unwrap();
        assert_eq!(fs::metadata(view.join("a")).unwrap().uid(), 100_005);
        store.release("c").unwrap();
        store.release("v").unwrap();
    }
    assert!(mount::mounts_under(dir.path()).unwrap().is_empty());
}

#[test]
fn an_image_without_layers_can_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let image = add(&store, "scratch-like", &[]);
    let rootfs = store.prepare("c", &image, &[]).unwrap();
    fs::write(rootfs.join("f"), "x").unwrap();
    store.release("c").unwrap();
}

#[test]
fn the_root_looks_as_in_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let image = add(&store, "app", &[&[("f", "")]]);
    let rootfs = store.prepare("c", &image, &[]).unwrap();
    assert_eq!(
        fs::metadata(rootfs).unwrap().permissions().mode() & 0o777,
        0o755
    );
    store.release("c").unwrap();
}

#[test]
fn after_a_power_failure_what_was_not_synced_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    add(&store, "synced", &[&[("a", "1")]]);
    store.sync().unwrap();
    let lost = add(&store, "lost", &[&[("a", "2")]]);
    drop(store);
    let record = dir
        .path()
        .join("layers")
        .join(&lost.layers[0].0)
        .join("layer.json");
    let json = fs::read_to_string(&record).unwrap();
    let boot = file::boot_id().unwrap();
    fs::write(&record, json.replace(&boot, "another-boot")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.image("synced").is_some());
    assert!(store.image("lost").is_none());
    assert_eq!(layers_on_disk(dir.path()), 1);
}

#[test]
fn names_that_are_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let image = add(&store, "app", &[]);
    for id in ["", ".", "..", "a/b", "../x", ".hidden"] {
        assert!(
            matches!(store.prepare(id, &image, &[]), Err(Error::Name(_))),
            "{id:?}"
        );
    }
}

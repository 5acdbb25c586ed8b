use std::collections::BTreeMap;

use super::*;

/// A clone with one recipe in it, and a cache of its own.
fn workshop(dir: &Path, recipe: &str) -> Workshop {
    let images = dir.join("e2e/images");
    fs::create_dir_all(&images).unwrap();
    fs::create_dir_all(dir.join("hack")).unwrap();
    // No tool is asked for here.
    std::os::unix::fs::symlink("/bin/true", dir.join("hack/tools")).unwrap();
    fs::write(images.join("it.toml"), recipe).unwrap();
    fs::write(images.join("data"), "from a file\n").unwrap();
    Workshop::at(dir, &dir.join("cache"))
}

/// An archive of an image with this name, for tests of what reads archives.
pub(crate) fn archive_of(dir: &Path, name: &str) -> PathBuf {
    let clone = dir.join(name.replace(['/', ':'], "-"));
    let recipe = RECIPE.replace("navarch.local/it:1", name);
    build(&workshop(&clone, &recipe), "it").unwrap().archive
}

const RECIPE: &str = r#"
name = "navarch.local/it:1"
[[file]]
path = "/usr/share/data"
copy = "data"
owner = [7, 8]
[[file]]
path = "/usr/bin/name"
link = "../share/data"
[[file]]
path = "/tmp"
dir = true
mode = "1777"
[config]
entrypoint = ["/usr/bin/name"]
"#;

fn blobs(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(File::open(archive).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, File>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    };
    tar.entries().unwrap().map(read).collect()
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let archives = [(), ()].map(|()| {
        let dir = tempfile::tempdir().unwrap();
        let image = build(&workshop(dir.path(), RECIPE), "it").unwrap();
        fs::read(image.archive).unwrap()
    });
    assert!(archives[0] == archives[1]);
}

#[test]
fn the_archive_is_an_image_layout_whose_digests_hold() {
    let dir = tempfile::tempdir().unwrap();
    let image = build(&workshop(dir.path(), RECIPE), "it").unwrap();
    let blobs = blobs(&image.archive);
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&blobs[name]).unwrap();
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap()
            .to_owned();
        let name = format!("blobs/sha256/{digest}");
        let bytes = &blobs[&name];
        let found: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, digest);
        assert_eq!(descriptor["size"], bytes.len());
        name
    };
    let index = json("index.json");
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let layer = blob(&manifest["layers"][0]);
    assert_eq!(
        config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"],
        "layers are not compressed"
    );
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/name");

    let mut tar = tar::Archive::new(&blobs[&layer][..]);
    let listed: Vec<String> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let (mode, uid, gid) = (
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
            );
            format!("{} {mode:o} {uid} {gid}", entry.path().unwrap().display())
        })
        .collect();
    let wanted = [
        "tmp/ 1777 0 0",
        "usr/ 755 0 0",
        "usr/bin/ 755 0 0",
        "usr/bin/name 777 0 0",
        "usr/share/ 755 0 0",
        "usr/share/data 644 7 8",
    ];
    assert_eq!(listed, wanted);
}

#[test]
fn a_changed_input_makes_another_archive_and_removes_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let workshop = workshop(dir.path(), RECIPE);
    let first = build(&workshop, "it").unwrap();
    assert_eq!(build(&workshop, "it").unwrap(), first);
    fs::write(dir.path().join("e2e/images/data"), "changed\n").unwrap();
    let second = build(&workshop, "it").unwrap();
    assert_ne!(first.archive, second.archive);
    assert!(!first.archive.exists());
}

#[test]
fn a_file_with_two_sources_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = "name = \"a:1\"\n[[file]]\npath = \"/a\"\ntext = \"\"\nlink = \"/b\"\n";
    let error = build(&workshop(dir.path(), recipe), "it")
        .unwrap_err()
        .to_string();
    assert!(error.contains("exactly one of"), "{error}");
}

#[test]
fn the_layers_of_a_base_are_those_of_its_own_archive() {
    let dir = tempfile::tempdir().unwrap();
    let workshop = workshop(dir.path(), RECIPE);
    let images = dir.path().join("e2e/images");
    let above = "name = \"a:1\"\nbase = \"it\"\n[[file]]\npath = \"/above\"\ntext = \"x\"\n";
    fs::write(images.join("above.toml"), above).unwrap();
    fs::write(
        images.join("alias.toml"),
        "name = \"b:1\"\nbase = \"above\"\n",
    )
    .unwrap();
    let layers = |name: &str| {
        let archive = build(&workshop, name).unwrap().archive;
        let layout = layout::Layout::open(&archive).unwrap();
        let layers = layout.layers().unwrap();
        for (digest, place) in &layers {
            let mut bytes = Vec::new();
            place
                .open(&archive)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            let found: String = Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(found, *digest);
        }
        layers
            .into_iter()
            .map(|(digest, _)| digest)
            .collect::<Vec<_>>()
    };
    let (base, above) = (layers("it"), layers("above"));
    assert_eq!((base.len(), above.len()), (1, 2));
    assert_eq!(above[0], base[0]);
    assert_eq!(
        layers("alias"),
        above,
        "a recipe without files adds no layer"
    );
}

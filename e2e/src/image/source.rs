//! Where a layer's files come from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::recipe::{Busybox, Debian, Recipe, Source};
use super::tree::{Entry, Kind, Tree};
use crate::command::{run, run_in};
use crate::files;
use crate::workshop::Workshop;

/// Debian's release, as on the machines that this runs on.
const SUITE: &str = "bookworm";
/// Parts of a Debian tree that no container needs, and those that differ from build to build.
const DEBIAN_EXCESS: &[&str] = &[
    "/dev/",
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/resolv.conf",
    "/usr/share/doc/",
    "/usr/share/info/",
    "/usr/share/locale/",
    "/usr/share/man/",
    "/var/cache/",
    "/var/lib/apt/lists/",
    "/var/log/",
];

/// Files that decide what the layer will be.
pub(super) fn inputs(workshop: &Workshop, recipe: &Recipe) -> Result<Vec<PathBuf>, Error> {
    // The key of the build stands for the program.
    let tool = |name: &str| workshop.tools().join(format!(".{name}.key"));
    let file = |source: &Source| -> Result<Option<PathBuf>, Error> {
        Ok(match source {
            Source::Rust(path) | Source::Copy(path) => Some(recipe.beside(path)),
            Source::Tool(name) => Some(tool(name)),
            Source::Upstream(path) => Some(workshop.upstream_tree()?.join(path)),
            Source::Text(_) | Source::Link(_) | Source::Dir => None,
        })
    };
    let mut inputs = vec![recipe.path.clone()];
    if recipe
        .files
        .iter()
        .any(|item| matches!(item.source, Source::Rust(_)))
    {
        inputs.push(workshop.root().join("rust-toolchain.toml"));
    }
    for item in &recipe.files {
        inputs.extend(file(&item.source)?);
    }
    inputs.extend(recipe.busybox.as_ref().map(|busybox| match busybox {
        Busybox::Program(path) => path.clone(),
        Busybox::Tool(name) => tool(name),
    }));
    Ok(inputs)
}

/// The layer of `recipe`, of which parts may be made in `work`: a Debian tree, then busybox where names are free, then the recipe's own files over both.
pub(super) fn tree(workshop: &Workshop, recipe: &Recipe, work: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    if let Some(debian) = &recipe.debian {
        add_debian(&mut tree, work, recipe, debian)?;
    }
    if let Some(busybox) = &recipe.busybox {
        match busybox {
            Busybox::Program(program) => add_busybox(&mut tree, program)?,
            Busybox::Tool(name) => add_busybox(&mut tree, &workshop.tools().join(name))?,
        }
    }
    for item in &recipe.files {
        let kind = match &item.source {
            Source::Rust(path) => Kind::File(compile(workshop, &recipe.beside(path), work)?),
            Source::Tool(name) => Kind::File(workshop.tools().join(name)),
            Source::Upstream(path) => Kind::File(workshop.upstream_tree()?.join(path)),
            Source::Copy(path) => Kind::File(recipe.beside(path)),
            Source::Text(text) => Kind::Bytes(text.clone().into_bytes()),
            Source::Link(target) => Kind::Link(target.clone()),
            Source::Dir => Kind::Dir,
        };
        tree.insert(
            &item.path,
            Entry {
                kind,
                mode: item.mode,
                owner: item.owner,
            },
        );
    }
    Ok(tree)
}

/// Compiles a single-file program so that it needs nothing in its image.
fn compile(workshop: &Workshop, source: &Path, work: &Path) -> Result<PathBuf, Error> {
    let stem = source
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let program = work.join(stem);
    let (from, to) = (source.to_string_lossy(), program.to_string_lossy());
    // Without the remapping, panic messages carry this machine's paths.
    let remap = format!(
        "--remap-path-prefix={}=/",
        source.parent().unwrap_or(Path::new("/")).display()
    );
    // There, the toolchain that the clone pins is the one that answers.
    run_in(
        workshop.root(),
        "rustc",
        &[
            "--edition=2024",
            "--crate-type=bin",
            "-Copt-level=s",
            "-Cpanic=abort",
            "-Cstrip=symbols",
            "-Ctarget-feature=+crt-static",
            "-Crelocation-model=static",
            &remap,
            "-o",
            &to,
            &from,
        ],
    )?;
    Ok(program)
}

/// The program at `/bin/busybox` and a name for each applet that is not there yet: where busybox would put it, and in
/// `/bin`, where the images that people know have all of them.
fn add_busybox(tree: &mut Tree, program: &Path) -> Result<(), Error> {
    let applets = run(&program.to_string_lossy(), &["--list-full"])?;
    let file = Entry {
        kind: Kind::File(program.to_owned()),
        mode: 0o755,
        owner: (0, 0),
    };
    tree.insert("/bin/busybox", file);
    let link = || Entry {
        kind: Kind::Link("/bin/busybox".to_owned()),
        mode: 0o777,
        owner: (0, 0),
    };
    for applet in applets
        .lines()
        .map(|line| format!("/{}", line.trim_start_matches('/')))
    {
        if tree.contains(&applet) {
            continue;
        }
        tree.insert(&applet, link());
        let name = applet.rsplit('/').next().unwrap_or_default();
        let in_bin = format!("/bin/{name}");
        if !tree.contains(&in_bin) {
            tree.insert(&in_bin, link());
        }
    }
    Ok(())
}

/// Packages are checked by apt against the archive's signed index; their versions are what it holds today.
fn add_debian(tree: &mut Tree, work: &Path, recipe: &Recipe, debian: &Debian) -> Result<(), Error> {
    let root = work.join(recipe.path.file_stem().unwrap_or_default());
    let include = format!("--include={}", debian.packages.join(","));
    let args = [
        "--quiet",
        "--variant=minbase",
        &include,
        SUITE,
        &root.to_string_lossy(),
    ];
    run("mmdebstrap", &args)?;
    add_directory(tree, &root)
}

/// Adds what lies below `root`, as it is. Devices and sockets are left out.
fn add_directory(tree: &mut Tree, root: &Path) -> Result<(), Error> {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        let mut entries = fs::read_dir(&dir)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(files::cannot("read", &dir))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let source = entry.path();
            let meta = source
                .symlink_metadata()
                .map_err(files::cannot("read", &source))?;
            let below = source
                .strip_prefix(root)
                .expect("the walk stays below its root");
            let path = format!("/{}", below.display());
            if DEBIAN_EXCESS.iter().any(|excess| {
                path == *excess || (excess.ends_with('/') && path.starts_with(excess))
            }) {
                continue;
            }
            let kind = if meta.is_dir() {
                left.push(source);
                Kind::Dir
            } else if meta.is_symlink() {
                let target = fs::read_link(&source).map_err(files::cannot("read", &source))?;
                Kind::Link(target.to_string_lossy().into_owned())
            } else if meta.is_file() {
                match names.get(&meta.ino()) {
                    // A hard link has to come after what it names.
                    Some(first) if *first < path => Kind::Same(first.clone()),
                    _ => {
                        names.insert(meta.ino(), path.clone());
                        Kind::File(source)
                    }
                }
            } else {
                continue;
            };
            let owner = (u64::from(meta.uid()), u64::from(meta.gid()));
            tree.insert(
                &path,
                Entry {
                    kind,
                    mode: meta.mode() & 0o7777,
                    owner,
                },
            );
        }
    }
    Ok(())
}

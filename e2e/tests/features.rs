//! Dependencies have the same features whatever cargo is asked to build: `hack/features` asks for all of them.
//!
//! Where this fails, a crate and all that stands on it is compiled once more for each selection of packages. Add what is
//! missing to `hack/features/Cargo.toml`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Too small to matter: the shim stands on libc alone, and a build of it by itself is none that people wait for.
const ALONE: &[&str] = &["navarch-shim", "navarch-features"];

type Features = BTreeMap<String, BTreeSet<String>>;

/// What `cargo tree` says of the crates that a selection of packages builds.
fn features(selection: &[&str], tests: bool) -> Features {
    let edges = if tests {
        "normal,build,dev"
    } else {
        "normal,build"
    };
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--prefix=none",
            "--format={p}|{f}",
            "--edges",
            edges,
        ])
        .args(selection)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut all = Features::new();
    for line in text.lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let package = package.replace(" (proc-macro)", "");
        let features = features
            .split(',')
            .filter(|f| !f.is_empty())
            .map(str::to_owned);
        all.entry(package).or_default().extend(features);
    }
    all
}

fn members() -> Vec<String> {
    let mut packages: Vec<String> = features(&["--workspace", "--depth=0"], false)
        .into_keys()
        .map(|package| package.split(' ').next().unwrap().to_owned())
        .collect();
    packages.retain(|package| !ALONE.contains(&package.as_str()));
    packages
}

#[test]
fn every_selection_of_packages_shares_what_is_built() {
    let all = features(&["--workspace"], true);
    let members = members();
    assert!(members.len() > 8, "{members:?}");
    let mut missing = BTreeSet::new();
    for member in &members {
        for tests in [false, true] {
            for (package, has) in features(&["--package", member], tests) {
                let lacks: Vec<_> = all[&package].difference(&has).collect();
                if !lacks.is_empty() {
                    missing.insert(format!("{package}: {lacks:?} (with {member})"));
                }
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

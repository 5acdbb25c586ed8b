//! Every dependency keeps what `deny.toml` allows: licences, bans, sources.
//!
//! `cargo deny` reads the same file and does more, but takes longer to build than this whole project; these three checks
//! need `cargo metadata` and nothing else.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    clarify: Vec<Clarify>,
}

#[derive(Deserialize)]
struct Clarify {
    #[serde(rename = "crate")]
    name: String,
    expression: String,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn deny() -> Deny {
    toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

/// The packages that are built on this platform.
fn packages() -> Vec<Package> {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            host,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let Metadata { packages, resolve } = serde_json::from_slice(&output.stdout).unwrap();
    let used: BTreeSet<String> = resolve.nodes.into_iter().map(|node| node.id).collect();
    packages
        .into_iter()
        .filter(|package| used.contains(&package.id))
        .collect()
}

/// Whether an SPDX expression can be met with the licences in `allowed`. Cargo's old `/` reads as OR.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&tokens, &mut at, allowed);
    met && at == tokens.len()
}

fn any(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(tokens, at, allowed);
    }
    met
}

fn all(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(tokens, at, allowed);
    }
    met
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(token) = tokens.get(*at) else {
        return false;
    };
    *at += 1;
    if *token == "(" {
        let met = any(tokens, at, allowed);
        *at += 1; // the closing one
        return met;
    }
    let mut license = token.trim_end_matches('+').to_owned();
    if tokens.get(*at) == Some(&"WITH") {
        license = format!(
            "{license} WITH {}",
            tokens.get(*at + 1).copied().unwrap_or_default()
        );
        *at += 2;
    }
    allowed.contains(&license)
}

#[test]
fn expressions_are_met_as_spdx_reads_them() {
    let allowed =
        BTreeSet::from(["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned));
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(GPL-3.0 OR MIT) AND Zlib",
        "MIT+",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR Zlib) AND GPL-3.0",
        "Apache-2.0",
        "",
        "MIT MIT",
    ] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let Licenses { allow, clarify } = deny().licenses;
    let unmet: Vec<String> = packages()
        .into_iter()
        .filter_map(|package| {
            let clarified = clarify.iter().find(|clarify| clarify.name == package.name);
            let license = clarified
                .map(|clarify| clarify.expression.clone())
                .or(package.license)
                .unwrap_or_default();
            (!is_met(&license, &allow))
                .then(|| format!("{} {}: {license:?}", package.name, package.version))
        })
        .collect();
    assert!(unmet.is_empty(), "{unmet:#?}");
}

#[test]
fn nothing_that_is_banned_is_built() {
    let bans = deny().bans.deny;
    let found: Vec<String> = packages()
        .into_iter()
        .filter_map(|package| {
            let ban = bans.iter().find(|ban| ban.name == package.name)?;
            Some(format!(
                "{} {}: {}",
                package.name, package.version, ban.reason
            ))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn everything_comes_from_this_tree_or_from_crates_io() {
    let foreign: Vec<String> = packages()
        .into_iter()
        .filter(|package| {
            let source = package.source.as_deref();
            source.is_some_and(|source| {
                source != "registry+https://github.com/rust-lang/crates.io-index"
            })
        })
        .map(|package| {
            format!(
                "{} {}: {}",
                package.name,
                package.version,
                package.source.unwrap_or_default()
            )
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
}

//! Every target over its seeds and over everything that was ever found: with the ordinary compiler, in every run of the
//! tests.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};

use fuzz::TARGETS;

fn findings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("findings")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// One test: memory is counted for the whole process.
#[test]
fn every_target_stands_its_seeds_and_what_was_found() {
    let mut findings_run = 0;
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} begins with nothing", target.name);
        target.check(&[]);
        for (i, seed) in seeds.iter().enumerate() {
            eprintln!("{} seed {i}", target.name);
            target.check(seed);
        }
        for file in files(&findings().join(target.name)) {
            eprintln!("{}", file.display());
            target.check(&std::fs::read(&file).unwrap());
            findings_run += 1;
        }
    }
    let all: usize = files(&findings()).iter().map(|d| files(d).len()).sum();
    assert_eq!(
        findings_run, all,
        "a directory of findings is named like no target"
    );
}

#[test]
fn the_table_says_of_every_target_what_it_covers() {
    let table = include_str!("../targets.tsv").lines().skip(1);
    let named: Vec<&str> = table.filter_map(|row| row.split('\t').next()).collect();
    let all: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
    assert_eq!(named, all);
}

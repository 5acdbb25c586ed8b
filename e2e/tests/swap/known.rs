//! Differences between ours and upstream's that are known: `known/*.tsv`. The lists may only get shorter.

use std::fs;
use std::path::Path;

use e2e::diff::known::{Difference, Known};

/// Fails the test for differences that are not known, and for known ones that are gone. All are kept in a file.
pub(super) fn judge(name: &str, found: &[Difference], known: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("differences-{name}.txt"));
    let lines = found
        .iter()
        .map(|found| format!("{}: {}\n", found.kind, found.what));
    fs::write(&path, lines.collect::<String>()).unwrap();
    let wrong = Known::parse(known).unwrap().faults(found);
    assert!(wrong.is_empty(), "{}; {wrong}", path.display());
}

//! Differences between ours and upstream's that are known: `known/*.tsv`. The lists may only get shorter.

use std::fs;
use std::path::Path;

/// A kind and what is different about it: ours, a bar, upstream's.
#[derive(Debug)]
pub(super) struct Difference {
    pub kind: String,
    pub what: String,
}

/// Fails the test for differences that are not known, and for known ones that are gone. All are kept in a file.
///
/// A line of `known` is a kind or `*`, a part of what is told of the difference, and why it is there, between tabs.
pub(super) fn judge(name: &str, found: &[Difference], known: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("differences-{name}.txt"));
    fs::write(&path, lines(found.iter())).unwrap();
    let wrong = faults(found, known);
    assert!(wrong.is_empty(), "{}; {wrong}", path.display());
}

fn faults(found: &[Difference], known: &str) -> String {
    let known: Vec<[&str; 3]> = known
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            fields.try_into().unwrap()
        })
        .collect();
    let explains = |[kind, part, _]: &[&str; 3], found: &Difference| {
        (*kind == "*" || *kind == found.kind) && found.what.contains(part)
    };
    let gone = known
        .iter()
        .filter(|known| !found.iter().any(|found| explains(known, found)));
    let mut wrong: String = gone
        .map(|[kind, part, _]| format!("no longer different: {kind}: {part}\n"))
        .collect();
    let new = |found: &&Difference| !known.iter().any(|known| explains(known, found));
    wrong.push_str(&lines(found.iter().filter(new)));
    wrong
}

fn lines<'a>(found: impl Iterator<Item = &'a Difference>) -> String {
    found
        .map(|found| format!("{}: {}\n", found.kind, found.what))
        .collect()
}

#[test]
fn known_differences_pass_and_nothing_else_does() {
    let found = [Difference {
        kind: "v1/pods".to_owned(),
        what: "create: .spec.a: 1 | 2".to_owned(),
    }];
    assert_eq!(faults(&found, "v1/pods\t.spec.a\twhy\n"), "");
    assert_eq!(faults(&found, "*\t.spec.a\twhy\n"), "");
    let told = "v1/pods: create: .spec.a: 1 | 2\n";
    assert_eq!(faults(&found, ""), told);
    let gone = "no longer different: v1/nodes: .spec.a\n";
    let both = format!("{gone}{told}");
    assert_eq!(faults(&found, "v1/nodes\t.spec.a\twhy\n"), both);
}

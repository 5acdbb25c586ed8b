//! Differences of two texts line by line, as Python's `difflib` finds and shows them: upstream uses a
//! translation of it (`pmezard/go-difflib`), with three lines of context and without names of files.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

const CONTEXT: usize = 3;
/// Of a text of so many lines, those that are more than one in a hundred say little about it.
const LONG: usize = 200;

/// Equal runs of lines: where in the first text, where in the second, how many.
type Match = (usize, usize, usize);

/// A step from the first text to the second: a range of each, and whether they are equal.
#[derive(Clone)]
struct Step {
    same: bool,
    a: Range<usize>,
    b: Range<usize>,
}

pub(super) fn unified(a: &[String], b: &[String]) -> String {
    let mut out = String::new();
    for group in grouped(steps(a, b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            range(first.a.start..last.a.end),
            range(first.b.start..last.b.end)
        );
        for step in &group {
            let mut lines = |sign: char, lines: &[String]| {
                for line in lines {
                    let _ = writeln!(out, "{sign}{line}");
                }
            };
            if step.same {
                lines(' ', &a[step.a.clone()]);
            } else {
                lines('-', &a[step.a.clone()]);
                lines('+', &b[step.b.clone()]);
            }
        }
    }
    out
}

fn range(lines: Range<usize>) -> String {
    match lines.len() {
        1 => (lines.start + 1).to_string(),
        0 => format!("{},0", lines.start),
        many => format!("{},{many}", lines.start + 1),
    }
}

/// Steps with as many equal lines around them as are shown.
fn grouped(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    let head = |step: &mut Step| {
        step.a.end = step.a.end.min(step.a.start + CONTEXT);
        step.b.end = step.b.end.min(step.b.start + CONTEXT);
    };
    let tail = |step: &mut Step| {
        step.a.start = step.a.start.max(step.a.end.saturating_sub(CONTEXT));
        step.b.start = step.b.start.max(step.b.end.saturating_sub(CONTEXT));
    };
    if let Some(first) = steps.first_mut().filter(|s| s.same) {
        tail(first);
    }
    if let Some(last) = steps.last_mut().filter(|s| s.same) {
        head(last);
    }
    let (mut groups, mut group) = (Vec::new(), Vec::new());
    for mut step in steps {
        if step.same && step.a.len() > 2 * CONTEXT {
            let mut end = step.clone();
            head(&mut end);
            group.push(end);
            groups.push(std::mem::take(&mut group));
            tail(&mut step);
        }
        group.push(step);
    }
    if group.iter().any(|step| !step.same) {
        groups.push(group);
    }
    groups
}

fn steps(a: &[String], b: &[String]) -> Vec<Step> {
    let (mut at_a, mut at_b) = (0, 0);
    let mut all = Vec::new();
    let mut matches = matches(a, b);
    matches.push((a.len(), b.len(), 0));
    for (i, j, size) in matches {
        if at_a < i || at_b < j {
            all.push(Step {
                same: false,
                a: at_a..i,
                b: at_b..j,
            });
        }
        (at_a, at_b) = (i + size, j + size);
        if size > 0 {
            all.push(Step {
                same: true,
                a: i..at_a,
                b: j..at_b,
            });
        }
    }
    all
}

/// All equal runs, in order: the longest, and those before and after it.
fn matches(a: &[String], b: &[String]) -> Vec<Match> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= LONG {
        places.retain(|_, found| found.len() <= b.len() / 100 + 1);
    }
    let mut found = Vec::new();
    let mut open = vec![(0..a.len(), 0..b.len())];
    while let Some((in_a, in_b)) = open.pop() {
        let (i, j, size) = longest(a, b, &places, in_a.clone(), in_b.clone());
        if size > 0 {
            found.push((i, j, size));
            if in_a.start < i && in_b.start < j {
                open.push((in_a.start..i, in_b.start..j));
            }
            if i + size < in_a.end && j + size < in_b.end {
                open.push((i + size..in_a.end, j + size..in_b.end));
            }
        }
    }
    found.sort_unstable();
    found.dedup_by(|later, earlier| {
        let adjacent = earlier.0 + earlier.2 == later.0 && earlier.1 + earlier.2 == later.1;
        if adjacent {
            earlier.2 += later.2;
        }
        adjacent
    });
    found
}

/// The first of the longest equal runs in two ranges.
fn longest(
    a: &[String],
    b: &[String],
    places: &HashMap<&str, Vec<usize>>,
    in_a: Range<usize>,
    in_b: Range<usize>,
) -> Match {
    let (mut i, mut j, mut size) = (in_a.start, in_b.start, 0);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for at in in_a.clone() {
        let mut next = HashMap::new();
        let there = places.get(a[at].as_str()).map_or(&[][..], Vec::as_slice);
        for &place in there.iter().filter(|place| in_b.contains(place)) {
            let before = place.checked_sub(1).and_then(|p| lengths.get(&p));
            let length = before.copied().unwrap_or(0) + 1;
            next.insert(place, length);
            if length > size {
                (i, j, size) = (at + 1 - length, place + 1 - length, length);
            }
        }
        lengths = next;
    }
    // Lines that are too common to be looked up lengthen a run all the same.
    while i > in_a.start && j > in_b.start && a[i - 1] == b[j - 1] {
        (i, j, size) = (i - 1, j - 1, size + 1);
    }
    while i + size < in_a.end && j + size < in_b.end && a[i + size] == b[j + size] {
        size += 1;
    }
    (i, j, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(a: &str, b: &str) -> String {
        let lines = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        unified(&lines(a), &lines(b))
    }

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(diff("abc", "abc"), "");
        assert_eq!(diff("", ""), "");
    }

    #[test]
    fn differences_have_three_lines_around_them() {
        assert_eq!(
            diff("abcdefghijklmnop", "abcdXfghijklmnopq"),
            "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+X\n f\n g\n h\n@@ -14,3 +14,4 @@\n n\n o\n p\n+q\n"
        );
        assert_eq!(diff("a", "b"), "@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(diff("", "b"), "@@ -0,0 +1 @@\n+b\n");
    }

    #[test]
    fn of_common_lines_the_longest_run_counts() {
        // As difflib: the run "ab" and not the prefix "a".
        assert_eq!(diff("ab", "acab"), "@@ -1,2 +1,4 @@\n+a\n+c\n a\n b\n");
    }
}

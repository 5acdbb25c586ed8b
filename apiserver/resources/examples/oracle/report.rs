//! What is said of the differences: counts for each resource, groups of like cases, the verdict.

use std::collections::{BTreeMap, BTreeSet};

use crate::cases::Question;
use crate::compare::{Class, Difference};
use crate::known::Known;

/// Target, class, pattern and reason.
type Key = (String, Class, String, String);

pub(crate) struct Report<'a> {
    questions: &'a [Question<'a>],
    results: &'a [Vec<Difference>],
    known: &'a Known,
    groups: BTreeMap<Key, Vec<(Question<'a>, &'a Difference)>>,
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// The words of a group's line.
fn words(key: &Key) -> [String; 4] {
    let (target, class, pattern, reason) = key;
    let pattern = dash(pattern).replace(char::is_whitespace, "_");
    [
        target.clone(),
        class.name().to_owned(),
        pattern,
        dash(reason).to_owned(),
    ]
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        questions: &'a [Question<'a>],
        results: &'a [Vec<Difference>],
        known: &'a Known,
    ) -> Self {
        let mut groups: BTreeMap<Key, Vec<_>> = BTreeMap::new();
        for (question, found) in questions.iter().zip(results) {
            for d in found {
                let target = question.target();
                let key = (target, d.class, d.pattern.clone(), d.reason.clone());
                groups.entry(key).or_default().push((*question, d));
            }
        }
        for cases in groups.values_mut() {
            cases.sort_by_key(|(question, _)| question.case.change.len());
        }
        Self {
            questions,
            results,
            known,
            groups,
        }
    }

    fn line_of(&self, key: &Key) -> Option<usize> {
        let [a, b, c, d] = words(key);
        self.known.find([&a, &b, &c, &d])
    }

    /// Groups of like differences, each with the smallest of its cases.
    pub(crate) fn groups(&self, grep: &str, limit: usize) {
        for (key, cases) in &self.groups {
            let head = words(key).join(" ");
            if !head.contains(grep) {
                continue;
            }
            let known = match self.line_of(key) {
                Some(_) => "  (known)",
                None => "",
            };
            println!("{head}  x{}{known}", cases.len());
            for (question, d) in cases.iter().take(limit) {
                let case = question.case;
                println!("    {} {}: {}", case.verb, case.seed, case.change);
                println!("    upstream {}", dash(&d.upstream));
                println!("    ours     {}", dash(&d.ours));
            }
        }
        println!();
    }

    /// The groups that are not known, as lines.
    pub(crate) fn list(&self) {
        for key in self.groups.keys().filter(|k| self.line_of(k).is_none()) {
            println!("{} # ", words(key).join(" "));
        }
    }

    /// How many cases there are of each resource and of each pass but the default one, how many are the same, and
    /// how many differ in which way.
    pub(crate) fn counts(&self) {
        #[derive(Default)]
        struct Row {
            cases: usize,
            same: usize,
            by_class: [usize; Class::ALL.len()],
        }
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        let mut total = Row::default();
        for (question, found) in self.questions.iter().zip(self.results) {
            let row = match question.pass.name.as_str() {
                "" => question.case.qualified(),
                pass => format!("~ {pass}"),
            };
            let row = rows.entry(row).or_default();
            for row in [row, &mut total] {
                row.cases += 1;
                row.same += usize::from(found.is_empty());
                for (i, class) in Class::ALL.iter().enumerate() {
                    row.by_class[i] += usize::from(found.iter().any(|d| d.class == *class));
                }
            }
        }
        print!("{:<60} {:>7} {:>7}", "resource", "cases", "same");
        Class::ALL.iter().for_each(|c| print!(" {:>8}", c.name()));
        println!();
        rows.insert("~~ all".to_owned(), total);
        for (name, row) in rows {
            print!("{name:<60} {:>7} {:>7}", row.cases, row.same);
            for (class, n) in Class::ALL.iter().zip(row.by_class) {
                print!(" {n:>0$}", class.name().len().max(8));
            }
            println!();
        }
    }

    /// Whether everything that differs is known and, if all cases were run, everything known differs.
    pub(crate) fn verdict(&self, whole: bool) -> bool {
        let mut used = BTreeSet::new();
        let mut news = 0;
        for key in self.groups.keys() {
            match self.line_of(key) {
                Some(line) => drop(used.insert(line)),
                None => news += 1,
            }
        }
        let unused = (0..self.known.0.len()).filter(|i| whole && !used.contains(i));
        let gone: Vec<&str> = unused.map(|i| self.known.0[i].text.as_str()).collect();
        for line in &gone {
            println!("known to differ, but does not: {line}");
        }
        if news > 0 {
            println!("{news} groups of differences are not known");
        }
        news == 0 && gone.is_empty()
    }
}

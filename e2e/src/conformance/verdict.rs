//! What became of each test, kept line by line so that a run that is stopped loses nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    /// It looked around and refused to run. In Conformance that is no pass.
    Skipped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The test's full name.
    pub name: String,
    pub outcome: Outcome,
    pub seconds: f64,
    /// As the suite told them (RFC 3339).
    pub started: String,
    pub ended: String,
    /// Why it did not pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

impl Verdict {
    /// The first line of the failure that says something.
    pub fn reason(&self) -> &str {
        let mut lines = self.failure.lines().map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or_default()
    }
}

/// The verdicts of one run, in memory and in a file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    verdicts: BTreeMap<String, Verdict>,
}

impl Journal {
    /// Opens the file with what is in it.
    pub(super) fn open(path: &Path) -> Result<Self, files::Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(files::cannot("read", path)(cause)),
        };
        let file = File::options().create(true).append(true).open(path);
        let mut journal = Self {
            path: path.to_owned(),
            file: file.map_err(files::cannot("open", path))?,
            verdicts: parse(&text),
        };
        // What was cut off in the middle of a line must not swallow the next one.
        if !text.is_empty() && !text.ends_with('\n') {
            journal.write(b"\n")?;
        }
        Ok(journal)
    }

    pub(super) fn add(&mut self, verdict: Verdict) -> Result<(), files::Error> {
        let mut line = serde_json::to_vec(&verdict).expect("a verdict has nothing but text");
        line.push(b'\n');
        self.write(&line)?;
        self.verdicts.insert(verdict.name.clone(), verdict);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), files::Error> {
        let written = self.file.write_all(bytes);
        written.map_err(files::cannot("write", &self.path))
    }

    pub(super) fn verdicts(&self) -> &BTreeMap<String, Verdict> {
        &self.verdicts
    }
}

/// The last verdict of each test. A line that was cut off by a crash counts as not written.
fn parse(text: &str) -> BTreeMap<String, Verdict> {
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .map(|verdict: Verdict| (verdict.name.clone(), verdict))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn verdict(name: &str, outcome: Outcome) -> Verdict {
        Verdict {
            name: name.to_owned(),
            outcome,
            seconds: 1.5,
            started: String::new(),
            ended: String::new(),
            failure: String::new(),
        }
    }

    #[test]
    fn a_run_that_is_opened_again_has_its_verdicts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("verdicts");
        let mut journal = Journal::open(&path).unwrap();
        journal.add(verdict("a", Outcome::Failed)).unwrap();
        journal.add(verdict("b", Outcome::Passed)).unwrap();
        journal.add(verdict("a", Outcome::Passed)).unwrap();
        drop(journal);
        let again = Journal::open(&path).unwrap();
        let outcomes: Vec<_> = again.verdicts().values().map(|v| v.outcome).collect();
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Passed]);
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_forgotten_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("verdicts");
        let mut journal = Journal::open(&path).unwrap();
        journal.add(verdict("a", Outcome::Passed)).unwrap();
        drop(journal);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"name\":\"b\",\"outc");
        fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.verdicts().len(), 1);
        journal.add(verdict("c", Outcome::Passed)).unwrap();
        drop(journal);
        let names: Vec<_> = Journal::open(&path)
            .unwrap()
            .verdicts()
            .keys()
            .cloned()
            .collect();
        assert_eq!(names, ["a", "c"]);
    }
}

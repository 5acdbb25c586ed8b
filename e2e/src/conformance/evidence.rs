//! What stays of a test that failed: its own words, and what every daemon logged while it ran.
//!
//! Logs are cut by size, not by the times that their lines carry: once a second the sizes of all logs are noted, and a test's share
//! is what was appended between its start and its end. So daemons may log in any form.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Error;
use super::judge::{Failure, SpecReport};
use crate::files;

/// Sizes older than this are forgotten; no test runs as long.
const MEMORY: Duration = Duration::from_secs(45 * 60);
/// Of one daemon's log; the end is kept.
const MAX_CUT: u64 = 4 << 20;
/// A test starts before its processes are seen to do so.
const BEFORE: Duration = Duration::from_secs(2);
/// Letters of a test's name that its folder is called by.
const MAX_NAME: usize = 120;

type Sizes = BTreeMap<PathBuf, u64>;

pub(super) struct Evidence {
    /// The cluster's logs.
    logs: PathBuf,
    /// Holds a folder for each failed test.
    dir: PathBuf,
    samples: VecDeque<(Instant, Sizes)>,
}

impl Evidence {
    pub(super) fn new(logs: &Path, dir: &Path) -> Self {
        Self {
            logs: logs.to_owned(),
            dir: dir.to_owned(),
            samples: VecDeque::new(),
        }
    }

    /// Notes the sizes of all logs.
    pub(super) fn sample(&mut self, now: Instant) {
        let sizes = files(&self.logs).into_iter().filter_map(|path| {
            let size = fs::metadata(&path).ok()?.len();
            Some((path, size))
        });
        self.samples.push_back((now, sizes.collect()));
        while let Some((when, _)) = self.samples.front() {
            if now.duration_since(*when) < MEMORY {
                break;
            }
            self.samples.pop_front();
        }
    }

    /// Writes the folder of a test that failed just now, and returns where it is.
    pub(super) fn keep(&self, report: &SpecReport, now: Instant) -> Result<PathBuf, Error> {
        let name = report.name();
        let dir = self.dir.join(folder_name(&name));
        fs::create_dir_all(&dir).map_err(files::cannot("make", &dir))?;
        let text = words(report);
        let path = dir.join("failure.txt");
        fs::write(&path, &text).map_err(files::cannot("write", &path))?;

        let start = now.checked_sub(Duration::from_secs_f64(report.seconds()) + BEFORE);
        let sizes = self.sizes_at(start.unwrap_or(now));
        let namespaces = namespaces(&text);
        let mut about = String::new();
        for log in files(&self.logs) {
            let from = sizes.and_then(|sizes| sizes.get(&log)).copied();
            let cut = cut(&log, from.unwrap_or(0)).map_err(files::cannot("read", &log))?;
            let below = log.strip_prefix(&self.logs).unwrap_or(&log);
            let label = below.to_string_lossy().replace('/', "-");
            let of_test = |line: &&str| namespaces.iter().any(|name| line.contains(name));
            for line in cut.lines().filter(of_test) {
                about.push_str(&format!("{label}: {line}\n"));
            }
            let path = dir.join(&label);
            fs::write(&path, cut).map_err(files::cannot("write", &path))?;
        }
        let path = dir.join("namespace.log");
        fs::write(&path, about).map_err(files::cannot("write", &path))?;
        Ok(dir)
    }

    /// The last sizes that were noted before `when`.
    fn sizes_at(&self, when: Instant) -> Option<&Sizes> {
        let before = self.samples.partition_point(|(time, _)| *time <= when);
        let index = before.saturating_sub(1);
        self.samples.get(index).map(|(_, sizes)| sizes)
    }
}

/// The logs of the control plane and, a directory each, those of the nodes.
fn files(logs: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut files = Vec::new();
    for path in list(logs) {
        if path.is_dir() {
            files.extend(list(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What was appended after `from`. A log that is shorter now was begun again and is new as a whole.
fn cut(log: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    let from = if from <= size { from } else { 0 };
    let from = from.max(size.saturating_sub(MAX_CUT));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(size - from).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A name for a folder: letters and digits of the test's, and a sum that tells apart those that begin alike.
fn folder_name(test: &str) -> String {
    let mut name = String::new();
    for letter in test.chars() {
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    // FNV-1a
    let sum = test.bytes().fold(0x811c_9dc5_u32, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{}-{sum:08x}", &name[..MAX_NAME])
}

/// Namespaces that the test says it made.
fn namespaces(text: &str) -> Vec<String> {
    let mut names: Vec<String> = ["namespace \"", "Namespace: "]
        .iter()
        .flat_map(|mark| text.split(mark).skip(1))
        .filter_map(|rest| {
            let is_part = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '-';
            let name: String = rest.chars().take_while(is_part).collect();
            // The framework adds a number; `kube-system` and its like would match every line.
            let number = name.rsplit_once('-')?.1;
            number
                .chars()
                .all(|digit| digit.is_ascii_digit())
                .then_some(name)
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn words(report: &SpecReport) -> String {
    let mut text = format!(
        "{}\n{} after {:.1} s, from {} to {}\n",
        report.name(),
        report.state,
        report.seconds(),
        report.start_time,
        report.end_time
    );
    let additional = report.additional_failures.iter().flatten();
    let failures = report
        .failure
        .iter()
        .chain(additional.map(|more| &more.failure));
    for Failure {
        message,
        location,
        forwarded_panic,
    } in failures
    {
        text.push_str(&format!(
            "\n{message}\n{}at {}:{}\n{}\n",
            if forwarded_panic.is_empty() {
                String::new()
            } else {
                format!("{forwarded_panic}\n")
            },
            location.file_name,
            location.line_number,
            location.full_stack_trace
        ));
    }
    text.push_str("\n--- steps\n");
    for (time, step) in report.steps() {
        text.push_str(&format!("{time} {step}\n"));
    }
    for output in [
        &report.captured_ginkgo_writer_output,
        &report.captured_std_out_err,
    ] {
        if !output.is_empty() {
            text.push_str(&format!("\n--- output\n{output}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn report(seconds: u64) -> SpecReport {
        let nanoseconds = seconds * 1_000_000_000;
        let text = format!(
            r#"{{"ContainerHierarchyTexts":["[sig-a] A"],"LeafNodeType":"It","LeafNodeText":"b","State":"failed",
            "StartTime":"","EndTime":"","RunTime":{nanoseconds},
            "Failure":{{"Message":"it broke","Location":{{"FileName":"a.go","LineNumber":7}}}},
            "CapturedGinkgoWriterOutput":"said",
            "SpecEvents":[{{"SpecEventType":"By","Message":"Destroying namespace \"pods-123\" for this suite.",
                "TimelineLocation":{{"Time":"2026-01-01T00:00:00Z"}}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_failed_test_keeps_what_daemons_logged_while_it_ran() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, kept) = (dir.path().join("logs"), dir.path().join("failed"));
        fs::create_dir_all(logs.join("node-1")).unwrap();
        let kubelet = logs.join("node-1/kubelet.log");
        fs::write(&kubelet, "before\n").unwrap();
        let start = Instant::now() + Duration::from_secs(3600);
        let mut evidence = Evidence::new(&logs, &kept);
        evidence.sample(start);
        let mut file = File::options().append(true).open(&kubelet).unwrap();
        file.write_all(b"pods-123/a started\nother\n").unwrap();
        evidence.sample(start + Duration::from_secs(10));
        let dir = evidence
            .keep(&report(5), start + Duration::from_secs(11))
            .unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("node-1-kubelet.log"), "pods-123/a started\nother\n");
        assert_eq!(
            read("namespace.log"),
            "node-1-kubelet.log: pods-123/a started\n"
        );
        let words = read("failure.txt");
        assert!(words.contains("it broke\nat a.go:7"), "{words}");
        assert!(words.contains("2026-01-01T00:00:00Z Destroying"), "{words}");
    }

    #[test]
    fn sizes_are_those_before_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let mut evidence = Evidence::new(dir.path(), dir.path());
        let start = Instant::now();
        for second in 0..4_u64 {
            fs::write(&log, vec![b'x'; second as usize]).unwrap();
            evidence.sample(start + Duration::from_secs(second));
        }
        let size = |at: Duration| evidence.sizes_at(start + at).unwrap()[&log];
        assert_eq!(size(Duration::from_millis(2500)), 2);
        assert_eq!(size(Duration::from_secs(9)), 3);
        evidence.sample(start + MEMORY + Duration::from_secs(2));
        assert_eq!(evidence.samples.len(), 2, "what is too old is forgotten");
    }

    #[test]
    fn a_log_that_was_begun_again_is_kept_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        fs::write(&log, "new").unwrap();
        assert_eq!(cut(&log, 100).unwrap(), "new");
        assert_eq!(cut(&log, 3).unwrap(), "");
    }

    #[test]
    fn folders_of_long_names_differ_where_the_names_do() {
        assert_eq!(
            folder_name("[sig-a] B (c) [Conformance]"),
            "sig-a-b-c-conformance"
        );
        let long = "x".repeat(200);
        assert_ne!(
            folder_name(&format!("{long}a")),
            folder_name(&format!("{long}b"))
        );
    }

    #[test]
    fn only_namespaces_of_the_test_are_looked_for() {
        let text = "namespace \"pods-12\" x; namespace \"kube-system\"; namespace \"pods-12\"";
        assert_eq!(namespaces(text), ["pods-12"]);
    }
}

//! Upstream's suite as a program: what it can be asked, and the command line that runs a part of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::Error;
use crate::command;
use crate::files;

/// Marks of tests that run alone, after all others.
const ALONE: &[&str] = &[SERIAL, "[Disruptive]"];
/// The mark of tests that the suite itself keeps for its first process.
const SERIAL: &str = "[Serial]";

/// What the program and its cluster are.
#[derive(Clone, Debug)]
pub(super) struct Suite {
    /// `e2e.test` as `hack/tools` builds it.
    pub(super) program: PathBuf,
    pub(super) kubectl: PathBuf,
}

/// A test's full name as ginkgo puts it together.
pub(super) fn full_name(containers: &[String], leaf: &str) -> String {
    let texts = containers.iter().map(String::as_str).chain([leaf]);
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

pub(super) fn runs_alone(name: &str) -> bool {
    ALONE.iter().any(|mark| name.contains(mark))
}

impl Suite {
    pub(super) fn new(tools: &Path) -> Self {
        Self {
            program: tools.join("e2e.test"),
            kubectl: tools.join("kubectl"),
        }
    }

    /// The names of the Conformance tests that match `focus`, a regular expression of Go's.
    pub(super) fn tests(
        &self,
        focus: Option<&str>,
        scratch: &Path,
    ) -> Result<BTreeSet<String>, Error> {
        let mut args = vec!["--ginkgo.label-filter=Conformance".to_owned()];
        args.extend(focus.map(|focus| format!("--ginkgo.focus={focus}")));
        let specs = self.rehearse(&args, scratch)?;
        Ok(specs
            .iter()
            .filter(|spec| spec.runs())
            .map(Planned::name)
            .collect())
    }

    /// The names of all tests that run beside others, as processes with this seed number them.
    pub(super) fn order(&self, seed: u32, scratch: &Path) -> Result<Vec<String>, Error> {
        let specs = self.rehearse(&[format!("--ginkgo.seed={seed}")], scratch)?;
        let names = specs.iter().map(Planned::name);
        Ok(names.filter(|name| !name.contains(SERIAL)).collect())
    }

    /// What a dry run reports of each test, in the order in which they would run.
    fn rehearse(&self, args: &[String], scratch: &Path) -> Result<Vec<Planned>, Error> {
        let report = scratch.join("plan.ginkgo.json");
        let to = format!("--ginkgo.json-report={}", report.display());
        let mut all = vec!["--ginkgo.dry-run", "--ginkgo.silence-skips", &to];
        all.extend(args.iter().map(String::as_str));
        command::run(&self.program.to_string_lossy(), &all)?;
        let text = std::fs::read(&report).map_err(files::cannot("read", &report))?;
        let _ = std::fs::remove_file(&report);
        planned(&text).map_err(|cause| Error::Report {
            path: report,
            cause,
        })
    }

    /// The images that the suite's tests name.
    pub(super) fn images(&self) -> Result<BTreeSet<String>, Error> {
        let text = command::run(&self.program.to_string_lossy(), &["--list-images"])?;
        let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// Process `number` of `total` that run `tests` and report to `judge`, an URL. All have to be given the same `seed`.
    pub(super) fn process(&self, part: &Part<'_>, number: usize) -> Command {
        let mut command = Command::new(&self.program);
        command
            // The other protocol is Go's own.
            .env("GINKGO_PARALLEL_PROTOCOL", "HTTP")
            .env_remove("KUBECONFIG")
            .args([
                "--test.timeout=0",
                "--ginkgo.timeout=24h",
                "--ginkgo.no-color",
            ])
            .arg("--ginkgo.silence-skips")
            .arg(format!(
                "--ginkgo.grace-period={}s",
                super::run::GRACE.as_secs()
            ))
            .arg(format!("--ginkgo.seed={}", part.seed))
            .arg(format!("--ginkgo.parallel.process={number}"))
            .arg(format!("--ginkgo.parallel.total={}", part.total))
            .arg(format!("--ginkgo.parallel.host={}/{number}", part.judge));
        for test in part.tests {
            command.arg(format!("--ginkgo.focus={}$", quote(test)));
        }
        command
            .arg("--provider=skeleton")
            .arg(format!("--kubeconfig={}", part.kubeconfig.display()))
            .arg(format!("--kubectl-path={}", self.kubectl.display()))
            .arg(format!("--num-nodes={}", part.nodes))
            .args(["--disable-log-dump", "--node-os-distro=debian"]);
        command
    }
}

/// A part of the suite that processes share.
pub(super) struct Part<'a> {
    pub(super) tests: &'a BTreeSet<String>,
    pub(super) judge: &'a str,
    /// Decides the order of tests.
    pub(super) seed: u32,
    pub(super) total: usize,
    pub(super) kubeconfig: &'a Path,
    pub(super) nodes: usize,
}

/// The text as a regular expression of Go's that matches it and nothing else.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(default)]
    spec_reports: Option<Vec<Planned>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Planned {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
}

impl Planned {
    fn runs(&self) -> bool {
        self.state == "passed"
    }

    fn name(&self) -> String {
        let containers = self.container_hierarchy_texts.as_deref();
        full_name(containers.unwrap_or_default(), &self.leaf_node_text)
    }
}

/// The tests of a dry run.
fn planned(report: &[u8]) -> Result<Vec<Planned>, serde_json::Error> {
    let reports: Vec<Report> = serde_json::from_slice(report)?;
    let specs = reports.into_iter().filter_map(|report| report.spec_reports);
    Ok(specs
        .flatten()
        .filter(|spec| spec.leaf_node_type == "It")
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_names_what_would_run() {
        let report = br#"[{"SuiteDescription": "x", "SpecReports": [
            {"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig-a] A", ""], "LeafNodeType": "It", "LeafNodeText": "should b [Conformance]", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig-a] A"], "LeafNodeType": "It", "LeafNodeText": "should c", "State": "skipped"}
        ]}]"#;
        let specs = planned(report).unwrap();
        let names: Vec<_> = specs
            .iter()
            .map(|spec| (spec.name(), spec.runs()))
            .collect();
        assert_eq!(
            names,
            [
                ("[sig-a] A should b [Conformance]".to_owned(), true),
                ("[sig-a] A should c".to_owned(), false)
            ]
        );
        assert!(planned(b"[{\"SpecReports\": null}]").unwrap().is_empty());
    }

    #[test]
    fn a_name_becomes_an_expression_that_matches_it_alone() {
        assert_eq!(quote("[sig-a] b (x.y)"), r"\[sig-a\] b \(x\.y\)");
    }

    #[test]
    fn serial_and_disruptive_tests_run_alone() {
        assert!(runs_alone("[sig-a] b [Serial] [Conformance]"));
        assert!(!runs_alone("[sig-a] Serial b [Conformance]"));
    }
}

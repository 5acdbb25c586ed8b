//! Tells what certificates there are and what is wrong with them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::certificate::{Certificate, seconds};
use super::survey::{Entry, Place, Survey};
use super::{DAY, Error, dates, layout};

mod table;

/// A certificate, in the words of `kubeadm certs check-expiration`, and more.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub name: String,
    pub file: PathBuf,
    pub subject: String,
    pub issuer: String,
    /// Empty means any.
    pub usages: Vec<String>,
    pub names: Vec<String>,
    pub expiration_date: String,
    /// Seconds.
    pub residual_time: i64,
    #[serde(skip)]
    ends: i64,
    /// The authority that signed it, if that is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_name: Option<String>,
    /// Whether its authority's key is not here, or its kubelet renews it.
    pub externally_managed: bool,
    pub problems: Vec<String>,
}

/// What is wrong with a file that holds no certificate.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub certificates: Vec<Row>,
    pub certificate_authorities: Vec<Row>,
    pub problems: Vec<Problem>,
}

impl Report {
    #[must_use]
    pub fn is_fine(&self) -> bool {
        let mut rows = self
            .certificates
            .iter()
            .chain(&self.certificate_authorities);
        self.problems.is_empty() && rows.all(|row| row.problems.is_empty())
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        table::render(self)
    }
}

/// Looks at a directory, or at files. What ends within so many days is a problem.
///
/// # Errors
/// There is nothing, or it cannot be read.
pub fn inspect(paths: &[PathBuf], days: u32, now: SystemTime) -> Result<Report, Error> {
    let mut report = Report::default();
    for path in paths {
        let survey = match path.is_dir() {
            true => Survey::of(path)?,
            false => Survey::of_file(path)?,
        };
        let judge = Judge {
            survey: &survey,
            within: DAY.saturating_mul(days),
            now,
        };
        judge.all(path, &mut report);
    }
    Ok(report)
}

struct Judge<'a> {
    survey: &'a Survey,
    within: Duration,
    now: SystemTime,
}

impl Judge<'_> {
    fn all(&self, asked: &Path, report: &mut Report) {
        let beside = |entry: &Entry| entry.elsewhere && !asked.is_dir() && entry.is_authority();
        for entry in &self.survey.entries {
            if beside(entry) || self.is_told_elsewhere(entry) {
                continue;
            }
            let authority = entry.is_authority() || entry.place == Place::Trusted;
            let row = self.row(entry);
            match authority {
                true => report.certificate_authorities.push(row),
                false => report.certificates.push(row),
            }
        }
        let broken = self.survey.broken.iter().cloned();
        let open = self.survey.keys.iter().filter(|(_, mode)| is_open(*mode));
        let open = open.map(|(path, mode)| (path.clone(), open_key(path, *mode)));
        let both = broken.chain(open);
        report
            .problems
            .extend(both.map(|(file, problem)| Problem { file, problem }));
    }

    /// Kubeconfigs embed the authorities that lie in files anyway.
    fn is_told_elsewhere(&self, entry: &Entry) -> bool {
        let same = |other: &Entry| other.certificate == entry.certificate;
        entry.place == Place::Trusted
            && self.survey.authorities().any(same)
            && self.untrusted(entry).is_none()
    }

    /// The authority of the cluster, if it is not among those that a kubeconfig trusts.
    fn untrusted(&self, entry: &Entry) -> Option<&Entry> {
        let current = self.survey.authorities().find(|one| one.name == "ca")?;
        let mut trusted = self.survey.entries.iter();
        let has = |other: &Entry| {
            other.path == entry.path
                && other.place == Place::Trusted
                && other.certificate.has_key_of(&current.certificate)
        };
        (!trusted.any(has)).then_some(current)
    }

    fn row(&self, entry: &Entry) -> Row {
        let certificate = &entry.certificate;
        let signer = self.signer(certificate);
        let mut problems = Vec::new();
        self.time(entry, &mut problems);
        key(entry, &mut problems);
        if entry.is_authority() || entry.place == Place::Trusted {
            let untrusted = self.untrusted(entry);
            if let Some(ca) = untrusted.filter(|_| entry.place == Place::Trusted) {
                let ca = ca.path.display();
                problems.push(format!("does not trust the authority in {ca}"));
            }
        } else {
            self.place(entry, signer, &mut problems);
        }
        let managed = match (entry.is_authority(), signer) {
            (true, _) => self.has_key(entry),
            (false, Some(signer)) => self.has_key(signer) && !entry.is_kubelets(),
            (false, None) => false,
        };
        Row {
            name: entry.told(),
            file: entry.path.clone(),
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            usages: certificate.usages.clone(),
            names: certificate.names.clone(),
            expiration_date: dates::rfc3339(certificate.not_after),
            residual_time: certificate.not_after - seconds(self.now),
            ends: certificate.not_after,
            ca_name: signer
                .filter(|signer| signer.certificate != *certificate)
                .map(|signer| signer.told()),
            externally_managed: !managed,
            problems,
        }
    }

    fn signer(&self, certificate: &Certificate) -> Option<&Entry> {
        let signed = |entry: &&Entry| certificate.is_signed_by(&entry.certificate);
        // Of several with one key, the one that can sign again.
        let mut signers: Vec<&Entry> = self.survey.authorities().filter(signed).collect();
        signers.sort_by_key(|entry| entry.is_copy());
        let keyed = signers.iter().find(|entry| entry.has_its_key());
        keyed.or(signers.first()).copied()
    }

    /// Whether an authority, or one that is to follow it in the same file, can sign.
    fn has_key(&self, authority: &Entry) -> bool {
        let mut bundle = self.survey.entries.iter();
        bundle.any(|entry| entry.path == authority.path && entry.has_its_key())
    }

    fn time(&self, entry: &Entry, problems: &mut Vec<String>) {
        let certificate = &entry.certificate;
        let now = seconds(self.now);
        let left = certificate.not_after - now;
        // A kubelet renews in the last third of the time, however short that is.
        let soon = match entry.is_kubelets() {
            true => (certificate.not_after - certificate.not_before) / 10,
            false => i64::try_from(self.within.as_secs()).unwrap_or(i64::MAX),
        };
        let when = dates::words(certificate.not_after);
        if left < 0 {
            problems.push(format!("expired on {when}"));
        } else if left < soon {
            problems.push(format!("ends soon, on {when}"));
        }
        if certificate.not_before > now {
            let from = dates::words(certificate.not_before);
            problems.push(format!("is not valid before {from}"));
        }
    }

    /// Whether its authority and usages are those that its name or file asks for.
    fn place(&self, entry: &Entry, signer: Option<&Entry>, problems: &mut Vec<String>) {
        let (authority, usages) = self.wanted(entry);
        let certificate = &entry.certificate;
        if let Some(authority) = authority
            && let Some(above) = self.survey.authorities().find(|one| one.name == authority)
        {
            let bundle = self.survey.authorities();
            let mut bundle = bundle.filter(|one| one.path == above.path);
            if !bundle.any(|one| certificate.is_signed_by(&one.certificate)) {
                problems.push(format!(
                    "is not signed by the authority in {}",
                    above.path.display()
                ));
            }
        } else if signer.is_none() && !certificate.is_signed_by(certificate) {
            let beside = |one: &Entry| one.path.parent() == entry.path.parent();
            if self.survey.authorities().any(beside) {
                problems.push("is not signed by an authority beside it".to_owned());
            }
        }
        for usage in usages.iter().filter(|usage| !certificate.may_be(usage)) {
            problems.push(format!("lacks the usage {usage:?}"));
        }
        if layout::AUTHORITIES
            .iter()
            .any(|(name, _)| entry.name == *name)
        {
            problems.push("may not sign certificates".to_owned());
        }
    }

    fn wanted(&self, entry: &Entry) -> (Option<&'static str>, Vec<&'static str>) {
        if entry.place == Place::User {
            return (Some("ca"), vec!["client auth"]);
        }
        if let Some(leaf) = layout::known(&entry.name) {
            return (Some(leaf.authority), leaf.words());
        }
        let server = format!("{}-server", entry.name);
        let is_node = self.survey.entries.iter().any(|one| one.name == server);
        match (entry.name.ends_with("-server"), is_node) {
            (true, _) => (Some("ca"), vec!["server auth"]),
            (false, true) => (Some("ca"), vec!["client auth"]),
            (false, false) => (None, Vec::new()),
        }
    }
}

fn key(entry: &Entry, problems: &mut Vec<String>) {
    let path = entry.key.path.display();
    match &entry.key.read {
        Some(Ok(key)) if !entry.certificate.is_of(key) => {
            problems.push(format!("the key in {path} does not belong to it"));
        }
        Some(Err(reason)) => problems.push(format!("{path}: {reason}")),
        // Authorities may be kept elsewhere; of a kubeconfig's without a key, and of intermediates, nobody needs it here.
        None if entry.is_leaf() && !entry.elsewhere => {
            problems.push(format!("its key {path} is missing"));
        }
        _ => {}
    }
    if entry.key.read.is_some() && is_open(entry.key.mode) {
        problems.push(open_key(&entry.key.path, entry.key.mode));
    }
}

fn is_open(mode: u32) -> bool {
    mode & 0o077 != 0
}

fn open_key(path: &Path, mode: u32) -> String {
    let path = path.display();
    format!("the key in {path} can be read by others (mode {mode:04o}): chmod 600 {path}")
}

//! Renews certificates by copying what they say, whoever made them: subject, names, usages and all other extensions stay
//! byte for byte.
//!
//! A leaf gets a new key. It is renewed once and written to each place that has it, so that `admin.crt` and the kubeconfig
//! that embeds it stay one. An authority keeps its key and subject, so that all it signed stays valid; with another key
//! ([`Roll::NewKey`]) its file becomes a bundle that trusts the new and the old, until [`Roll::DropOld`] ends that.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::authority::Authority;
use super::certificate::Certificate;
use super::files::{read, write_private, write_public};
use super::kubeconfig::{Data, Kubeconfig};
use super::survey::{Entry, Place, Survey};
use super::{DAY, Error, LEAF_VALIDITY, keys};

mod advice;
mod rolling;

pub use rolling::authority;

/// What the file of a rolled authority without the old certificates is called, after the authority's name.
pub(super) const SIGNING: &str = "-signing";

/// How an authority is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roll {
    SameKey,
    NewKey,
    /// No longer trusts what [`Self::NewKey`] left beside the new one.
    DropOld,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    pub written: Vec<PathBuf>,
    /// By name: what ought to be renewed and was not, and why.
    pub left: Vec<(String, String)>,
    /// What is to be done now, in order.
    pub next: Vec<String>,
}

/// Renews the leaves with these names, or those that end within some days.
///
/// # Errors
/// A name is not known, or files cannot be read or written.
pub fn leaves(dir: &Path, names: &[String], days: u32, now: SystemTime) -> Result<Outcome, Error> {
    let survey = Survey::of(dir)?;
    check_names(&survey, names)?;
    let soon = now + DAY.saturating_mul(days);
    let wanted = |entry: &&Entry| match names {
        [] => entry.certificate.ends_before(soon),
        names => names.iter().any(|name| entry.is_named(name)),
    };
    let mut outcome = Outcome::default();
    let mut done: Vec<&Certificate> = Vec::new();
    let leaves = survey.entries.iter().filter(|entry| entry.is_leaf());
    for entry in leaves.filter(wanted) {
        if done.contains(&&entry.certificate) {
            continue;
        }
        done.push(&entry.certificate);
        if let Err(why) = can_renew(&survey, entry) {
            outcome.left.push((entry.told(), why));
            continue;
        }
        match signer(&survey, entry, now)? {
            Ok(authority) => renew_leaf(&survey, entry, &authority, now, &mut outcome)?,
            Err(why) => outcome.left.push((entry.told(), why)),
        }
    }
    outcome.next = advice::after_leaves(&survey, &outcome.written);
    Ok(outcome)
}

fn check_names(survey: &Survey, names: &[String]) -> Result<(), Error> {
    for name in names {
        let named = |entry: &&Entry| entry.is_named(name);
        if survey.entries.iter().filter(named).any(Entry::is_leaf) {
            continue;
        }
        if survey.authorities().any(|entry| entry.is_named(name)) {
            return Err(Error::IsAuthority {
                name: name.clone(),
                dir: survey.dir.clone(),
            });
        }
        return Err(unknown(survey, name, Entry::is_leaf));
    }
    Ok(())
}

fn unknown(survey: &Survey, name: &str, like: impl Fn(&Entry) -> bool) -> Error {
    let known = survey.entries.iter().filter(|entry| like(entry));
    let known: BTreeSet<String> = known.map(Entry::told).collect();
    Error::Unknown {
        name: name.to_owned(),
        known: known.into_iter().collect(),
    }
}

fn can_renew(survey: &Survey, entry: &Entry) -> Result<(), String> {
    if entry.is_kubelets() {
        return Err("its kubelet renews it while it runs".to_owned());
    }
    let same = |other: &&Entry| other.certificate == entry.certificate;
    for other in survey.entries.iter().filter(same) {
        let path = other.path.display();
        if other.elsewhere {
            let dir = survey.dir.display();
            return Err(format!("{path} is not below {dir}"));
        }
        let key = &other.key;
        if other.place == Place::User && (key.path != other.path || key.read.is_none()) {
            return Err(format!("{path} embeds it without its key; embed that too"));
        }
    }
    Ok(())
}

/// The authority that a leaf is signed by, with its key; or why there is none.
fn signer(
    survey: &Survey,
    leaf: &Entry,
    now: SystemTime,
) -> Result<Result<Authority, String>, Error> {
    let mut why = format!(
        "no authority here signed it; {} did",
        leaf.certificate.issuer
    );
    let signed = |entry: &&Entry| leaf.certificate.is_signed_by(&entry.certificate);
    for entry in survey.authorities().filter(signed) {
        let bundle = survey.entries.iter().filter(|one| one.path == entry.path);
        // Of a bundle, the key belongs to one, perhaps to another than the one that signed.
        let key = bundle
            .clone()
            .find(|one| one.has_its_key())
            .unwrap_or(entry);
        match Authority::read(&entry.path, &key.key.path, now)? {
            Some(Ok(authority)) => return Ok(Ok(authority)),
            Some(Err(unfit)) => {
                let name = base_name(entry);
                why = Error::authority(&survey.dir, name, unfit).to_string();
            }
            None => {}
        }
    }
    Ok(Err(why))
}

/// The name of a file of authorities, also of those that are trusted beside the first.
fn base_name(entry: &Entry) -> &str {
    let name = entry.name.split(" (").next().unwrap_or(&entry.name);
    name.strip_suffix(SIGNING).unwrap_or(name)
}

fn renew_leaf(
    survey: &Survey,
    leaf: &Entry,
    authority: &Authority,
    now: SystemTime,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let failed = |cause| Error::Make {
        path: leaf.path.clone(),
        cause,
    };
    let key = keys::generate().map_err(failed)?;
    let made = authority
        .sign(&leaf.certificate, &key, now, LEAF_VALIDITY)
        .map_err(failed)?;
    let (certificate, key) = (made.pem(), key.serialize_pem());
    let has = |entry: &&Entry| entry.is_leaf() && entry.certificate == leaf.certificate;
    for entry in survey.entries.iter().filter(has) {
        let path = &entry.path;
        if entry.place == Place::User {
            let old = &leaf.certificate;
            change_kubeconfig(path, |config| user_places(config, old, &certificate, &key))?;
        } else {
            let before = read(path)?.unwrap_or_default();
            let text = replaced(&before, &leaf.certificate, &certificate);
            if entry.key.path == *path {
                write_private(path, &format!("{text}{key}"))?;
            } else {
                // The key first, as when it was made: what does not match is seen and can be renewed.
                write_private(&entry.key.path, &key)?;
                write_public(path, &text)?;
            }
        }
        if !outcome.written.contains(path) {
            outcome.written.push(path.clone());
        }
    }
    Ok(())
}

/// The certificates of a text with another in the place of one; keys are left out.
fn replaced(pem: &str, old: &Certificate, new: &str) -> String {
    let all = Certificate::all(pem).unwrap_or_default();
    let blocks = all.iter().map(|one| match one == old {
        true => new.to_owned(),
        false => one.pem(),
    });
    blocks.collect()
}

/// What is written where.
type Places = Vec<(Range<usize>, String)>;

/// Where a kubeconfig has a certificate and its key.
fn user_places(config: &Kubeconfig, old: &Certificate, certificate: &str, key: &str) -> Places {
    let mut places = Vec::new();
    for user in &config.users {
        if let (Some(Data::Embedded { pem, span }), Some(Data::Embedded { span: key_span, .. })) =
            (&user.certificate, &user.key)
            && Certificate::all(pem).is_ok_and(|all| all.first() == Some(old))
        {
            places.push((span.clone(), replaced(pem, old, certificate)));
            places.push((key_span.clone(), key.to_owned()));
        }
    }
    places
}

/// Writes a kubeconfig with other PEM in some places, if there are any; says whether there were.
fn change_kubeconfig(
    path: &Path,
    places: impl FnOnce(&Kubeconfig) -> Places,
) -> Result<bool, Error> {
    let unusable = |reason| Error::Kubeconfig {
        path: path.to_owned(),
        reason,
    };
    let text = read(path)?.unwrap_or_default();
    let config = Kubeconfig::read(&text, Path::new("")).map_err(unusable)?;
    let places = places(&config);
    if places.is_empty() {
        return Ok(false);
    }
    let text = config.with(places).map_err(unusable)?;
    write_private(path, &text)?;
    Ok(true)
}

//! Authorities: renewed with their key, or rolled to another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::authority::{self as authorities, Unfit};
use super::super::certificate::Certificate;
use super::super::files::{read, write_private, write_public};
use super::super::kubeconfig::{Data, Kubeconfig};
use super::super::survey::{Entry, Place, Survey};
use super::super::{Error, keys};
use super::{
    Outcome, Places, Roll, SIGNING, advice, base_name, change_kubeconfig, replaced, unknown,
};

/// Renews an authority, and what kubeconfigs have of it.
///
/// # Errors
/// There is no such authority, it does not sign itself, or its key is needed and cannot be used.
pub fn authority(dir: &Path, name: &str, roll: Roll, now: SystemTime) -> Result<Outcome, Error> {
    let survey = Survey::of(dir)?;
    let own = |entry: &Entry| entry.is_authority() && !entry.is_copy();
    let named = |entry: &&Entry| entry.is_named(name) && own(entry);
    let Some(first) = survey.entries.iter().find(named) else {
        return Err(unknown(&survey, name, own));
    };
    let name = base_name(first).to_owned();
    let mut rolling = Rolling {
        bundle: survey
            .entries
            .iter()
            .filter(|entry| entry.path == first.path)
            .collect(),
        survey: &survey,
        path: &first.path,
        name: &name,
        now,
        outcome: Outcome::default(),
    };
    match roll {
        Roll::SameKey => rolling.same_key()?,
        Roll::NewKey => rolling.new_key()?,
        Roll::DropOld => rolling.drop_old()?,
    }
    rolling.refresh_kubeconfigs()?;
    let mut outcome = rolling.outcome;
    outcome.next = advice::after_authority(&survey, &name, first, roll);
    Ok(outcome)
}

struct Rolling<'a> {
    survey: &'a Survey,
    /// The file that is trusted, and all in it.
    path: &'a Path,
    bundle: Vec<&'a Entry>,
    name: &'a str,
    now: SystemTime,
    outcome: Outcome,
}

impl Rolling<'_> {
    /// The one whose key is there.
    fn current(&self) -> Result<&Entry, Error> {
        let own = self.bundle.iter().find(|entry| entry.has_its_key());
        own.copied().ok_or_else(|| {
            let entry = self.bundle[0];
            let key = &entry.key;
            let unfit = match &key.read {
                None => Unfit::NoKey(key.path.clone()),
                Some(Err(reason)) => Unfit::Key {
                    path: key.path.clone(),
                    reason: *reason,
                },
                Some(Ok(_)) => Unfit::OtherKey(self.path.to_owned()),
            };
            Error::authority(&self.survey.dir, self.name, unfit)
        })
    }

    fn failed(&self, cause: rcgen::Error) -> Error {
        Error::Make {
            path: self.path.to_owned(),
            cause,
        }
    }

    fn check_own(&self, entry: &Entry) -> Result<(), Error> {
        if entry.certificate.subject == entry.certificate.issuer {
            return Ok(());
        }
        Err(Error::NotItsOwn {
            name: self.name.to_owned(),
            issuer: entry.certificate.issuer.clone(),
        })
    }

    fn same_key(&mut self) -> Result<(), Error> {
        let current = self.current()?;
        self.check_own(current)?;
        let Some(Ok(key)) = &current.key.read else {
            unreachable!("the current one has its key");
        };
        let made = authorities::renewed(&current.certificate, key, self.now)
            .map_err(|cause| self.failed(cause))?;
        let old = current.certificate.clone();
        let text = replaced(&self.text()?, &old, &made.pem());
        self.write(&text)?;
        self.write_signing(&made.pem(), false)
    }

    fn new_key(&mut self) -> Result<(), Error> {
        let entry = self.current().unwrap_or(self.bundle[0]);
        self.check_own(entry)?;
        let key = keys::generate().map_err(|cause| self.failed(cause))?;
        let made = authorities::renewed(&entry.certificate, &key, self.now)
            .map_err(|cause| self.failed(cause))?;
        let key_path = entry.key.path.clone();
        let still = self
            .bundle
            .iter()
            .filter(|entry| !entry.certificate.ends_before(self.now))
            .map(|entry| entry.certificate.pem());
        let text: String = [made.pem()].into_iter().chain(still).collect();
        // The certificates first: until the key is there, the old key belongs to the old one of them.
        self.write(&text)?;
        self.write_signing(&made.pem(), true)?;
        if let Some(old) = read(&key_path)? {
            let kept = key_path.with_extension("key.old");
            write_private(&kept, &old)?;
            self.outcome.written.push(kept);
        }
        write_private(&key_path, &key.serialize_pem())?;
        self.outcome.written.push(key_path);
        Ok(())
    }

    fn drop_old(&mut self) -> Result<(), Error> {
        let current = self.current()?.certificate.clone();
        let olds: Vec<&Certificate> = self
            .bundle
            .iter()
            .map(|entry| &entry.certificate)
            .filter(|one| !one.has_key_of(&current))
            .collect();
        let needs = |entry: &&Entry| {
            entry.is_leaf() && olds.iter().any(|old| entry.certificate.is_signed_by(old))
        };
        let needy: BTreeSet<String> = self
            .survey
            .entries
            .iter()
            .filter(needs)
            .map(Entry::told)
            .collect();
        if !needy.is_empty() {
            return Err(Error::StillNeeded {
                name: self.name.to_owned(),
                needy: needy.into_iter().collect(),
            });
        }
        self.write(&current.pem())
    }

    fn text(&self) -> Result<String, Error> {
        Ok(read(self.path)?.unwrap_or_default())
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        write_public(self.path, text)?;
        self.outcome.written.push(self.path.to_owned());
        Ok(())
    }

    /// The file without old certificates, for signers, which take one certificate and no bundle.
    fn write_signing(&mut self, pem: &str, always: bool) -> Result<(), Error> {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let path = self.path.with_file_name(format!("{stem}{SIGNING}.crt"));
        if always || path.exists() {
            write_public(&path, pem)?;
            self.outcome.written.push(path);
        }
        Ok(())
    }

    /// In kubeconfigs, what they have of this authority becomes what its file has now; authorities of others stay.
    fn refresh_kubeconfigs(&mut self) -> Result<(), Error> {
        let now = self.text()?;
        let ours = |one: &Certificate| {
            let of = |entry: &&Entry| entry.certificate.has_key_of(one);
            self.bundle.iter().any(of)
        };
        let trusting = self.survey.entries.iter();
        let trusting = trusting.filter(|entry| entry.place == Place::Trusted && !entry.elsewhere);
        let paths: BTreeSet<&PathBuf> = trusting.map(|entry| &entry.path).collect();
        for path in paths {
            let places = |config: &Kubeconfig| {
                let mut places = Places::new();
                for data in &config.authorities {
                    let Data::Embedded { pem, span } = data else {
                        continue;
                    };
                    let all = Certificate::all(pem).unwrap_or_default();
                    if all.iter().any(ours) {
                        let others = all.iter().filter(|one| !ours(one)).map(Certificate::pem);
                        let text = [now.clone()].into_iter().chain(others).collect();
                        places.push((span.clone(), text));
                    }
                }
                places
            };
            if change_kubeconfig(path, places)? {
                self.outcome.written.push(path.clone());
            }
        }
        Ok(())
    }
}

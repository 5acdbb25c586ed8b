//! Finds every certificate: in PEM files and bundles, embedded in kubeconfigs, and in files that these name.
//!
//! Of a cluster's directory that is what lies in it, in `pki` and in `kubeconfigs`; a directory without `pki` is taken
//! for that itself, or for a kubelet's, and searched to the same depth. Files are known by what they hold, not by their
//! names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use super::certificate::Certificate;
use super::kubeconfig::{Data, Kubeconfig, Unusable};
use super::renew::SIGNING;
use super::{Error, Unreadable, keys};
use crate::files::cannot;

mod files;

use files::{is_kubelets, key_of, list, mode, walk};

/// Directories below the one that is searched.
const DEPTH: usize = 3;
const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// Where in its file a certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The block of this number of a PEM file.
    Block(usize),
    /// Of a user of a kubeconfig.
    User,
    /// One that a cluster of a kubeconfig is trusted by.
    Trusted,
}

/// The private key of a certificate.
pub(super) struct Key {
    /// Where it is, or would be.
    pub(super) path: PathBuf,
    pub(super) read: Option<Result<KeyPair, Unreadable>>,
    /// Access bits of its file.
    pub(super) mode: u32,
}

pub(super) struct Entry {
    /// Below `pki`, without extension; of kubeconfigs the file's name.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) certificate: Certificate,
    pub(super) place: Place,
    pub(super) key: Key,
    /// Read because something names it, but not below the directory.
    pub(super) elsewhere: bool,
}

impl Entry {
    /// Whether it is one of those that others are signed by, and lies in a file of its own.
    pub(super) fn is_authority(&self) -> bool {
        self.certificate.is_authority && matches!(self.place, Place::Block(_))
    }

    /// Whether it says who somebody is, rather than who signed that.
    pub(super) fn is_leaf(&self) -> bool {
        match self.place {
            Place::Block(0) => !self.certificate.is_authority,
            Place::User => true,
            Place::Block(_) | Place::Trusted => false,
        }
    }

    /// Whether the key that was found belongs to it.
    pub(super) fn has_its_key(&self) -> bool {
        matches!(&self.key.read, Some(Ok(key)) if self.certificate.is_of(key))
    }

    /// Whether a kubelet made it and renews it: it keeps each pair in a file with a date, and a link to the current one.
    pub(super) fn is_kubelets(&self) -> bool {
        is_kubelets(&self.path)
    }

    /// Its name as kubeadm tells it: `etcd-server` where the file is `etcd/server`.
    pub(super) fn told(&self) -> String {
        self.name.replace('/', "-")
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name || self.told() == name
    }

    /// Whether its file repeats an authority that is being rolled, without those trusted beside it.
    pub(super) fn is_copy(&self) -> bool {
        self.name.ends_with(SIGNING)
    }
}

pub(super) struct Survey {
    pub(super) dir: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// What should hold certificates or keys, but what is wrong with it.
    pub(super) broken: Vec<(PathBuf, String)>,
    /// Keys that belong to no certificate here, with their access bits.
    pub(super) keys: Vec<(PathBuf, u32)>,
    root: PathBuf,
}

impl Survey {
    /// All that is in a directory.
    ///
    /// # Errors
    /// The directory cannot be read, or there is nothing.
    pub(super) fn of(dir: &Path) -> Result<Self, Error> {
        let pki = dir.join("pki");
        let mut survey = Self::empty(dir, if pki.is_dir() { &pki } else { dir });
        if pki.is_dir() {
            let mut paths = list(dir)?.0;
            for below in [pki, dir.join("kubeconfigs")] {
                if below.is_dir() {
                    walk(&below, DEPTH, &mut paths)?;
                }
            }
            survey.take(paths);
        } else {
            let mut paths = Vec::new();
            walk(dir, DEPTH, &mut paths)?;
            survey.take(paths);
        }
        if survey.entries.is_empty() && survey.broken.is_empty() {
            return Err(Error::Nothing(dir.to_owned()));
        }
        Ok(survey)
    }

    /// One file. The authorities beside it are read too, and counted as lying elsewhere.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn of_file(path: &Path) -> Result<Self, Error> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let root = match dir.file_name() {
            Some(name) if name == "etcd" => dir.parent().unwrap_or(dir),
            _ => dir,
        };
        let mut survey = Self::empty(dir, root);
        fs::metadata(path).map_err(cannot("read", path))?;
        survey.take(vec![path.to_owned()]);
        if survey.entries.is_empty() && survey.broken.is_empty() {
            return Err(Error::Nothing(path.to_owned()));
        }
        let shown = survey.entries.len();
        let mut beside = list(dir)?.0;
        beside.retain(|other| other != path);
        let pki = dir.join("pki");
        let below = list(&pki).map(|found| found.0).unwrap_or_default();
        for (root, paths) in [(root, beside), (&pki, below)] {
            let mut others = Self::empty(dir, root);
            others.take(paths);
            let authorities = others.entries.into_iter().filter(Entry::is_authority);
            survey.entries.extend(authorities);
        }
        for entry in &mut survey.entries[shown..] {
            entry.elsewhere = true;
        }
        Ok(survey)
    }

    fn empty(dir: &Path, root: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            root: root.to_owned(),
            entries: Vec::new(),
            broken: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// The certificates of authorities of which a file with a key is there, with all that are trusted beside them.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_authority())
    }

    fn take(&mut self, paths: Vec<PathBuf>) {
        let mut named = Vec::new();
        for path in &paths {
            let text = match fs::read_to_string(path) {
                Ok(text) => text,
                // Not text; or a link to nothing.
                Err(cause)
                    if matches!(
                        cause.kind(),
                        io::ErrorKind::InvalidData | io::ErrorKind::NotFound
                    ) =>
                {
                    continue;
                }
                Err(cause) => {
                    self.broken
                        .push((path.clone(), format!("cannot be read: {cause}")));
                    continue;
                }
            };
            if text.contains(BEGIN_CERTIFICATE) {
                let key = key_of(path, &text, None);
                self.pem(path, &text, key, false);
            } else if text.contains(PRIVATE_KEY) {
                self.keys.push((path.clone(), mode(path)));
            } else if text.contains("Config") {
                named.extend(self.kubeconfig(path, &text));
            } else if path.extension().is_some_and(|end| end == "crt") {
                self.broken
                    .push((path.clone(), "holds no certificate".to_owned()));
            }
        }
        for (by, certificate, key) in named {
            self.named(&by, &certificate, key.as_deref());
        }
        let taken = |path: &PathBuf| self.entries.iter().any(|entry| entry.key.path == *path);
        let loose: Vec<bool> = self.keys.iter().map(|(path, _)| !taken(path)).collect();
        let mut loose = loose.into_iter();
        self.keys.retain(|_| loose.next().unwrap_or(true));
    }

    fn pem(&mut self, path: &Path, text: &str, key: Key, elsewhere: bool) {
        let all = match Certificate::all(text) {
            Ok(all) if !all.is_empty() => all,
            _ => {
                let what = "holds a certificate that cannot be read".to_owned();
                return self.broken.push((path.to_owned(), what));
            }
        };
        let name = path.strip_prefix(&self.root).unwrap_or(path);
        let name = name.with_extension("").display().to_string();
        // Of a bundle, the key is that of the certificate that it fits.
        let own = match &key.read {
            Some(Ok(key)) => all.iter().position(|one| one.is_of(key)).unwrap_or(0),
            _ => 0,
        };
        let mut key = Some(key);
        for (index, certificate) in all.into_iter().enumerate() {
            let mine = (index == own).then(|| key.take()).flatten();
            self.entries.push(Entry {
                name: match index {
                    0 => name.clone(),
                    _ => format!("{name} ({})", index + 1),
                },
                path: path.to_owned(),
                certificate,
                place: Place::Block(index),
                key: mine.unwrap_or_else(|| Key {
                    path: path.with_extension("key"),
                    read: None,
                    mode: 0,
                }),
                elsewhere,
            });
        }
    }

    /// Files that a kubeconfig names, with the key that belongs to each, are given back.
    fn kubeconfig(&mut self, path: &Path, text: &str) -> Vec<(PathBuf, PathBuf, Option<PathBuf>)> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let config = match Kubeconfig::read(text, dir) {
            Ok(config) => config,
            Err(Unusable::Other | Unusable::Syntax { .. }) => return Vec::new(),
            Err(unusable) => {
                self.broken.push((path.to_owned(), unusable.to_string()));
                return Vec::new();
            }
        };
        let mut named = Vec::new();
        for user in &config.users {
            match &user.certificate {
                Some(Data::Embedded { pem, .. }) => {
                    let key = match &user.key {
                        Some(Data::Embedded { pem, .. }) => Key {
                            path: path.to_owned(),
                            read: Some(keys::parse(pem)),
                            mode: mode(path),
                        },
                        Some(Data::File(file)) => key_of(path, "", Some(file)),
                        None => Key {
                            path: path.to_owned(),
                            read: None,
                            mode: 0,
                        },
                    };
                    self.embedded(path, pem, Place::User, key);
                }
                Some(Data::File(file)) => {
                    let key = match &user.key {
                        Some(Data::File(key)) => Some(key.clone()),
                        _ => None,
                    };
                    named.push((path.to_owned(), file.clone(), key));
                }
                None => {}
            }
        }
        for authority in &config.authorities {
            match authority {
                Data::Embedded { pem, .. } => {
                    let key = Key {
                        path: path.to_owned(),
                        read: None,
                        mode: 0,
                    };
                    self.embedded(path, pem, Place::Trusted, key);
                }
                Data::File(file) => named.push((path.to_owned(), file.clone(), None)),
            }
        }
        named
    }

    fn embedded(&mut self, path: &Path, pem: &str, place: Place, key: Key) {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.display().to_string();
        let mut all = match Certificate::all(pem) {
            Ok(all) if !all.is_empty() => all,
            _ => {
                let what = "embeds a certificate that cannot be read".to_owned();
                return self.broken.push((path.to_owned(), what));
            }
        };
        if place == Place::User {
            // What follows are intermediates.
            all.truncate(1);
        }
        let mut key = Some(key);
        for certificate in all {
            self.entries.push(Entry {
                name: name.clone(),
                path: path.to_owned(),
                certificate,
                place: place.clone(),
                key: key.take().unwrap_or_else(|| Key {
                    path: path.to_owned(),
                    read: None,
                    mode: 0,
                }),
                elsewhere: false,
            });
        }
    }

    fn named(&mut self, by: &Path, path: &Path, key: Option<&Path>) {
        let same = |other: &Path| match (fs::canonicalize(other), fs::canonicalize(path)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        };
        if self.entries.iter().any(|entry| same(&entry.path)) {
            return;
        }
        match fs::read_to_string(path) {
            Ok(text) if text.contains(BEGIN_CERTIFICATE) => {
                let key = key_of(path, &text, key);
                self.pem(path, &text, key, true);
            }
            Ok(_) => {
                let what = format!("{} holds no certificate", path.display());
                self.broken.push((by.to_owned(), what));
            }
            Err(cause) => {
                let what = format!(
                    "{}, which it names, cannot be read: {cause}",
                    path.display()
                );
                self.broken.push((by.to_owned(), what));
            }
        }
    }
}

//! Makes what a cluster needs and what is not there, or is not good any more.
//!
//! One mechanism with two temperaments. Clusters that are thrown away ([`LOCAL`]) get whatever makes them work: what is
//! lost, near its end or made for other names is made again, and with an authority all that it signed. Clusters of
//! operators ([`KEPT`]) have other parties: what is valid stays byte for byte, whoever made it, and an authority is never
//! replaced, since that breaks everything that trusts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyUsagePurpose};

use super::authority::{self, Authority};
use super::certificate::Certificate;
use super::files::{read, write_private, write_public};
use super::kubeconfig::{self, Data, Kubeconfig};
use super::layout::{self, Leaf};
use super::{Error, Host, LEAF_VALIDITY, Names, Pki, RENEW_BEFORE, keys};
use crate::files::cannot;

/// How existing files are treated.
pub(super) struct Care {
    /// Leaves that end sooner are made again.
    renew_before: Duration,
    keeps: bool,
}

pub(super) const LOCAL: Care = Care {
    renew_before: RENEW_BEFORE,
    keeps: false,
};
/// What is near its end is for [`super::renew`], which is asked for and says what to do then.
pub(super) const KEPT: Care = Care {
    renew_before: Duration::ZERO,
    keeps: true,
};

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub path: PathBuf,
    pub why: &'static str,
}

const MISSING: &str = "there was none";

/// Makes what is missing below a directory for these names.
///
/// # Errors
/// An authority cannot be used; or files cannot be read or written.
pub fn create(dir: &Path, names: &Names, now: SystemTime) -> Result<Vec<Made>, Error> {
    make(&Pki::at(dir), names, &KEPT, now)
}

pub(super) fn make(
    pki: &Pki,
    names: &Names,
    care: &Care,
    now: SystemTime,
) -> Result<Vec<Made>, Error> {
    let mut maker = Maker {
        pki,
        care,
        now,
        made: Vec::new(),
    };
    let mut authorities = Vec::new();
    for (name, common_name) in layout::AUTHORITIES {
        authorities.push((*name, maker.authority(name, common_name)?));
    }
    for leaf in layout::leaves(names) {
        let (_, authority) = authorities
            .iter()
            .find(|(name, _)| *name == leaf.authority)
            .expect("the leaf table names authorities of the authority table");
        maker.leaf(&leaf, authority)?;
    }
    maker.service_account_key()?;
    for who in layout::kubeconfigs(names) {
        maker.kubeconfig(&who, &names.server)?;
    }
    Ok(maker.made)
}

struct Maker<'a> {
    pki: &'a Pki,
    care: &'a Care,
    now: SystemTime,
    made: Vec<Made>,
}

impl Maker<'_> {
    fn authority(&mut self, name: &str, common_name: &str) -> Result<Authority, Error> {
        let (certificate, key) = (self.pki.cert(name), self.pki.key(name));
        let why = match Authority::read(&certificate, &key, self.now + RENEW_BEFORE)? {
            Some(Ok(authority)) => return Ok(authority),
            Some(Err(unfit)) if self.care.keeps => {
                return Err(Error::authority(&self.pki.dir, name, unfit));
            }
            Some(Err(_)) => "it could not be used any more",
            None => MISSING,
        };
        let made = Authority::make(common_name, &certificate, &key, self.now)?;
        self.note(certificate, why);
        Ok(made)
    }

    fn leaf(&mut self, leaf: &Leaf, authority: &Authority) -> Result<(), Error> {
        let (path, key_path) = (self.pki.cert(&leaf.name), self.pki.key(&leaf.name));
        let (pem, key_pem) = (read(&path)?, read(&key_path)?);
        let Some(why) = self.fault(leaf, authority, pem.as_deref(), key_pem.as_deref()) else {
            return Ok(());
        };
        let failed = |cause| Error::Make {
            path: path.clone(),
            cause,
        };
        let mut sans = leaf.sans.clone();
        if self.care.keeps && !sans.is_empty() {
            sans.extend(other_names(pem.as_deref().unwrap_or_default(), &sans));
        }
        let key = keys::generate().map_err(failed)?;
        let params = params(leaf, sans).map_err(failed)?;
        let draft = authority::draft(&params, &key).map_err(failed)?;
        let made = authority
            .sign(&draft, &key, self.now, LEAF_VALIDITY)
            .map_err(failed)?;
        // The key first: a crash in between leaves a pair that does not match, which the next call sees and makes again.
        write_private(&key_path, &key.serialize_pem())?;
        write_public(&path, &made.pem())?;
        self.note(path, why);
        Ok(())
    }

    /// Why the certificate on disk is not what this leaf asks for, if it is not.
    fn fault(
        &self,
        leaf: &Leaf,
        authority: &Authority,
        pem: Option<&str>,
        key: Option<&str>,
    ) -> Option<&'static str> {
        let (Some(pem), Some(key)) = (pem, key) else {
            return Some(MISSING);
        };
        let all = Certificate::all(pem).unwrap_or_default();
        let Some(certificate) = all.first() else {
            return Some("it could not be read");
        };
        let own_key = match keys::parse(key) {
            Ok(key) => certificate.is_of(&key),
            // Of a kind that is not known here, but perhaps to the daemon that it was made for.
            Err(keys::Unreadable::Kind) => self.care.keeps,
            Err(keys::Unreadable::NoKey | keys::Unreadable::File) => false,
        };
        let has = |name: &&String| certificate.names.contains(name);
        let named = leaf.sans.iter().filter(has).count() == leaf.sans.len();
        let exactly = named && certificate.names.len() == leaf.sans.len();
        let known = certificate.common_names.contains(&leaf.common_name);
        if !own_key {
            Some("its key did not belong to it")
        } else if certificate.ends_before(self.now + self.care.renew_before) {
            Some("it ended, or was about to")
        } else if !authority.signed(certificate) {
            Some("another authority signed it")
        } else if !known && (leaf.is_identity() || !self.care.keeps) {
            Some("it was somebody else's")
        } else if !named {
            Some("it lacked a name")
        } else if !exactly && !self.care.keeps {
            Some("it was for other names")
        } else {
            None
        }
    }

    /// Tokens that are out depend on it: it is never made anew as long as it can be read.
    fn service_account_key(&mut self) -> Result<(), Error> {
        let (path, public) = (self.pki.key("sa"), self.pki.service_account_public_key());
        let has_public = read(&public)?.is_some();
        let found = read(&path)?.map(|pem| keys::parse(&pem));
        let key = match found {
            Some(_) if has_public && self.care.keeps => return Ok(()),
            Some(Ok(key)) => key,
            Some(Err(reason)) if self.care.keeps => {
                return Err(Error::Key { path, reason });
            }
            None if has_public && self.care.keeps => return Err(Error::NoTokenKey(path)),
            Some(Err(_)) | None => {
                let failed = |cause| Error::Make {
                    path: path.clone(),
                    cause,
                };
                let key = keys::generate().map_err(failed)?;
                write_private(&path, &key.serialize_pem())?;
                self.note(path, MISSING);
                key
            }
        };
        write_public(&public, &key.public_key_pem())
    }

    fn kubeconfig(&mut self, who: &str, server: &str) -> Result<(), Error> {
        let path = self.pki.kubeconfig(who);
        let before = read(&path)?;
        if let Some(text) = &before
            && self.care.keeps
            && self.is_good(text, &path)
        {
            return Ok(());
        }
        let need = |path: PathBuf| -> Result<String, Error> {
            Ok(fs::read_to_string(&path).map_err(cannot("read", &path))?)
        };
        let text = kubeconfig::render(&kubeconfig::Parts {
            server,
            user: who,
            authority: &need(self.pki.cert("ca"))?,
            certificate: &need(self.pki.cert(who))?,
            key: &need(self.pki.key(who))?,
        });
        write_private(&path, &text)?;
        match before {
            None => self.note(path, MISSING),
            Some(before) if before != text => self.note(path, "what it embedded had changed"),
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether a kubeconfig has a certificate that did not end, or says who somebody is in another way.
    fn is_good(&self, text: &str, path: &Path) -> bool {
        let dir = path.parent().unwrap_or(Path::new(""));
        let Ok(read) = Kubeconfig::read(text, dir) else {
            return false;
        };
        read.users.iter().all(|user| match &user.certificate {
            Some(Data::Embedded { pem, .. }) => Certificate::all(pem)
                .ok()
                .and_then(|all| all.first().map(|first| !first.ends_before(self.now)))
                .unwrap_or(false),
            Some(Data::File(_)) | None => true,
        })
    }

    fn note(&mut self, path: PathBuf, why: &'static str) {
        self.made.push(Made { path, why });
    }
}

/// Names that a certificate has beside these: somebody may know its server by them.
fn other_names(pem: &str, names: &[String]) -> Vec<String> {
    let all = Certificate::all(pem).unwrap_or_default();
    let has = all.into_iter().next().map(|first| first.names);
    has.unwrap_or_default()
        .into_iter()
        .filter(|name| !names.contains(name) && name.parse::<Host>().is_ok())
        .collect()
}

fn params(leaf: &Leaf, sans: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(sans)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, &leaf.common_name);
    if let Some(organization) = leaf.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = leaf.usages.to_vec();
    Ok(params)
}

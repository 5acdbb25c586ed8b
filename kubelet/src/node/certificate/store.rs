//! Pairs on disk: `<name>-<time>.pem` holds certificate and key, `<name>-current.pem` links to it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

use super::{Error, Names};
use crate::sys::file::{self, Durability};

/// The pairs of one kind, of which the newest counts.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    name: &'static str,
}

/// The pair in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Current {
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    pub names: Names,
}

impl Current {
    pub fn has_expired(&self) -> bool {
        component::clock::now().as_second() >= self.not_after
    }

    /// The first certificate of a PEM text.
    pub(super) fn of(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, cert) = x509_parser::parse_x509_certificate(&der).ok()?;
        let mut names = Names::default();
        let alternative = cert.subject_alternative_name().ok().flatten();
        for name in alternative.iter().flat_map(|n| &n.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.ips.extend(address(bytes)),
                _ => {}
            }
        }
        Some(Self {
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
            names,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl Store {
    /// Pairs in `dir` called `name`, such as `kubelet-client`.
    #[must_use]
    pub fn new(dir: &Path, name: &'static str) -> Self {
        Self {
            dir: dir.to_owned(),
            name,
        }
    }

    /// Where the pair in use is, certificate and key.
    #[must_use]
    pub fn current_path(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.name))
    }

    /// The pair in use, if there is one that can be read.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        let pem = fs::read(self.current_path()).ok()?;
        Current::of(&pem)
    }

    /// Puts a new pair in use; those before it stay.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn update(&self, cert: &str, key: &str) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| Error::File { path, cause }
        };
        fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        let civil = proto::time::print_time(component::clock::now().as_second());
        let time = civil.trim_end_matches('Z').replace(['T', ':'], "-");
        let path = self.dir.join(format!("{}-{time}.pem", self.name));
        let pair = format!("{}\n{}\n", cert.trim_end(), key.trim_end());
        file::write_atomic(&path, pair.as_bytes(), 0o600, Durability::Disk)
            .map_err(failed(&path))?;
        let link = self.dir.join(format!("{}-updated.pem", self.name));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&path, &link).map_err(failed(&link))?;
        let current = self.current_path();
        fs::rename(&link, &current).map_err(failed(&current))
    }
}

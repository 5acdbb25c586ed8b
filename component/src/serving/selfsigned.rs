//! Certificates for daemons that were given none: upstream's scheduler, controller manager and kubelet
//! make their own. Nobody trusts such a certificate; it only keeps health and metrics encrypted.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

use super::{Error, Identity};

/// A certificate and its key in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

/// How long it is valid; upstream's figure.
const VALIDITY_DAYS: i64 = 365;

/// A pair that is written nowhere, for so many days.
///
/// # Errors
/// If it cannot be made.
pub fn in_memory(hosts: &[String], days: i64) -> Result<Pair, Error> {
    make(hosts, days)
}

/// The pair `name.crt`, `name.key` of a directory, made if it is not there; in memory without one.
///
/// # Errors
/// If the pair cannot be made or written.
pub fn self_signed(dir: Option<&Path>, name: &str, hosts: &[String]) -> Result<Identity, Error> {
    let Some(dir) = dir else {
        return make(hosts, VALIDITY_DAYS).map(Identity::Memory);
    };
    let (cert, key) = (
        dir.join(format!("{name}.crt")),
        dir.join(format!("{name}.key")),
    );
    if !(cert.exists() && key.exists()) {
        let pair = make(hosts, VALIDITY_DAYS)?;
        fs::create_dir_all(dir).map_err(|cause| Error::Write {
            path: dir.to_owned(),
            cause,
        })?;
        write(&key, 0o600, &pair.key)?;
        write(&cert, 0o644, &pair.cert)?;
    }
    Ok(Identity::Files { cert, key })
}

fn make(hosts: &[String], days: i64) -> Result<Pair, Error> {
    let key = KeyPair::generate().map_err(Error::SelfSigned)?;
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(Error::SelfSigned)?;
    let now = SystemTime::now();
    let secs = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let mut subject = DistinguishedName::new();
    subject.push(
        DnType::CommonName,
        format!(
            "{}@{secs}",
            hosts.first().map_or("localhost", String::as_str)
        ),
    );
    params.distinguished_name = subject;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let day = |offset: i64| {
        let days = i64::try_from(secs / 86_400).unwrap_or(0) + offset;
        let date = proto::time::civil::Civil::of(days * 86_400);
        rcgen::date_time_ymd(
            i32::try_from(date.year).unwrap_or(1970),
            date.month,
            date.day,
        )
    };
    params.not_before = day(-1);
    params.not_after = day(days);
    let cert = params.self_signed(&key).map_err(Error::SelfSigned)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let mut open = fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(mode);
    let written = open
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|cause| Error::Write {
        path: path.to_owned(),
        cause,
    })
}

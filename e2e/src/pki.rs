//! Certificates, keys and kubeconfigs of one cluster, laid out and named as kubeadm does.
//!
//! Owns `DIR/pki` and `DIR/kubeconfigs`. Three authorities that do not trust each other: `ca` for clients and servers of
//! the API, `etcd/ca` for etcd, `front-proxy-ca` for the identity headers of the aggregation layer.
//!
//! [`Pki::ensure`] is for clusters of `hack/up` and may be called at any time: what is valid stays byte for byte, what is
//! missing, near its end, signed by another authority or wanted with other names is made again. `hack/pki` is the same for
//! operators: [`create()`] makes what is missing and never replaces an authority, [`renew`] renews whatever there is by
//! copying what it says, [`inspect`] tells what there is and what is wrong with it.
//!
//! Every certificate, new or renewed, is written by `Certificate::again`. New keys are ECDSA P-256; keys are readable by
//! their owner alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

mod authority;
mod certificate;
mod create;
mod dates;
mod der;
mod files;
pub mod inspect;
mod keys;
mod kubeconfig;
mod layout;
pub mod renew;
mod survey;

pub use authority::Unfit;
pub use create::{Made, create};
pub use keys::Unreadable;
pub use kubeconfig::Unusable;
pub use layout::{Host, Names, NoHost};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_VALIDITY: Duration = DAY.saturating_mul(3650);
const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);
/// A certificate that ends sooner than this has to be renewed.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] crate::files::Error),
    #[error("cannot make the certificate {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        cause: rcgen::Error,
    },
    #[error("the authority {name} cannot be used: {unfit}{advice}")]
    Authority {
        name: String,
        unfit: Unfit,
        advice: String,
    },
    #[error("{}: {reason}", path.display())]
    Key { path: PathBuf, reason: Unreadable },
    #[error(
        "{} is missing though its public half is there; put it back, or remove that if no token needs it any more",
        .0.display()
    )]
    NoTokenKey(PathBuf),
    #[error("{}: {reason}", path.display())]
    Kubeconfig { path: PathBuf, reason: Unusable },
    #[error("there is nothing with the name {name}; there are {}", known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("there is no certificate in {}", .0.display())]
    Nothing(PathBuf),
    #[error("{name} is an authority: hack/pki renew {} --authority {name} renews it", dir.display())]
    IsAuthority { name: String, dir: PathBuf },
    #[error("{name} is signed by {issuer}, which has to renew it")]
    NotItsOwn { name: String, issuer: String },
    #[error(
        "{} still need the old certificates of {name}: renew them first",
        needy.join(", ")
    )]
    StillNeeded { name: String, needy: Vec<String> },
}

impl Error {
    /// Whether what was asked for makes no sense, rather than something being wrong with the files.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::IsAuthority { .. })
    }

    fn authority(dir: &Path, name: &str, unfit: Unfit) -> Self {
        let renew = format!("hack/pki renew {} --authority {name}", dir.display());
        let advice = match &unfit {
            Unfit::Ends(_) => format!(": {renew} renews it"),
            other if other.can_be_rolled() => {
                format!("; if it is lost, {renew} --new-key makes another beside it")
            }
            _ => String::new(),
        };
        Self::Authority {
            name: name.to_owned(),
            unfit,
            advice,
        }
    }
}

/// What was made, by path.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Makes or renews whatever `names` needs below `dir`.
    ///
    /// # Errors
    /// Files cannot be read or written.
    pub fn ensure(dir: &Path, names: &Names, now: SystemTime) -> Result<Self, Error> {
        let pki = Self::at(dir);
        create::make(&pki, names, &create::LOCAL, now)?;
        Ok(pki)
    }

    pub fn cert(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{name}.crt"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{name}.key"))
    }

    /// The public half of the key that signs service account tokens.
    pub fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("pki/sa.pub")
    }

    /// The kubeconfig of a daemon, node or person: `admin`, `scheduler`, `controller-manager`, `kube-proxy`, a node's name.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        match who {
            "admin" => self.dir.join("admin.kubeconfig"),
            who => self
                .dir
                .join("kubeconfigs")
                .join(format!("{who}.kubeconfig")),
        }
    }
}

#[cfg(test)]
mod tests;

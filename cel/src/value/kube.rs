//! Values of the types that Kubernetes adds (`apiserver/pkg/cel`).

mod network;
mod semver;
mod url;

use std::fmt;
use std::net::IpAddr;

use proto::quantity::Quantity;

pub(crate) use network::{Cidr, parse_ip};
pub(crate) use semver::Semver;
pub(crate) use url::Url;

use crate::types::Type;

/// A value of one of Kubernetes' types.
#[derive(Clone, Debug)]
pub enum Opaque<'a> {
    /// With whether upstream keeps it as a decimal of any length, which it never takes for an integer.
    Quantity(Quantity, bool),
    Ip(IpAddr),
    Cidr(Cidr),
    Url(Url),
    Semver(Semver),
    Format(&'static NamedFormat),
    Authorizer(Asked<'a>),
    PathCheck(Checked<'a>),
    GroupCheck(Checked<'a>),
    ResourceCheck(Checked<'a>),
    Decision(Decision),
}

pub(crate) const IP: &str = "net.IP";
pub(crate) const CIDR: &str = "net.CIDR";
pub(crate) const QUANTITY: &str = "kubernetes.Quantity";
pub(crate) const URL: &str = "kubernetes.URL";
pub(crate) const SEMVER: &str = "kubernetes.Semver";
pub(crate) const FORMAT: &str = "kubernetes.NamedFormat";
pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

impl Opaque<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(..) => QUANTITY,
            Self::Ip(_) => IP,
            Self::Cidr(_) => CIDR,
            Self::Url(_) => URL,
            Self::Semver(_) => SEMVER,
            Self::Format(_) => FORMAT,
            Self::Authorizer(_) => AUTHORIZER,
            Self::PathCheck(_) => PATH_CHECK,
            Self::GroupCheck(_) => GROUP_CHECK,
            Self::ResourceCheck(_) => RESOURCE_CHECK,
            Self::Decision(_) => DECISION,
        }
    }

    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Ip(_) | Self::Cidr(_) => Type::opaque(self.type_name()),
            _ => Type::object(self.type_name()),
        }
    }

    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Self::Ip(IpAddr::V4(_)) => Some(4),
            Self::Ip(IpAddr::V6(_)) => Some(16),
            Self::Cidr(cidr) => Some(usize::from(cidr.bits().div_ceil(8))),
            _ => None,
        }
    }
}

/// A format of strings, by name.
pub struct NamedFormat {
    /// As it is written behind `format.`.
    pub(crate) function: &'static str,
    pub(crate) name: &'static str,
    /// What is wrong with a string.
    pub(crate) validate: fn(&str) -> Vec<String>,
    /// What a check counts as, in characters of a regular expression.
    pub(crate) regex_size: u32,
}

impl fmt::Debug for NamedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Who decides what a user may; the caller of an evaluation brings it, with the user.
pub trait Authorizer: Send + Sync {
    /// The answer to a question, if it is known. Without an answer evaluation ends with
    /// [`crate::Error::Undecided`]: whoever has to wait for an answer gets it then, remembers it, and
    /// evaluates again.
    fn authorize(&self, check: &Check) -> Option<Decision>;
}

impl fmt::Debug for dyn Authorizer + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authorizer")
    }
}

/// A question to an [`Authorizer`]. With a path it is about no resource.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Check {
    /// Namespace and name of the service account to ask for instead of the user.
    pub service_account: Option<(Box<str>, Box<str>)>,
    pub path: Option<Box<str>>,
    pub group: Box<str>,
    pub resource: Box<str>,
    pub subresource: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub field_selector: Box<str>,
    pub label_selector: Box<str>,
    pub verb: Box<str>,
}

/// The answer to a [`Check`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Decision {
    pub allowed: bool,
    pub reason: Box<str>,
    pub error: Option<Box<str>>,
}

/// An authorizer, and for whom it is asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub(crate) authorizer: &'a dyn Authorizer,
    pub(crate) service_account: Option<(Box<str>, Box<str>)>,
}

/// A question that is being put together, and who answers it.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    pub(crate) authorizer: &'a dyn Authorizer,
    pub(crate) check: Check,
}

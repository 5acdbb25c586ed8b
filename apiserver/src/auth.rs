//! Authentication: who is asking.
//!
//! Authenticators are tried in upstream's order; the first that recognises a credential decides. A
//! credential that is recognised but wrong ends the request with 401; a request without any credential
//! is anonymous, if that is allowed for its path.

use std::collections::BTreeMap;

pub mod anonymous;
pub mod chain;
pub mod request_header;
pub mod service_account;
pub mod x509;

pub use chain::Authenticators;

/// Every authenticated user is in it.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Every anonymous one is in it.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Its members pass every authorizer.
pub const MASTERS: &str = "system:masters";
/// The API server itself, for what it does on its own account.
pub const LOOPBACK: &str = "system:apiserver";

/// A user as authorizers, admission and audit see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The API server itself.
    #[must_use]
    pub fn loopback() -> Self {
        Self { name: LOOPBACK.into(), groups: vec![MASTERS.into(), AUTHENTICATED.into()], ..Self::default() }
    }

    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

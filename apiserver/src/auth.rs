//! Authentication: who is asking.
//!
//! Authenticators are tried in upstream's order; the first that recognises a credential decides. A
//! credential that is recognised but wrong ends the request with 401; a request without any credential
//! is anonymous, if that is allowed for its path.

pub mod anonymous;
pub mod bootstrap_token;
pub mod chain;
pub mod ec;
pub mod impersonate;
pub mod jwt;
pub mod metrics;
pub mod openid;
pub mod service_account;
pub mod token;
pub mod x509;

pub use chain::Authenticators;

pub use component::serving::User;

/// The API server itself, for what it does on its own account.
pub const LOOPBACK: &str = "system:apiserver";

/// The API server as a user.
#[must_use]
pub fn loopback() -> User {
    User {
        name: LOOPBACK.into(),
        groups: vec![User::MASTERS.into(), User::AUTHENTICATED.into()],
        ..User::default()
    }
}

/// Whether somebody did not say who he is.
#[must_use]
pub fn is_nobody(user: &User) -> bool {
    user.is_anonymous() || user.is_in(User::UNAUTHENTICATED)
}

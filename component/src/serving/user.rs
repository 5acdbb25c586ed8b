//! Who a request comes from.

use std::collections::BTreeMap;

/// An authenticated user, as `k8s.io/apiserver/pkg/authentication/user.Info`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// Keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The name of somebody who did not say who he is.
    pub const ANONYMOUS: &'static str = "system:anonymous";
    /// The group of such users.
    pub const UNAUTHENTICATED: &'static str = "system:unauthenticated";
    /// The group of all others.
    pub const AUTHENTICATED: &'static str = "system:authenticated";
    /// The group that may do everything.
    pub const MASTERS: &'static str = "system:masters";

    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: Self::ANONYMOUS.to_owned(),
            groups: vec![Self::UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == Self::ANONYMOUS
    }

    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// With the group that everybody is in who said who he is.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_anonymous()
            && !self.is_in(Self::AUTHENTICATED)
            && !self.is_in(Self::UNAUTHENTICATED)
        {
            self.groups.push(Self::AUTHENTICATED.to_owned());
        }
        self
    }
}

//! Requests without credentials: `system:anonymous`, if that is allowed (KEP-4633: by path).

use component::serving::User;

use super::jwt::config;

/// Whether and for which paths anonymous requests are served.
#[derive(Clone, Debug)]
pub struct Anonymous(config::Anonymous);

impl Anonymous {
    #[must_use]
    pub fn new(of: config::Anonymous) -> Self {
        Self(of)
    }

    /// The anonymous user, or none where nobody may be anonymous. Paths are compared as a whole.
    #[must_use]
    pub fn user(&self, path: &str) -> Option<User> {
        let paths = &self.0.paths;
        let allowed = self.0.enabled && (paths.is_empty() || paths.iter().any(|p| p == path));
        allowed.then(User::anonymous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_anonymous_elsewhere_than_on_the_paths_named() {
        let of = |enabled, paths: &[&str]| {
            let paths = paths.iter().map(|p| (*p).to_owned()).collect();
            Anonymous::new(config::Anonymous { enabled, paths })
        };
        assert!(of(true, &[]).user("/api").is_some());
        assert!(of(false, &[]).user("/api").is_none());
        let health = of(true, &["/livez", "/readyz"]);
        assert!(health.user("/readyz").is_some());
        for other in ["/api", "/readyz/", "/readyz/etcd", "/READYZ", ""] {
            assert!(health.user(other).is_none(), "{other}");
        }
    }
}

//! Requests without credentials: `system:anonymous`, if that is allowed.

use component::serving::User;

/// Whether and for which paths anonymous requests are served.
#[derive(Clone, Debug)]
pub struct Anonymous {
    on: bool,
}

impl Anonymous {
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// The anonymous user, or none where nobody may be anonymous.
    #[must_use]
    pub fn user(&self, _path: &str) -> Option<User> {
        self.on.then(User::anonymous)
    }
}

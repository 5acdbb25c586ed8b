//! Bootstrap roles.

use crate::bootstrap::Hook;

pub const HOOK: Hook = Hook { name: "rbac/bootstrap-roles", once: |_| Box::pin(async { Ok(()) }), keep: None };

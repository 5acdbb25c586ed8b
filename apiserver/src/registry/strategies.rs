//! The strategies of all resources, by group and name.

use proto::catalogue::Resource;

use super::strategy::Strategy;

/// Resources without a strategy of their own: what their subresources say.
static PLAIN: Strategy = Strategy::DEFAULT;
static WITH_STATUS: Strategy = Strategy::WITH_STATUS;

/// The strategy of a resource.
#[must_use]
pub fn of(resource: &Resource) -> &'static Strategy {
    if resource.subresource("status").is_some() { &WITH_STATUS } else { &PLAIN }
}

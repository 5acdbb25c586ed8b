//! Why an expression has no value.

use crate::value::Check;

/// Why evaluation gave no value.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum Error {
    /// In the words of cel-go or Kubernetes. `||` and `&&` absorb it.
    #[error("{0}")]
    Failed(Box<str>),
    /// The cost went beyond its limit.
    #[error("operation cancelled: actual cost limit exceeded")]
    OverBudget,
    /// An [`crate::Authorizer`] has no answer yet: get it, and evaluate again.
    #[error("authorization of {} is not decided yet", .0.verb)]
    Undecided(Box<Check>),
}

impl Error {
    pub(crate) fn new(message: impl Into<Box<str>>) -> Self {
        Self::Failed(message.into())
    }

    /// A function got what it does not take.
    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    /// Whether `||` and `&&` may go on without it.
    pub(crate) fn is_absorbed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

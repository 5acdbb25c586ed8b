//! Why a reconciliation failed. All controllers have the same few reasons, so there is one type for them.

use component::client::{self, ConfigError};
use component::supervisor::chain;

/// A failed reconciliation; the runner logs it and tries again.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("no token for {account}")]
    Token {
        account: String,
        #[source]
        cause: client::Error,
    },
    #[error("no client for {account}")]
    Config {
        account: String,
        #[source]
        cause: ConfigError,
    },
    #[error("{failed} of {all} changes failed, the first")]
    Some {
        failed: usize,
        all: usize,
        #[source]
        cause: Box<Error>,
    },
    /// What an object says cannot be acted on.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// The request's error, if it was a request that failed.
    #[must_use]
    pub fn client(&self) -> Option<&client::Error> {
        match self {
            Self::Client(e) | Self::Token { cause: e, .. } => Some(e),
            Self::Some { cause, .. } => cause.client(),
            Self::Config { .. } | Self::Unusable(_) => None,
        }
    }

    /// The server did not accept the credentials.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.client().is_some_and(client::Error::is_unauthorized)
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.client().is_some_and(client::Error::is_not_found)
    }

    /// The object changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.client().is_some_and(client::Error::is_conflict)
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }

    /// One error for several changes, of which some may have failed; none if all went well.
    ///
    /// # Errors
    /// If one or more failed.
    pub fn all<T>(results: impl IntoIterator<Item = Result<T, Self>>) -> Result<Vec<T>, Self> {
        let mut done = Vec::new();
        let mut first = None;
        let mut failed = 0;
        for result in results {
            match result {
                Ok(value) => done.push(value),
                Err(e) => {
                    failed += 1;
                    first.get_or_insert(e);
                }
            }
        }
        match first {
            None => Ok(done),
            Some(cause) if failed == 1 && done.is_empty() => Err(cause),
            Some(cause) => Err(Self::Some {
                failed,
                all: failed + done.len(),
                cause: Box::new(cause),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_are_one_error_that_counts_them() {
        let bad = || Err::<u8, _>(Error::Unusable("no".to_owned()));
        assert_eq!(Error::all([Ok(1), Ok(2)]).unwrap(), [1, 2]);
        assert_eq!(Error::all([bad()]).unwrap_err().chain(), "no");
        let two = Error::all([Ok(1), bad(), bad()]).unwrap_err();
        assert_eq!(two.chain(), "2 of 3 changes failed, the first: no");
    }
}

//! What can go wrong with etcd, as far as callers act on it.

use tonic::{Code, Status};

/// A failed request to etcd.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// Unusable URLs or certificate files.
    #[error("etcd configuration: {0}")]
    Config(String),
    /// No connection, no leader, or an answer that did not come in time. A write may have happened.
    #[error("etcd is unavailable: {0}")]
    Unavailable(String),
    /// The revision is older than the last compaction.
    #[error("the required revision has been compacted")]
    Compacted,
    /// The revision has not happened yet.
    #[error("the required revision is in the future")]
    FutureRevision,
    /// The database has reached its quota: etcd refuses writes until an operator makes room.
    #[error("etcd's database space is exceeded")]
    NoSpace,
    /// The value exceeds `--max-request-bytes` of etcd.
    #[error("the request is too large for etcd")]
    TooLarge,
    /// etcd sheds load.
    #[error("etcd has too many requests")]
    TooManyRequests,
    /// The lease ended before the key was attached to it.
    #[error("the lease does not exist any more")]
    LeaseNotFound,
    /// The client certificate's user may not do this.
    #[error("etcd denies permission")]
    PermissionDenied,
    /// This etcd does not know the method.
    #[error("etcd does not implement the method")]
    Unimplemented,
    /// The answer came from another cluster than those before.
    #[error("the etcd cluster is not the one that was used before")]
    OtherCluster,
    /// The answer breaks etcd's protocol.
    #[error("etcd's answer is not valid: {0}")]
    Protocol(&'static str),
    /// Anything else etcd says.
    #[error("etcd: {0}")]
    Refused(String),
}

impl Error {
    /// Another member, or the same one later, may answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // The texts are etcd's own, constant since 3.0; codes alone do not tell these cases apart.
        let text = status.message();
        match status.code() {
            Code::OutOfRange if text.contains("has been compacted") => Self::Compacted,
            Code::OutOfRange if text.contains("future revision") => Self::FutureRevision,
            Code::ResourceExhausted if text.contains("database space exceeded") => Self::NoSpace,
            Code::ResourceExhausted if text.contains("too many requests") => Self::TooManyRequests,
            Code::InvalidArgument if text.contains("request is too large") => Self::TooLarge,
            // Half a megabyte more, and gRPC does not even take it in.
            Code::ResourceExhausted if text.contains("message larger than max") => Self::TooLarge,
            Code::NotFound if text.contains("lease not found") => Self::LeaseNotFound,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::Unimplemented => Self::Unimplemented,
            // A connection that breaks under a request surfaces as Unknown or Cancelled.
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
                Self::Unavailable(text_of(&status))
            }
            _ => Self::Refused(text_of(&status)),
        }
    }
}

/// What went wrong, with the causes that the transport keeps below its own general words.
fn text_of(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

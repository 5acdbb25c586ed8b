//! Plugins: programs beside this server that it asks over gRPC on a Unix socket.
//!
//! A call waits for a connection as it waits for its answer, within one time (gRPC calls that "wait for
//! ready"): a plugin that starts later than the server, or again, fails nobody who has the time.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

pub mod pb;
pub mod testing;

/// Pauses between two tries to connect: they double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Why a plugin did not do what it was asked for; in the words of gRPC's own client for Go.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("rpc error: code = {} desc = {message}", code_name(*.code))]
pub(crate) struct Failed {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// A connection to the plugin behind a socket, made when it is first used and again when it breaks. A
/// name that begins with `@` is of Linux's abstract namespace.
pub(crate) fn connect(socket: &str) -> Channel {
    let path = match socket.strip_prefix('@') {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => PathBuf::from(socket),
    };
    // The address is not looked at; it is what the plugin is told as its own name.
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::convert::Infallible>(TokioIo::new(dial(&path).await)) }
    }))
}

/// Tries until it succeeds; whoever waits for it gives up when his time is over.
async fn dial(path: &std::path::Path) -> UnixStream {
    let mut pause = FIRST_PAUSE;
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return stream,
            Err(error) => tracing::debug!(socket = ?path, %error, "A plugin cannot be reached"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What a call is answered, if that comes in time.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Failed {
            code: Code::DeadlineExceeded,
            message: "context deadline exceeded".to_owned(),
        }),
    }
}

/// Upstream's word in metrics for a failure that no plugin told of.
pub(crate) const NOT_GRPC: &str = "unknown-non-grpc";

/// What metrics call the outcome of a call.
pub(crate) fn outcome<T>(answer: &Result<T, Failed>) -> &'static str {
    answer
        .as_ref()
        .map_or_else(|e| code_name(e.code), |_| code_name(Code::Ok))
}

/// The name of a code in gRPC for Go.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// Where the socket of a URL is, such as `unix:///var/run/kms.sock` or `unix:///@abstract`.
///
/// # Errors
/// If the URL is of something else.
pub(crate) fn socket_of(endpoint: &str) -> Result<String, UnknownScheme> {
    let (scheme, rest) = endpoint.split_once(':').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("unix") {
        return Err(UnknownScheme(scheme.to_ascii_lowercase()));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        // What stands before the path is a host, which nobody asks for.
        Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
        None if rest.starts_with('/') => rest,
        None => "",
    };
    let path = component::client::path_decode(path);
    Ok(match path.strip_prefix('/') {
        Some(name) if name.starts_with('@') => name.to_owned(),
        _ => path,
    })
}

/// A URL that is not of a Unix socket.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
#[error("unsupported scheme {0:?} for KMS provider, only unix is supported")]
pub(crate) struct UnknownScheme(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_socket() {
        let socket = |url| socket_of(url).unwrap();
        assert_eq!(socket("unix:///var/run/kms.sock"), "/var/run/kms.sock");
        assert_eq!(socket("unix:/var/run/kms.sock"), "/var/run/kms.sock");
        assert_eq!(socket("unix://host/kms.sock?a=b"), "/kms.sock");
        assert_eq!(socket("unix:///a%20b+c"), "/a b+c");
        assert_eq!(socket("unix:///@kms"), "@kms");
        assert_eq!(socket("unix:kms"), "");
        for (url, scheme) in [("http://a/b", "http"), ("/var/run/kms.sock", "")] {
            assert_eq!(socket_of(url), Err(UnknownScheme(scheme.to_owned())));
        }
    }

    #[tokio::test]
    async fn a_call_waits_for_the_plugin_as_long_as_for_its_answer() {
        use super::pb::kms::StatusRequest;
        use super::pb::kms::key_management_service_client::KeyManagementServiceClient;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("none").display().to_string();
        let mut client = KeyManagementServiceClient::new(connect(&socket));
        let limit = Duration::from_millis(100);
        let answer = within(limit, client.status(StatusRequest {})).await;
        assert_eq!(outcome(&answer), "DeadlineExceeded");
        let said = answer.unwrap_err().to_string();
        assert_eq!(
            said,
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
    }
}

//! How a command ended: what the kubelet says of it on its error stream, and what the client is told. Pure.
//!
//! Upstream: `client-go/tools/remotecommand/{v2,v4,errorstream}.go`, `apiserver/pkg/util/proxy/streamtranslator.go`.

use component::streaming::remote::{V1, V2, V3, V4, V5};
use http::StatusCode;
use proto::path::quote;
use serde_json::{Value, json};

/// How a kubelet says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// A `Status`, always.
    Status,
    /// A failure in words, nothing else.
    Words,
    /// The same, by one that does not know of sizes of terminals.
    FirstWords,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Well,
    /// By itself, with a code that is not 0.
    Code(u8),
    /// It is not known to have run.
    Failed(String),
}

impl Format {
    /// That of a protocol, if it is one that this server asks for. None named is the first there was.
    pub(super) fn of(protocol: &str) -> Option<Self> {
        match protocol {
            V5 | V4 => Some(Self::Status),
            V3 => Some(Self::Words),
            V2 | V1 | "" => Some(Self::FirstWords),
            _ => None,
        }
    }

    /// Whether sizes of a terminal have a stream.
    pub(super) fn resizes(self) -> bool {
        self != Self::FirstWords
    }

    /// What a whole error stream means.
    pub(super) fn read(self, message: &[u8]) -> Ended {
        match (self, message) {
            // Upstream takes that for success, and so a command for done whose kubelet was lost.
            (Self::Status, []) => Ended::Failed(
                "error reading from error stream: it ended before it said how the command ended"
                    .to_owned(),
            ),
            (Self::Status, status) => of_status(status).unwrap_or_else(Ended::Failed),
            (_, []) => Ended::Well,
            (_, words) => {
                let words = String::from_utf8_lossy(words);
                Ended::Failed(format!("error executing remote command: {words}"))
            }
        }
    }
}

/// What a `Status` says; the failure, if that is not clear.
fn of_status(message: &[u8]) -> Result<Ended, String> {
    let wrong = |why: String| format!("error stream protocol error: {why}");
    let status: Value = serde_json::from_slice(message).map_err(|e| {
        let text = quote(&String::from_utf8_lossy(message));
        wrong(format!("{e} in {text}"))
    })?;
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    match status["status"].as_str() {
        Some("Success") => return Ok(Ended::Well),
        Some("Failure") => {}
        _ => return Err(wrong("unknown error".to_owned())),
    }
    if status["reason"] != "NonZeroExitCode" {
        return Err(text(&status, "message"));
    }
    let details = &status["details"];
    if !details.is_object() {
        return Err(wrong("details must be set".to_owned()));
    }
    let causes = details["causes"].as_array();
    let mut causes = causes.into_iter().flatten();
    let cause = causes.find(|cause| cause["reason"] == "ExitCode");
    let cause = cause.ok_or_else(|| wrong("no ExitCode cause given".to_owned()))?;
    let said = text(cause, "message");
    let code = said.parse();
    code.map(Ended::Code)
        .map_err(|_| wrong(format!("invalid exit code value {}", quote(&said))))
}

impl Ended {
    /// What is counted: a command that fails is none of this server's failures.
    pub(super) fn code(&self) -> StatusCode {
        match self {
            Self::Well | Self::Code(_) => StatusCode::OK,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What goes to the client's error channel.
    pub(super) fn status(&self) -> Vec<u8> {
        let status = match self {
            Self::Well => json!({"metadata": {}, "status": "Success"}),
            Self::Code(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!(
                    "command terminated with non-zero exit code: command terminated with exit code {code}"
                ),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {why}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            }),
        };
        status.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: &Value) -> Ended {
        Format::Status.read(status.to_string().as_bytes())
    }

    fn failed(why: &str) -> Ended {
        Ended::Failed(why.to_owned())
    }

    #[test]
    fn exit_codes_come_out_as_they_went_in() {
        let exit = |code: &str| {
            json!({
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "Other", "message": "x"}, {"reason": "ExitCode", "message": code}]},
            })
        };
        assert_eq!(read(&exit("3")), Ended::Code(3));
        let invalid = "error stream protocol error: invalid exit code value \"256\"";
        assert_eq!(read(&exit("256")), failed(invalid));
        let again = Format::Status.read(&Ended::Code(3).status());
        assert_eq!(again, Ended::Code(3));
        assert_eq!(Format::Status.read(&Ended::Well.status()), Ended::Well);
        assert_eq!(Ended::Code(3).code(), 200);
    }

    #[test]
    fn what_is_no_answer_is_a_failure_and_never_a_success() {
        for (status, why) in [
            (json!({}), "error stream protocol error: unknown error"),
            (
                json!({"status": "Failure", "reason": "NonZeroExitCode"}),
                "error stream protocol error: details must be set",
            ),
            (
                json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {}}),
                "error stream protocol error: no ExitCode cause given",
            ),
            (
                json!({"status": "Failure", "reason": "Other", "message": "as it says"}),
                "as it says",
            ),
        ] {
            assert_eq!(read(&status), failed(why));
        }
        for garbage in ["", "{", "[]", "\u{1}"] {
            let ended = Format::Status.read(garbage.as_bytes());
            assert!(matches!(ended, Ended::Failed(_)), "{garbage}");
            assert_eq!(ended.code(), 500);
        }
    }

    #[test]
    fn old_protocols_say_failures_in_words_and_nothing_else() {
        let old = Format::of("v3.channel.k8s.io").unwrap();
        let first = Format::of("").unwrap();
        assert!(old.resizes() && !first.resizes());
        assert_eq!((old.read(b""), first.read(b"")), (Ended::Well, Ended::Well));
        let why = "error executing remote command: it broke";
        assert_eq!(old.read(b"it broke"), failed(why));
        assert_eq!(Format::of("v5.channel.k8s.io"), Some(Format::Status));
        assert_eq!(Format::of("v9.channel.k8s.io"), None);
    }

    #[test]
    fn a_failure_is_told_as_the_server_tells_its_own() {
        let status: Value = serde_json::from_slice(&failed("no way").status()).unwrap();
        assert_eq!(
            status,
            json!({
                "metadata": {},
                "status": "Failure",
                "message": "Internal error occurred: no way",
                "reason": "InternalError",
                "details": {"causes": [{"message": "no way"}]},
                "code": 500,
            })
        );
    }
}

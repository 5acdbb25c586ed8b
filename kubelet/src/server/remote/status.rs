//! How a command ended, as its error stream says it.

use serde_json::{Value, json};

/// How a protocol says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// A failure in words, nothing else.
    Text,
    /// A `Status`, always.
    Json,
}

impl Format {
    pub(super) fn of(protocol: &str) -> Self {
        if protocol.starts_with("v4.") || protocol.starts_with("v5.") {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// What is written to the error stream.
    pub(super) fn say(self, ended: &Ended) -> Vec<u8> {
        match (self, ended) {
            (Self::Json, ended) => ended.status().to_string().into_bytes(),
            (Self::Text, Ended::Well) => Vec::new(),
            (Self::Text, ended) => ended.message().into_bytes(),
        }
    }
}

/// How a command, or an attachment, ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Well,
    /// The command ended by itself, with another code than 0.
    Code {
        code: i32,
        command: Vec<String>,
    },
    /// It could not be run.
    Failed(String),
}

impl Ended {
    fn message(&self) -> String {
        match self {
            Self::Well => String::new(),
            Self::Code { code, command } => format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            Self::Failed(reason) => format!("Internal error occurred: {reason}"),
        }
    }

    fn status(&self) -> Value {
        match self {
            Self::Well => json!({"metadata": {}, "status": "Success"}),
            Self::Code { code, .. } => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(_) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "InternalError",
                "code": 500,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_where_clients_look_for_them() {
        let ended = Ended::Code {
            code: 3,
            command: vec!["sh".into(), "-c".into(), "exit 3".into()],
        };
        let said: Value = serde_json::from_slice(&Format::Json.say(&ended)).unwrap();
        assert_eq!(said["reason"], "NonZeroExitCode");
        assert_eq!(
            said["details"]["causes"],
            json!([{"reason": "ExitCode", "message": "3"}])
        );
        assert!(Format::Text.say(&Ended::Well).is_empty());
        let said: Value = serde_json::from_slice(&Format::Json.say(&Ended::Well)).unwrap();
        assert_eq!(said["status"], "Success");
    }
}

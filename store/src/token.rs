//! Continue tokens, byte for byte upstream's (`storage/continue.go`), so that a list begun at one API
//! server goes on at another.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the list; `None`: the newest, since the list's own was compacted.
    pub(crate) revision: Option<i64>,
    /// The first key of the rest, below the prefix of the list.
    pub(crate) start: String,
}

/// A continue token that is not one.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    #[error(
        "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
    )]
    Revision,
    #[error("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")]
    EmptyStart,
    #[error("continue key is not valid: {0}")]
    Key(String),
    #[error("continue key is not valid: server does not recognize this encoded version {0}")]
    Version(String),
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

/// As Go says where a text is none in base64: at its first foreign letter, or at a last one that is too many.
fn not_base64(text: &str) -> String {
    let foreign = |byte: u8| !byte.is_ascii_alphanumeric() && !b"-_".contains(&byte);
    let at = text.bytes().position(foreign);
    let at = at.unwrap_or(text.len().saturating_sub(1));
    format!("illegal base64 data at input byte {at}")
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        let encoded = Encoded {
            v: VERSION.into(),
            rv: self.revision.unwrap_or(-1),
            start: self.start.clone(),
        };
        // Go escapes these in JSON strings; keys have none of them, but foreign ones may.
        let json = serde_json::to_string(&encoded).expect("strings and numbers are valid JSON");
        URL_SAFE_NO_PAD.encode(json)
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Invalid> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| Invalid::Key(not_base64(text)))?;
        let Encoded { v, rv, start } =
            serde_json::from_slice(&bytes).map_err(|e| Invalid::Key(e.to_string()))?;
        if v != VERSION {
            return Err(Invalid::Version(v));
        }
        if rv == 0 {
            return Err(Invalid::Revision);
        }
        if start.is_empty() {
            return Err(Invalid::EmptyStart);
        }
        let below = start.strip_prefix('/').unwrap_or(&start);
        if !is_clean(below) {
            return Err(Invalid::Key(start));
        }
        Ok(Self {
            revision: (rv > 0).then_some(rv),
            start: below.to_owned(),
        })
    }
}

/// A relative path that names nothing above or beside itself.
fn is_clean(path: &str) -> bool {
    path.split('/')
        .all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_upstreams() {
        let token = Token {
            revision: Some(1234),
            start: "default/web-3\0".into(),
        };
        let text = token.encode();
        assert_eq!(
            URL_SAFE_NO_PAD.decode(&text).unwrap(),
            br#"{"v":"meta.k8s.io/v1","rv":1234,"start":"default/web-3\u0000"}"#
        );
        assert_eq!(Token::decode(&text), Ok(token));
        let newest = Token {
            revision: None,
            start: "a".into(),
        };
        assert_eq!(Token::decode(&newest.encode()), Ok(newest));
    }

    #[test]
    fn a_token_cannot_leave_its_list() {
        let token = |json: &str| Token::decode(&URL_SAFE_NO_PAD.encode(json));
        for start in ["../secrets/a", "a/../../b", "a//b", "./a", "a/"] {
            let json = format!(r#"{{"v":"meta.k8s.io/v1","rv":5,"start":"{start}"}}"#);
            assert_eq!(token(&json), Err(Invalid::Key(start.into())), "{start}");
        }
        assert_eq!(
            token(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            Err(Invalid::Revision)
        );
        assert_eq!(
            token(r#"{"v":"meta.k8s.io/v1","rv":5,"start":""}"#),
            Err(Invalid::EmptyStart)
        );
        assert_eq!(
            token(r#"{"v":"v2","rv":5,"start":"a"}"#),
            Err(Invalid::Version("v2".into()))
        );
        assert!(matches!(token("no"), Err(Invalid::Key(_))));
        assert!(matches!(Token::decode("%"), Err(Invalid::Key(_))));
    }
}

//! What the flags say of the cluster's own tokens.
//!
//! Either a key is in a file or a plugin has it. Upstream: `pkg/controlplane/apiserver/options`
//! (`options.go`, `validation.go`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use component::args::{self, Args, Flag};

use crate::auth::service_account::PROJECTED_SECONDS;

flags! {
    SERVICE_ACCOUNT_ISSUER: args::Array = "service-account-issuer", "", "The issuer of tokens; further ones are accepted as well.";
    SERVICE_ACCOUNT_KEY_FILE: args::Array = "service-account-key-file", "", "Public keys that verify tokens, in PEM.";
    SERVICE_ACCOUNT_SIGNING_KEY_FILE: Option<PathBuf> = "service-account-signing-key-file", "", "The private key that signs tokens.";
    SERVICE_ACCOUNT_SIGNING_ENDPOINT: String = "service-account-signing-endpoint", "", "The Unix socket of a plugin that signs tokens and has the keys that verify them, instead of files; @name: an abstract one.";
    SERVICE_ACCOUNT_LOOKUP: bool = "service-account-lookup", "true", "Check that the account and what the token is bound to still exist.";
    SERVICE_ACCOUNT_MAX_EXPIRATION: Duration = "service-account-max-token-expiration", "0s", "The longest life of a token; 0 means no bound.";
    SERVICE_ACCOUNT_EXTEND_EXPIRATION: bool = "service-account-extend-token-expiration", "true", "Give projected tokens a year, so that old clients that never read them again keep working.";
    SERVICE_ACCOUNT_JWKS_URI: String = "service-account-jwks-uri", "", "The address of the key set in the discovery document.";
    API_AUDIENCES: Vec<String> = "api-audiences", "", "Audiences of tokens that this server takes; defaults to the issuers.";
}

/// Old clients that never read their token again get a year (`--service-account-extend-token-expiration`).
pub const EXTENDED: Duration = Duration::from_secs(365 * 24 * 3600);
/// What the longest life of a token may be set to.
const SHORTEST_BOUND: Duration = Duration::from_secs(3600);
const LONGEST_BOUND: Duration = Duration::from_secs(1 << 32);

/// Service account tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub issuers: Vec<String>,
    pub key_files: Vec<PathBuf>,
    pub signing: Signing,
    pub audiences: Vec<String>,
    pub lookup: bool,
    /// Nothing: no bound.
    pub max_expiration: Duration,
    pub extend_expiration: bool,
    /// How long extended tokens last.
    pub extended: Duration,
    pub jwks_uri: String,
}

/// Who signs tokens.
#[derive(Clone, Debug)]
pub enum Signing {
    /// The key of a file.
    Key(PathBuf),
    /// The plugin behind a socket.
    Plugin(String),
}

impl Tokens {
    pub(super) fn from_args(args: &Args) -> anyhow::Result<Self> {
        let issuers = args.get(&SERVICE_ACCOUNT_ISSUER).0;
        let key_files: Vec<PathBuf> = { args.get(&SERVICE_ACCOUNT_KEY_FILE).0.into_iter() }
            .map(PathBuf::from)
            .collect();
        let signing = signing(
            args.get(&SERVICE_ACCOUNT_SIGNING_KEY_FILE),
            args.get(&SERVICE_ACCOUNT_SIGNING_ENDPOINT),
            &key_files,
        )?;
        let (false, Some(signing)) = (issuers.is_empty(), signing) else {
            bail!("--service-account-issuer and --service-account-signing-key-file are required");
        };
        let max_expiration = args.get(&SERVICE_ACCOUNT_MAX_EXPIRATION);
        if !max_expiration.is_zero() && !(SHORTEST_BOUND..=LONGEST_BOUND).contains(&max_expiration)
        {
            bail!(
                "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"
            );
        }
        let audiences = args.get(&API_AUDIENCES);
        Ok(Self {
            audiences: if audiences.is_empty() {
                issuers.clone()
            } else {
                audiences
            },
            issuers,
            key_files,
            signing,
            lookup: args.get(&SERVICE_ACCOUNT_LOOKUP),
            max_expiration,
            extend_expiration: args.get(&SERVICE_ACCOUNT_EXTEND_EXPIRATION),
            extended: EXTENDED,
            jwks_uri: args.get(&SERVICE_ACCOUNT_JWKS_URI),
        })
    }

    /// Tells who set this up where extended tokens are not what old clients need.
    pub fn warn(&self) {
        let bound = self.max_expiration;
        if !self.extend_expiration || bound.is_zero() {
            return;
        }
        if bound.as_secs() < PROJECTED_SECONDS.unsigned_abs() {
            tracing::warn!(
                ?bound,
                "Tokens that pods are given are not extended: they last shorter than those are asked for"
            );
        }
        if bound < EXTENDED {
            tracing::warn!(?bound, extended = ?self.extended, "Extended tokens last longer than tokens may, up to what a plugin signs");
        }
    }

    /// The same, where tokens last no longer than a plugin signs them for.
    ///
    /// # Errors
    /// If longer ones were asked for.
    pub fn bounded(self, longest: Duration) -> anyhow::Result<Self> {
        if self.max_expiration > longest {
            let print = |of: Duration| {
                proto::time::Duration(i64::try_from(of.as_nanos()).unwrap_or(i64::MAX))
            };
            bail!(
                "service-account-max-token-expiration cannot be set longer than the token expiration supported by \
                 service-account-signing-endpoint: {} > {}",
                print(self.max_expiration),
                print(longest)
            );
        }
        Ok(Self {
            max_expiration: if self.max_expiration.is_zero() {
                longest
            } else {
                self.max_expiration
            },
            extended: self.extended.min(longest),
            ..self
        })
    }
}

/// Who signs, if somebody does.
fn signing(
    key: Option<PathBuf>,
    endpoint: String,
    key_files: &[PathBuf],
) -> anyhow::Result<Option<Signing>> {
    if endpoint.is_empty() {
        return Ok(key.map(Signing::Key));
    }
    if key.is_some() {
        bail!(
            "service-account-signing-key-file and service-account-signing-endpoint are mutually exclusive and cannot be \
             set at the same time"
        );
    }
    if !key_files.is_empty() {
        bail!(
            "can't set `--service-account-signing-key-file` and/or `--service-account-key-file` with \
             `--service-account-signing-endpoint` (They are mutually exclusive)"
        );
    }
    if let Some(name) = endpoint.strip_prefix('@')
        && !is_abstract_name(name)
    {
        bail!(
            "invalid value {endpoint:?} passed for `--service-account-signing-endpoint`, when prefixed with @ must be a \
             valid abstract socket name"
        );
    }
    Ok(Some(Signing::Plugin(endpoint)))
}

/// Words of letters, digits, `-` and `_`, with points between them.
fn is_abstract_name(name: &str) -> bool {
    let is_word = |word: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !word.is_empty() && word.chars().all(allowed)
    };
    name.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(key: Option<&str>, endpoint: &str, key_files: &[&str]) -> Option<String> {
        let files: Vec<PathBuf> = key_files.iter().map(PathBuf::from).collect();
        let signing = signing(key.map(PathBuf::from), endpoint.to_owned(), &files);
        signing.err().map(|e| e.to_string())
    }

    #[test]
    fn a_plugin_excludes_files() {
        assert_eq!(refused(None, "/run/signer.sock", &[]), None);
        assert_eq!(refused(Some("sa.key"), "", &["sa.pub"]), None);
        assert!(
            refused(Some("sa.key"), "/s", &[])
                .is_some_and(|e| e.contains("are mutually exclusive"))
        );
        assert!(refused(None, "/s", &["sa.pub"]).is_some_and(|e| e.starts_with("can't set")));
    }

    #[test]
    fn an_abstract_socket_has_a_name_of_words() {
        for good in ["@signer", "@a.b-c_d.1"] {
            assert_eq!(refused(None, good, &[]), None, "{good}");
        }
        for bad in ["@", "@a..b", "@.a", "@a.", "@a/b", "@a b"] {
            assert!(refused(None, bad, &[]).is_some(), "{bad}");
        }
    }

    #[test]
    fn tokens_last_no_longer_than_the_plugin_allows() {
        let tokens = |max: u64| Tokens {
            issuers: vec!["https://issuer".to_owned()],
            key_files: Vec::new(),
            signing: Signing::Plugin("/s".to_owned()),
            audiences: Vec::new(),
            lookup: true,
            max_expiration: Duration::from_secs(max),
            extend_expiration: true,
            extended: EXTENDED,
            jwks_uri: String::new(),
        };
        let bounded = |max, longest| {
            let bounded = tokens(max).bounded(Duration::from_secs(longest));
            bounded.map(|t| (t.max_expiration.as_secs(), t.extended.as_secs()))
        };
        assert_eq!(bounded(0, 7200).ok(), Some((7200, 7200)));
        assert_eq!(bounded(3600, 7200).ok(), Some((3600, 7200)));
        assert_eq!(
            bounded(3600, 1 << 32).ok(),
            Some((3600, EXTENDED.as_secs()))
        );
        assert_eq!(
            bounded(7201, 7200).unwrap_err().to_string(),
            "service-account-max-token-expiration cannot be set longer than the token expiration supported by \
             service-account-signing-endpoint: 2h0m1s > 2h0m0s"
        );
    }
}

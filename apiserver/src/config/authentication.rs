//! What the flags say of authentication.
//!
//! Issuers of tokens come from a file or from the `--oidc-*` flags, never from both; whether requests
//! may be anonymous, from the file or from its flag. Upstream:
//! `pkg/kubeapiserver/options/authentication.go`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use component::args::{self, Args, Array, Flag, Group};
use component::features::Features;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::tokens;
use crate::auth::jwt::config::{Anonymous, JwtSettings, Mapped, Mapping, Mappings, Settings};
use crate::auth::jwt::jws::Algorithm;

flags! {
    AUTHENTICATION_CONFIG: Option<PathBuf> = "authentication-config", "", "A file that names issuers of tokens and says who may be anonymous; it is read again when it changes.";
    OIDC_ISSUER_URL: String = "oidc-issuer-url", "", "The issuer of OpenID Connect tokens, an https URL.";
    OIDC_CLIENT_ID: String = "oidc-client-id", "", "The audience that such tokens must be for.";
    OIDC_CA_FILE: Option<PathBuf> = "oidc-ca-file", "", "The authorities of the issuer's certificate; the system's if not given.";
    OIDC_USERNAME_CLAIM: String = "oidc-username-claim", "sub", "The claim that is the user's name.";
    OIDC_USERNAME_PREFIX: String = "oidc-username-prefix", "", "What stands before the name: the issuer's URL and # for claims other than email if not given, nothing for -.";
    OIDC_GROUPS_CLAIM: String = "oidc-groups-claim", "", "The claim that holds the user's groups, a string or a list.";
    OIDC_GROUPS_PREFIX: String = "oidc-groups-prefix", "", "What stands before each group.";
    OIDC_SIGNING_ALGS: Vec<String> = "oidc-signing-algs", "RS256", "The algorithms that tokens may be signed with: RS256, RS384, RS512, ES256, ES384, PS256, PS384, PS512.";
    OIDC_REQUIRED_CLAIM: Array = "oidc-required-claim", "", "A claim and the value that it must have, as key=value; may be repeated.";
    TOKEN_AUTH_FILE: Option<PathBuf> = "token-auth-file", "", "A file of tokens in CSV: token, user, uid and optionally quoted groups.";
    ENABLE_BOOTSTRAP_TOKEN_AUTH: bool = "enable-bootstrap-token-auth", "false", "Take tokens of bootstrap secrets in kube-system.";
    WEBHOOK_CONFIG_FILE: Option<PathBuf> = "authentication-token-webhook-config-file", "", "A kubeconfig of a server that reviews tokens.";
    WEBHOOK_VERSION: String = "authentication-token-webhook-version", "v1beta1", "The version of TokenReviews that the webhook speaks: v1 or v1beta1.";
    WEBHOOK_CACHE_TTL: Duration = "authentication-token-webhook-cache-ttl", "2m0s", "How long the webhook's answers are remembered.";
}

pub(super) fn group() -> Group {
    Group::new(
        "Authentication",
        &[
            &super::ANONYMOUS_AUTH,
            &args::CLIENT_CA_FILE,
            &tokens::SERVICE_ACCOUNT_ISSUER,
            &tokens::SERVICE_ACCOUNT_KEY_FILE,
            &tokens::SERVICE_ACCOUNT_SIGNING_KEY_FILE,
            &tokens::SERVICE_ACCOUNT_SIGNING_ENDPOINT,
            &tokens::SERVICE_ACCOUNT_LOOKUP,
            &tokens::SERVICE_ACCOUNT_MAX_EXPIRATION,
            &tokens::SERVICE_ACCOUNT_EXTEND_EXPIRATION,
            &tokens::SERVICE_ACCOUNT_JWKS_URI,
            &tokens::API_AUDIENCES,
            &AUTHENTICATION_CONFIG,
            &OIDC_ISSUER_URL,
            &OIDC_CLIENT_ID,
            &OIDC_CA_FILE,
            &OIDC_USERNAME_CLAIM,
            &OIDC_USERNAME_PREFIX,
            &OIDC_GROUPS_CLAIM,
            &OIDC_GROUPS_PREFIX,
            &OIDC_SIGNING_ALGS,
            &OIDC_REQUIRED_CLAIM,
            &TOKEN_AUTH_FILE,
            &ENABLE_BOOTSTRAP_TOKEN_AUTH,
            &WEBHOOK_CONFIG_FILE,
            &WEBHOOK_VERSION,
            &WEBHOOK_CACHE_TTL,
            &args::REQUESTHEADER_CLIENT_CA_FILE,
            &args::REQUESTHEADER_ALLOWED_NAMES,
            &args::REQUESTHEADER_USERNAME_HEADERS,
            &args::REQUESTHEADER_UID_HEADERS,
            &args::REQUESTHEADER_GROUP_HEADERS,
            &args::REQUESTHEADER_EXTRA_HEADERS_PREFIX,
        ],
    )
}

/// Who is believed to be whom, beside certificates and service accounts.
#[derive(Clone, Debug)]
pub struct Authentication {
    pub issuers: Issuers,
    /// Whether fetches of issuers' keys are counted.
    pub counts_keys: bool,
    /// If the file says nothing of it.
    pub anonymous: Anonymous,
    pub token_file: Option<PathBuf>,
    pub bootstrap_tokens: bool,
    pub webhook: Option<TokenWebhook>,
}

/// Where the issuers of tokens come from.
#[derive(Clone, Debug)]
pub enum Issuers {
    None,
    Flags(Box<JwtSettings>),
    File {
        path: PathBuf,
        /// Whether a flag says who may be anonymous, so that the file must not.
        anonymous_by_flag: bool,
    },
}

/// The server that reviews tokens.
#[derive(Clone, Debug)]
pub struct TokenWebhook {
    pub kubeconfig: PathBuf,
    /// The version of reviews.
    pub api_version: &'static str,
    pub ttl: Duration,
}

/// Front proxies whose headers are trusted.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    pub ca: PathBuf,
    pub allowed_names: Vec<String>,
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

impl RequestHeader {
    pub(super) fn from_args(args: &Args, features: &Features) -> anyhow::Result<Option<Self>> {
        let uid = args.get(&args::REQUESTHEADER_UID_HEADERS);
        if !uid.is_empty() && !features.enabled("RemoteRequestHeaderUID") {
            bail!(
                "--requestheader-uid-headers requires the \"RemoteRequestHeaderUID\" feature to be enabled"
            );
        }
        if !uid.is_empty() && !uid.iter().any(|h| h.eq_ignore_ascii_case("X-Remote-Uid")) {
            bail!(
                "--requestheader-uid-headers is set without specifying the standard X-Remote-Uid header - API \
                 aggregation will not work"
            );
        }
        let Some(ca) = args.get(&args::REQUESTHEADER_CLIENT_CA_FILE) else {
            return Ok(None);
        };
        let allowed_names = args.get(&args::REQUESTHEADER_ALLOWED_NAMES);
        if let Some(clients) = args.get(&args::CLIENT_CA_FILE)
            && allowed_names.is_empty()
            && share_a_certificate(&clients, &ca)
        {
            bail!(
                "--requestheader-client-ca-file and --client-ca-file contain overlapping certificates; \
                 --requestheader-allowed-names must be specified to ensure regular client certificates cannot set \
                 authenticating proxy headers for arbitrary users"
            );
        }
        Ok(Some(Self {
            ca,
            allowed_names,
            username: args.get(&args::REQUESTHEADER_USERNAME_HEADERS),
            uid,
            group: args.get(&args::REQUESTHEADER_GROUP_HEADERS),
            extra_prefixes: args.get(&args::REQUESTHEADER_EXTRA_HEADERS_PREFIX),
        }))
    }
}

/// Whether two files have an authority in common. What cannot be read is told by who uses it.
fn share_a_certificate(a: &Path, b: &Path) -> bool {
    let read = |path: &Path| -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_file_iter(path);
        all.into_iter().flatten().flatten().collect()
    };
    let b = read(b);
    read(a).iter().any(|certificate| b.contains(certificate))
}

impl Authentication {
    /// `allows_all`: everything is allowed to everybody, and so nobody may be anonymous.
    pub(super) fn from_args(
        args: &Args,
        features: &Features,
        allows_all: bool,
    ) -> anyhow::Result<Self> {
        let mut anonymous = args.get(&super::ANONYMOUS_AUTH);
        if anonymous && allows_all {
            tracing::warn!("Requests may not be anonymous where everything is allowed");
            anonymous = false;
        }
        Ok(Self {
            issuers: issuers(args)?,
            counts_keys: features.enabled("StructuredAuthenticationConfigurationJWKSMetrics"),
            anonymous: Anonymous {
                enabled: anonymous,
                paths: Vec::new(),
            },
            token_file: args.get(&TOKEN_AUTH_FILE),
            bootstrap_tokens: args.get(&ENABLE_BOOTSTRAP_TOKEN_AUTH),
            webhook: webhook(args)?,
        })
    }
}

fn webhook(args: &Args) -> anyhow::Result<Option<TokenWebhook>> {
    let Some(kubeconfig) = args.get(&WEBHOOK_CONFIG_FILE) else {
        return Ok(None);
    };
    let api_version = match args.get(&WEBHOOK_VERSION).as_str() {
        "v1" => "authentication.k8s.io/v1",
        "v1beta1" => "authentication.k8s.io/v1beta1",
        other => bail!(
            "unsupported authentication webhook version {other:?}, supported versions are \"v1\", \"v1beta1\""
        ),
    };
    let ttl = args.get(&WEBHOOK_CACHE_TTL);
    Ok(Some(TokenWebhook {
        kubeconfig,
        api_version,
        ttl,
    }))
}

fn issuers(args: &Args) -> anyhow::Result<Issuers> {
    let by_flag = args.given(&OIDC_ISSUER_URL).is_some()
        || args.given(&OIDC_CLIENT_ID).is_some()
        || args.given(&OIDC_CA_FILE).is_some()
        || args.given(&OIDC_USERNAME_CLAIM).is_some()
        || args.given(&OIDC_USERNAME_PREFIX).is_some()
        || args.given(&OIDC_GROUPS_CLAIM).is_some()
        || args.given(&OIDC_GROUPS_PREFIX).is_some()
        || args.given(&OIDC_SIGNING_ALGS).is_some()
        || args.given(&OIDC_REQUIRED_CLAIM).is_some();
    match (args.get(&AUTHENTICATION_CONFIG), by_flag) {
        (Some(_), true) => {
            bail!("authentication-config file and oidc-* flags are mutually exclusive")
        }
        (Some(path), false) => Ok(Issuers::File {
            path,
            anonymous_by_flag: args.given(&super::ANONYMOUS_AUTH).is_some(),
        }),
        (None, false) => Ok(Issuers::None),
        (None, true) => {
            let settings = Settings {
                jwt: vec![oidc(args)?],
                anonymous: None,
            };
            settings
                .check(&[])
                .map_err(|errors| anyhow::anyhow!(proto::path::aggregate(&errors)))
                .context("invalid authentication configuration")?;
            let [jwt] = <[_; 1]>::try_from(settings.jwt)
                .map_err(|_| anyhow::anyhow!("flags name one issuer"))?;
            Ok(Issuers::Flags(Box::new(jwt)))
        }
    }
}

/// The issuer that the flags name.
fn oidc(args: &Args) -> anyhow::Result<JwtSettings> {
    let (url, client) = (args.get(&OIDC_ISSUER_URL), args.get(&OIDC_CLIENT_ID));
    if url.is_empty() || client.is_empty() {
        bail!(
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
        );
    }
    let claim = args.get(&OIDC_USERNAME_CLAIM);
    let prefix = match (args.get(&OIDC_USERNAME_PREFIX).as_str(), claim.as_str()) {
        ("-", _) | ("", "email") => String::new(),
        ("", _) => format!("{url}#"),
        (given, _) => given.to_owned(),
    };
    let groups = args.get(&OIDC_GROUPS_CLAIM);
    let groups = (!groups.is_empty()).then(|| {
        Mapped::Claim(Mapping {
            claim: groups,
            prefix: args.get(&OIDC_GROUPS_PREFIX),
        })
    });
    let mut required = Vec::new();
    for given in args.get(&OIDC_REQUIRED_CLAIM).0 {
        let Some((key, value)) = given.split_once('=') else {
            bail!("--oidc-required-claim: {given:?} is not of the form key=value");
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        required.retain(|(k, _)| *k != key);
        required.push((key, value));
    }
    Ok(JwtSettings {
        issuer: url,
        discovery: None,
        authorities: authorities(args.get(&OIDC_CA_FILE).as_deref())?,
        audiences: vec![client],
        algorithms: algorithms(&args.get(&OIDC_SIGNING_ALGS))?,
        mappings: Mappings {
            groups,
            required,
            ..Mappings::named(Mapping { claim, prefix })
        },
    })
}

fn authorities(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("--oidc-ca-file {}", path.display()))
    };
    file.map(read).transpose()
}

fn algorithms(names: &[String]) -> anyhow::Result<Vec<Algorithm>> {
    let unknown = |name: &String| format!("oidc: unsupported signing alg: {name:?}");
    let named = |name: &String| Algorithm::named(name).with_context(|| unknown(name));
    names.iter().map(named).collect()
}

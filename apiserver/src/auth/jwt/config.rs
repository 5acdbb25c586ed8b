//! The file: `AuthenticationConfiguration`, checked as upstream checks it
//! (`apiserver/pkg/apis/apiserver/validation`), and what is made of it.

use component::config::Versioned;
use proto::path::{FieldError, Reason, quote};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use super::jws::Algorithm;

mod mappings;

use mappings::{ClaimMappings, ClaimRule, UserRule};
pub use mappings::{Mapped, Mapping, Mappings, Rule};

/// Why a configuration cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Unreadable(#[from] component::config::Unplaced),
    #[error("invalid authentication configuration: {}", proto::path::aggregate(.0))]
    Invalid(Vec<FieldError>),
}

/// Issuers of tokens, and who may be anonymous.
#[derive(Clone, Debug)]
pub struct Settings {
    pub jwt: Vec<JwtSettings>,
    /// None if the file does not say.
    pub anonymous: Option<Anonymous>,
}

/// Whether requests may say nothing of who asks, and for which paths; for all if none are named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anonymous {
    pub enabled: bool,
    pub paths: Vec<String>,
}

/// One issuer, and how its claims make a user.
#[derive(Clone, PartialEq, Debug)]
pub struct JwtSettings {
    /// The issuer, an `https` URL.
    pub issuer: String,
    /// Where its discovery document is, if not at the issuer.
    pub discovery: Option<String>,
    /// In PEM; the system's if none are given.
    pub authorities: Option<String>,
    /// A token must be for one of them.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    pub mappings: Mappings,
}

/// Issuers in one file.
const MOST_ISSUERS: usize = 64;

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthenticationConfiguration {
    jwt: Vec<JwtAuthenticator>,
    anonymous: Option<AnonymousAuthConfig>,
}

impl Versioned for AuthenticationConfiguration {
    const API_VERSIONS: &'static [&'static str] = &[
        "apiserver.config.k8s.io/v1",
        "apiserver.config.k8s.io/v1beta1",
        "apiserver.config.k8s.io/v1alpha1",
    ];
    const KIND: &'static str = "AuthenticationConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AnonymousAuthConfig {
    enabled: bool,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct JwtAuthenticator {
    issuer: Issuer,
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: ClaimMappings,
    user_validation_rules: Vec<UserRule>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

/// What a file says. `own` are the issuers of service accounts, which no other may be called like.
///
/// # Errors
/// All that is wrong with it.
pub fn read(text: &str, own: &[String]) -> Result<Settings, Error> {
    let file: AuthenticationConfiguration = component::config::read(text.as_bytes())?;
    let mut errors = Vec::new();
    if file.jwt.len() > MOST_ISSUERS {
        let many = format!("must have at most {MOST_ISSUERS} items");
        let count = file.jwt.len().to_string();
        return Err(Error::Invalid(vec![FieldError::new(
            Reason::TooMany,
            "jwt",
            count,
            many,
        )]));
    }
    let jwt = file.jwt.iter().enumerate();
    let jwt = jwt
        .map(|(i, of)| authenticator(of, &format!("jwt[{i}]"), &mut errors))
        .collect();
    let anonymous = file.anonymous.map(|of| Anonymous {
        enabled: of.enabled,
        paths: of.conditions.into_iter().map(|c| c.path).collect(),
    });
    let settings = Settings { jwt, anonymous };
    errors.extend(settings.check(own).err().unwrap_or_default());
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(Error::Invalid(errors))
    }
}

/// The settings of an issuer; of what is wrong, what cannot be seen in them is noted here.
fn authenticator(of: &JwtAuthenticator, at: &str, errors: &mut Vec<FieldError>) -> JwtSettings {
    let issuer = &of.issuer;
    audience_policy(issuer, &format!("{at}.issuer"), errors);
    if !issuer.egress_selector_type.is_empty() {
        let why = "egress selectors are not supported yet";
        let given = issuer.egress_selector_type.as_str();
        errors.push(FieldError::invalid(
            format!("{at}.issuer.egressSelectorType"),
            given,
            why,
        ));
    }
    let (rules, users) = (&of.claim_validation_rules, &of.user_validation_rules);
    let mappings = mappings::read(rules, &of.claim_mappings, users, at, errors);
    JwtSettings {
        issuer: issuer.url.clone(),
        discovery: issuer.discovery_url.clone().filter(|url| !url.is_empty()),
        authorities: Some(issuer.certificate_authority.clone()).filter(|pem| !pem.is_empty()),
        audiences: issuer.audiences.clone(),
        algorithms: Algorithm::all(),
        mappings,
    }
}

fn audience_policy(issuer: &Issuer, at: &str, errors: &mut Vec<FieldError>) {
    let policy = issuer.audience_match_policy.as_str();
    let why = match (issuer.audiences.len(), policy) {
        (0, _) | (1, "") | (_, "MatchAny") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(FieldError::invalid(
        format!("{at}.audienceMatchPolicy"),
        policy,
        why,
    ));
}

impl Settings {
    /// Checks what can be seen in the settings, wherever they come from.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self, own: &[String]) -> Result<(), Vec<FieldError>> {
        let mut errors = Vec::new();
        for (i, jwt) in self.jwt.iter().enumerate() {
            let at = format!("jwt[{i}].issuer");
            jwt.check(&at, own, &mut errors);
            let before = &self.jwt[..i];
            if before.iter().any(|other| other.issuer == jwt.issuer) {
                let at = format!("{at}.url");
                errors.push(FieldError::new(
                    Reason::Duplicate,
                    at,
                    quote(&jwt.issuer),
                    "",
                ));
            }
            if let Some(url) = &jwt.discovery
                && before
                    .iter()
                    .any(|other| other.discovery.as_ref() == Some(url))
            {
                let at = format!("{at}.discoveryURL");
                errors.push(FieldError::new(Reason::Duplicate, at, quote(url), ""));
            }
        }
        if let Some(anonymous) = &self.anonymous
            && !anonymous.enabled
            && !anonymous.paths.is_empty()
        {
            let shown = serde_json::json!(anonymous.paths).to_string();
            let why = "enabled should be set to true when conditions are defined";
            errors.push(FieldError::new(
                Reason::Invalid,
                "anonymous.conditions",
                shown,
                why,
            ));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

impl JwtSettings {
    fn check(&self, at: &str, own: &[String], errors: &mut Vec<FieldError>) {
        let at_url = format!("{at}.url");
        if self.issuer.is_empty() {
            errors.push(FieldError::required(at_url, ""));
        } else {
            url(&self.issuer, own, &at_url, errors);
        }
        if let Some(discovery) = &self.discovery {
            let at = format!("{at}.discoveryURL");
            if discovery.trim_end_matches('/') == self.issuer.trim_end_matches('/') {
                let why = "discoveryURL must be different from URL";
                errors.push(FieldError::invalid(at.as_str(), discovery.as_str(), why));
            }
            url(discovery, &[], &at, errors);
        }
        audiences(&self.audiences, &format!("{at}.audiences"), errors);
        if let Some(pem) = &self.authorities
            && !has_certificates(pem)
        {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            let at = format!("{at}.certificateAuthority");
            errors.push(FieldError::invalid(at, "<omitted>", why));
        }
    }
}

fn has_certificates(pem: &str) -> bool {
    let mut all = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
    let readable = |cert: &CertificateDer<'_>| x509_parser::parse_x509_certificate(cert).is_ok();
    all.peek().is_some() && all.all(|cert| cert.is_ok_and(|cert| readable(&cert)))
}

fn audiences(list: &[String], at: &str, errors: &mut Vec<FieldError>) {
    if list.is_empty() {
        let why = format!("at least one {at} is required");
        errors.push(FieldError::required(at, why));
    }
    for (i, audience) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        if audience.is_empty() {
            errors.push(FieldError::required(at.as_str(), ""));
        }
        if list[..i].contains(audience) {
            errors.push(FieldError::new(Reason::Duplicate, at, quote(audience), ""));
        }
    }
}

/// An `https` URL that has nothing but host and path.
fn url(given: &str, own: &[String], at: &str, errors: &mut Vec<FieldError>) {
    let mut refuse = |why: &str| errors.push(FieldError::invalid(at, given, why));
    if own.iter().any(|issuer| issuer == given) {
        let mut own: Vec<&str> = own.iter().map(String::as_str).collect();
        own.sort_unstable();
        let own = own.join(" ");
        refuse(&format!(
            "URL must not overlap with disallowed issuers: [{own}]"
        ));
    }
    let (scheme, rest) = given.split_once("://").unwrap_or(("", given));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !scheme.eq_ignore_ascii_case("https") {
        refuse("URL scheme must be https");
    }
    if rest
        .split('/')
        .next()
        .is_some_and(|host| host.contains('@'))
    {
        refuse("URL must not contain a username or password");
    }
    if !query.is_empty() {
        refuse("URL must not contain a query");
    }
    if !fragment.is_empty() {
        refuse("URL must not contain a fragment");
    }
    if let Err(error) = format!("https://{rest}").parse::<http::Uri>() {
        refuse(&error.to_string());
    }
}

#[cfg(test)]
mod tests;

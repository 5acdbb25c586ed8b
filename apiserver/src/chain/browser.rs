//! What browsers are told: which origins may ask, that answers are not kept, and to come by TLS only.
//!
//! Upstream: `apiserver/pkg/server/filters/{cors,hsts}.go`, `pkg/endpoints/filters/cachecontrol.go`,
//! `pkg/server/options/server_run_options.go`.

use anyhow::{Context, bail};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use regex::RegexSet;

use crate::body::{Body, full};

/// Methods and headers that scripts may use, and headers that they see.
const ALLOWED: &[(HeaderName, &str)] = &[
    (
        header::ACCESS_CONTROL_ALLOW_METHODS,
        "POST, GET, OPTIONS, PUT, DELETE, PATCH",
    ),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, \
         X-Requested-With, If-Modified-Since",
    ),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
];

/// How browsers are answered.
#[derive(Clone, Debug, Default)]
pub struct Browsers {
    /// Origins that may ask (`--cors-allowed-origins`); none switches this off.
    origins: Option<RegexSet>,
    /// `--strict-transport-security-directives`, joined.
    hsts: Option<HeaderValue>,
}

impl Browsers {
    /// # Errors
    /// If a pattern is none, or does not hold both ends of the host (CVE-2022-1996); if a directive is
    /// not known.
    pub fn new(origins: &[String], hsts: &[String]) -> anyhow::Result<Self> {
        Ok(Self {
            origins: patterns(origins)?,
            hsts: directives(hsts)?,
        })
    }

    /// The origin of a request, if it may ask from there.
    #[must_use]
    pub fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok().filter(|text| !text.is_empty())?;
        let allowed = self.origins.as_ref()?.is_match(text);
        allowed.then(|| origin.clone())
    }

    /// What a browser gets that asks whether it may ask: that is all it wants to know.
    #[must_use]
    pub fn preflight(
        &self,
        method: &Method,
        origin: Option<&HeaderValue>,
    ) -> Option<Response<Body>> {
        let asked = method == Method::OPTIONS && origin.is_some();
        asked.then(|| {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        })
    }

    /// Adds to an answer what all answers say.
    pub fn mark(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            for (name, value) in ALLOWED {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        if let Some(hsts) = &self.hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache, private"));
    }
}

fn patterns(origins: &[String]) -> anyhow::Result<Option<RegexSet>> {
    const FLAG: &str = "--cors-allowed-origins";
    if origins.is_empty() {
        return Ok(None);
    }
    for pattern in origins {
        if pattern.is_empty() {
            bail!("{FLAG}: an empty pattern allows every origin");
        }
        let holds = |marks: [&str; 2]| marks.iter().any(|mark| pattern.contains(mark));
        if !holds(["^", "//"]) || !holds(["$", ":"]) {
            bail!(
                "{FLAG}: {pattern:?} does not hold the start and the end of the host, as in \
                 '^https://example\\.com(:|$)'"
            );
        }
    }
    RegexSet::new(origins).map(Some).context(FLAG)
}

fn directives(given: &[String]) -> anyhow::Result<Option<HeaderValue>> {
    const FLAG: &str = "--strict-transport-security-directives";
    for directive in given {
        let age = directive.strip_prefix("max-age=");
        let known = matches!(directive.as_str(), "includeSubDomains" | "preload")
            || age.is_some_and(|seconds| seconds.parse::<u32>().is_ok());
        if !known {
            bail!("{FLAG}: {directive:?} is none of max-age=SECONDS, includeSubDomains, preload");
        }
    }
    if given.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(&given.join("; "))
        .map(Some)
        .context(FLAG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browsers(origins: &[&str], hsts: &[&str]) -> anyhow::Result<Browsers> {
        let owned = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        Browsers::new(&owned(origins), &owned(hsts))
    }

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn only_allowed_origins_are_named_in_answers() {
        let browsers = browsers(&[r"^https://(.*\.)?example\.com(:|$)"], &[]).unwrap();
        for (origin, allowed) in [
            ("https://example.com", true),
            ("https://a.example.com:8443", true),
            ("https://example.com.evil.org", false),
            ("http://example.com", false),
            ("", false),
        ] {
            let found = browsers.origin(&from(origin));
            assert_eq!(found.is_some(), allowed, "{origin}");
            let mut headers = HeaderMap::new();
            browsers.mark(&mut headers, found);
            let named = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(
                named.map(HeaderValue::as_bytes),
                allowed.then_some(origin.as_bytes())
            );
        }
    }

    #[test]
    fn a_preflight_is_answered_without_a_user() {
        let browsers = browsers(&["//example.com$"], &[]).unwrap();
        let origin = browsers.origin(&from("https://example.com"));
        let answer = browsers.preflight(&Method::OPTIONS, origin.as_ref());
        assert_eq!(answer.unwrap().status(), StatusCode::NO_CONTENT);
        assert!(browsers.preflight(&Method::GET, origin.as_ref()).is_none());
        assert!(browsers.preflight(&Method::OPTIONS, None).is_none());
    }

    #[test]
    fn patterns_have_to_hold_both_ends_of_the_host() {
        for bad in [
            "",
            "example.com",
            "//example.com",
            "example.com$",
            "^https://(a$",
        ] {
            assert!(browsers(&[bad], &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn strict_transport_is_said_as_given() {
        let some = browsers(&[], &["max-age=31536000", "includeSubDomains"]).unwrap();
        let mut headers = HeaderMap::new();
        some.mark(&mut headers, None);
        let said = &headers[header::STRICT_TRANSPORT_SECURITY];
        assert_eq!(said, "max-age=31536000; includeSubDomains");
        assert!(browsers(&[], &["max-age=soon"]).is_err());
        assert!(browsers(&[], &["preLoad"]).is_err());
    }

    #[test]
    fn answers_are_not_kept_unless_they_say_so() {
        let mut headers =
            HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("public"))]);
        Browsers::default().mark(&mut headers, None);
        assert_eq!(headers[header::CACHE_CONTROL], "public");
        headers.clear();
        Browsers::default().mark(&mut headers, None);
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache, private");
    }
}

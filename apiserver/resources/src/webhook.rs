//! How a webhook is reached: `ValidateWebhookURL`, `ValidateWebhookService` in
//! `apiserver/pkg/util/webhook`.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot, quote};
use proto::view::{Node, View};
use proto::{NameId, Value};

use crate::rules;

/// Versions of reviews that this server speaks.
pub const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// The versions of reviews that a webhook speaks, of which this server has to speak one where `known` is asked. `none` is told where
/// there are none.
pub fn reviews<'a>(
    e: &mut Errors<'_>,
    hook: impl View<'a>,
    field: NameId,
    none: &str,
    known: bool,
) {
    let (at, versions) = (Spot::of(hook).field(field), hook.node().items(field));
    if versions.is_empty() {
        return e.required(at, none);
    }
    let mut seen = HashSet::new();
    for item in versions {
        let version = item.as_str().unwrap_or_default();
        if seen.insert(version) {
            let problems = names::dns_1035_label_problems(version);
            e.invalid_each(Spot::node(item), version, problems);
        } else {
            e.invalid(Spot::node(item), version, "duplicate version");
        }
    }
    if known && !REVIEWS.iter().any(|version| seen.contains(version)) {
        let shown = rules::json(hook.node().get(field));
        let known = REVIEWS.join(", ");
        e.invalid(at, shown, format!("must include at least one of {known}"));
    }
}

/// Whether this server speaks one of the versions, or there are none.
#[must_use]
pub fn may_be_asked(versions: &[Value]) -> bool {
    versions.is_empty() || rules::texts(versions).any(|version| REVIEWS.contains(&version))
}

/// A URL of HTTPS without anything but host and path.
pub fn url(e: &mut Errors<'_>, at: Spot<'_>, text: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(problem) => {
            let text = quote(text);
            let detail = format!("url must be a valid URL: parse {text}: {problem}{FORM}");
            return e.required(at, detail);
        }
    };
    if url.scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        e.invalid(at, url.scheme.as_str(), detail);
    }
    if url.host.is_empty() {
        e.invalid(at, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        e.invalid(at, user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        e.invalid(at, url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        e.invalid(
            at,
            url.query,
            "query parameters are not permitted in the URL",
        );
    }
}

/// Whether it is a URL that says how and where.
#[must_use]
pub fn is_absolute_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| !url.scheme.is_empty() && !url.host.is_empty())
}

/// A service. Upstream takes one name for the other: which of them is missing, it tells of the other.
pub fn service(e: &mut Errors<'_>, service: Node<'_>) {
    let at = Spot::node(service.value());
    if service.str(n::NAMESPACE).is_empty() {
        e.required(at.field(n::NAME), "");
    }
    if service.str(n::NAME).is_empty() {
        e.required(at.field(n::NAMESPACE), "");
    }
    let port = service.int(n::PORT);
    let problems = names::port_number_problems(port);
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(", "));
        e.invalid(at.field(n::PORT), port, detail);
    }
    path(e, at.field(n::PATH), service.str(n::PATH));
}

fn path(e: &mut Errors<'_>, at: Spot<'_>, path: &str) {
    match path {
        "" | "/" => return,
        "//" => return e.invalid(at, path, "segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        e.invalid(at, path, "must start with a '/'");
    }
    // As upstream: the first byte goes, whatever it is.
    let rest = String::from_utf8_lossy(&path.as_bytes()[1..]);
    let below = rest.as_ref();
    let below = below.strip_suffix('/').unwrap_or(below);
    for (i, step) in below.split('/').enumerate() {
        if step.is_empty() {
            e.invalid(at, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for problem in names::dns_subdomain_problems(step) {
            e.invalid(at, path, format!("segment[{i}]: {problem}"));
        }
    }
}

/// The parts of a URL as Go's `net/url` splits it.
struct Url<'a> {
    scheme: String,
    host: &'a str,
    user: Option<&'a str>,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".into());
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None if scheme.is_empty()
                && rest.split('/').next().is_some_and(|s| s.contains(':')) =>
            {
                return Err("first path segment in URL cannot contain colon".into());
            }
            None => ("", rest),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        port(host)?;
        if let Some(bad) = host.chars().find(|c| {
            matches!(
                c,
                ' ' | '<' | '>' | '"' | '^' | '`' | '{' | '|' | '}' | '\\'
            )
        }) {
            return Err(format!(
                "invalid character {} in host name",
                quote(&bad.to_string())
            ));
        }
        escapes(path)?;
        escapes(fragment)?;
        Ok(Self {
            scheme,
            host,
            user,
            query,
            fragment,
        })
    }
}

/// The scheme in lower case, and what follows its colon.
fn scheme(text: &str) -> Result<(String, &str), String> {
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((text[..i].to_lowercase(), &text[i + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

/// After the last colon of a host that is no bracket's, only digits.
fn port(host: &str) -> Result<(), String> {
    let after = match host.rsplit_once(']') {
        Some((_, after)) => after,
        None if host.starts_with('[') => return Err("missing ']' in host".into()),
        None => host.find(':').map_or("", |i| &host[i..]),
    };
    let digits = after.strip_prefix(':').unwrap_or(after);
    let bad = digits.bytes().any(|b| !b.is_ascii_digit()) || (after == digits && !after.is_empty());
    if bad {
        return Err(format!("invalid port {} after host", quote(after)));
    }
    Ok(())
}

fn escapes(text: &str) -> Result<(), String> {
    for (i, _) in text.match_indices('%') {
        let escape = text.get(i..i + 3);
        let hex = |e: &str| e[1..].bytes().all(|b| b.is_ascii_hexdigit());
        if !escape.is_some_and(hex) {
            let shown: String = text[i..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", quote(&shown)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::Value;

    use super::*;

    fn found(check: impl FnOnce(&mut Errors<'_>, Spot<'_>)) -> Vec<String> {
        let root = Value::object();
        let mut errors = Errors::new(&root);
        check(&mut errors, Spot::node(&root).field(n::URL));
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_url_has_host_and_path_alone() {
        for (text, problems) in [
            ("https://example.com/a/b", &[][..]),
            ("https://[::1]:8443/x", &[]),
            (
                "http://a",
                &[
                    "url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ],
            ),
            (
                "https:///x",
                &[
                    "url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
                ],
            ),
            (
                "https://u:p@h",
                &["url: Invalid value: \"u:p\": user information is not permitted in the URL"],
            ),
            (
                "https://h/?a=b",
                &["url: Invalid value: \"a=b\": query parameters are not permitted in the URL"],
            ),
            (
                "https://h/#f",
                &["url: Invalid value: \"f\": fragments are not permitted in the URL"],
            ),
            (
                "https://h:x/",
                &[
                    "url: Required value: url must be a valid URL: parse \"https://h:x/\": invalid port \":x\" after host; desired format: https://host[/path]",
                ],
            ),
        ] {
            assert_eq!(found(|e, at| url(e, at, text)), problems, "{text}");
        }
        assert_eq!(found(|e, at| url(e, at, "")).len(), 2, "no scheme, no host");
    }

    #[test]
    fn a_path_is_made_of_names() {
        for (text, problems) in [
            ("", 0),
            ("/", 0),
            ("/a/b/", 0),
            ("//", 1),
            ("/a//b", 1),
            ("a", 2),
            ("/A", 1),
        ] {
            assert_eq!(found(|e, at| path(e, at, text)).len(), problems, "{text}");
        }
    }
}

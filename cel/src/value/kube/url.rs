//! URLs, as Go's `net/url` reads them.

use std::collections::BTreeMap;

use super::super::quote;

/// A URL that Go's `ParseRequestURI` and `Parse` take.
#[derive(Clone, Debug)]
pub struct Url {
    scheme: String,
    opaque: String,
    /// As written, before the `@`.
    user: Option<String>,
    host: Vec<u8>,
    has_authority: bool,
    /// Escaped.
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

/// Where a character stands decides whether it must be escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Query,
    User,
}

impl Url {
    /// A URL, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::check(text)?;
        let (text, fragment) = match text.split_once('#') {
            Some((text, fragment)) => (text, Some(fragment.to_owned())),
            None => (text, None),
        };
        let parsed = Self::read(text, false);
        let parsed = parsed.map_err(|why| format!("parse {}: {why}", quote(text)))?;
        Ok(Self { fragment, ..parsed })
    }

    /// Whether it could be the target of a request.
    pub(crate) fn check(text: &str) -> Result<(), String> {
        let read = Self::read(text, true);
        read.map(drop)
            .map_err(|why| format!("parse {}: {why}", quote(text)))
    }

    fn read(text: &str, is_request: bool) -> Result<Self, String> {
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("net/url: invalid control character in URL".into());
        }
        if text.is_empty() && is_request {
            return Err("empty url".into());
        }
        let mut url = Self {
            scheme: String::new(),
            opaque: String::new(),
            user: None,
            host: Vec::new(),
            has_authority: false,
            path: String::new(),
            query: None,
            fragment: None,
        };
        if text == "*" {
            url.path = "*".into();
            return Ok(url);
        }
        let (scheme, rest) = scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (mut rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        url.query = query;
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                return Ok(url);
            }
            if is_request {
                return Err("invalid URI for request".into());
            }
            if rest.split('/').next().is_some_and(|s| s.contains(':')) {
                return Err("first path segment in URL cannot contain colon".into());
            }
        }
        let may_have_authority =
            !url.scheme.is_empty() || (!is_request && !rest.starts_with("///"));
        if may_have_authority && let Some(behind) = rest.strip_prefix("//") {
            let end = behind.find('/').unwrap_or(behind.len());
            let (authority, path) = behind.split_at(end);
            rest = path;
            url.has_authority = true;
            (url.user, url.host) = read_authority(authority)?;
        }
        let path = unescape(rest, Part::Path)?;
        let escaped = escape(&path);
        url.path = if escaped == rest || !is_escaped(rest) {
            escaped
        } else {
            rest.to_owned()
        };
        Ok(url)
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    pub(crate) fn host(&self) -> String {
        String::from_utf8_lossy(&self.host).into_owned()
    }

    /// The host without port and brackets, and the port.
    pub(crate) fn host_and_port(&self) -> (String, String) {
        let host = self.host();
        let mut name = host.as_str();
        let mut port = "";
        if let Some(colon) = name.rfind(':')
            && is_port(&name[colon..])
        {
            port = &name[colon + 1..];
            name = &name[..colon];
        }
        if let Some(inner) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            name = inner;
        }
        (name.to_owned(), port.to_owned())
    }

    pub(crate) fn escaped_path(&self) -> &str {
        &self.path
    }

    /// The query's values by their names; what is malformed is left out.
    pub(crate) fn query(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in self.query.iter().flat_map(|query| query.split('&')) {
            if pair.is_empty() || pair.contains(';') {
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Ok(key), Ok(value)) = (unescape(key, Part::Query), unescape(value, Part::Query))
            {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                found.entry(text(key)).or_default().push(text(value));
            }
        }
        found
    }

    /// The whole of it again, in the form by which two are compared.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            if self.has_authority {
                out.push_str("//");
                if let Some(user) = &self.user {
                    out.push_str(user);
                    out.push('@');
                }
                out.push_str(&self.host());
            }
            out.push_str(&self.path);
        } else {
            out.push_str(&self.opaque);
        }
        if let Some(query) = &self.query {
            out.push('?');
            out.push_str(query);
        }
        if let Some(fragment) = self.fragment.as_deref().filter(|f| !f.is_empty()) {
            out.push('#');
            out.push_str(fragment);
        }
        out
    }
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.bytes().enumerate() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// User and host of `user@host:port`.
fn read_authority(text: &str) -> Result<(Option<String>, Vec<u8>), String> {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    let host = read_host(host)?;
    if let Some(user) = user {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if !user.chars().all(fits) {
            return Err("net/url: invalid userinfo".into());
        }
        unescape(user, Part::User)?;
    }
    Ok((user.map(str::to_owned), host))
}

fn read_host(host: &str) -> Result<Vec<u8>, String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |colon| &host[colon..])
    };
    if !is_port(port) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    unescape(host, Part::Host)
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => text.is_empty(),
    }
}

fn must_escape(c: u8, part: Part) -> bool {
    match c {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => false,
        b'!' | b'\'' | b'(' | b')' | b'*' | b'[' | b']' | b'<' | b'>' | b'"' => part != Part::Host,
        b'$' | b'&' | b'+' | b',' | b';' | b'=' | b':' => false,
        b'/' | b'@' => part == Part::Host,
        _ => true,
    }
}

/// Whether a path may stand as it is written.
fn is_escaped(path: &str) -> bool {
    path.bytes().all(|c| match c {
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
        | b'@' | b'[' | b']' | b'%' => true,
        c => !must_escape(c, Part::Path),
    })
}

fn escape(path: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(path.len());
    for c in path {
        if must_escape(*c, Part::Path) {
            out.push('%');
            out.push(char::from(HEX[usize::from(c >> 4)]));
            out.push(char::from(HEX[usize::from(c & 15)]));
        } else {
            out.push(char::from(*c));
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(c) = bytes.get(at) {
        match c {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3);
                let value = digits
                    .and_then(|d| std::str::from_utf8(d).ok())
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                let shown = || {
                    let end = (at + 3).min(bytes.len());
                    let shown = String::from_utf8_lossy(&bytes[at..end]).into_owned();
                    format!("invalid URL escape {}", quote(&shown))
                };
                let value = value.ok_or_else(shown)?;
                if part == Part::Host && value < 0x80 && value != b'%' {
                    return Err(shown());
                }
                out.push(value);
                at += 3;
            }
            b'+' if part == Part::Query => {
                out.push(b' ');
                at += 1;
            }
            c => {
                if part == Part::Host && *c < 0x80 && must_escape(*c, part) {
                    return Err(format!(
                        "invalid character {} in host name",
                        quote(&char::from(*c).to_string())
                    ));
                }
                out.push(*c);
                at += 1;
            }
        }
    }
    Ok(out)
}

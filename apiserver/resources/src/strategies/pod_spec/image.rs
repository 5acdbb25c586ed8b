//! References to images, as far as defaults depend on them.
//!
//! Upstream: `pkg/util/parsers`, `distribution/reference`.

/// An alias of the default registry's name and that name.
const INDEX: &str = "index.docker.io";
const DEFAULT: &str = "docker.io";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// A moving tag is pulled always, a fixed one if it is not there. Who reads it has no idea what is right for
/// something that is no reference.
#[must_use]
pub fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// The tag of a reference: `latest` if it has neither tag nor digest, none if it is no reference.
#[must_use]
pub(super) fn tag(image: &str) -> Option<&str> {
    let is_identifier = image.len() == 64
        && image
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (domain, rest) = split_domain(image);
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    // The default registry has a place for names without one.
    let implied = domain == DEFAULT && !path.contains('/');
    let length = path.len() + if implied { "library/".len() } else { 0 };
    let sound = !is_identifier
        && is_domain(domain)
        && length <= MAX_PATH
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !sound {
        return None;
    }
    match (tag, digest) {
        (None, None) => Some("latest"),
        (tag, _) => Some(tag.unwrap_or_default()),
    }
}

fn split_domain(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (if first == INDEX { DEFAULT } else { first }, rest)
        }
        _ => (DEFAULT, image),
    }
}

/// A host and perhaps its port.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return false;
        };
        let hex = |b: u8| b.is_ascii_hexdigit() || b == b':';
        return !address.is_empty()
            && address.bytes().all(hex)
            && (rest.is_empty() || rest.strip_prefix(':').is_some_and(port));
    }
    match domain.split_once(':') {
        Some((host, number)) => host.split('.').all(label) && port(number),
        None => domain.split('.').all(label),
    }
}

/// Small letters and digits, with a dot, one or two underscores or any dashes between them.
fn is_component(component: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = component.split(plain).filter(|s| !s.is_empty());
    component.starts_with(plain) && component.ends_with(plain) && { separators }
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=MAX_TAG).contains(&tag.len())
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
        && tag.bytes().next().is_some_and(word)
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hash)) = digest.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hash.len() == length && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_not_a_port() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (image, expected) in [
            ("nginx", Some("latest")),
            ("nginx:1.27", Some("1.27")),
            ("registry:5000/nginx", Some("latest")),
            ("registry:5000/nginx:2", Some("2")),
            ("[fd00::1]:5000/nginx:2", Some("2")),
            ("localhost/a/b__c", Some("latest")),
            ("Registry/a", Some("latest")),
            (&format!("nginx@{digest}"), Some("")),
            (&format!("nginx:1@{digest}"), Some("1")),
            ("nginx@sha256:abc", None),
            ("", None),
            ("Nginx", None),
            ("a b", None),
            ("a/B", None),
            ("a..b", None),
            ("a:", None),
            (&"0".repeat(64), None),
        ] {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}

//! The formats of strings that declarative validation knows: `apimachinery/pkg/api/validate/strfmt.go`.

use proto::meta::names;

use super::check::Finding;

/// What is wrong with a string.
pub(super) type Format = fn(&str) -> Vec<Finding>;

const FORMATS: [(&str, Format); 11] = [
    ("short-name", |s| invalid(s, names::short_name_problems(s))),
    ("long-name", |s| invalid(s, names::long_name_problems(s))),
    ("long-name-caseless", |s| {
        invalid(s, names::long_name_caseless_problems(s))
    }),
    ("label-key", |s| invalid(s, names::label_key_problems(s))),
    ("prefixed-label-key", |s| {
        invalid(s, names::prefixed_label_key_problems(s))
    }),
    ("label-value", |s| {
        invalid(s, names::label_value_problems(s))
    }),
    ("path-segment-name", |s| {
        invalid(s, names::path_segment_problems(s))
    }),
    ("uuid", uuid),
    ("resource-pool-name", pool_name),
    ("resource-fully-qualified-name", fully_qualified_name),
    ("extended-resource-name", extended_resource_name),
];

pub(super) fn find(name: &str) -> Option<Format> {
    let mut formats = FORMATS.iter();
    formats.find(|(known, _)| *known == name).map(|(_, f)| *f)
}

fn invalid(value: &str, problems: Vec<String>) -> Vec<Finding> {
    let problems = problems.into_iter();
    problems.map(|p| Finding::invalid(value, p)).collect()
}

fn uuid(value: &str) -> Vec<Finding> {
    let fits = |(i, b): (usize, u8)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
    };
    if value.len() == 36 && value.bytes().enumerate().all(fits) {
        return Vec::new();
    }
    let detail = "must be a lowercase UUID in 8-4-4-4-12 format";
    vec![Finding::invalid(value, detail)]
}

/// Subdomains between slashes.
fn pool_name(value: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if value.len() > 253 {
        found.push(Finding::too_long(253));
    }
    for (i, part) in value.split('/').enumerate() {
        if part.is_empty() {
            let detail = format!("segment {i}: must not be empty");
            found.push(Finding::invalid(value, detail));
        }
        let problems = names::long_name_problems(part).into_iter();
        let told = problems.filter(|_| !part.is_empty());
        found.extend(told.map(|p| Finding::invalid(part, format!("segment {i}: {p}"))));
    }
    found
}

/// A domain and an identifier of the language C.
fn fully_qualified_name(value: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    match parts[..] {
        [id] => found.extend(identifier(id)),
        [domain, id] => {
            if domain.is_empty() {
                found.push(Finding::invalid("", "prefix must not be empty"));
            } else {
                if domain.len() > 63 {
                    found.push(Finding::too_long(63));
                }
                let problems = names::long_name_problems(domain).into_iter();
                found.extend(problems.map(|p| Finding::invalid(domain, format!("prefix: {p}"))));
            }
            if id.is_empty() {
                found.push(Finding::invalid("", "name must not be empty"));
            } else {
                found.extend(identifier(id));
            }
        }
        _ => {}
    }
    if !value.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        found.push(Finding::invalid(value, detail));
    }
    found
}

fn identifier(id: &str) -> Vec<Finding> {
    const LONGEST: usize = 32;
    let mut found = Vec::new();
    if id.len() > LONGEST {
        found.push(Finding::too_long(LONGEST));
    }
    found.extend(invalid(id, names::c_identifier_problems(id)));
    found
}

/// A resource that a plugin counts, of which there may be quotas.
fn extended_resource_name(value: &str) -> Vec<Finding> {
    let mut problems = Vec::new();
    if !value.contains('/') {
        let rule = "a name must be a domain-prefixed path, such as 'example.com/my-prop'";
        problems.push(rule.to_owned());
    } else if value.contains("kubernetes.io/") {
        problems.push("must not have \"kubernetes.io/\" domain".to_owned());
    }
    if value.starts_with("requests.") {
        problems.push("must not have \"requests.\" prefix".to_owned());
    }
    problems.extend(names::label_key_problems(&format!("requests.{value}")));
    invalid(value, problems)
}

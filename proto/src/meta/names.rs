//! What names, keys and other short texts may look like.
//!
//! Each function answers with the problems of a text, none if it is valid, in the words of upstream's
//! `apimachinery/pkg/util/validation` and `pkg/api/validate/content`: clients see them in a `Status`.
//! Regular expressions occur in the texts only; what is checked is spelled out.

/// What a resource asks of its names: the problems of a name, or (second argument) of a prefix to which
/// a generated suffix will be appended.
pub type NameCheck = fn(&str, bool) -> Vec<String>;

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Names of most resources.
#[must_use]
pub fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    dns_subdomain_problems(&masked(name, prefix))
}

/// Names of namespaces, services (KEP-5311) and others that become part of a host name.
#[must_use]
pub fn label_name(name: &str, prefix: bool) -> Vec<String> {
    dns_label_problems(&masked(name, prefix))
}

/// Names of what had to be a label of RFC 1035; services had before 1.37.
#[must_use]
pub fn dns_1035_label_name(name: &str, prefix: bool) -> Vec<String> {
    dns_1035_label_problems(&masked(name, prefix))
}

/// Names that need only fit a URL: RBAC, and all names of objects that exist already.
#[must_use]
pub fn path_segment_name(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        path_segment_prefix_problems(name)
    } else {
        path_segment_problems(name)
    }
}

/// A prefix may end in a dash, which stands for what follows. As upstream, this takes the character
/// before the dash away too.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let end = rest.char_indices().next_back().map_or(0, |(i, _)| i);
            format!("{}a", &rest[..end]).into()
        }
        _ => name.into(),
    }
}

/// A DNS label of RFC 1123.
#[must_use]
pub fn dns_label_problems(value: &str) -> Vec<String> {
    dns_label(value, "characters")
}

/// A DNS subdomain of RFC 1123.
#[must_use]
pub fn dns_subdomain_problems(value: &str) -> Vec<String> {
    dns_subdomain(value, "characters")
}

/// The format `k8s-short-name` of declarative validation: [`dns_label_problems`] with other words.
#[must_use]
pub fn short_name_problems(value: &str) -> Vec<String> {
    dns_label(value, "bytes")
}

/// The format `k8s-long-name` of declarative validation: [`dns_subdomain_problems`] with other words.
#[must_use]
pub fn long_name_problems(value: &str) -> Vec<String> {
    dns_subdomain(value, "bytes")
}

/// The format `k8s-long-name-caseless` of declarative validation.
#[must_use]
pub fn long_name_caseless_problems(value: &str) -> Vec<String> {
    let rule = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    let mut problems = too_long(value, 253, "bytes");
    if !is_subdomain(&value.to_ascii_lowercase()) {
        problems.push(regex(rule, DNS_SUBDOMAIN, &["Example.com"]));
    }
    problems
}

fn dns_label(value: &str, unit: &str) -> Vec<String> {
    let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
    let mut problems = too_long(value, 63, unit);
    if !is_label(value) {
        let dots = is_subdomain(value);
        let regex = || regex(rule, DNS_LABEL, &["my-name", "123-abc"]);
        problems.push(if dots {
            "must not contain dots".into()
        } else {
            regex()
        });
    }
    problems
}

fn dns_subdomain(value: &str, unit: &str) -> Vec<String> {
    let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    let mut problems = too_long(value, 253, unit);
    if !is_subdomain(value) {
        problems.push(regex(rule, DNS_SUBDOMAIN, &["example.com"]));
    }
    problems
}

/// A DNS subdomain whose labels may have underscores.
#[must_use]
pub fn dns_subdomain_with_underscore_problems(value: &str) -> Vec<String> {
    let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
    let format = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let label = |l: &str| {
        framed(l.strip_prefix('_').unwrap_or(l), is_lower, |b| {
            is_lower(b) || matches!(b, b'-' | b'_')
        })
    };
    let mut problems = too_long(value, 253, "characters");
    if !value.split('.').all(label) {
        problems.push(regex(rule, format, &["example.com"]));
    }
    problems
}

/// A DNS label of RFC 1035: it starts with a letter.
#[must_use]
pub fn dns_1035_label_problems(value: &str) -> Vec<String> {
    let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    let mut problems = too_long(value, 63, "characters");
    if !is_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(regex(
            rule,
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// `*.` and a DNS subdomain.
#[must_use]
pub fn wildcard_dns_subdomain_problems(value: &str) -> Vec<String> {
    let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let mut problems = too_long(value, 253, "characters");
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        problems.push(regex(
            rule,
            &format!(r"\*\.{DNS_SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    problems
}

/// A label key, which upstream also calls a qualified name: an optional DNS subdomain and `/`, then a
/// name of at most 63 bytes. Annotations, finalizers, condition types and resource names follow it too.
#[must_use]
pub fn label_key_problems(value: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut problems = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(prefix), Some(name), None) => {
            let prefixed = |p: String| format!("prefix part {p}");
            if prefix.is_empty() {
                problems.push(prefixed("must be non-empty".into()));
            } else {
                problems.extend(long_name_problems(prefix).into_iter().map(prefixed));
            }
            name
        }
        (Some(name), None, _) => name,
        _ => {
            let rule = regex(LABEL_KEY_RULE, LABEL_KEY, &examples);
            let optional =
                "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {rule} {optional}")];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    }
    problems.extend(
        too_long(name, 63, "bytes")
            .into_iter()
            .map(|p| format!("name part {p}")),
    );
    if !is_label_name(name) {
        problems.push(format!(
            "name part {}",
            regex(LABEL_KEY_RULE, LABEL_KEY, &examples)
        ));
    }
    problems
}

/// A label key that must have its prefix.
#[must_use]
pub fn prefixed_label_key_problems(value: &str) -> Vec<String> {
    let mut problems = label_key_problems(value);
    if problems.is_empty() && !value.contains('/') {
        problems.push("must include a prefix (e.g. 'example.com/key')".into());
    }
    problems
}

/// A label value: empty, or like the name of a label key.
#[must_use]
pub fn label_value_problems(value: &str) -> Vec<String> {
    let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let mut problems = too_long(value, 63, "bytes");
    if !value.is_empty() && !is_label_name(value) {
        problems.push(regex(
            rule,
            &format!("({LABEL_KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// What may stand between two slashes of a URL and of a key in etcd.
#[must_use]
pub fn path_segment_problems(name: &str) -> Vec<String> {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => path_segment_prefix_problems(name),
    }
}

/// The same for the beginning of a name.
#[must_use]
pub fn path_segment_prefix_problems(name: &str) -> Vec<String> {
    ["/", "%"]
        .into_iter()
        .filter(|c| name.contains(c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// A name of the language C: names of environment variables in some places.
#[must_use]
pub fn c_identifier_problems(value: &str) -> Vec<String> {
    let rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let digit = value.starts_with(|c: char| c.is_ascii_digit());
    if !value.is_empty() && !digit && value.bytes().all(word) {
        return Vec::new();
    }
    vec![regex(
        rule,
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of a port (RFC 6335, in lower case).
#[must_use]
pub fn port_name_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 15, "characters");
    let mut check = |ok: bool, problem: &str| {
        if !ok {
            problems.push(problem.to_owned());
        }
    };
    let charset = !value.is_empty() && value.bytes().all(|b| is_lower(b) || b == b'-');
    check(
        charset,
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    check(
        value.bytes().any(|b| b.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    check(
        !value.contains("--"),
        "must not contain consecutive hyphens",
    );
    check(
        !value.starts_with('-') && !value.ends_with('-'),
        "must not begin or end with a hyphen",
    );
    problems
}

/// A port other than 0.
#[must_use]
pub fn port_number_problems(port: i64) -> Vec<String> {
    range_problems(port, 1, 65_535)
}

/// A user or group id: 31 bits, as container runtimes take them.
#[must_use]
pub fn id_problems(id: i64) -> Vec<String> {
    range_problems(id, 0, i64::from(i32::MAX))
}

/// An inclusive range.
#[must_use]
pub fn range_problems(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) {
        Vec::new()
    } else {
        vec![format!("must be between {min} and {max}, inclusive")]
    }
}

/// Digits and a percent sign.
#[must_use]
pub fn percent_problems(value: &str) -> Vec<String> {
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    let valid = value
        .strip_suffix('%')
        .is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    if valid {
        Vec::new()
    } else {
        vec![regex(rule, "[0-9]+%", &["1%", "93%"])]
    }
}

/// A header of HTTP, more narrowly than RFC 7230 has it.
#[must_use]
pub fn http_header_name_problems(value: &str) -> Vec<String> {
    let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
    let valid = !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if valid {
        Vec::new()
    } else {
        vec![regex(rule, "[-A-Za-z0-9]+", &["X-Header-Name"])]
    }
}

/// A key of a ConfigMap or a Secret: it becomes the name of a file.
#[must_use]
pub fn config_map_key_problems(value: &str) -> Vec<String> {
    let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let mut problems = too_long(value, 253, "characters");
    if value.is_empty() || !value.bytes().all(is_label_byte) {
        problems.push(regex(
            rule,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    problems.extend(parent_directory_problem(value));
    problems
}

/// The name of an environment variable, as it was checked before 1.30.
#[must_use]
pub fn env_var_name_problems(value: &str) -> Vec<String> {
    let rule = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
    let mut problems = Vec::new();
    let digit = value.starts_with(|c: char| c.is_ascii_digit());
    if value.is_empty() || digit || !value.bytes().all(is_label_byte) {
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        problems.push(regex(rule, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples));
    }
    problems.extend(parent_directory_problem(value));
    problems
}

/// The name of an environment variable: printable ASCII without `=`.
#[must_use]
pub fn relaxed_env_var_name_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.is_empty() {
        problems.push("environment variable name must be non-empty".to_owned());
    }
    if !value
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    {
        let rule = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        problems.push(rule.to_owned());
    }
    problems
}

/// The reason of a condition; its length is checked elsewhere.
#[must_use]
pub fn condition_reason_problems(value: &str) -> Vec<String> {
    let rule = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let letter = value.starts_with(|c: char| c.is_ascii_alphabetic());
    if letter && framed(value, word, |b| word(b) || matches!(b, b',' | b':')) {
        return Vec::new();
    }
    let examples = [
        "my_name",
        "MY_NAME",
        "MyName",
        "ReasonA,ReasonB",
        "ReasonA:ReasonB",
    ];
    vec![regex(
        rule,
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &examples,
    )]
}

fn parent_directory_problem(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// The rule, examples of what keeps it, and the regular expression behind it.
#[must_use]
pub fn regex(rule: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{rule} (regex used for validation is '{format}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{rule} (e.g. {}regex used for validation is '{format}')",
        examples.join(" or ")
    )
}

fn too_long(value: &str, max: usize, unit: &str) -> Vec<String> {
    if value.len() > max {
        vec![format!("must be no more than {max} {unit}")]
    } else {
        Vec::new()
    }
}

/// Not empty, first and last byte of one set, the others of a wider one.
fn framed(text: &str, end: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [one] => end(*one),
        [first, middle @ .., last] => end(*first) && end(*last) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

fn is_label(text: &str) -> bool {
    framed(text, is_lower, |b| is_lower(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_label_name(text: &str) -> bool {
    framed(text, |b| b.is_ascii_alphanumeric(), is_label_byte)
}

#[cfg(test)]
mod tests;

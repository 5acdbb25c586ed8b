//! Names of fields that are no names in expressions: `apiserver/pkg/cel/escaping.go`.
//!
//! `a.b-c/d` is written `a__dot__b__dash__c__slash__d`, two underscores `__underscores__`, and a word
//! of the language is written between them: `__namespace__`.

use std::borrow::Cow;

/// Words that are no names (`reservedIds` of cel-go's `parser/parser.go`).
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether the language has the word for itself.
#[must_use]
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// How a field is written in an expression; none if it cannot be.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let mut len = 1;
        match c {
            '_' if rest.starts_with("__") => {
                out.push_str("__underscores__");
                len = 2;
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => out.push(c),
            _ => return None,
        }
        rest = &rest[len..];
    }
    Some(out)
}

/// The field that is meant by what an expression says; none if nothing escapes to it.
#[must_use]
pub fn unescape(escaped: &str) -> Option<Cow<'_, str>> {
    // Hardly any name has to be changed, and every field that is read passes here.
    if !escaped.contains("__") {
        return Some(Cow::Borrowed(escaped));
    }
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(start) = rest.find("__") {
        // Two underscores, at least one other character, two underscores.
        let inside = &rest[start + 2..];
        let len = inside.find('_').unwrap_or(inside.len());
        if len == 0 || !inside[len..].starts_with("__") {
            out.push_str(&rest[..=start]);
            rest = &rest[start + 1..];
            continue;
        }
        let word = &inside[..len];
        out.push_str(&rest[..start]);
        rest = &inside[len + 2..];
        match word {
            "underscores" => out.push_str("__"),
            "dot" => out.push('.'),
            "dash" => out.push('-'),
            "slash" => out.push('/'),
            _ if is_reserved(word) && word.len() + 4 == escaped.len() => {
                out.push_str(word);
            }
            _ => return None,
        }
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts of upstream's `escaping_test.go`.
    #[test]
    fn names_escape_and_come_back() {
        for (name, escaped) in [
            ("a", Some("a")),
            ("a.a", Some("a__dot__a")),
            ("CamelCase", Some("CamelCase")),
            ("lower_case", Some("lower_case")),
            ("a__b", Some("a__underscores__b")),
            ("a____b", Some("a__underscores____underscores__b")),
            ("a__dot__b", Some("a__underscores__dot__underscores__b")),
            ("a-b/c", Some("a__dash__b__slash__c")),
            ("namespace", Some("__namespace__")),
            ("int", Some("int")),
            ("_if", Some("_if")),
            ("0a", None),
            ("", None),
            ("a$b", None),
            ("ä", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
            if let Some(escaped) = escaped {
                assert_eq!(unescape(escaped).as_deref(), Some(name), "{escaped}");
            }
        }
    }

    #[test]
    fn what_is_no_escape_is_refused_or_left() {
        assert_eq!(unescape("__unknown__"), None);
        assert_eq!(unescape("a__if__"), None);
        assert_eq!(unescape("a_b"), Some("a_b".into()));
        assert_eq!(unescape("__illegal"), Some("__illegal".into()));
        assert_eq!(unescape("____dot__"), Some("__.".into()));
    }
}

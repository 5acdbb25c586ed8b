//! Paths to fields, as definitions write them: `.spec.a['b.c']` (`ValidFieldPath` of `schema/cel`).

use super::Schema;
use proto::path::{push_field, push_key};

/// A path that leads somewhere.
#[derive(Clone, Debug)]
pub struct FieldPath<'s> {
    /// As upstream writes it: `spec.a[b.c]`.
    pub text: String,
    /// Its first step.
    pub root: String,
    /// What stands there; nothing is known of entries of maps that may hold anything.
    pub schema: Option<&'s Schema>,
}

impl Schema {
    /// Follows a path of names after dots and, where `brackets` are allowed, of quoted names in them.
    /// The empty path is the value itself.
    ///
    /// # Errors
    /// Why it leads nowhere.
    pub fn follow(&self, path: &str, brackets: bool) -> Result<FieldPath<'_>, String> {
        const END: &str = "unexpected end of JSON path";
        let mut tokens = Tokens(path);
        let mut found = FieldPath {
            text: String::new(),
            root: String::new(),
            schema: Some(self),
        };
        while let Some(token) = tokens.next() {
            match token {
                "[" if !brackets => return Err("array notation is not allowed".into()),
                "[" => {
                    let token = tokens.next().ok_or(END)?;
                    let quoted = token.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
                    let quoted = quoted
                        .ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                    found.step(&unescape(quoted)?)?;
                    match tokens.next().ok_or(END)? {
                        "]" => {}
                        other => return Err(format!("expected ] but got {other}")),
                    }
                }
                "." => found.step(tokens.next().ok_or(END)?)?,
                other => return Err(format!("expected [ or . but got: {other}")),
            }
        }
        Ok(found)
    }
}

impl FieldPath<'_> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        const NOWHERE: &str = "does not refer to a valid field";
        let schema = self.schema.ok_or(NOWHERE)?;
        if schema.properties.is_empty() {
            if schema.additional.is_absent() {
                return Err(NOWHERE.into());
            }
            push_key(&mut self.text, name);
            self.schema = schema.additional.schema().map(|s| &**s);
        } else {
            push_field(&mut self.text, name);
            self.schema = Some(schema.property(name).ok_or(NOWHERE)?);
        }
        if self.root.is_empty() {
            self.root.clone_from(&self.text);
        }
        Ok(())
    }
}

/// Dots, brackets, texts in single quotes, and what is between them.
struct Tokens<'p>(&'p str);

impl<'p> Iterator for Tokens<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let bytes = self.0.as_bytes();
        let len = match bytes.first()? {
            b'\'' => (1..bytes.len())
                .find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\')
                .map_or(bytes.len(), |i| i + 1),
            b'.' | b'[' | b']' => 1,
            _ => self.0.find(['.', '[', ']']).unwrap_or(bytes.len()),
        };
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(token)
    }
}

/// A text in single quotes, without them.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut wrong = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(c @ ('\'' | '\\')) => out.push(c),
            // A backslash at the end, or before a line's, escapes nothing.
            None => out.push('\\'),
            Some('\n') => out.push_str("\\\n"),
            Some(other) => wrong = Some(other),
        }
    }
    match wrong {
        None => Ok(out),
        Some(c) => Err(format!("invalid string literal: invalid escape char \\{c}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let json = br#"{"type":"object","properties":{"spec":{"type":"object","properties":{
            "a.b":{"type":"string"},"list":{"type":"array","items":{"type":"string"}},
            "map":{"type":"object","additionalProperties":{"type":"integer"}},
            "any":{"type":"object","additionalProperties":true}}}}}"#;
        Schema::new(&proto::codec::json::parse(json).unwrap()).unwrap()
    }

    #[test]
    fn a_path_leads_to_fields_and_entries() {
        for (path, found) in [
            (".spec", "spec"),
            (".spec['a.b']", "spec.a.b"),
            (".spec.map.k", "spec.map[k]"),
            ("['spec'].map['it\\'s']", "spec.map[it's]"),
            (".spec.any.k", "spec.any[k]"),
        ] {
            assert_eq!(schema().follow(path, true).unwrap().text, found, "{path}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_told() {
        for (path, brackets, told) in [
            ("spec", true, "expected [ or . but got: spec"),
            (".", true, "unexpected end of JSON path"),
            (".spec.b", true, "does not refer to a valid field"),
            (".spec.list.b", true, "does not refer to a valid field"),
            (".spec.any.k.l", true, "does not refer to a valid field"),
            (".spec['a.b']", false, "array notation is not allowed"),
            (".spec[0]", true, "expected single quoted string but got 0"),
            (".spec['map'", true, "unexpected end of JSON path"),
            (".spec['map'.", true, "expected ] but got ."),
            (
                ".spec['\\q']",
                true,
                "invalid string literal: invalid escape char \\q",
            ),
        ] {
            assert_eq!(schema().follow(path, brackets).unwrap_err(), told, "{path}");
        }
    }
}

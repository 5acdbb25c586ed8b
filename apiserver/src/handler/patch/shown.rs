//! Patches and what they made of an object, as refusals of upstream's show them.

use std::fmt::Write;

use proto::{Value, codec};

/// What is wrong with the result of a strategic patch, which upstream does not decode as JSON (`runtime/converter.go`): lists,
/// maps and objects are told in other words.
pub(super) fn restored(why: &str) -> String {
    let told = || {
        let rest = why.strip_prefix("json: cannot unmarshal ")?;
        let (given, rest) = rest.split_once(" into Go ")?;
        let (_, wanted) = rest.rsplit_once(" of type ")?;
        let given = match given {
            "array" => "slice",
            "object" => "map",
            "number" => "int64",
            other => other,
        };
        if wanted.starts_with("[]") {
            Some(format!("cannot restore slice from {given}"))
        } else if wanted.starts_with("map[") {
            Some(format!("cannot restore map from {given}"))
        } else if wanted.contains('.') {
            Some(format!("cannot restore struct from: {given}"))
        } else {
            None
        }
    };
    told().unwrap_or_else(|| why.to_owned())
}

/// A value as Go prints it (`%+v`).
pub(super) fn go(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(" ");
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.to_string(),
        Value::List(items) => format!("[{}]", joined(items.iter().map(go).collect())),
        Value::Map(map) => {
            let pair = |(name, value): (&proto::Name, &Value)| {
                let mut out = String::new();
                let _ = write!(out, "{}:{}", name.as_str(), go(value));
                out
            };
            format!("map[{}]", joined(map.iter().map(pair).collect()))
        }
        other => {
            let mut json = Vec::new();
            codec::json::write(other, &mut json);
            String::from_utf8_lossy(&json).into_owned()
        }
    }
}

/// A patched document: what was patched has its keys in order, the rest stands as it did in `before`
/// (`evanphx/json-patch`, whose nodes are raw until they are looked into).
pub(super) fn patched(document: &Value, before: &[u8]) -> String {
    let mut out = Vec::with_capacity(before.len() + 64);
    print(document, Some(before), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn print(value: &Value, before: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(raw) = before
        && codec::json::parse(raw).is_ok_and(|was| was == *value)
    {
        out.extend_from_slice(raw);
        return;
    }
    match value {
        Value::Map(map) => {
            let members = before.map(members).unwrap_or_default();
            let mut names: Vec<(&str, &Value)> = map.iter().map(|(n, v)| (n.as_str(), v)).collect();
            names.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (index, (name, value)) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let mut key = Vec::new();
                codec::json::write(&name.into(), &mut key);
                let was = members.iter().find(|(of, _)| *of == &*key);
                out.extend_from_slice(&key);
                out.push(b':');
                print(value, was.map(|(_, raw)| *raw), out);
            }
            out.push(b'}');
        }
        Value::List(items) => {
            let members = before.map(elements).unwrap_or_default();
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                print(item, members.get(index).copied(), out);
            }
            out.push(b']');
        }
        other => codec::json::write(other, out),
    }
}

/// The members of an object that was written without spaces, each with its name as it stands.
fn members(object: &[u8]) -> Vec<(&[u8], &[u8])> {
    let pair = |member| {
        let end = cut(member, b':').map_or(member.len(), <[u8]>::len);
        (&member[..end], member.get(end + 1..).unwrap_or_default())
    };
    inside(object, b'{').into_iter().map(pair).collect()
}

fn elements(list: &[u8]) -> Vec<&[u8]> {
    inside(list, b'[')
}

/// What stands between the commas of a list or an object; nothing if it is another value.
fn inside(value: &[u8], opening: u8) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let Some((first, rest)) = value.split_first() else {
        return all;
    };
    if *first != opening || rest.len() < 2 {
        return all;
    }
    let mut rest = &rest[..rest.len() - 1];
    while let Some(member) = cut(rest, b',') {
        all.push(member);
        rest = &rest[member.len() + 1..];
    }
    all.push(rest);
    all
}

/// What stands before the first such mark that is in no text, list or object.
fn cut(json: &[u8], mark: u8) -> Option<&[u8]> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            byte if *byte == mark && depth == 0 => return Some(&json[..at]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Value {
        codec::json::parse(json.as_bytes()).expect("the test's JSON is valid")
    }

    #[test]
    fn what_was_not_patched_stands_as_it_did() {
        let before = r#"{"kind":"A","meta":{"z":"},\"","a":[{"y":1,"b":2},{"y":1,"b":2}]},"apiVersion":"v1"}"#;
        let whole = parse(before);
        assert_eq!(patched(&whole, before.as_bytes()), before);
        let new = parse(
            r#"{"apiVersion":"v1","kind":"A","extra":1,"meta":{"a":[{"b":2,"y":1},{"b":3,"y":1}],"z":"},\""}}"#,
        );
        let shown = r#"{"apiVersion":"v1","extra":1,"kind":"A","meta":{"a":[{"y":1,"b":2},{"b":3,"y":1}],"z":"},\""}}"#;
        assert_eq!(patched(&new, before.as_bytes()), shown);
    }

    #[test]
    fn a_strategic_patch_is_shown_as_go_prints_maps() {
        let patch = parse(r#"{"spec":{"a":[1,"x",null],"b":true},"bogus":{}}"#);
        assert_eq!(
            go(&patch),
            "map[bogus:map[] spec:map[a:[1 x <nil>] b:true]]"
        );
    }
}

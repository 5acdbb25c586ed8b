//! `$(NAME)` in commands, arguments and variables: upstream's `third_party/forked/golang/expansion`.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Replaces references. `value` answers for the name between the parentheses.
///
/// `$$` is a dollar. A reference that is not closed stays as it is.
pub fn expand<'a>(input: &str, value: impl Fn(&str) -> Cow<'a, str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            out.push_str(&value(name));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Replaces references to known variables; others stay as they are written.
#[must_use]
pub fn known<'a>(input: &str, find: impl Fn(&str) -> Option<&'a str>) -> String {
    expand(input, |name| match find(name) {
        Some(value) => Cow::Borrowed(value),
        None => Cow::Owned(format!("$({name})")),
    })
}

/// Replaces references in a `subPathExpr`, where each must have a value.
///
/// # Errors
/// In upstream's words, for the container's status.
pub fn sub_path(input: &str, env: &[(String, String)]) -> Result<String, String> {
    let env: BTreeMap<&str, &str> = pairs(env);
    let missing = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let path = expand(input, |name| match env.get(name) {
        Some(value) if !value.is_empty() => Cow::Borrowed(*value),
        _ => {
            missing.borrow_mut().insert(name.to_owned());
            Cow::Borrowed("")
        }
    });
    let missing = missing.into_inner();
    if missing.is_empty() {
        Ok(path)
    } else {
        let names: Vec<String> = missing.into_iter().collect();
        Err(format!("missing value for {}", names.join(", ")))
    }
}

/// Replaces references in each part of a command line.
#[must_use]
pub fn all(parts: Option<&Vec<String>>, env: &[(String, String)]) -> Vec<String> {
    let env = pairs(env);
    let find = |name: &str| env.get(name).copied();
    parts
        .into_iter()
        .flatten()
        .map(|part| known(part, find))
        .collect()
}

fn pairs(env: &[(String, String)]) -> BTreeMap<&str, &str> {
    env.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Vec<(String, String)> {
        [
            ("VAR_A", "A"),
            ("VAR_B", "B"),
            ("VAR_REF", "$(VAR_A)"),
            ("VAR_EMPTY", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// What upstream's own table expects.
    const CASES: &[(&str, &str)] = &[
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_B)", "___B"),
        ("$(VAR_A)_$(VAR_B)", "A_B"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\$(VAR_C)bar"),
        ("foo\\\\$(VAR_C)bar", "foo\\\\$(VAR_C)bar"),
        ("foo\\\\\\\\$(VAR_A)bar", "foo\\\\\\\\Abar"),
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "$(VAR_C)_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("$é", "$é"),
        ("", ""),
    ];

    #[test]
    fn references_are_replaced_as_upstream_replaces_them() {
        for (input, expected) in CASES {
            let got = all(Some(&vec![(*input).to_owned()]), &env());
            assert_eq!(got, [*expected], "{input}");
        }
    }

    #[test]
    fn a_sub_path_needs_a_value_for_each_name() {
        assert_eq!(sub_path("a/$(VAR_B)", &env()).unwrap(), "a/B");
        assert_eq!(
            sub_path("$(Z)/$(VAR_EMPTY)/$(A)", &env()).unwrap_err(),
            "missing value for A, VAR_EMPTY, Z"
        );
    }
}

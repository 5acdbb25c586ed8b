//! Types of functions as they are declared: `list(A), int -> optional(A)`. A letter is a type parameter.

use crate::types::Type;
use crate::value::kube;

/// Types of the arguments and of the result.
pub(super) fn read(signature: &str) -> (Vec<Type>, Type) {
    let (args, result) = signature.split_once("->").unwrap_or(("", signature));
    (all(args), read_type(result))
}

/// Types with commas between.
fn all(text: &str) -> Vec<Type> {
    let mut types = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                types.push(read_type(&text[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = &text[start..];
    if !last.trim().is_empty() {
        types.push(read_type(last));
    }
    types
}

/// One type by the name under which declarations know it.
pub(super) fn read_type(text: &str) -> Type {
    let text = text.trim();
    if let Some((name, inside)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let mut inside = all(inside).into_iter();
        let mut next = || inside.next().unwrap_or(Type::Error);
        return match name {
            "list" => Type::list(next()),
            "map" => Type::map(next(), next()),
            "optional" => Type::optional(next()),
            "type" => Type::of_type(next()),
            _ => Type::Error,
        };
    }
    match text {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "duration" => Type::Duration,
        "dyn" => Type::Dyn,
        "int" => Type::Int,
        "string" => Type::String,
        "timestamp" => Type::Timestamp,
        "uint" => Type::Uint,
        "ip" => Type::opaque(kube::IP),
        "cidr" => Type::opaque(kube::CIDR),
        "quantity" => Type::object(kube::QUANTITY),
        "url" => Type::object(kube::URL),
        "semver" => Type::object(kube::SEMVER),
        "format" => Type::object(kube::FORMAT),
        "authorizer" => Type::object(kube::AUTHORIZER),
        "pathCheck" => Type::object(kube::PATH_CHECK),
        "groupCheck" => Type::object(kube::GROUP_CHECK),
        "resourceCheck" => Type::object(kube::RESOURCE_CHECK),
        "decision" => Type::object(kube::DECISION),
        letter if letter.len() == 1 => Type::param(letter),
        _ => Type::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Version;
    use crate::library::Functions;

    #[test]
    fn signatures_are_read() {
        let (args, result) = read("list(map(string, A)), optional(A) -> type(A)");
        let a = || Type::param("A");
        assert_eq!(
            args,
            [
                Type::list(Type::map(Type::String, a())),
                Type::optional(a())
            ]
        );
        assert_eq!(result, Type::of_type(a()));
        assert_eq!(read("-> dyn"), (Vec::new(), Type::Dyn));
    }

    #[test]
    fn every_declaration_is_understood() {
        fn holds_error(ty: &Type) -> bool {
            matches!(ty, Type::Error) || ty.params().into_iter().any(holds_error)
        }
        let functions = Functions::of(Version::STORED);
        let wrong: Vec<_> = functions
            .by_name
            .values()
            .flat_map(|function| &function.overloads)
            .filter(|o| o.args.iter().chain([&o.result]).any(holds_error))
            .map(|o| o.id.clone())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

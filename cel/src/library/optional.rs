//! Optional values: cel-go's `cel/library.go`. What needs to know whether its arguments are evaluated
//! at all (`or`, `orValue`, `?.`, `[?]`) is part of evaluation.

use super::{Functions, list, overloads};
use crate::error::Error;
use crate::value::{Outcome, Value, brief};

pub(super) fn add(f: &mut Functions) {
    overloads!(f;
        function "optional.of" "optional_of" "V -> optional(V)" |a| Ok(Value::some(a[0].clone()));
        function "optional.ofNonZeroValue" "optional_ofNonZeroValue" "V -> optional(V)" |a| {
            Ok(if a[0].is_zero() {
                Value::Optional(None)
            } else {
                Value::some(a[0].clone())
            })
        };
        function "optional.none" "optional_none" "-> optional(V)" |_| Ok(Value::Optional(None));
        method "value" "optional_value" "optional(V) -> V" |a| match a {
            [Value::Optional(Some(value))] => Ok(Value::clone(value)),
            [Value::Optional(None)] => Err(Error::new("optional.none() dereference")),
            _ => Err(Error::no_such_overload()),
        };
        method "hasValue" "optional_hasValue" "optional(V) -> bool" |a| match a {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => Err(Error::no_such_overload()),
        };
    );
    f.declare_method(
        "or",
        "optional_or_optional",
        "optional(V), optional(V) -> optional(V)",
    );
    f.declare_method("orValue", "optional_orValue_value", "optional(V), V -> V");
    f.declare(
        "_?._",
        "select_optional_field",
        "dyn, string -> optional(V)",
    );
    let index = "_[?_]";
    f.declare(
        index,
        "list_optindex_optional_int",
        "list(V), int -> optional(V)",
    );
    f.declare(
        index,
        "optional_list_optindex_optional_int",
        "optional(list(V)), int -> optional(V)",
    );
    f.declare(
        index,
        "map_optindex_optional_value",
        "map(K, V), K -> optional(V)",
    );
    f.declare(
        index,
        "optional_map_optindex_optional_value",
        "optional(map(K, V)), K -> optional(V)",
    );
    f.declare(
        "_[_]",
        "optional_list_index_int",
        "optional(list(V)), int -> optional(V)",
    );
    f.declare(
        "_[_]",
        "optional_map_index_value",
        "optional(map(K, V)), K -> optional(V)",
    );
    overloads!(f;
        method "last" "list_last" "list(V) -> optional(V)" |a| {
            let list = list(a, 0)?;
            at(list.len().checked_sub(1).and_then(|i| list.get(i)))
        };
        method "first" "list_first" "list(V) -> optional(V)" |a| at(list(a, 0)?.get(0));
        function "optional.unwrap" "optional_unwrap" "list(optional(V)) -> list(V)" unwrap;
        method "unwrapOpt" "optional_unwrapOpt" "list(optional(V)) -> list(V)" unwrap;
    );
}

fn at<'a>(value: Option<Outcome<'a>>) -> Outcome<'a> {
    match value {
        Some(value) => value.map(Value::some),
        None => Ok(Value::Optional(None)),
    }
}

/// The values of those that have one.
fn unwrap<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut values = Vec::new();
    for value in list(args, 0)?.iter() {
        match value? {
            Value::Optional(Some(value)) => values.push(Value::clone(&value)),
            Value::Optional(None) => {}
            other => {
                return Err(Error::new(format!(
                    "value {} is not optional",
                    brief(&other)
                )));
            }
        }
    }
    Ok(Value::list(values))
}

//! Optional values: cel-go's `cel/library.go`. What needs to know whether its arguments are evaluated
//! at all (`or`, `orValue`, `?.`, `[?]`) is part of evaluation.

use super::{Functions, list};
use crate::error::Error;
use crate::types::Type;
use crate::value::{Outcome, Value, brief};

pub(super) fn add(f: &mut Functions) {
    let (k, v) = (|| Type::param("K"), || Type::param("V"));
    let maybe = || Type::optional(v());
    let values = || Type::list(v());
    let map = || Type::map(k(), v());
    f.function("optional.of", "optional_of", [v()], maybe(), |a| {
        Ok(Value::some(a[0].clone()))
    });
    f.function(
        "optional.ofNonZeroValue",
        "optional_ofNonZeroValue",
        [v()],
        maybe(),
        |a| {
            Ok(if a[0].is_zero() {
                Value::Optional(None)
            } else {
                Value::some(a[0].clone())
            })
        },
    );
    f.function("optional.none", "optional_none", [], maybe(), |_| {
        Ok(Value::Optional(None))
    });
    f.method("value", "optional_value", [maybe()], v(), |a| match a {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(Error::new("optional.none() dereference")),
        _ => Err(Error::no_such_overload()),
    });
    f.method(
        "hasValue",
        "optional_hasValue",
        [maybe()],
        Type::Bool,
        |a| match a {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => Err(Error::no_such_overload()),
        },
    );
    f.declare_method("or", "optional_or_optional", [maybe(), maybe()], maybe());
    f.declare_method("orValue", "optional_orValue_value", [maybe(), v()], v());
    f.declare(
        "_?._",
        "select_optional_field",
        [Type::Dyn, Type::String],
        maybe(),
    );
    let index = "_[?_]";
    f.declare(
        index,
        "list_optindex_optional_int",
        [values(), Type::Int],
        maybe(),
    );
    let inside = Type::optional(values());
    f.declare(
        index,
        "optional_list_optindex_optional_int",
        [inside, Type::Int],
        maybe(),
    );
    f.declare(index, "map_optindex_optional_value", [map(), k()], maybe());
    let inside = Type::optional(map());
    f.declare(
        index,
        "optional_map_optindex_optional_value",
        [inside, k()],
        maybe(),
    );
    let inside = Type::optional(values());
    f.declare(
        "_[_]",
        "optional_list_index_int",
        [inside, Type::Int],
        maybe(),
    );
    let inside = Type::optional(map());
    f.declare("_[_]", "optional_map_index_value", [inside, k()], maybe());
    f.method("last", "list_last", [values()], maybe(), |a| {
        let list = list(a, 0)?;
        at(list.len().checked_sub(1).and_then(|i| list.get(i)))
    });
    f.method("first", "list_first", [values()], maybe(), |a| {
        at(list(a, 0)?.get(0))
    });
    let optionals = || Type::list(maybe());
    f.function(
        "optional.unwrap",
        "optional_unwrap",
        [optionals()],
        values(),
        unwrap,
    );
    f.method(
        "unwrapOpt",
        "optional_unwrapOpt",
        [optionals()],
        values(),
        unwrap,
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
            Value::Optional(Some(value)) => values.push((*value).clone()),
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

//! Lists as sets: cel-go's `ext/sets.go`.

use super::{Functions, list};
use crate::error::Error;
use crate::types::Type;
use crate::value::{List, Value, equal};

pub(super) fn add(f: &mut Functions) {
    let two = || [Type::list(Type::param("T")), Type::list(Type::param("T"))];
    f.function(
        "sets.contains",
        "list_sets_contains_list",
        two(),
        Type::Bool,
        |a| contains(list(a, 0)?, list(a, 1)?).map(Value::Bool),
    );
    f.function(
        "sets.equivalent",
        "list_sets_equivalent_list",
        two(),
        Type::Bool,
        |a| {
            let (left, right) = (list(a, 0)?, list(a, 1)?);
            Ok(Value::Bool(
                contains(left, right)? && contains(right, left)?,
            ))
        },
    );
    f.function(
        "sets.intersects",
        "list_sets_intersects_list",
        two(),
        Type::Bool,
        |a| {
            let (left, right) = (list(a, 0)?, list(a, 1)?);
            for value in left.iter() {
                if has(right, &value?) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        },
    );
}

fn has(list: &List<'_>, value: &Value<'_>) -> bool {
    list.iter()
        .flatten()
        .any(|have| equal(&have, value) == Ok(true))
}

fn contains(list: &List<'_>, part: &List<'_>) -> Result<bool, Error> {
    for value in part.iter() {
        if !has(list, &value?) {
            return Ok(false);
        }
    }
    Ok(true)
}

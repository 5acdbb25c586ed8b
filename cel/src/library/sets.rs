//! Lists as sets: cel-go's `ext/sets.go`.

use super::{Functions, list, overloads};
use crate::error::Error;
use crate::value::{List, Value, equal};

pub(super) fn add(f: &mut Functions) {
    overloads!(f;
        function "sets.contains" "list_sets_contains_list" "list(T), list(T) -> bool"
            |a| contains(list(a, 0)?, list(a, 1)?).map(Value::Bool);
        function "sets.equivalent" "list_sets_equivalent_list" "list(T), list(T) -> bool" |a| {
            let (left, right) = (list(a, 0)?, list(a, 1)?);
            Ok(Value::Bool(
                contains(left, right)? && contains(right, left)?,
            ))
        };
        function "sets.intersects" "list_sets_intersects_list" "list(T), list(T) -> bool" |a| {
            let (left, right) = (list(a, 0)?, list(a, 1)?);
            for value in left.iter() {
                if has(right, &value?) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        };
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

//! Functions on lists: Kubernetes' own (`apiserver/pkg/cel/library/lists.go`) and cel-go's
//! (`ext/lists.go`, version 3).

use std::cmp::Ordering;

use super::signature::read_type;
use super::{Body, Functions, int, list, overloads};
use crate::error::Error;
use crate::value::{LONGEST_LIST, List, Outcome, Value, compare, equal};

/// Types with an order.
const COMPARABLE: &[&str] = &[
    "int",
    "uint",
    "double",
    "bool",
    "duration",
    "timestamp",
    "string",
    "bytes",
];

/// `lists.range` makes no longer one.
const LONGEST_RANGE: i64 = 1_000_000;

pub(super) fn add_kubernetes(f: &mut Functions) {
    for name in COMPARABLE {
        let is = format!("list({name}) -> bool");
        f.method(
            "isSorted",
            &format!("list_{name}_is_sorted_bool"),
            &is,
            is_sorted,
        );
        let of = format!("list({name}) -> {name}");
        f.method("max", &format!("list_{name}_max_{name}"), &of, |a| {
            best(a, "max", Ordering::Less)
        });
        f.method("min", &format!("list_{name}_min_{name}"), &of, |a| {
            best(a, "min", Ordering::Greater)
        });
    }
    let sums: [(&str, Body); 4] = [
        ("int", |a| sum(a, Value::Int(0))),
        ("uint", |a| sum(a, Value::Uint(0))),
        ("double", |a| sum(a, Value::Double(0.0))),
        ("duration", |a| sum(a, Value::Duration(0))),
    ];
    for (name, body) in sums {
        let of = format!("list({name}) -> {name}");
        f.method("sum", &format!("list_{name}_sum_{name}"), &of, body);
    }
    overloads!(f;
        method "indexOf" "list_a_index_of_int" "list(A), A -> int" |args| {
            let found = position(list(args, 0)?, &args[1], false);
            Ok(Value::Int(found))
        };
        method "lastIndexOf" "list_a_last_index_of_int" "list(A), A -> int"
            |args| Ok(Value::Int(position(list(args, 0)?, &args[1], true)));
    );
}

pub(super) fn add_includes(f: &mut Functions) {
    overloads!(f;
        method "includes" "list_includes_dyn_dyn" "dyn, dyn -> bool" |args| match args {
            [Value::List(list), value] => {
                let found = position(list, value, false) >= 0;
                Ok(Value::Bool(found))
            }
            [one, value] => Ok(Value::Bool(equal(one, value) == Ok(true))),
            _ => Err(Error::no_such_overload()),
        };
    );
}

/// Whether a value has an order, be it that it has none beside another.
fn is_comparable(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Duration(_)
            | Value::Timestamp(_)
    )
}

/// The next element, which has to be one with an order.
fn comparable<'a>(value: Outcome<'a>) -> Outcome<'a> {
    value.and_then(|value| {
        let has_order = is_comparable(&value);
        has_order
            .then_some(value)
            .ok_or_else(Error::no_such_overload)
    })
}

/// Two that cannot be compared are in order.
fn is_sorted<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut before: Option<Value<'a>> = None;
    for value in list(args, 0)?.iter() {
        let value = comparable(value)?;
        if let Some(before) = before
            && compare(&before, &value) == Ok(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        before = Some(value);
    }
    Ok(Value::Bool(true))
}

/// The element that none replaces; one replaces another that compares to it as `replaced`.
fn best<'a>(args: &[Value<'a>], name: &str, replaced: Ordering) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for value in list(args, 0)?.iter() {
        let value = comparable(value)?;
        match &best {
            Some(have) if compare(have, &value) != Ok(replaced) => {}
            _ => best = Some(value),
        }
    }
    best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Outcome<'a> {
    let mut sum = zero;
    for value in list(args, 0)?.iter() {
        let overflow = |what: &str| Error::new(format!("{what} overflow"));
        sum = match (sum, value?) {
            (Value::Int(a), Value::Int(b)) => {
                Value::Int(a.checked_add(b).ok_or_else(|| overflow("integer"))?)
            }
            (Value::Uint(a), Value::Uint(b)) => Value::Uint(
                a.checked_add(b)
                    .ok_or_else(|| overflow("unsigned integer"))?,
            ),
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or_else(|| overflow("integer"))?)
            }
            _ => return Err(Error::no_such_overload()),
        };
    }
    Ok(sum)
}

/// The first or last place of a value, -1 if there is none.
fn position(list: &List<'_>, value: &Value<'_>, last: bool) -> i64 {
    let is_it =
        |i: &usize| matches!(list.get(*i), Some(Ok(have)) if equal(&have, value) == Ok(true));
    let mut places = 0..list.len();
    let found = if last {
        places.rfind(is_it)
    } else {
        places.find(is_it)
    };
    found.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1)
}

pub(super) fn add_extended(f: &mut Functions) {
    overloads!(f;
        method "slice" "list_slice" "list(T), int, int -> list(T)" slice;
        method "flatten" "list_flatten" "list(list(T)) -> list(T)" |a| match a {
            [Value::List(list)] => flatten(list, 1).map(Value::list),
            _ => Err(no_flatten(a)),
        };
        method "flatten" "list_flatten_int" "list(dyn), int -> list(dyn)" |a| match a {
            [Value::List(list), Value::Int(depth)] => flatten(list, *depth).map(Value::list),
            _ => Err(no_flatten(a)),
        };
    );
    f.unguarded("flatten");
    for ty in COMPARABLE {
        let full = read_type(ty);
        let (name, keys) = (full.name(), format!("list({ty})"));
        f.declare_method(
            "sort",
            &format!("list_{name}_sort"),
            &format!("{keys} -> {keys}"),
        );
        let id = format!("list_{name}_sortByAssociatedKeys");
        f.declare_method(
            "@sortByAssociatedKeys",
            &id,
            &format!("list(T), {keys} -> list(T)"),
        );
    }
    f.body("sort", |a| match a {
        [Value::List(list)] => sort(list, list),
        [Value::String(_) | Value::Duration(_) | Value::Timestamp(_)] => {
            Err(Error::no_such_overload())
        }
        _ => Err(Error::new("no such overload: sort")),
    });
    f.body("@sortByAssociatedKeys", |a| sort(list(a, 0)?, list(a, 1)?));
    overloads!(f;
        function "lists.range" "lists_range" "int -> list(int)" |a| range(int(a, 0)?);
        method "reverse" "list_reverse" "list(T) -> list(T)" |a| {
            let list = list(a, 0)?;
            let values = (0..list.len()).rev().filter_map(|i| list.get(i));
            values.collect::<Result<Vec<_>, _>>().map(Value::list)
        };
        method "distinct" "list_distinct" "list(T) -> list(T)" distinct;
    );
}

fn slice<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(args, 0)?;
    let (start, end) = (int(args, 1)?, int(args, 2)?);
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let wrong = if start < 0 || end < 0 {
        "negative indexes not supported".to_owned()
    } else if start > end {
        "start index must be less than or equal to end index".to_owned()
    } else if length < end {
        format!("list is length {length}")
    } else {
        let (start, count) = (usize::try_from(start), usize::try_from(end - start));
        let (start, count) = (start.unwrap_or(0), count.unwrap_or(0));
        let values = (start..start + count).filter_map(|i| list.get(i));
        return values.collect::<Result<Vec<_>, _>>().map(Value::list);
    };
    Err(Error::new(format!("cannot slice({start}, {end}), {wrong}")))
}

fn no_flatten(args: &[Value<'_>]) -> Error {
    let ty = |i: usize| {
        args.get(i)
            .map(|arg| arg.ty().to_string())
            .unwrap_or_default()
    };
    Error::new(format!("no such overload: {}.flatten({})", ty(0), ty(1)))
}

fn flatten<'a>(list: &List<'a>, depth: i64) -> Result<Vec<Value<'a>>, Error> {
    if depth < 0 {
        return Err(Error::new("level must be non-negative"));
    }
    let mut flat = Vec::new();
    for value in list.iter() {
        match value? {
            Value::List(inner) if depth > 0 => flat.extend(flatten(&inner, depth - 1)?),
            value => flat.push(value),
        }
        if flat.len() > LONGEST_LIST {
            return Err(Error::OverBudget);
        }
    }
    Ok(flat)
}

/// The list in the order of its keys, of which there is one for each element.
fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Outcome<'a> {
    if list.len() != keys.len() {
        return Err(Error::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let keys = keys.iter().collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::with_capacity(keys.len());
    for (key, value) in keys.iter().zip(list.iter()) {
        values.push((key.clone(), value?));
    }
    let Some(first) = keys.first() else {
        return Ok(Value::List(list.clone()));
    };
    if !is_comparable(first) {
        return Err(Error::new("list elements must be comparable"));
    }
    let name = first.type_name();
    if keys.iter().any(|key| key.type_name() != name) {
        return Err(Error::new("list elements must have the same type"));
    }
    values.sort_by(|(a, _), (b, _)| in_order(a, b));
    Ok(Value::list(values.into_iter().map(|(_, v)| v).collect()))
}

/// An order of all values of one type. What is not a number stands behind the numbers: a sort needs to be
/// told where.
fn in_order(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a
            .partial_cmp(b)
            .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (a, b) => compare(a, b).unwrap_or(Ordering::Equal),
    }
}

fn range<'a>(n: i64) -> Outcome<'a> {
    if n < 0 {
        return Err(Error::new(format!(
            "lists.range: size must be non-negative, got {n}"
        )));
    }
    if n > LONGEST_RANGE {
        return Err(Error::new(format!(
            "lists.range: size {n} exceeds maximum allowed ({LONGEST_RANGE})"
        )));
    }
    Ok(Value::list((0..n).map(Value::Int).collect()))
}

fn distinct<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut found: Vec<Value<'a>> = Vec::new();
    for value in list(args, 0)?.iter() {
        let value = value?;
        if !found.iter().any(|have| equal(&value, have) == Ok(true)) {
            found.push(value);
        }
    }
    Ok(Value::list(found))
}

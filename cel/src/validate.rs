//! What is checked of literals beyond their types (cel-go `cel/validator.go` and the validator of
//! `ext/formatting.go`).

use std::collections::HashSet;

use crate::ast::{Id, Literal, Node};
use crate::check::Checked;
use crate::library::{Clause, Patterns, check_format};
use crate::source::Report;
use crate::types::{InError, Type};
use crate::value::{Value, convert};

/// Lists and maps are of one type in all versions; everything else is checked since 1.29.
pub(crate) fn validate(
    checked: &Checked,
    everything: bool,
    patterns: &mut Patterns,
    report: &mut Report<'_>,
) {
    let all = checked.ast.below(checked.root);
    let exempt = inside_formats(checked, &all);
    for id in all {
        match checked.ast.node(id) {
            Node::Call {
                function,
                target,
                args,
            } if everything => {
                literal(checked, function, args, patterns, report);
                if let (Some(target), "format", [arg]) = (target, &**function, &args[..]) {
                    format(checked, id, *target, *arg, report);
                }
            }
            Node::List { .. } | Node::Map { .. } if !exempt.contains(&id) => {
                homogeneous(checked, id, report);
            }
            _ => {}
        }
    }
}

/// Literals of times and durations are read, those of patterns compiled. (Of `matches` upstream
/// compiles the first argument also where that is not the pattern.)
fn literal(
    checked: &Checked,
    function: &str,
    args: &[Id],
    patterns: &mut Patterns,
    report: &mut Report<'_>,
) {
    let Some(arg) = args.first() else { return };
    let Node::Literal(literal) = checked.ast.node(*arg) else {
        return;
    };
    let is_valid = match (function, literal) {
        ("duration", Literal::String(text)) => is_read(text, &Type::Duration),
        ("timestamp", Literal::String(text)) => is_read(text, &Type::Timestamp),
        ("timestamp", Literal::Int(secs)) => convert(&Value::Int(*secs), &Type::Timestamp).is_ok(),
        ("matches", Literal::String(pattern)) => patterns.get(pattern).is_ok(),
        _ => true,
    };
    if !is_valid {
        report.at(
            checked.ast.offset(*arg),
            format!("invalid {function} argument"),
        );
    }
}

fn is_read(text: &str, ty: &Type) -> bool {
    convert(&Value::text(text), ty).is_ok()
}

/// Everything below a call of `format`, which takes arguments of all types.
fn inside_formats(checked: &Checked, all: &[Id]) -> HashSet<Id> {
    let is_format = |id: &&Id| matches!(checked.ast.node(**id), Node::Call { function, .. } if &**function == "format");
    let mut inside = HashSet::new();
    for id in all.iter().filter(is_format) {
        if !inside.contains(id) {
            inside.extend(checked.ast.below(*id));
        }
    }
    inside
}

/// All elements of a list, all keys and all values of a map are of one type.
fn homogeneous(checked: &Checked, id: Id, report: &mut Report<'_>) {
    let of = |id: Id, optional: bool| {
        let ty = checked.ty(id);
        let inside = ty.unwrap_optional().filter(|_| optional);
        inside.unwrap_or(ty).clone()
    };
    let mut differs = |id: Id, first: &Type, ty: &Type| {
        let is_other = !first.is_equivalent(ty);
        if is_other {
            report.at(
                checked.ast.offset(id),
                format!(
                    "expected type '{}' but found '{}'",
                    InError(first),
                    InError(ty)
                ),
            );
        }
        is_other
    };
    match checked.ast.node(id) {
        Node::List { elements } => {
            let mut types = elements.iter().map(|e| (e.value, of(e.value, e.optional)));
            let Some((_, first)) = types.next() else {
                return;
            };
            for (id, ty) in types {
                if differs(id, &first, &ty) {
                    return;
                }
            }
        }
        Node::Map { entries } => {
            let mut types = entries.iter().map(|e| {
                (
                    (e.key, of(e.key, false)),
                    (e.value, of(e.value, e.optional)),
                )
            });
            let Some(((_, keys), (_, values))) = types.next() else {
                return;
            };
            for ((key, key_type), (value, value_type)) in types {
                differs(key, &keys, &key_type);
                differs(value, &values, &value_type);
            }
        }
        _ => {}
    }
}

/// A literal format is held against the types of its literal arguments.
fn format(checked: &Checked, call: Id, target: Id, arg: Id, report: &mut Report<'_>) {
    let Node::Literal(Literal::String(format)) = checked.ast.node(target) else {
        return;
    };
    let Node::List { elements } = checked.ast.node(arg) else {
        return;
    };
    if !checked
        .overloads(call)
        .iter()
        .any(|id| &**id == "string_format")
    {
        return;
    }
    let mut at = call;
    let asked = check_format(format, elements.len(), &mut |index, clause| {
        let bad = match clause {
            Clause::Text => not_text(checked, elements[index].value),
            _ => {
                let id = elements[index].value;
                (!takes(clause, checked.ty(id))).then_some(id)
            }
        };
        match bad {
            Some(id) => {
                at = id;
                Err(clause.refusal(checked.ty(id).name()))
            }
            None => Ok(()),
        }
    });
    match asked {
        Err(problem) => report.at(checked.ast.offset(at), problem),
        Ok(asked) if elements.len() > asked => report.at(
            checked.ast.offset(call),
            format!(
                "too many arguments supplied to string.format (expected {asked}, got {})",
                elements.len()
            ),
        ),
        Ok(_) => {}
    }
}

fn takes(clause: Clause, ty: &Type) -> bool {
    if matches!(ty, Type::Dyn) {
        return true;
    }
    let number = matches!(ty, Type::Int | Type::Uint);
    match clause {
        Clause::Text => matches!(
            ty,
            Type::List(_)
                | Type::Map(_)
                | Type::Int
                | Type::Uint
                | Type::Double
                | Type::Bool
                | Type::String
                | Type::Timestamp
                | Type::Bytes
                | Type::Duration
                | Type::Type(_)
                | Type::Null
        ),
        Clause::Decimal | Clause::Octal => number,
        Clause::Fixed(_) | Clause::Scientific(_) => matches!(ty, Type::Double | Type::String),
        Clause::Binary => number || matches!(ty, Type::Bool),
        Clause::Hex { .. } => number || matches!(ty, Type::String | Type::Bytes),
    }
}

/// What of an expression cannot be printed as text.
fn not_text(checked: &Checked, id: Id) -> Option<Id> {
    if !takes(Clause::Text, checked.ty(id)) {
        return Some(id);
    }
    match checked.ast.node(id) {
        Node::List { elements } => elements.iter().find_map(|e| not_text(checked, e.value)),
        Node::Map { entries } => entries
            .iter()
            .find_map(|e| not_text(checked, e.key).or_else(|| not_text(checked, e.value))),
        _ => None,
    }
}

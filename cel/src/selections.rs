//! What an expression selects by name: which of them there are, and names that are escaped.

use std::sync::Arc;

use crate::ast::{Ast, Id, Literal, Node};
use crate::check::Checked;
use crate::escape;
use crate::parser::operators;

/// `of.field`, `of.?field`, `has(of.field)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// The variable that it is a field of; none if it is one of something else.
    pub of: Option<Arc<str>>,
    pub field: Arc<str>,
}

/// All of them, a field before what it is a field of.
pub(crate) fn of(checked: &Checked) -> Vec<Selection> {
    let ast = &checked.ast;
    let found = |id: Id| {
        let (operand, field) = selected(ast, id)?;
        let of = match ast.node(operand) {
            Node::Ident(name) => Some(name.clone()),
            _ => None,
        };
        let field = field.clone();
        Some(Selection { of, field })
    };
    ast.below(checked.root)
        .into_iter()
        .filter_map(found)
        .collect()
}

fn selected(ast: &Ast, id: Id) -> Option<(Id, &Arc<str>)> {
    match ast.node(id) {
        Node::Select { operand, field, .. } => Some((*operand, field)),
        Node::Call { function, args, .. } if **function == *operators::OPTIONAL_SELECT => {
            let [operand, field] = args.as_slice() else {
                return None;
            };
            match ast.node(*field) {
                Node::Literal(Literal::String(field)) => Some((*operand, field)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Puts the names that are meant in the place of escaped ones.
pub(crate) fn unescape(checked: &mut Checked) {
    for id in checked.ast.below(checked.root) {
        let Some((_, field)) = selected(&checked.ast, id) else {
            continue;
        };
        let meant = match escape::unescape(field) {
            Some(meant) if *meant != **field => Arc::<str>::from(&*meant),
            _ => continue,
        };
        let (place, node) = match checked.ast.node(id).clone() {
            Node::Select {
                operand, test_only, ..
            } => {
                let field = meant;
                let node = Node::Select {
                    operand,
                    field,
                    test_only,
                };
                (id, node)
            }
            Node::Call { args, .. } => match args.last() {
                Some(name) => (*name, Node::Literal(Literal::String(meant))),
                None => continue,
            },
            _ => continue,
        };
        checked.ast.set(place, node);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Environment, PER_CALL_LIMIT, Type, Value, Version};

    fn environment() -> Environment {
        Environment::new(Version::STORED)
            .with_variable("claims", Type::map(Type::String, Type::Any))
            .with_escaped_names()
    }

    #[test]
    fn selections_are_found_wherever_they_are() {
        for (expression, wanted) in [
            ("claims.a", "claims.a"),
            ("claims.a.b == 'x'", "_.b claims.a"),
            (
                "has(claims.a) && claims.?b.orValue(true)",
                "claims.a claims.b",
            ),
            ("[1].all(x, {'k': [claims.a]}['k'][0] == x)", "claims.a"),
            ("claims['a'] == claims", ""),
            ("[claims].all(claims, claims.a == 1)", "claims.a"),
            ("claims.a +", ""),
        ] {
            let found = environment().selections(expression);
            let found: Vec<String> = { found.iter() }
                .map(|s| format!("{}.{}", s.of.as_deref().unwrap_or("_"), s.field))
                .collect();
            assert_eq!(found.join(" "), wanted, "{expression}");
        }
    }

    #[test]
    fn names_may_be_escaped_at_any_depth() {
        struct Claims(proto::Value);
        impl crate::Activation for Claims {
            fn get(&self, name: &str) -> Option<crate::Outcome<'_>> {
                (name == "claims").then(|| Ok(Value::of(&self.0)))
            }
        }
        let json = br#"{"a.io":{"b/c":[{"d-e":"x","f__g":"y"}]},"plain":"z"}"#;
        let claims = Claims(proto::codec::json::parse(json).unwrap());
        for (expression, wanted) in [
            ("claims.a__dot__io.b__slash__c[0].d__dash__e", Some("x")),
            (
                "claims.a__dot__io.b__slash__c[0].f__underscores__g",
                Some("y"),
            ),
            (
                "claims.?a__dot__io.?b__slash__c[0].?d__dash__e.orValue('')",
                Some("x"),
            ),
            (
                "has(claims.a__dot__io.b__slash__c) ? 'yes' : 'no'",
                Some("yes"),
            ),
            ("claims.plain", Some("z")),
            ("claims['a.io']['b/c'][0]['d-e']", Some("x")),
            ("claims.a__dot__b", None),
        ] {
            let program = environment().compile(expression).unwrap();
            let outcome = program.evaluate(&claims, PER_CALL_LIMIT).outcome;
            let text = outcome.as_ref().ok().and_then(Value::as_str);
            assert_eq!(text, wanted, "{expression}");
        }
        let plain = Environment::new(Version::STORED)
            .with_variable("claims", Type::map(Type::String, Type::Any));
        let program = plain.compile("has(claims.a__dot__io)").unwrap();
        let outcome = program.evaluate(&claims, PER_CALL_LIMIT).outcome;
        assert_eq!(outcome.unwrap().as_bool(), Some(false));
    }
}

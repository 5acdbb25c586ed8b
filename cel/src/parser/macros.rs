//! Macros: calls that the parser replaces by comprehensions (cel-go `parser/macro.go`,
//! `ext/comprehensions.go`, `ext/bindings.go`, `ext/lists.go`, `cel/library.go`).

use std::sync::Arc;

use super::operators as op;
use crate::ast::{Ast, Element, Fold, Id, Literal, Node};

/// The hidden variable in which a comprehension collects.
pub(crate) const ACCUMULATOR: &str = "@result";
/// Its name in older expressions, which no variable may take either.
const OLD_ACCUMULATOR: &str = "__result__";
/// The variable of a comprehension that has none.
const UNUSED: &str = "#unused";

/// `optMap` needs what it is called on twice, so that a chain of them doubles with each. The longest
/// expression without one has fewer nodes. Upstream has no such limit, and no use for so many.
const MOST_NODES: usize = 250_000;

/// Which macros an environment has beside the standard ones.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Macros {
    /// `optMap`, `optFlatMap`; and with them the syntax of optionals: `.?`, `[?`, and `?` in literals.
    pub(crate) optional: bool,
    /// `all`, `exists`, `existsOne` with two variables; `transformList`, `transformMap`, `transformMapEntry`
    pub(crate) two_variables: bool,
    /// `sortBy`
    pub(crate) sort_by: bool,
    /// `cel.bind`
    pub(crate) bind: bool,
}

pub(crate) struct Problem {
    pub(crate) offset: u32,
    pub(crate) message: String,
}

type Expanded = Result<Id, Problem>;

/// Makes nodes that stand where the macro stands.
pub(crate) struct Factory<'a> {
    pub(crate) ast: &'a mut Ast,
    pub(crate) offset: u32,
}

impl Factory<'_> {
    fn add(&mut self, node: Node) -> Id {
        self.ast.add(self.offset, node)
    }

    fn ident(&mut self, name: &str) -> Id {
        self.add(Node::Ident(name.into()))
    }

    fn accu(&mut self) -> Id {
        self.ident(ACCUMULATOR)
    }

    fn literal(&mut self, value: Literal) -> Id {
        self.add(Node::Literal(value))
    }

    fn bool(&mut self, value: bool) -> Id {
        self.literal(Literal::Bool(value))
    }

    fn list(&mut self, values: &[Id]) -> Id {
        let elements = values
            .iter()
            .map(|value| Element {
                value: *value,
                optional: false,
            })
            .collect();
        self.add(Node::List { elements })
    }

    fn empty_map(&mut self) -> Id {
        self.add(Node::Map {
            entries: Vec::new(),
        })
    }

    fn call(&mut self, function: &str, args: &[Id]) -> Id {
        self.add(Node::Call {
            function: function.into(),
            target: None,
            args: args.to_vec(),
        })
    }

    fn method(&mut self, function: &str, target: Id, args: &[Id]) -> Id {
        self.add(Node::Call {
            function: function.into(),
            target: Some(target),
            args: args.to_vec(),
        })
    }

    fn fold(&mut self, fold: Fold) -> Id {
        self.add(Node::Fold(Box::new(fold)))
    }

    fn problem(&self, at: Id, message: impl Into<String>) -> Problem {
        Problem {
            offset: self.ast.offset(at),
            message: message.into(),
        }
    }

    fn name(&self, id: Id) -> Option<Arc<str>> {
        match self.ast.node(id) {
            Node::Ident(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// A copy of a tree, with nodes of its own.
    fn copy(&mut self, id: Id) -> Expanded {
        let copy = self.ast.copy(id, MOST_NODES);
        copy.ok_or_else(|| {
            self.problem(id, format!("expression node limit exceeded: {MOST_NODES}"))
        })
    }

    /// `accu + [value]`, or that only where `filter` holds.
    fn append(&mut self, filter: Option<Id>, value: Id) -> Id {
        let accu = self.accu();
        let list = self.list(&[value]);
        let step = self.call(op::ADD, &[accu, list]);
        self.guard(filter, step)
    }

    fn guard(&mut self, filter: Option<Id>, step: Id) -> Id {
        let Some(filter) = filter else { return step };
        let accu = self.accu();
        self.call(op::CONDITIONAL, &[filter, step, accu])
    }

    /// A comprehension that runs to its end and gives what it has collected.
    fn collect(&mut self, range: Id, vars: Vars, init: Id, step: Id) -> Id {
        let condition = self.bool(true);
        let result = self.accu();
        self.fold(Fold {
            range,
            iter: vars.0,
            iter2: vars.1,
            accu: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        })
    }

    /// `name` stands for `init` in `result`.
    fn bind(&mut self, name: Arc<str>, init: Id, result: Id) -> Id {
        let range = self.list(&[]);
        let condition = self.bool(false);
        let step = self.ident(&name);
        self.fold(Fold {
            range,
            iter: UNUSED.into(),
            iter2: None,
            accu: name,
            init,
            condition,
            step,
            result,
        })
    }
}

/// The one or two variables of a comprehension.
type Vars = (Arc<str>, Option<Arc<str>>);

impl Macros {
    /// What a call becomes; none if it is no macro.
    pub(crate) fn expand(
        self,
        f: &mut Factory<'_>,
        function: &str,
        target: Option<Id>,
        args: &[Id],
    ) -> Option<Expanded> {
        let Some(target) = target else {
            return (function == "has" && args.len() == 1).then(|| has(f, args[0]));
        };
        if self.bind && function == "bind" && args.len() == 3 {
            return (f.name(target).as_deref() == Some("cel")).then(|| {
                let name = f.name(args[0]).ok_or_else(|| {
                    f.problem(
                        args[0],
                        "cel.bind() variable names must be simple identifiers",
                    )
                })?;
                Ok(f.bind(name, args[1], args[2]))
            });
        }
        match (function, args) {
            ("all" | "exists" | "exists_one", [var, predicate]) => Some(
                one(f, *var, "argument must be a simple name")
                    .map(|vars| quantifier(f, function, target, vars, *predicate)),
            ),
            ("map" | "filter", [var, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
                if function == "filter" && rest.len() == 2 {
                    return None;
                }
                Some(one(f, *var, "argument is not an identifier").map(|vars| {
                    let (filter, value) = match (function, rest) {
                        ("filter", [filter]) => (Some(*filter), *var),
                        (_, [filter, value]) => (Some(*filter), *value),
                        (_, _) => (None, rest[0]),
                    };
                    let init = f.list(&[]);
                    let step = f.append(filter, value);
                    f.collect(target, vars, init, step)
                }))
            }
            ("optMap" | "optFlatMap", [var, value]) if self.optional => {
                Some(opt_map(f, function, target, *var, *value))
            }
            ("sortBy", [var, key]) if self.sort_by => Some(sort_by(f, target, *var, *key)),
            (_, [a, b, rest @ ..]) if self.two_variables => {
                two_variables(f, function, target, [*a, *b], rest)
            }
            _ => None,
        }
    }
}

fn has(f: &mut Factory<'_>, arg: Id) -> Expanded {
    let Node::Select { operand, field, .. } = f.ast.node(arg) else {
        return Err(f.problem(arg, "invalid argument to has() macro"));
    };
    let node = Node::Select {
        operand: *operand,
        field: field.clone(),
        test_only: true,
    };
    Ok(f.add(node))
}

fn one(f: &Factory<'_>, var: Id, no_name: &str) -> Result<Vars, Problem> {
    let name = f.name(var).ok_or_else(|| f.problem(var, no_name))?;
    not_hidden(f, var, &name)?;
    Ok((name, None))
}

fn not_hidden(f: &Factory<'_>, var: Id, name: &str) -> Result<(), Problem> {
    if name == ACCUMULATOR || name == OLD_ACCUMULATOR {
        return Err(f.problem(var, "iteration variable overwrites accumulator variable"));
    }
    Ok(())
}

fn two(f: &Factory<'_>, [a, b]: [Id; 2]) -> Result<Vars, Problem> {
    let name = |id| {
        f.name(id)
            .ok_or_else(|| f.problem(id, "argument must be a simple name"))
    };
    let (first, second) = (name(a)?, name(b)?);
    if first == second {
        return Err(f.problem(b, format!("duplicate variable name: {first}")));
    }
    not_hidden(f, a, &first)?;
    not_hidden(f, b, &second)?;
    Ok((first, Some(second)))
}

fn quantifier(
    f: &mut Factory<'_>,
    function: &str,
    range: Id,
    (iter, iter2): Vars,
    predicate: Id,
) -> Id {
    let (init, condition, step, result) = match function {
        "all" => {
            let init = f.bool(true);
            let accu = f.accu();
            let condition = f.call(op::NOT_STRICTLY_FALSE, &[accu]);
            let accu = f.accu();
            let step = f.call(op::AND, &[accu, predicate]);
            (init, condition, step, f.accu())
        }
        "exists" => {
            let init = f.bool(false);
            let accu = f.accu();
            let not = f.call(op::NOT, &[accu]);
            let condition = f.call(op::NOT_STRICTLY_FALSE, &[not]);
            let accu = f.accu();
            let step = f.call(op::OR, &[accu, predicate]);
            (init, condition, step, f.accu())
        }
        _ => {
            let init = f.literal(Literal::Int(0));
            let condition = f.bool(true);
            let accu = f.accu();
            let one = f.literal(Literal::Int(1));
            let more = f.call(op::ADD, &[accu, one]);
            let step = f.guard(Some(predicate), more);
            let accu = f.accu();
            let one = f.literal(Literal::Int(1));
            (init, condition, step, f.call(op::EQUALS, &[accu, one]))
        }
    };
    f.fold(Fold {
        range,
        iter,
        iter2,
        accu: ACCUMULATOR.into(),
        init,
        condition,
        step,
        result,
    })
}

fn two_variables(
    f: &mut Factory<'_>,
    function: &str,
    target: Id,
    vars: [Id; 2],
    rest: &[Id],
) -> Option<Expanded> {
    let vars = match (function, rest.len()) {
        ("all" | "exists" | "existsOne" | "exists_one", 1)
        | ("transformList" | "transformMap" | "transformMapEntry", 1 | 2) => match two(f, vars) {
            Ok(vars) => vars,
            Err(problem) => return Some(Err(problem)),
        },
        _ => return None,
    };
    let (filter, value) = match rest {
        [filter, value] => (Some(*filter), *value),
        _ => (None, rest[0]),
    };
    Some(Ok(match function {
        "transformList" => {
            let init = f.list(&[]);
            let step = f.append(filter, value);
            f.collect(target, vars, init, step)
        }
        "transformMap" | "transformMapEntry" => {
            let init = f.empty_map();
            let accu = f.accu();
            let step = if function == "transformMap" {
                let key = f.ident(&vars.0);
                f.call("cel.@mapInsert", &[accu, key, value])
            } else {
                f.call("cel.@mapInsert", &[accu, value])
            };
            let step = f.guard(filter, step);
            f.collect(target, vars, init, step)
        }
        _ => quantifier(f, function, target, vars, value),
    }))
}

/// `target.hasValue() ? optional.of(value with var = target.value()) : optional.none()`
fn opt_map(f: &mut Factory<'_>, function: &str, target: Id, var: Id, value: Id) -> Expanded {
    let name = f.name(var).ok_or_else(|| {
        f.problem(
            var,
            format!("{function}() variable name must be a simple identifier"),
        )
    })?;
    let copy = f.copy(target)?;
    let has_value = f.method("hasValue", target, &[]);
    let inner = f.method("value", copy, &[]);
    let mut result = f.bind(name, inner, value);
    if function == "optMap" {
        result = f.call("optional.of", &[result]);
    }
    let none = f.call("optional.none", &[]);
    Ok(f.call(op::CONDITIONAL, &[has_value, result, none]))
}

/// Binds the list, makes its keys with `map`, sorts one by the other.
fn sort_by(f: &mut Factory<'_>, target: Id, var: Id, key: Id) -> Expanded {
    const INPUT: &str = "@__sortBy_input__";
    if !matches!(
        f.ast.node(target),
        Node::List { .. }
            | Node::Select { .. }
            | Node::Ident(_)
            | Node::Fold(_)
            | Node::Call { .. }
    ) {
        return Err(f.problem(
            target,
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
        ));
    }
    let vars = one(f, var, "argument is not an identifier")?;
    let input = f.ident(INPUT);
    let init = f.list(&[]);
    let step = f.append(None, key);
    let keys = f.collect(input, vars, init, step);
    let input = f.ident(INPUT);
    let call = f.method("@sortByAssociatedKeys", input, &[keys]);
    Ok(f.bind(INPUT.into(), target, call))
}

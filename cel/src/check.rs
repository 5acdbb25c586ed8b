//! The type check: every node gets a type, every call its overloads (cel-go `checker/checker.go`).

mod unify;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Ast, Entry, Id, Literal, Node};
use crate::library::Functions;
use crate::parser::operators;
use crate::schema::{self, Fields};
use crate::source::Report;
use crate::types::{InError, Type};
use unify::Unifier;

/// What an environment declares.
pub(crate) struct Declarations<'e> {
    pub(crate) variables: &'e BTreeMap<Box<str>, Type>,
    pub(crate) objects: &'e BTreeMap<Arc<str>, Arc<Fields>>,
    pub(crate) functions: &'e Functions,
    pub(crate) patches: bool,
    pub(crate) optionals: bool,
    pub(crate) addresses: bool,
}

/// A tree with what the check has found out.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) ast: Ast,
    pub(crate) root: Id,
    types: Vec<Option<Type>>,
    references: Vec<Reference>,
}

/// What a node refers to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Reference {
    #[default]
    None,
    /// A variable of the environment or of a comprehension.
    Variable {
        name: Arc<str>,
        /// A comprehension's variable of the same name is meant to be passed over.
        global: bool,
    },
    /// A type by its name.
    Type(Type),
    /// Overloads of a function that fit, by their ids.
    Overloads(Vec<Arc<str>>),
}

impl Checked {
    pub(crate) fn ty(&self, id: Id) -> &Type {
        self.types[id.index()].as_ref().unwrap_or(&Type::Dyn)
    }

    pub(crate) fn reference(&self, id: Id) -> &Reference {
        &self.references[id.index()]
    }

    pub(crate) fn overloads(&self, id: Id) -> &[Arc<str>] {
        match self.reference(id) {
            Reference::Overloads(ids) => ids,
            _ => &[],
        }
    }
}

/// Types that have names in expressions.
const NAMED: &[Type] = &[
    Type::Bool,
    Type::Bytes,
    Type::Double,
    Type::Duration,
    Type::Int,
    Type::Null,
    Type::String,
    Type::Timestamp,
    Type::Uint,
    Type::Type(None),
];

pub(crate) fn check(
    declarations: &Declarations<'_>,
    ast: Ast,
    root: Id,
    report: &mut Report<'_>,
) -> Checked {
    let count = ast.len();
    let mut checker = Checker {
        declarations,
        report,
        checked: Checked {
            ast,
            root,
            types: vec![None; count],
            references: vec![Reference::None; count],
        },
        unifier: Unifier::default(),
        scopes: Vec::new(),
    };
    checker.check(root);
    let Checker {
        mut checked,
        unifier,
        report,
        ..
    } = checker;
    for ty in checked.types.iter_mut().flatten() {
        *ty = unifier.resolve(ty, true);
    }
    if unifier.is_exhausted() {
        report.instead("the types of the expression are too large");
    }
    checked
}

struct Checker<'c, 's> {
    declarations: &'c Declarations<'c>,
    report: &'c mut Report<'s>,
    checked: Checked,
    unifier: Unifier,
    /// Variables of the comprehensions around, the innermost last.
    scopes: Vec<(Arc<str>, Type)>,
}

/// What a name stands for.
struct Resolved {
    ty: Type,
    reference: Reference,
}

impl Checker<'_, '_> {
    fn ty(&self, id: Id) -> Type {
        self.checked.ty(id).clone()
    }

    fn set(&mut self, id: Id, ty: Type) {
        self.unifier.measure(&ty);
        let ty = if self.unifier.is_exhausted() {
            Type::Error
        } else {
            ty
        };
        self.checked.types[id.index()] = Some(ty);
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        self.checked.references[id.index()] = reference;
    }

    fn issue(&mut self, id: Id, message: String) {
        let offset = self.checked.ast.offset(id);
        self.report.at(offset, message);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        let message = format!(
            "expected type '{}' but found '{}'",
            InError(expected),
            InError(found)
        );
        self.issue(id, message);
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.set(id, Type::Error);
        self.issue(
            id,
            format!("undeclared reference to '{name}' (in container '')"),
        );
    }

    fn check(&mut self, id: Id) {
        match self.checked.ast.node(id).clone() {
            Node::Bad => self.set(id, Type::Error),
            Node::Literal(literal) => self.set(id, type_of(&literal)),
            Node::Ident(name) => match self.resolve(&name) {
                Some(resolved) => self.resolved(id, resolved),
                None => self.undeclared(id, &name),
            },
            Node::Select {
                operand,
                field,
                test_only,
            } => self.select(id, operand, &field, test_only),
            Node::Call {
                function,
                target,
                args,
            } => self.call(id, &function, target, &args),
            Node::List { elements } => {
                let mut of = None;
                for element in elements {
                    self.check(element.value);
                    let ty = self.element_type(element.value, element.optional);
                    of = Some(self.join(of, ty));
                }
                let of = of.unwrap_or_else(|| self.unifier.fresh());
                self.set(id, Type::list(of));
            }
            Node::Map { entries } => self.map(id, &entries),
            Node::Struct { name, fields } => self.message(id, &name, &fields),
            Node::Fold(fold) => self.fold(id, &fold),
        }
    }

    /// A name, which may have been written with dots.
    fn resolved(&mut self, id: Id, resolved: Resolved) {
        let name: Arc<str> = match &resolved.reference {
            // With its dot it cannot be taken for the comprehension's variable.
            Reference::Variable { name, global: true } => format!(".{name}").into(),
            Reference::Variable { name, .. } => name.clone(),
            Reference::Type(ty) => ty.name().into(),
            Reference::None | Reference::Overloads(_) => "".into(),
        };
        self.checked.ast.set(id, Node::Ident(name));
        self.set(id, resolved.ty);
        self.refer(id, resolved.reference);
    }

    fn local(&self, name: &str) -> Option<&Type> {
        let found = self.scopes.iter().rfind(|(local, _)| &**local == name);
        found.map(|(_, ty)| ty)
    }

    /// What a name stands for: a comprehension's variable, or one of the environment, or a type.
    fn resolve(&self, name: &str) -> Option<Resolved> {
        let plain = name.strip_prefix('.').unwrap_or(name);
        let local = self.local(plain);
        if let Some(ty) = local
            && plain.len() == name.len()
        {
            return Some(Resolved {
                ty: ty.clone(),
                reference: Reference::Variable {
                    name: plain.into(),
                    global: false,
                },
            });
        }
        self.resolve_global(plain, local.is_some())
    }

    fn resolve_global(&self, name: &str, global: bool) -> Option<Resolved> {
        if let Some(ty) = self.declarations.variables.get(name) {
            return Some(Resolved {
                ty: ty.clone(),
                reference: Reference::Variable {
                    name: name.into(),
                    global,
                },
            });
        }
        let ty = self.type_named(name)?;
        Some(Resolved {
            ty: Type::of_type(ty.clone()),
            reference: Reference::Type(ty),
        })
    }

    /// A type by the name under which expressions know it.
    fn type_named(&self, name: &str) -> Option<Type> {
        if let Some(ty) = NAMED.iter().find(|ty| ty.name() == name) {
            return Some(ty.clone());
        }
        match name {
            "list" => Some(Type::list(Type::Dyn)),
            "map" => Some(Type::map(Type::Dyn, Type::Dyn)),
            "optional_type" if self.declarations.optionals => Some(Type::optional(Type::Dyn)),
            "net.IP" | "net.CIDR" if self.declarations.addresses => Some(Type::opaque(name)),
            _ => self.object_named(name),
        }
    }

    fn object_named(&self, name: &str) -> Option<Type> {
        let is_patch = self.declarations.patches
            && (name == "JSONPatch" || name == "Object" || name.starts_with("Object."));
        (is_patch || self.declarations.objects.contains_key(name)).then(|| Type::object(name))
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test_only: bool) {
        if !test_only && let Some(resolved) = self.qualified(id) {
            self.resolved(id, resolved);
            return;
        }
        let ty = self.field(id, operand, field, false);
        let ty = if test_only { Type::Bool } else { ty };
        let ty = self.unifier.resolve(&ty, false);
        self.set(id, ty);
    }

    /// What `a.b.c` stands for as one name.
    fn qualified(&self, id: Id) -> Option<Resolved> {
        let name = self.checked.ast.dotted(id)?;
        let plain = name.strip_prefix('.').unwrap_or(&name);
        let first = plain.split('.').next()?;
        let local = self.local(first).is_some();
        if local && plain.len() == name.len() {
            return None;
        }
        self.resolve_global(plain, local)
    }

    /// The type of a field of `operand`.
    fn field(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        self.check(operand);
        let ty = self.unifier.resolve(self.checked.ty(operand), false);
        let (target, inside) = match ty.unwrap_optional() {
            Some(of) => (of.clone(), true),
            None => (ty, false),
        };
        let result = match &target {
            Type::Map(of) => of.1.clone(),
            Type::Struct(name) => self.field_type(id, name, field),
            Type::Var(_) | Type::Param(_) => {
                self.unifier.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    let message =
                        format!("type '{}' does not support field selection", InError(other));
                    self.issue(id, message);
                }
                Type::Dyn
            }
        };
        if inside || optional {
            Type::optional(result)
        } else {
            result
        }
    }

    fn field_type(&mut self, id: Id, object: &str, field: &str) -> Type {
        let offset = self.checked.ast.offset(id);
        self.field_type_at(offset, object, field)
    }

    fn field_type_at(&mut self, offset: u32, object: &str, field: &str) -> Type {
        if self.declarations.patches {
            match (object, field) {
                ("JSONPatch", "op" | "path" | "from") => return Type::String,
                ("JSONPatch", "value") => return Type::Dyn,
                // Upstream knows no type for it, and prints none.
                ("JSONPatch", _) => return Type::opaque(""),
                _ if object == "Object" || object.starts_with("Object.") => return Type::Dyn,
                _ => {}
            }
        }
        let Some(fields) = self.declarations.objects.get(object) else {
            self.report.at(
                offset,
                format!("unexpected failed resolution of '{object}'"),
            );
            return Type::Error;
        };
        let known = schema::field(fields, field).or_else(|| {
            // A reserved word may be written as it is behind a dot.
            crate::escape::is_reserved(field)
                .then(|| schema::field(fields, &format!("__{field}__")))
                .flatten()
        });
        match known {
            Some(field) => field.schema.ty.clone(),
            None => {
                self.report.at(offset, format!("undefined field '{field}'"));
                Type::Error
            }
        }
    }

    fn optional_select(&mut self, id: Id, args: &[Id]) {
        let [operand, field] = args else {
            return;
        };
        let Node::Literal(Literal::String(name)) = self.checked.ast.node(*field) else {
            self.issue(*field, "unsupported optional field selection".into());
            return;
        };
        let name = name.clone();
        let ty = self.field(id, *operand, &name, true);
        let ty = self.unifier.resolve(&ty, false);
        self.set(id, ty);
        self.refer(
            id,
            Reference::Overloads(vec!["select_optional_field".into()]),
        );
    }

    fn call(&mut self, id: Id, function: &Arc<str>, target: Option<Id>, args: &[Id]) {
        if &**function == operators::OPTIONAL_SELECT {
            self.optional_select(id, args);
            return;
        }
        for arg in args {
            self.check(*arg);
        }
        let Some(target) = target else {
            let plain = function.strip_prefix('.').unwrap_or(function);
            if self.declarations.functions.get(plain).is_none() {
                self.undeclared(id, function);
                return;
            }
            self.rename(id, plain, args);
            self.overload(id, plain, None, args);
            return;
        };
        // What looks like a method may be a function with dots in its name.
        if let Some(prefix) = self.checked.ast.dotted(target) {
            let name = format!("{prefix}.{function}");
            let plain = name.strip_prefix('.').unwrap_or(&name);
            if self.declarations.functions.get(plain).is_some() {
                self.rename(id, plain, args);
                self.overload(id, plain, None, args);
                return;
            }
        }
        self.check(target);
        if self.declarations.functions.get(function).is_some() {
            self.overload(id, function, Some(target), args);
        } else {
            self.undeclared(id, function);
        }
    }

    fn rename(&mut self, id: Id, function: &str, args: &[Id]) {
        self.checked.ast.set(
            id,
            Node::Call {
                function: function.into(),
                target: None,
                args: args.to_vec(),
            },
        );
    }

    /// Finds the overloads that fit the types of the arguments.
    fn overload(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) {
        let ids: Vec<Id> = target.iter().chain(args).copied().collect();
        let types: Vec<Type> = ids.iter().map(|id| self.ty(*id)).collect();
        let functions = self.declarations.functions;
        let Some(function) = functions.get(name) else {
            return;
        };
        if matches!(name, operators::AND | operators::OR) {
            self.logic(id, function.overloads[0].id.clone(), &ids, &types);
            return;
        }
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for overload in &function.overloads {
            if overload.is_method != target.is_some() {
                continue;
            }
            let (wanted, gives) = self.unifier.instantiate(&overload.args, &overload.result);
            if !self.unifier.assign_all(&types, &wanted) {
                continue;
            }
            fitting.push(overload.id.clone());
            let gives = self.unifier.resolve(&gives, false);
            result = Some(match result {
                None => gives,
                Some(before) if before.is_dyn() || before == gives => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let types = types.iter().map(|ty| self.unifier.resolve(ty, true));
            let signature = signature(&types.collect::<Vec<_>>(), target.is_some());
            self.set(id, Type::Error);
            self.issue(
                id,
                format!("found no matching overload for '{name}' applied to '{signature}'"),
            );
            return;
        };
        self.set(id, result);
        self.refer(id, Reference::Overloads(fitting));
    }

    fn logic(&mut self, id: Id, overload: Arc<str>, args: &[Id], types: &[Type]) {
        let mut failed = false;
        for (arg, ty) in args.iter().zip(types) {
            if !self.unifier.assign(ty, &Type::Bool) {
                self.mismatch(*arg, &Type::Bool, ty);
                failed = true;
            }
        }
        if failed {
            self.set(id, Type::Error);
            return;
        }
        self.set(id, Type::Bool);
        self.refer(id, Reference::Overloads(vec![overload]));
    }

    /// The type of an element; of an optional one, what is inside.
    fn element_type(&mut self, value: Id, optional: bool) -> Type {
        let ty = self.ty(value);
        if !optional {
            return ty;
        }
        if let Some(of) = ty.unwrap_optional() {
            return of.clone();
        }
        if !ty.is_dyn() {
            self.mismatch(value, &Type::optional(ty.clone()), &ty);
        }
        ty
    }

    /// The type of a list of what was before and one more.
    fn join(&mut self, before: Option<Type>, ty: Type) -> Type {
        let Some(before) = before else { return ty };
        if self.unifier.assign(&before, &ty) {
            return unify::more_general(before, ty);
        }
        // That literals are of one type is another check's business: see [`crate::validate`].
        Type::Dyn
    }

    fn map(&mut self, id: Id, entries: &[Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(entry.key);
            let ty = self.ty(entry.key);
            keys = Some(self.join(keys, ty));
            self.check(entry.value);
            let ty = self.element_type(entry.value, entry.optional);
            values = Some(self.join(values, ty));
        }
        let ty = match (keys, values) {
            (Some(keys), Some(values)) => Type::map(keys, values),
            _ => Type::map(self.unifier.fresh(), self.unifier.fresh()),
        };
        self.set(id, ty);
    }

    fn message(&mut self, id: Id, name: &str, fields: &[crate::ast::FieldInit]) {
        let plain = name.strip_prefix('.').unwrap_or(name);
        let Some(ty) = self.type_named(plain) else {
            self.undeclared(id, name);
            return;
        };
        let object = match &ty {
            Type::Struct(object) => object.clone(),
            _ => {
                self.set(id, Type::Error);
                self.issue(id, format!("'{}' is not a message type", ty.name()));
                for field in fields {
                    self.check(field.value);
                }
                return;
            }
        };
        self.refer(id, Reference::Type(ty.clone()));
        self.set(id, ty);
        for field in fields {
            self.check(field.value);
            let wanted = self.field_type_at(field.offset, &object, &field.name);
            let given = self.element_type(field.value, field.optional);
            if !self.unifier.assign(&wanted, &given) {
                let message = format!(
                    "expected type of field '{}' is '{}' but provided type is '{}'",
                    field.name,
                    InError(&wanted),
                    InError(&given)
                );
                self.report.at(field.offset, message);
            }
        }
    }

    fn fold(&mut self, id: Id, fold: &crate::ast::Fold) {
        self.check(fold.range);
        self.check(fold.init);
        let range = self.unifier.resolve(self.checked.ty(fold.range), false);
        let accu = self.ty(fold.init);
        let depth = self.scopes.len();
        self.scopes.push((fold.accu.clone(), accu.clone()));
        let two = fold.iter2.is_some();
        let (first, second) = match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            Type::Dyn | Type::Error | Type::Var(_) | Type::Param(_) => {
                self.unifier.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    InError(other)
                );
                self.issue(fold.range, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.iter.clone(), first));
        if let Some(iter2) = &fold.iter2 {
            self.scopes.push((iter2.clone(), second));
        }
        self.check(fold.condition);
        self.assert(fold.condition, &Type::Bool);
        self.check(fold.step);
        self.assert(fold.step, &accu);
        self.scopes.truncate(depth + 1);
        self.check(fold.result);
        self.scopes.truncate(depth);
        let ty = self.unifier.resolve(self.checked.ty(fold.result), false);
        self.set(id, ty);
    }

    fn assert(&mut self, id: Id, wanted: &Type) {
        let ty = self.ty(id);
        if !self.unifier.assign(wanted, &ty) {
            self.mismatch(id, wanted, &ty);
        }
    }
}

fn type_of(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// Types of arguments as an issue shows them: `int.(string, bool)`.
fn signature(types: &[Type], is_method: bool) -> String {
    let shown: Vec<String> = types.iter().map(|ty| InError(ty).to_string()).collect();
    match shown.split_first() {
        Some((target, args)) if is_method => format!("{target}.({})", args.join(", ")),
        _ => format!("({})", shown.join(", ")),
    }
}

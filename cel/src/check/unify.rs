//! Which types fit where, and what unknown types turn out to be (cel-go `checker/types.go`).

use std::cell::Cell;
use std::sync::Arc;

use crate::types::Type;

/// A type of more parts than this is none that anybody means. Types double where a variable stands for
/// something that holds another variable twice: `[{a: a}].map(b, [{b: b}].map(c, ...))`. It bounds the
/// stack as well, by which types are walked.
const LARGEST: u32 = 1_000;
/// How many parts of types one check looks at. The longest sensible expression needs a tenth of it.
const MOST_STEPS: u32 = 20_000_000;

/// What is known of the types that the check has still to find out.
#[derive(Default, Debug)]
pub(super) struct Unifier {
    known: Vec<Option<Type>>,
    /// How many parts were looked at: in all, and since the last of what is asked of it began.
    steps: Cell<u32>,
    walk: Cell<u32>,
    /// What to undo if an attempt fails.
    undo: Vec<(u32, Option<Type>)>,
}

impl Unifier {
    /// A type that nothing is known of.
    pub(super) fn fresh(&mut self) -> Type {
        let n = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.push(None);
        Type::Var(n)
    }

    /// Whether one part of a type more may be looked at. Once it may not, nothing fits any more.
    fn step(&self) -> bool {
        if self.is_exhausted() || self.walk.get() >= LARGEST {
            self.steps.set(MOST_STEPS);
            return false;
        }
        self.walk.set(self.walk.get() + 1);
        self.steps.set(self.steps.get() + 1);
        true
    }

    /// Types were too large, or too much was done with them: what was found out is worth nothing.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps.get() >= MOST_STEPS
    }

    /// Looks at a whole type, with all that is known of it.
    pub(super) fn measure(&self, ty: &Type) {
        self.walk.set(0);
        self.walk_through(ty);
    }

    fn walk_through(&self, ty: &Type) {
        if !self.step() {
            return;
        }
        match ty {
            Type::Var(n) => {
                if let Some(known) = self.get(*n) {
                    self.walk_through(known);
                }
            }
            other => other
                .params()
                .into_iter()
                .for_each(|p| self.walk_through(p)),
        }
    }

    fn get(&self, n: u32) -> Option<&Type> {
        self.known.get(n as usize)?.as_ref()
    }

    fn learn(&mut self, n: u32, ty: Type) {
        let Some(slot) = self.known.get_mut(n as usize) else {
            return;
        };
        self.undo.push((n, slot.replace(ty)));
    }

    /// A declaration with fresh types for its parameters.
    pub(super) fn instantiate(&mut self, args: &[Type], result: &Type) -> (Vec<Type>, Type) {
        let mut params: Vec<(Arc<str>, Type)> = Vec::new();
        let result = self.replace(result, &mut params);
        let args = args
            .iter()
            .map(|arg| self.replace(arg, &mut params))
            .collect();
        (args, result)
    }

    fn replace(&mut self, ty: &Type, params: &mut Vec<(Arc<str>, Type)>) -> Type {
        match ty {
            Type::Param(name) => {
                if let Some((_, known)) = params.iter().find(|(known, _)| known == name) {
                    return known.clone();
                }
                let fresh = self.fresh();
                params.push((name.clone(), fresh.clone()));
                fresh
            }
            other => map(other, &mut |inner| self.replace(inner, params)),
        }
    }

    /// The type with everything put in that is known; what is not known becomes dyn if `to_dyn`.
    pub(super) fn resolve(&self, ty: &Type, to_dyn: bool) -> Type {
        self.walk.set(0);
        self.resolved(ty, to_dyn)
    }

    fn resolved(&self, ty: &Type, to_dyn: bool) -> Type {
        if !self.step() {
            return Type::Error;
        }
        match ty {
            Type::Var(n) => match self.get(*n) {
                Some(known) => self.resolved(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => ty.clone(),
            },
            other => map(other, &mut |inner| self.resolved(inner, to_dyn)),
        }
    }

    /// Whether the types fit together; if so, what follows from that is remembered.
    pub(super) fn assign(&mut self, a: &Type, b: &Type) -> bool {
        self.attempt(|unifier| unifier.fits(a, b))
    }

    pub(super) fn assign_all(&mut self, a: &[Type], b: &[Type]) -> bool {
        self.attempt(|unifier| unifier.all_fit(a.iter(), b.iter()))
    }

    fn attempt(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        self.undo.clear();
        self.walk.set(0);
        let fits = attempt(self);
        if !fits {
            while let Some((n, before)) = self.undo.pop() {
                self.known[n as usize] = before;
            }
        }
        fits
    }

    fn all_fit<'t>(
        &mut self,
        a: impl ExactSizeIterator<Item = &'t Type>,
        b: impl ExactSizeIterator<Item = &'t Type>,
    ) -> bool {
        a.len() == b.len() && a.zip(b).all(|(a, b)| self.fits(a, b))
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if !self.step() {
            return false;
        }
        if let Type::Var(n) = b {
            match self.substitute(a, b, *n) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Var(n) = a {
            return self.substitute(b, a, *n).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => {
                matches!(
                    other,
                    Type::Null
                        | Type::Opaque(..)
                        | Type::Struct(_)
                        | Type::Duration
                        | Type::Timestamp
                )
            }
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Opaque(name, a), Type::Opaque(other, b)) => {
                name == other && self.all_fit(a.iter(), b.iter())
            }
            (a, b) => a == b,
        }
    }

    /// Whether the unknown type `var` can be `ty`, and whether something was known of it before.
    fn substitute(&mut self, ty: &Type, var: &Type, n: u32) -> (bool, bool) {
        if ty == var {
            return (true, true);
        }
        if let Some(known) = self.get(n).cloned() {
            if *ty == known {
                return (true, true);
            }
            if !self.fits(ty, &known) {
                return (false, true);
            }
            let general = more_general(ty.clone(), known);
            if self.is_free_of(var, &general) {
                self.learn(n, general);
            }
            return (true, true);
        }
        if self.is_free_of(var, ty) {
            self.learn(n, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether `ty` does not contain `var`, which would make it endless.
    fn is_free_of(&self, var: &Type, ty: &Type) -> bool {
        if !self.step() || var == ty {
            return false;
        }
        match ty {
            Type::Var(n) => self.get(*n).is_none_or(|known| self.is_free_of(var, known)),
            other => other.params().into_iter().all(|p| self.is_free_of(var, p)),
        }
    }
}

/// The type with each of its parameters replaced.
fn map(ty: &Type, replace: &mut dyn FnMut(&Type) -> Type) -> Type {
    match ty {
        Type::List(of) => Type::list(replace(of)),
        Type::Map(of) => Type::map(replace(&of.0), replace(&of.1)),
        Type::Opaque(name, params) => {
            Type::Opaque(name.clone(), params.iter().map(replace).collect())
        }
        Type::Type(Some(of)) => Type::of_type(replace(of)),
        other => other.clone(),
    }
}

/// The one that the other is a case of.
pub(super) fn more_general(a: Type, b: Type) -> Type {
    if is_as_general(&a, &b) { a } else { b }
}

fn is_as_general(a: &Type, b: &Type) -> bool {
    let unknown = |ty: &Type| ty.is_dyn() || matches!(ty, Type::Var(_) | Type::Param(_));
    if unknown(a) {
        return true;
    }
    if unknown(b) {
        return false;
    }
    match (a, b) {
        (Type::List(a), Type::List(b)) => is_as_general(a, b),
        (Type::Map(a), Type::Map(b)) => is_as_general(&a.0, &b.0) && is_as_general(&a.1, &b.1),
        (Type::Opaque(name, a), Type::Opaque(other, b)) => {
            name == other
                && a.len() == b.len()
                && a.iter().zip(&**b).all(|(a, b)| is_as_general(a, b))
        }
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}

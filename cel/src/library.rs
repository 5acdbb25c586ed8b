//! Functions: what is declared to the checker, and what runs.
//!
//! A function has overloads. The checker finds those that fit the types it knows; where one remains,
//! it runs, otherwise the first whose arguments fit at run time. An operator is one body for all its
//! overloads. Names, signatures and ids are those of cel-go (`common/stdlib`, `ext`) and Kubernetes
//! (`apiserver/pkg/cel/library`); costs go by them.

mod authorizer;
pub mod format;
mod lists;
mod network;
mod operators;
mod optional;
mod quantity;
mod regex;
mod sets;
mod signature;
mod standard;
mod strings;
mod text_format;
mod urls;

use std::collections::HashMap;
use std::sync::Arc;

use crate::environment::Version;
use crate::error::Error;
use crate::types::Type;
use crate::value::{Outcome, Value};

pub(crate) use operators::insert;
pub use regex::Pattern;
pub(crate) use regex::{Patterns, Refused, RegexFunction};
pub(crate) use text_format::{Clause, check as check_format};

/// Longer text no function makes, in bytes: what costs by what it is given could make any amount.
const LONGEST_TEXT: usize = 16 << 20;

/// What runs: values in, value out.
pub(crate) type Body = for<'a> fn(&[Value<'a>]) -> Outcome<'a>;

/// One signature of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: Arc<str>,
    /// Called on its first argument: `a.f(b)`.
    pub(crate) is_method: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// None: the function has one body for all, or evaluation knows the function itself.
    body: Option<Body>,
}

#[derive(Debug, Default)]
pub(crate) struct Function {
    pub(crate) overloads: Vec<Overload>,
    /// One body for all overloads, which tells by itself what it does not take.
    body: Option<Body>,
    /// Overloads are run without a look at the types of arguments.
    unguarded: bool,
}

impl Function {
    /// What to run for the overload that the checker found, or for whichever fits.
    pub(crate) fn call<'a>(
        &self,
        name: &str,
        overload: Option<&str>,
        args: &[Value<'a>],
    ) -> Outcome<'a> {
        if let Some(body) = self.body {
            return body(args);
        }
        let mut candidates = self.overloads.iter().filter(|o| {
            overload.is_none_or(|id| *o.id == *id)
                && o.args.len() == args.len()
                && (self.unguarded || o.args.iter().zip(args).all(|(ty, arg)| arg.is_of(ty)))
        });
        match candidates.find_map(|o| o.body) {
            Some(body) => body(args),
            None => Err(no_such_overload(name, args)),
        }
    }
}

/// What is said where no overload takes the arguments.
fn no_such_overload(name: &str, args: &[Value<'_>]) -> Error {
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    Error::new(format!("no such overload: {name}({})", types.join(", ")))
}

/// All functions of an environment.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    by_name: HashMap<&'static str, Function>,
}

impl Functions {
    pub(crate) fn get(&self, name: &str) -> Option<&Function> {
        self.by_name.get(name)
    }

    fn add(
        &mut self,
        is_method: bool,
        name: &'static str,
        id: &str,
        (args, result): (Vec<Type>, Type),
        body: Option<Body>,
    ) {
        let function = self.by_name.entry(name).or_default();
        function.overloads.push(Overload {
            id: id.into(),
            is_method,
            args,
            result,
            body,
        });
    }

    /// `name(args)`
    fn function(&mut self, name: &'static str, id: &str, signature: &str, body: Body) {
        self.add(false, name, id, signature::read(signature), Some(body));
    }

    /// `args[0].name(args[1..])`
    fn method(&mut self, name: &'static str, id: &str, signature: &str, body: Body) {
        self.add(true, name, id, signature::read(signature), Some(body));
    }

    /// An overload of a function with one body, or one that evaluation knows itself.
    fn declare(&mut self, name: &'static str, id: &str, signature: &str) {
        self.add(false, name, id, signature::read(signature), None);
    }

    fn declare_method(&mut self, name: &'static str, id: &str, signature: &str) {
        self.add(true, name, id, signature::read(signature), None);
    }

    /// One body for all overloads of a function.
    fn body(&mut self, name: &'static str, body: Body) {
        self.by_name.entry(name).or_default().body = Some(body);
    }

    fn unguarded(&mut self, name: &'static str) {
        self.by_name.entry(name).or_default().unguarded = true;
    }
}

/// Overloads with bodies, one a line: kind, name, id, signature, body.
macro_rules! overloads {
    ($functions:expr; $($kind:ident $name:literal $id:literal $signature:literal $body:expr;)*) => {
        $($functions.$kind($name, $id, $signature, $body);)*
    };
}
use overloads;

/// When it came, when it went, and what adds it.
type Library = (Version, Option<Version>, fn(&mut Functions));

/// Libraries by the version of Kubernetes that introduced them, and the one that removed them
/// (`apiserver/pkg/cel/environment/base.go`). The order decides which overload is tried first.
const LIBRARIES: &[Library] = &[
    (Version(1, 0), None, urls::add),
    (Version(1, 0), None, regex::add),
    (Version(1, 0), None, lists::add_kubernetes),
    (Version(1, 27), None, authorizer::add),
    (Version(1, 28), None, operators::add_across_types),
    (Version(1, 28), None, optional::add),
    (Version(1, 28), None, quantity::add),
    (Version(1, 0), None, strings::add),
    (Version(1, 29), None, text_format::add),
    (Version(1, 29), None, sets::add),
    (Version(1, 30), None, network::add_ip),
    (Version(1, 30), None, network::add_cidr),
    (Version(1, 31), None, format::add),
    (Version(1, 31), None, authorizer::add_selectors),
    (Version(1, 32), None, operators::add_map_insert),
    (Version(1, 33), None, quantity::add_semver),
    (Version(1, 34), None, lists::add_extended),
    (Version(1, 37), None, lists::add_includes),
];

impl Functions {
    /// The functions of a version.
    pub(crate) fn of(version: Version) -> Self {
        let mut functions = Self::default();
        operators::add(&mut functions);
        standard::add(&mut functions);
        for (introduced, removed, add) in LIBRARIES {
            if version >= *introduced && removed.is_none_or(|removed| version < removed) {
                add(&mut functions);
            }
        }
        functions
    }

    /// The function that selectors of devices have before others.
    pub(crate) fn add_includes(&mut self) {
        lists::add_includes(self);
    }

    /// The function that only mutating policies have.
    pub(crate) fn add_json_patch(&mut self) {
        strings::add_json_patch(self);
    }
}

/// A string argument. Signatures are checked before.
fn text<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v str, Error> {
    args.get(index)
        .and_then(Value::as_str)
        .ok_or_else(Error::no_such_overload)
}

fn int(args: &[Value<'_>], index: usize) -> Result<i64, Error> {
    match args.get(index) {
        Some(Value::Int(i)) => Ok(*i),
        _ => Err(Error::no_such_overload()),
    }
}

fn list<'v, 'a>(args: &'v [Value<'a>], index: usize) -> Result<&'v crate::value::List<'a>, Error> {
    match args.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(Error::no_such_overload()),
    }
}

fn opaque<'v, 'a>(
    args: &'v [Value<'a>],
    index: usize,
) -> Result<&'v crate::value::Opaque<'a>, Error> {
    match args.get(index) {
        Some(Value::Opaque(opaque)) => Ok(opaque),
        _ => Err(Error::no_such_overload()),
    }
}

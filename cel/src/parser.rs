//! From text to tree: the grammar of cel-go's `parser/gen/CEL.g4`, by hand.
//!
//! Clients see syntax errors, so they are worded as ANTLR words them. Where upstream's parser goes on
//! after an error, in ways that depend on its generated tables, this one stops: the first problem is
//! told as upstream tells it, some that follow from it are not told.
//!
//! Hostile input: at most 100,000 code points and 250 levels, counted as upstream counts them.

mod lexer;
mod literal;
mod macros;

use std::sync::Arc;

use crate::ast::{Ast, Element, Entry, FieldInit, Id, Node};
use crate::escape::is_reserved;
use crate::source::{Report, Source};
use lexer::{Kind, Token};
pub(crate) use macros::Macros;

/// cel-go's default for the size of an expression, in code points.
const LONGEST: usize = 100_000;
/// cel-go's default for how deep rules may nest.
const DEEPEST: u32 = 250;

/// What an expression may begin with, as ANTLR lists it.
const START: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                     NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// An issue was reported; nothing that follows is understood.
struct Stop;

type Parsed<T = Id> = Result<T, Stop>;

/// Function names of operators (`common/operators`).
pub(crate) mod operators {
    pub(crate) const CONDITIONAL: &str = "_?_:_";
    pub(crate) const AND: &str = "_&&_";
    pub(crate) const OR: &str = "_||_";
    pub(crate) const NOT: &str = "!_";
    pub(crate) const NEGATE: &str = "-_";
    pub(crate) const ADD: &str = "_+_";
    pub(crate) const EQUALS: &str = "_==_";
    pub(crate) const NOT_EQUALS: &str = "_!=_";
    pub(crate) const IN: &str = "@in";
    pub(crate) const INDEX: &str = "_[_]";
    pub(crate) const OPTIONAL_INDEX: &str = "_[?_]";
    pub(crate) const OPTIONAL_SELECT: &str = "_?._";
    pub(crate) const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
}

const RELATIONS: &[(&str, &str)] = &[
    ("<", "_<_"),
    ("<=", "_<=_"),
    (">=", "_>=_"),
    (">", "_>_"),
    ("==", operators::EQUALS),
    ("!=", operators::NOT_EQUALS),
];
const FACTORS: &[(&str, &str)] = &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")];
const SUMMANDS: &[(&str, &str)] = &[("+", operators::ADD), ("-", "_-_")];

/// The tree of an expression with its root; problems go to the report.
pub(crate) fn parse(source: &Source, macros: Macros, report: &mut Report<'_>) -> Option<(Ast, Id)> {
    let size = source.chars().len();
    if size > LONGEST {
        report.nowhere(format!(
            "expression code point size exceeds limit: size: {size}, limit {LONGEST}"
        ));
        return None;
    }
    let tokens = lexer::tokens(source, report);
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        macros,
        ast: Ast::default(),
        report,
        depth: [0; 4],
        levels: 0,
    };
    let root = parser.whole().ok()?;
    let Parser { ast, report, .. } = parser;
    report.is_empty().then_some((ast, root))
}

/// The recursive rules of the grammar whose nesting upstream limits.
#[derive(Clone, Copy)]
enum Rule {
    Expr,
    Relation,
    Calc,
    Member,
}

struct Parser<'a, 's> {
    source: &'a Source,
    tokens: Vec<Token>,
    at: usize,
    macros: Macros,
    ast: Ast,
    report: &'a mut Report<'s>,
    /// How deep each [`Rule`] nests at the moment.
    depth: [u32; 4],
    /// How many levels of operators, selections and calls of members there are in what has been parsed
    /// since [`Parser::apart`] began.
    levels: u32,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Token {
        self.tokens[self.at]
    }

    fn peek_at(&self, ahead: usize) -> Token {
        self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    fn is(&self, punct: &str) -> bool {
        matches!(self.peek().kind, Kind::Punct(p) if p == punct)
    }

    fn eat(&mut self, punct: &str) -> Option<Token> {
        self.is(punct).then(|| self.next())
    }

    fn text(&self, token: Token) -> String {
        self.source.chars()[token.start as usize..token.end as usize]
            .iter()
            .collect()
    }

    /// A token as ANTLR quotes it.
    fn shown(&self, token: Token) -> String {
        if token.kind == Kind::End {
            return "<EOF>".into();
        }
        self.text(token).chars().map(lexer::visible).collect()
    }

    fn syntax_error<T>(&mut self, at: Token, message: &str) -> Parsed<T> {
        self.report.at(at.start, format!("Syntax error: {message}"));
        Err(Stop)
    }

    /// The token here is not what has to stand here. One token too much is skipped if what follows
    /// it fits.
    fn unexpected(&mut self, expecting: &str, fits: impl Fn(Kind) -> bool) -> Parsed<()> {
        let token = self.peek();
        let shown = self.shown(token);
        if token.kind != Kind::End && fits(self.peek_at(1).kind) {
            self.report.at(
                token.start,
                format!("Syntax error: extraneous input '{shown}' expecting {expecting}"),
            );
            self.next();
            return Ok(());
        }
        self.syntax_error(
            token,
            &format!("mismatched input '{shown}' expecting {expecting}"),
        )
    }

    /// A bracket or colon that has to stand here. `missing` if it can be thought in before what stands here.
    fn expect(&mut self, punct: &'static str, missing: impl Fn(Kind) -> bool) -> Parsed<Token> {
        if let Some(token) = self.eat(punct) {
            return Ok(token);
        }
        let here = self.peek();
        if here.kind != Kind::End && self.peek_at(1).kind == Kind::Punct(punct) {
            self.unexpected(&format!("'{punct}'"), |k| k == Kind::Punct(punct))?;
            return Ok(self.next());
        }
        if missing(here.kind) {
            let shown = self.shown(here);
            return self.syntax_error(here, &format!("missing '{punct}' at '{shown}'"));
        }
        let shown = self.shown(here);
        self.syntax_error(
            here,
            &format!("mismatched input '{shown}' expecting '{punct}'"),
        )
    }

    fn deeper(&mut self, rule: Rule) -> Parsed<()> {
        self.depth[rule as usize] += 1;
        if self.depth[rule as usize] > DEEPEST {
            self.report
                .nowhere(format!("expression recursion limit exceeded: {DEEPEST}"));
            return Err(Stop);
        }
        Ok(())
    }

    fn leave(&mut self, rule: Rule) {
        self.depth[rule as usize] -= 1;
    }

    /// Counts the levels of a part by themselves.
    fn apart(&mut self, part: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        let beside = std::mem::take(&mut self.levels);
        let parsed = part(self);
        self.levels = self.levels.max(beside);
        parsed
    }

    fn whole(&mut self) -> Parsed {
        let root = self.expr()?;
        if self.peek().kind != Kind::End {
            self.unexpected("<EOF>", |k| k == Kind::End)?;
        }
        Ok(root)
    }

    /// One level more. Nothing builds a tree that is deeper than that: macros walk it.
    fn level(&mut self) -> Parsed<()> {
        self.levels += 1;
        if self.levels > DEEPEST {
            self.report.nowhere("max recursion depth exceeded");
            return Err(Stop);
        }
        Ok(())
    }

    fn expr(&mut self) -> Parsed {
        self.deeper(Rule::Expr)?;
        let result = self.apart(Self::conditional)?;
        self.leave(Rule::Expr);
        Ok(result)
    }

    fn conditional(&mut self) -> Parsed {
        let condition = self.or()?;
        let Some(op) = self.eat("?") else {
            return Ok(condition);
        };
        let yes = self.or()?;
        self.expect(":", starts)?;
        let no = self.expr()?;
        self.level()?;
        Ok(self.global(op.start, operators::CONDITIONAL, vec![condition, yes, no]))
    }

    fn or(&mut self) -> Parsed {
        self.balanced("||", operators::OR, Self::and)
    }

    fn and(&mut self) -> Parsed {
        self.balanced("&&", operators::AND, Self::relation)
    }

    /// `a || b || c || d`: a tree as flat as can be.
    fn balanced(&mut self, op: &str, function: &str, term: fn(&mut Self) -> Parsed) -> Parsed {
        let mut terms = vec![term(self)?];
        let mut ops = Vec::new();
        while let Some(token) = self.eat(op) {
            ops.push(token.start);
            terms.push(term(self)?);
        }
        if ops.is_empty() {
            return Ok(terms[0]);
        }
        let function: Arc<str> = function.into();
        Ok(self.tree(&function, &terms, &ops))
    }

    /// There is one operator between each two terms; there is at least one.
    fn tree(&mut self, function: &Arc<str>, terms: &[Id], ops: &[u32]) -> Id {
        let middle = ops.len() / 2;
        let side = |parser: &mut Self, terms: &[Id], ops: &[u32]| {
            if ops.is_empty() {
                terms[0]
            } else {
                parser.tree(function, terms, ops)
            }
        };
        let left = side(self, &terms[..=middle], &ops[..middle]);
        let right = side(self, &terms[middle + 1..], &ops[middle + 1..]);
        self.ast.add(
            ops[middle],
            Node::Call {
                function: function.clone(),
                target: None,
                args: vec![left, right],
            },
        )
    }

    fn relation(&mut self) -> Parsed {
        self.deeper(Rule::Relation)?;
        let result = self.apart(|parser| {
            let mut left = parser.sum()?;
            while let Some((op, function)) = parser.relation_operator() {
                parser.deeper(Rule::Relation)?;
                let right = parser.sum()?;
                parser.leave(Rule::Relation);
                parser.level()?;
                left = parser.global(op.start, function, vec![left, right]);
            }
            Ok(left)
        })?;
        self.leave(Rule::Relation);
        Ok(result)
    }

    fn relation_operator(&mut self) -> Option<(Token, &'static str)> {
        if self.peek().kind == Kind::In {
            return Some((self.next(), operators::IN));
        }
        self.operator(RELATIONS)
    }

    fn operator(&mut self, of: &[(&'static str, &'static str)]) -> Option<(Token, &'static str)> {
        let (_, function) = of.iter().find(|(text, _)| self.is(text))?;
        Some((self.next(), function))
    }

    fn sum(&mut self) -> Parsed {
        self.deeper(Rule::Calc)?;
        let result = self.apart(|parser| {
            let mut left = parser.unary()?;
            loop {
                if let Some((op, function)) = parser.operator(FACTORS) {
                    left = parser.factor(left, op, function)?;
                } else if let Some((op, function)) = parser.operator(SUMMANDS) {
                    parser.deeper(Rule::Calc)?;
                    let right = parser.apart(Self::product)?;
                    parser.leave(Rule::Calc);
                    parser.level()?;
                    left = parser.global(op.start, function, vec![left, right]);
                } else {
                    return Ok(left);
                }
            }
        })?;
        self.leave(Rule::Calc);
        Ok(result)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        while let Some((op, function)) = self.operator(FACTORS) {
            left = self.factor(left, op, function)?;
        }
        Ok(left)
    }

    fn factor(&mut self, left: Id, op: Token, function: &'static str) -> Parsed {
        self.deeper(Rule::Calc)?;
        let right = self.unary()?;
        self.leave(Rule::Calc);
        self.level()?;
        Ok(self.global(op.start, function, vec![left, right]))
    }

    fn unary(&mut self) -> Parsed {
        for (op, function) in [("!", operators::NOT), ("-", operators::NEGATE)] {
            if !self.is(op) || self.is_negative_literal() {
                continue;
            }
            let first = self.next();
            let mut count = 1;
            while self.eat(op).is_some() {
                count += 1;
            }
            let operand = self.member()?;
            return Ok(if count % 2 == 0 {
                operand
            } else {
                self.global(first.start, function, vec![operand])
            });
        }
        self.member()
    }

    fn is_negative_literal(&self) -> bool {
        self.is("-") && matches!(self.peek_at(1).kind, Kind::Int | Kind::Float)
    }

    fn member(&mut self) -> Parsed {
        self.deeper(Rule::Member)?;
        let result = self.apart(Self::members)?;
        self.leave(Rule::Member);
        Ok(result)
    }

    fn members(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            if let Some(dot) = self.eat(".") {
                operand = self.selection(dot, operand)?;
            } else if let Some(bracket) = self.eat("[") {
                let optional = self.optional("[?")?;
                if !optional && !starts(self.peek().kind) {
                    self.unexpected(&START.replace("'!',", "'!', '?',"), starts)?;
                }
                let index = self.expr()?;
                self.expect("]", |k| !starts(k))?;
                let function = if optional {
                    operators::OPTIONAL_INDEX
                } else {
                    operators::INDEX
                };
                operand = self.global(bracket.start, function, vec![operand, index]);
            } else {
                return Ok(operand);
            }
            self.level()?;
        }
    }

    /// A question mark, if the environment knows optionals.
    fn optional(&mut self, what: &str) -> Parsed<bool> {
        let Some(mark) = self.eat("?") else {
            return Ok(false);
        };
        if !self.macros.optional {
            let at = if what == "?" {
                mark.start
            } else {
                mark.start - 1
            };
            self.report.at(at, format!("unsupported syntax '{what}'"));
            return Err(Stop);
        }
        Ok(true)
    }

    /// What follows a dot.
    fn selection(&mut self, dot: Token, operand: Id) -> Parsed {
        let optional = self.optional(".?")?;
        let name = self.next();
        let text = self.text(name);
        let field: Arc<str> = match name.kind {
            Kind::Ident if !optional && self.is("(") => {
                let open = self.next();
                let args = self.arguments()?;
                return Ok(self.method(open.start, &text, operand, args));
            }
            Kind::Ident => text.into(),
            Kind::Escaped => text.trim_matches('`').into(),
            Kind::True | Kind::False | Kind::Null => {
                return self.syntax_error(
                    name,
                    &format!("mismatched input '{text}' expecting IDENTIFIER"),
                );
            }
            _ => {
                let shown = if optional {
                    format!(".?{text}")
                } else {
                    format!(".{text}")
                };
                return self
                    .syntax_error(name, &format!("no viable alternative at input '{shown}'"));
            }
        };
        if !optional {
            return Ok(self.ast.add(
                dot.start,
                Node::Select {
                    operand,
                    field,
                    test_only: false,
                },
            ));
        }
        let field = self.ast.add(
            name.start,
            Node::Literal(crate::ast::Literal::String(field)),
        );
        Ok(self.ast.add(
            dot.start,
            Node::Call {
                function: operators::OPTIONAL_SELECT.into(),
                target: None,
                args: vec![operand, field],
            },
        ))
    }

    /// The arguments of a call and its closing bracket.
    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.eat(")").is_some() {
            return Ok(args);
        }
        if !starts(self.peek().kind) {
            self.unexpected(&START.replace("'(', '.'", "'(', ')', '.'"), |k| {
                starts(k) || k == Kind::Punct(")")
            })?;
            if self.eat(")").is_some() {
                return Ok(args);
            }
        }
        loop {
            args.push(self.expr()?);
            if self.eat(",").is_none() {
                break;
            }
        }
        self.expect(")", |k| !starts(k))?;
        Ok(args)
    }

    fn primary(&mut self) -> Parsed {
        if !starts(self.peek().kind) {
            self.unexpected(START, starts)?;
        }
        let token = self.peek();
        match token.kind {
            Kind::Punct("(") => {
                self.next();
                let inner = self.expr()?;
                self.expect(")", |k| !starts(k))?;
                Ok(inner)
            }
            Kind::Punct("[") => self.list(),
            Kind::Punct("{") => self.map(),
            Kind::Punct("-") => {
                self.next();
                let number = self.next();
                self.literal(token, number, true)
            }
            Kind::Punct(".") | Kind::Ident => self.name(),
            _ => {
                self.next();
                self.literal(token, token, false)
            }
        }
    }

    fn literal(&mut self, first: Token, token: Token, negative: bool) -> Parsed {
        let text = self.text(token);
        let node = match literal::literal(token.kind, &text, negative) {
            Ok(value) => Node::Literal(value),
            Err(problem) => {
                self.report.at(first.start, problem);
                Node::Bad
            }
        };
        Ok(self.ast.add(first.start, node))
    }

    /// A name, a call of a function or a message.
    fn name(&mut self) -> Parsed {
        let first = self.peek();
        let dot = self.eat(".").is_some();
        let token = self.next();
        if token.kind != Kind::Ident {
            let text = self.text(token);
            return self.syntax_error(token, &format!("no viable alternative at input '.{text}'"));
        }
        let mut name = if dot {
            String::from(".")
        } else {
            String::new()
        };
        name.push_str(&self.text(token));
        let mut ahead = 0;
        while self.peek_at(ahead).kind == Kind::Punct(".")
            && self.peek_at(ahead + 1).kind == Kind::Ident
        {
            ahead += 2;
        }
        if self.peek_at(ahead).kind == Kind::Punct("{") {
            for _ in 0..ahead {
                let part = self.next();
                name.push_str(&self.text(part));
            }
            return self.message(&name);
        }
        let word = self.text(token);
        if is_reserved(&word) {
            self.report
                .at(first.start, format!("reserved identifier: {word}"));
            return Err(Stop);
        }
        if let Some(open) = self.eat("(") {
            let args = self.arguments()?;
            return Ok(self.global(open.start, &name, args));
        }
        Ok(self.ast.add(token.start, Node::Ident(name.into())))
    }

    /// Behind an element: a comma and another one, or the end. True if there is another one.
    fn another(&mut self, close: &'static str) -> Parsed<bool> {
        if self.eat(close).is_some() {
            return Ok(false);
        }
        if self.eat(",").is_some() {
            if self.eat(close).is_some() {
                return Ok(false);
            }
            return Ok(true);
        }
        let fits = |k| k == Kind::Punct(close) || k == Kind::Punct(",");
        self.unexpected(&format!("{{'{close}', ','}}"), fits)?;
        self.another(close)
    }

    /// True if the brackets that were just opened are empty, and closed.
    fn empty(&mut self, close: &'static str) -> bool {
        if self.is(",") && self.peek_at(1).kind == Kind::Punct(close) {
            self.next();
        }
        self.eat(close).is_some()
    }

    fn list(&mut self) -> Parsed {
        let open = self.next();
        let mut elements = Vec::new();
        let mut more = !self.empty("]");
        while more {
            let optional = self.optional("?")?;
            let value = self.expr()?;
            elements.push(Element { value, optional });
            more = self.another("]")?;
        }
        Ok(self.ast.add(open.start, Node::List { elements }))
    }

    fn map(&mut self) -> Parsed {
        let open = self.next();
        let mut entries = Vec::new();
        let mut more = !self.empty("}");
        while more {
            let optional = self.optional("?")?;
            let key = self.expr()?;
            self.expect(":", starts)?;
            let value = self.expr()?;
            entries.push(Entry {
                key,
                value,
                optional,
            });
            more = self.another("}")?;
        }
        Ok(self.ast.add(open.start, Node::Map { entries }))
    }

    fn message(&mut self, name: &str) -> Parsed {
        let open = self.next();
        let mut fields = Vec::new();
        let mut more = !self.empty("}");
        while more {
            let optional = self.optional("?")?;
            let token = self.next();
            let text = self.text(token);
            let name = match token.kind {
                Kind::Ident => text.as_str(),
                Kind::Escaped => text.trim_matches('`'),
                _ => {
                    let shown = self.shown(token);
                    return self.syntax_error(
                        token,
                        &format!(
                            "mismatched input '{shown}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}"
                        ),
                    );
                }
            };
            let name = name.into();
            let colon = self.expect(":", starts)?;
            let value = self.expr()?;
            fields.push(FieldInit {
                name,
                value,
                optional,
                offset: colon.start,
            });
            more = self.another("}")?;
        }
        Ok(self.ast.add(
            open.start,
            Node::Struct {
                name: name.into(),
                fields,
            },
        ))
    }

    /// A call of a function, or what a macro makes of it.
    fn global(&mut self, offset: u32, function: &str, args: Vec<Id>) -> Id {
        self.call(offset, function, None, args)
    }

    fn method(&mut self, offset: u32, function: &str, target: Id, args: Vec<Id>) -> Id {
        self.call(offset, function, Some(target), args)
    }

    fn call(&mut self, offset: u32, function: &str, target: Option<Id>, args: Vec<Id>) -> Id {
        let mut factory = macros::Factory {
            ast: &mut self.ast,
            offset,
        };
        let macros = self.macros;
        match macros.expand(&mut factory, function, target, &args) {
            Some(Ok(id)) => id,
            Some(Err(problem)) => {
                self.report.at(problem.offset, problem.message);
                self.ast.add(offset, Node::Bad)
            }
            None => self.ast.add(
                offset,
                Node::Call {
                    function: function.into(),
                    target,
                    args,
                },
            ),
        }
    }
}

/// Whether an expression may begin with this.
fn starts(kind: Kind) -> bool {
    match kind {
        Kind::Punct(p) => matches!(p, "[" | "{" | "(" | "." | "-" | "!"),
        Kind::True
        | Kind::False
        | Kind::Null
        | Kind::Int
        | Kind::Uint
        | Kind::Float
        | Kind::String
        | Kind::Bytes
        | Kind::Ident => true,
        Kind::In | Kind::Escaped | Kind::End => false,
    }
}

//! Regular expressions: `matches`, and Kubernetes' `find` and `findAll`
//! (`apiserver/pkg/cel/library/regex.go`).
//!
//! Upstream has RE2's syntax as Go knows it. It is translated to that of the `regex` crate, which has
//! the same engine and other habits: classes of letters and digits are Unicode's there, brackets nest
//! in classes, some letters have a meaning behind a backslash.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Functions, int, text};
use crate::error::Error;
use crate::value::{Outcome, Value, quote};

/// A compiled regular expression in Go's syntax.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<regex::Regex>);

impl Pattern {
    /// Compiles one by itself.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Go's `regexp`.
    pub fn new(pattern: &str) -> Result<Self, String> {
        Patterns::default()
            .get(pattern)
            .map_err(|refused| match refused {
                Refused::Wrong(why) => why,
                Refused::TooMany => "error parsing regexp: expression too large".into(),
            })
    }

    /// Whether it matches anywhere in a text.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// A function whose second argument is a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RegexFunction {
    Matches,
    Find,
    FindAll,
}

impl RegexFunction {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "matches" => Some(Self::Matches),
            "find" => Some(Self::Find),
            "findAll" => Some(Self::FindAll),
            _ => None,
        }
    }

    /// What the function says to a pattern that is none.
    pub(crate) fn refusal(self, refused: Refused) -> Error {
        match (self, refused) {
            (_, Refused::TooMany) => Error::OverBudget,
            (Self::Matches, Refused::Wrong(why)) => Error::new(why),
            (_, Refused::Wrong(why)) => Error::new(format!("Illegal regex: {why}")),
        }
    }

    /// The function with a pattern that is compiled already.
    pub(crate) fn call<'a>(self, Pattern(pattern): &Pattern, args: &[Value<'a>]) -> Outcome<'a> {
        let text = text(args, 0)?;
        Ok(match self {
            Self::Matches => Value::Bool(pattern.is_match(text)),
            Self::Find => Value::owned(pattern.find(text).map_or("", |found| found.as_str())),
            Self::FindAll => {
                let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                Value::texts(
                    pattern
                        .find_iter(text)
                        .take(limit)
                        .map(|found| found.as_str()),
                )
            }
        })
    }
}

pub(super) fn add(f: &mut Functions) {
    f.declare("matches", "matches", "string, string -> bool");
    f.declare_method("matches", "matches_string", "string, string -> bool");
    // Evaluation compiles patterns; here arrives what is no string.
    f.body("matches", |a| match a {
        [
            Value::String(_) | Value::Duration(_) | Value::Timestamp(_),
            _,
        ] => Err(Error::no_such_overload()),
        _ => Err(Error::new("no such overload: matches")),
    });
    f.declare_method("find", "string_find_string", "string, string -> string");
    f.declare_method(
        "findAll",
        "string_find_all_string",
        "string, string -> list(string)",
    );
    f.declare_method(
        "findAll",
        "string_find_all_string_int",
        "string, string, int -> list(string)",
    );
}

/// How large compiled patterns may be: each counts as much as the first of these that is enough. The last
/// is the `regex` crate's own limit.
const SIZES: [usize; 4] = [8 << 10, 64 << 10, 1 << 20, 10 << 20];
/// How large all patterns of one expression may be together, and again all that one evaluation makes.
/// Upstream's programs are smaller than the automata here, and it limits none.
const ALL: usize = 100 << 20;

/// Compiled patterns of one expression or evaluation, each compiled once.
#[derive(Default, Debug)]
pub(crate) struct Patterns {
    size: usize,
    known: HashMap<Box<str>, Pattern>,
}

/// Why there is no compiled pattern.
#[derive(Debug)]
pub(crate) enum Refused {
    /// In Go's words.
    Wrong(String),
    TooMany,
}

impl Patterns {
    /// A pattern in Go's syntax, compiled.
    pub(crate) fn get(&mut self, pattern: &str) -> Result<Pattern, Refused> {
        if let Some(known) = self.known.get(pattern) {
            return Ok(known.clone());
        }
        let wrong = |why: &str| Refused::Wrong(format!("error parsing regexp: {why}"));
        let translated =
            translate(pattern).map_err(|(why, what)| wrong(&format!("{why}: `{what}`")))?;
        for size in SIZES {
            if self.size + size > ALL {
                return Err(Refused::TooMany);
            }
            match regex::RegexBuilder::new(&translated)
                .size_limit(size)
                .build()
            {
                Ok(compiled) => {
                    let compiled = Pattern(Arc::new(compiled));
                    self.size += size;
                    self.known.insert(pattern.into(), compiled.clone());
                    return Ok(compiled);
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return Err(wrong(&format!("invalid pattern: {}", quote(pattern)))),
            }
        }
        Err(wrong("expression too large"))
    }
}

/// What is wrong, and the part that is.
type Wrong = (&'static str, String);

const PERL_CLASSES: &[(char, &str)] =
    &[('d', "0-9"), ('w', "0-9A-Za-z_"), ('s', "\\t\\n\\x0C\\r ")];

const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// More repetitions than this Go refuses.
const MOST_REPETITIONS: u32 = 1_000;

struct Translator<'p> {
    pattern: &'p str,
    rest: &'p str,
    out: String,
    depth: u32,
    /// Something stands before that can be repeated.
    repeatable: bool,
}

fn translate(pattern: &str) -> Result<String, Wrong> {
    let mut t = Translator {
        pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 8),
        depth: 0,
        repeatable: false,
    };
    while let Some(c) = t.rest.chars().next() {
        t.step(c)?;
    }
    if t.depth > 0 {
        return Err(("missing closing )", pattern.to_owned()));
    }
    Ok(t.out)
}

impl<'p> Translator<'p> {
    fn take(&mut self, len: usize) -> &'p str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn step(&mut self, c: char) -> Result<(), Wrong> {
        match c {
            '\\' => {
                self.escape(false)?;
                self.repeatable = true;
            }
            '[' => {
                self.class()?;
                self.repeatable = true;
            }
            '(' => self.group()?,
            ')' => {
                if self.depth == 0 {
                    return Err(("unexpected )", self.pattern.to_owned()));
                }
                self.depth -= 1;
                self.out.push_str(self.rest_first());
                self.take(1);
                self.repeatable = true;
            }
            '*' | '+' | '?' => self.repeat(1)?,
            '{' => match self.counted()? {
                Some(len) => self.repeat(len)?,
                None => {
                    self.out.push_str("\\{");
                    self.take(1);
                    self.repeatable = true;
                }
            },
            '|' => {
                self.out.push('|');
                self.take(1);
                self.repeatable = false;
            }
            '}' | ']' => {
                self.out.push('\\');
                self.out.push(c);
                self.take(1);
                self.repeatable = true;
            }
            c => {
                self.out.push(c);
                self.take(c.len_utf8());
                self.repeatable = true;
            }
        }
        Ok(())
    }

    fn rest_first(&self) -> &'p str {
        &self.rest[..1]
    }

    /// The length of `{n}`, `{n,}` or `{n,m}` here; anything else is a brace.
    fn counted(&self) -> Result<Option<usize>, Wrong> {
        let Some(end) = self.rest.find('}') else {
            return Ok(None);
        };
        let inside = &self.rest[1..end];
        let (low, high) = match inside.split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (inside, None),
        };
        let number = |text: &str| {
            let fits = !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit())
                && !(text.len() > 1 && text.starts_with('0'));
            fits.then(|| text.parse::<u32>().unwrap_or(u32::MAX))
        };
        let Some(min) = number(low) else {
            return Ok(None);
        };
        let max = match high {
            None | Some("") => min,
            Some(high) => match number(high) {
                Some(max) => max,
                None => return Ok(None),
            },
        };
        if min > MOST_REPETITIONS || max > MOST_REPETITIONS || max < min {
            return Err(("invalid repeat count", self.rest[..=end].to_owned()));
        }
        Ok(Some(end + 1))
    }

    fn repeat(&mut self, len: usize) -> Result<(), Wrong> {
        if !self.repeatable {
            return Err((
                "missing argument to repetition operator",
                self.rest[..len].to_owned(),
            ));
        }
        let start = self.rest;
        let operator = self.take(len);
        self.out.push_str(operator);
        let mut used = len;
        if self.rest.starts_with('?') {
            self.out.push('?');
            self.take(1);
            used += 1;
        }
        let again = match self.rest.chars().next() {
            Some('*' | '+' | '?') => 1,
            Some('{') => self.counted()?.unwrap_or(0),
            _ => 0,
        };
        if again > 0 {
            return Err((
                "invalid nested repetition operator",
                start[..used + again].to_owned(),
            ));
        }
        Ok(())
    }

    fn group(&mut self) -> Result<(), Wrong> {
        self.depth += 1;
        self.repeatable = false;
        if !self.rest.starts_with("(?") {
            self.out.push('(');
            self.take(1);
            return Ok(());
        }
        if self.rest.starts_with("(?P<") || self.rest.starts_with("(?<") {
            let start = self.rest.find('<').unwrap_or(0);
            let Some(end) = self.rest.find('>') else {
                return Err(("invalid named capture", self.rest.to_owned()));
            };
            let name = &self.rest[start + 1..end];
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(fits) {
                return Err(("invalid named capture", self.rest[..=end].to_owned()));
            }
            // What it is called makes no difference to any function here.
            self.out.push('(');
            self.take(end + 1);
            return Ok(());
        }
        let flags = self.rest[2..]
            .find(|c: char| !matches!(c, 'i' | 'm' | 's' | 'U' | '-'))
            .map_or(self.rest.len(), |i| i + 2);
        let end = flags + 1;
        match self.rest[flags..].chars().next() {
            Some(':') => {}
            Some(')') if flags > 2 => self.depth -= 1,
            _ => {
                let shown = self
                    .rest
                    .char_indices()
                    .nth(flags + 1)
                    .map_or(self.rest, |(i, _)| &self.rest[..i]);
                let why = if flags >= self.rest.len() {
                    "missing closing )"
                } else {
                    "invalid or unsupported Perl syntax"
                };
                return Err((why, shown.to_owned()));
            }
        }
        let text = self.take(end);
        self.out.push_str(text);
        Ok(())
    }

    /// A backslash and what belongs to it, alone or in a class.
    fn escape(&mut self, in_class: bool) -> Result<(), Wrong> {
        let Some(c) = self.rest[1..].chars().next() else {
            return Err(("trailing backslash at end of expression", String::new()));
        };
        let whole = 1 + c.len_utf8();
        if let Some((_, class)) = PERL_CLASSES
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(&c))
        {
            self.take(whole);
            match (in_class, c.is_ascii_uppercase()) {
                (true, false) => self.out.push_str(class),
                (_, true) => {
                    self.out.push_str("[^");
                    self.out.push_str(class);
                    self.out.push(']');
                }
                (false, false) => {
                    self.out.push('[');
                    self.out.push_str(class);
                    self.out.push(']');
                }
            }
            return Ok(());
        }
        match c {
            'Q' if !in_class => {
                self.take(whole);
                let end = self.rest.find("\\E").unwrap_or(self.rest.len());
                let literal = self.take(end);
                self.out.push_str(&regex::escape(literal));
                if !self.rest.is_empty() {
                    self.take(2);
                }
            }
            'b' | 'B' if !in_class => {
                self.take(whole);
                self.out.push_str("(?-u:\\");
                self.out.push(c);
                self.out.push(')');
            }
            'A' | 'z' if !in_class => {
                let text = self.take(whole);
                self.out.push_str(text);
            }
            'p' | 'P' => self.property(whole)?,
            'x' => {
                let digits = &self.rest[2..];
                let len = if let Some(inside) = digits.strip_prefix('{') {
                    inside.find('}').map(|end| end + 4)
                } else {
                    digits.get(..2).map(|_| 4)
                };
                let Some(len) = len else {
                    return Err(("invalid escape sequence", self.rest.to_owned()));
                };
                let text = self.take(len);
                self.out.push_str(text);
            }
            '0'..='7' => {
                let digits = self.rest[1..]
                    .chars()
                    .take(3)
                    .take_while(|c| ('0'..='7').contains(c))
                    .count();
                // A single digit but zero would be a back reference.
                if c != '0' && digits < 2 {
                    return Err(("invalid escape sequence", self.rest[..2].to_owned()));
                }
                let text = self.take(1 + digits);
                let code = u32::from_str_radix(&text[1..], 8).unwrap_or(0);
                self.out.push_str(&format!("\\x{{{code:x}}}"));
            }
            'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
                let text = self.take(whole);
                self.out.push_str(text);
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => {
                self.take(whole);
                if matches!(c, '<' | '>' | '_') {
                    self.out.push(c);
                } else {
                    self.out.push('\\');
                    self.out.push(c);
                }
            }
            _ => return Err(("invalid escape sequence", self.rest[..whole].to_owned())),
        }
        Ok(())
    }

    /// A class of Unicode's properties, `\pN` or `\p{Greek}`, whose letter ends at `named`.
    fn property(&mut self, named: usize) -> Result<(), Wrong> {
        let len = match self.rest[named..].chars().next() {
            Some('{') => self.rest.find('}').map(|end| end + 1),
            Some(one) => Some(named + one.len_utf8()),
            None => None,
        };
        let Some(len) = len else {
            return Err(("invalid character class range", self.rest.to_owned()));
        };
        let text = self.take(len);
        // Go negates inside the braces as well.
        match text.split_once("{^") {
            Some((letter, name)) => {
                let negated = if letter == "\\p" { "\\P" } else { "\\p" };
                self.out.push_str(negated);
                self.out.push('{');
                self.out.push_str(name);
            }
            None => self.out.push_str(text),
        }
        Ok(())
    }

    fn class(&mut self) -> Result<(), Wrong> {
        let start = self.rest;
        let missing = || ("missing closing ]", start.to_owned());
        self.out.push('[');
        self.take(1);
        if self.rest.starts_with('^') {
            self.out.push('^');
            self.take(1);
        }
        let mut first = true;
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(missing());
            };
            if c == ']' && !first {
                self.out.push(']');
                self.take(1);
                return Ok(());
            }
            first = false;
            if self.rest.starts_with("[:")
                && let Some(end) = self.rest[2..].find(":]")
            {
                let name = self.take(end + 4);
                let inner = &name[2..name.len() - 2];
                if !POSIX.contains(&inner.strip_prefix('^').unwrap_or(inner)) {
                    return Err(("invalid character class range", name.to_owned()));
                }
                self.out.push_str(name);
                continue;
            }
            let begin = self.rest;
            let is_one = self.member()?;
            if !is_one || !self.rest.starts_with('-') || self.rest.starts_with("-]") {
                continue;
            }
            self.take(1);
            self.out.push('-');
            if self.rest.is_empty() {
                return Err(missing());
            }
            if !self.member()? {
                let wrong = begin[..begin.len() - self.rest.len()].to_owned();
                return Err(("invalid character class range", wrong));
            }
        }
    }

    /// One member of a class: a character (true), or a whole class behind a backslash.
    fn member(&mut self) -> Result<bool, Wrong> {
        let Some(c) = self.rest.chars().next() else {
            return Ok(true);
        };
        if c == '\\' {
            let is_class = self.rest[1..]
                .starts_with(|c: char| matches!(c.to_ascii_lowercase(), 'd' | 'w' | 's' | 'p'));
            self.escape(true)?;
            return Ok(!is_class);
        }
        // None of these means anything here, in Go.
        if matches!(c, '[' | ']' | '&' | '~' | '-' | '^') {
            self.out.push('\\');
        }
        self.out.push(c);
        self.take(c.len_utf8());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, text: &str) -> Option<String> {
        let Pattern(compiled) = Patterns::default().get(pattern).expect("compiles");
        compiled.find(text).map(|found| found.as_str().to_owned())
    }

    #[test]
    fn classes_are_ascii_and_brackets_do_not_nest() {
        assert_eq!(find(r"\d+", "a٣12").as_deref(), Some("12"));
        assert_eq!(find(r"\w+", "ä_b").as_deref(), Some("_b"));
        assert_eq!(find(r"[[a]+", "x[a[").as_deref(), Some("[a["));
        assert_eq!(find(r"[a&&b]+", "x&b").as_deref(), Some("&b"));
        assert_eq!(find(r"a{,2}", "a{,2}").as_deref(), Some("a{,2}"));
        assert_eq!(find(r"\Qa.b\E+", "aab a.bb").as_deref(), Some("a.bb"));
        assert_eq!(find(r"[^\D]+", "ab12").as_deref(), Some("12"));
    }

    #[test]
    fn ranges_are_what_they_are_in_go() {
        assert_eq!(find(r"[+--]+", "a+,-b").as_deref(), Some("+,-"));
        assert_eq!(find(r"[a-]+", "x-a").as_deref(), Some("-a"));
        assert_eq!(find(r"[\d-]+", "x-1").as_deref(), Some("-1"));
        assert_eq!(find(r"[a^]+", "x^a").as_deref(), Some("^a"));
        assert_eq!(find(r"[[:alpha:]-]+", "1a-").as_deref(), Some("a-"));
        assert_eq!(find(r"\p{^Greek}+", "\u{3b1}ab").as_deref(), Some("ab"));
        assert_eq!(
            find(r"\P{^Greek}+", "\u{3b1}ab").as_deref(),
            Some("\u{3b1}")
        );
    }

    #[test]
    fn patterns_take_only_so_much_room() {
        let mut patterns = Patterns::default();
        let refused = (1..100).find_map(|n| patterns.get(&format!(r"\pL{{{}}}", 50 + n)).err());
        assert!(matches!(refused, Some(Refused::TooMany)));
        let mut small = Patterns::default();
        assert!((0..1_000).all(|n| small.get(&format!("^name-{n}$")).is_ok()));
        assert!((0..20).all(|_| small.get(r"\pL{100}").is_ok()));
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, why) in [
            (
                "a**",
                "error parsing regexp: invalid nested repetition operator: `**`",
            ),
            (
                "*",
                "error parsing regexp: missing argument to repetition operator: `*`",
            ),
            ("(a", "error parsing regexp: missing closing ): `(a`"),
            ("a)", "error parsing regexp: unexpected ): `a)`"),
            ("[a", "error parsing regexp: missing closing ]: `[a`"),
            (
                "a{1001}",
                "error parsing regexp: invalid repeat count: `{1001}`",
            ),
            (
                r"[a-\d]",
                r"error parsing regexp: invalid character class range: `a-\d`",
            ),
            (
                "[[:foo:]]",
                "error parsing regexp: invalid character class range: `[:foo:]`",
            ),
            (
                "(?=a)",
                "error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
            ),
            (
                r"\1",
                r"error parsing regexp: invalid escape sequence: `\1`",
            ),
        ] {
            let refused = Patterns::default().get(pattern).expect_err(pattern);
            assert!(
                matches!(refused, Refused::Wrong(told) if told == why),
                "{pattern}"
            );
        }
    }
}

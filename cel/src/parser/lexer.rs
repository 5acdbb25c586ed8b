//! Tokens: the lexical half of cel-go's `parser/gen/CEL.g4`.
//!
//! As in ANTLR the longest match wins; what is no token at all is reported and skipped.

use crate::source::{Report, Source};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// An operator or a bracket, by its text.
    Punct(&'static str),
    True,
    False,
    Null,
    In,
    Int,
    Uint,
    Float,
    String,
    Bytes,
    Ident,
    /// `` `an.escaped-name` ``
    Escaped,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Longer ones first.
const PUNCTUATION: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%",
];

/// All tokens; the last one is [`Kind::End`].
pub(crate) fn tokens(source: &Source, report: &mut Report<'_>) -> Vec<Token> {
    let chars = source.chars();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}') {
            at += 1;
            continue;
        }
        if chars[at..].starts_with(&['/', '/']) {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
            continue;
        }
        match token(&chars[at..]) {
            Ok((kind, len)) => {
                found.push(Token {
                    kind,
                    start: offset(at),
                    end: offset(at + len),
                });
                at += len;
            }
            Err(len) => {
                let text: String = chars[at..at + len].iter().collect();
                report.at(
                    offset(at),
                    format!("Syntax error: token recognition error at: '{text}'"),
                );
                at += len;
            }
        }
    }
    found.push(Token {
        kind: Kind::End,
        start: offset(at),
        end: offset(at),
    });
    found
}

fn offset(at: usize) -> u32 {
    // The length of an expression is limited far below.
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// How ANTLR shows a token.
pub(crate) fn visible(c: char) -> String {
    match c {
        '\n' => "\\n".into(),
        '\t' => "\\t".into(),
        '\r' => "\\r".into(),
        c => c.to_string(),
    }
}

/// The token that `rest` begins with and its length; or how much of it is no token.
fn token(rest: &[char]) -> Result<(Kind, usize), usize> {
    let first = rest[0];
    if let Some(result) = text(rest) {
        return result;
    }
    if first.is_ascii_digit() || (first == '.' && rest.get(1).is_some_and(char::is_ascii_digit)) {
        return Ok(number(rest));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let len = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        let word: String = rest[..len].iter().collect();
        let kind = match word.as_str() {
            "true" => Kind::True,
            "false" => Kind::False,
            "null" => Kind::Null,
            "in" => Kind::In,
            _ => Kind::Ident,
        };
        return Ok((kind, len));
    }
    if first == '`' {
        let inside = run(&rest[1..], |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ')
        });
        return match rest.get(inside + 1) {
            Some('`') if inside > 0 => Ok((Kind::Escaped, inside + 2)),
            Some(_) => Err(inside + 2),
            None => Err(inside + 1),
        };
    }
    PUNCTUATION
        .iter()
        .find(|p| p.chars().eq(rest.iter().copied().take(p.len())))
        .map(|p| (Kind::Punct(p), p.len()))
        .ok_or_else(|| {
            // `&` and `|` alone: ANTLR has seen the next character before it gives up.
            match (first, rest.get(1)) {
                ('&' | '|' | '=', Some(_)) => 2,
                _ => 1,
            }
        })
}

fn run(chars: &[char], belongs: impl Fn(char) -> bool) -> usize {
    chars.iter().take_while(|c| belongs(**c)).count()
}

fn number(rest: &[char]) -> (Kind, usize) {
    if rest[0] == '0' && rest.get(1) == Some(&'x') {
        let hex = run(&rest[2..], |c| c.is_ascii_hexdigit());
        if hex > 0 {
            return with_suffix(rest, 2 + hex);
        }
    }
    let whole = run(rest, |c| c.is_ascii_digit());
    let mut len = whole;
    if rest.get(len) == Some(&'.') {
        let fraction = run(&rest[len + 1..], |c| c.is_ascii_digit());
        if fraction > 0 {
            len += 1 + fraction;
        }
    }
    if matches!(rest.get(len), Some('e' | 'E')) {
        let sign = usize::from(matches!(rest.get(len + 1), Some('+' | '-')));
        let digits = run(&rest[(len + 1 + sign).min(rest.len())..], |c| {
            c.is_ascii_digit()
        });
        if digits > 0 {
            len += 1 + sign + digits;
        }
    }
    if len > whole {
        return (Kind::Float, len);
    }
    with_suffix(rest, whole)
}

fn with_suffix(rest: &[char], len: usize) -> (Kind, usize) {
    match rest.get(len) {
        Some('u' | 'U') => (Kind::Uint, len + 1),
        _ => (Kind::Int, len),
    }
}

/// A string or bytes, if `rest` begins like one.
fn text(rest: &[char]) -> Option<Result<(Kind, usize), usize>> {
    let mut at = 0;
    let mut kind = Kind::String;
    let mut raw = false;
    if matches!(rest[at], 'b' | 'B') {
        kind = Kind::Bytes;
        at += 1;
    }
    if matches!(rest.get(at), Some('r' | 'R')) {
        raw = true;
        at += 1;
    }
    let quote = *rest.get(at).filter(|c| matches!(c, '"' | '\''))?;
    let triple = rest[at..].starts_with(&[quote; 3]);
    let body = at + if triple { 3 } else { 1 };
    let end = match closing(&rest[body..], quote, triple, raw) {
        Ok(end) => end,
        // Three quotes that never close are an empty string and the beginning of another.
        Err(_) if triple => return Some(Ok((kind, at + 2))),
        // A prefix alone is a name.
        Err(_) if at > 0 => return None,
        Err(read) => return Some(Err(body + read)),
    };
    Some(Ok((kind, body + end)))
}

/// Where the string ends (behind its closing quotes), or how far it could be read.
fn closing(body: &[char], quote: char, triple: bool, raw: bool) -> Result<usize, usize> {
    let mut at = 0;
    loop {
        let Some(c) = body.get(at).copied() else {
            return Err(at);
        };
        if c == quote {
            if !triple {
                return Ok(at + 1);
            }
            if body[at..].starts_with(&[quote; 3]) {
                return Ok(at + 3);
            }
        }
        if !triple && matches!(c, '\n' | '\r') {
            return Err(at + 1);
        }
        if c == '\\' && !raw {
            at += escape(&body[at..]).map_err(|read| at + read)?;
        } else {
            at += 1;
        }
    }
}

/// The length of an escape sequence, or how much of it could be read.
fn escape(rest: &[char]) -> Result<usize, usize> {
    let digits = |from: usize, count: usize, of: fn(&char) -> bool| {
        let have = rest[from.min(rest.len())..]
            .iter()
            .take(count)
            .take_while(|c| of(c))
            .count();
        if have == count {
            Ok(from + count)
        } else {
            Err((from + have + 1).min(rest.len()))
        }
    };
    match rest.get(1) {
        Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => Ok(2),
        Some('x' | 'X') => digits(2, 2, char::is_ascii_hexdigit),
        Some('u') => digits(2, 4, char::is_ascii_hexdigit),
        Some('U') => digits(2, 8, char::is_ascii_hexdigit),
        Some('0'..='3') => digits(2, 2, |c| ('0'..='7').contains(c)),
        Some(_) => Err(2),
        None => Err(1),
    }
}

//! A scanner over JSON text: tokens, and whole values that nobody looks into.
//!
//! The text is UTF-8 by type, so strings without escapes are borrowed from it. Nothing here recurses.

use std::borrow::Cow;

use super::super::{DecodeError, MAX_RAW_DEPTH};

pub(super) struct Scanner<'a> {
    text: &'a str,
    pos: usize,
}

/// What begins at a place where a value must stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Token {
    /// How Go's errors call it.
    pub(super) fn go_name(self) -> String {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::True | Self::False => "bool",
            Self::Null => "null",
        }
        .to_owned()
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, pos: 0 }
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// The text from an earlier position to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.pos]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.pos += 1;
        }
    }

    /// The error for the byte that stands here.
    fn unexpected(&self, context: &'static str) -> DecodeError {
        match self.peek() {
            Some(found) => DecodeError::Unexpected {
                found,
                context,
                offset: self.pos,
            },
            None => DecodeError::EndOfJson,
        }
    }

    /// The error for an opening bracket that is one too many.
    pub(super) fn too_deep(&self) -> DecodeError {
        self.unexpected("exceeded max depth")
    }

    /// Skips space and looks at the value that begins here.
    pub(super) fn value(&mut self) -> Result<Token> {
        self.space();
        Ok(match self.peek() {
            Some(b'{') => Token::Object,
            Some(b'[') => Token::Array,
            Some(b'"') => Token::String,
            Some(b'-' | b'0'..=b'9') => Token::Number,
            Some(b't') => Token::True,
            Some(b'f') => Token::False,
            Some(b'n') => Token::Null,
            _ => return Err(self.unexpected("looking for beginning of value")),
        })
    }

    /// The end of the text, after the one value of it.
    pub(super) fn end(&mut self) -> Result<()> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    /// Enters the object that begins here; [`Scanner::next_key`] follows.
    pub(super) fn enter(&mut self) {
        self.pos += 1;
    }

    /// The next key of an object, up to and with its colon; none at its end. `first` is set for the
    /// first call after [`Scanner::enter`].
    pub(super) fn next_key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>> {
        if !self.begin_key(first)? {
            return Ok(None);
        }
        let key = self.string()?;
        self.colon()?;
        Ok(Some(key))
    }

    fn begin_key(&mut self, first: bool) -> Result<bool> {
        self.space();
        match (self.peek(), first) {
            (Some(b'}'), _) => {
                self.pos += 1;
                return Ok(false);
            }
            (Some(b','), false) => {
                self.pos += 1;
                self.space();
            }
            (_, false) => return Err(self.unexpected("after object key:value pair")),
            (_, true) => {}
        }
        match self.peek() {
            Some(b'"') => Ok(true),
            _ => Err(self.unexpected("looking for beginning of object key string")),
        }
    }

    fn colon(&mut self) -> Result<()> {
        self.space();
        match self.peek() {
            Some(b':') => {
                self.pos += 1;
                Ok(())
            }
            _ => Err(self.unexpected("after object key")),
        }
    }

    /// Whether another element of an array follows; leaves the scanner at the element, or after the
    /// array.
    pub(super) fn next_element(&mut self, first: bool) -> Result<bool> {
        self.space();
        match (self.peek(), first) {
            (Some(b']'), _) => {
                self.pos += 1;
                Ok(false)
            }
            (Some(b','), false) => {
                self.pos += 1;
                Ok(true)
            }
            (_, false) => Err(self.unexpected("after array element")),
            (_, true) => Ok(true),
        }
    }

    /// The string that begins here.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.pos += 1;
        let start = self.pos;
        self.plain();
        if self.peek() == Some(b'"') {
            let text = self.since(start);
            self.pos += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut out = self.since(start).to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.unexpected("in string literal")),
            }
            let start = self.pos;
            self.plain();
            out.push_str(self.since(start));
        }
    }

    /// Skips to the next quote, backslash, control character or the end, eight bytes at a time.
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        // A byte of the result is set where the byte of `v` is zero; false positives only above true ones.
        let zero = |v: u64| v.wrapping_sub(ONES) & !v & HIGHS;
        let rest = &self.text.as_bytes()[self.pos..];
        let mut chunks = rest.chunks_exact(8);
        for chunk in &mut chunks {
            let v = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
            let control = v.wrapping_sub(ONES * 0x20) & !v & HIGHS;
            let found =
                zero(v ^ (ONES * u64::from(b'"'))) | zero(v ^ (ONES * u64::from(b'\\'))) | control;
            if found != 0 {
                self.pos += (found.trailing_zeros() / 8) as usize;
                return;
            }
            self.pos += 8;
        }
        let tail = chunks.remainder();
        let len = tail
            .iter()
            .position(|b| matches!(b, b'"' | b'\\' | 0..0x20))
            .unwrap_or(tail.len());
        self.pos += len;
    }

    /// The escape that begins here. Half a surrogate pair becomes U+FFFD, as in Go.
    fn escape(&mut self) -> Result<char> {
        self.pos += 1;
        let plain = match self.peek() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'u') => {
                self.pos += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.pos += 1;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char> {
        let high = self.four_digits()?;
        if let 0xd800..0xdc00 = high
            && self.text.as_bytes()[self.pos..].starts_with(b"\\u")
        {
            let back = self.pos;
            self.pos += 2;
            let low = self.four_digits()?;
            if let 0xdc00..0xe000 = low {
                let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.pos = back;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32> {
        let mut n = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            n = n << 4
                | digit.ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            self.pos += 1;
        }
        Ok(n)
    }

    /// The number that begins here.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        let start = self.pos;
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        match self.peek() {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.pos += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.pos += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
    }

    fn some_digits(&mut self, context: &'static str) -> Result<()> {
        let Some(b'0'..=b'9') = self.peek() else {
            return Err(self.unexpected(context));
        };
        self.digits();
        Ok(())
    }

    /// `true`, `false` or `null`, as the first byte says.
    pub(super) fn literal(&mut self, token: Token) -> Result<()> {
        const TRUE: [&str; 3] = [
            "in literal true (expecting 'r')",
            "in literal true (expecting 'u')",
            "in literal true (expecting 'e')",
        ];
        const FALSE: [&str; 4] = [
            "in literal false (expecting 'a')",
            "in literal false (expecting 'l')",
            "in literal false (expecting 's')",
            "in literal false (expecting 'e')",
        ];
        const NULL: [&str; 3] = [
            "in literal null (expecting 'u')",
            "in literal null (expecting 'l')",
            "in literal null (expecting 'l')",
        ];
        let (rest, contexts): (&[u8], &[&'static str]) = match token {
            Token::True => (b"rue", &TRUE),
            Token::False => (b"alse", &FALSE),
            _ => (b"ull", &NULL),
        };
        self.pos += 1;
        for (byte, context) in rest.iter().zip(contexts) {
            if self.peek() != Some(*byte) {
                return Err(self.unexpected(context));
            }
            self.pos += 1;
        }
        Ok(())
    }

    /// Skips the value that begins here, `depth` levels below the top, and returns its text.
    pub(super) fn skip(&mut self, depth: usize) -> Result<&'a str> {
        self.value()?;
        let start = self.pos;
        // The open arrays (false) and objects (true).
        let mut open: Vec<bool> = Vec::new();
        loop {
            let token = self.value()?;
            let entered = match token {
                Token::Object | Token::Array => {
                    if depth + open.len() >= MAX_RAW_DEPTH {
                        return Err(self.too_deep());
                    }
                    self.enter();
                    open.push(token == Token::Object);
                    true
                }
                token => {
                    self.scalar(token)?;
                    false
                }
            };
            if !self.next_of(&mut open, entered)? {
                return Ok(self.since(start));
            }
        }
    }

    fn scalar(&mut self, token: Token) -> Result<()> {
        match token {
            Token::String => self.skip_string(),
            Token::Number => self.number().map(|_| ()),
            token => self.literal(token),
        }
    }

    /// Goes on to the next value within `open`, closing what ends; false when nothing is open any more.
    fn next_of(&mut self, open: &mut Vec<bool>, mut first: bool) -> Result<bool> {
        while let Some(object) = open.last() {
            let more = if *object {
                let more = self.begin_key(first)?;
                if more {
                    self.skip_string()?;
                    self.colon()?;
                }
                more
            } else {
                self.next_element(first)?
            };
            if more {
                return Ok(true);
            }
            open.pop();
            first = false;
        }
        Ok(false)
    }

    fn skip_string(&mut self) -> Result<()> {
        self.pos += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape()?;
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }
}

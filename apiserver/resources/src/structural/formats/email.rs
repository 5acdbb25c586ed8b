//! Addresses of mail as Go's `net/mail.ParseAddress` takes them (RFC 5322): `a@b`, `Name <a@b>`, a group
//! of one.

use std::net::IpAddr;

/// Whether a text is one address. Encoded words of unknown character sets pass here.
pub(super) fn is_address(text: &str) -> bool {
    let mut parser = Parser { rest: text };
    let one = parser.address(true) == Some(1);
    one && parser.skip_comments() && parser.rest.is_empty()
}

/// What stands in an atom; dots only where they may.
fn is_atom(c: char) -> bool {
    !"()<>[]:;@\\,\"".contains(c) && is_visible(c)
}

fn is_visible(c: char) -> bool {
    c.is_ascii_graphic() || !c.is_ascii()
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Spaces and comments; false if one does not end.
    fn skip_comments(&mut self) -> bool {
        self.skip_space();
        while self.take('(') {
            if !self.comment() {
                return false;
            }
            self.skip_space();
        }
        true
    }

    /// What is behind an opening parenthesis up to the one that closes it.
    fn comment(&mut self) -> bool {
        let mut depth = 1;
        let mut chars = self.rest.chars();
        while depth > 0 {
            match chars.next() {
                None => return false,
                Some('\\') if !chars.as_str().is_empty() => drop(chars.next()),
                Some('(') => depth += 1,
                Some(')') => depth -= 1,
                Some(_) => {}
            }
        }
        self.rest = chars.as_str();
        true
    }

    /// How many addresses there are in one, which may be a group.
    fn address(&mut self, may_be_group: bool) -> Option<usize> {
        self.skip_space();
        let start = self.rest;
        if self.plain().is_some() {
            self.skip_space();
            return (!self.take('(') || self.comment()).then_some(1);
        }
        self.rest = start;
        if start.is_empty() || !start.starts_with('<') && !self.phrase() {
            return None;
        }
        self.skip_space();
        if may_be_group && self.take(':') {
            return self.group();
        }
        if !self.take('<') {
            return None;
        }
        self.plain()?;
        self.take('>').then_some(1)
    }

    fn group(&mut self) -> Option<usize> {
        self.skip_space();
        let mut count = 0;
        if self.take(';') {
            return self.skip_comments().then_some(count);
        }
        loop {
            count += self.address(false)?;
            if !self.skip_comments() {
                return None;
            }
            if self.take(';') {
                return self.skip_comments().then_some(count);
            }
            if !self.take(',') {
                return None;
            }
        }
    }

    /// `local@domain`.
    fn plain(&mut self) -> Option<()> {
        self.skip_space();
        if self.rest.starts_with('"') {
            if self.quoted()? == 0 {
                return None;
            }
        } else {
            self.atom(false)?;
        }
        if !self.take('@') {
            return None;
        }
        self.skip_space();
        if !self.take('[') {
            return self.atom(false);
        }
        let (address, rest) = self.rest.split_once(']')?;
        self.rest = rest;
        address.parse::<IpAddr>().ok().map(drop)
    }

    /// Words before an address; false if there is none.
    fn phrase(&mut self) -> bool {
        let mut words = 0;
        loop {
            if words > 0 && !self.skip_comments() {
                return false;
            }
            self.skip_space();
            let word = if self.rest.starts_with('"') {
                self.quoted().map(drop)
            } else {
                self.atom(true)
            };
            if word.is_none() {
                return words > 0 || self.rest.is_empty();
            }
            words += 1;
        }
    }

    /// Atoms between dots, which stand anywhere if that is `lax`.
    fn atom(&mut self, lax: bool) -> Option<()> {
        let end = self
            .rest
            .find(|c| c != '.' && !is_atom(c))
            .unwrap_or(self.rest.len());
        let (atom, rest) = self.rest.split_at(end);
        let well = lax || atom.split('.').all(|part| !part.is_empty());
        if atom.is_empty() || !well {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    /// A string in quotes; how long it is inside.
    fn quoted(&mut self) -> Option<usize> {
        let mut chars = self.rest.strip_prefix('"')?.chars();
        let mut len = 0;
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    c if is_visible(c) || matches!(c, ' ' | '\t') => len += 1,
                    _ => return None,
                },
                c if is_visible(c) || matches!(c, ' ' | '\t') => len += 1,
                _ => return None,
            }
        }
        self.rest = chars.as_str();
        Some(len)
    }
}

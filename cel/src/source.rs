//! The text of an expression, places in it, and what is wrong there, printed as `cel-go` prints it
//! (`common/error.go`, `common/source.go`): clients see these texts in `Status` objects.

use std::fmt;

/// More problems than this are counted, not listed.
const MOST_ISSUES: usize = 100;
/// A line longer than this is not repeated below its problem, in bytes.
const LONGEST_SNIPPET: usize = 16_384;

/// An expression as code points, with the offsets at which its lines begin.
pub(crate) struct Source {
    chars: Vec<char>,
    /// Offset of the first code point of the second, third, ... line.
    lines: Vec<u32>,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let lines = (1..)
            .zip(&chars)
            .filter_map(|(next, c)| (*c == '\n').then_some(next))
            .collect();
        Self { chars, lines }
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.chars
    }

    /// Where the code point at `offset` stands.
    pub(crate) fn place(&self, offset: u32) -> Place {
        // Of nothing, upstream points before the beginning.
        if self.chars.is_empty() {
            return Place {
                line: 1,
                column: -1,
            };
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).map_or(0, |i| self.lines[i]);
        Place {
            line: i32::try_from(line + 1).unwrap_or(i32::MAX),
            column: i32::try_from(offset - start).unwrap_or(i32::MAX),
        }
    }

    fn line(&self, line: i32) -> Option<String> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        if self.chars.is_empty() || index > self.lines.len() {
            return None;
        }
        let start = index.checked_sub(1).map_or(0, |i| self.lines[i] as usize);
        let end = match self.lines.get(index) {
            Some(next) => *next as usize - 1,
            None => self.chars.len(),
        };
        Some(self.chars[start..end].iter().collect())
    }
}

/// A line, counted from 1, and a column, counted from 0; both are -1 for what concerns the whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub line: i32,
    pub column: i32,
}

impl Place {
    pub(crate) const NOWHERE: Self = Self {
        line: -1,
        column: -1,
    };
}

/// One thing that is wrong with an expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issue {
    pub place: Place,
    pub message: String,
    /// The line with the problem, and the place below it.
    shown: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ERROR: <input>:{}:{}: {}{}",
            self.place.line,
            self.place.column + 1,
            self.message,
            self.shown
        )
    }
}

/// Everything that is wrong with an expression; printed, one after the other by place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issues {
    issues: Vec<Issue>,
    more: usize,
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{issue}")?;
        }
        if self.more > 0 {
            write!(f, "\n{} more errors were truncated", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

/// Collects issues while one expression is compiled.
pub(crate) struct Report<'s> {
    source: &'s Source,
    issues: Vec<Issue>,
    more: usize,
}

impl<'s> Report<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            issues: Vec::new(),
            more: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    pub(crate) fn at(&mut self, offset: u32, message: impl Into<String>) {
        self.push(self.source.place(offset), message.into());
    }

    pub(crate) fn nowhere(&mut self, message: impl Into<String>) {
        self.push(Place::NOWHERE, message.into());
    }

    /// What makes all the rest worth nothing.
    pub(crate) fn instead(&mut self, message: impl Into<String>) {
        self.issues.clear();
        self.more = 0;
        self.nowhere(message);
    }

    fn push(&mut self, place: Place, message: String) {
        if self.issues.len() == MOST_ISSUES {
            self.more += 1;
            return;
        }
        let shown = self.snippet(place);
        self.issues.push(Issue {
            place,
            message,
            shown,
        });
    }

    /// Wide characters (of more than one byte) are pointed at with wide marks.
    fn snippet(&self, place: Place) -> String {
        let Some(line) = self.source.line(place.line) else {
            return String::new();
        };
        if line.len() > LONGEST_SNIPPET {
            return String::new();
        }
        let line = line.replace('\t', " ");
        let mut marks = String::new();
        let mut chars = line.chars();
        for c in chars
            .by_ref()
            .take(usize::try_from(place.column).unwrap_or(0))
        {
            marks.push(if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
        }
        let wide = chars.next().is_some_and(|c| c.len_utf8() > 1);
        marks.push(if wide { '\u{ff3e}' } else { '^' });
        format!("\n | {line}\n | {marks}")
    }

    /// All that was found, if anything.
    pub(crate) fn finish(mut self) -> Result<(), Issues> {
        if self.issues.is_empty() {
            return Ok(());
        }
        self.issues.sort_by_key(|issue| issue.place);
        Err(Issues {
            issues: self.issues,
            more: self.more,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_shows_its_line_and_points_at_its_place_wide_characters_with_wide_marks() {
        let source = Source::new("a &&\n 'ä' + b");
        let mut report = Report::new(&source);
        report.at(12, "undeclared reference to 'b' (in container '')");
        report.nowhere("too deep");
        let text = report.finish().expect_err("two issues").to_string();
        assert_eq!(
            text,
            "ERROR: <input>:-1:0: too deep\n\
             ERROR: <input>:2:8: undeclared reference to 'b' (in container '')\n |  'ä' + b\n | ..．....^"
        );
    }
}

//! The list of what is known to differ.

use std::path::Path;

use anyhow::{Context, bail};

/// One line of it: `TARGET CLASS PATTERN REASON`, then `#` and why. A `-` stands for what is empty, a `**`
/// at the end of a word for anything.
pub(crate) struct Line {
    words: [String; 4],
    pub text: String,
}

pub(crate) struct Known(pub Vec<Line>);

impl Known {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut lines = Vec::new();
        for line in text
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let Some((rule, _)) = line.split_once(" # ") else {
                bail!("{}: a line says no why: {line}", path.display());
            };
            let words: Vec<String> = rule.split_whitespace().map(str::to_owned).collect();
            let words: [String; 4] = words
                .try_into()
                .map_err(|_| anyhow::anyhow!("{}: not four words: {line}", path.display()))?;
            lines.push(Line {
                words,
                text: line.to_owned(),
            });
        }
        Ok(Self(lines))
    }

    /// The line that a group stands in.
    #[must_use]
    pub(crate) fn find(&self, words: [&str; 4]) -> Option<usize> {
        self.0.iter().position(|line| {
            let mut pairs = line.words.iter().zip(words);
            pairs.all(|(rule, word)| match rule.strip_suffix("**") {
                Some(start) => word.starts_with(start),
                None => rule == word,
            })
        })
    }
}

//! Sets of completion indexes, as statuses and success policies write them: `1,3-5,7`.
//!
//! Source: `pkg/controller/job/indexed_job_utils.go`.

use std::fmt;

/// Ranges in order that do not touch, first and last included.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads a text; what is no index below `completions` is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let range = |item: &str| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (first.parse().ok()?, last.parse::<i32>().ok()?);
            let last = last.min(completions.saturating_sub(1));
            (0 <= first && first <= last).then_some((first, last))
        };
        let mut ranges: Vec<(i32, i32)> = text.split(',').filter_map(range).collect();
        ranges.sort_unstable();
        Self::joined(ranges)
    }

    fn joined(sorted: impl IntoIterator<Item = (i32, i32)>) -> Self {
        let mut all: Vec<(i32, i32)> = Vec::new();
        for (first, last) in sorted {
            match all.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => all.push((first, last)),
            }
        }
        Self(all)
    }

    /// These and others.
    pub(super) fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        self.merged(&Self(more.into_iter().map(|i| (i, i)).collect()))
    }

    pub(super) fn merged(&self, other: &Self) -> Self {
        let mut all = self.0.clone();
        all.extend_from_slice(&other.0);
        all.sort_unstable();
        Self::joined(all)
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn count(&self) -> i32 {
        let length = |(first, last): &(i32, i32)| last - first + 1;
        self.0.iter().map(length).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of `other` are among these.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let both = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        let (mut left, mut right, mut count) =
            (self.0.iter().peekable(), other.0.iter().peekable(), 0);
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            count += both(a, b);
            if a.1 <= b.1 {
                left.next();
            } else {
                right.next();
            }
        }
        count
    }

    /// The first `count` indexes below `completions` that are not among these.
    pub(super) fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut gaps = Vec::new();
        let mut next = 0;
        for (first, last) in &self.0 {
            gaps.push(next..(*first).min(completions));
            next = last.saturating_add(1);
        }
        gaps.push(next..completions);
        gaps.into_iter().flatten().take(count).collect()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        for (text, completions, out, count) in [
            ("", 9, "", 0),
            ("0,2-4,5,7", 9, "0,2-5,7", 6),
            ("1,2", 9, "1,2", 2),
            ("1,x,3-9", 6, "1,3-5", 4),
            ("8", 4, "", 0),
        ] {
            let all = Indexes::parse(text, completions);
            assert_eq!(
                (all.to_string().as_str(), all.count()),
                (out, count),
                "{text}"
            );
        }
    }

    #[test]
    fn sets_join_and_tell_what_is_missing() {
        let some = Indexes::parse("1,3-4", 9);
        assert_eq!(some.with([2, 7]).to_string(), "1-4,7");
        assert!(some.has(3) && !some.has(2) && !some.has(9));
        assert_eq!(some.missing(3, 9), [0, 2, 5]);
        assert_eq!(some.missing(9, 3), [0, 2]);
        assert_eq!(some.common(&Indexes::parse("0-3", 9)), 2);
    }
}

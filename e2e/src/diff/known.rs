//! Differences between ours and upstream's that are known, in files of lines. The lists may only get shorter.
//!
//! A line is a kind or `*`, a part of what is told of the difference, and why it is there, between tabs.

/// So many differences may be meant.
pub const MOST: usize = 20;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("line {0} is not three fields between tabs")]
    Malformed(usize),
    #[error("{0} differences are meant, at most {MOST} may be")]
    TooMany(usize),
    #[error("{0}: no field is named that differs")]
    NoField(String),
    #[error("{0}: no source of upstream's, KEP, RFC or issue says why")]
    NoReference(String),
}

/// What differs and how: a kind of object or an area, and the text of the difference.
#[derive(Clone, Debug)]
pub struct Difference {
    pub kind: String,
    pub what: String,
}

/// The lines of a file.
#[derive(Default)]
pub struct Known<'a>(Vec<[&'a str; 3]>);

impl<'a> Known<'a> {
    /// # Errors
    /// A line has not three fields.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let line = |(index, line): (usize, &'a str)| {
            let fields: Vec<&str> = line.split('\t').collect();
            fields.try_into().map_err(|_| Error::Malformed(index + 1))
        };
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        lines.map(line).collect::<Result<_, _>>().map(Self)
    }

    /// The differences that are meant: few, each with the field that differs and what the reason rests on.
    ///
    /// # Errors
    /// If they are more, or say less.
    pub fn meant(text: &'a str) -> Result<Self, Error> {
        let known = Self::parse(text)?;
        if known.0.len() > MOST {
            return Err(Error::TooMany(known.0.len()));
        }
        for [area, part, why] in &known.0 {
            let line = || format!("{area}: {part}");
            if part.len() < 3 {
                return Err(Error::NoField(line()));
            }
            let rests = [".go", "KEP-", "RFC ", "kubernetes/kubernetes#"];
            if !rests.iter().any(|on| why.contains(on)) {
                return Err(Error::NoReference(line()));
            }
        }
        Ok(known)
    }

    /// Which line explains this, by its place in the file.
    pub fn explains(&self, kind: &str, what: &str) -> Option<usize> {
        let explains =
            |[of, part, _]: &[&str; 3]| (*of == "*" || *of == kind) && what.contains(part);
        self.0.iter().position(explains)
    }

    /// The lines that explain none of these.
    pub fn gone<'b>(
        &self,
        found: impl Iterator<Item = (&'b str, &'b str)> + Clone,
    ) -> impl Iterator<Item = String> {
        let idle = |[of, part, _]: &&[&str; 3]| {
            let explains =
                |(kind, what): (&str, &str)| (*of == "*" || *of == kind) && what.contains(part);
            !found.clone().any(explains)
        };
        let told = |[of, part, _]: &[&str; 3]| format!("no longer different: {of}: {part}");
        self.0
            .iter()
            .filter(idle)
            .map(told)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// What is wrong: differences that are not known, and known ones that are gone, a line each.
    pub fn faults(&self, found: &[Difference]) -> String {
        let pairs = found.iter().map(|found| (&*found.kind, &*found.what));
        let mut lines: Vec<String> = self.gone(pairs).collect();
        let new = found
            .iter()
            .filter(|found| self.explains(&found.kind, &found.what).is_none());
        lines.extend(new.map(|found| format!("{}: {}", found.kind, found.what)));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(found: &[Difference], known: &str) -> String {
        Known::parse(known).unwrap().faults(found)
    }

    #[test]
    fn few_differences_are_meant_and_each_says_why() {
        let line = "a\t.spec.b\tpkg/apis/core/types.go\n";
        assert!(Known::meant(&line.repeat(MOST)).is_ok());
        let meant = |text: &str| Known::meant(text).err();
        let too_many = line.repeat(MOST + 1);
        assert!(matches!(meant(&too_many), Some(Error::TooMany(_))));
        assert!(matches!(
            meant("a\t.spec.b\tso it is\n"),
            Some(Error::NoReference(_))
        ));
        assert!(matches!(meant("a\t\ttypes.go\n"), Some(Error::NoField(_))));
        let own = include_str!("../../diff/exceptions.tsv");
        assert_eq!(Known::meant(own).err().map(|error| error.to_string()), None);
    }

    #[test]
    fn known_differences_pass_and_nothing_else_does() {
        let found = [Difference {
            kind: "v1/pods".to_owned(),
            what: "create: .spec.a: 1 | 2".to_owned(),
        }];
        assert_eq!(faults(&found, "v1/pods\t.spec.a\twhy\n"), "");
        assert_eq!(faults(&found, "# all\n*\t.spec.a\twhy\n"), "");
        let told = "v1/pods: create: .spec.a: 1 | 2\n";
        assert_eq!(faults(&found, ""), told);
        let gone = "no longer different: v1/nodes: .spec.a\n";
        let both = format!("{gone}{told}");
        assert_eq!(faults(&found, "v1/nodes\t.spec.a\twhy\n"), both);
        assert!(Known::parse("a\tb\n").is_err());
    }
}

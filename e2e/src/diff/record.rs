//! Upstream's answers, kept: lines of JSON, compressed. Each has the case as well, so that nothing of upstream's is needed to
//! compare with them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::audit;
use super::case::Case;
use super::seen::Seen;
use crate::files;

/// Requests that are compared in a minute on a machine with two cores: what `--part` counts with.
const A_MINUTE: usize = 5000;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path}: line {line} is no recorded case")]
    Malformed { path: String, line: usize },
}

/// A case and what upstream answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    pub case: Case,
    pub seen: Vec<Seen>,
}

/// Writes the file whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, all: &[Recorded]) -> Result<(), Error> {
    let part = path.with_extension("part");
    let failed = files::cannot("write", &part);
    let file = BufWriter::new(File::create(&part).map_err(failed)?);
    let mut out = GzEncoder::new(file, Compression::best());
    for recorded in all {
        serde_json::to_writer(&mut out, recorded).map_err(|error| failed(error.into()))?;
        out.write_all(b"\n").map_err(failed)?;
    }
    out.finish()
        .and_then(|mut file| file.flush())
        .map_err(failed)?;
    Ok(fs::rename(&part, path).map_err(files::cannot("write", path))?)
}

/// # Errors
/// If there is no such file, or another one.
pub fn read(path: &Path) -> Result<Vec<Recorded>, Error> {
    let failed = files::cannot("read", path);
    let file = File::open(path).map_err(failed)?;
    let lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
    let mut all = Vec::new();
    for (index, line) in lines.enumerate() {
        let recorded = serde_json::from_str(&line.map_err(failed)?);
        all.push(recorded.map_err(|_| Error::Malformed {
            path: path.display().to_string(),
            line: index + 1,
        })?);
    }
    Ok(all)
}

/// Cases to run, and upstream's answers to them by their names.
pub fn split(all: Vec<Recorded>) -> (Vec<Case>, BTreeMap<String, Vec<Seen>>) {
    let pair = |recorded: Recorded| {
        let name = recorded.case.name.clone();
        (recorded.case, (name, recorded.seen))
    };
    all.into_iter().map(pair).unzip()
}

/// What was recorded before, with these in the place of those of the same names.
pub fn renewed(before: Vec<Recorded>, renewed: Vec<Recorded>) -> Vec<Recorded> {
    let named = |recorded: Recorded| (recorded.case.name.clone(), recorded);
    let all = before.into_iter().chain(renewed).map(named);
    all.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// A case, with or without what was answered.
pub trait Kept {
    fn case(&self) -> &Case;
}

impl Kept for Case {
    fn case(&self) -> &Case {
        self
    }
}

impl Kept for Recorded {
    fn case(&self) -> &Case {
        &self.case
    }
}

/// As many cases as fit in these minutes: the same ones every time, of every area. First those for which no others stand: of
/// audit, which nothing else compares, and those written by hand.
pub fn part<T: Kept>(mut all: Vec<T>, minutes: usize) -> Vec<T> {
    all.sort_by_cached_key(|kept| {
        let case = kept.case();
        (
            case.area != audit::AREA,
            !case.by_hand,
            Sha256::digest(&case.name).to_vec(),
        )
    });
    let mut left = minutes * A_MINUTE;
    all.retain(|kept| {
        let steps = kept.case().steps.len();
        let fits = steps <= left;
        if fits {
            left -= steps;
        }
        fits
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::case::Step;

    fn recorded(name: &str, requests: usize) -> Recorded {
        Recorded {
            case: Case {
                name: name.to_owned(),
                steps: vec![Step::get("/a", "b"); requests],
                ..Case::default()
            },
            seen: vec![Seen::default(); requests],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.gz");
        write(&path, &[recorded("a", 1), recorded("b", 2)]).unwrap();
        let (cases, seen) = split(read(&path).unwrap());
        assert_eq!((cases.len(), &*cases[1].name, seen["b"].len()), (2, "b", 2));
        fs::write(&path, "no").unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn what_is_recorded_anew_stands_in_the_place_of_what_was() {
        let before = vec![recorded("a", 1), recorded("b", 1)];
        let all = renewed(before, vec![recorded("b", 2), recorded("c", 3)]);
        let lengths: Vec<usize> = all.iter().map(|of| of.seen.len()).collect();
        assert_eq!(lengths, [1, 2, 3]);
    }

    #[test]
    fn a_part_has_all_of_audit_and_all_that_is_written_by_hand() {
        let mut all: Vec<Case> = (0..10)
            .map(|n| recorded(&n.to_string(), A_MINUTE / 4).case)
            .collect();
        all[7].area = audit::AREA.to_owned();
        all[9].area = audit::AREA.to_owned();
        all[2].by_hand = true;
        all[3].by_hand = true;
        let part = part(all, 1);
        let names: Vec<&str> = part.iter().map(|case| &*case.name).collect();
        assert_eq!(names.len(), 4);
        assert!(["7", "9", "2", "3"].iter().all(|name| names.contains(name)));
    }

    #[test]
    fn a_part_is_bounded_and_the_same_every_time() {
        let all = || {
            (0..10)
                .map(|n| recorded(&n.to_string(), A_MINUTE / 4).case)
                .collect::<Vec<_>>()
        };
        let names = |cases: Vec<Case>| cases.into_iter().map(|case| case.name).collect::<Vec<_>>();
        let part_of = names(part(all(), 1));
        assert_eq!(part_of.len(), 4);
        assert_eq!(part_of, names(part(all().into_iter().rev().collect(), 1)));
    }
}

//! Which ids of the node pods with `hostUsers: false` have: upstream's `pkg/kubelet/userns`.
//!
//! Each pod gets a range of its own, which no other pod has at the same time. It is written down in
//! the pod's directory, in upstream's form, before anything is made with it: files of the pod belong to
//! these ids, so a kubelet that starts anew has to give the pod the same.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::runtime::sandbox::{IdMapping, UserNamespace};
use crate::sys::file::{self, Durability};

/// Ranges are of a multiple of so many ids.
const UNIT: u32 = 65_536;

/// The user whose subordinate ids are given to pods.
const USER: &str = "kubelet";

/// In the directory of a pod.
const FILE: &str = "userns";

/// Why a pod has no ids of its own.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("kubelet user namespace length {0} is not a multiple of {UNIT}")]
    Length(u32),
    #[error("kubelet user assigned ID {first} is not a multiple of {length}")]
    First { first: u32, length: u32 },
    #[error("kubelet user assigned ID {first} must be greater or equal to {length}")]
    Low { first: u32, length: u32 },
    #[error("kubelet user assigned IDs length {count} is not a multiple of {length}")]
    Count { count: u32, length: u32 },
    #[error("kubelet user assigned IDs are not enough to support {0} pods")]
    Few(u32),
    #[error("{path}: {problem}")]
    Subordinate { path: String, problem: String },
    #[error("mismatched subuids and subgids for user {USER:?}")]
    Mismatch,
    #[error("could not find an empty slot to allocate a user namespace")]
    Full,
    #[error("range picked for pod {0:?} already taken")]
    Taken(String),
    #[error("id {0} is out of range")]
    OutOfRange(u32),
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("invalid user namespace mappings file {}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
}

/// Ids of the node that are for pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub first: u32,
    pub count: u32,
}

/// Hands ranges out.
pub struct Users {
    /// `<root>/pods`
    pods: PathBuf,
    /// Ids of one pod.
    length: u32,
    all: Range,
    /// The first id of each pod.
    taken: Mutex<BTreeMap<String, u32>>,
}

/// What is written down, in upstream's words.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(rename = "uidMappings")]
    uids: Vec<WrittenRange>,
    #[serde(rename = "gidMappings")]
    gids: Vec<WrittenRange>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenRange {
    host_id: u32,
    container_id: u32,
    length: u32,
}

impl Range {
    /// All ids but the first `length`, which are the node's own.
    #[must_use]
    pub const fn but_the_first(length: u32) -> Self {
        Self {
            first: length,
            count: 0_u32.wrapping_sub(length),
        }
    }

    /// The subordinate ids of the user `kubelet`, if there is such a user; else all but the first.
    ///
    /// # Errors
    /// If the user has no such ids, more than one range, or not the same for users and groups.
    pub fn of_node(length: u32) -> Result<Self, Error> {
        if !matches!(nix::unistd::User::from_name(USER), Ok(Some(_))) {
            return Ok(Self::but_the_first(length));
        }
        let read = |path: &str| match fs::read_to_string(path) {
            Ok(text) => subordinate(&text, USER).map_err(|problem| Error::Subordinate {
                path: path.to_owned(),
                problem,
            }),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io {
                path: path.into(),
                source,
            }),
        };
        match (read("/etc/subuid")?, read("/etc/subgid")?) {
            (None, None) => Ok(Self::but_the_first(length)),
            (uids, gids) if uids != gids => Err(Error::Mismatch),
            (ids, _) => Ok(ids.unwrap_or(Self::but_the_first(length))),
        }
    }

    fn check(self, length: u32, max_pods: u32) -> Result<(), Error> {
        let Self { first, count } = self;
        if length == 0 || !length.is_multiple_of(UNIT) {
            return Err(Error::Length(length));
        }
        if !first.is_multiple_of(length) {
            return Err(Error::First { first, length });
        }
        if first < length {
            // The node's root would be a pod's.
            return Err(Error::Low { first, length });
        }
        if !count.is_multiple_of(length) {
            return Err(Error::Count { count, length });
        }
        if count / length < max_pods {
            return Err(Error::Few(max_pods));
        }
        Ok(())
    }
}

/// The one range of a user in a file of lines `user:first:count`; none if the user has no line.
pub(crate) fn subordinate(text: &str, user: &str) -> Result<Option<Range>, String> {
    let own = text.lines().filter_map(|line| {
        let (name, ids) = line.trim().split_once(':')?;
        (name == user).then_some(ids)
    });
    let own: Vec<_> = own.collect();
    match own.as_slice() {
        [] => Ok(None),
        [ids] => {
            let range = ids.split_once(':').and_then(|(first, count)| {
                Some(Range {
                    first: first.parse().ok()?,
                    count: count.parse().ok()?,
                })
            });
            range
                .map(Some)
                .ok_or_else(|| format!("cannot read {ids:?}"))
        }
        _ => Err(format!("user {user:?} has more than one range")),
    }
}

impl Users {
    /// Reads what the pods of a kubelet before have. Of `all` ids each pod gets `length`.
    ///
    /// # Errors
    /// If the ids are not fit for `max_pods` pods, or what is written down contradicts itself.
    pub fn open(root: &Path, all: Range, length: u32, max_pods: u32) -> Result<Self, Error> {
        all.check(length, max_pods)?;
        let users = Self {
            pods: root.join("pods"),
            length,
            all,
            taken: Mutex::default(),
        };
        let entries = fs::read_dir(&users.pods).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        for uid in names {
            if let Some(first) = users.written(&uid)? {
                users.take(&mut users.taken.lock(), &uid, first)?;
            }
        }
        Ok(users)
    }

    /// The ids of a pod: those that it has, or new ones. Blocks.
    ///
    /// # Errors
    /// If there are none left, or they cannot be written down.
    pub fn of(&self, uid: &str) -> Result<UserNamespace, Error> {
        let mut taken = self.taken.lock();
        if let Some(first) = taken.get(uid) {
            return Ok(self.namespace(*first));
        }
        let first = match self.written(uid)? {
            Some(first) => first,
            None => self.free(&taken)?,
        };
        self.take(&mut taken, uid, first)?;
        if let Err(err) = self.write(uid, first) {
            taken.remove(uid);
            return Err(err);
        }
        Ok(self.namespace(first))
    }

    /// The pod's ids are for others from now on. Nothing of the pod may be left.
    pub fn release(&self, uid: &str) {
        if self.taken.lock().remove(uid).is_some() {
            let _ = fs::remove_file(self.path(uid));
        }
    }

    /// Gives back what pods have that are not among the living.
    pub fn retain(&self, is_live: impl Fn(&str) -> bool) {
        let gone: Vec<_> = {
            let taken = self.taken.lock();
            let gone = taken.keys().filter(|uid| !is_live(uid));
            gone.cloned().collect()
        };
        for uid in gone {
            self.release(&uid);
        }
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.pods.join(uid).join(FILE)
    }

    fn slots(&self) -> u32 {
        self.all.count / self.length
    }

    /// A range that nobody has, by chance: the next pod should not get what the last one left.
    fn free(&self, taken: &BTreeMap<String, u32>) -> Result<u32, Error> {
        let used: std::collections::BTreeSet<_> = taken.values().copied().collect();
        let slots = self.slots();
        let start = rand::rng().random_range(0..slots);
        let mut all = (0..slots).map(|n| {
            let slot = (u64::from(start) + u64::from(n)) % u64::from(slots);
            // Below the count of all ids.
            self.all.first + slot as u32 * self.length
        });
        all.find(|first| !used.contains(first)).ok_or(Error::Full)
    }

    fn take(&self, taken: &mut BTreeMap<String, u32>, uid: &str, first: u32) -> Result<(), Error> {
        let offset = first.checked_sub(self.all.first);
        let fits = |offset: &u32| {
            offset.is_multiple_of(self.length) && offset / self.length < self.slots()
        };
        offset.filter(fits).ok_or(Error::OutOfRange(first))?;
        if taken.iter().any(|(of, other)| of != uid && *other == first) {
            return Err(Error::Taken(uid.to_owned()));
        }
        taken.insert(uid.to_owned(), first);
        Ok(())
    }

    fn namespace(&self, first: u32) -> UserNamespace {
        let ids = vec![IdMapping {
            host_id: first,
            container_id: 0,
            length: self.length,
        }];
        UserNamespace {
            uids: ids.clone(),
            gids: ids,
        }
    }

    fn write(&self, uid: &str, first: u32) -> Result<(), Error> {
        let path = self.path(uid);
        let range = vec![WrittenRange {
            host_id: first,
            container_id: 0,
            length: self.length,
        }];
        let written = Written {
            uids: range.clone(),
            gids: range,
        };
        let write = || {
            if let Some(dir) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
            }
            let text = serde_json::to_vec(&written)?;
            file::write_atomic(&path, &text, 0o644, Durability::Disk)
        };
        write().map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })
    }

    /// The first id of what is written down for a pod.
    fn written(&self, uid: &str) -> Result<Option<u32>, Error> {
        let path = self.path(uid);
        let text = match fs::read(&path) {
            Err(err)
                if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory]
                    .contains(&err.kind()) =>
            {
                return Ok(None);
            }
            other => other.map_err(|source| Error::Io {
                path: path.clone(),
                source,
            })?,
        };
        let wrong = |problem: &str| Error::File {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        if text.is_empty() {
            return Ok(None);
        }
        let written: Written =
            serde_json::from_slice(&text).map_err(|err| wrong(&err.to_string()))?;
        match (written.uids.as_slice(), written.gids.as_slice()) {
            ([uids], [gids]) if uids != gids => {
                Err(wrong("GID and UID mapping should be identical"))
            }
            ([ids], [_]) if ids.container_id != 0 => Err(wrong("UID 0 must be mapped")),
            ([ids], [_]) if ids.length != self.length => Err(wrong(&format!(
                "wrong user namespace length {}",
                ids.length
            ))),
            ([ids], [_]) => Ok(Some(ids.host_id)),
            _ => Err(wrong("no more than one mapping allowed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(users: &Users, uid: &str) -> u32 {
        users.of(uid).unwrap().uids[0].host_id
    }

    #[test]
    fn each_pod_has_ids_of_its_own_that_the_next_kubelet_knows() {
        let dir = tempfile::tempdir().unwrap();
        let all = Range {
            first: 2 * UNIT,
            count: 3 * UNIT,
        };
        let open = || Users::open(dir.path(), all, UNIT, 3).unwrap();
        let users = open();
        let ids = ["a", "b", "c"].map(|uid| first(&users, uid));
        let mut sorted = ids;
        sorted.sort_unstable();
        assert_eq!(sorted, [2 * UNIT, 3 * UNIT, 4 * UNIT]);
        assert!(matches!(users.of("d"), Err(Error::Full)));
        assert_eq!(first(&users, "a"), ids[0]);
        let text = fs::read_to_string(dir.path().join("pods/b/userns")).unwrap();
        let range = format!(r#"{{"hostId":{},"containerId":0,"length":65536}}"#, ids[1]);
        assert_eq!(
            text,
            format!(r#"{{"uidMappings":[{range}],"gidMappings":[{range}]}}"#)
        );
        let users = open();
        assert!(matches!(users.of("d"), Err(Error::Full)));
        users.retain(|uid| uid != "b");
        assert!(!dir.path().join("pods/b/userns").exists());
        assert_eq!(first(&users, "d"), ids[1]);
        assert_eq!(first(&open(), "d"), ids[1]);
    }

    #[test]
    fn what_is_written_down_must_make_sense() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("pods/a");
        fs::create_dir_all(&pod).unwrap();
        let range = |id: u32, inside: u32, length: u32| {
            format!(r#"[{{"hostId":{id},"containerId":{inside},"length":{length}}}]"#)
        };
        let try_with = |uids: &str, gids: &str| {
            let text = format!(r#"{{"uidMappings":{uids},"gidMappings":{gids}}}"#);
            fs::write(pod.join(FILE), text).unwrap();
            Users::open(dir.path(), Range::but_the_first(UNIT), UNIT, 110).map(drop)
        };
        let good = range(5 * UNIT, 0, UNIT);
        assert!(try_with(&good, &good).is_ok());
        assert!(try_with(&good, &range(6 * UNIT, 0, UNIT)).is_err());
        let inside = range(5 * UNIT, 1, UNIT);
        assert!(try_with(&inside, &inside).is_err());
        let short = range(5 * UNIT, 0, 100);
        assert!(try_with(&short, &short).is_err());
        let root = range(0, 0, UNIT);
        assert!(matches!(try_with(&root, &root), Err(Error::OutOfRange(0))));
        assert!(try_with("[]", "[]").is_err());
        fs::create_dir_all(dir.path().join("pods/b")).unwrap();
        let text = format!(r#"{{"uidMappings":{good},"gidMappings":{good}}}"#);
        fs::write(pod.join(FILE), &text).unwrap();
        fs::write(dir.path().join("pods/b/userns"), &text).unwrap();
        let both = Users::open(dir.path(), Range::but_the_first(UNIT), UNIT, 110);
        assert!(matches!(both, Err(Error::Taken(_))));
    }

    #[test]
    fn the_nodes_own_ids_are_never_given() {
        let all = Range::but_the_first(UNIT);
        assert_eq!((all.first, all.count / UNIT), (UNIT, 65_535));
        assert!(all.check(UNIT, 110).is_ok());
        let check =
            |first: u32, count: u32, length: u32| Range { first, count }.check(length, 3).is_ok();
        assert!(check(UNIT, 3 * UNIT, UNIT));
        assert!(!check(0, 3 * UNIT, UNIT), "the node's root");
        assert!(!check(UNIT, 2 * UNIT, UNIT), "too few");
        assert!(!check(UNIT + 1, 3 * UNIT, UNIT) && !check(UNIT, 3 * UNIT + 1, UNIT));
        assert!(!check(UNIT, 6 * UNIT, 2 * UNIT) && !check(UNIT, 6 * UNIT, 100));
    }

    #[test]
    fn subordinate_ids_are_one_range_of_the_user() {
        let text = "root:1:2\nkubelet:65536:7208960\n";
        let range = Range {
            first: 65_536,
            count: 7_208_960,
        };
        assert_eq!(subordinate(text, "kubelet"), Ok(Some(range)));
        assert_eq!(subordinate(text, "nobody"), Ok(None));
        assert!(subordinate("kubelet:1:2\nkubelet:3:4\n", "kubelet").is_err());
        assert!(subordinate("kubelet:x:2\n", "kubelet").is_err());
    }
}

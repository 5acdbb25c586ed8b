//! A layer's files in memory, and the tar archive made of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use tar::{EntryType, Header};

/// Seconds since 1970 of every entry: the first second of 2026.
pub(super) const TIME: u64 = 1_767_225_600;

/// More links than this on one path are a circle.
const MAX_LINKS: usize = 40;

/// Entries by absolute path, so that a directory comes before what is in it.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<String, Entry>);

#[derive(Debug)]
pub(super) struct Entry {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u64, u64),
}

#[derive(Debug)]
pub(super) enum Kind {
    Dir,
    Bytes(Vec<u8>),
    /// Content that stays on disk until the layer is written.
    File(PathBuf),
    /// A symbolic link.
    Link(String),
    /// Another name of the entry at this absolute path.
    Same(String),
}

impl Tree {
    /// Adds an entry and the directories above it, in place of what was there. Links among those are followed: a layer
    /// never holds a path through a link, which not every runtime unpacks.
    pub(super) fn insert(&mut self, path: &str, entry: Entry) {
        let path = &self.resolve(path);
        let mut parent = path.as_str();
        while let Some((above, _)) = parent.rsplit_once('/') {
            if above.is_empty() {
                break;
            }
            parent = above;
            let dir = || Entry {
                kind: Kind::Dir,
                mode: 0o755,
                owner: (0, 0),
            };
            self.0.entry(above.to_owned()).or_insert_with(dir);
        }
        self.0.insert(path.to_owned(), entry);
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(&self.resolve(path))
    }

    /// Where a path leads once the links above its last part are followed.
    fn resolve(&self, path: &str) -> String {
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut resolved = String::new();
        let mut follow = MAX_LINKS;
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    resolved.truncate(resolved.rfind('/').unwrap_or(0));
                    continue;
                }
                part => {
                    resolved.push('/');
                    resolved.push_str(part);
                }
            }
            let Some(Entry {
                kind: Kind::Link(target),
                ..
            }) = self.0.get(&resolved)
            else {
                continue;
            };
            if left.is_empty() || follow == 0 {
                continue;
            }
            follow -= 1;
            resolved.truncate(if target.starts_with('/') {
                0
            } else {
                resolved.rfind('/').unwrap_or(0)
            });
            left.extend(target.rsplit('/').map(str::to_owned));
        }
        resolved
    }

    /// Writes the layer.
    pub(super) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        for (path, entry) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.0);
            header.set_gid(entry.owner.1);
            header.set_mtime(TIME);
            header.set_size(0);
            let name = path.trim_start_matches('/');
            match &entry.kind {
                Kind::Dir => {
                    header.set_entry_type(EntryType::Directory);
                    tar.append_data(&mut header, format!("{name}/"), io::empty())?;
                }
                Kind::Bytes(bytes) => {
                    append_file(&mut tar, &mut header, name, bytes.len() as u64, &bytes[..])?
                }
                Kind::File(source) => {
                    let file = File::open(source)?;
                    let size = file.metadata()?.len();
                    append_file(&mut tar, &mut header, name, size, file)?;
                }
                Kind::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, name, target)?;
                }
                Kind::Same(target) => {
                    header.set_entry_type(EntryType::Link);
                    tar.append_link(&mut header, name, target.trim_start_matches('/'))?;
                }
            }
        }
        tar.into_inner()?.flush()
    }
}

fn append_file(
    tar: &mut tar::Builder<impl Write>,
    header: &mut Header,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    tar.append_data(header, name, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry {
            kind,
            mode: 0o755,
            owner: (0, 0),
        }
    }

    #[test]
    fn a_path_through_a_link_lands_where_the_link_leads() {
        let mut tree = Tree::default();
        tree.insert("/usr/bin/env", entry(Kind::Bytes(Vec::new())));
        tree.insert("/bin", entry(Kind::Link("usr/bin".to_owned())));
        tree.insert("/usr/loop", entry(Kind::Link("/usr/loop".to_owned())));
        tree.insert("/opt/up", entry(Kind::Link("../usr/./bin".to_owned())));
        assert!(tree.contains("/bin/env"));
        tree.insert("/opt/up/sh", entry(Kind::Link("env".to_owned())));
        assert!(tree.0.contains_key("/usr/bin/sh") && !tree.0.contains_key("/opt/up/sh"));
        // A link itself is what is replaced, not what it leads to.
        tree.insert("/bin", entry(Kind::Dir));
        assert!(matches!(tree.0["/bin"].kind, Kind::Dir));
        assert!(!tree.contains("/usr/loop/x"), "a circle ends");
    }
}

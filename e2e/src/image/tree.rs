//! A layer's files in memory, and the tar archive made of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use tar::{EntryType, Header};

/// Seconds since 1970 of every entry: the first second of 2026.
pub(super) const TIME: u64 = 1_767_225_600;

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
    /// Adds an entry and the directories above it, in place of what was there.
    pub(super) fn insert(&mut self, path: &str, entry: Entry) {
        let mut parent = path;
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
        self.0.contains_key(path)
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

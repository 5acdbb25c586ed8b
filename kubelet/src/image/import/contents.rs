//! The files of an archive or a directory, by name.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Error, Result, at, is_directory, open, read_all};
use crate::image::layer;
use crate::image::store::Store;
use crate::image::tar::{Archive, Kind};

/// Entries that an archive may have: ten thousand images of a hundred layers.
const ENTRIES_MAX: usize = 1_000_000;

pub(super) enum Contents {
    Directory(PathBuf),
    Archive {
        file: Arc<File>,
        names: HashMap<PathBuf, Place>,
    },
}

/// Where a file of an archive is.
pub(super) enum Place {
    Bytes {
        offset: u64,
        size: u64,
    },
    /// The same as another: older `docker save` links equal layers.
    Link(PathBuf),
}

impl Contents {
    /// Opens a directory, or an archive, which is inflated into the store's scratch space first if
    /// it is compressed.
    pub(super) fn open(store: &Store, path: &Path) -> Result<Self> {
        if is_directory(path)? {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut file = open(path)?;
        let mut magic = [0; 4];
        let n = file.read(&mut magic).map_err(at("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(at("read", path))?;
        if matches!(&magic[..n], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            file = inflate(store, file)?;
        }
        let names = names(&file)?;
        Ok(Self::Archive {
            file: Arc::new(file),
            names,
        })
    }

    /// A small file's contents.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        read_all(self.open_file(name)?, name)
    }

    pub(super) fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let path = clean(name.as_bytes());
        match self {
            Self::Directory(root) => match File::open(root.join(&path)) {
                Ok(file) => Ok(Box::new(file)),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    Err(Error::Missing(name.to_owned()))
                }
                Err(err) => Err(at("open", &root.join(path))(err)),
            },
            Self::Archive { file, names } => {
                let place = match names.get(&path) {
                    Some(Place::Link(to)) => names.get(to),
                    other => other,
                };
                match place {
                    Some(&Place::Bytes { offset, size }) => Ok(Box::new(Part {
                        file: file.clone(),
                        offset,
                        left: size,
                    })),
                    _ => Err(Error::Missing(name.to_owned())),
                }
            }
        }
    }
}

/// A stretch of a file as a stream of its own.
struct Part {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = self.left.min(buffer.len() as u64) as usize;
        let n = self.file.read_at(&mut buffer[..want], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

fn inflate(store: &Store, file: File) -> Result<File> {
    let path = store.scratch_path();
    let mut plain = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(at("create", &path))?;
    // Without a name it goes with the descriptor.
    fs::remove_file(&path).map_err(at("remove", &path))?;
    let copied = layer::decompress(file).and_then(|mut from| io::copy(&mut from, &mut plain));
    copied.map_err(at("inflate into", &path))?;
    Ok(plain)
}

fn names(file: &File) -> Result<HashMap<PathBuf, Place>> {
    let mut names = HashMap::new();
    let whole = Seeking { file, position: 0 };
    let mut archive = Archive::new(io::BufReader::with_capacity(64 * 1024, whole));
    while let Some(entry) = archive.next_entry()? {
        let path = clean(&entry.path);
        let place = match entry.kind {
            Kind::File => Place::Bytes {
                offset: entry.offset,
                size: entry.size,
            },
            Kind::HardLink => Place::Link(clean(&entry.link)),
            Kind::Symlink => {
                let dir = path.parent().unwrap_or(Path::new(""));
                Place::Link(normal(&dir.join(OsStr::from_bytes(&entry.link))))
            }
            _ => continue,
        };
        if names.len() >= ENTRIES_MAX {
            return Err(Error::TooLarge("the list of files".into()));
        }
        names.insert(path, place);
    }
    Ok(names)
}

struct Seeking<'a> {
    file: &'a File,
    position: u64,
}

impl Read for Seeking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

/// A name inside the archive, without `.` and `..`.
pub(crate) fn clean(name: &[u8]) -> PathBuf {
    normal(Path::new(OsStr::from_bytes(name)))
}

fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

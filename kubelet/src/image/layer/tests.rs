use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Error, Unpacked, inherit, unpack};
use crate::image::reference::Digest;
use crate::sys::xattr;

/// A layer under construction.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, kind: u8, path: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        // Past the writer's own checks: the reader is what is tested.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.add(b'0', path, "", 0o644, data.as_bytes())
    }

    fn dir(self, path: &str, mode: u32) -> Self {
        self.add(b'5', path, "", mode, b"")
    }

    fn symlink(self, path: &str, to: &str) -> Self {
        self.add(b'2', path, to, 0o777, b"")
    }

    fn unpack(self, into: &Path) -> Result<Unpacked, Error> {
        let bytes = self.0.into_inner().unwrap();
        unpack(&bytes[..], &Digest::of(&bytes), into)
    }
}

fn is_whiteout(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    xattr::get(path, "trusted.overlay.opaque")
        .unwrap()
        .as_deref()
        == Some(b"y")
}

#[test]
fn no_entry_leaves_the_layer() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = outside.path().to_str().unwrap();
    Tar::new()
        .file("../../up", "1")
        .file("/abs", "2")
        .symlink("out", host)
        .symlink("out2", "../../../../../../..")
        .dir("out2/dir", 0o700)
        .file("out2/dir/file", "3")
        .unpack(dir.path())
        .unwrap();
    for name in ["up", "abs", "dir/file"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
    // Through a link to a host directory that does not exist inside the layer.
    let dir2 = tempfile::tempdir().unwrap();
    let through = Tar::new()
        .symlink("out", host)
        .file("out/evil", "4")
        .unpack(dir2.path());
    assert!(through.is_err());
    // A hard link to a file of the host.
    let dir3 = tempfile::tempdir().unwrap();
    let linked = Tar::new().add(b'1', "l", "../../../../etc/passwd", 0o644, b"");
    assert!(linked.unpack(dir3.path()).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_file_through_a_link_of_the_same_layer_replaces_nothing_outside() {
    let dir = tempfile::tempdir().unwrap();
    Tar::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/a.so", "a")
        // A file in the place of a link replaces the link, it does not write through it.
        .symlink("f", "usr/lib/a.so")
        .file("f", "new")
        .unpack(dir.path())
        .unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join("usr/lib/a.so")).unwrap(),
        "a"
    );
    assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "new");
    assert!(!dir.path().join("f").is_symlink());
}

#[test]
fn deletions_become_whiteouts_and_opaque_directories() {
    let dir = tempfile::tempdir().unwrap();
    Tar::new()
        .file("etc/.wh.gone", "")
        .file("var/.wh..wh..opq", "")
        .file("var/new", "n")
        // Deleted below and made anew, in both orders.
        .file(".wh.a", "")
        .dir("a", 0o700)
        .dir("b", 0o700)
        .file(".wh.b", "")
        .file("c", "kept")
        .file(".wh.c", "")
        .file(".wh..wh.plnk", "")
        .unpack(dir.path())
        .unwrap();
    let at = |p: &str| dir.path().join(p);
    assert!(is_whiteout(&at("etc/gone")));
    assert!(is_opaque(&at("var")) && at("var/new").is_file());
    assert!(is_opaque(&at("a")) && is_opaque(&at("b")));
    assert_eq!(fs::read_to_string(at("c")).unwrap(), "kept");
    assert!(!at(".wh..wh.plnk").exists());
}

#[test]
fn modes_owners_times_links_and_devices_survive() {
    let dir = tempfile::tempdir().unwrap();
    let unpacked = Tar::new()
        .dir("d", 0o1777)
        .add(b'0', "d/suid", "", 0o4755, b"x")
        .add(b'1', "d/hard", "d/suid", 0o4755, b"")
        .symlink("d/soft", "suid")
        .add(b'3', "d/null", "", 0o666, b"")
        .add(b'6', "d/fifo", "", 0o600, b"")
        .unpack(dir.path())
        .unwrap();
    let at = |p: &str| fs::symlink_metadata(dir.path().join("d").join(p)).unwrap();
    assert_eq!(at(".").permissions().mode() & 0o7777, 0o1777);
    assert_eq!(at(".").mtime(), 1_600_000_000);
    assert_eq!(at("suid").permissions().mode() & 0o7777, 0o4755);
    assert_eq!(at("suid").ino(), at("hard").ino());
    assert!(at("fifo").file_type().is_fifo());
    assert_eq!(
        fs::read_link(dir.path().join("d/soft")).unwrap(),
        Path::new("suid")
    );
    assert_eq!(unpacked.inodes, 6);
    assert!(unpacked.implicit.is_empty());
}

#[test]
fn attributes_that_steer_the_overlay_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    // cap_net_bind_service+ep, version 2.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", capability.as_slice()),
            ("SCHILY.xattr.user.note", b"n".as_slice()),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".as_slice()),
        ])
        .unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(1);
    builder.append_data(&mut header, "f", &b"x"[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    unpack(&bytes[..], &Digest::of(&bytes), dir.path()).unwrap();
    let file = dir.path().join("f");
    assert_eq!(
        xattr::get(&file, "security.capability").unwrap().unwrap(),
        capability
    );
    assert_eq!(xattr::get(&file, "user.note").unwrap().unwrap(), b"n");
    assert_eq!(xattr::get(&file, "trusted.overlay.redirect").unwrap(), None);
}

#[test]
fn directories_without_an_entry_look_as_below() {
    let base = tempfile::tempdir().unwrap();
    let (one, two, three) = (
        base.path().join("1"),
        base.path().join("2"),
        base.path().join("3"),
    );
    for dir in [&one, &two, &three] {
        fs::create_dir(dir).unwrap();
    }
    Tar::new()
        .dir("tmp", 0o1777)
        .dir("srv", 0o700)
        .unpack(&one)
        .unwrap();
    Tar::new().dir("srv", 0o750).unpack(&two).unwrap();
    let top = Tar::new()
        .file("tmp/a/b", "x")
        .file("srv/c", "y")
        .unpack(&three)
        .unwrap();
    assert_eq!(
        top.implicit,
        ["srv", "tmp", "tmp/a"].map(std::path::PathBuf::from)
    );
    inherit(&three, &top.implicit, &[two, one]).unwrap();
    let mode = |p: &str| fs::metadata(three.join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("tmp"), mode("srv"), mode("tmp/a")),
        (0o1777, 0o750, 0o755)
    );
}

#[test]
fn a_layer_with_another_digest_is_refused_in_every_compression() {
    let bytes = Tar::new().file("f", "x").0.into_inner().unwrap();
    let promised = Digest::of(&bytes);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bytes).unwrap();
    let packed = [
        gzip.finish().unwrap(),
        zstd::encode_all(&bytes[..], 1).unwrap(),
        bytes.clone(),
    ];
    for blob in &packed {
        let dir = tempfile::tempdir().unwrap();
        unpack(&blob[..], &promised, dir.path()).unwrap();
        assert!(dir.path().join("f").is_file());
        let dir = tempfile::tempdir().unwrap();
        let refused = unpack(&blob[..], &Digest::of(b"else"), dir.path());
        assert!(matches!(refused, Err(Error::Digest { .. })));
        // Cut short.
        let dir = tempfile::tempdir().unwrap();
        assert!(unpack(&blob[..blob.len() / 2], &promised, dir.path()).is_err());
    }
}

use std::io::Read;

use super::*;

fn rotation(compress: bool, max_backups: usize) -> Rotation {
    Rotation {
        max_size: 10,
        max_age: 1,
        max_backups,
        compress,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_file_is_moved_away_and_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sub/audit.log");
    let mut output = Output::file(&path, rotation(true, 5)).unwrap();
    output.write(b"12345\n").unwrap();
    output.write(b"abc\n").unwrap();
    output.write(b"67890\n").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"67890\n");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = names(path.parent().unwrap());
    let [old, new] = names.as_slice() else {
        panic!("{names:?}")
    };
    assert!(
        old.starts_with("audit-20") && old.ends_with(".log.gz"),
        "{old}"
    );
    assert_eq!(new, "audit.log");
    let old = File::open(path.with_file_name(old)).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(old)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "12345\nabc\n");
    assert!(output.write(b"more than ten\n").is_err());
}

#[test]
fn old_files_go_when_they_are_too_many_or_too_old() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let Output::File(file) = Output::file(&path, rotation(false, 2)).unwrap() else {
        panic!("a file was asked for")
    };
    let now = SystemTime::now();
    let mut backups: Vec<PathBuf> = [1, 2, 3, 30 * 60 * 60]
        .map(|seconds| file.backup(now - Duration::from_secs(seconds)))
        .into();
    let other = directory.path().join("a-note.log");
    for path in backups.iter().chain([&other]) {
        std::fs::write(path, "x").unwrap();
    }
    file.try_clean(now).unwrap();
    assert!(other.exists());
    let left = |path: &PathBuf| path.exists();
    assert_eq!(
        backups.iter().map(left).collect::<Vec<_>>(),
        [true, true, false, false]
    );
    // By age alone.
    let Output::File(file) = Output::file(&path, rotation(false, 0)).unwrap() else {
        panic!("a file was asked for")
    };
    std::fs::write(&backups[3], "x").unwrap();
    file.try_clean(now).unwrap();
    assert!(!backups.remove(3).exists());
    assert!(backups[0].exists());
}

use super::*;
use std::io::Write;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("0.log")
    }

    fn append(&self, lines: &[&str]) {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path());
        let mut file = file.unwrap();
        for line in lines {
            let (tags, text) = line.split_once('|').unwrap_or(("stdout F", line));
            writeln!(file, "2026-11-28T10:00:00.5Z {tags} {text}").unwrap();
        }
    }

    fn rotate(&self, suffix: &str) {
        let to = format!("{}.{suffix}", self.path().display());
        fs::rename(self.path(), to).unwrap();
    }

    fn reader(&self, options: Options) -> Reader {
        Reader::open(&self.path(), options).unwrap()
    }

    fn all(&self, options: Options) -> String {
        read(&mut self.reader(options), true)
    }
}

fn read(reader: &mut Reader, ended: bool) -> String {
    let mut text = Vec::new();
    loop {
        let batch = reader.batch(ended).unwrap();
        text.extend_from_slice(&batch.bytes);
        if !batch.more {
            return String::from_utf8(text).unwrap();
        }
    }
}

fn tail(lines: u64) -> Options {
    Options {
        tail: Some(lines),
        ..Options::default()
    }
}

#[test]
fn parts_are_joined_and_streams_chosen() {
    let dir = Dir::new();
    dir.append(&["stdout P|a", "stdout F|b", "stderr F|oops", "c"]);
    assert_eq!(dir.all(Options::default()), "ab\noops\nc\n");
    let stderr = Options {
        stdout: false,
        ..Options::default()
    };
    assert_eq!(dir.all(stderr), "oops\n");
    let timestamps = Options {
        timestamps: true,
        ..Options::default()
    };
    let time = "2026-11-28T10:00:00.500000000Z";
    assert_eq!(
        dir.all(timestamps),
        format!("{time} ab\n{time} oops\n{time} c\n")
    );
}

#[test]
fn the_last_lines_are_found_in_the_files_before_the_current_one_too() {
    let dir = Dir::new();
    dir.append(&["1", "2"]);
    dir.rotate("20261128-100000");
    dir.append(&["3"]);
    dir.rotate("20261128-100001");
    dir.append(&["4", "5"]);
    assert_eq!(dir.all(Options::default()), "1\n2\n3\n4\n5\n");
    let expected = [
        "",
        "5\n",
        "4\n5\n",
        "3\n4\n5\n",
        "2\n3\n4\n5\n",
        "1\n2\n3\n4\n5\n",
    ];
    for (lines, expected) in expected.iter().enumerate() {
        assert_eq!(&dir.all(tail(lines as u64)), expected, "{lines}");
    }
    assert_eq!(dir.all(tail(99)), "1\n2\n3\n4\n5\n");
}

#[test]
fn the_last_lines_of_a_long_file_are_found_across_blocks() {
    let dir = Dir::new();
    let lines: Vec<String> = (0..20_000).map(|i| format!("line {i}")).collect();
    dir.append(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let text = dir.all(tail(15_000));
    assert_eq!(text.lines().count(), 15_000);
    assert!(text.starts_with("line 5000\n"));
    assert_eq!(dir.all(Options::default()).lines().count(), 20_000);
}

#[test]
fn bytes_are_limited() {
    let dir = Dir::new();
    dir.append(&["hello", "world"]);
    let limit = |limit| Options {
        limit: Some(limit),
        ..Options::default()
    };
    assert_eq!(dir.all(limit(1)), "h");
    assert_eq!(dir.all(limit(8)), "hello\nwo");
    assert_eq!(dir.all(limit(100)), "hello\nworld\n");
}

#[test]
fn what_is_older_is_left_out() {
    let dir = Dir::new();
    dir.append(&["old"]);
    let since = |time: &str| Options {
        since: Some(time.parse().unwrap()),
        ..Options::default()
    };
    assert_eq!(dir.all(since("2026-11-28T10:00:00.5Z")), "old\n");
    assert_eq!(dir.all(since("2026-11-28T10:00:00.500000001Z")), "");
}

#[test]
fn a_reader_that_follows_misses_nothing_when_files_are_rotated() {
    let dir = Dir::new();
    dir.append(&["1"]);
    let mut reader = dir.reader(Options {
        follow: true,
        ..tail(0)
    });
    assert_eq!(read(&mut reader, false), "");
    dir.append(&["2"]);
    assert_eq!(read(&mut reader, false), "2\n");
    // Written between the last look and the rotation.
    dir.append(&["3"]);
    dir.rotate("20261128-100000");
    assert_eq!(read(&mut reader, false), "3\n");
    dir.append(&["4"]);
    dir.rotate("20261128-100001");
    dir.append(&["5"]);
    dir.rotate("20261128-100001.000001");
    dir.append(&["6"]);
    assert_eq!(read(&mut reader, false), "4\n5\n6\n");
    // A line that is being written is sent when it is whole, or when nothing more comes.
    let file = fs::OpenOptions::new().append(true).open(dir.path());
    let mut file = file.unwrap();
    write!(file, "2026-11-28T10:00:00Z stdout F ha").unwrap();
    assert_eq!(read(&mut reader, false), "");
    writeln!(file, "lf").unwrap();
    write!(file, "2026-11-28T10:00:00Z stdout F torn").unwrap();
    assert_eq!(read(&mut reader, false), "half\n");
    assert_eq!(read(&mut reader, true), "torn");
}

#[test]
fn files_that_were_removed_meanwhile_are_passed_over() {
    let dir = Dir::new();
    dir.append(&["1"]);
    let mut reader = dir.reader(Options {
        follow: true,
        ..Options::default()
    });
    assert_eq!(read(&mut reader, false), "1\n");
    dir.rotate("20261128-100000");
    dir.append(&["2"]);
    dir.rotate("20261128-100001");
    dir.append(&["3"]);
    fs::remove_file(format!("{}.20261128-100000", dir.path().display())).unwrap();
    assert_eq!(read(&mut reader, false), "2\n3\n");
}

#[test]
fn lines_of_no_known_format_are_passed_over() {
    let dir = Dir::new();
    fs::write(
        dir.path(),
        [&b"\xff garbage\n"[..], &vec![b'x'; 3 << 20]].concat(),
    )
    .unwrap();
    dir.append(&["", "good"]);
    assert!(dir.all(Options::default()).ends_with("good\n"));
}

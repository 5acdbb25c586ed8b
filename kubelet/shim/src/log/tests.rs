use super::*;

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("shim-log-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn open(dir: &Path, max_size: u64, max_files: u32) -> Log {
    let path = dir.join("0.log").display().to_string();
    Log::open(&protocol::Log {
        path,
        max_size,
        max_files,
    })
    .unwrap()
}

/// Tag and content length of each line, without the time.
fn lines(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(4, ' ');
            assert!(parts.next().unwrap().ends_with('Z'));
            let head = format!("{} {}", parts.next().unwrap(), parts.next().unwrap());
            (head, parts.next().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn a_line_is_written_when_its_end_came_and_streams_do_not_mix() {
    let dir = directory("lines");
    let mut log = open(&dir, 0, 0);
    log.write(Stream::Out, 1, b"one\ntw");
    log.write(Stream::Err, 2, b"error\n\n");
    log.write(Stream::Out, 3, b"o\nrest");
    log.finish(Stream::Out, 4);
    log.finish(Stream::Err, 4);
    let expected = [
        ("stdout F", "one"),
        ("stderr F", "error"),
        ("stderr F", ""),
        ("stdout F", "two"),
        ("stdout P", "rest"),
    ];
    assert_eq!(
        lines(&dir.join("0.log")),
        expected.map(|(a, b)| (a.into(), b.into()))
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn long_lines_are_chains_of_parts_wherever_reads_cut_them() {
    let line = "x".repeat(2 * MAX_LINE + 5) + "\n";
    for cut in [1, 7, MAX_LINE, MAX_LINE + 1, line.len()] {
        let dir = directory(&format!("long-{cut}"));
        let mut log = open(&dir, 0, 0);
        for part in line.as_bytes().chunks(cut) {
            log.write(Stream::Out, 1, part);
        }
        let seen: Vec<_> = lines(&dir.join("0.log"))
            .into_iter()
            .map(|(tag, text)| (tag, text.len()))
            .collect();
        let part = || ("stdout P".to_owned(), MAX_LINE);
        assert_eq!(
            seen,
            [part(), part(), ("stdout F".to_owned(), 5)],
            "cut at {cut}"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_line_of_exactly_the_limit_is_one_line() {
    let dir = directory("exact");
    let mut log = open(&dir, 0, 0);
    log.write(Stream::Out, 1, ("y".repeat(MAX_LINE) + "\n").as_bytes());
    let seen = lines(&dir.join("0.log"));
    assert_eq!((seen.len(), seen[0].0.as_str()), (1, "stdout F"));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn rotation_keeps_the_newest_files_and_their_order() {
    let dir = directory("rotate");
    let mut log = open(&dir, 1000, 4);
    for number in 0..100 {
        log.write(Stream::Out, 1, format!("{number:060}\n").as_bytes());
    }
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names.remove(0), "0.log");
    names.push("0.log".into());
    let numbers: Vec<usize> = names
        .iter()
        .flat_map(|name| lines(&dir.join(name)))
        .map(|(_, text)| text.parse().unwrap())
        .collect();
    let first = numbers[0];
    assert!(first > 0, "the oldest files are gone");
    assert_eq!(
        numbers,
        (first..100).collect::<Vec<_>>(),
        "no line is lost between files"
    );
    fs::remove_dir_all(dir).unwrap();
}

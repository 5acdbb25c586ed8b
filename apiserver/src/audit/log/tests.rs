use super::*;

fn batch(buffer: usize, max_size: usize) -> Batch {
    Batch {
        buffer,
        max_size,
        max_wait: Duration::from_secs(3600),
        throttle: None,
    }
}

fn config(path: &std::path::Path, mode: Mode) -> LogConfig {
    LogConfig {
        path: Some(path.to_owned()),
        rotation: Rotation {
            max_size: 8,
            max_age: 0,
            max_backups: 0,
            compress: false,
        },
        legacy: false,
        mode,
        max_event: None,
    }
}

#[tokio::test]
async fn whoever_waits_finds_the_line_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for (strict, refused) in [(false, true), (true, false)] {
        let _ = std::fs::remove_file(&path);
        let tasks = Supervisor::current();
        let mode = Mode::Blocking { strict };
        let sink = Sink::open(
            &config(&path, mode),
            &tasks,
            Counters::register(&component::metrics::Metrics::new()),
        )
        .unwrap();
        assert!(sink.write(b"one\n".to_vec()).await);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        // Larger than a file may be.
        let told = sink.write(b"too large for it\n".to_vec()).await;
        assert_eq!(told, refused);
    }
}

#[tokio::test]
async fn a_batch_waits_until_it_is_full_or_the_end_comes() {
    let (queue, mut lines) = mpsc::channel(8);
    let mode = Mode::Batch(batch(8, 3));
    let stop = CancellationToken::new();
    let item = |line: &str| Item {
        line: line.into(),
        written: None,
    };
    for line in ["a", "b", "c", "d"] {
        queue.try_send(item(line)).ok().unwrap();
    }
    assert_eq!(collect(&mut lines, mode, &stop).await.len(), 3);
    stop.cancel();
    assert_eq!(collect(&mut lines, mode, &stop).await.len(), 1);
    drop(queue);
    assert!(collect(&mut lines, mode, &stop).await.is_empty());
}

#[test]
fn batches_come_at_the_rate_that_is_allowed() {
    let mut bucket = Bucket::new(Throttle { qps: 2.0, burst: 2 });
    let start = bucket.filled;
    assert_eq!(bucket.wait(start), Duration::ZERO);
    assert_eq!(bucket.wait(start), Duration::ZERO);
    assert_eq!(bucket.wait(start), Duration::from_millis(500));
    let later = start + Duration::from_secs(60);
    assert_eq!(bucket.wait(later), Duration::ZERO);
}

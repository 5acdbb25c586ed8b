use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

fn log() -> (Arc<Mutex<Vec<&'static str>>>, impl Fn(&'static str) + Clone) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let write = Arc::clone(&log);
    (log, move |line| write.lock().push(line))
}

#[tokio::test(start_paused = true)]
async fn phases_stop_one_after_the_other() {
    let tasks = Supervisor::current();
    let (log, note) = log();
    for (kind, name, takes) in [
        (Task::Server, "server", 1),
        (Task::Cache, "cache", 1),
        (Task::Worker, "worker", 3),
        (Task::Lease, "lease", 2),
    ] {
        let note = note.clone();
        tasks.spawn_graceful(kind, name, |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(takes)).await;
            note(name);
        });
    }
    tasks.stop();
    tasks.finished(Shutdown::default()).await.unwrap();
    assert_eq!(*log.lock(), ["worker", "cache", "lease", "server"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_in_time_is_dropped_and_reported() {
    let tasks = Supervisor::current();
    let (log, note) = log();
    tasks.spawn_graceful(Task::Worker, "stubborn", |_| std::future::pending::<()>());
    let late = note.clone();
    tasks.spawn_graceful(Task::Server, "server", |stop| async move {
        stop.cancelled().await;
        late("server");
    });
    tasks.stop();
    let start = Instant::now();
    let ended = tasks
        .finished(Shutdown {
            delay: Duration::from_secs(2),
            drain: Duration::from_secs(5),
        })
        .await;
    assert!(matches!(ended, Err(Failure::Stuck(1))), "{ended:?}");
    assert_eq!(start.elapsed().as_secs(), 7);
    assert_eq!(*log.lock(), ["server"], "later phases stop all the same");
}

#[tokio::test(start_paused = true)]
async fn the_kind_decides_whether_an_end_ends_the_process() {
    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Broken;
    for (kind, fails, ends_process) in [
        (Task::Critical, false, true),
        (Task::Critical, true, true),
        (Task::Worker, true, false),
        (Task::Cache, false, false),
        (Task::Cache, true, true),
        (Task::Lease, true, true),
        (Task::Server, false, true),
        (Task::Background, true, false),
    ] {
        let tasks = Supervisor::current();
        tasks.spawn(kind, "it", async move {
            if fails { Err(Broken) } else { Ok(()) }
        });
        let ended =
            tokio::time::timeout(Duration::from_secs(1), tasks.finished(Shutdown::default())).await;
        assert_eq!(ended.is_ok(), ends_process, "{kind:?} {fails}");
        if let Ok(ended) = ended {
            let said = ended.unwrap_err().to_string();
            assert!(
                said.contains(if fails {
                    "it failed: broken"
                } else {
                    "it ended"
                }),
                "{said}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_with_its_message() {
    let tasks = Supervisor::current();
    tasks.spawn(Task::Critical, "it", async {
        let wanted = std::hint::black_box("wanted");
        assert!(wanted.is_empty(), "{wanted}");
    });
    let ended = tasks.finished(Shutdown::default()).await.unwrap_err();
    assert_eq!(ended.to_string(), "task it panicked: wanted");
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_is_reported_and_none_after_being_asked() {
    let tasks = Supervisor::current();
    tasks.fail("one", "first");
    tasks.fail("two", "second");
    assert_eq!(
        tasks
            .finished(Shutdown::default())
            .await
            .unwrap_err()
            .to_string(),
        "task one failed: first"
    );
    let tasks = Supervisor::current();
    tasks.stop();
    tasks.fail("one", "too late to matter");
    tasks.finished(Shutdown::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn abandoned_work_is_dropped_at_once() {
    let tasks = Supervisor::current();
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counts = Counts(Arc::clone(&dropped));
    tasks.spawn_graceful(Task::Worker, "work", |_| async move {
        let _counts = counts;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    tasks.abandon("lease", "lost");
    let ended = tasks.finished(Shutdown::default()).await.unwrap_err();
    assert_eq!(
        (ended.to_string().as_str(), start.elapsed().as_secs()),
        ("task lease failed: lost", 0)
    );
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_after_its_phase_stopped_never_runs() {
    let tasks = Supervisor::current();
    tasks.stop();
    tasks.finished(Shutdown::default()).await.unwrap();
    let (log, note) = log();
    tasks.spawn(Task::Worker, "late", async move { note("ran") });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(log.lock().is_empty());
}

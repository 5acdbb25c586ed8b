use super::*;
use futures::future::join_all;
use futures::poll;
use std::pin::pin;

fn queue() -> Queue<&'static str> {
    Queue::new("test", &Metrics::new())
}

#[tokio::test(start_paused = true)]
async fn a_key_added_often_is_taken_once() {
    let queue = queue();
    for key in ["a", "b", "a", "a"] {
        queue.add(key);
    }
    assert_eq!(*queue.take().await.unwrap(), "a");
    assert_eq!(*queue.take().await.unwrap(), "b");
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_in_work_is_not_taken_again_before_it_is_done() {
    let queue = queue();
    queue.add("a");
    let first = queue.take().await.unwrap();
    queue.add("a");
    let mut second = pin!(queue.take());
    assert!(poll!(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(*second.await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_several_times_counts() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(2));
    queue.add_after("a", Duration::from_secs(5));
    drop(queue.take().await.unwrap());
    assert_eq!(start.elapsed().as_secs(), 2);
    let mut again = pin!(queue.take());
    assert!(poll!(again.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        poll!(again.as_mut()).is_pending(),
        "the later times are gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_waits_longer_each_time_and_starts_over_when_it_is_well() {
    let queue = queue();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        queue.add_failed("a");
        drop(queue.take().await.unwrap());
        waits.push(start.elapsed().as_millis());
    }
    assert_eq!(waits, [5, 10, 20, 40]);
    for _ in 0..40 {
        queue.add_failed("b");
    }
    assert_eq!(queue.failures(&"b"), 40);
    queue.forget(&"a");
    let start = Instant::now();
    queue.add_failed("a");
    drop(queue.take().await.unwrap());
    assert_eq!(start.elapsed().as_millis(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_bounded() {
    let retry = Retry {
        overall: RateLimit::none(),
        ..Retry::default()
    };
    let queue = Queue::with_retry("test", &Metrics::new(), retry);
    for _ in 0..64 {
        queue.add_failed("a");
        drop(queue.take().await.unwrap());
    }
    let start = Instant::now();
    queue.add_failed("a");
    drop(queue.take().await.unwrap());
    assert_eq!(start.elapsed().as_secs(), 1000);
}

/// Whoever gives up waiting must not take the knowledge of a deadline with him.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_watched_by_all_who_wait() {
    let queue = queue();
    let mut two = pin!(queue.take());
    {
        let mut one = pin!(queue.take());
        assert!(poll!(one.as_mut()).is_pending());
        assert!(poll!(two.as_mut()).is_pending());
        queue.add_after("later", Duration::from_secs(1));
        assert!(poll!(one.as_mut()).is_pending());
    }
    let later = tokio::time::timeout(Duration::from_secs(2), two).await;
    assert_eq!(*later.expect("the deadline is watched").unwrap(), "later");
}

#[tokio::test(start_paused = true)]
async fn each_key_wakes_one_who_waits() {
    let queue = queue();
    let (mut one, mut two) = (pin!(queue.take()), pin!(queue.take()));
    assert!(poll!(one.as_mut()).is_pending());
    assert!(poll!(two.as_mut()).is_pending());
    queue.add("a");
    queue.add("b");
    let wait = futures::future::join(one, two);
    let (a, b) = tokio::time::timeout(Duration::from_secs(1), wait)
        .await
        .expect("both are woken");
    assert_eq!((*a.unwrap(), *b.unwrap()), ("a", "b"));
}

/// A wake-up that comes to one who is gone goes to the next.
#[tokio::test(start_paused = true)]
async fn one_who_gives_up_passes_his_wake_up_on() {
    let queue = queue();
    let mut two = pin!(queue.take());
    {
        let mut one = pin!(queue.take());
        assert!(poll!(one.as_mut()).is_pending());
        assert!(poll!(two.as_mut()).is_pending());
        queue.add("a");
    }
    let taken = tokio::time::timeout(Duration::from_secs(1), two).await;
    assert_eq!(*taken.expect("it is woken").unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_end_when_the_queue_is_stopped() {
    let queue = queue();
    let waiting = join_all((0..5).map(|_| queue.take()));
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        queue.stop();
    };
    let (taken, ()) = tokio::join!(waiting, stop);
    assert!(taken.iter().all(Option::is_none));
    queue.add("a");
    assert!(queue.take().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_is_lost_and_none_is_worked_on_twice_at_once() {
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    let queue = Queue::<usize>::new("test", &Metrics::new());
    let busy: Arc<Vec<AtomicI32>> = Arc::new((0..16).map(|_| AtomicI32::new(0)).collect());
    let wanted: Arc<Vec<AtomicU32>> = Arc::new((0..16).map(|_| AtomicU32::new(0)).collect());
    let seen: Arc<Vec<AtomicU32>> = Arc::new((0..16).map(|_| AtomicU32::new(0)).collect());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (queue, busy, wanted, seen) =
            (queue.clone(), busy.clone(), wanted.clone(), seen.clone());
        workers.spawn(async move {
            while let Some(key) = queue.take().await {
                assert_eq!(
                    busy[*key].fetch_add(1, Ordering::SeqCst),
                    0,
                    "{} in work twice",
                    *key
                );
                seen[*key].store(wanted[*key].load(Ordering::SeqCst), Ordering::SeqCst);
                tokio::task::yield_now().await;
                busy[*key].fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
    for round in 1..=2000_u32 {
        let key = (round % 16) as usize;
        wanted[key].store(round, Ordering::SeqCst);
        if round % 3 == 0 {
            queue.add_after(key, Duration::from_micros(50))
        } else {
            queue.add(key)
        }
        if round % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let all_seen =
        || (0..16).all(|k| seen[k].load(Ordering::SeqCst) == wanted[k].load(Ordering::SeqCst));
    tokio::time::timeout(Duration::from_secs(20), async {
        while !all_seen() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("the newest state of each key is seen");
    queue.stop();
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
}

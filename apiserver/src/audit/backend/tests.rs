use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::metrics::Metrics;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;

fn batch(buffer: usize, max_size: usize) -> Batch {
    Batch {
        buffer,
        max_size,
        max_wait: Duration::from_secs(3600),
        throttle: None,
    }
}

fn item(text: &str) -> Item {
    Item {
        event: text.into(),
        delivered: None,
    }
}

#[tokio::test]
async fn a_batch_waits_until_it_is_full_or_the_end_comes() {
    let (queue, mut items) = mpsc::channel(8);
    let mode = Mode::Batch(batch(8, 3));
    let stop = CancellationToken::new();
    for text in ["a", "b", "c", "d"] {
        queue.try_send(item(text)).ok().unwrap();
    }
    assert_eq!(collect(&mut items, mode, 1, &stop).await.len(), 3);
    stop.cancel();
    assert_eq!(collect(&mut items, mode, 1, &stop).await.len(), 1);
    drop(queue);
    assert!(collect(&mut items, mode, 1, &stop).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn batches_come_at_the_rate_that_is_allowed() {
    let limit = Throttle { qps: 2.0, burst: 2 }.limit();
    assert_eq!(limit.take(), Duration::ZERO);
    assert_eq!(limit.take(), Duration::ZERO);
    assert_eq!(limit.take(), Duration::from_millis(500));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(limit.take(), Duration::ZERO);
}

/// Takes a batch when it is let.
#[derive(Clone)]
struct Gate {
    begun: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Gate {
    fn new() -> Self {
        Self {
            begun: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
            taken: Arc::default(),
        }
    }
}

impl Output for Gate {
    const AT_ONCE: usize = 2;
    const WAITED_FOR: usize = 1;

    async fn deliver(&self, batch: Vec<Item>, _stop: &CancellationToken) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.acquire().await.unwrap().forget();
        for item in batch {
            self.taken.lock().push(item.event.clone());
            let good = item.event != b"bad";
            item.delivered(good);
        }
    }
}

fn queue(mode: Mode, output: &Gate, metrics: &Metrics) -> Queue {
    let delivery = Delivery {
        mode,
        max_event: None,
    };
    let counters = Counters::register(metrics);
    let tasks = Supervisor::current();
    Queue::start(
        "gate",
        Form::Member,
        delivery,
        output.clone(),
        &tasks,
        counters,
    )
}

/// Waits until the task has nothing more that it could do.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_backend_that_does_not_take_holds_no_more_than_its_queue_and_what_is_on_its_way() {
    let (gate, metrics) = (Gate::new(), Metrics::new());
    let queue = queue(Mode::Batch(batch(3, 1)), &gate, &metrics);
    for n in 0..20 {
        queue.offer(vec![n]);
        settled().await;
    }
    // Two are on their way, one waits to be, three are in the queue.
    assert_eq!(gate.begun.load(Ordering::Relaxed), 2);
    let text = metrics.answer("text/plain").1;
    let lost = "apiserver_audit_error_total{plugin=\"buffered\"} ";
    let count = text.lines().find_map(|l| l.strip_prefix(lost)).unwrap();
    let kept = 20 - count.parse::<usize>().unwrap();
    assert!((5..=6).contains(&kept), "{kept}");
    gate.open.add_permits(20);
    while gate.taken.lock().len() < kept {
        tokio::task::yield_now().await;
    }
    let first: Vec<u8> = gate.taken.lock().iter().map(|e| e[0]).collect();
    assert_eq!(first[..5], [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn whoever_waits_is_told_how_it_went_and_a_strict_mode_minds() {
    for (strict, refused) in [(false, true), (true, false)] {
        let (gate, metrics) = (Gate::new(), Metrics::new());
        let queue = queue(Mode::Blocking { strict }, &gate, &metrics);
        let (good, bad) = (queue.write(b"good".to_vec()), queue.write(b"bad".to_vec()));
        let open = async {
            settled().await;
            assert!(gate.taken.lock().is_empty());
            gate.open.add_permits(2);
        };
        let (good, bad, ()) = tokio::join!(good, bad, open);
        assert_eq!((good, bad), (true, refused), "{strict}");
    }
}

//! The edge: those who wait, and what a request costs that does not.

use std::hash::RandomState;
use std::time::{Duration, Instant};

use component::metrics::Metrics;
use http::{Method, Uri};
use resources::request::{Query, RequestInfo};
use resources::strategies::flowcontrol::bootstrap;

use super::level::Level;
use super::queues::{Discipline, Queuing};
use super::schema::Schema;
use super::*;
use crate::auth::User;

fn info(path: &str) -> RequestInfo {
    let uri: Uri = path.parse().unwrap();
    RequestInfo::read(&Method::GET, &uri, &Query::parse(&uri)).unwrap()
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        groups: vec![User::AUTHENTICATED.into(), "dev".into()],
        ..User::default()
    }
}

/// The default flow of everybody, on a level with so many seats and queues.
fn flow(seats: u32, queues: usize) -> Arc<Flow> {
    let named = |all: Vec<proto::Value>| {
        let is = |o: &proto::Value| proto::meta::name(o) == "global-default";
        all.into_iter().find(is).unwrap()
    };
    let schema = named(bootstrap::schemas().map(|(_, o)| o).collect());
    let level = named(bootstrap::levels().map(|(_, o)| o).collect());
    let mut level = Level::of(&level).unwrap();
    level.discipline = Discipline::Queue(Queuing {
        dealer: shuffle::Dealer::new(queues, 1).unwrap(),
        queues,
        length: 100,
    });
    let pool = pool::Pool::new("test", &Shared::new(), level.discipline, seats);
    let families = Families::register(&Metrics::new());
    let schema = Arc::new(Schema::of(&schema));
    Flow::new(
        &schema,
        &level,
        &pool,
        seats,
        &families,
        &RandomState::new(),
    )
}

fn seated(start: Start) -> Seat {
    match start {
        Start::Seated(seat) => seat,
        _ => panic!("there is a seat"),
    }
}

fn waiting(start: Start) -> Waiting {
    match start {
        Start::Waiting(waiting) => waiting,
        _ => panic!("there is no seat"),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn who_waits_is_seated_when_a_seat_is_given_back() {
    let (flow, who, info) = (flow(1, 1), user("u"), info("/api/v1/pods"));
    let first = seated(flow.start(Work::of(1), &who, &info));
    let second = waiting(flow.start(Work::of(1), &who, &info));
    let third = waiting(flow.start(Work::of(1), &who, &info));
    drop(first);
    let second = second.seat(soon()).await.unwrap();
    drop(second);
    drop(third.seat(soon()).await.unwrap());
    assert!(flow.pool.is_idle());
}

#[tokio::test]
async fn who_waits_too_long_leaves() {
    let (flow, who, info) = (flow(1, 1), user("u"), info("/api/v1/pods"));
    let first = seated(flow.start(Work::of(1), &who, &info));
    let second = waiting(flow.start(Work::of(1), &who, &info));
    assert!(second.seat(Instant::now()).await.is_none());
    assert_eq!(flow.pool.look(|set| set.requests()), (0, 1));
    drop(first);
    assert!(flow.pool.is_idle());
}

#[tokio::test]
async fn who_is_dropped_leaves_its_queue_or_gives_its_seat_back() {
    let (flow, who, info) = (flow(1, 1), user("u"), info("/api/v1/pods"));
    let first = seated(flow.start(Work::of(1), &who, &info));
    let second = waiting(flow.start(Work::of(1), &who, &info));
    let third = waiting(flow.start(Work::of(1), &who, &info));
    // One in its queue, one that has the seat already and does not know it.
    drop(second);
    drop(first);
    assert_eq!(flow.pool.look(|set| set.requests()), (0, 1));
    drop(third);
    assert!(flow.pool.is_idle());
    assert_eq!(flow.pool.look(|set| set.seats()), (0, 0));
}

#[tokio::test]
async fn seats_that_linger_come_free_by_the_clock() {
    let (flow, who, info) = (flow(2, 1), user("u"), info("/api/v1/pods"));
    let work = Work {
        seats: 1,
        last_seats: 2,
        last: 20_000_000,
    };
    let shared = Arc::clone(flow.pool.shared());
    let tasks = Supervisor::current();
    tasks.spawn(Task::Background, "alarms", async move {
        shared.run_alarms().await
    });
    let write = seated(flow.start(work, &who, &info));
    let next = waiting(flow.start(Work::of(1), &who, &info));
    drop(write);
    let ended = Instant::now();
    drop(next.seat(soon()).await.unwrap());
    assert!(
        ended.elapsed() >= Duration::from_millis(19),
        "{:?}",
        ended.elapsed()
    );
    assert!(ended.elapsed() < Duration::from_secs(10));
}

/// Says what the filter costs: matching against all default schemas, a seat, and giving it back.
/// `cargo test --release -- --nocapture cost` prints it.
#[test]
fn cost_of_a_request_that_does_not_wait() {
    const ROUNDS: u32 = 20_000;
    let shared = Shared::new();
    let families = Families::register(&Metrics::new());
    let mut levels = Levels::new(600, &shared, &families);
    let all: Vec<_> = bootstrap::levels()
        .map(|(_, o)| Arc::new(Level::of(&o).unwrap()))
        .collect();
    let schemas: Vec<_> = bootstrap::schemas()
        .map(|(_, o)| Arc::new(Schema::of(&o)))
        .collect();
    let table = RwLock::new(levels.digest(&all, &schemas));
    // The last schema but one: everything before it is tried in vain.
    let (who, info) = (user("alice"), info("/api/v1/namespaces/default/pods/x"));
    let find = || {
        let table = table.read();
        let mut flows = table.flows.iter();
        let found = flows.find(|f| f.schema.matches(&who, &info));
        Arc::clone(found.unwrap())
    };
    assert_eq!(&*find().schema.name, "global-default");
    let start = Instant::now();
    for _ in 0..ROUNDS {
        drop(seated(find().start(Work::of(1), &who, &info)));
    }
    let each = start.elapsed() / ROUNDS;
    println!("a request that does not wait: {each:?}");
    // Debug builds on a busy machine included: a mistake of an order of magnitude shows.
    assert!(each < Duration::from_millis(1), "{each:?}");
}

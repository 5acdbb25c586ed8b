//! The queues under a virtual clock.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MS: Nanos = 1_000_000;

/// Who waits is a number.
type Set = QueueSet<u32>;

fn queued(queues: usize, hand: usize, length: usize) -> Discipline {
    Discipline::Queue(Queuing {
        dealer: Dealer::new(queues, hand).unwrap(),
        queues,
        length,
    })
}

fn arrive(set: &mut Set, now: Nanos, work: Work, hash: u64) -> Arrival {
    let mut out = Vec::new();
    let arrival = set.arrive(now, work, hash, |_| (), &mut out);
    assert!(out.is_empty(), "nobody else is seated by an arrival");
    arrival
}

fn seated(arrival: Arrival) -> Ticket {
    match arrival {
        Arrival::Seated(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn waits(set: &mut Set, arrival: Arrival, who: u32) -> Ticket {
    match arrival {
        Arrival::Queued(ticket, _) => {
            set.wait(&ticket, who);
            ticket
        }
        other => panic!("{other:?}"),
    }
}

fn refused(arrival: Arrival) -> Refusal {
    match arrival {
        Arrival::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

fn finish(set: &mut Set, now: Nanos, ticket: Ticket) -> Vec<u32> {
    let mut out = Vec::new();
    set.finish(now, ticket, &mut out);
    out
}

#[test]
fn exempt_requests_never_wait() {
    let mut set = Set::new(0, Discipline::Exempt, 0);
    let tickets: Vec<Ticket> = (0..100)
        .map(|_| seated(arrive(&mut set, 0, Work::of(5), 0)))
        .collect();
    assert_eq!(set.seats(), (0, 500));
    for ticket in tickets {
        finish(&mut set, 1, ticket);
    }
    assert!(set.is_idle());
    assert_eq!(set.seats(), (0, 0));
}

#[test]
fn without_queues_what_has_no_seat_is_refused() {
    let mut set = Set::new(0, Discipline::Reject, 3);
    let first = seated(arrive(&mut set, 0, Work::of(2), 0));
    let wide = refused(arrive(&mut set, 0, Work::of(2), 0));
    assert_eq!(wide, Refusal::ConcurrencyLimit);
    let second = seated(arrive(&mut set, 0, Work::of(1), 0));
    finish(&mut set, 1, first);
    finish(&mut set, 1, second);
    // Wider than the level: alone.
    let huge = seated(arrive(&mut set, 2, Work::of(10), 0));
    refused(arrive(&mut set, 2, Work::of(1), 0));
    finish(&mut set, 3, huge);
    assert!(set.is_idle());
    assert_eq!(set.counts().rejected, 2);
}

#[test]
fn a_full_queue_refuses_and_those_in_it_are_seated_in_order() {
    let mut set = Set::new(0, queued(1, 1, 2), 1);
    let running = seated(arrive(&mut set, 0, Work::of(1), 0));
    let first = arrive(&mut set, 0, Work::of(1), 0);
    let first = waits(&mut set, first, 1);
    let second = arrive(&mut set, 0, Work::of(1), 0);
    let second = waits(&mut set, second, 2);
    let third = refused(arrive(&mut set, 0, Work::of(1), 0));
    assert_eq!(third, Refusal::QueueFull);
    assert_eq!(finish(&mut set, MS, running), [1]);
    assert_eq!(finish(&mut set, 2 * MS, first), [2]);
    assert!(finish(&mut set, 3 * MS, second).is_empty());
    assert!(set.is_idle());
}

#[test]
fn whoever_leaves_frees_its_place_and_who_was_seated_keeps_its_ticket() {
    let mut set = Set::new(0, queued(1, 1, 5), 1);
    let mut out = Vec::new();
    let running = seated(arrive(&mut set, 0, Work::of(1), 0));
    let first = arrive(&mut set, 0, Work::of(1), 0);
    let first = waits(&mut set, first, 1);
    let second = arrive(&mut set, 0, Work::of(1), 0);
    let second = waits(&mut set, second, 2);
    assert!(set.leave(MS, first, true, &mut out).is_ok());
    assert_eq!(set.requests(), (1, 1));
    let counts = set.counts();
    assert_eq!((counts.cancelled, counts.timed_out), (1, 1));
    assert_eq!(finish(&mut set, 2 * MS, running), [2]);
    // Too late to leave: it has the seat, and must give it back.
    let second = set.leave(3 * MS, second, true, &mut out).unwrap_err();
    finish(&mut set, 3 * MS, second);
    assert!(set.is_idle() && out.is_empty());
    assert_eq!(set.seats(), (0, 0));
}

#[test]
fn seats_linger_for_watches_and_nobody_gets_them_meanwhile() {
    let mut set = Set::new(0, queued(1, 1, 5), 4);
    let mut out = Vec::new();
    let work = Work {
        seats: 1,
        last_seats: 4,
        last: 10 * MS,
    };
    let write = seated(arrive(&mut set, 0, work, 0));
    let next = arrive(&mut set, 0, Work::of(1), 0);
    let next = waits(&mut set, next, 7);
    assert_eq!(set.next_release(), None);
    assert!(finish(&mut set, 2 * MS, write).is_empty());
    assert_eq!(set.seats(), (1, 4));
    assert_eq!(set.next_release(), Some(12 * MS));
    set.advance(12 * MS - 1, &mut out);
    assert!(out.is_empty());
    set.advance(12 * MS, &mut out);
    assert_eq!(out, [7]);
    // With nobody waiting, seats come free when somebody looks.
    finish(&mut set, 13 * MS, next);
    assert_eq!(set.next_release(), None);
    assert_eq!(set.seats(), (0, 0));
}

#[test]
fn a_wide_request_is_not_overtaken() {
    let mut set = Set::new(0, queued(2, 1, 50), 4);
    let running: Vec<Ticket> = (0..4)
        .map(|_| seated(arrive(&mut set, 0, Work::of(1), 0)))
        .collect();
    let wide = arrive(&mut set, 0, Work::of(4), 1);
    let wide = waits(&mut set, wide, 1);
    // From the other queue, later, and it would fit.
    let mut narrow = Vec::new();
    for who in 10..30 {
        let arrival = arrive(&mut set, MS, Work::of(1), 0);
        narrow.push(waits(&mut set, arrival, who));
    }
    let mut told = Vec::new();
    for ticket in running {
        told.extend(finish(&mut set, 100 * MS, ticket));
    }
    let place = told.iter().position(|who| *who == 1);
    let before = place.unwrap_or(told.len());
    // Its queue's share reaches it soon, and from then on seats are kept for it.
    assert!(before <= 8, "{told:?}");
    drop((wide, narrow));
}

/// Flows with constant load on a level: each keeps `depth` requests of a width in the system, and each
/// request runs for `service`. Returns the seat time that each flow was given.
struct Load {
    hash: u64,
    depth: usize,
    work: Work,
    service: Nanos,
}

fn simulate(set: &mut Set, loads: &[Load], until: Nanos) -> Vec<f64> {
    let mut given = vec![0.0; loads.len()];
    let mut tickets: BTreeMap<u32, (usize, Ticket)> = BTreeMap::new();
    let mut ends: BinaryHeap<Reverse<(Nanos, u32)>> = BinaryHeap::new();
    let mut next = 0u32;
    let mut now = 0;
    let mut missing: Vec<usize> = loads
        .iter()
        .enumerate()
        .flat_map(|(flow, load)| std::iter::repeat_n(flow, load.depth))
        .collect();
    loop {
        for flow in std::mem::take(&mut missing) {
            let load = &loads[flow];
            let who = next;
            next += 1;
            match arrive(set, now, load.work, load.hash) {
                Arrival::Seated(ticket) => {
                    ends.push(Reverse((now + load.service, who)));
                    tickets.insert(who, (flow, ticket));
                }
                Arrival::Queued(ticket, _) => {
                    set.wait(&ticket, who);
                    tickets.insert(who, (flow, ticket));
                }
                Arrival::Refused(why) => panic!("{why:?}"),
            }
        }
        let Some(Reverse((at, who))) = ends.pop() else {
            return given;
        };
        if at > until {
            return given;
        }
        now = at;
        let (flow, ticket) = tickets.remove(&who).unwrap();
        let load = &loads[flow];
        given[flow] += f64::from(load.work.width()) * load.service as f64;
        for seated in finish(set, now, ticket) {
            let (flow, _) = tickets[&seated];
            ends.push(Reverse((now + loads[flow].service, seated)));
        }
        missing.push(flow);
    }
}

/// A hash for each of the first queues, when a hand is one card.
fn load(hash: u64, depth: usize, seats: u32, service: Nanos) -> Load {
    Load {
        hash,
        depth,
        work: Work::of(seats),
        service,
    }
}

fn shares(given: &[f64]) -> Vec<f64> {
    let all: f64 = given.iter().sum();
    given.iter().map(|g| g / all).collect()
}

#[test]
fn a_flood_gets_no_more_than_its_share() {
    let mut set = Set::new(0, queued(4, 1, 1000), 6);
    let loads = [
        load(0, 500, 1, 10 * MS),
        load(1, 20, 1, 10 * MS),
        load(2, 20, 1, 10 * MS),
    ];
    let shares = shares(&simulate(&mut set, &loads, 20_000 * MS));
    for share in &shares {
        assert!((share - 1.0 / 3.0).abs() < 0.03, "{shares:?}");
    }
}

#[test]
fn slow_and_wide_requests_are_charged_for_what_they_take() {
    // The same seat time for each, not the same number of requests.
    let mut set = Set::new(0, queued(4, 1, 1000), 8);
    let loads = [
        load(0, 40, 1, 5 * MS),
        load(1, 40, 1, 50 * MS),
        load(2, 40, 3, 10 * MS),
    ];
    let shares = shares(&simulate(&mut set, &loads, 60_000 * MS));
    // Only roughly: what a request takes is known when it ends. Request for request the first would
    // have a seventeenth.
    for share in &shares {
        assert!((0.25..0.42).contains(share), "{shares:?}");
    }
}

#[test]
fn a_flow_that_asks_for_less_gets_all_it_asks_for() {
    let mut set = Set::new(0, queued(2, 1, 1000), 10);
    // One request at a time of one seat, beside a flood.
    let loads = [load(0, 1, 1, 10 * MS), load(1, 300, 1, 10 * MS)];
    let given = simulate(&mut set, &loads, 10_000 * MS);
    // It waits for the next seat that comes free, no longer.
    let ideal = 10_000.0 * MS as f64;
    assert!(given[0] > 0.45 * ideal, "{given:?}");
    // And no seat is idle.
    let all: f64 = given.iter().sum();
    assert!(all > 0.98 * 10.0 * ideal, "{given:?}");
}

#[test]
fn fewer_queues_drain_and_go() {
    let mut set = Set::new(0, queued(8, 1, 10), 1);
    let mut out = Vec::new();
    let running = seated(arrive(&mut set, 0, Work::of(1), 7));
    let waiting = arrive(&mut set, 0, Work::of(1), 6);
    let waiting = waits(&mut set, waiting, 1);
    set.configure(MS, queued(2, 1, 10), 1, &mut out);
    assert_eq!((set.queues().len(), out.len()), (8, 0));
    assert_eq!(finish(&mut set, 2 * MS, running), [1]);
    finish(&mut set, 3 * MS, waiting);
    assert_eq!(set.queues().len(), 2);
    // And more of them are there at once.
    set.configure(4 * MS, queued(16, 1, 10), 1, &mut out);
    assert_eq!(set.queues().len(), 16);
}

#[test]
fn more_seats_are_used_at_once() {
    let mut set = Set::new(0, queued(1, 1, 10), 1);
    let mut out = Vec::new();
    let first = seated(arrive(&mut set, 0, Work::of(1), 0));
    let mut others = Vec::new();
    for who in 1..4 {
        let arrival = arrive(&mut set, 0, Work::of(1), 0);
        others.push(waits(&mut set, arrival, who));
    }
    set.configure(MS, queued(1, 1, 10), 3, &mut out);
    assert_eq!(out, [1, 2]);
    drop((first, others));
}

#[test]
fn demand_is_what_is_used_and_what_is_waited_for() {
    let mut set = Set::new(0, queued(1, 1, 10), 2);
    let mut out = Vec::new();
    let first = seated(arrive(&mut set, 0, Work::of(2), 0));
    let second = arrive(&mut set, 0, Work::of(3), 0);
    let second = waits(&mut set, second, 1);
    finish(&mut set, 1000 * MS, first);
    let seen = set.take_demand(2000 * MS, &mut out);
    assert!((seen.most - 5.0).abs() < 1e-9);
    // Its width is above the limit, so it runs alone, with all that it asked for.
    assert!((seen.average - 4.0).abs() < 1e-9, "{seen:?}");
    finish(&mut set, 2000 * MS, second);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { hash: u64, work: Work },
    Finish(usize),
    Leave(usize),
    Configure { queues: usize, limit: u32, kind: u8 },
    Pass(Nanos),
}

fn step() -> impl Strategy<Value = Step> {
    let work = (1u32..5, 0u32..8, 0u64..20).prop_map(|(seats, last_seats, ms)| Work {
        seats,
        last_seats,
        last: if last_seats == 0 { 0 } else { ms * MS },
    });
    prop_oneof![
        6 => (any::<u64>(), work).prop_map(|(hash, work)| Step::Arrive { hash, work }),
        4 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => (1usize..9, 0u32..12, 0u8..6)
            .prop_map(|(queues, limit, kind)| Step::Configure { queues, limit, kind }),
        3 => (0u64..30).prop_map(|ms| Step::Pass(ms * MS)),
    ]
}

/// What must hold after whatever happened.
fn check(set: &Set, running: usize, waiting: usize) {
    assert_eq!(set.requests(), (waiting, running));
    let sum = |of: fn(&Queue) -> u32| set.queues().iter().map(of).sum::<u32>();
    assert_eq!(sum(|q| q.width), set.wanted);
    assert_eq!(sum(|q| q.waiting.len() as u32), set.waiting as u32);
    let lingering: u32 = set.lingering.iter().map(|Reverse((.., seats))| seats).sum();
    let executing: u32 = set
        .all()
        .filter(|(r, _)| r.is_executing())
        .map(|(r, _)| r.work.width())
        .sum();
    assert_eq!(executing + lingering, set.in_use);
    let busy = set.queues().iter().filter(|q| q.is_busy()).count();
    assert_eq!(busy as u32, set.busy);
    let mut backlog: Vec<u32> = set.backlog.clone();
    backlog.sort_unstable();
    let with_waiting = (0u32..).zip(set.queues()).filter(|(_, q)| q.waiting() > 0);
    assert_eq!(backlog, with_waiting.map(|(i, _)| i).collect::<Vec<_>>());
    // Nobody waits while the request that is next would fit.
    if set.waiting > 0 && set.in_use < set.limit {
        let (at, _) = set.find().unwrap();
        let next = set.slots.get(set.queues[at].waiting[0]);
        assert!(!set.fits(next.work.width()));
    }
}

proptest! {
    #[test]
    fn seats_and_places_are_never_lost(steps in prop::collection::vec(step(), 1..120)) {
        let mut set = Set::new(0, queued(4, 2, 5), 4);
        let (mut now, mut next) = (0, 0u32);
        let mut running: Vec<(u32, Ticket)> = Vec::new();
        let mut waiting: BTreeMap<u32, Ticket> = BTreeMap::new();
        for step in steps {
            let mut out = Vec::new();
            match step {
                Step::Arrive { hash, work } => {
                    next += 1;
                    match set.arrive(now, work, hash, |_| (), &mut out) {
                        Arrival::Seated(ticket) => running.push((next, ticket)),
                        Arrival::Queued(ticket, _) => {
                            set.wait(&ticket, next);
                            waiting.insert(next, ticket);
                        }
                        Arrival::Refused(_) => {}
                    }
                }
                Step::Finish(i) if !running.is_empty() => {
                    let (_, ticket) = running.swap_remove(i % running.len());
                    set.finish(now, ticket, &mut out);
                }
                Step::Leave(i) if !waiting.is_empty() => {
                    let who = *waiting.keys().nth(i % waiting.len()).unwrap();
                    let ticket = waiting.remove(&who).unwrap();
                    prop_assert!(set.leave(now, ticket, false, &mut out).is_ok());
                }
                Step::Configure { queues, limit, kind } => {
                    let discipline = match kind {
                        0 => Discipline::Reject,
                        1 => Discipline::Exempt,
                        _ => queued(queues, 1, 5),
                    };
                    set.configure(now, discipline, limit, &mut out);
                }
                Step::Pass(passed) => {
                    now += passed;
                    set.advance(now, &mut out);
                }
                Step::Finish(_) | Step::Leave(_) => {}
            }
            for who in out {
                running.push((who, waiting.remove(&who).unwrap()));
            }
            check(&set, running.len(), waiting.len());
        }
        // Everybody goes: nothing is left behind.
        let mut out = Vec::new();
        for (_, ticket) in waiting {
            let left = set.leave(now, ticket, false, &mut out);
            if let Err(ticket) = left {
                set.finish(now, ticket, &mut out);
            }
        }
        for (_, ticket) in running {
            set.finish(now, ticket, &mut out);
        }
        set.advance(now + 100_000 * MS, &mut out);
        prop_assert!(set.is_idle());
        prop_assert_eq!(set.seats(), (0, 0));
        prop_assert_eq!(set.busy, 0);
    }
}

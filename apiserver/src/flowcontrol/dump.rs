//! What is going on, as text for people: levels, queues, requests.
//!
//! Upstream: `util/flowcontrol/apf_controller_debug.go`.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{Response, StatusCode};

use super::{Fair, Mode};
use crate::body::Body;
use crate::chain::Exchange;

const PREFIX: &str = "/debug/api_priority_and_fairness/";

/// The answer, if the path is one of these.
#[must_use]
pub fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    let what = path.strip_prefix(PREFIX)?;
    let Mode::Fair(fair) = &x.server.flow_control.mode else {
        return None;
    };
    let text = match what {
        "dump_priority_levels" => levels(fair),
        "dump_queues" => queues(fair),
        "dump_requests" => {
            let details = x.query.get("includeRequestDetails");
            requests(fair, details.is_some_and(|v| !v.is_empty()))
        }
        _ => return None,
    };
    Some(component::serving::text(StatusCode::OK, text))
}

/// Rows of one table; upstream aligns nothing either.
struct Table(String);

impl Table {
    fn new(headers: &[&str]) -> Self {
        let mut table = Self(String::new());
        table.row(headers);
        table
    }

    fn row<T: AsRef<str>>(&mut self, columns: &[T]) {
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                self.0.push_str(",\t");
            }
            self.0.push_str(column.as_ref());
        }
        self.0.push('\n');
    }
}

fn levels(fair: &Fair) -> String {
    let mut table = Table::new(&[
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ]);
    for pool in &fair.table.read().pools {
        let quiescing = pool.unwanted.load(Ordering::Relaxed);
        pool.look(|set| {
            let active = set.queues().iter().filter(|q| q.waiting() > 0).count();
            let ((waiting, executing), counts) = (set.requests(), set.counts());
            table.row(&[
                pool.name.to_string(),
                active.to_string(),
                set.is_idle().to_string(),
                quiescing.to_string(),
                waiting.to_string(),
                executing.to_string(),
                counts.dispatched.to_string(),
                counts.rejected.to_string(),
                counts.timed_out.to_string(),
                counts.cancelled.to_string(),
            ]);
        });
    }
    table.0
}

fn queues(fair: &Fair) -> String {
    let mut table = Table::new(&[
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ]);
    for pool in &fair.table.read().pools {
        pool.look(|set| {
            for (index, queue) in set.queues().iter().enumerate() {
                table.row(&[
                    pool.name.to_string(),
                    index.to_string(),
                    queue.waiting().to_string(),
                    queue.executing.to_string(),
                    queue.seats_in_use.to_string(),
                    queue.next_dispatch().to_string(),
                    queue.seats.to_string(),
                    queue.width.to_string(),
                    queue.work.to_string(),
                ]);
            }
        });
    }
    table.0
}

/// A request's row, behind what rows are sorted by.
type Row = ((i64, i64), Vec<String>);

fn requests(fair: &Fair, details: bool) -> String {
    let mut headers = vec![
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "ArriveTime",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
        "StartTime",
    ];
    if details {
        headers.extend([
            "UserName",
            "Verb",
            "APIPath",
            "Namespace",
            "Name",
            "APIVersion",
            "Resource",
            "SubResource",
        ]);
    }
    let mut table = Table::new(&headers);
    let clock = fair.shared.clock;
    for pool in &fair.table.read().pools {
        let mut rows: Vec<Row> = Vec::new();
        pool.look(|set| {
            for (request, place) in set.all() {
                let queue = request.queue.map_or(-1, i64::from);
                let place = place.and_then(|p| i64::try_from(p).ok()).unwrap_or(-1);
                let mut about = request.about.split('\0');
                let schema = about.next().unwrap_or_default();
                let who = about.next().unwrap_or_default();
                let started = if request.is_executing() {
                    clock.wall(request.started)
                } else {
                    UNIX_EPOCH
                };
                let mut row = vec![
                    pool.name.to_string(),
                    schema.to_owned(),
                    queue.to_string(),
                    place.to_string(),
                    who.to_owned(),
                    time(clock.wall(request.arrived)),
                    request.work.seats.to_string(),
                    request.work.last_seats.to_string(),
                    duration(request.work.last),
                    time(started),
                ];
                if details {
                    row.extend(about.map(str::to_owned));
                }
                // Within a queue, those who wait come first.
                let order = if place < 0 { i64::MAX } else { place };
                rows.push(((queue, order), row));
            }
        });
        // Requests without a queue come last.
        rows.sort_by_key(|((queue, order), _)| (*queue < 0, *queue, *order));
        for (_, row) in rows {
            table.row(&row);
        }
    }
    table.0
}

/// RFC 3339 with as many digits as are needed. What has not happened was in the year 1, as in Go.
fn time(at: SystemTime) -> String {
    let Ok(since) = at.duration_since(UNIX_EPOCH) else {
        return String::new();
    };
    if since.is_zero() {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let mut text = proto::time::print_time(since.as_secs().cast_signed());
    let nanos = since.subsec_nanos();
    if nanos > 0 {
        text.pop();
        let digits = format!("{nanos:09}");
        // Writing to a string does not fail.
        let _ = write!(text, ".{}Z", digits.trim_end_matches('0'));
    }
    text
}

/// `0s`, `5ms`, `50ms`, `1.5s`: what estimates can be.
fn duration(nanos: u64) -> String {
    match nanos {
        0 => "0s".to_owned(),
        1_000_000_000.. => format!("{}s", nanos as f64 / 1e9),
        _ => format!("{}ms", nanos as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_and_durations_are_printed_as_go_prints_them() {
        let at = |secs, nanos| UNIX_EPOCH + Duration::new(secs, nanos);
        assert_eq!(time(at(1_700_000_000, 0)), "2023-11-14T22:13:20Z");
        assert_eq!(
            time(at(1_700_000_000, 50_000)),
            "2023-11-14T22:13:20.00005Z"
        );
        assert_eq!(time(UNIX_EPOCH), "0001-01-01T00:00:00Z");
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(12_500_000), "12.5ms");
        assert_eq!(duration(1_250_000_000), "1.25s");
    }
}

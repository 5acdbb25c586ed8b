//! How many seats a request takes.
//!
//! A list takes what it holds in memory at once, by the size of its resource; a write keeps seats after
//! its answer for the watches that are told; everything else takes one. Upstream:
//! `util/flowcontrol/request/{width,list_work_estimator,mutating_work_estimator}.go`.

use resources::request::{Query, RequestInfo};

use super::work::{Nanos, SeatTime, Work};

const LIST_SEATS: u32 = 100;
/// Without `SizeBasedListCostEstimate`.
const LIST_SEATS_BY_COUNT: u32 = 10;
const WRITE_SEATS: u32 = 10;

const OBJECTS_PER_SEAT: u64 = 100;
const BYTES_PER_SEAT: u64 = 100_000;
/// What a list that is sent piece by piece holds at once.
const STREAMED: u64 = 1_000_000;
/// An object of which nothing is known.
const OBJECT_BYTES: u64 = 1_500_000;
/// As many as there may be where nobody knows.
const UNKNOWN: u64 = 1_000_000_000;

const WATCHES_PER_SEAT: u32 = 10;
/// What telling one seat's worth of watches takes.
const TELLING: Nanos = 5_000_000;

/// The gates that change estimates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gates {
    /// `SizeBasedListCostEstimate`.
    pub(super) by_size: bool,
    /// `WatchList`.
    pub(super) watch_list: bool,
}

/// What is stored of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl Stored {
    /// A resource that is being read.
    pub(super) const UNKNOWN: Self = Self {
        objects: UNKNOWN,
        bytes: UNKNOWN * OBJECT_BYTES,
    };

    fn average(self) -> u64 {
        match self.bytes.checked_div(self.objects) {
            Some(0) => OBJECT_BYTES,
            Some(bytes) => bytes,
            None => 0,
        }
    }
}

/// How a request is estimated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    One,
    List,
    /// A write, if it is told to watches.
    Write,
}

#[must_use]
pub(super) fn how(info: &RequestInfo, query: &Query, gates: Gates) -> How {
    match info.verb.as_str() {
        "list" => How::List,
        "watch" if gates.watch_list && sends_state(query) => How::List,
        // Tokens are no objects.
        "create" if (&*info.resource, &*info.subresource) == ("serviceaccounts", "token") => {
            How::One
        }
        "create" | "update" | "patch" | "delete" => How::Write,
        _ => How::One,
    }
}

/// Whether a watch begins with the objects as they are.
fn sends_state(query: &Query) -> bool {
    let version = query.get("resourceVersion").unwrap_or_default();
    query.flag("sendInitialEvents") == Some(true) || matches!(version, "" | "0")
}

/// The seats of a list. `most` is the most that its level gives to one request.
#[must_use]
pub(super) fn list(
    info: &RequestInfo,
    query: &Query,
    stored: Option<Stored>,
    most: Option<u32>,
    gates: Gates,
) -> Work {
    let bound = if gates.by_size {
        LIST_SEATS
    } else {
        LIST_SEATS_BY_COUNT
    };
    let most = most.map_or(bound, |most| most.min(bound));
    // A resource that is not stored here costs whoever has it.
    let Some(stored) = stored else {
        return Work::of(1);
    };
    let limit = match query
        .get("limit")
        .filter(|l| !l.is_empty())
        .map(str::parse::<i64>)
    {
        // It will be refused, but who knows when.
        Some(Err(_)) => return Work::of(most),
        Some(Ok(limit)) => u64::try_from(limit).unwrap_or(0),
        None => 0,
    };
    let limited = match limit {
        0 => stored.objects,
        limit => limit.min(stored.objects),
    };
    let cached = info.verb == "watch" || is_cached(query, limit);
    let given = |name| query.get(name).is_some_and(|v| !v.is_empty());
    let list = List {
        single: !info.name.is_empty(),
        cached,
        selects: given("fieldSelector") || given("labelSelector"),
        limited,
    };
    let seats = if gates.by_size {
        list.by_size(stored)
    } else {
        list.by_count(stored)
    };
    Work::of(u32::try_from(seats).unwrap_or(u32::MAX).min(most).max(1))
}

/// Whether the list is one that upstream's cache answers: not one at a version, nor a further page.
fn is_cached(query: &Query, limit: u64) -> bool {
    let given = |name| query.get(name).unwrap_or_default();
    match given("resourceVersionMatch") {
        "NotOlderThan" => true,
        "" => {
            let version = given("resourceVersion");
            given("continue").is_empty() && (limit == 0 || matches!(version, "" | "0"))
        }
        _ => false,
    }
}

struct List {
    single: bool,
    cached: bool,
    selects: bool,
    limited: u64,
}

impl List {
    fn by_size(&self, stored: Stored) -> u64 {
        let objects = match self {
            Self { single: true, .. } => 1,
            Self {
                cached: false,
                selects: true,
                ..
            } => self.limited.max(stored.objects / 2),
            _ => self.limited,
        };
        let mut bytes = objects.saturating_mul(stored.average());
        if self.cached {
            bytes = bytes.min(STREAMED);
        }
        bytes.div_ceil(BYTES_PER_SEAT)
    }

    fn by_count(&self, stored: Stored) -> u64 {
        let objects = match self {
            Self { single: true, .. } => 1,
            Self { cached: true, .. } => stored.objects,
            Self { selects: true, .. } => stored.objects + self.limited,
            _ => 2 * self.limited,
        };
        objects.div_ceil(OBJECTS_PER_SEAT)
    }
}

/// The seats of a write that is told to so many watches. Few watches cost nothing.
#[must_use]
pub(super) fn write(watches: u32, most: Option<u32>) -> Work {
    let most = most.map_or(WRITE_SEATS, |most| most.min(WRITE_SEATS));
    if watches < WATCHES_PER_SEAT {
        return Work::of(1);
    }
    let seats = watches.div_ceil(WATCHES_PER_SEAT);
    let narrow = seats.min(most);
    Work {
        seats: 1,
        last_seats: narrow,
        last: SeatTime::new(seats, TELLING).spread(narrow),
    }
}

#[cfg(test)]
mod tests;

//! What requests cost: seats, and seats over time.
//!
//! Upstream: `util/flowcontrol/request/{width,seat_seconds}.go`. Sums there are of 64 bits and are wound
//! back before they overflow; of 128 bits they never do.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// Nanoseconds since the server started.
pub(super) type Nanos = u64;

/// How long a request is taken to run before anything is known of it: upstream's
/// `estimatedServiceDuration`.
pub(super) const SERVICE: Nanos = 3_000_000;

/// Seats times time, in seat-nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct SeatTime(i128);

impl SeatTime {
    #[must_use]
    pub(super) fn new(seats: u32, time: Nanos) -> Self {
        Self(i128::from(seats) * i128::from(time))
    }

    /// Seats for a time that is longer or shorter than another.
    #[must_use]
    pub(super) fn difference(seats: u32, longer: Nanos, shorter: Nanos) -> Self {
        Self(i128::from(seats) * (i128::from(longer) - i128::from(shorter)))
    }

    /// An equal part of the work, for each of `parts`.
    #[must_use]
    pub(super) fn split(self, parts: u32) -> Self {
        Self(self.0 / i128::from(parts.max(1)))
    }

    /// For how long the work keeps that many seats.
    #[must_use]
    pub(super) fn spread(self, seats: u32) -> Nanos {
        Nanos::try_from(self.0 / i128::from(seats.max(1))).unwrap_or(0)
    }

    /// In seat-seconds.
    #[must_use]
    pub(super) fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for SeatTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for SeatTime {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for SeatTime {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for SeatTime {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

/// Seat-seconds with eight digits, as upstream's dumps have them.
impl fmt::Display for SeatTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0 / 10;
        let sign = if digits < 0 { "-" } else { "" };
        let digits = digits.unsigned_abs();
        write!(
            f,
            "{sign}{}.{:08}ss",
            digits / 100_000_000,
            digits % 100_000_000
        )
    }
}

/// What a request is expected to cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Work {
    /// Seats while it runs.
    pub(super) seats: u32,
    /// Seats after that, while what it changed is told to watches.
    pub(super) last_seats: u32,
    /// For how long those are kept. Nobody waits for it but other requests.
    pub(super) last: Nanos,
}

impl Work {
    /// A request that takes seats for as long as it runs.
    #[must_use]
    pub(super) const fn of(seats: u32) -> Self {
        Self {
            seats,
            last_seats: 0,
            last: 0,
        }
    }

    /// The seats that it keeps from the first moment to the last.
    #[must_use]
    pub(super) fn width(&self) -> u32 {
        self.seats.max(self.last_seats)
    }

    /// What is done after the request has been answered.
    #[must_use]
    pub(super) fn after(&self) -> SeatTime {
        SeatTime::new(self.last_seats, self.last)
    }

    /// All of it.
    #[must_use]
    pub(super) fn total(&self) -> SeatTime {
        SeatTime::new(self.seats, SERVICE) + self.after()
    }

    /// The same work with no more than `limit` seats at its end, for longer.
    #[must_use]
    pub(super) fn narrowed(mut self, limit: u32) -> Self {
        if self.last_seats > limit {
            self.last = self.after().spread(limit);
            self.last_seats = limit;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrower_work_takes_longer() {
        let wide = Work {
            seats: 1,
            last_seats: 40,
            last: 5_000_000,
        };
        let narrow = wide.narrowed(10);
        assert_eq!((narrow.last_seats, narrow.last), (10, 20_000_000));
        assert_eq!(narrow.after(), wide.after());
        assert_eq!(wide.narrowed(40), wide);
    }

    #[test]
    fn seat_time_is_printed_as_upstream_prints_it() {
        assert_eq!(SeatTime::new(1, SERVICE).to_string(), "0.00300000ss");
        assert_eq!(SeatTime::new(7, 1_500_000_000).to_string(), "10.50000000ss");
        assert_eq!(
            SeatTime::difference(1, 0, 2_000_000_000).to_string(),
            "-2.00000000ss"
        );
    }
}

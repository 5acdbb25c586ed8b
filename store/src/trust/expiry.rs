//! Certificates that end: the log says so in time, and again while it stays so.
//!
//! Owns when a certificate is near its end, and what was said of it. Whoever uses certificates keeps an
//! [`Expiry`] of them beside what he made of them, and looks at it whenever he uses that: unless something
//! is to be said, a look reads the clock and one number. Nothing wakes up for it.
//!
//! Several in a process read one file, and it is told of once: what was said belongs to the process, as its
//! log does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::Roots;
use super::certificate::Certificate;
use super::untrusted::Time;

/// What a certificate is for, which decides what helps when it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Server,
    Client,
    Authority,
}

/// Where certificates come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin<'a> {
    /// Files that are read again when they change.
    File(&'a Path),
    /// Something else, by its name.
    Elsewhere(&'a str),
}

/// Certificates in use, and when there is something to say of them.
#[derive(Default, Debug)]
pub struct Expiry {
    watched: Vec<Watched>,
    /// Unix seconds.
    due: AtomicI64,
}

#[derive(Debug)]
struct Watched {
    role: Role,
    in_file: bool,
    origin: Arc<str>,
    subject: String,
    /// Seconds of the epoch, both included.
    valid: (i64, i64),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum State {
    Good,
    NotYet,
    Soon,
    Ended,
}

const DAY: i64 = 24 * 3600;
/// Nobody has to be told of an end that is further away.
const SOON: i64 = 30 * DAY;
/// Nor of one that is further away than this part of the certificate's life: what renews itself does so
/// before (the kubelet when 70 to 90 % are over), be the life an hour or a year.
const LAST_PART: i64 = 10;

/// What was said of which certificate, by origin, subject and end, and when.
#[derive(Default)]
struct Said(Mutex<BTreeMap<Key, i64>>);

type Key = (Arc<str>, String, i64, State);

static SAID: Said = Said(Mutex::new(BTreeMap::new()));

impl Expiry {
    /// Watches a certificate and its intermediates.
    pub fn add(&mut self, role: Role, origin: Origin<'_>, chain: &[CertificateDer<'_>]) {
        let read = chain.iter().filter_map(|der| Certificate::read(der).ok());
        self.watch(role, origin, read.map(|c| (c.called().to_owned(), c.valid)));
    }

    /// Watches authorities.
    pub fn add_roots(&mut self, origin: Origin<'_>, roots: &Roots) {
        let read = roots.trusted.iter();
        let read = read.map(|c| (c.called().to_owned(), c.valid));
        self.watch(Role::Authority, origin, read);
    }

    fn watch(
        &mut self,
        role: Role,
        origin: Origin<'_>,
        certificates: impl Iterator<Item = (String, (i64, i64))>,
    ) {
        let (in_file, origin): (_, Arc<str>) = match origin {
            Origin::File(path) => (true, path.to_string_lossy().into()),
            Origin::Elsewhere(name) => (false, name.into()),
        };
        let watched = certificates.map(|(subject, valid)| Watched {
            role,
            in_file,
            origin: Arc::clone(&origin),
            subject,
            valid,
        });
        self.watched.extend(watched);
        *self.due.get_mut() = 0;
    }

    /// Says what is to be said now: at once of what was added, later once a day.
    pub fn look(&self) {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        if now < self.due.load(Ordering::Relaxed) {
            return;
        }
        for (watched, state) in self.news(now, &SAID) {
            watched.say(state);
        }
    }

    /// What is to be said at a time, and sets when to look again.
    fn news(&self, now: i64, said: &Said) -> Vec<(&Watched, State)> {
        let mut due = i64::MAX;
        let mut news = Vec::new();
        for watched in &self.watched {
            let (state, until) = state(watched.valid, now);
            due = due.min(until);
            if state == State::Good {
                continue;
            }
            due = due.min(now.saturating_add(DAY));
            if said.is_new(watched, state, now) {
                news.push((watched, state));
            }
        }
        self.due.store(due, Ordering::Relaxed);
        news
    }
}

/// How a certificate stands, and when that changes.
fn state((from, to): (i64, i64), now: i64) -> (State, i64) {
    let last_part = to.saturating_sub(from).max(0) / LAST_PART;
    let soon = to.saturating_sub(SOON.min(last_part));
    match () {
        () if now > to => (State::Ended, i64::MAX),
        () if now < from => (State::NotYet, from),
        () if now >= soon => (State::Soon, to.saturating_add(1)),
        () => (State::Good, soon),
    }
}

impl Said {
    /// Whether it was not said within the last day; it is, from now on.
    fn is_new(&self, watched: &Watched, state: State, now: i64) -> bool {
        let mut said = self.0.lock();
        said.retain(|_, at| now.saturating_sub(*at) < DAY);
        let Watched {
            origin, subject, ..
        } = watched;
        let key = (Arc::clone(origin), subject.clone(), watched.valid.1, state);
        if said.contains_key(&key) {
            return false;
        }
        said.insert(key, now);
        true
    }
}

impl Watched {
    fn say(&self, state: State) {
        let (from, to) = (Time(self.valid.0), Time(self.valid.1));
        let (origin, subject) = (&self.origin, &self.subject);
        match state {
            State::Good => {}
            State::NotYet => {
                let remedy = "check the clock of this machine, and that of the one that signed it";
                tracing::warn!(%origin, subject, begins = %from, remedy, "A certificate is not valid yet");
            }
            State::Soon => {
                let remedy = self.remedy();
                tracing::warn!(%origin, subject, ends = %to, remedy, "A certificate ends soon");
            }
            State::Ended => {
                let remedy = self.remedy();
                tracing::warn!(%origin, subject, ended = %to, remedy, "A certificate has ended");
            }
        }
    }

    fn remedy(&self) -> &'static str {
        match (self.role, self.in_file) {
            (Role::Authority, true) => {
                "add its successor to the file, have certificates signed by that one, then take this one out; \
                 changes are taken up without a restart"
            }
            (Role::Authority, false) => "replace it where it is written",
            (_, true) => {
                "replace certificate and key in their files; they are taken up without a restart"
            }
            (Role::Client, false) => {
                "replace certificate and key where they are written, and restart"
            }
            (Role::Server, false) => "restart the process, which makes itself a new one",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const YEAR: i64 = 365 * DAY;

    fn expiry(valid: (i64, i64)) -> Expiry {
        let mut expiry = Expiry::default();
        let one = std::iter::once(("a".to_owned(), valid));
        expiry.watch(Role::Server, Origin::File(Path::new("/a.crt")), one);
        expiry
    }

    fn states(expiry: &Expiry, now: i64, said: &Said) -> Vec<State> {
        let news = expiry.news(now, said);
        news.into_iter().map(|(_, state)| state).collect()
    }

    #[test]
    fn the_last_tenth_of_a_life_is_near_the_end_but_no_more_than_thirty_days() {
        for (life, soon) in [
            (10 * YEAR, SOON),
            (YEAR, SOON),
            (90 * DAY, 9 * DAY),
            (HOUR, HOUR / 10),
        ] {
            let valid = (1000, 1000 + life);
            let turn = valid.1 - soon;
            assert_eq!(state(valid, turn - 1), (State::Good, turn));
            assert_eq!(state(valid, turn), (State::Soon, valid.1 + 1));
            assert_eq!(state(valid, valid.1), (State::Soon, valid.1 + 1));
            assert_eq!(state(valid, valid.1 + 1), (State::Ended, i64::MAX));
            assert_eq!(state(valid, 999), (State::NotYet, 1000));
        }
        // One that says nonsense ends no later than it says.
        assert_eq!(state((10, 5), 6).0, State::Ended);
        assert_eq!(state((i64::MIN, i64::MAX), 0).0, State::Good);
    }

    #[test]
    fn an_end_is_told_of_once_a_day_and_when_it_has_come() {
        let (expiry, said) = (expiry((0, YEAR)), Said::default());
        let due = || expiry.due.load(Ordering::Relaxed);
        assert!(states(&expiry, 10, &said).is_empty());
        assert_eq!(due(), YEAR - SOON);
        assert_eq!(states(&expiry, due(), &said), [State::Soon]);
        assert_eq!(due(), YEAR - SOON + DAY);
        assert!(states(&expiry, due() - 1, &said).is_empty());
        assert_eq!(states(&expiry, YEAR - SOON + DAY, &said), [State::Soon]);
        assert_eq!(states(&expiry, YEAR - 5, &said), [State::Soon]);
        assert_eq!(due(), YEAR + 1, "its end is told of when it comes");
        assert_eq!(states(&expiry, due(), &said), [State::Ended]);
        assert_eq!(due(), YEAR + 1 + DAY);
    }

    #[test]
    fn what_two_use_is_told_of_once() {
        let (one, two) = (expiry((0, HOUR)), expiry((0, HOUR)));
        let said = Said::default();
        assert_eq!(states(&one, HOUR, &said), [State::Soon]);
        assert!(states(&two, HOUR, &said).is_empty());
        // A new certificate in the same file is another one.
        let renewed = expiry((0, HOUR + 1));
        assert_eq!(states(&renewed, HOUR, &said), [State::Soon]);
        assert_eq!(states(&two, HOUR + DAY, &said), [State::Ended]);
        assert_eq!(said.0.lock().len(), 1, "what is old is forgotten");
    }

    #[test]
    fn what_ends_far_away_is_not_looked_at_again() {
        let mut expiry = expiry((0, i64::MAX));
        expiry.look();
        let due = *expiry.due.get_mut();
        assert!(due > 1 << 40, "{due}");
    }
}

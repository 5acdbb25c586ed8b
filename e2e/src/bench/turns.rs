//! Clusters that are measured by turns of less than a second: what else the machine does, and what its neighbours do, falls on
//! them alike. One after the other, minutes apart, the same program differs from itself by a fifth.

use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Pieces that a load is cut into.
pub(super) const PIECES: usize = 10;

/// What all of them share.
#[derive(Clone, Default)]
pub struct Turns(Arc<tokio::sync::Mutex<()>>);

/// The place of one, which has its turn or waits for it. Whoever waits comes before those who had theirs.
pub struct Place {
    turns: Turns,
    turn: Mutex<Option<OwnedMutexGuard<()>>>,
    /// They stand still while others have their turn: what garbage collection is left must not be at the others' cost.
    processes: Vec<Pid>,
}

impl Place {
    #[must_use]
    pub fn among(turns: &Turns, processes: Vec<Pid>) -> Self {
        Self {
            turns: turns.clone(),
            turn: Mutex::default(),
            processes,
        }
    }

    /// Lets others have their turn, and waits for the next one.
    pub(super) async fn pass(&self) {
        self.signal(Signal::SIGSTOP);
        drop(self.turn.lock().take());
        let next = Arc::clone(&self.turns.0).lock_owned().await;
        *self.turn.lock() = Some(next);
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        for process in &self.processes {
            // One that ended is missed where it is asked for something.
            let _ = kill(*process, signal);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_has_its_turn_until_it_ends() {
        let (turns, order) = (Turns::default(), Mutex::new(String::new()));
        let one = |name: char, count: usize| {
            let (place, order) = (Place::among(&turns, Vec::new()), &order);
            async move {
                for _ in 0..count {
                    place.pass().await;
                    order.lock().push(name);
                    // It waits for its server.
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::join!(one('a', 3), one('b', 5));
        assert_eq!(*order.lock(), "abababbb");
    }
}

//! A history checker for API servers: clients read, write and watch while faults are injected, and what they were told is
//! held against what etcd says really happened. `docs/history.md` says how it is run and read.
//!
//! ```text
//! clients, watchers (load, watcher) --[lying proxy]--> API servers --> etcd <-- observer
//!            |                        faults (plan, fault) ---^-------^            |
//!            '------------------- what was told --> check <-- what happened ------'
//! ```
//!
//! [`check`] is pure: from a recorded [`record::History`] to the rules that it breaks. Plans and what clients do follow from
//! a seed; how they interleave does not.

mod api;
pub mod check;
mod fault;
pub mod ledger;
mod load;
mod observer;
pub mod plan;
pub mod proxy;
pub mod random;
pub mod record;
pub mod run;
mod stored;
mod watcher;

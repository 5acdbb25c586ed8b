//! The etcd storage and the watch cache of the API server, and what clients share with it.
//!
//! etcd gives one history; a [`Store`] keeps it as one line. One watch over the whole key space of
//! the cluster is split by resource; each [`Collection`] keeps the current objects and the recent
//! events of one resource and answers reads and watches from memory, never older than the caller
//! asked for. Writes are etcd transactions, tried first on what the cache holds.
//!
//! ```text
//! etcd --one watch--> line --by path--> collection (one per resource)
//!                                         objects   ordered, snapshots in O(1)  -> get, list
//!                                         ring      recent events               -> watch, past revisions
//! ```
//!
//! What an object is, the store does not know: a [`Decoder`] turns stored bytes into an [`Entry`],
//! a [`Filter`] selects, a [`Transformer`] encrypts. This is the only crate that talks to etcd.
//!
//! Reading order: [`entry`], [`collection`] (the API), [`read`], [`watch`], [`write`]; then how it
//! works: `etcd` (the client), `line`, `cache`.

#[doc(hidden)]
pub mod parsers;

mod backoff;
pub mod entry;
pub mod objects;
pub mod tasks;
pub mod trace;

pub mod trust;

pub mod etcd;
mod line;

mod cache;
pub mod forms;

pub mod collection;
pub mod read;
mod token;
pub mod watch;
pub mod write;

pub mod raw;

mod check;
mod compact;
pub mod metrics;
mod store;

pub mod testing;

pub use collection::{Collection, NotReady, ResourceConfig};
pub use entry::{Decoder, Entry, Fields, Labels, Transformer, Undecodable};
pub use forms::{Form, Forms};
pub use read::{At, Filter, Page, Query, ReadError, Scope};
pub use store::{Config, OpenError, Reads, Store};
pub use tasks::Tasks;
pub use watch::{Begin, End, Event, WatchQuery, Watcher};
pub use write::{Change, Outcome, UpdateError, WriteError, Written};

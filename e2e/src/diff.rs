//! Upstream's API server and ours, asked the same.
//!
//! Each has an etcd of its own, the same flags and a certificate of its own. A corpus of cases ([`corpus`]) is sent to both; of
//! each answer the status, the headers that clients act on, the body as a value and what the request left in etcd are compared
//! ([`compare`]), of some cases also what was recorded of each request ([`audit`]), after what two servers cannot have in common
//! was masked ([`mask`]). What differs is told in groups ([`report`]), without those that a file of exceptions names ([`known`]).
//!
//! ```text
//! discovery, schemas, seeds, files -> corpus -> cases -> run -> ours, upstream's --> seen --> compare -> report
//!                                                         |         recorded (record) -'
//!                                                         '-> etcds (writes)
//! ```
//!
//! The tests of exchanged daemons (`e2e/tests/swap`) compare by the same means.

pub mod audit;
pub mod case;
pub mod compare;
pub mod corpus;
pub mod etcd;
pub mod golden;
pub mod known;
pub mod later;
pub mod mask;
pub mod record;
pub mod report;
pub mod resource;
pub mod run;
pub mod samples;
pub mod script;
pub mod seen;
pub mod server;
pub mod vain;
pub mod value;
pub mod wire;
pub mod writes;
pub mod yaml;

//! The harness of the whole-system tests: real servers, the real program, raw clients, broken networks.
//!
//! Everything waits for events with a deadline and panics with the evidence when it does not come, so that a test reads
//! as what it shows. Nothing here is a stand-in: the servers are PostgreSQL, and Headgate is the program users run.

pub mod arena;
pub mod certificates;
pub mod client;
pub mod disk;
pub mod disposable;
pub mod failover;
pub mod fault;
pub mod half_open;
pub mod headgate;
pub mod history;
pub mod least;
pub mod limits;
pub mod load_balancer;
pub mod managed;
pub mod message;
pub mod mysql;
pub mod pgbench;
pub mod planted;
pub mod postgres;
pub mod stage;
pub mod statements;
pub mod staying;
pub mod wait;
pub mod world;

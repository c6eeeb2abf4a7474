//! The control plane: moves a live database from a source cluster to a target cluster.
//!
//! The life of a migration:
//! 1. [`preflight`]: everything that can say no, before anything is touched.
//! 2. [`model::plan`]: what will move; immutable once made.
//! 3. [`database::SchemaAndLoad::prepare`]: the schema without indexes, and the start of the change stream.
//! 4. [`database::SchemaAndLoad::copy`]: the bulk load, exact at the stream's start.
//! 5. Its second half: indexes, constraints, everything that is better built on loaded tables.
//! 6. [`follow`]: changes applied exactly once, the target always a prefix of the source.
//! 7. [`model::proof`]: both sides proven equal at one position.
//! 8. [`cutover`]: the one state machine; [`conductor`] runs its effects, [`journal`] remembers them first.
//!
//! This crate never names the proxy: it declares what it needs of it in [`traffic`].

pub mod accounts;
mod backoff;
mod check;
pub mod conductor;
mod copy;
pub mod cutover;
pub mod database;
mod drift;
pub mod error;
mod failpoint;
mod fires;
pub mod follow;
pub mod journal;
pub mod model;
pub mod mysql;
mod other_routes;
pub mod postgres;
pub mod preflight;
pub mod records;
pub mod residue;
pub mod rights;
pub mod service;
pub mod supervisor;
mod switch_proof;
pub mod traffic;
mod writers;

pub use error::Error;

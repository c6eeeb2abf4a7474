//! The whole-system tests, as one program: each file shows one promise, against real servers.
//!
//! `tidy`, `mirror` and `circles` hold the repository to its own rules, `configuration` shows what a wrong file is answered with, `command_line` that
//! its help is true, `remedies` that each statement that is told to run is run by a test, `full_disk` what a full disk does
//! at each record of a cutover, `kills` what a kill does at any place, `torture` what random kills and faults do, `lexers` that servers cut SQL where we do, and `servers` holds the harness to what the others take it for. `postgres` and `mysql` show the same promises for each
//! engine: the data plane in `transparency`, `login`, `hostile`, `cancel`, `console`, `metrics` and `moving`, the
//! control plane in `migration`, `cutover`, `resume`, `faults` and `operator`.

mod circles;
mod command_line;
mod configuration;
mod full_disk;
mod kills;
mod lexers;
mod mirror;
mod mysql;
mod postgres;
mod remedies;
mod servers;
mod tidy;
mod torture;
mod vocabulary;

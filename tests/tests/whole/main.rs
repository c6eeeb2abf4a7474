//! The whole-system tests, as one program: each file shows one promise, against real servers.
//!
//! `tidy` holds the repository to its own rules and `servers` the harness to what the others take it for.
//! The data plane: `configuration`, `transparency`, `login`, `hostile`, `cancel`, `console`, `metrics`.
//! The control plane: `migration`, `cutover`, `resume`.

mod cancel;
mod configuration;
mod console;
mod cutover;
mod hostile;
mod login;
mod metrics;
mod migration;
mod moving;
mod resume;
mod servers;
mod tidy;
mod transparency;

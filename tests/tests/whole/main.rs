//! The whole-system tests, as one program: each file shows one promise, against real servers.

mod servers; // the harness's own servers are what the other tests take them for
mod tidy; // the repository keeps its own rules

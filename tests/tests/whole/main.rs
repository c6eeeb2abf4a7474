//! The whole-system tests, as one program: each file shows one promise, against real servers.

mod servers; // the harness's own servers are what the other tests take them for
mod tidy; // the repository keeps its own rules

mod cancel;
mod configuration; // a wrong configuration is refused as a whole
mod hostile; // whatever a stranger sends
mod login; // who may come in
mod transparency; // a client cannot tell Headgate from the server // a cancel request reaches its own statement

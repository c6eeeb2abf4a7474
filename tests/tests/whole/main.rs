//! The whole-system tests, as one program: each file shows one promise, against real servers.

mod servers; // the harness's own servers are what the other tests take them for
mod tidy; // the repository keeps its own rules

mod cancel;
mod configuration; // a wrong configuration is refused as a whole
mod console;
mod hostile; // whatever a stranger sends
mod login; // who may come in
mod transparency; // a client cannot tell Headgate from the server // a cancel request reaches its own statement // the admin console

mod cutover; // no error, no lost write, no doubled write
mod migration; // copy, follow, check, and every no before anything is touched
mod resume; // whenever it is killed, it finds the way

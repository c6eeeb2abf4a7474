//! What PostgreSQL clients and servers say to each other at the proxy, and how it answers.

pub mod disposable;

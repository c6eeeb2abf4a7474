//! PostgreSQL, from 14 to 18.

mod cancel;
mod console;
mod cutover;
mod drivers;
mod drop;
mod failover;
mod faults;
mod foreign;
mod hostile;
mod login;
mod marks;
mod metrics;
mod migration;
mod moving;
mod operator;
mod proof_before;
mod recopy;
mod reload;
mod resume;
mod secrets;
mod services;
mod switch_proof;
mod tls;
mod transparency;
mod wary;
mod way_back;

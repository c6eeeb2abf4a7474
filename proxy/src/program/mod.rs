//! The program `headgate`: the only place that sees both the data plane and the control plane.

pub mod console;
pub mod statement;

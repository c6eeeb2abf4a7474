//! What supervisor, conductor, journal and engines all speak of: definition, leg, plan, position, mark, status, proof, report.

pub mod definition;
pub mod definitions;
pub mod leg;
pub mod mark;
pub mod plan;
pub mod position;
pub mod progress;
pub mod proof;
pub mod report;
pub mod status;
pub mod switch_proof;

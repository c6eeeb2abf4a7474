//! What supervisor, conductor, journal and engines all speak of: definition, plan, position, mark, status, proof, report.

pub mod definition;
pub mod definitions;
pub mod mark;
pub mod plan;
pub mod position;
pub mod progress;
pub mod proof;
pub mod report;
pub mod status;

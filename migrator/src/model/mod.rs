//! What supervisor, conductor, journal and engines all speak of: definition, plan, status, proof, report.

pub mod definition;
pub mod definitions;
pub mod plan;
pub mod progress;
pub mod proof;
pub mod report;
pub mod status;

//! PostgreSQL's half of the control plane.

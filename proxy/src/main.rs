//! The program `headgate`.
fn main() {}

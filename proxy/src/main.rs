//! The program `headgate`.

mod program;

fn main() {}

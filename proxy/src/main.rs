//! The program `headgate`: reads the command line and runs one command.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}

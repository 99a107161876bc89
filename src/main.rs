//! The program `rill`; everything it does is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rill::cli::run(std::env::args_os())
}

//! The `leveret` binary: hands over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    leveret_server::run(std::env::args_os())
}

//! The broker with its failpoints: what the tests kill at named places. Never shipped.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = leveret_store_api::failpoint::check() {
        drop(writeln!(io::stderr().lock(), "leveret-failpoints: {error}"));
        return ExitCode::FAILURE;
    }
    leveret_server::run(std::env::args_os())
}

//! Times ordinary work on volumes of real servers and real mounts.

use std::process::ExitCode;

use net_raid_tests::bench::{self, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", bench::HELP);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("net_raid_bench: {wrong} (--help says more)");
            return ExitCode::from(2);
        }
    };
    match std::thread::spawn(move || bench::run(&options)).join() {
        Ok(()) => ExitCode::SUCCESS,
        // The panic has said what is wrong.
        Err(_) => ExitCode::FAILURE,
    }
}

//! Torments a volume of real servers and a real mount, and checks that every acknowledged byte is there.

use std::process::ExitCode;

use net_raid_tests::torture::{self, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", torture::HELP);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("net_raid_torture: {wrong} (--help says more)");
            return ExitCode::from(2);
        }
    };
    match std::thread::spawn(move || torture::run(&options)).join() {
        Ok(()) => ExitCode::SUCCESS,
        // The panic has said what is wrong.
        Err(_) => ExitCode::FAILURE,
    }
}

//! Timings of ordinary work on mounted directories: volumes of ours on every level, a peer's, and what FUSE allows.
//!
//! Machines are noisy: all take turns, and what counts are medians and ratios of one session. Nothing is asserted here; what must not get
//! slower is counted in tests, not timed.
//!
//! Lowest first: `options`, `figures` are pure; `machine` asks the kernel, `target` is something mounted, `workloads` is what is done on it,
//! with `inputs`.

mod figures;
mod inputs;
mod machine;
mod options;
mod target;
mod workloads;

use std::path::Path;

pub use options::{HELP, Options};

use crate::array::Array;
use crate::workdir::Workdir;
use figures::Figures;
use target::{FLOOR, Floor, Ours, Peer, Target, name_of, peer_of};
use workloads::{Bench, Sizes};

/// Where the program is that the floor is measured with.
const PASS_THROUGH: &str = "NET_RAID_PASSTHROUGH";

/// Measures everything that the options say; prints tables, and writes the figures.
///
/// # Panics
/// When something cannot be measured.
pub fn run(options: &Options) {
    let pass_through = options.floor.then(|| {
        let program = std::env::var_os(PASS_THROUGH);
        program
            .unwrap_or_else(|| panic!("{PASS_THROUGH} does not say where passthrough_ll is: scripts/bench builds it"))
    });
    let work = Workdir::new();
    let inputs = inputs::make(work.path(), if options.quick { 4 } else { 1 });
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let mut figures = Figures::default();
    let mut measure = |mut target: Box<dyn Target>, round: usize| {
        println!("round {round}: {}", target.name());
        Bench { target: &mut *target, sizes, inputs: &inputs, figures: &mut figures }.run();
    };
    for round in 1..=options.rounds {
        if let Some(program) = &pass_through {
            measure(Box::new(Floor::start(Path::new(program))), round);
        }
        for array in &options.arrays {
            measure(Box::new(Ours::start(*array)), round);
            if options.peer {
                measure(Box::new(Peer::start(*array)), round);
            }
        }
    }
    for array in &options.arrays {
        println!("\n{}", table(&figures, *array, options));
    }
    let text = serde_json::to_string_pretty(&figures.json()).expect("figures are JSON");
    std::fs::write(&options.json, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", options.json.display()));
    println!("all figures: {}", options.json.display());
}

fn table(figures: &Figures, array: Array, options: &Options) -> String {
    let peer = peer_of(array);
    let others: Vec<&str> = [(options.peer, peer.as_str()), (options.floor, FLOOR)]
        .iter()
        .filter(|(is_there, _)| *is_there)
        .map(|(_, name)| *name)
        .collect();
    figures.table(&name_of(array), &others)
}

//! What must hold between volumes: nothing is used twice, and no log is hidden by a mount.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::path::PathBuf;

use super::line::Piece;
use super::problem::Problems;
use super::volume::{Given, Settings, Volume};

/// Reports everything that two volumes, or a volume and itself, have in common.
pub(super) fn check(defaults: &Settings<'_>, volumes: &[Volume<'_>], problems: &mut Problems) {
    let mut names = Seen::default();
    let mut mountpoints = Seen::default();
    let mut servers = Seen::default();
    for volume in volumes {
        if let Given::Good(name, line) = &volume.name {
            names.check(name, *line, || format!("a volume named `{name}` is there already"), problems);
        }
        if let Given::Good(path, line) = &volume.mountpoint {
            // Comparing by components makes `/mnt/a`, `/mnt//a` and `/mnt/a/` one path.
            let normal: PathBuf = path.components().collect();
            mountpoints.check(normal, *line, || "the mountpoint is another volume's".to_owned(), problems);
        }
        for (server, piece) in &volume.servers {
            servers.check(server, *piece, || format!("the server `{server}` is used already"), problems);
        }
    }
    check_errorlog(&defaults.errorlog, volumes, problems);
    for volume in volumes {
        check_errorlog(&volume.errorlog, volumes, problems);
    }
}

/// The things met so far, and the lines they are in.
struct Seen<T>(HashMap<T, usize>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Hash + Eq> Seen<T> {
    fn check(&mut self, thing: T, piece: Piece<'_>, message: impl FnOnce() -> String, problems: &mut Problems) {
        match self.0.entry(thing) {
            Entry::Vacant(place) => drop(place.insert(piece.line)),
            Entry::Occupied(first) if *first.get() == piece.line => {
                problems.add(piece, message(), "name it once in this line");
            }
            Entry::Occupied(first) => problems.add(piece, message(), format!("line {} has it", first.get())),
        }
    }
}

/// A log below a mountpoint would vanish when the volume is mounted, and an event of the volume would wait for the volume.
fn check_errorlog(errorlog: &Given<'_, PathBuf>, volumes: &[Volume<'_>], problems: &mut Problems) {
    let Given::Good(path, line) = errorlog else { return };
    let covering = volumes.iter().find(|volume| volume.mountpoint.good().is_some_and(|point| path.starts_with(point)));
    if let Some(covering) = covering {
        let message = format!("the errorlog is inside the mountpoint of volume `{}`", covering.config.name);
        problems.add(*line, message, "log outside of all volumes");
    }
}

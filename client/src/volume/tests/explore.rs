//! All states that a small model can reach.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

/// Visits every state that follows from `start`, nearest first. Returns how many there are, or the first that is wrong.
pub(super) fn explore<S: Clone + Eq + Hash + Debug>(
    start: S,
    next: impl Fn(&S) -> Vec<S>,
    check: impl Fn(&S) -> Result<(), String>,
) -> Result<usize, String> {
    let mut seen = HashSet::from([start.clone()]);
    let mut waiting = VecDeque::from([start]);
    while let Some(state) = waiting.pop_front() {
        check(&state).map_err(|why| format!("{why}: {state:?}"))?;
        for following in next(&state) {
            if seen.insert(following.clone()) {
                waiting.push_back(following);
            }
        }
    }
    Ok(seen.len())
}

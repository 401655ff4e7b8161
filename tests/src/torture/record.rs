//! What may be found at one place: the last version that is safe, and those that may have come after it.

/// A place that holds one version: a block, or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// The version that nothing may take away, unless a later one replaces it.
    settled: u32,
    /// Versions that were begun after it: each may have arrived, or not.
    later: Vec<u32>,
    /// What a program sees as long as the mount lives; unknown after an error.
    seen: Option<u32>,
}

impl Cell {
    pub(super) fn new(settled: u32) -> Cell {
        Cell { settled, later: Vec::new(), seen: Some(settled) }
    }

    /// `version` is about to be written.
    pub(super) fn begin(&mut self, version: u32) {
        self.later.push(version);
        self.seen = None;
    }

    /// Writing `version` succeeded: programs see it. It is not safe yet.
    pub(super) fn written(&mut self, version: u32) {
        self.seen = Some(version);
    }

    /// A sync succeeded: what is seen is safe. What is unknown stays so.
    pub(super) fn settle(&mut self) {
        if let Some(version) = self.seen {
            self.settled = version;
            self.later.clear();
        }
    }

    /// A sync failed: the kernel may show what the volume does not hold.
    pub(super) fn doubt(&mut self) {
        if !self.later.is_empty() {
            self.seen = None;
        }
    }

    /// Whether something was written that is not safe yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.later.is_empty()
    }

    /// What a program sees now, if that is known.
    pub(super) fn seen(&self) -> Option<u32> {
        self.seen
    }

    /// The volume holds `version`: it is decided.
    ///
    /// # Errors
    /// It may not be that one; in words.
    pub(super) fn found(&mut self, version: u32) -> Result<(), String> {
        if version != self.settled && !self.later.contains(&version) {
            let later = &self.later;
            return Err(format!("version {} was acknowledged, {later:?} begun after it", self.settled));
        }
        *self = Cell::new(version);
        Ok(())
    }

    /// Claims that a version is safe that was never written.
    pub(super) fn lie(&mut self) {
        *self = Cell::new(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(settled: u32, written: &[u32]) -> Cell {
        let mut cell = Cell::new(settled);
        for &version in written {
            cell.begin(version);
            cell.written(version);
        }
        cell
    }

    #[test]
    fn what_is_not_synced_may_be_old_or_new() {
        for version in [1, 2, 3] {
            let mut cell = cell(1, &[2, 3]);
            cell.found(version).unwrap();
            assert_eq!(cell, Cell::new(version), "and is decided then");
        }
        assert!(cell(1, &[2, 3]).found(4).is_err());
        assert!(cell(1, &[2, 3]).found(0).is_err());
    }

    #[test]
    fn an_acknowledged_version_that_is_rolled_back_is_lost() {
        let mut cell = cell(1, &[2, 3]);
        cell.settle();
        for version in [1, 2] {
            assert!(cell.clone().found(version).unwrap_err().contains("version 3 was acknowledged"));
        }
        cell.found(3).unwrap();
    }

    #[test]
    fn what_failed_stays_possible_until_something_else_is_safe() {
        let mut cell = cell(1, &[2]);
        cell.doubt();
        assert_eq!(cell.seen(), None);
        cell.settle();
        cell.clone().found(1).unwrap();
        cell.clone().found(2).unwrap();
        cell.begin(3);
        cell.written(3);
        cell.settle();
        assert!(cell.clone().found(2).is_err());
        cell.found(3).unwrap();
    }

    #[test]
    fn what_is_safe_is_not_doubted() {
        let mut cell = cell(1, &[2]);
        cell.settle();
        cell.doubt();
        assert_eq!(cell.seen(), Some(2));
    }

    #[test]
    fn a_lie_is_found_out() {
        let mut cell = cell(1, &[2]);
        cell.lie();
        assert!(cell.clone().found(1).is_err() && cell.found(2).is_err());
    }
}

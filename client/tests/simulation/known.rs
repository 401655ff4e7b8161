//! Defects that are known and not mended yet: what shows them is left out until it is.

/// Files are cut in the middle of a stripe, with two defects when the power is lost soon after.
///
/// A cut changes the record of the unit in which it is in place, and a record that is torn then says of no block of the unit any
/// more what it is, also of those before the cut. And the zeros behind a cut in the middle of a block are a write of their
/// own: when it is taken back and the cut stays, the block does not match its digest.
pub const CUTS_WITHIN_STRIPES: bool = false;

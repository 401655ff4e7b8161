//! World boundary.

//! One directory served as a brick: it knows objects, records and digests, and no RAID level.
//!
//! The modules, lowest first; each names only those above it.

#![deny(unsafe_code)]

pub mod disk;

pub mod brick;

pub mod session;

pub mod listener;

pub mod startup;

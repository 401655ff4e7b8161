//! What net_raid's client and its bricks say to each other, and the words they share.
//!
//! This crate performs no I/O. The modules, lowest first; each names only those above it.

pub mod limits;

pub mod ids;

pub mod layout;

pub mod membership;

pub mod names;

pub mod message;

pub mod codec;

pub mod frame;

//! Mounts net_raid volumes: FUSE and command line over a file system, over redundancy, over servers.
//!
//! The modules, lowest first; each names only those above it.

pub mod config;

pub mod events;

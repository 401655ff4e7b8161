//! Mounts net_raid volumes: FUSE and command line over a file system, over redundancy, over servers.
//!
//! The modules, lowest first; each names only those above it.

pub mod config;

pub mod events;

pub mod world;

pub mod layout;

pub mod locks;

pub mod cache;

pub mod conn;

pub mod volume;

pub mod fs;

pub mod fuse;

pub mod mounts;

pub mod daemon;

pub mod cli;

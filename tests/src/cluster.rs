//! Several bricks in one [`Workdir`].

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use crate::brick::{Brick, free_address};
use crate::image::Image;
use crate::netns::Netns;
use crate::user::User;
use crate::workdir::Workdir;

/// Bricks, all served at the start. Derefs to the slice of them: `cluster[2].kill9()`.
#[derive(Debug)]
pub struct Cluster {
    // Before the directory: servers end before it is removed.
    bricks: Vec<Brick>,
    work: Workdir,
}

impl Cluster {
    /// Starts `count` servers on empty directories `brick0`, `brick1`, ...
    pub fn start(count: usize) -> Cluster {
        Self::start_as(count, None)
    }

    /// The same with servers that run as `user`.
    pub fn start_as(count: usize, user: Option<User>) -> Cluster {
        Self::start_each(count, |work, name| Brick::new(work.make_dir(name), free_address(), user))
    }

    /// The same with each brick on a disk of `bytes` of its own.
    pub fn start_on_images(count: usize, bytes: u64) -> Cluster {
        Self::start_each(count, |work, name| Brick::on_image(Image::mount(work.path(), name, bytes), free_address()))
    }

    /// The same with each server behind a cable of its own.
    pub fn start_in_netns(count: usize) -> Cluster {
        Self::start_each(count, |work, name| Brick::in_netns(work.make_dir(name), Netns::new()))
    }

    /// The same with servers that can be reached from within `netns`, as long as its cable is plugged in.
    pub fn start_beside(netns: &Netns, count: usize) -> Cluster {
        let address = || SocketAddr::new(netns.outside(), free_address().port());
        Self::start_each(count, |work, name| Brick::new(work.make_dir(name), address(), None))
    }

    fn start_each(count: usize, brick: impl Fn(&Workdir, &str) -> Brick) -> Cluster {
        let work = Workdir::new();
        let mut bricks: Vec<Brick> = (0..count).map(|i| brick(&work, &format!("brick{i}"))).collect();
        bricks.iter_mut().for_each(Brick::launch);
        bricks.iter_mut().for_each(Brick::await_ready);
        Cluster { bricks, work }
    }

    /// Adds an empty brick without starting its server.
    pub fn add(&mut self, user: Option<User>) -> &mut Brick {
        let dir = self.work.make_dir(&format!("brick{}", self.bricks.len()));
        self.bricks.push(Brick::new(dir, free_address(), user));
        self.bricks.last_mut().expect("just pushed")
    }

    /// The directory of the test.
    pub fn work(&self) -> &Workdir {
        &self.work
    }

    /// The path of the directory of the test.
    pub fn path(&self) -> &Path {
        self.work.path()
    }

    /// The addresses of the bricks `range`, as a config names them.
    pub fn addresses(&self, range: std::ops::Range<usize>) -> Vec<String> {
        self.bricks[range].iter().map(Brick::address).collect()
    }

    /// Kills the servers of these bricks with -9.
    pub fn kill9(&mut self, which: &[usize]) {
        which.iter().for_each(|&i| self.bricks[i].kill9());
    }

    /// Starts the servers of these bricks again, on the same directories and addresses.
    pub fn restart(&mut self, which: &[usize]) {
        which.iter().for_each(|&i| self.bricks[i].start());
    }

    /// The last lines of every server's log, for the report of a failed test.
    pub fn logs(&self) -> String {
        let tail = |brick: &Brick| format!("--- server {}\n{}\n", brick.address(), last_lines(&brick.log(), 12));
        self.bricks.iter().map(tail).collect()
    }
}

impl Deref for Cluster {
    type Target = [Brick];

    fn deref(&self) -> &[Brick] {
        &self.bricks
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut [Brick] {
        &mut self.bricks
    }
}

/// The last `count` lines of `text`.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

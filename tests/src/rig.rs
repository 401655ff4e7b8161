//! One mounted volume for one test.

use std::path::PathBuf;
use std::time::Duration;

use crate::array::{Array, Health};
use crate::client::{Client, Volume};
use crate::cluster::{Cluster, last_lines};
use crate::watchdog::Watchdog;
use crate::workdir;

/// How long a test may run unless it asks for more.
pub const BUDGET: Duration = Duration::from_secs(240);

/// Servers, a client, and a volume that is mounted.
#[derive(Debug)]
pub struct Rig {
    /// What the volume is.
    pub array: Array,
    /// What the test began with.
    pub health: Health,
    /// The client; its config names one volume `VOLUME`.
    pub client: Client,
    /// The servers. The last field: the directory goes last.
    pub cluster: Cluster,
}

impl Rig {
    /// A new volume, mounted; with its first losses behind it when `health` says so.
    pub fn new(array: Array, health: Health) -> Rig {
        let mut rig = Self::unmounted(array, 0);
        rig.client.mount();
        rig.health = health;
        if health == Health::Degraded {
            rig.kill_victims();
        }
        rig
    }

    /// A volume that was never mounted, with `spares` bricks more.
    pub fn unmounted(array: Array, spares: usize) -> Rig {
        Self::over(Cluster::start(array.bricks + spares), array)
    }

    /// A volume that was never mounted over these bricks; those that the array does not need are its spares.
    pub fn over(cluster: Cluster, array: Array) -> Rig {
        let mut volume = Volume::new(&cluster, "VOLUME", array, 0);
        volume.spares = cluster.addresses(array.bricks..cluster.len());
        let client = Client::new(cluster.path(), "net_raid", &[volume]);
        Rig { array, health: Health::Healthy, client, cluster }
    }

    /// Runs `test` on a new rig under a watchdog.
    pub fn run(array: Array, health: Health, test: impl FnOnce(&mut Rig)) {
        Self::run_within(BUDGET, array, health, test);
    }

    /// The same with another budget.
    pub fn run_within(budget: Duration, array: Array, health: Health, test: impl FnOnce(&mut Rig)) {
        Self::unmounted(array, 0).run_mounted(budget, health, test);
    }

    /// Runs `test` on a healthy rig with one spare.
    pub fn run_with_spare(array: Array, test: impl FnOnce(&mut Rig)) {
        Self::unmounted(array, 1).run_mounted(BUDGET, Health::Healthy, test);
    }

    /// Mounts it and runs `test` on it.
    pub fn run_mounted(mut self, budget: Duration, health: Health, test: impl FnOnce(&mut Rig)) {
        let dir = self.cluster.path().to_owned();
        let _watchdog = Watchdog::arm(&format!("{} {health:?}", self.array), budget, move || workdir::end_all(&dir));
        self.client.mount();
        self.health = health;
        if health == Health::Degraded {
            self.kill_victims();
        }
        test(&mut self);
    }

    /// The path of `name` in the volume.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The mountpoint.
    pub fn root(&self) -> PathBuf {
        self.cluster.path().join("VOLUME")
    }

    /// Kills as many servers as the level allows.
    pub fn kill_victims(&mut self) {
        self.cluster.kill9(&self.array.victims());
    }

    /// Ends every server and starts it again; all of them are reachable after that.
    pub fn restart_all(&mut self) {
        for brick in self.cluster.iter_mut() {
            if brick.is_served() {
                brick.kill9();
            }
            brick.start();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let errors = last_lines(&self.client.errorlog().text(), 40);
            eprintln!("=== {} {:?}: error log\n{errors}\n{}", self.array, self.health, self.cluster.logs());
        }
    }
}

/// Makes of each test function, which takes a `&Rig` or `&mut Rig`, a module of its name with one
/// test for every array, healthy and degraded. `within SECONDS:` in front sets their budget.
#[macro_export]
macro_rules! on_every_array {
    (within $seconds:expr; $($test:ident),+ $(,)?) => { $(
        mod $test {
            $crate::on_every_array!(@case $test, $seconds, RAID1, raid1x2, raid1x2_degraded);
            $crate::on_every_array!(@case $test, $seconds, RAID5, raid5x3, raid5x3_degraded);
            $crate::on_every_array!(@case $test, $seconds, RAID6_NARROW, raid6x4, raid6x4_degraded);
            $crate::on_every_array!(@case $test, $seconds, RAID6, raid6x6, raid6x6_degraded);
        }
    )+ };
    (@case $test:ident, $seconds:expr, $array:ident, $healthy:ident, $degraded:ident) => {
        #[test]
        fn $healthy() {
            let budget = std::time::Duration::from_secs($seconds);
            $crate::Rig::run_within(budget, $crate::Array::$array, $crate::Health::Healthy, |rig| super::$test(rig));
        }
        #[test]
        fn $degraded() {
            let budget = std::time::Duration::from_secs($seconds);
            $crate::Rig::run_within(budget, $crate::Array::$array, $crate::Health::Degraded, |rig| super::$test(rig));
        }
    };
    ($($test:ident),+ $(,)?) => { $crate::on_every_array!(within 240; $($test),+); };
}

/// The same on one array of each level, for what takes long: what differs between two RAID-6 arrays, shorter tests show.
#[macro_export]
macro_rules! on_every_level {
    (within $seconds:expr; $($test:ident),+ $(,)?) => { $(
        mod $test {
            $crate::on_every_array!(@case $test, $seconds, RAID1, raid1x2, raid1x2_degraded);
            $crate::on_every_array!(@case $test, $seconds, RAID5, raid5x3, raid5x3_degraded);
            $crate::on_every_array!(@case $test, $seconds, RAID6, raid6x6, raid6x6_degraded);
        }
    )+ };
}

/// The same for tests that lose their servers themselves: one test for every array, healthy at first.
#[macro_export]
macro_rules! on_every_healthy_array {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            use $crate::{Array, Health, Rig};
            #[test]
            fn raid1x2() { Rig::run(Array::RAID1, Health::Healthy, |rig| super::$test(rig)); }
            #[test]
            fn raid5x3() { Rig::run(Array::RAID5, Health::Healthy, |rig| super::$test(rig)); }
            #[test]
            fn raid6x4() { Rig::run(Array::RAID6_NARROW, Health::Healthy, |rig| super::$test(rig)); }
            #[test]
            fn raid6x6() { Rig::run(Array::RAID6, Health::Healthy, |rig| super::$test(rig)); }
        }
    )+ };
}

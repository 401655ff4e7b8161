//! A network namespace: a server in it is on another machine as far as the network goes, and its cable can be pulled.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::places::PREFIX;
use crate::process::{run, run_ok};

/// Where `ip netns` keeps its namespaces.
pub const NAMESPACES: &str = "/run/netns";

const WITHIN: Duration = Duration::from_secs(20);

/// A namespace with one cable to the machine.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// The end of the cable on this machine.
    cable: String,
    inside: Ipv4Addr,
    outside: Ipv4Addr,
}

impl Netns {
    /// A new one, connected. Its network is one of 198.18.0.0/15, which no real network has (RFC 2544).
    ///
    /// # Panics
    /// When it cannot be made, because the caller is not root for example.
    pub fn new() -> Netns {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let network = Ipv4Addr::new(198, 18, 0, 0).to_bits() + 4 * ((16 * pid + number % 16) % (1 << 15));
        let (outside, inside) = (Ipv4Addr::from_bits(network + 1), Ipv4Addr::from_bits(network + 2));
        // 15 bytes at most: 2^22 process ids.
        let cable = format!("nr{pid}x{number}");
        let netns = Netns { name: format!("{PREFIX}{pid}.{number}"), cable, inside, outside };
        let Netns { name, cable, .. } = &netns;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {cable} type veth peer name cable netns {name}"));
        ip(&format!("address add {outside}/30 dev {cable}"));
        ip(&format!("link set {cable} up"));
        ip(&format!("-n {name} address add {inside}/30 dev cable"));
        ip(&format!("-n {name} link set cable up"));
        netns
    }

    /// The address of what is in it.
    pub fn address(&self) -> IpAddr {
        self.inside.into()
    }

    /// The address of this machine as it is seen from there.
    pub fn outside(&self) -> IpAddr {
        self.outside.into()
    }

    /// Makes of `program` a command that runs in it.
    pub fn command(&self, program: &Path) -> Command {
        // Not by `ip netns exec`, which makes a mount namespace too: that would keep the mounts of other tests alive.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// Bytes that went through the cable so far, in both directions, with the headers of all packets.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn traffic(&self) -> u64 {
        let counter = |name: &str| {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.cable);
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            text.trim().parse::<u64>().unwrap_or_else(|e| panic!("{path}: {e}"))
        };
        counter("rx_bytes") + counter("tx_bytes")
    }

    /// Pulls the cable: from now on nothing arrives on either side, and neither is told.
    pub fn cut(&self) {
        ip(&format!("-n {} link set cable down", self.name));
    }

    /// Plugs it in again.
    pub fn join(&self) {
        ip(&format!("-n {} link set cable up", self.name));
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        delete(&self.path());
    }
}

/// Deletes the namespace at this path, with its cable. Its processes have ended before.
pub fn delete(path: &Path) {
    let name = path.file_name().expect("the name of a namespace");
    let finished = run(Command::new("ip").args(["netns", "delete"]).arg(name), WITHIN);
    if finished.code() != 0 {
        eprintln!("{} is left: {}", path.display(), finished.words());
    }
}

fn ip(arguments: &str) {
    run_ok(Command::new("ip").args(arguments.split(' ')), WITHIN);
}

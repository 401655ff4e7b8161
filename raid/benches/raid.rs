//! Throughput of parity and digests on one core.

fn main() {
    divan::main();
}

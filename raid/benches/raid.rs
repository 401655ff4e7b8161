//! Throughput of parity and digests on one core. Bytes counted are those of the data units.
//!
//! A unit of 4 KiB stays in the first-level cache, one of 64 KiB (the unit of the layout) in the
//! second or third, one of 16 MiB in memory.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use net_raid_raid::{BLOCK, digest, parity};

const UNIT_BYTES: [usize; 3] = [4 << 10, 64 << 10, 16 << 20];
const DATA: usize = 4;

fn main() {
    println!("parity: {}, digest: {}", parity::name(), digest::name());
    divan::main();
}

fn units(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| (0..len).map(|at| (at * 7 + i * 13) as u8).collect()).collect()
}

fn slices(units: &[Vec<u8>]) -> Vec<&[u8]> {
    units.iter().map(Vec::as_slice).collect()
}

#[divan::bench(args = UNIT_BYTES)]
fn generate_p(bencher: Bencher, len: usize) {
    let data = units(DATA, len);
    let (data, mut p) = (slices(&data), vec![0; len]);
    bencher.counter(BytesCount::new(DATA * len)).bench_local(|| parity::generate_p(black_box(&data), &mut p));
}

#[divan::bench(args = UNIT_BYTES)]
fn generate_pq(bencher: Bencher, len: usize) {
    let data = units(DATA, len);
    let (data, mut p, mut q) = (slices(&data), vec![0; len], vec![0; len]);
    bencher.counter(BytesCount::new(DATA * len)).bench_local(|| parity::generate_pq(black_box(&data), &mut p, &mut q));
}

/// Counts the bytes of the one data unit that changes.
#[divan::bench(args = UNIT_BYTES)]
fn update_pq(bencher: Bencher, len: usize) {
    let data = units(2, len);
    let (mut p, mut q) = (vec![0; len], vec![0; len]);
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| parity::update_pq(2, black_box(&data[0]), &data[1], &mut p, &mut q));
}

/// Losses of 4+2: one data unit, one and P, two data units.
#[divan::bench(args = [&[1][..], &[1, DATA], &[1, 2]])]
fn recover_64_kib(bencher: Bencher, lost: &[usize]) {
    let mut units = units(DATA + 2, 64 << 10);
    let mut units: Vec<&mut [u8]> = units.iter_mut().map(Vec::as_mut_slice).collect();
    bencher
        .counter(BytesCount::new(DATA * units[0].len()))
        .bench_local(|| parity::recover(black_box(&mut units), DATA, lost));
}

#[divan::bench(args = [1, 2, 3, 4, 6, 8, 12, 15, 16, 17, 20, 24, 32, 64])]
fn md5_many(bencher: Bencher, blocks: usize) {
    let blocks = units(blocks, BLOCK);
    let (blocks, mut out) = (slices(&blocks), vec![[0; 16]; blocks.len()]);
    bencher
        .counter(BytesCount::new(blocks.len() * BLOCK))
        .bench_local(|| digest::md5_many(black_box(&blocks), &mut out));
}

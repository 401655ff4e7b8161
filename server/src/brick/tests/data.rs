//! Bytes, digests, sizes and holes.

use super::*;

fn raid5(rig: &Rig, text: &str, number: u64) {
    let layout = Layout::new(Level::Raid5, 3);
    rig.change(rig.create_with(ROOT, text, number, NewObject { layout, ..spec(Kind::File) }));
}

#[test]
fn a_small_file_is_a_plain_file_with_its_md5() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        let (request, payload) = rig.write_request(id(10), 0, b"hello", Some(5));
        rig.resend = true;
        let logged = rig.ask(request.clone(), &payload).0;
        assert!(matches!(logged, Ok(Reply::Written { .. })));
        assert_eq!(rig.ask(request, &payload).0, logged, "it is not logged twice");
        rig.resend = false;
        assert_eq!(std::fs::read(rig.path("a")).expect("there"), b"hello");
        assert_eq!(rig.entry(id(10)).attr.size, 5);
        assert_eq!(rig.xattr("a", "user.net_raid.md5"), None);
        rig.ok(Request::Release { id: id(10) });
        rig.checkpoint();
        assert_eq!(rig.xattr("a", "user.net_raid.md5").expect("set"), b"5d41402abc4b2a76b9719d911017c592");
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        assert_eq!(&rig.read_checked(id(10), 0, 8192)[..6], b"hello\0");
        rig.write(id(10), 0, b"howdy");
        assert_eq!(rig.xattr("a", "user.net_raid.md5"), None);
        assert_eq!(std::fs::read(rig.path("a")).expect("there"), b"hello", "an overwrite waits");
        assert_eq!(&rig.read_checked(id(10), 0, 8192)[..6], b"howdy\0");
        rig.checkpoint();
        assert_eq!(std::fs::read(rig.path("a")).expect("there"), b"howdy");
        rig.brick.close().expect("closed");
        assert!(rig.xattr("a", "user.net_raid.md5").is_some());
    }
}

#[test]
fn a_large_file_has_a_record_for_every_unit() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        let data = pattern(1, 5 * UNIT_SIZE + 10_000);
        // Small first, so that the inline records have to move.
        rig.write(id(10), 0, &data[..8192]);
        rig.write(id(10), 8192, &data[8192..]);
        assert_eq!(std::fs::read(rig.path("a")).expect("there"), data);
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        let read = rig.read_checked(id(10), 0, 6 * UNIT_SIZE);
        assert_eq!(read[..data.len()], data);
        // Blocks in the middle, out of order, in one request.
        let parts =
            [(4, 8192, 4096), (1, 0, 65536), (2, 0, 12288)].map(|(unit, offset, len)| Part { unit, offset, len });
        let (answer, bytes) = rig.ask(Request::Read { id: id(10), parts: parts.to_vec() }, b"");
        assert!(answer.is_ok());
        assert_eq!(bytes[..4096], data[4 * UNIT_SIZE + 8192..][..4096]);
        assert_eq!(bytes[4096..], data[UNIT_SIZE..UNIT_SIZE + 65536 + 12288]);
        rig.ok(Request::Fsync { id: id(10), data_only: true });
        rig.ok(Request::Release { id: id(10) });
        let digests: Vec<u8> = data.chunks(BLOCK_SIZE).flat_map(|block| digest(block).0).collect();
        let text: String = Md5::digest(&digests).iter().map(|byte| format!("{byte:02x}")).collect();
        rig.write(id(10), 0, &data[..4096]);
        rig.ok(Request::Release { id: id(10) });
        rig.checkpoint();
        assert_eq!(rig.xattr("a", "user.net_raid.md5").expect("set"), text.as_bytes());
    }
}

#[test]
fn one_write_may_touch_a_unit_twice_and_out_of_order() {
    for rig in Rig::both() {
        rig.file("a", 10);
        let data = pattern(2, 3 * BLOCK_SIZE);
        let part = |unit, offset: usize, block: usize| WritePart {
            part: Part { unit, offset: offset as u32, len: BLOCK_SIZE as u32 },
            stored: BLOCK_SIZE as u32,
            digests: Digests(vec![digest(&data[block * BLOCK_SIZE..][..BLOCK_SIZE])]),
        };
        let parts = vec![part(3, 0, 0), part(1, 4096, 1), part(3, 8192, 2)];
        let write = Change::Write { id: id(10), size: None, mtime: Some(rig.now), mode: Some(0o600), parts };
        assert!(rig.ask(rig.changing(write), &data).0.is_ok());
        let read = rig.read_checked(id(10), 0, 4 * UNIT_SIZE);
        assert_eq!(read[3 * UNIT_SIZE..][..4096], data[..4096]);
        assert_eq!(read[UNIT_SIZE + 4096..][..4096], data[4096..8192]);
        assert_eq!(read[3 * UNIT_SIZE + 8192..][..4096], data[8192..]);
        let attr = rig.entry(id(10)).attr;
        assert_eq!((attr.mode, attr.mtime), (0o600, rig.now));
    }
}

#[test]
fn malformed_parts_are_refused() {
    let rig = Rig::new(Ownership::Recorded);
    rig.file("a", 10);
    let good = |unit, offset, len| Part { unit, offset, len };
    for part in [
        good(0, 1, 4096),
        good(0, 0, 100),
        good(0, 0, 0),
        good(0, 61440, 8192),
        good(u64::MAX, 0, 4096),
        good(0, u32::MAX - 4095, 4096),
    ] {
        rig.fails(Request::Read { id: id(10), parts: vec![part] }, libc::EINVAL);
    }
    let write = |stored, digests: Vec<Digest>| Change::Write {
        id: id(10),
        size: None,
        mtime: None,
        mode: None,
        parts: vec![WritePart { part: good(0, 0, 4096), stored, digests: Digests(digests) }],
    };
    let block = [1; 4096];
    for (change, payload) in [
        (write(4096, vec![]), &block[..]),
        (write(4097, vec![digest(&block)]), &block[..]),
        (write(4096, vec![Digest::HOLE]), &block[..]),
        (write(4096, vec![digest(&block)]), &block[..4095]),
    ] {
        assert_eq!(rig.ask(rig.changing(change), payload).0, Err(Fault::Errno(libc::EINVAL)));
    }
    rig.fails(Request::Read { id: id(10), parts: vec![good(0, 0, 4096); 129] }, libc::EINVAL);
}

#[test]
fn truncation_cuts_bytes_and_records() {
    for mut rig in Rig::both() {
        for (number, len) in [(10, 3 * BLOCK_SIZE), (11, 3 * UNIT_SIZE)] {
            let text = format!("f{number}");
            rig.file(&text, number);
            rig.write(id(number), 0, &pattern(number, len));
            let truncate =
                |size, brick_len| Change::Truncate { id: id(number), size, brick_len, mtime: None, mode: None };
            rig.twice(truncate(BLOCK_SIZE as u64, BLOCK_SIZE as u64));
            assert_eq!(std::fs::metadata(rig.path(&text)).expect("there").len(), BLOCK_SIZE as u64);
            rig.twice(truncate(len as u64, BLOCK_SIZE as u64));
            assert_eq!(rig.entry(id(number)).attr.size, len as u64);
            let read = rig.read_checked(id(number), 0, len);
            assert_eq!(read[..BLOCK_SIZE], pattern(number, BLOCK_SIZE));
            assert!(read[BLOCK_SIZE..].iter().all(|&byte| byte == 0));
            rig.twice(truncate(0, 0));
            rig.write(id(number), 0, b"again");
            assert_eq!(&rig.read_checked(id(number), 0, 4096)[..5], b"again");
        }
    }
}

#[test]
fn a_striped_file_has_its_size_in_the_attribute() {
    for mut rig in Rig::both() {
        raid5(&rig, "a", 10);
        let (request, payload) = rig.write_request(id(10), 0, &pattern(1, UNIT_SIZE), Some(100_000));
        assert!(rig.ask(request, &payload).0.is_ok());
        assert_eq!(rig.entry(id(10)).attr.size, 100_000);
        let truncate = |size, brick_len| Change::Truncate { id: id(10), size, brick_len, mtime: None, mode: None };
        rig.change(truncate(1 << 40, 1 << 39));
        assert_eq!(std::fs::metadata(rig.path("a")).expect("there").len(), UNIT_SIZE as u64);
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        assert_eq!(rig.entry(id(10)).attr.size, 1 << 40);
        assert_eq!(rig.entry(id(10)).layout, Layout::new(Level::Raid5, 3));
        rig.twice(truncate(10, 4096));
        assert_eq!(std::fs::metadata(rig.path("a")).expect("there").len(), 4096);
    }
}

/// A power loss may leave bytes of which no log knows.
#[test]
fn stale_bytes_are_not_taken_for_the_end_of_a_block() {
    for mut rig in Rig::both() {
        raid5(&rig, "a", 10);
        rig.write(id(10), 0, &pattern(1, 4096));
        rig.checkpoint();
        std::fs::write(rig.path("a"), [pattern(1, 4096), pattern(2, 3 * 4096)].concat()).expect("written");
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        rig.write(id(10), 4096, &pattern(3, 4296));
        let expected = [pattern(1, 4096), pattern(3, 4296), vec![0; 3 * 4096 - 4296]].concat();
        assert!(rig.read_checked(id(10), 0, 4 * 4096) == expected);
        rig.checkpoint();
        assert!(rig.read_checked(id(10), 0, 4 * 4096) == expected);
    }
}

#[test]
fn holes_are_punched_and_listed() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        let data = pattern(3, 4 * UNIT_SIZE);
        rig.write(id(10), 0, &data);
        rig.checkpoint();
        rig.own(2);
        rig.twice(Change::Punch { id: id(10), unit: 1, count: 2, mtime: None });
        let read = rig.read_checked(id(10), 0, 4 * UNIT_SIZE);
        assert!(read[UNIT_SIZE..3 * UNIT_SIZE].iter().all(|&byte| byte == 0));
        assert_eq!(read[3 * UNIT_SIZE..], data[3 * UNIT_SIZE..]);
        let (_, records) = rig.read(id(10), 0, 4 * UNIT_SIZE);
        let generations: Vec<u64> = records.iter().map(|record| record.generation.0).collect();
        assert_eq!(generations, [1, 2, 2, 1]);
        let unit = UNIT_SIZE as u64;
        let ranges = rig.ok(Request::Allocated { id: id(10), unit: 0, count: 100 });
        assert_eq!(ranges, Reply::Ranges { ranges: vec![(0, unit), (3 * unit, 4 * unit)], more: false });
        rig.change(Change::Punch { id: id(10), unit: 0, count: u64::MAX, mtime: None });
        assert_eq!(rig.entry(id(10)).attr.size, 4 * unit);
    }
}

#[test]
fn space_is_reserved_without_content() {
    for rig in Rig::both() {
        rig.file("a", 10);
        let (offset, len) = (0, 1 << 20);
        rig.change(Change::Allocate { id: id(10), size: None, offset, len, keep_size: true });
        let attr = rig.entry(id(10)).attr;
        assert!(attr.size == 0 && attr.brick_blocks >= 2048);
        rig.change(Change::Allocate { id: id(10), size: None, offset, len, keep_size: false });
        assert_eq!(rig.entry(id(10)).attr.size, 1 << 20);
        assert!(rig.read_checked(id(10), 0, 1 << 20).iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_sparse_file_of_8_tib_costs_what_it_holds() {
    for rig in Rig::both() {
        rig.file("a", 10);
        let far = (8 << 40) - UNIT_SIZE as u64;
        rig.write(id(10), 0, b"start");
        rig.write(id(10), far, &pattern(4, UNIT_SIZE));
        assert_eq!(rig.read_checked(id(10), far, UNIT_SIZE), pattern(4, UNIT_SIZE));
        assert_eq!(rig.entry(id(10)).attr.size, 8 << 40);
        let started = std::time::Instant::now();
        rig.ok(Request::Release { id: id(10) });
        rig.change(Change::Truncate { id: id(10), size: 4096, brick_len: 4096, mtime: None, mode: None });
        assert!(started.elapsed().as_secs() < 5, "took {:?}", started.elapsed());
        assert_eq!(&rig.read_checked(id(10), 0, 4096)[..5], b"start");
    }
}

#[test]
fn everything_can_be_synced() {
    for rig in Rig::both() {
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        for (number, kind) in (10..).zip([Kind::File, Kind::Symlink, Kind::Fifo, Kind::Directory]) {
            rig.change(rig.create(id(9), &format!("n{number}"), number, kind));
            rig.ok(Request::Fsync { id: id(number), data_only: false });
        }
        rig.ok(Request::Checkpoint { generation: Generation(1) });
        rig.ok(Request::Fsync { id: ROOT, data_only: false });
        let Reply::Space(space) = rig.ok(Request::StatFs) else { panic!("no space") };
        assert!(space.total > space.free && space.free >= space.available);
    }
}

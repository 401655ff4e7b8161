//! What waits in the log: over restarts, power losses, aborts and damage.

use net_raid_proto::message::{LogEntry, Logged};

use super::*;

const UNIT: u64 = UNIT_SIZE as u64;

impl Rig {
    fn resolve(&self) {
        self.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
    }

    /// As after a restart of the machine, which here lost nothing; a new owner comes by.
    fn reboot(&mut self) {
        let disk = RealDisk::open(self.dir.path()).expect("a directory");
        let options = options(self.ownership, "another");
        self.brick = Brick::open(disk, options).expect("a brick");
        self.resend = false;
        let (volume, generation) = (VOLUME, self.generation());
        let own = |epoch, take_over| Request::Own { volume, epoch, generation, holder: holder(1), take_over };
        let refused = self.ask(own(self.epoch, false), b"").0;
        assert!(matches!(refused, Err(Fault::Refused(_))), "its owner does not know what was lost");
        self.epoch = Epoch(self.epoch.0 + 1);
        self.ok(own(self.epoch, true));
    }

    fn log(&self) -> Vec<LogEntry> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let Reply::Log { entries, next } = self.ok(Request::ReadLog { cursor }) else { panic!("no page") };
            all.extend(entries);
            match next {
                Some(next) => cursor = next,
                None => return all,
            }
        }
    }

    fn last_transaction(&self) -> Transaction {
        Transaction(self.transaction.load(Relaxed) - 1)
    }

    fn abort(&self, transactions: &[Transaction]) {
        self.ok(Request::Abort { transactions: transactions.to_vec() });
    }

    /// Reads the file whole, every block checked.
    fn content(&self) -> Vec<u8> {
        let size = self.entry(id(10)).attr.size as usize;
        let mut bytes = self.read_checked(id(10), 0, size.next_multiple_of(BLOCK_SIZE).max(BLOCK_SIZE));
        bytes.truncate(size);
        bytes
    }

    /// Its record file.
    fn side(&self) -> std::path::PathBuf {
        self.path(".net_raid/records/0a").join(format!("{:016x}", id(10).0))
    }

    fn in_place(&self) -> Vec<u8> {
        std::fs::read(self.path("a")).expect("there")
    }
}

fn rig_with(content: &[u8]) -> Rig {
    let rig = Rig::new(Ownership::Recorded);
    rig.file("a", 10);
    rig.write(id(10), 0, content);
    rig
}

#[test]
fn an_overwrite_waits_over_restarts_until_it_is_complete() {
    let mut rig = rig_with(&pattern(1, 3 * UNIT_SIZE));
    rig.checkpoint();
    rig.write(id(10), 4096, &pattern(2, 100_000 / 4096 * 4096));
    let now = rig.content();
    let before = rig.in_place();
    assert_eq!(before, pattern(1, 3 * UNIT_SIZE));
    for _ in 0..2 {
        rig.restart();
        rig.resolve();
        assert!(rig.content() == now && rig.in_place() == before);
    }
    rig.reboot();
    rig.resolve();
    assert!(rig.content() == now && rig.in_place() == before);
    assert!(rig.log().iter().all(|entry| entry.whole));
    rig.checkpoint();
    assert!(rig.content() == now && rig.in_place() == now);
    assert_eq!(rig.log(), []);
}

#[test]
fn later_generations_stay_in_the_log() {
    let mut rig = rig_with(&pattern(1, UNIT_SIZE));
    rig.checkpoint();
    rig.write(id(10), 0, &pattern(2, 8192));
    let first = rig.generation();
    rig.generation.fetch_add(1, Relaxed);
    rig.write(id(10), 4096, &pattern(3, 8192));
    let now = rig.content();
    rig.ok(Request::Complete { generation: first });
    assert_eq!(rig.in_place()[..8192], pattern(2, 8192));
    assert_eq!(rig.in_place()[8192..12288], pattern(1, UNIT_SIZE)[8192..12288]);
    assert!(rig.content() == now);
    rig.restart();
    rig.resolve();
    assert!(rig.content() == now);
    rig.abort(&[rig.last_transaction()]);
    assert_eq!(rig.content()[..8192], pattern(2, 8192));
}

#[test]
fn an_aborted_write_leaves_what_was() {
    for restarted in [false, true] {
        let mut rig = rig_with(&pattern(1, 10_000));
        let before = rig.content();
        // Over the end: an overwrite of three blocks, and fresh ones.
        rig.write(id(10), 0, &pattern(2, 3 * UNIT_SIZE));
        let transaction = rig.last_transaction();
        rig.abort(&[transaction]);
        if restarted {
            rig.restart();
            rig.resolve();
        }
        let bytes = rig.read_checked(id(10), 0, 3 * UNIT_SIZE);
        assert_eq!(bytes[..before.len()], before);
        assert!(bytes[before.len()..].iter().all(|byte| *byte == 0), "and holes");
        rig.abort(&[transaction, Transaction(999)]);
        rig.checkpoint();
        assert_eq!(rig.in_place()[..before.len()], before);
        assert!(rig.in_place()[12288..].iter().all(|byte| *byte == 0), "not even in the file");
        rig.write(id(10), 0, &pattern(3, UNIT_SIZE));
        assert_eq!(rig.content()[..UNIT_SIZE], pattern(3, UNIT_SIZE));
    }
}

#[test]
fn a_cut_outlives_what_waited_before_it() {
    for checkpointed in [false, true] {
        let mut rig = rig_with(&pattern(1, 2 * UNIT_SIZE));
        rig.checkpoint();
        rig.write(id(10), 0, &pattern(2, 2 * UNIT_SIZE));
        let generation = Generation(rig.generation.fetch_add(1, Relaxed));
        rig.change(Change::Truncate { id: id(10), size: 4096, brick_len: 4096, mtime: None, mode: None });
        rig.write(id(10), 8192, &pattern(3, 4096));
        let mut expected = pattern(2, 4096);
        expected.resize(8192, 0);
        expected.extend(pattern(3, 4096));
        if checkpointed {
            rig.ok(Request::Complete { generation });
        }
        assert!(rig.content() == expected);
        rig.restart();
        rig.resolve();
        assert!(rig.content() == expected);
        rig.reboot();
        rig.resolve();
        assert!(rig.content() == expected);
        let cuts = rig.log().into_iter().filter(|entry| matches!(entry.what, Logged::Truncate { size: 4096, .. }));
        assert_eq!(cuts.count(), 1);
        rig.checkpoint();
        assert!(rig.content() == expected && rig.in_place() == expected);
    }
}

#[test]
fn a_machine_that_lost_bytes_says_so() {
    let mut rig = rig_with(&pattern(1, UNIT_SIZE));
    rig.checkpoint();
    rig.write(id(10), UNIT, &pattern(2, UNIT_SIZE));
    rig.write(id(10), 2 * UNIT, &pattern(3, UNIT_SIZE));
    // What a power loss leaves of bytes that were not synced.
    let mut bytes = rig.in_place();
    bytes[UNIT_SIZE + 5000..UNIT_SIZE + 5512].fill(0);
    std::fs::write(rig.path("a"), &bytes[..2 * UNIT_SIZE + 4096]).expect("written");
    rig.reboot();
    let log = rig.log();
    assert_eq!(log.iter().map(|entry| entry.whole).collect::<Vec<_>>(), [false, false]);
    rig.abort(&log.iter().map(|entry| entry.transaction).collect::<Vec<_>>());
    rig.resolve();
    assert_eq!(rig.read_checked(id(10), 0, UNIT_SIZE), pattern(1, UNIT_SIZE));
    assert!(rig.read_checked(id(10), UNIT, 2 * UNIT_SIZE).iter().all(|byte| *byte == 0));
}

#[test]
fn a_machine_that_lost_a_cut_repeats_it() {
    let mut rig = rig_with(&pattern(1, 2 * UNIT_SIZE));
    rig.checkpoint();
    let (file, side) = (rig.path("a"), rig.side());
    let before = (std::fs::read(&file).expect("there"), std::fs::read(&side).expect("there"));
    rig.change(Change::Truncate { id: id(10), size: 4096, brick_len: 4096, mtime: None, mode: None });
    std::fs::write(&file, before.0).expect("back");
    std::fs::write(&side, before.1).expect("back");
    rig.reboot();
    rig.resolve();
    assert_eq!(rig.content(), pattern(1, UNIT_SIZE)[..4096]);
    assert_eq!(rig.in_place().len(), 4096);
}

/// Kill -9 between the record of a cut and the cut.
#[test]
fn a_cut_that_was_only_noted_is_made() {
    let mut rig = rig_with(&pattern(1, 2 * UNIT_SIZE));
    rig.checkpoint();
    let (file, side) = (rig.path("a"), rig.side());
    let before = (std::fs::read(&file).expect("there"), std::fs::read(&side).expect("there"));
    for records_too in [true, false] {
        rig.change(Change::Truncate { id: id(10), size: 4096, brick_len: 4096, mtime: None, mode: None });
        std::fs::write(&file, &before.0).expect("back");
        if records_too {
            std::fs::write(&side, &before.1).expect("back");
        }
        rig.restart();
        rig.resolve();
        assert_eq!(rig.content(), pattern(1, UNIT_SIZE)[..4096]);
        assert_eq!(rig.in_place().len(), 4096);
    }
    let punched = Change::Punch { id: id(10), unit: 0, count: 1, mtime: None };
    rig.change(punched);
    std::fs::write(&file, &before.0[..4096]).expect("back");
    std::fs::write(&side, &before.1).expect("back");
    rig.restart();
    rig.resolve();
    assert_eq!(rig.in_place(), [0; 4096]);
}

/// The record of unit 1 is in two sectors, of which one may be old and one new.
#[test]
fn a_record_that_is_torn_while_the_log_has_its_change_is_mended() {
    const AREA: [&str; 4] = ["log.0", "log.1", "label.0", "label.1"];
    for cut in [false, true] {
        for first_is_new in [false, true] {
            let mut rig = rig_with(&pattern(1, 2 * UNIT_SIZE));
            rig.checkpoint();
            let side = rig.side();
            let old = std::fs::read(&side).expect("there");
            let area = |rig: &Rig| AREA.map(|file| std::fs::read(rig.path(".net_raid").join(file)).expect("there"));
            let mut waiting = area(&rig);
            if cut {
                let len = UNIT + 2 * BLOCK_SIZE as u64;
                rig.change(Change::Truncate { id: id(10), size: len, brick_len: len, mtime: None, mode: None });
            } else {
                rig.write(id(10), UNIT + 4096, &pattern(2, 4096));
                rig.write(id(10), UNIT + 15 * 4096, &pattern(3, 4096));
            }
            let expected = rig.content();
            if !cut {
                waiting = area(&rig);
                rig.checkpoint();
            }
            let new = std::fs::read(&side).expect("there");
            let (first, second) = if first_is_new { (&new, &old) } else { (&old, &new) };
            let torn = [&first[..512], &second[512..]].concat();
            assert!(torn != old && torn != new);
            std::fs::write(&side, torn).expect("torn");
            if !cut {
                // As if it had been stopped between what is complete and what is in place.
                AREA.iter().zip(waiting).for_each(|(file, bytes)| {
                    std::fs::write(rig.path(".net_raid").join(file), bytes).expect("back");
                });
            }
            rig.restart();
            rig.resolve();
            assert!(rig.content() == expected, "cut {cut}, first {first_is_new}");
            rig.checkpoint();
            assert!(rig.content() == expected && rig.in_place() == expected);
        }
    }
}

#[test]
fn old_bytes_behind_a_cut_within_a_block_do_not_come_back() {
    let mut rig = rig_with(&pattern(1, UNIT_SIZE));
    rig.checkpoint();
    let file = rig.path("a");
    let before = std::fs::read(&file).expect("there");
    let resize = |size| Change::Truncate { id: id(10), size, brick_len: size, mtime: None, mode: None };
    // As a client does it: zeros first, then the cut.
    let mut block = pattern(1, 8192)[4096..].to_vec();
    block[1000..].fill(0);
    rig.write(id(10), 4096, &block);
    rig.change(resize(5096));
    rig.change(resize(20_000));
    let expected = rig.content();
    std::fs::write(&file, before).expect("back");
    rig.reboot();
    rig.resolve();
    assert!(rig.content() == expected);
    rig.checkpoint();
    assert!(rig.content() == expected);
    assert_eq!(rig.in_place()[4096..8192], block);
}

#[test]
fn a_torn_log_ends_before_the_tear() {
    let mut rig = rig_with(&pattern(1, UNIT_SIZE));
    rig.checkpoint();
    rig.write(id(10), 0, &pattern(2, 4096));
    rig.write(id(10), 4096, &pattern(3, 4096));
    let log = rig.path(&format!(".net_raid/log.{}", rig.generation().0 % 2));
    let whole = std::fs::read(&log).expect("there");
    let ends: Vec<usize> = (0..whole.len() - 4).filter(|at| whole[*at..].starts_with(&pattern(3, 64))).collect();
    for at in [ends[0] - 100, ends[0], ends[0] + 4095] {
        let mut torn = whole.clone();
        torn[at] ^= 1;
        std::fs::write(&log, &torn).expect("written");
        rig.restart();
        rig.resolve();
        let content = rig.content();
        assert_eq!(content[..4096], pattern(2, 4096));
        assert_eq!(content[4096..8192], pattern(1, 8192)[4096..]);
        assert_eq!(rig.log().len(), 1);
    }
}

#[test]
fn what_is_removed_or_renamed_while_it_waits() {
    let mut rig = rig_with(&pattern(1, UNIT_SIZE));
    rig.file("b", 11);
    rig.write(id(11), 0, &pattern(5, 4096));
    rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
    rig.checkpoint();
    rig.write(id(10), 0, &pattern(2, 4096));
    rig.write(id(11), 0, &pattern(6, 4096));
    let (name, new_name) = (name("a"), super::name("moved"));
    let target = RenameTarget::Absent;
    rig.change(Change::Rename { parent: ROOT, name, id: id(10), new_parent: id(9), new_name, target });
    rig.change(rig.unlink("b", 11, false));
    rig.restart();
    // Nobody told the brick where anything is: it looks for what waits.
    rig.checkpoint();
    assert_eq!(std::fs::read(rig.path("d/moved")).expect("there")[..4096], pattern(2, 4096));
    assert_eq!(rig.log(), []);
}

#[test]
fn a_log_is_read_page_by_page() {
    let rig = rig_with(&pattern(1, UNIT_SIZE));
    rig.checkpoint();
    for i in 0..700 {
        rig.write(id(10), i % 16 * 4096, &pattern(i, 4096));
    }
    let log = rig.log();
    assert_eq!(log.len(), 700);
    assert!(log.windows(2).all(|pair| pair[0].transaction < pair[1].transaction));
    assert!(log.iter().all(|entry| entry.participants == 1 && entry.id == id(10)));
    let Reply::Written { logged } = rig.ok_write(0, &pattern(9, 4096)) else { panic!("not written") };
    assert!(logged > 700 * 4096 && logged < 800 * 4500);
    rig.checkpoint();
    let Reply::Written { logged } = rig.ok_write(0, &pattern(9, 4096)) else { panic!("not written") };
    assert!(logged < 5000, "emptied");
}

impl Rig {
    fn ok_write(&self, offset: u64, data: &[u8]) -> Reply {
        let (request, payload) = self.write_request(id(10), offset, data, None);
        self.ask(request, &payload).0.expect("written")
    }
}

//! Damaged labels and records, planted links, objects that are not what they were.

use std::os::unix::fs::symlink;

use super::super::label::{Found, Stored, decode, encode};
use super::super::record::{RECORD_LEN, Record, UNKNOWN};
use super::*;

fn stored() -> Stored {
    Stored { label: label(), holder: Some(holder(3)), applied: Generation(2), boot: "b".into(), doubt: Generation(1) }
}

#[test]
fn a_label_torn_at_any_byte_is_noticed() {
    let whole = encode(4, &stored()).expect("encodes");
    assert_eq!(decode(&whole), Found::Valid(4, Box::new(stored())));
    let mut longer = whole.clone();
    longer.extend([0xaa; 50]);
    assert_eq!(decode(&longer), Found::Valid(4, Box::new(stored())));
    let older = encode(2, &Stored { holder: None, ..stored() }).expect("encodes");
    for cut in 0..whole.len() {
        assert_eq!(decode(&whole[..cut]), Found::Torn, "cut at {cut}");
        let mut flipped = whole.clone();
        flipped[cut] ^= 1;
        assert_eq!(decode(&flipped), Found::Torn, "flipped at {cut}");
        let torn = [&whole[..cut], older.get(cut..).unwrap_or_default()].concat();
        let found = decode(&torn);
        assert!(!matches!(found, Found::Valid(4, _)) && !matches!(found, Found::Newer(_)), "torn at {cut}");
    }
}

#[test]
fn one_good_label_is_enough_and_none_is_an_error() {
    let mut rig = Rig::new(Ownership::Recorded);
    rig.own(2);
    rig.own(3);
    let labels = ["label.0", "label.1"].map(|file| rig.path(".net_raid").join(file));
    for victim in &labels {
        let saved = std::fs::read(victim).expect("there");
        std::fs::write(victim, &saved[..saved.len() / 2]).expect("torn");
        assert!(open(rig.dir.path(), rig.ownership).is_ok());
        std::fs::write(victim, saved).expect("restored");
    }
    for file in &labels {
        std::fs::write(file, b"").expect("torn");
    }
    assert!(matches!(open(rig.dir.path(), rig.ownership), Err(OpenError::LabelsDamaged)));
    std::fs::remove_file(&labels[0]).expect("removed");
    assert!(matches!(open(rig.dir.path(), rig.ownership), Err(OpenError::LabelsDamaged)));
}

#[test]
fn a_newer_format_is_refused_even_beside_an_older_label() {
    let rig = Rig::new(Ownership::Recorded);
    let mut bytes = encode(9, &stored()).expect("encodes");
    bytes[8] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..24]), &bytes[28..]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(rig.path(".net_raid/label.1"), bytes).expect("written");
    let refused = open(rig.dir.path(), rig.ownership).map(|_| ());
    assert!(matches!(refused, Err(OpenError::NewerFormat { version: 2, known: 1 })));
}

/// A brick with three records in its log: a file of 4 blocks, the first three of which are overwritten one by one.
fn three_records() -> (Rig, std::path::PathBuf) {
    let rig = Rig::new(Ownership::Recorded);
    rig.file("a", 10);
    rig.write(id(10), 0, &pattern(1, 4 * BLOCK_SIZE));
    rig.checkpoint();
    (0..3).for_each(|at| rig.write(id(10), at * BLOCK_SIZE as u64, &pattern(2, BLOCK_SIZE)));
    let log = rig.path(&format!(".net_raid/log.{}", rig.generation().0 % 2));
    (rig, log)
}

/// Where records begin, by their lengths; then the end.
fn record_starts(log: &[u8]) -> Vec<usize> {
    let length = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().expect("4 bytes")) as usize;
    let behind = |at: &usize| (length(at + 4) > 0).then(|| at + 32 + length(at + 4) + length(at + 8));
    std::iter::successors(Some(0), behind).collect()
}

/// A process that was killed leaves at most the last record torn. A machine that lost power leaves any.
#[test]
fn a_flipped_byte_of_the_log_is_never_believed() {
    let (rig, log) = three_records();
    let mut whole = std::fs::read(&log).expect("there");
    let starts = record_starts(&whole);
    assert_eq!(starts.len(), 4);
    // As short as it can be: it is written often.
    whole.truncate(starts[3]);
    let disk = || RealDisk::open(rig.dir.path()).expect("a directory");
    for at in 0..starts[3] {
        // Every byte of headers and bodies, and some of the data.
        let start = starts.iter().rposition(|start| *start <= at).expect("a record");
        if at - starts[start] > 200 && at % 97 != 0 {
            continue;
        }
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&log, &flipped).expect("written");
        let killed = Brick::open(disk(), options(rig.ownership, "boot")).map(|_| ());
        match killed {
            Err(OpenError::LogDamaged { record, .. }) => assert!(start < 2 && record == start as u64, "{at}"),
            opened => assert!(opened.is_ok() && start == 2, "{at}: {opened:?}"),
        }
        let brick = Brick::open(disk(), options(rig.ownership, "another")).expect("opens");
        assert_eq!(brick.newest_waiting() > Generation(0), start > 0);
    }
}

#[test]
fn records_behind_a_torn_one_never_come_back() {
    let (rig, log) = three_records();
    let whole = std::fs::read(&log).expect("there");
    let starts = record_starts(&whole);
    let mut torn = whole.clone();
    torn[starts[1] + 100] ^= 1;
    std::fs::write(&log, &torn).expect("written");
    let disk = || RealDisk::open(rig.dir.path()).expect("a directory");
    drop(Brick::open(disk(), options(rig.ownership, "another")).expect("opens"));
    // A record of the same length in the place of the torn one.
    let mut after = std::fs::read(&log).expect("there");
    after[starts[1]..starts[2]].copy_from_slice(&whole[starts[1]..starts[2]]);
    std::fs::write(&log, &after).expect("written");
    assert_eq!(record_starts(&after).len(), 3);
    assert!(Brick::open(disk(), options(rig.ownership, "boot")).is_ok());
}

#[test]
fn a_log_of_a_newer_format_is_refused_until_it_is_empty() {
    let (mut rig, log) = three_records();
    let mut bytes = std::fs::read(&log).expect("there");
    let starts = record_starts(&bytes);
    bytes[starts[1] + 12] = 2;
    let crc = crc32c::crc32c(&bytes[starts[1] + 4..starts[2]]);
    bytes[starts[1]..starts[1] + 4].copy_from_slice(&crc.to_le_bytes());
    let whole = std::fs::read(&log).expect("there");
    std::fs::write(&log, &bytes).expect("written");
    let refused = open(rig.dir.path(), rig.ownership).map(|_| ()).expect_err("it cannot be read");
    assert!(matches!(refused, OpenError::NewerLog { format: 2, known: 1 }));
    assert!(refused.to_string().contains("start the newer program again"), "{refused}");
    std::fs::write(&log, whole).expect("written");
    rig.restart();
    rig.checkpoint();
    std::fs::write(&log, bytes).expect("written");
    assert!(open(rig.dir.path(), rig.ownership).is_ok(), "what is in place needs no log");
}

#[test]
fn a_torn_record_matches_nothing() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.write(id(10), 0, &pattern(1, 2 * UNIT_SIZE));
        rig.checkpoint();
        let side = rig.path(".net_raid/records/0a").join(format!("{:016x}", id(10).0));
        let mut bytes = std::fs::read(&side).expect("there");
        assert_eq!(bytes.len(), 2 * RECORD_LEN);
        bytes[RECORD_LEN + 100] ^= 1;
        std::fs::write(&side, bytes).expect("damaged");
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        let (_, records) = rig.read(id(10), 0, 2 * UNIT_SIZE);
        assert!(records[0].digests.0.iter().all(|digest| *digest != UNKNOWN));
        assert!(records[1].digests.0.iter().all(|digest| *digest == UNKNOWN));
        // A write into the damaged unit keeps the rest of it in doubt.
        rig.write(id(10), UNIT_SIZE as u64, &pattern(2, 4096));
        let (_, records) = rig.read(id(10), UNIT_SIZE as u64, 8192);
        assert_eq!(records[0].digests.0, [digest(&pattern(2, 4096)), UNKNOWN]);
        rig.checkpoint();
        std::fs::remove_file(&side).expect("removed");
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        let (_, records) = rig.read(id(10), 0, 4096);
        // A lost record is not one that never was, or the block would read as zeros.
        assert_eq!(records[0].digests.0, [UNKNOWN]);
    }
}

/// What is lost comes back without a moment in which it could be read as zeros.
#[test]
fn what_is_put_back_is_unknown_until_it_is_written() {
    for mut rig in Rig::both() {
        let content = pattern(1, 2 * UNIT_SIZE + 5000);
        rig.file("a", 10);
        rig.write(id(10), 0, &content[..2 * UNIT_SIZE]);
        rig.file("b", 11);
        rig.write(id(11), 0, &pattern(2, 4096));
        rig.checkpoint();
        let restore = |text: &str, number: u64, len: u64| Request::Restore {
            parent: ObjectId::ROOT,
            name: name(text),
            id: id(number),
            spec: Box::new(spec(Kind::File)),
            size: len,
            brick_len: len,
            now: Timestamp { secs: 1_000_000, nanos: 5 },
        };
        for text in ["a", "b"] {
            std::fs::remove_file(rig.path(text)).expect("removed");
        }
        rig.restart();
        rig.ok(restore("a", 10, 2 * UNIT_SIZE as u64));
        rig.ok(restore("b", 11, 4096));
        for restarted in [false, true] {
            if restarted {
                rig.restart();
                rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
                rig.ok(Request::Resolve { id: id(11), path: vec![name("b")] });
            }
            // The records are left of one; nothing is of the other.
            let (bytes, records) = rig.read(id(10), 0, 4096);
            assert_eq!((records[0].digests.0[0], bytes), (digest(&content[..4096]), vec![0; 4096]));
            let (_, records) = rig.read(id(11), 0, 4096);
            assert_eq!(records[0].digests.0, [UNKNOWN]);
        }
        rig.write(id(11), 0, &pattern(2, 4096));
        let (bytes, records) = rig.read(id(11), 0, 4096);
        assert_eq!((records[0].digests.0[0], bytes), (digest(&pattern(2, 4096)), pattern(2, 4096)));
    }
}

#[test]
fn records_survive_their_encoding() {
    let mut record = Record::hole(Generation(77));
    record.digests[3] = Digest([5; 16]);
    assert_eq!(Record::decode(&record.encode()), record);
    assert_eq!(Record::decode(&[0; RECORD_LEN]), Record::BLANK);
    assert_ne!(Record::hole(Generation(0)).encode(), [0; RECORD_LEN]);
}

#[test]
fn planted_links_lead_nowhere() {
    for mut rig in Rig::both() {
        let outside = tempfile::tempdir_in("/var/tmp").expect("a directory");
        std::fs::write(outside.path().join("f"), b"secret").expect("written");
        rig.change(rig.create(ROOT, "d", 9, Kind::Directory));
        rig.change(rig.create(id(9), "f", 10, Kind::File));
        rig.write(id(10), 0, b"inside");
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("d"), name("f")] });
        rig.restart();
        rig.ok(Request::Lookup { parent: ROOT, name: name("d") });
        std::fs::rename(rig.path("d"), rig.path("moved")).expect("moved");
        symlink(outside.path(), rig.path("d")).expect("planted");
        assert_eq!(rig.found(ROOT, "d"), None);
        let answer = rig.ask(Request::GetAttr { id: id(9) }, b"").0;
        assert_eq!(answer, Err(Fault::Unresolved(id(9))));
        std::fs::remove_file(rig.path("moved/f")).expect("removed");
        symlink(outside.path().join("f"), rig.path("moved/f")).expect("planted");
        rig.ok(Request::Resolve { id: id(9), path: vec![name("moved")] });
        assert_eq!(rig.found(id(9), "f"), None);
        rig.change(Change::SetAttr { id: id(9), set: Default::default() });
        assert_eq!(std::fs::read(outside.path().join("f")).expect("there"), b"secret");
    }
}

#[test]
fn another_object_under_a_known_name_is_never_touched() {
    for mut rig in Rig::both() {
        rig.file("a", 10);
        rig.file("b", 11);
        rig.write(id(10), 0, b"aaaa");
        rig.write(id(11), 0, b"bbbb");
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        std::fs::rename(rig.path("b"), rig.path("a")).expect("swapped");
        let (request, payload) = rig.write_request(id(10), 0, b"evil", None);
        assert_eq!(rig.ask(request, &payload).0, Err(Fault::Unresolved(id(10))));
        assert_eq!(std::fs::read(rig.path("a")).expect("there"), b"bbbb");
    }
}

#[test]
fn the_bricks_own_directory_cannot_be_reached() {
    for rig in Rig::both() {
        rig.file("a", 10);
        assert_eq!(rig.found(ROOT, ".net_raid"), None);
        assert_eq!(rig.names(ROOT, true), ["a"]);
        rig.change_fails(rig.create(ROOT, ".net_raid", 11, Kind::File), libc::EPERM);
        rig.change_fails(rig.rename("a", 10, ".net_raid", RenameTarget::Absent), libc::EPERM);
        rig.change_fails(Change::Link { id: id(10), parent: ROOT, name: name(".net_raid") }, libc::EPERM);
        rig.change_fails(rig.unlink(".net_raid", 11, false), libc::ENOENT);
        rig.change_fails(Change::Rmdir { parent: ROOT, name: name(".net_raid"), id: id(11) }, libc::ENOENT);
        rig.fails(Request::Resolve { id: id(11), path: vec![name(".net_raid"), name("label.0")] }, libc::ENOENT);
        rig.change(rig.create(ROOT, "d", 12, Kind::Directory));
        rig.change(rig.create(id(12), ".net_raid", 13, Kind::File));
    }
}

#[test]
fn a_fifo_never_blocks() {
    for rig in Rig::both() {
        rig.change(rig.create(ROOT, "p", 10, Kind::Fifo));
        rig.fails(Request::Read { id: id(10), parts: vec![Part { unit: 0, offset: 0, len: 4096 }] }, libc::EINVAL);
        rig.ok(Request::GetAttr { id: id(10) });
        rig.ok(Request::ListXattr { id: id(10) });
        rig.ok(Request::Fsync { id: id(10), data_only: false });
        rig.change(rig.unlink("p", 10, false));
    }
}

#[test]
fn a_note_is_kept_and_a_damaged_one_is_none() {
    for ownership in [Ownership::Native, Ownership::Recorded] {
        let rig = Rig::new(ownership);
        let note = |rig: &Rig| match rig.ok(Request::ReadNote) {
            Reply::Bytes(note) => note,
            other => panic!("{other:?}"),
        };
        assert_eq!(note(&rig), b"");
        for text in ["first", "", "another one"] {
            rig.ok(Request::WriteNote { note: text.into() });
            assert_eq!(note(&rig), text.as_bytes());
        }
        let long = vec![0; net_raid_proto::limits::NOTE_MAX + 1];
        assert!(matches!(rig.ask(Request::WriteNote { note: long }, &[]).0, Err(Fault::Refused(_))));
        let file = rig.path(".net_raid/note");
        let whole = std::fs::read(&file).expect("there");
        for cut in 0..whole.len() {
            std::fs::write(&file, &whole[..cut]).expect("cut");
            assert_eq!(note(&rig), b"", "cut at {cut}");
            let mut flipped = whole.clone();
            flipped[cut] ^= 4;
            std::fs::write(&file, &flipped).expect("flipped");
            assert_eq!(note(&rig), b"", "flipped at {cut}");
        }
        rig.ok(Request::WriteNote { note: b"anew".to_vec() });
        assert_eq!(note(&rig), b"anew");
    }
}

/// Has the brick look at what it has of its own: what it put right, and what it could not.
fn verified(rig: &Rig) -> (Vec<BrickFile>, Vec<BrickFile>) {
    match rig.ok(Request::VerifyBrick) {
        Reply::BrickVerified { mended, damaged } => (mended, damaged),
        other => panic!("{other:?}"),
    }
}

const NOTHING: (Vec<BrickFile>, Vec<BrickFile>) = (Vec::new(), Vec::new());

#[test]
fn a_brick_that_runs_mends_every_byte_of_its_labels() {
    let mut rig = Rig::new(Ownership::Recorded);
    rig.own(2);
    assert_eq!(verified(&rig), NOTHING);
    let len = encode(2, &stored()).expect("encodes").len();
    for at in (0..len).step_by(7) {
        for number in [0, 1] {
            let file = rig.path(&BrickFile::Label(number).to_string());
            let mut bytes = std::fs::read(&file).expect("there");
            bytes[at] ^= 4;
            std::fs::write(&file, bytes).expect("flipped");
            assert_eq!(verified(&rig), (vec![BrickFile::Label(number)], Vec::new()), "byte {at}");
            assert_eq!(verified(&rig), NOTHING);
        }
    }
    // The label of another brick, which would count more.
    let other = Stored { label: Label { brick: BrickId([1; 16]), ..label() }, ..stored() };
    for number in [0, 1] {
        let file = rig.path(&BrickFile::Label(number).to_string());
        std::fs::write(&file, encode(1_000_000 + u64::from(number), &other).expect("encodes")).expect("replaced");
    }
    let (mut mended, damaged) = verified(&rig);
    mended.sort();
    assert_eq!((mended, damaged), (vec![BrickFile::Label(0), BrickFile::Label(1)], Vec::new()));
    rig.restart();
    assert_eq!(rig.epoch, Epoch(2));
}

#[test]
fn a_label_that_was_removed_is_written_all_the_same() {
    let mut rig = Rig::new(Ownership::Recorded);
    for epoch in 2..6 {
        let labels = [0, 1].map(|number| rig.path(&BrickFile::Label(number).to_string()));
        labels.iter().filter(|label| label.exists()).for_each(|label| std::fs::remove_file(label).expect("removed"));
        rig.own(epoch);
        rig.restart();
    }
}

#[test]
fn a_log_that_was_cut_costs_blocks_and_not_the_brick() {
    let mut rig = Rig::new(Ownership::Recorded);
    rig.file("a", 10);
    rig.write(id(10), 0, &pattern(1, 4 * BLOCK_SIZE));
    rig.checkpoint();
    rig.write(id(10), 0, &pattern(2, 4 * BLOCK_SIZE));
    let number = (rig.generation().0 % 2) as u8;
    let log = BrickFile::Log(number);
    let file = std::fs::File::options().write(true).open(rig.path(&log.to_string())).expect("there");
    // The first block and the record are there.
    file.set_len(BLOCK_SIZE as u64 + 1000).expect("cut");
    assert_eq!(verified(&rig), (Vec::new(), vec![log]));
    let bad = |rig: &Rig| -> Vec<bool> {
        let (bytes, records) = rig.read(id(10), 0, 4 * BLOCK_SIZE);
        bytes.chunks(BLOCK_SIZE).zip(&records[0].digests.0).map(|(block, found)| digest(block) != *found).collect()
    };
    assert_eq!(bad(&rig), [false, true, true, true]);
    rig.checkpoint();
    assert_eq!(bad(&rig), [false, true, true, true]);
    assert_eq!(verified(&rig), (vec![log], Vec::new()), "its room is gone");
    assert_eq!(verified(&rig), NOTHING);
    rig.write(id(10), 0, &pattern(3, 4 * BLOCK_SIZE));
    rig.restart();
    rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
    assert_eq!(rig.read_checked(id(10), 0, 4 * BLOCK_SIZE), pattern(3, 4 * BLOCK_SIZE));
}

#[test]
fn a_log_that_was_removed_is_made_anew_when_nothing_waits_in_it() {
    for waits in [false, true] {
        let mut rig = Rig::new(Ownership::Recorded);
        rig.file("a", 10);
        rig.write(id(10), 0, &pattern(1, BLOCK_SIZE));
        let log = BrickFile::Log((rig.generation().0 % 2) as u8);
        if !waits {
            rig.checkpoint();
        }
        std::fs::remove_file(rig.path(&log.to_string())).expect("removed");
        if waits {
            assert_eq!(verified(&rig), (Vec::new(), vec![log]));
            rig.checkpoint();
        }
        assert_eq!(verified(&rig), (vec![log], Vec::new()));
        assert_eq!(verified(&rig), NOTHING);
        // The generation after the next one uses it.
        rig.checkpoint();
        rig.write(id(10), 0, &pattern(2, BLOCK_SIZE));
        rig.restart();
        rig.ok(Request::Resolve { id: id(10), path: vec![name("a")] });
        assert_eq!(rig.read_checked(id(10), 0, BLOCK_SIZE), pattern(2, BLOCK_SIZE));
    }
}

/// What is open then is nowhere after a restart: it does not count as there, and can be made anew.
#[test]
fn a_file_that_was_removed_behind_an_open_handle_is_gone() {
    for rig in Rig::both() {
        rig.file("a", 10);
        rig.write(id(10), 0, &pattern(1, BLOCK_SIZE));
        std::fs::remove_file(rig.path("a")).expect("removed");
        assert_eq!(rig.ask(Request::GetAttr { id: id(10) }, b"").0, Err(Fault::Unresolved(id(10))));
        let attach = rig.changing(Change::Attach { id: id(10), parent: ROOT, name: name("b") });
        assert_eq!(rig.ask(attach, b"").0, Err(Fault::Unresolved(id(10))));
        rig.file("b", 10);
        rig.write(id(10), 0, &pattern(2, BLOCK_SIZE));
        assert_eq!(rig.read_checked(id(10), 0, BLOCK_SIZE), pattern(2, BLOCK_SIZE));
        assert_eq!(std::fs::read(rig.path("b")).expect("there").len(), BLOCK_SIZE);
    }
}

/// Also where nobody asked in between.
#[test]
fn what_is_made_anew_is_not_what_is_open() {
    for rig in Rig::both() {
        rig.file("a", 10);
        std::fs::remove_file(rig.path("a")).expect("removed");
        rig.file("a", 10);
        rig.write(id(10), 0, &pattern(1, BLOCK_SIZE));
        assert_eq!(std::fs::read(rig.path("a")).expect("there").len(), BLOCK_SIZE);
    }
}

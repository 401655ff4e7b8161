//! Labels, epochs, leases, and which directory is a brick.

use net_raid_proto::limits::LEASE_MS;
use net_raid_proto::message::BrickState;

use super::*;

fn own(epoch: u64, pid: u32, take_over: bool) -> Request {
    let (epoch, generation) = (Epoch(epoch), Generation(epoch));
    Request::Own { volume: VOLUME, epoch, generation, holder: holder(pid), take_over }
}

fn at(rig: &Rig, request: &Request, now_ms: u64) -> Answer {
    rig.brick.handle(&rig.header(), request, b"", now_ms, &mut Vec::new())
}

#[track_caller]
fn owned(answer: &Answer) -> (Label, Option<Holder>) {
    match answer {
        Ok(Reply::Owned { label, before, .. }) => ((**label).clone(), before.clone()),
        other => panic!("{other:?}"),
    }
}

fn state(brick: &Brick<RealDisk>) -> BrickState {
    let rig_header = Header {
        version: 1,
        kind: FrameKind::Request,
        resend: false,
        request: RequestId(0),
        epoch: Epoch(0),
        body_len: 0,
        payload_len: 0,
        content_crc: 0,
    };
    let hello = Request::Hello { version_min: 1, version_max: 9, features: 0 };
    match brick.handle(&rig_header, &hello, b"", 0, &mut Vec::new()) {
        Ok(Reply::Welcome { version: 1, brick, .. }) => *brick,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_epoch_wins_and_a_running_lease_is_respected() {
    let mut rig = Rig::new(Ownership::Recorded);
    assert_eq!(at(&rig, &own(1, 2, true), 0), Err(Fault::StaleEpoch(Epoch(1))));
    assert_eq!(owned(&at(&rig, &own(1, 1, false), 1000)).1, Some(holder(1)));
    assert!(
        matches!(at(&rig, &own(2, 2, false), 1000 + LEASE_MS - 1), Err(Fault::Held { age_ms, .. }) if age_ms == LEASE_MS - 1)
    );
    assert_eq!(at(&rig, &Request::Ping, 2000), Ok(Reply::Done));
    assert!(matches!(at(&rig, &own(2, 2, false), 1000 + LEASE_MS), Err(Fault::Held { .. })));
    assert_eq!(owned(&at(&rig, &own(2, 2, false), 2000 + LEASE_MS)).1, Some(holder(1)));
    assert_eq!(at(&rig, &Request::GetAttr { id: ROOT }, 9000), Err(Fault::StaleEpoch(Epoch(2))));
    assert_eq!(at(&rig, &Request::Ping, 9000), Err(Fault::StaleEpoch(Epoch(2))));
    rig.epoch = Epoch(2);
    assert!(at(&rig, &Request::GetAttr { id: ROOT }, 9000).is_ok());
    rig.epoch = Epoch(3);
    assert!(matches!(at(&rig, &Request::GetAttr { id: ROOT }, 9000), Err(Fault::Refused(_))));
    let (label, before) = owned(&at(&rig, &own(3, 3, true), 9001));
    assert_eq!((label.epoch, before), (Epoch(3), Some(holder(2))));
}

#[test]
fn an_epoch_outlives_the_server() {
    let mut rig = Rig::new(Ownership::Recorded);
    rig.own(7);
    rig.brick = open(rig.dir.path(), rig.ownership).expect("a brick");
    assert!(matches!(at(&rig, &Request::GetAttr { id: ROOT }, 50_000), Err(Fault::Refused(_))));
    assert!(matches!(at(&rig, &own(8, 2, false), 50_001), Err(Fault::Held { .. })));
    assert_eq!(at(&rig, &own(7, 2, true), 50_001), Err(Fault::StaleEpoch(Epoch(7))));
    owned(&at(&rig, &own(7, 1, false), 50_001));
    assert!(at(&rig, &Request::GetAttr { id: ROOT }, 50_001).is_ok());
}

#[test]
fn who_gave_up_can_be_followed_at_once() {
    let rig = Rig::new(Ownership::Recorded);
    assert_eq!(at(&rig, &Request::Disown, 10), Ok(Reply::Done));
    assert!(matches!(at(&rig, &Request::GetAttr { id: ROOT }, 11), Err(Fault::Refused(_))));
    assert!(matches!(state(&rig.brick), BrickState::Labelled { holder: None, .. }));
    assert_eq!(owned(&at(&rig, &own(2, 2, false), 12)).1, None);
}

/// Who waited for a lease learns what the last owner did meanwhile.
#[test]
fn a_new_owner_is_told_the_label_as_it_is_then() {
    let rig = Rig::new(Ownership::Recorded);
    let BrickState::Labelled { label: before, .. } = state(&rig.brick) else { panic!("no label") };
    let record = Membership { version: 5, ..membership() };
    rig.ok(Request::SetMembership { membership: record.clone() });
    let (label, holder_before) = owned(&at(&rig, &own(2, 2, true), 100));
    assert_eq!((label.membership, label.epoch), (record, Epoch(2)));
    assert_eq!((label.brick, holder_before), (before.brick, Some(holder(1))));
}

#[test]
fn membership_only_grows_in_version() {
    let mut rig = Rig::new(Ownership::Recorded);
    let set = |version| Request::SetMembership { membership: Membership { version, ..membership() } };
    rig.ok(set(5));
    rig.ok(set(5));
    assert!(matches!(rig.ask(set(4), b"").0, Err(Fault::Refused(_))));
    let other = Membership { version: 5, voters: vec![BRICK], ..membership() };
    assert!(matches!(rig.ask(Request::SetMembership { membership: other }, b"").0, Err(Fault::Refused(_))));
    rig.restart();
    let BrickState::Labelled { label, holder } = state(&rig.brick) else { panic!("no label") };
    assert_eq!((label.membership.version, label.epoch), (5, Epoch(1)));
    assert_eq!(holder.expect("held").0, super::holder(1));
}

/// Nothing that a client would trip over is kept, whoever asks for it.
#[test]
fn a_record_that_is_not_valid_is_refused() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let brick = open(dir.path(), Ownership::Recorded).expect("a brick");
    let bad = Membership { version: 9, slots: Vec::new(), ..membership() };
    let format = Request::Format { label: Box::new(Label { membership: bad.clone(), ..label() }) };
    let mut rig = Rig::new(Ownership::Recorded);
    assert!(matches!(rig.ask(Request::SetMembership { membership: bad }, b"").0, Err(Fault::Refused(_))));
    rig.brick = brick;
    assert!(matches!(rig.ask(format, b"").0, Err(Fault::Refused(_))));
    assert_eq!(state(&rig.brick), BrickState::Empty { brick: BRICK });
}

#[test]
fn only_empty_directories_are_formatted() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
    std::fs::create_dir(dir.path().join("lost+found")).expect("made");
    let brick = open(dir.path(), Ownership::Recorded).expect("a brick");
    assert_eq!(state(&brick), BrickState::Empty { brick: BRICK });
    std::fs::write(dir.path().join("precious"), b"x").expect("written");
    let brick = open(dir.path(), Ownership::Recorded).expect("opens");
    assert!(matches!(state(&brick), BrickState::Unusable { why } if why.contains("precious")));
    let rig_like = Request::Format { label: Box::new(label()) };
    let rig = Rig::new(Ownership::Recorded);
    assert!(matches!(brick.handle(&rig.header(), &rig_like, b"", 0, &mut Vec::new()), Err(Fault::Refused(_))));
    assert!(!dir.path().join(".net_raid").exists());
    rig.ok(rig_like);
    let other = Label { volume: VolumeId([1; 16]), ..label() };
    assert!(matches!(rig.ask(Request::Format { label: Box::new(other) }, b"").0, Err(Fault::Refused(_))));
}

#[test]
fn an_interrupted_format_can_be_repeated() {
    let rig = Rig::new(Ownership::Recorded);
    for file in ["label.0", "label.1"] {
        std::fs::remove_file(rig.path(".net_raid").join(file)).expect("removed");
    }
    std::fs::write(rig.path(".net_raid/label.new"), b"half").expect("written");
    let brick = open(rig.dir.path(), Ownership::Recorded).expect("a brick");
    assert_eq!(state(&brick), BrickState::Empty { brick: BRICK });
    let format = Request::Format { label: Box::new(label()) };
    assert_eq!(brick.handle(&rig.header(), &format, b"", 0, &mut Vec::new()), Ok(Reply::Done));
}

#[test]
fn root_serves_a_recorded_brick_as_recorded_and_users_no_native_one() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut rig = Rig::new(Ownership::Recorded);
    rig.ownership = Ownership::Native;
    rig.restart();
    rig.change(rig.create(ROOT, "p", 10, Kind::Fifo));
    assert!(std::fs::metadata(rig.path("p")).expect("there").is_file());
    let rig = Rig::new(Ownership::Native);
    assert!(matches!(open(rig.dir.path(), Ownership::Recorded), Err(OpenError::NeedsRoot)));
}

#[test]
fn a_directory_is_served_once() {
    let rig = Rig::new(Ownership::Recorded);
    let (first, second) = (RealDisk::open(rig.dir.path()), RealDisk::open(rig.dir.path()));
    let (first, second) = (first.expect("opens"), second.expect("opens"));
    first.lock().expect("free");
    assert!(matches!(second.lock(), Err(crate::disk::LockError::Busy)));
    drop(first);
    second.lock().expect("free again");
}

#[test]
fn versions_without_overlap_are_refused() {
    let rig = Rig::new(Ownership::Recorded);
    let hello = Request::Hello { version_min: 2, version_max: 3, features: 0 };
    assert_eq!(rig.ask(hello, b"").0, Err(Fault::Version { min: 1, max: 1 }));
}

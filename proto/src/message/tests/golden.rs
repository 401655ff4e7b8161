//! The handshake, frozen: whatever version two builds speak, they can always say so to each other.

use super::*;
use crate::frame::{FrameKind, HEADER_LEN, Header, seal};
use crate::ids::RequestId;
use crate::layout::Level;
use crate::membership::{Ownership, SlotRecord, SlotState};

const PAGE: &str = include_str!("../../../../docs/protocol.md");

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The bytes of the code block below a heading of the page.
fn on_page(heading: &str) -> Vec<u8> {
    let after = PAGE.split(&format!("\n#### {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let block = after.split("```").nth(1).unwrap().trim_start_matches("text");
    block.lines().flat_map(|line| hex(line.split('#').next().unwrap())).collect()
}

fn header(kind: FrameKind, request: u64) -> Header {
    Header {
        version: 1,
        kind,
        resend: false,
        request: RequestId(request),
        epoch: Epoch(0),
        body_len: 0,
        payload_len: 0,
        content_crc: 0,
    }
}

fn check_golden<T: Serialize>(heading: &str, header: Header, body: &T) {
    let ours = seal(header, body, BODY_MAX, &[b""]).unwrap();
    let golden = on_page(heading);
    let show = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    assert_eq!(show(&ours), show(&golden), "the handshake of old builds would break");
    assert_eq!(Header::decode(golden.first_chunk::<HEADER_LEN>().unwrap()).unwrap().kind, header.kind);
}

#[test]
fn hello() {
    let hello = Request::Hello { version_min: 1, version_max: 1, features: 0 };
    check_golden("Hello", header(FrameKind::Request, 1), &hello);
}

#[test]
fn welcome_of_an_empty_brick() {
    let brick = Box::new(BrickState::Empty { brick: BrickId([0xb1; 16]) });
    let answer: Answer = Ok(Reply::Welcome { version: 1, features: 0, brick });
    check_golden("Welcome of an empty brick", header(FrameKind::Answer, 1), &answer);
}

#[test]
fn welcome_of_a_member() {
    let slot = |id, state| SlotRecord { brick: BrickId([id; 16]), state };
    let membership = Membership {
        version: 2,
        level: Level::Raid1,
        slots: vec![slot(0xb1, SlotState::Current), slot(0xb2, SlotState::Stale { since: Generation(8) })],
        voters: vec![BrickId([0xb1; 16])],
        formers: Vec::new(),
    };
    let label = Label {
        volume: VolumeId([0xaa; 16]),
        name: "STORAGE1".into(),
        brick: BrickId([0xb1; 16]),
        ownership: Ownership::Native,
        epoch: Epoch(5),
        complete: Generation(9),
        membership,
    };
    let holder = Holder { host: "pc".into(), pid: 77, started_ticks: 78, boot: "id".into() };
    let brick = Box::new(BrickState::Labelled { label, holder: Some((holder, 250)) });
    let answer: Answer = Ok(Reply::Welcome { version: 1, features: 0, brick });
    check_golden("Welcome of a member", header(FrameKind::Answer, 1), &answer);
}

#[test]
fn no_common_version() {
    let answer: Answer = Err(Fault::Version { min: 1, max: 1 });
    check_golden("No common version", header(FrameKind::Answer, 1), &answer);
}

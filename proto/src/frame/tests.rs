//! Headers: every field in its place, every damage noticed.

use proptest::prelude::*;

use super::*;
use crate::limits::BODY_MAX;
use crate::message::Request;

const PAGE: &str = include_str!("../../../docs/protocol.md");

fn header() -> impl Strategy<Value = Header> {
    let numbers = any::<(u64, u64)>();
    let lengths = (0..=PAGE_BODY_MAX as u32, 0..=PAYLOAD_MAX as u32, any::<u32>());
    (any::<u16>(), any::<bool>(), any::<bool>(), numbers, lengths).prop_map(
        |(version, request, resend, (id, epoch), (body_len, payload_len, content_crc))| Header {
            version,
            kind: if request { FrameKind::Request } else { FrameKind::Answer },
            resend,
            request: RequestId(id),
            epoch: Epoch(epoch),
            body_len,
            payload_len,
            content_crc,
        },
    )
}

fn zero() -> Header {
    Header {
        version: 0,
        kind: FrameKind::Request,
        resend: false,
        request: RequestId(0),
        epoch: Epoch(0),
        body_len: 0,
        payload_len: 0,
        content_crc: 0,
    }
}

/// Gives changed bytes a right checksum.
fn resealed(mut bytes: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    let crc = crc32c::crc32c(&bytes[..36]);
    bytes[36..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn there_and_back(header in header()) {
        prop_assert_eq!(Header::decode(&header.encode()).unwrap(), header);
    }

    #[test]
    fn every_flipped_bit_is_noticed(header in header()) {
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = Header::decode(&bytes).unwrap_err();
            prop_assert!(matches!(error, FrameError::Magic(_) | FrameError::HeaderCrc));
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::array::uniform32(any::<u8>())) {
        let mut bytes = [0; HEADER_LEN];
        bytes[4..36].copy_from_slice(&noise);
        bytes[..4].copy_from_slice(b"NRd1");
        let _ = Header::decode(&bytes);
        if let Ok(header) = Header::decode(&resealed(bytes)) {
            prop_assert_eq!(header.encode(), resealed(bytes));
        }
    }

    #[test]
    fn sealed_pieces_have_one_checksum(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..99), 0..5)) {
        let head = seal(zero(), &Request::Ping, BODY_MAX, &pieces).unwrap();
        let content = [&head[HEADER_LEN..], &pieces.concat()].concat();
        let header = Header::decode(head.first_chunk().unwrap()).unwrap();
        prop_assert_eq!(header.content_crc, crc32c::crc32c(&content));
        prop_assert_eq!((header.body_len + header.payload_len) as usize, content.len());
    }
}

#[test]
fn lengths_at_their_limits() {
    let lengths = |body_len: usize, payload_len: usize| {
        Header::decode(&Header { body_len: body_len as u32, payload_len: payload_len as u32, ..zero() }.encode())
    };
    assert!(lengths(PAGE_BODY_MAX, PAYLOAD_MAX).is_ok());
    for (body, payload) in
        [(PAGE_BODY_MAX + 1, 0), (0, PAYLOAD_MAX + 1), (u32::MAX as usize, 0), (0, u32::MAX as usize)]
    {
        assert!(matches!(lengths(body, payload), Err(FrameError::Length { .. })));
    }
}

#[test]
fn kinds_and_flags() {
    for kind in 0..=255 {
        for flags in 0..=255 {
            let mut bytes = zero().encode();
            (bytes[6], bytes[7]) = (kind, flags);
            let known = matches!(kind, 1 | 2) && flags <= 1;
            assert_eq!(Header::decode(&resealed(bytes)).is_ok(), known, "kind {kind} flags {flags}");
        }
    }
}

#[test]
fn seal_keeps_the_limits() {
    let payload = vec![0; PAYLOAD_MAX];
    assert!(seal(zero(), &Request::Ping, BODY_MAX, &[&payload]).is_ok());
    assert!(matches!(seal(zero(), &Request::Ping, BODY_MAX, &[&payload[..], &[0]]), Err(FrameError::Length { .. })));
    assert!(matches!(seal(zero(), &Request::Ping, 3, &[b""]), Err(FrameError::Body(CodecError::TooLong { .. }))));
}

/// Rows `| offset | bytes | field |` of a table.
fn rows(text: &str) -> Vec<(usize, usize, &str)> {
    let table = text.split("| offset | bytes | field |").nth(1).expect("the table").lines().skip(2);
    let rows = table.map(|line| line.trim_start_matches("//! ")).take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let mut cells = row.trim_matches(['|', ' ']).split(" | ");
        let mut next = || cells.next().expect("three cells");
        (next().parse().unwrap(), next().parse().unwrap(), next())
    })
    .collect()
}

#[test]
fn the_page_and_the_code_have_the_same_table() {
    let table = rows(PAGE);
    assert_eq!(table, rows(include_str!("../frame.rs")));
    let end = table.iter().fold(0, |at, &(offset, bytes, _)| {
        assert_eq!(offset, at);
        offset + bytes
    });
    assert_eq!(end, HEADER_LEN);
}

/// Changes one field at a time: the bytes that the table says change, and the checksum.
#[test]
fn fields_are_where_the_table_says() {
    let base = zero();
    let changed = [
        ("protocol version", Header { version: 0x0101, ..base }),
        ("kind", Header { kind: FrameKind::Answer, ..base }),
        ("flags", Header { resend: true, ..base }),
        ("request id", Header { request: RequestId(!0), ..base }),
        ("epoch", Header { epoch: Epoch(!0), ..base }),
        ("body length", Header { body_len: !0, ..base }),
        ("payload length", Header { payload_len: !0, ..base }),
        ("CRC-32C of body and payload", Header { content_crc: !0, ..base }),
    ];
    let table = rows(PAGE);
    assert_eq!(table.len(), changed.len() + 2, "magic and the header's own checksum are the others");
    for (field, header) in changed {
        let &(offset, len, _) = table.iter().find(|row| row.2.starts_with(field)).expect(field);
        let (before, after) = (base.encode(), header.encode());
        let differ: Vec<usize> = (0..36).filter(|&at| before[at] != after[at]).collect();
        assert_eq!(differ, (offset..offset + len).collect::<Vec<_>>(), "{field}");
    }
    // Least significant byte first.
    assert_eq!(Header { request: RequestId(1), ..base }.encode()[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
}

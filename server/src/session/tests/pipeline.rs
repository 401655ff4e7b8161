//! Many requests in flight.

use super::*;

#[tokio::test]
async fn a_slow_request_delays_no_fast_one() {
    let mut client = Client::welcome(SlowWork::Threads).await;
    client.send(1, &Request::Checkpoint { generation: Generation(1) }, &[]).await;
    for id in 2..50 {
        client.send(id, &echo(&id.to_string()), &[]).await;
        let (header, answer, _) = client.receive().await;
        assert_eq!((header.request, answer), (RequestId(id), Ok(Reply::Bytes(id.to_string().into()))));
    }
    client.context.service.open_gate();
    let (header, answer, _) = client.receive().await;
    assert_eq!((header.request, answer), (RequestId(1), Ok(Reply::Done)));
}

#[tokio::test]
async fn inline_work_is_answered_in_order() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    client.context.service.open_gate();
    client.send(1, &Request::Checkpoint { generation: Generation(1) }, &[]).await;
    client.send(2, &Request::Ping, &[]).await;
    assert_eq!(client.receive().await.0.request, RequestId(1));
    assert_eq!(client.receive().await.0.request, RequestId(2));
}

#[tokio::test]
async fn requests_that_come_together_are_all_answered() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    let together: Vec<u8> = (0..500).flat_map(|id| frame(id, &echo("together"), &[])).collect();
    client.stream.write_all(&together).await.unwrap();
    for id in 0..500 {
        assert_eq!(client.receive().await.0.request, RequestId(id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_slow_and_fast_loses_nothing() {
    let mut client = Client::welcome(SlowWork::Threads).await;
    client.context.service.open_gate();
    let (mut reader, mut writer) = split(std::mem::replace(&mut client.stream, duplex(1).0));
    let sender = tokio::spawn(async move {
        for id in 0..2000u64 {
            let request = if id % 3 == 0 { Request::Checkpoint { generation: Generation(1) } } else { read(id as u32) };
            writer.write_all(&frame(id, &request, &[])).await.unwrap();
        }
        writer
    });
    let mut missing: std::collections::BTreeSet<u64> = (0..2000).collect();
    while !missing.is_empty() {
        let mut bytes = [0; HEADER_LEN];
        reader.read_exact(&mut bytes).await.unwrap();
        let header = Header::decode(&bytes).unwrap();
        let mut content = vec![0; (header.body_len + header.payload_len) as usize];
        reader.read_exact(&mut content).await.unwrap();
        assert_eq!(crc32c::crc32c(&content), header.content_crc);
        assert!(missing.remove(&header.request.0));
    }
    drop((sender.await.unwrap(), reader));
    client.session.await.unwrap();
}

#[tokio::test]
async fn payloads_of_every_size_arrive_both_ways() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    for len in [0, 1, 4096, 8191, 8192, 8193, 65536, 300_000, 4 << 20] {
        let payload = counting(len);
        let bytes = frame(1, &Request::Release { id: ObjectId::ROOT }, &payload);
        let (mut reader, mut writer) = split(client.stream);
        let sender = tokio::spawn(async move {
            writer.write_all(&bytes).await.unwrap();
            writer
        });
        let mut answer = vec![0; HEADER_LEN + 8 + len];
        reader.read_exact(&mut answer).await.unwrap();
        assert!(answer.ends_with(&payload), "{len}");
        client.stream = reader.unsplit(sender.await.unwrap());
        client.send(2, &read(len as u32), &[]).await;
        assert_eq!(client.receive().await.2, payload);
    }
}

#[tokio::test]
async fn the_resend_flag_reaches_the_service() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    for resend in [false, true] {
        let mut flagged = header(1);
        flagged.resend = resend;
        client.stream.write_all(&sealed(flagged, &Request::ReadLink { id: ObjectId::ROOT }, &[])).await.unwrap();
        let (header, answer, _) = client.receive().await;
        assert_eq!(answer, Ok(Reply::Bytes(vec![u8::from(resend)])));
        assert!(!header.resend);
    }
}

#[tokio::test]
async fn a_fault_has_no_payload_and_a_monster_is_eio() {
    let mut client = Client::welcome(SlowWork::Inline).await;
    client.send(1, &Request::GetAttr { id: ObjectId::ROOT }, &[]).await;
    let (_, answer, payload) = client.receive().await;
    assert_eq!((answer, payload.len()), (Err(Fault::Errno(libc::ENOENT)), 0));
    client.send(2, &Request::Disown, &[]).await;
    assert_eq!(client.receive().await.1, Err(Fault::Errno(libc::EIO)));
    client.send(3, &read(u32::MAX >> 8), &[]).await;
    let (_, answer, payload) = client.receive().await;
    assert_eq!((answer, payload.len()), (Err(Fault::Errno(libc::EIO)), 0));
}

#[tokio::test]
async fn a_panic_is_answered_and_ends_the_connection() {
    for (request, slow) in [(Request::StatFs, SlowWork::Inline), (Request::PurgeOrphans, SlowWork::Threads)] {
        let mut client = Client::welcome(slow).await;
        client.send(7, &request, &[]).await;
        let (header, answer, _) = client.receive().await;
        assert!(matches!(answer, Err(Fault::Failed(_))));
        assert_eq!(header.request, RequestId(7));
        client.expect_end().await;
    }
}

#[tokio::test]
async fn work_in_flight_ends_before_the_session() {
    let mut client = Client::welcome(SlowWork::Threads).await;
    client.send(1, &Request::Checkpoint { generation: Generation(1) }, &[]).await;
    client.send(2, &Request::Ping, &[]).await;
    assert_eq!(client.receive().await.0.request, RequestId(2));
    client.stop.send_replace(true);
    tokio::task::yield_now().await;
    assert!(!client.session.is_finished());
    client.context.service.open_gate();
    let (header, answer, _) = client.receive().await;
    assert_eq!((header.request, answer), (RequestId(1), Ok(Reply::Done)));
    client.expect_end().await;
}

#[tokio::test]
async fn the_reply_to_a_client_that_is_gone_is_dropped() {
    let mut client = Client::welcome(SlowWork::Threads).await;
    client.send(1, &Request::Checkpoint { generation: Generation(1) }, &[]).await;
    client.send(2, &Request::Ping, &[]).await;
    client.receive().await.1.unwrap();
    drop(client.stream);
    client.context.service.open_gate();
    client.session.await.unwrap();
    assert_eq!(client.context.service.handled.load(Ordering::Relaxed), 3);
}

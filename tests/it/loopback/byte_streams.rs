//! Flows of bytes as streams of bytes.

use std::io::ErrorKind;

use bytes::Bytes;
use futures_lite::future::zip;
use futures_lite::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, copy};
use grinta_proto::{ByteReader, ByteStream, ByteWriter, Raw};
use grinta_tokio::Compat;

use super::World;

flow_stories! {
    what_is_written_is_read_however_it_is_cut,
    what_is_written_is_on_its_way_without_a_flush,
    an_empty_message_is_not_the_end,
    an_end_that_is_not_clean_is_an_error,
    a_writer_learns_that_nobody_reads,
    tokio_copies_there_and_back,
}

async fn what_is_written_is_read_however_it_is_cut(world: &World) {
    let sides = world.sides().await;
    let (sender, receiver) = sides.uni::<Bytes, _>(Raw).await;
    let sent = pattern();
    let write = async {
        let mut writer = ByteWriter::from(sender);
        assert_eq!(writer.write(b"").await.unwrap(), 0);
        let (small, large) = sent.split_at(100_000);
        for piece in small.chunks(37) {
            writer.write_all(piece).await.unwrap();
        }
        writer.write_all(large).await.unwrap();
        writer.close().await.unwrap();
        let error = writer.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    };
    let read = async {
        let mut received = Vec::new();
        let mut reader = ByteReader::from(receiver);
        assert_eq!(
            copy(&mut reader, &mut received).await.unwrap(),
            sent.len() as u64
        );
        assert!(received == sent);
    };
    zip(write, read).await;
}

async fn what_is_written_is_on_its_way_without_a_flush(world: &World) {
    let sides = world.sides().await;
    let (client, server) = sides.bidi::<Bytes, Bytes, _>(Raw).await;
    let (mut client, mut server) = (ByteStream::from(client), ByteStream::from(server));
    let ask = async {
        client.write_all(b"question\n").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        client.close().await.unwrap();
    };
    let answer = async {
        let mut question = String::new();
        server.read_line(&mut question).await.unwrap();
        assert_eq!(question, "question\n");
        server.write_all(b"answer").await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    };
    zip(ask, answer).await;
}

async fn an_empty_message_is_not_the_end(world: &World) {
    let sides = world.sides().await;
    let (mut sender, receiver) = sides.uni::<Bytes, _>(Raw).await;
    for message in [&b""[..], b"a", b"", b"b", b""] {
        sender.send(Bytes::from_static(message)).await.unwrap();
    }
    drop(sender);
    let mut received = String::new();
    let mut reader = ByteReader::from(receiver);
    reader.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "ab");
}

async fn an_end_that_is_not_clean_is_an_error(world: &World) {
    let sides = world.sides().await;
    let (mut sender, receiver) = sides.uni::<Bytes, _>(Raw).await;
    sender.send(Bytes::from_static(b"half")).await.unwrap();
    let mut reader = ByteReader::from(receiver);
    reader.read_exact(&mut [0; 4]).await.unwrap();
    sender.reset(1);
    let error = reader.read(&mut [0; 4]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn a_writer_learns_that_nobody_reads(world: &World) {
    let sides = world.sides().await;
    let (sender, receiver) = sides.uni::<Bytes, _>(Raw).await;
    drop(receiver);
    let mut writer = ByteWriter::from(sender);
    let error = loop {
        if let Err(error) = writer.write(&[0; 1000]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(
        writer.close().await.unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

async fn tokio_copies_there_and_back(world: &World) {
    let sides = world.sides().await;
    let (client, server) = sides.bidi::<Bytes, Bytes, _>(Raw).await;
    let echo = async {
        let (reader, writer) = ByteStream::from(server).split();
        let (mut reader, mut writer) = (Compat::new(reader), Compat::new(writer));
        tokio::io::copy_buf(&mut reader, &mut writer).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut writer)
            .await
            .unwrap();
    };
    let sent = pattern();
    let (reader, writer) = ByteStream::from(client).split();
    let write = async {
        let mut writer = Compat::new(writer);
        tokio::io::copy(&mut &sent[..], &mut writer).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut writer)
            .await
            .unwrap();
    };
    let read = async {
        let mut received = Vec::new();
        let mut reader = Compat::new(reader);
        tokio::io::copy(&mut reader, &mut received).await.unwrap();
        assert!(received == sent);
    };
    zip(echo, zip(write, read)).await;
}

/// Three mebibytes, no two pieces of which are alike.
fn pattern() -> Vec<u8> {
    (0..768 * 1024_u32).flat_map(u32::to_le_bytes).collect()
}

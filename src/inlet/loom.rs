//! A run that sends while its client reads, or leaves, in every order. A wake-up that is lost is a deadlock, which loom
//! reports.

use std::future::poll_fn;

use ::loom::{future::block_on, model, thread};
use bytes::Bytes;

use super::{Piece, Pieces, queue};

async fn read(pieces: &Pieces<()>) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(piece) = poll_fn(|cx| pieces.poll_next(cx)).await {
        match piece {
            Piece::Data(data) => read.extend(data),
            Piece::Joined(data) => read.extend(data),
            _ => panic!("nothing else was sent"),
        }
    }
    read
}

#[test]
fn a_client_reads_all_that_was_sent() {
    model(|| {
        let (run, client) = queue();
        let run = thread::spawn(move || {
            for piece in [&b"a"[..], b"b"] {
                run.send(Piece::Data(Bytes::from_static(piece)));
            }
        });
        assert_eq!(block_on(read(&client)), b"ab");
        run.join().unwrap();
    });
}

#[test]
fn a_client_that_leaves_keeps_nothing() {
    model(|| {
        let (run, client) = queue();
        let data = Bytes::from(vec![0; 8]);
        let sent = data.clone();
        let run = thread::spawn(move || run.send(Piece::<()>::Data(sent)));
        drop(client);
        run.join().unwrap();
        assert!(data.is_unique());
    });
}

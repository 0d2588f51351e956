//! The same through a server on loopback, and a client that only counts what it reads.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use axum::{
    Router,
    serve::{self, ListenerExt},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
};

use crate::{Cost, FRAME, Live, Load, clock::thread_time, key};

/// A server on a thread of its own, which lives as long as this process.
pub(crate) struct Server {
    address: SocketAddr,
    runtime: Handle,
}

impl Server {
    pub(crate) fn start(router: Router) -> Self {
        let (sender, receiver) = channel();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let server = Self { address: listener.local_addr().unwrap(), runtime: Handle::current() };
                sender.send(server).unwrap();
                // Otherwise the end of a response waits until its client has acknowledged the rest.
                let prompt = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
                serve::serve(prompt, router).await.unwrap();
            });
        });
        receiver.recv().unwrap()
    }

    pub(crate) fn play(&self, load: Load, round: usize) -> Cost {
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = vec![0; 256 << 10];
        let (start, mut live) = (self.time(), Live::new());
        for number in 0..load.requests {
            let key = key(round, number);
            let head = "POST /export HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3";
            let request = format!("{head}\r\nx-idempotency-key: {key}\r\n\r\nall");
            connection.write_all(request.as_bytes()).unwrap();
            read_response(&mut connection, &mut buffer, load.frames * FRAME, &mut live);
        }
        Cost { time: self.time() - start, live: live.most }
    }

    /// What the server's thread has had, in seconds: its runtime has no other.
    fn time(&self) -> f64 {
        let (sender, receiver) = channel();
        self.runtime.spawn(async move { sender.send(thread_time()).unwrap() });
        receiver.recv().unwrap().as_secs_f64()
    }
}

/// Reads up to the end of a chunked response, of which at least `length` bytes come.
fn read_response(connection: &mut TcpStream, buffer: &mut [u8], length: usize, live: &mut Live) {
    let (mut read, mut tail) = (0, Vec::new());
    loop {
        let count = connection.read(buffer).expect("the server goes on");
        assert!(read > 0 || buffer.starts_with(b"HTTP/1.1 200 "), "the handler does not answer");
        assert!(count > 0, "the response ended early");
        read += count;
        tail.extend_from_slice(&buffer[count.saturating_sub(5)..count]);
        tail.drain(..tail.len().saturating_sub(5));
        live.look();
        if read > length && tail == b"0\r\n\r\n" {
            return;
        }
    }
}

//! The link emulator on real sockets. Times are only ever checked from below: a busy machine is late, never early.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use mipro_telemetry::clock;
use mipro_testbed::link::{self, LinkAdmin, LinkState, Options, Profile, Protocol};
use mipro_testbed::s3;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::Server;

struct Link {
    addr: SocketAddr,
    admin: LinkAdmin,
    stop: CancellationToken,
    task: JoinHandle<Result<(), link::Error>>,
}

impl Link {
    async fn start(options: Options) -> Self {
        let options = Options { admin_listen: Some(([127, 0, 0, 1], 0).into()), ..options };
        let stop = CancellationToken::new();
        let (send, ready) = oneshot::channel();
        let task = tokio::spawn(link::run(options, |ready| send.send(ready).unwrap(), stop.clone()));
        let ready = ready.await.expect("the link starts");
        Self { addr: ready.addr, admin: LinkAdmin::new(ready.admin_addr.unwrap()), stop, task }
    }
}

/// A server that sends back what it gets, and closes when its client does.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

async fn ping(socket: &mut TcpStream) -> std::io::Result<Duration> {
    let started = clock::now();
    socket.write_all(b"ping").await?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(clock::now() - started)
}

fn rtt(milliseconds: u64) -> Profile {
    Profile { rtt_us: milliseconds * 1000, ..Profile::default() }
}

#[tokio::test]
async fn a_first_answer_costs_two_round_trips_and_a_later_one_one() {
    let link = Link::start(Options { profile: rtt(60), ..Options::new(echo().await, Protocol::Raw) }).await;
    let started = clock::now();
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    ping(&mut socket).await.unwrap();
    let first = clock::now() - started;
    assert!(first >= Duration::from_millis(120), "{first:?}");
    let second = ping(&mut socket).await.unwrap();
    assert!(second >= Duration::from_millis(60), "{second:?}");

    let status = link.admin.set_profile(&rtt(150)).await.unwrap();
    assert_eq!((status.state, status.profile), (LinkState::Open, rtt(150)));
    let slower = ping(&mut socket).await.unwrap();
    assert!(slower >= Duration::from_millis(150), "{slower:?}");
    let refused = link.admin.set_profile(&rtt(1_000_000)).await.unwrap_err().to_string();
    assert!(refused.contains("rtt_us is 1000000000: the most is 60000000"), "{refused}");
}

#[tokio::test]
async fn bandwidth_holds_for_each_direction_of_each_connection() {
    // 100 KB at 4 Mbit/s are 200 ms.
    let up = Profile { up_bits_per_second: Some(4_000_000), ..Profile::default() };
    let link = Link::start(Options { profile: up, ..Options::new(echo().await, Protocol::Raw) }).await;
    let transfer = || async {
        let mut socket = TcpStream::connect(link.addr).await.unwrap();
        let started = clock::now();
        socket.write_all(&[1; 100_000]).await.unwrap();
        socket.read_exact(&mut [0; 100_000]).await.unwrap();
        clock::now() - started
    };
    for took in join_all((0..3).map(|_| transfer())).await {
        assert!(took >= Duration::from_millis(200), "{took:?}");
    }
    let counts = link.admin.counts().await.unwrap();
    assert_eq!((counts.connections, counts.bytes_up, counts.bytes_down), (3, 300_000, 300_000));
}

#[tokio::test]
async fn closing_one_side_leaves_the_other_open() {
    let link = Link::start(Options { profile: rtt(10), ..Options::new(echo().await, Protocol::Raw) }).await;
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = socket.split();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let receive = async {
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(send, receive);
    assert!(received == sent, "{} of {} bytes came back, or others", received.len(), sent.len());
    while link.admin.counts().await.unwrap().connections_open > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_refuses_what_is_new_until_restored() {
    let link = Link::start(Options::new(echo().await, Protocol::Raw)).await;
    let mut old = TcpStream::connect(link.addr).await.unwrap();
    ping(&mut old).await.unwrap();
    assert_eq!(link.admin.cut().await.unwrap().state, LinkState::Cut);
    assert!(old.read(&mut [0; 4]).await.is_err(), "a cut is no proper end");
    let new = async { ping(&mut TcpStream::connect(link.addr).await?).await };
    new.await.unwrap_err();
    assert_eq!(link.admin.counts().await.unwrap().connections_refused, 1);
    assert_eq!(link.admin.restore().await.unwrap().state, LinkState::Open);
    ping(&mut TcpStream::connect(link.addr).await.unwrap()).await.unwrap();
    ping(&mut old).await.unwrap_err();
}

#[tokio::test]
async fn a_pause_holds_every_byte_and_loses_none() {
    let link = Link::start(Options::new(echo().await, Protocol::Raw)).await;
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    ping(&mut socket).await.unwrap();
    assert_eq!(link.admin.pause().await.unwrap().state, LinkState::Paused);
    socket.write_all(b"held").await.unwrap();
    let held = async {
        // The link has read the bytes; give it every chance to let them through.
        while link.admin.counts().await.unwrap().bytes_up < 8 {}
        link.admin.counts().await.unwrap();
    };
    let mut answer = [0; 4];
    tokio::select! {
        _ = socket.read_exact(&mut answer) => panic!("a paused link carried bytes"),
        () = held => {}
    }
    link.admin.restore().await.unwrap();
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"held");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset_and_is_counted() {
    let nowhere = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let link = Link::start(Options::new(nowhere, Protocol::Postgres)).await;
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    ping(&mut socket).await.unwrap_err();
    let counts = link.admin.counts().await.unwrap();
    assert_eq!((counts.upstream_failures, counts.connections_refused), (1, 0));
}

#[tokio::test]
async fn a_stop_ends_also_with_connections_open() {
    let options = Options { drain_deadline: Duration::ZERO, ..Options::new(echo().await, Protocol::Raw) };
    let link = Link::start(options).await;
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    ping(&mut socket).await.unwrap();
    link.stop.cancel();
    link.task.await.unwrap().unwrap();
    assert!(!matches!(socket.read(&mut [0; 4]).await, Ok(1..)), "the connection is gone");
    TcpStream::connect(link.addr).await.unwrap_err();
}

#[tokio::test]
async fn s3_requests_through_the_link_are_counted_as_the_server_counts_them() {
    let server = Server::start(s3::Options::default()).await;
    let link = Link::start(Options { profile: rtt(4), ..Options::new(server.addr, Protocol::Http) }).await;
    let store = server.client_at(link.addr);
    let key = Path::from("k");
    for round in 0..5 {
        store.put(&key, vec![round; 40_000].into()).await.unwrap();
        store.get(&key).await.unwrap().bytes().await.unwrap();
        store.head(&key).await.unwrap();
    }
    store.delete(&key).await.unwrap();
    let counts = link.admin.counts().await.unwrap();
    assert_eq!(counts.http_requests, server.admin.counts().await.unwrap().requests);
    assert_eq!((counts.http_requests.put, counts.http_requests.get, counts.http_requests.head), (5, 5, 5));
    assert_eq!((counts.connections, counts.connections_unreadable), (1, 0), "one connection, kept alive");
    assert!(counts.bytes_up > 200_000 && counts.bytes_down > 200_000, "{counts:?}");
}

/// A server of canned Postgres answers: refuses encryption, asks for nothing, and is ready after each sync or query.
async fn postgres() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        const READY: &[u8] = b"Z\0\0\0\x05I";
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; 8]).await.unwrap();
        socket.write_all(b"N").await.unwrap();
        let start_bytes = socket.read_u32().await.unwrap() as usize;
        socket.read_exact(&mut vec![0; start_bytes - 4]).await.unwrap();
        socket.write_all(b"R\0\0\0\x08\0\0\0\0").await.unwrap();
        socket.write_all(READY).await.unwrap();
        while let Ok(kind) = socket.read_u8().await {
            let bytes = socket.read_u32().await.unwrap() as usize;
            socket.read_exact(&mut vec![0; bytes - 4]).await.unwrap();
            if matches!(kind, b'Q' | b'S') {
                socket.write_all(READY).await.unwrap();
            }
        }
    });
    addr
}

#[tokio::test]
async fn postgres_round_trips_and_statements_are_counted() {
    let link =
        Link::start(Options { profile: rtt(4), ..Options::new(postgres().await, Protocol::Postgres) }).await;
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    // The request for encryption, and its refusal.
    socket.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'N');
    socket.write_all(b"\0\0\0\x13\0\x03\0\0user\0EQZQ\0\0").await.unwrap();
    socket.read_exact(&mut [0; 9 + 6]).await.unwrap();
    let exchanges: [&[u8]; 3] = [
        b"Q\0\0\0\x0dSELECT 1\0",
        b"P\0\0\0\x10\0SELECT 1\0\0\0S\0\0\0\x04",
        b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04",
    ];
    for exchange in exchanges {
        socket.write_all(exchange).await.unwrap();
        socket.read_exact(&mut [0; 6]).await.unwrap();
    }
    let counts = link.admin.counts().await.unwrap();
    assert_eq!((counts.postgres_statements, counts.postgres_round_trips), (2, 4));
    assert_eq!(counts.connections_unreadable, 0);
}

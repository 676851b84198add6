//! The two counters give the same counts however the bytes are cut.

use proptest::prelude::*;

use crate::httpd::Verb;
use crate::link::line::Direction;
use crate::link::tap::{Protocol, Seen, Tap};

type Turn = (Direction, Vec<u8>);

/// Feeds each turn in pieces of the given sizes, over and over.
fn feed(protocol: Protocol, turns: &[Turn], sizes: &[usize]) -> Vec<Seen> {
    let mut tap = Tap::new(protocol);
    let mut seen = Vec::new();
    let mut sizes = sizes.iter().copied().cycle();
    for (direction, bytes) in turns {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
            rest = later;
            match direction {
                Direction::Up => tap.client(piece, &mut |what| seen.push(what)),
                Direction::Down => tap.server(piece, &mut |what| seen.push(what)),
            }
        }
    }
    seen
}

/// A Postgres message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A Postgres message of the start, which has no kind.
fn start(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(u32::try_from(body.len() + 8).unwrap().to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

const SSL_REQUEST: u32 = 80_877_103;
const PROTOCOL_3: u32 = 196_608;

#[derive(Clone, Debug)]
enum Query {
    /// One message with its text.
    Simple(Vec<u8>),
    /// Parse, describe and sync; then bind, execute and sync: two round trips.
    Prepared(Vec<u8>),
    /// Two executes under one sync.
    Pipelined,
}

/// What tokio-postgres and a server say to each other, with the number of statements and round trips in it.
fn conversation(ssl: bool, queries: &[Query]) -> (Vec<Turn>, usize, usize) {
    use Direction::{Down, Up};
    let mut turns = Vec::new();
    if ssl {
        turns.push((Up, start(SSL_REQUEST, &[])));
        turns.push((Down, b"N".to_vec()));
    }
    turns.push((Up, start(PROTOCOL_3, b"user\0postgres\0database\0Q\0E\0\0")));
    turns.push((Down, message(b'R', &3_u32.to_be_bytes())));
    turns.push((Up, message(b'p', b"password\0")));
    let ready = message(b'Z', b"I");
    turns.push((
        Down,
        [message(b'R', &0_u32.to_be_bytes()), message(b'S', b"TimeZone\0Z\0"), ready.clone()].concat(),
    ));
    let (mut statements, mut round_trips) = (0, 1);
    for query in queries {
        match query {
            Query::Simple(text) => {
                turns.push((Up, message(b'Q', text)));
                turns.push((
                    Down,
                    [message(b'T', text), message(b'D', text), message(b'C', b"SELECT 1\0")].concat(),
                ));
                turns.push((Down, ready.clone()));
                statements += 1;
                round_trips += 1;
            }
            Query::Prepared(text) => {
                turns.push((Up, [message(b'P', text), message(b'D', b"S\0"), message(b'S', b"")].concat()));
                turns.push((Down, [message(b'1', b""), message(b't', text), ready.clone()].concat()));
                turns.push((
                    Up,
                    [message(b'B', text), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat(),
                ));
                turns.push((Down, [message(b'2', b""), message(b'D', text), ready.clone()].concat()));
                statements += 1;
                round_trips += 2;
            }
            Query::Pipelined => {
                let execute = message(b'E', b"\0\0\0\0\0");
                turns.push((Up, [execute.clone(), execute, message(b'S', b"")].concat()));
                turns.push((
                    Down,
                    [message(b'C', b"UPDATE 1\0"), message(b'C', b"UPDATE 1\0"), ready.clone()].concat(),
                ));
                statements += 2;
                round_trips += 1;
            }
        }
    }
    turns.push((Up, message(b'X', b"")));
    (turns, statements, round_trips)
}

fn query() -> impl Strategy<Value = Query> {
    let text =
        || proptest::collection::vec(prop_oneof![Just(b'Z'), Just(b'Q'), Just(0), any::<u8>()], 0..300);
    prop_oneof![text().prop_map(Query::Simple), text().prop_map(Query::Prepared), Just(Query::Pipelined)]
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

#[derive(Clone, Debug)]
struct Request {
    verb: &'static str,
    body: Body,
    expect: bool,
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} /bucket/key?x=GET HTTP/1.1\r\nHost: here\r\n", self.verb).into_bytes();
        if self.expect {
            bytes.extend(b"Expect: 100-continue\r\n");
        }
        match &self.body {
            Body::None => bytes.extend(b"\r\n"),
            Body::Length(body) => {
                bytes.extend(format!("content-length:{}\r\n\r\n", body.len()).bytes());
                bytes.extend(body);
            }
            Body::Chunked(chunks) => {
                bytes.extend(b"Transfer-Encoding: aws-chunked, chunked\r\n\r\n");
                for chunk in chunks {
                    bytes.extend(format!("{:X};signature=PUT\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\nx-trailer: DELETE / HTTP/1.1\r\n\r\n");
            }
        }
        bytes
    }
}

fn request() -> impl Strategy<Value = Request> {
    // Bodies that look like requests, so that a counter which loses the frame counts them.
    let bytes = || {
        prop_oneof![
            Just(b"GET / HTTP/1.1\r\n\r\n".repeat(3)),
            Just(b"0\r\n\r\nPUT / HTTP/1.1\r\n\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 1..200),
        ]
    };
    let body = prop_oneof![
        Just(Body::None),
        bytes().prop_map(Body::Length),
        proptest::collection::vec(bytes(), 0..4).prop_map(Body::Chunked),
    ];
    let verb =
        prop_oneof![Just("GET"), Just("HEAD"), Just("PUT"), Just("POST"), Just("DELETE"), Just("PATCH")];
    (verb, body, any::<bool>()).prop_map(|(verb, body, expect)| Request { verb, body, expect })
}

proptest! {
    #[test]
    fn postgres_counts_do_not_depend_on_how_bytes_are_cut(
        ssl in any::<bool>(),
        queries in proptest::collection::vec(query(), 0..6),
        sizes in proptest::collection::vec(1_usize..40, 1..10),
    ) {
        let (turns, statements, round_trips) = conversation(ssl, &queries);
        let seen = feed(Protocol::Postgres, &turns, &sizes);
        let count = |wanted| seen.iter().filter(|what| **what == wanted).count();
        prop_assert_eq!(count(Seen::Statement), statements);
        prop_assert_eq!(count(Seen::RoundTrip), round_trips);
        prop_assert_eq!(seen.len(), statements + round_trips);
    }

    #[test]
    fn http_counts_do_not_depend_on_how_bytes_are_cut(
        requests in proptest::collection::vec(request(), 0..8),
        sizes in proptest::collection::vec(1_usize..40, 1..10),
    ) {
        let turns = [(Direction::Up, requests.iter().flat_map(Request::bytes).collect())];
        let expected: Vec<_> = requests.iter().map(|request| Seen::Request(Verb::of(request.verb))).collect();
        prop_assert_eq!(feed(Protocol::Http, &turns, &sizes), expected);
    }

    #[test]
    fn no_bytes_break_a_counter(
        turns in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..10),
    ) {
        let direction = |up| if up { Direction::Up } else { Direction::Down };
        let turns: Vec<Turn> = turns.into_iter().map(|(up, bytes)| (direction(up), bytes)).collect();
        feed(Protocol::Postgres, &turns, &[7]);
        feed(Protocol::Http, &turns, &[7]);
    }
}

#[test]
fn bytes_that_can_not_be_read_are_said_to_be_so_once() {
    use Direction::{Down, Up};
    let unreadable = [Seen::Unreadable];
    let encrypted = [
        (Up, start(SSL_REQUEST, &[])),
        (Down, b"S".to_vec()),
        (Up, vec![0x16; 300]),
        (Down, b"Z\0\0\0\x05I".repeat(9)),
    ];
    assert_eq!(feed(Protocol::Postgres, &encrypted, &[3]), unreadable);
    assert_eq!(
        feed(Protocol::Postgres, &[(Down, b"HTTP/1.1 400 Bad".to_vec()), (Down, vec![0; 40])], &[40]),
        unreadable
    );
    let http = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    assert_eq!(feed(Protocol::Postgres, &[(Up, http)], &[1]), unreadable);
    for text in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT host:1 HTTP/1.1\r\n\r\n",
        "hello\r\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        assert_eq!(feed(Protocol::Http, &[(Up, text.into())], &[5]), unreadable, "{text}");
    }
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 80 << 10]].concat();
    assert_eq!(feed(Protocol::Http, &[(Up, endless)], &[1000]), unreadable);
    let upgrade = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec();
    assert_eq!(feed(Protocol::Http, &[(Up, upgrade)], &[9]), [Seen::Request(Verb::Get)]);
}

#[test]
fn a_cancel_request_is_no_statement() {
    let cancel = [(Direction::Up, start(80_877_102, &[0, 0, 0, 1, 0, 0, 0, 2]))];
    assert_eq!(feed(Protocol::Postgres, &cancel, &[4]), []);
}

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::Wire;
use crate::account::Class;

/// A server that gives the answers of each connection in turn, and closes it after its last. Gives the requests it saw.
async fn server(connections: Vec<Vec<&'static str>>) -> (Url, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a?b=c", listener.local_addr().unwrap()).parse().unwrap();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                seen.push(String::from_utf8_lossy(&request[..read]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        seen
    });
    (url, seen)
}

fn wire(url: &Url, body: &'static str) -> Wire {
    Wire::new(url, &Bytes::from_static(body.as_bytes()), Some("k"), "r", Duration::from_secs(20), 4).unwrap()
}

const FINE: &str = "HTTP/1.1 200 OK\r\nServer-Timing: total;dur=1\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
const CLOSING: &str = "HTTP/1.1 500 No\r\nconnection: close\r\n\r\nto the end";

#[tokio::test]
async fn a_connection_is_used_again() {
    let (url, seen) = server(vec![vec![FINE, CHUNKED, FINE]]).await;
    let wire = wire(&url, "");
    let first = wire.call().await;
    let answer = first.answer.unwrap();
    // Of a success only what is joined is kept.
    assert_eq!((answer.status, &answer.body[..], answer.headers.len()), (200, &b""[..], 1));
    assert_eq!(answer.headers["server-timing"], "total;dur=1");
    assert!(first.service_ns > 0);
    let second = wire.call().await.answer.unwrap();
    assert_eq!((second.status, &second.body[..]), (500, &b"abcde"[..]));
    assert_eq!(wire.call().await.answer.unwrap().status, 200);
    drop(wire);
    let seen = seen.await.unwrap();
    let host = url.authority();
    assert_eq!(seen[2], format!("GET /a?b=c HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer k\r\n\r\n"));
}

#[tokio::test]
async fn an_answer_ends_where_it_says() {
    // An interim answer, no body at all, trailers and a chunk's extension, a body in several reads' worth of chunks.
    for answer in [
        "HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 204 None\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nx: y\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: x, keep-alive\r\ncontent-length: 2\r\n\r\nok",
    ] {
        // The only connection there is: what one answer leaves unread would be the next one's beginning.
        let (url, seen) = server(vec![vec![answer, FINE]]).await;
        let wire = wire(&url, "");
        for _ in 0..2 {
            assert!(wire.call().await.answer.is_ok(), "{answer}");
        }
        assert_eq!(seen.await.unwrap().len(), 2, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_in_pieces_is_put_together() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in CHUNKED.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let answer = wire(&url, "").call().await.answer.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (500, &b"abcde"[..]));
    server.await.unwrap();
}

#[tokio::test]
async fn each_request_has_an_id_of_its_own_where_the_url_asks_for_it() {
    let (mut url, seen) = server(vec![vec![FINE, FINE]]).await;
    url.set_path("/{rollout}/x");
    url.set_query(Some("id={rollout}"));
    let wire = wire(&url, "{rollout}");
    for _ in 0..2 {
        wire.call().await.answer.unwrap();
    }
    let seen = seen.await.unwrap();
    assert!(seen[0].starts_with("POST /r-00000000/x?id=r-00000000 HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[1].starts_with("POST /r-00000001/x?id=r-00000001 HTTP/1.1\r\n"), "{}", seen[1]);
    assert!(
        seen.iter().all(|request| request.ends_with("\r\n\r\n{rollout}")),
        "the body stays as it is: {seen:?}"
    );
}

#[tokio::test]
async fn a_connection_that_ended_is_replaced() {
    // The second connection is needed because the answer says so, the third because the server went away in between.
    let (url, seen) = server(vec![vec![CLOSING], vec![FINE], vec![FINE]]).await;
    let wire = wire(&url, "{}");
    assert_eq!(&wire.call().await.answer.unwrap().body[..], b"to the end");
    for _ in 0..2 {
        assert_eq!(wire.call().await.answer.unwrap().status, 200);
    }
    let seen = seen.await.unwrap();
    assert!(seen.iter().all(|r| r.starts_with("POST /a?b=c ") && r.ends_with("\r\n\r\n{}")), "{seen:?}");
}

#[tokio::test]
async fn failures_go_to_their_classes() {
    let class = async |answer: &'static str| {
        let (url, _seen) = server(vec![vec![answer]]).await;
        wire(&url, "").call().await.answer.unwrap_err().class
    };
    assert_eq!(class("hello\r\n\r\n").await, Class::Invalid);
    assert_eq!(class("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await, Class::Read);
    assert_eq!(class("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok").await, Class::Invalid);
    assert_eq!(
        class("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok").await,
        Class::Invalid
    );
    assert_eq!(
        class("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+2\r\nok\r\n").await,
        Class::Invalid
    );
    assert_eq!(
        class("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nok\r\n").await,
        Class::Invalid
    );
    assert_eq!(class("").await, Class::Read);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let slow = Wire::new(&url, &Bytes::new(), None, "r", Duration::from_millis(50), 1).unwrap();
    let done = slow.call().await;
    assert_eq!((done.answer.unwrap_err().class, done.service_ns >= 50_000_000), (Class::Timeout, true));
    drop(listener);
    let refused = wire(&url, "").call().await.answer.unwrap_err();
    assert_eq!((refused.class, refused.exhausted), (Class::Connect, None), "{refused}");
}

#[test]
fn what_it_cannot_do_is_left_to_the_client() {
    let of = |url: &str, key: &str| {
        Wire::new(&url.parse().unwrap(), &Bytes::new(), Some(key), "r", Duration::from_secs(1), 1).is_some()
    };
    assert_eq!((of("http://h/", "k"), of("https://h/", "k"), of("http://h/", "k\n")), (true, false, false));
    assert!(of("http://[::1]:80/", "k"));
}

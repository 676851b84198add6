use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ANSWER, NullServer, request_end};

#[test]
fn a_request_ends_with_its_body() {
    assert_eq!(request_end(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET"), Some(27));
    assert_eq!(request_end(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), None);
    assert_eq!(request_end(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), Some(41));
    assert_eq!(request_end(b"GET / HTTP/1.1\r\nhost: a\r\n"), None);
}

#[tokio::test]
async fn every_request_is_answered_also_when_they_come_together() {
    let server = NullServer::start().await.unwrap();
    let address = (server.url.host_str().unwrap().to_owned(), server.url.port().unwrap());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answers = vec![0; ANSWER.len() * 2];
    stream.read_exact(&mut answers).await.unwrap();
    assert_eq!(answers, ANSWER.repeat(2));
    assert!(server.cpu().is_some_and(|cpu| !cpu.is_zero()));
    drop(server);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "it ends with its handle");
}

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::{Answer, Client};
use crate::account::{Class, Failure};

/// A server that reads a request, answers with these bytes, and closes (or keeps silent for ever).
async fn server(answer: Option<&'static [u8]>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                match answer {
                    Some(bytes) => socket.write_all(bytes).await.unwrap(),
                    None => std::future::pending().await,
                }
            });
        }
    });
    Url::parse(&format!("http://127.0.0.1:{port}/api/mipro/v1/secret")).unwrap()
}

async fn call(url: Url) -> Result<Answer, Failure> {
    let client = Client::new(Duration::from_millis(500), 1).unwrap();
    let done = client.call(client.get(url)).await;
    assert!(done.service_ns > 0);
    done.answer.and_then(Answer::success)
}

async fn failure(url: Url) -> Failure {
    let failure = call(url).await.unwrap_err();
    assert!(!failure.detail.contains("secret"), "{failure}");
    failure
}

#[tokio::test]
async fn a_closed_port_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(failure(url.parse().unwrap()).await.class, Class::Connect);
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout() {
    assert_eq!(failure(server(None).await).await.class, Class::Timeout);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_read_failure() {
    let cut = server(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")).await;
    assert_eq!(failure(cut).await.class, Class::Read);
    assert_eq!(failure(server(Some(b"")).await).await.class, Class::Read);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_tls_failure() {
    let mut url = server(Some(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")).await;
    url.set_scheme("https").unwrap();
    let failure = failure(url).await;
    assert_eq!(failure.class, Class::Tls, "{failure}");
}

#[tokio::test]
async fn statuses_fall_into_their_classes_with_what_the_body_says() {
    let openai = b"HTTP/1.1 429 Slow\r\ncontent-length: 34\r\n\r\n{\"error\": {\"message\": \"too many\"}}";
    let refused = failure(server(Some(openai)).await).await;
    assert_eq!((refused.class, refused.detail.as_str()), (Class::Http4xx, "answer 429: too many"));
    let detail = b"HTTP/1.1 503 Busy\r\ncontent-length: 18\r\n\r\n{\"detail\": \"busy\"}";
    let busy = failure(server(Some(detail)).await).await;
    assert_eq!((busy.class, busy.detail.as_str()), (Class::Http5xx, "answer 503: busy"));
    let moved = b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(failure(server(Some(moved)).await).await.class, Class::Invalid, "redirects are not followed");
}

#[tokio::test]
async fn a_body_of_another_form_is_invalid() {
    let answer = call(server(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")).await).await.unwrap();
    assert_eq!(answer.json::<Vec<u8>>(), Ok(vec![]));
    assert_eq!(answer.json::<String>().unwrap_err().class, Class::Invalid);
    let created =
        call(server(Some(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n[]")).await).await.unwrap();
    assert_eq!(created.json::<Vec<u8>>().unwrap_err().class, Class::Invalid, "the contract says 200");
}

//! The clean stop.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{PATIENCE, Rig, Scripted, chain, read_message};

#[tokio::test]
async fn a_rollout_in_flight_finishes_and_the_engine_saves() {
    let llm = Scripted::start().await;
    let mut rig = Rig::open(&llm.base_url).await;
    let system = rig.system().await;
    let chat = rig.chat(&system, "r1");
    let play = async {
        let mut asked = llm.next().await;
        rig.shutdown.cancel();
        // The stop is under way once new connections are refused.
        while TcpStream::connect(rig.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        asked.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        asked
    };
    let (response, _asked) = tokio::join!(chat, play);
    assert_eq!(response.status(), 200);
    let served = tokio::time::timeout(PATIENCE, &mut rig.served).await.unwrap().unwrap();
    assert!(served.is_ok(), "{served:?}");
    assert_eq!(rig.engine.shutdowns.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_rollout_that_takes_too_long_gets_503_and_the_stop_is_clean() {
    let llm = Scripted::start().await;
    let mut rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.shutdown_deadline_ms = 600;
    })
    .await;
    let system = rig.system().await;
    let play = async {
        let asked = llm.next().await;
        rig.shutdown.cancel();
        asked
    };
    let (response, _asked) = tokio::join!(rig.chat(&system, "r1"), play);
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["connection"], "close");
    assert!(response.headers().contains_key("retry-after"));
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "draining");
    let served = tokio::time::timeout(PATIENCE, &mut rig.served).await.unwrap().unwrap();
    assert!(served.is_ok(), "{served:?}");
    assert_eq!(rig.engine.shutdowns.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_endless_stream_is_cut_at_the_deadline() {
    let llm = Scripted::start().await;
    let mut rig = Rig::with(|options| {
        options.upstream = Some(llm.base_url.clone());
        options.shutdown_deadline_ms = 600;
    })
    .await;
    let system = rig.system().await;
    let play = async {
        let mut asked = llm.next().await;
        asked.begin_stream().await;
        asked.chunk("data: 1\n\n").await;
        asked
    };
    let (mut response, _asked) = tokio::join!(rig.chat(&system, "r1"), play);
    assert!(response.chunk().await.unwrap().is_some());
    rig.shutdown.cancel();
    assert!(response.chunk().await.is_err(), "cut, and not as if it had ended");
    let served = tokio::time::timeout(PATIENCE, &mut rig.served).await.unwrap().unwrap();
    assert!(served.is_ok(), "{served:?}");
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_stop_up() {
    let mut rig = Rig::with(|options| options.shutdown_deadline_ms = 60_000).await;
    let mut idle = TcpStream::connect(rig.address()).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(read_message(&mut idle).await.0.contains(" 200 "));
    let mut silent = TcpStream::connect(rig.address()).await.unwrap();
    // Once this third connection is answered, the second has been accepted as well.
    assert_eq!(rig.get("/health").await.0, 200);
    rig.shutdown.cancel();
    let served = tokio::time::timeout(PATIENCE, &mut rig.served).await;
    assert!(served.expect("the stop must not wait for idle connections").unwrap().is_ok());
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).await.unwrap(), 0);
    let _ = silent.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let options = mipro_service::config::Options { listen: address.clone(), ..Default::default() };
    let error = chain(&mipro_service::app::run(options, |_| {}, Default::default()).await.unwrap_err());
    assert!(error.starts_with(&format!("can't listen on {address}: ")), "{error}");
}

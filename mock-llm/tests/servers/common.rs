//! Starts the servers on free ports, in this process, and talks to them over real sockets.

use std::net::SocketAddr;

use mipro_mock_llm::{Error, llm, task_app};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running server; stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), Error>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.ended).await.unwrap().unwrap();
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) async fn start_llm(options: llm::Options) -> Server {
    let (ready, bound) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let options = llm::Options { listen: any_port(), ..options };
    let ended = tokio::spawn(llm::run(options, |address| ready.send(address).unwrap(), shutdown.clone()));
    Server { address: bound.await.unwrap(), shutdown, ended }
}

pub(crate) async fn start_task_app(options: task_app::Options) -> Server {
    let (ready, bound) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let options = task_app::Options { listen: any_port(), ..options };
    let ended =
        tokio::spawn(task_app::run(options, |address| ready.send(address).unwrap(), shutdown.clone()));
    Server { address: bound.await.unwrap(), shutdown, ended }
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A field of the plan header.
pub(crate) fn planned(response: &reqwest::Response, field: &str) -> Option<String> {
    let plan = response.headers().get("x-mock-plan")?.to_str().unwrap().to_owned();
    plan.split(';').find_map(|item| item.strip_prefix(field)?.strip_prefix('=').map(ToOwned::to_owned))
}

/// What follows each `data: ` of a stream.
pub(crate) fn data_lines(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

//! A running S3 server, and clients of it.

use std::net::SocketAddr;

use mipro_testbed::s3::{self, Options, S3Admin};
use object_store::aws::AmazonS3;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::objects;

/// A server that stops when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: S3Admin,
    options: Options,
    stop: CancellationToken,
    task: JoinHandle<Result<(), s3::Error>>,
}

impl Server {
    pub(crate) async fn start(options: Options) -> Self {
        let options = Options { admin_listen: Some(([127, 0, 0, 1], 0).into()), ..options };
        let stop = CancellationToken::new();
        let (send, ready) = oneshot::channel();
        let run = s3::run(options.clone(), |ready| send.send(ready).unwrap(), stop.clone());
        let task = tokio::spawn(run);
        let ready = ready.await.expect("the server starts");
        Self { addr: ready.addr, admin: S3Admin::new(ready.admin_addr.unwrap()), options, stop, task }
    }

    /// A client of the server, or of whatever stands before it.
    pub(crate) fn client_at(&self, addr: SocketAddr) -> AmazonS3 {
        objects::client(addr, &self.options.bucket, &self.options.access_key, &self.options.secret_key)
    }

    pub(crate) fn client(&self) -> AmazonS3 {
        self.client_at(self.addr)
    }

    pub(crate) async fn stop(mut self) -> Result<(), s3::Error> {
        self.stop.cancel();
        (&mut self.task).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

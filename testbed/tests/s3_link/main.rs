//! The S3 server and the link emulator over real sockets: one binary, since both are driven by the same S3 client.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod link_proxy;
#[path = "../support/objects.rs"]
mod objects;
mod s3_foreign_client;
mod s3_object_store;
mod support;

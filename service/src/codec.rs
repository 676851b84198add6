//! Events and states as bytes: protobuf messages, declared here with prost and numbered for ever.
//!
//! Rules for whoever changes a message: a number is never given a new meaning; a reader skips numbers that it doesn't know;
//! and since a reader that writes back would drop those, a change that older builds must not overlook raises `min_reader`,
//! and they then refuse ([`CodecError::Newer`]). Bytes are a function of the content: no maps, no clocks, no addresses.
//!
//! What has no fixed shape (candidates' content, a system's settings) is JSON inside, whose numbers read back to the last bit.

pub mod event;
pub mod state;

/// Why bytes are no events or no state. Says nothing of what stands in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer build, in a way that this one must not read.
    #[error(
        "needs a build that reads version {min_reader}, this one reads up to {reader}: start a newer build"
    )]
    Newer {
        /// What reading it takes.
        min_reader: u32,
        /// What this build has.
        reader: u32,
    },
    /// Not what this program writes.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    /// Other events than those asked for.
    #[error("holds other events: {found} from {found_seq}, where {expected} from {expected_seq} belong")]
    Misplaced {
        /// Events there are.
        found: u64,
        /// The first one's number.
        found_seq: u64,
        /// Events there should be.
        expected: u64,
        /// The first one's number as it should be.
        expected_seq: u64,
    },
}

/// Refuses what only newer builds may read.
fn admit(min_reader: u32, reader: u32) -> Result<(), CodecError> {
    if min_reader > reader { Err(CodecError::Newer { min_reader, reader }) } else { Ok(()) }
}

/// Reads a message. Where that fails because a newer build wrote it in another shape, that is what is said.
fn read<M: prost::Message + Default>(bytes: &[u8], reader: u32, what: &'static str) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|_| {
        let newer = <Head as prost::Message>::decode(bytes).map(|head| admit(head.min_reader, reader));
        newer.ok().and_then(Result::err).unwrap_or(CodecError::Damaged(what))
    })
}

/// What every message begins with; the rest is skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    /// The oldest reader that may read it.
    #[prost(uint32, tag = "2")]
    min_reader: u32,
}

#[cfg(test)]
pub(crate) mod tests;

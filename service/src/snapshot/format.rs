//! Stand-in until the format lands.
use bytes::Bytes;

use crate::system::{State, SystemId};

/// Stand-in.
#[derive(Debug)]
pub struct Packed {
    /// Stand-in.
    pub bytes: Bytes,
    /// Stand-in.
    pub checksum: [u8; 32],
    /// Stand-in.
    pub seq: u64,
    /// Stand-in.
    pub epoch: u64,
    /// Stand-in.
    pub raw_bytes: u64,
}

/// Stand-in.
#[derive(Debug)]
pub struct Expected {
    /// Stand-in.
    pub checksum: Option<[u8; 32]>,
    /// Stand-in.
    pub bytes: Option<u64>,
    /// Stand-in.
    pub system: SystemId,
}

/// Stand-in.
#[derive(Debug)]
pub struct Unpacked {
    /// Stand-in.
    pub state: State,
    /// Stand-in.
    pub epoch: u64,
    /// Stand-in.
    pub seq: u64,
}

/// Stand-in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// Stand-in.
#[must_use]
pub fn pack(state: &State, epoch: u64) -> Packed {
    let raw = serde_json::to_vec(state).unwrap_or_default();
    let mut bytes = format!("mipro.snap {epoch:016x}").into_bytes();
    bytes.extend(&raw);
    let inner = *blake3::hash(&bytes).as_bytes();
    bytes.extend(inner);
    let checksum = *blake3::hash(&bytes).as_bytes();
    Packed { checksum, seq: state.version, epoch, raw_bytes: raw.len() as u64, bytes: bytes.into() }
}

/// Stand-in.
///
/// # Errors
/// It is no such thing.
pub fn unpack(bytes: &[u8], expected: &Expected) -> Result<Unpacked, FormatError> {
    let bad = |what: &str| FormatError(what.to_owned());
    if expected.bytes.is_some_and(|n| n != bytes.len() as u64)
        || expected.checksum.is_some_and(|c| c != *blake3::hash(bytes).as_bytes())
    {
        return Err(bad("it is another object than the row names"));
    }
    let (body, sum) = bytes.split_last_chunk::<32>().ok_or_else(|| bad("short"))?;
    if blake3::hash(body).as_bytes() != sum {
        return Err(bad("checksum"));
    }
    let (head, raw) = body.split_first_chunk::<27>().ok_or_else(|| bad("short"))?;
    let epoch = std::str::from_utf8(&head[11..]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let state: State = serde_json::from_slice(raw).map_err(|_| bad("json"))?;
    if state.system_id != expected.system {
        return Err(bad("another system's"));
    }
    Ok(Unpacked { epoch: epoch.ok_or_else(|| bad("head"))?, seq: state.version, state })
}

//! Stand-in until the codec lands.
use crate::system::Recorded;

/// Stand-in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Stand-in.
pub fn encode(events: &[Recorded], out: &mut Vec<u8>) {
    out.extend(serde_json::to_vec(events).unwrap_or_default());
}

/// Stand-in.
///
/// # Errors
/// It is no such thing.
pub fn decode(payload: &[u8], first_seq: u64, count: u32) -> Result<Vec<Recorded>, CodecError> {
    let events: Vec<Recorded> = serde_json::from_slice(payload).map_err(|e| CodecError(e.to_string()))?;
    if events.len() != count as usize || events.first().is_none_or(|event| event.seq != first_seq) {
        return Err(CodecError("other events".to_owned()));
    }
    Ok(events)
}

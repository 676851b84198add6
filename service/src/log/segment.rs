//! Stand-in until the log of files lands.
use super::{Entry, ReadError};
use std::ops::ControlFlow;
use uuid::Uuid;
/// Stand-in.
///
/// # Errors
/// Always.
pub fn visit_bytes(
    _: &[u8],
    _: Option<Uuid>,
    _: u64,
    _: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    Err(ReadError::Io { file: String::new(), reason: String::new() })
}

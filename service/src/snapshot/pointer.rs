//! The pointer: the row of the `systems` table that says which object is a system's newest state. One statement moves it, and
//! only where `epoch <= ours AND version < ours` ([`WriteRule::Advance`]): who has been overtaken can't move it back.

use mipro_telemetry::{Ledger, Operation, Stage};

use crate::store::{StoreError, SystemRow, SystemTable, WriteRule};

/// Moves the pointer forward, and gives whether it is now where `row` says. `false`: another hand has moved it as far or
/// farther, or under a higher epoch; what we have in memory is not what is stored.
///
/// The row is read back when the statement moved nothing, since an earlier try whose answer was lost may have moved it,
/// and when its answer was lost just now.
///
/// # Errors
/// The database is down or slow, and where the pointer is can't be told. Repeating it is safe: a move that did happen is
/// found by the next try.
pub async fn advance(table: &dyn SystemTable, row: &SystemRow, ledger: &Ledger) -> Result<bool, StoreError> {
    match table.upsert(row, WriteRule::Advance, ledger).await {
        Ok(true) => Ok(true),
        Ok(false) => names(table, row, ledger).await,
        // Not being there yet proves nothing: the statement may still be on its way. The next try will know.
        Err(error) => match names(table, row, ledger).await {
            Ok(true) => Ok(true),
            Ok(false) | Err(_) => Err(error),
        },
    }
}

/// [`advance`] behind the answers: the statements' own stages run on a ledger of their own and are shown in `ledger` as one,
/// `pointer.update`.
///
/// # Errors
/// As [`advance`].
pub(crate) async fn advance_behind(
    table: &dyn SystemTable,
    row: &SystemRow,
    ledger: &Ledger,
) -> Result<bool, StoreError> {
    let inner = Ledger::start(Operation::Background);
    let stage = ledger.enter(Stage::PointerUpdate);
    let moved = advance(table, row, &inner).await?;
    stage.done();
    let entries = inner.finish().entries;
    let round_trips = entries.iter().map(|entry| entry.round_trips).sum();
    let statements = entries.iter().filter(|e| e.stage == Stage::DbQuery).map(|e| e.count).sum();
    let bytes = entries.iter().map(|entry| entry.bytes).sum();
    ledger.count(Stage::PointerUpdate, statements, bytes, round_trips);
    Ok(moved)
}

/// Whether the stored row names what `row` names.
async fn names(table: &dyn SystemTable, row: &SystemRow, ledger: &Ledger) -> Result<bool, StoreError> {
    let now = table.get(row.system_id, ledger).await?;
    Ok(now.is_some_and(|now| {
        (now.version, now.epoch, &now.state_ref) == (row.version, row.epoch, &row.state_ref)
    }))
}

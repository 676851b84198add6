use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::clock::Contexts;
use crate::store::{Blobs, RowMark, SystemTable};
use crate::system::{NewSystem, SystemSpec};

/// A table that answers at once: whatever waits waits for something else.
#[derive(Debug, Default)]
struct OneRow(Mutex<Option<SystemRow>>);

#[async_trait]
impl SystemTable for OneRow {
    async fn get(&self, _system_id: Uuid, _ledger: &Ledger) -> Result<Option<SystemRow>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn upsert(&self, row: &SystemRow, _rule: WriteRule, _ledger: &Ledger) -> Result<bool, StoreError> {
        *self.0.lock().unwrap() = Some(row.clone());
        Ok(true)
    }

    async fn claim(&self, _: Uuid, _: RowMark, _: u64, _: Uuid, _: &Ledger) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}

    fn kind(&self) -> &'static str {
        "one row"
    }
}

fn keeper(offload: Offload) -> Keeper {
    let blobs = Blobs::over(Arc::new(InMemory::new()), Duration::from_secs(5));
    let stores = Stores { table: Arc::<OneRow>::default(), blobs };
    Keeper::new(stores, Recorders::new(), offload)
}

fn ledger() -> Ledger {
    Ledger::start(Operation::Unknown)
}

/// Takes the runtime's only blocking thread until what is given back is dropped.
fn occupied() -> std::sync::mpsc::SyncSender<()> {
    let (release, wait) = std::sync::mpsc::sync_channel::<()>(1);
    drop(tokio::task::spawn_blocking(move || wait.recv()));
    release
}

/// With stores that answer at once and a pool that is busy, a step that is done at the first poll did its work itself.
#[test]
fn documents_are_encoded_and_decoded_away_from_the_threads_that_answer() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(async {
        for (offload, waits) in [(Offload::Pool, true), (Offload::Inline, false)] {
            steps_wait(offload, waits).await;
        }
    });
}

async fn steps_wait(offload: Offload, waits: bool) {
    let spec = SystemSpec { model: "m".to_owned(), ..SystemSpec::default() };
    let new = NewSystem { system_id: Uuid::from_u128(1), org_id: Uuid::from_u128(2), name: None, spec };
    let (document, _) = Document::begin(&new, &Contexts::frozen(7, 1_700_000_000_000_000).context());
    let (keeper, ledger) = (keeper(offload), ledger());
    let mut attempt = Attempt::default();
    for step in ["through", "as original", "behind", "load"] {
        let work = async {
            match step {
                "through" => keeper.save_through(document.clone(), None, &ledger).await.unwrap(),
                "as original" => keeper.save_as_original(document.clone(), &ledger).await.unwrap(),
                "behind" => keeper.save_behind(document.clone(), &mut attempt).await.unwrap(),
                _ => {
                    let loaded = keeper.load(new.system_id, Access::Capability, &ledger).await.unwrap();
                    assert_eq!(loaded, document);
                }
            }
        };
        let mut work = std::pin::pin!(work);
        let release = occupied();
        let at_once = work.as_mut().now_or_never().is_some();
        assert_eq!(at_once, !waits, "{step}, {offload:?}");
        drop(release);
        if !at_once {
            work.await;
        }
    }
}

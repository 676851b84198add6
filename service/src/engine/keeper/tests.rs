use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::clock::Contexts;
use crate::store::{Blobs, SystemTable};
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

/// With stores that answer at once, an unoffloaded step would be done at the first poll.
#[tokio::test]
async fn documents_are_encoded_and_decoded_away_from_the_threads_that_answer() {
    let spec = SystemSpec { model: "m".to_owned(), ..SystemSpec::default() };
    let new = NewSystem { system_id: Uuid::from_u128(1), org_id: Uuid::from_u128(2), name: None, spec };
    let (document, _) = Document::found(&new, &Contexts::frozen(7, 1_700_000_000_000_000).context());
    for (offload, waits) in [(Offload::Pool, true), (Offload::Inline, false)] {
        let (keeper, ledger) = (keeper(offload), ledger());
        let mut attempt = Attempt::default();
        for step in ["through", "as original", "behind", "load"] {
            let work = async {
                match step {
                    "through" => drop(keeper.save_through(document.clone(), &ledger).await.unwrap()),
                    "as original" => keeper.save_as_original(document.clone(), &ledger).await.unwrap(),
                    "behind" => keeper.save_behind(document.clone(), &mut attempt).await.unwrap(),
                    _ => {
                        let loaded = keeper.load(new.system_id, Access::Capability, &ledger).await.unwrap();
                        assert_eq!(loaded, document);
                    }
                }
            };
            let mut work = std::pin::pin!(work);
            let at_once = work.as_mut().now_or_never().is_some();
            assert_eq!(at_once, !waits, "{step}, {offload:?}");
            if !at_once {
                work.await;
            }
        }
    }
}

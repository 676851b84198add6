//! Faults of cost, planted on purpose: one more database query, object or log sync a rollout, or a hundred allocations, so that it
//! can be shown that the count gates catch it, and which stage they name.
//!
//! `MIPRO_PLANT=db_query|s3_put|log_sync|allocations` plants one, with every reward. Only in builds with debug assertions; in a release
//! build nothing is read and nothing is planted.

use std::sync::Arc;

use crate::engine::Engine;
use crate::store::Stores;

/// The variable that plants.
pub const VARIABLE: &str = "MIPRO_PLANT";

/// What can be planted.
pub const FAULTS: [&str; 4] = ["db_query", "s3_put", "log_sync", "allocations"];

/// The engine with the planted fault, or as it is.
#[must_use]
pub fn wrap(engine: Arc<dyn Engine>, stores: &Stores) -> Arc<dyn Engine> {
    #[cfg(debug_assertions)]
    return planted::wrap(engine, stores);
    #[cfg(not(debug_assertions))]
    {
        let _ = stores;
        engine
    }
}

/// Whether the log's writer owes a planted sync; asking settles it.
#[inline]
#[must_use]
pub fn takes_log_sync() -> bool {
    #[cfg(debug_assertions)]
    return planted::OWED.swap(false, std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(debug_assertions))]
    false
}

#[cfg(debug_assertions)]
mod planted {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use mipro_telemetry::{Ledger, Stage};

    use crate::engine::{
        Access, Answer, BoxFuture, Engine, EngineError, Executed, Figures, Level, Question, UnrecordedStart,
    };
    use crate::store::Stores;
    use crate::store::blobs::PutRule;
    use crate::system::{Command, NewSystem, RolloutReply, SystemId};

    pub(super) static OWED: AtomicBool = AtomicBool::new(false);

    #[derive(Debug, Clone, Copy)]
    enum Fault {
        DbQuery,
        S3Put,
        LogSync,
        Allocations,
    }

    /// What a rollout allocates too often: a few in a hundred of what it does.
    const ALLOCATIONS: usize = 100;

    pub(super) fn wrap(engine: Arc<dyn Engine>, stores: &Stores) -> Arc<dyn Engine> {
        let Ok(name) = std::env::var(super::VARIABLE) else { return engine };
        let fault = match name.as_str() {
            "" => return engine,
            "db_query" => Fault::DbQuery,
            "s3_put" => Fault::S3Put,
            "log_sync" => Fault::LogSync,
            "allocations" => Fault::Allocations,
            other => panic!("{} names no fault: {other}; faults are {:?}", super::VARIABLE, super::FAULTS),
        };
        tracing::warn!(fault = name, "a fault is planted");
        Arc::new(Planted { engine, stores: stores.clone(), fault })
    }

    /// An engine that does one thing too much with every reward.
    struct Planted {
        engine: Arc<dyn Engine>,
        stores: Stores,
        fault: Fault,
    }

    impl Planted {
        async fn cost(&self, system: SystemId, ledger: &Ledger) -> Result<(), EngineError> {
            match self.fault {
                Fault::DbQuery => drop(self.stores.table.get(system, ledger).await?),
                Fault::S3Put => {
                    let (key, bytes) = (format!("planted/{system}"), Bytes::from_static(b"planted"));
                    self.stores.blobs.put(&key, bytes, PutRule::Overwrite, Stage::S3Put, ledger).await?;
                }
                Fault::LogSync => OWED.store(true, Ordering::Relaxed),
                Fault::Allocations => {
                    (0..ALLOCATIONS).for_each(|_| drop(std::hint::black_box(Box::new([0_u8; 64]))));
                }
            }
            Ok(())
        }
    }

    impl Engine for Planted {
        fn create<'a>(
            &'a self,
            new: NewSystem,
            ledger: &'a Ledger,
        ) -> BoxFuture<'a, Result<Executed, EngineError>> {
            self.engine.create(new, ledger)
        }

        fn execute<'a>(
            &'a self,
            system: SystemId,
            access: Access,
            command: Command,
            ledger: &'a Ledger,
        ) -> BoxFuture<'a, Result<Executed, EngineError>> {
            Box::pin(async move {
                if matches!(&command, Command::Report(report) if report.reward.is_some()) {
                    self.cost(system, ledger).await?;
                }
                self.engine.execute(system, access, command, ledger).await
            })
        }

        fn inspect<'a>(
            &'a self,
            system: SystemId,
            access: Access,
            question: Question,
            ledger: &'a Ledger,
        ) -> BoxFuture<'a, Result<Answer, EngineError>> {
            self.engine.inspect(system, access, question, ledger)
        }

        fn durability(&self) -> Level {
            self.engine.durability()
        }

        fn gives(&self, level: Level) -> bool {
            self.engine.gives(level)
        }

        fn best_known<'a>(
            &'a self,
            system: SystemId,
            access: Access,
            start: UnrecordedStart,
            ledger: &'a Ledger,
        ) -> BoxFuture<'a, Result<RolloutReply, EngineError>> {
            self.engine.best_known(system, access, start, ledger)
        }

        fn log_failed(&self) -> BoxFuture<'_, ()> {
            self.engine.log_failed()
        }

        fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
            self.engine.ready()
        }

        fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
            self.engine.shutdown()
        }

        fn figures(&self) -> Figures {
            self.engine.figures()
        }
    }
}

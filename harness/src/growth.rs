//! Systems that start with a past, so that what grows with it can be measured.

use uuid::Uuid;

use crate::bed::Bed;
use crate::ladder::{Keeping, RungPlan};
use crate::options::{Error, STOP_DEADLINE};

/// Makes systems and gives each its past rollouts, on the link as it is (the caller has made it free). A service that saves
/// behind does it (thousands of calls a second instead of one), is stopped, which saves everything, and leaves them to
/// the rung's own service. Where the rung keeps a log, the past is in its own form.
pub(crate) async fn systems_with_a_past(bed: &Bed<'_>, plan: &RungPlan) -> Result<Vec<Uuid>, Error> {
    let failed = |source| Error::Load { rung: plan.name, source };
    let keeping = match plan.keeping {
        Keeping::None | Keeping::Blob | Keeping::WriteThrough | Keeping::WriteBack => Keeping::WriteBack,
        Keeping::Logged | Keeping::Bounded => plan.keeping,
    };
    let quick = RungPlan { keeping, pooled: true, ..*plan };
    let service = bed.service(&quick).await?;
    let service = service.ok_or_else(|| Error::Unexpected("a write-back rung has a service".to_owned()))?;
    let load = bed.load(plan, Some(&service.url));
    let systems = mipro_loadgen::prepare(&load).await.map_err(failed)?;
    mipro_loadgen::history(&load, &systems, bed.options.history).await.map_err(failed)?;
    let stopped = bed.fleet.stop(&service.child, STOP_DEADLINE).await;
    if !stopped.is_clean() {
        return Err(Error::Unexpected(
            "the service that made the systems' past did not save it in time".to_owned(),
        ));
    }
    Ok(systems)
}

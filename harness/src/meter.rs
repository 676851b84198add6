//! Readings before and after a rung: what went over the wire, how often the log was synced, and what each process used.

use std::collections::BTreeMap;

use mipro_bench_reports::ProcessReport;
use mipro_testbed::process::Usage;
use mipro_testbed::stack::WireCounts;

use crate::bed::Bed;
use crate::options::Error;
use crate::roles::Server;
use crate::service_client::ServiceClient;

#[derive(Debug, Clone, Default)]
pub(crate) struct Processes(pub(crate) BTreeMap<String, ProcessReport>);

impl Processes {
    /// CPU since `before`; peaks as they are.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        for (name, report) in &mut self.0 {
            let earlier = before.0.get(name).map_or(0.0, |b| b.cpu_seconds);
            report.cpu_seconds = (report.cpu_seconds - earlier).max(0.0);
        }
        self
    }
}

#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) wire: WireCounts,
    pub(crate) processes: Processes,
    /// Since the service's start.
    pub(crate) log_syncs: u64,
}

impl Meter {
    pub(crate) async fn read(bed: &Bed<'_>, service: Option<&Server>) -> Result<Self, Error> {
        Ok(Self {
            wire: bed.stack.wire_counts().await?,
            processes: Self::processes(bed, service),
            log_syncs: Self::log_syncs(service).await?,
        })
    }

    /// To be read while the service runs; 0 without one.
    pub(crate) async fn log_syncs(service: Option<&Server>) -> Result<u64, Error> {
        match service {
            Some(service) => ServiceClient::new(&service.url)?.log_syncs().await,
            None => Ok(0),
        }
    }

    pub(crate) fn processes(bed: &Bed<'_>, service: Option<&Server>) -> Processes {
        let mut all = BTreeMap::new();
        let children = [("mock", bed.mock.child.usage()), ("task_app", bed.task_app.child.usage())];
        let service = service.map(|s| ("service", s.child.usage()));
        let stack = bed.stack.children().into_iter().map(|(name, child)| (name, child.usage_tree()));
        for (name, usage) in children.into_iter().chain(service).chain(stack) {
            if let Some(usage) = usage {
                let report =
                    ProcessReport { cpu_seconds: usage.cpu_s(), rss_max_bytes: usage.rss_peak_bytes };
                all.insert(name.to_owned(), report);
            }
        }
        if let Some(usage) = Usage::of_this_process() {
            let report = ProcessReport { cpu_seconds: usage.cpu_s(), rss_max_bytes: usage.rss_peak_bytes };
            all.insert("loadgen".to_owned(), report);
        }
        Processes(all)
    }
}

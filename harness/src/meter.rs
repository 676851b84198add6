//! Readings before and after a rung: what went over the wire, what the service counted, and what each process used.

use std::collections::BTreeMap;

use mipro_bench_reports::ProcessReport;
use mipro_testbed::process::Usage;
use mipro_testbed::stack::WireCounts;

use crate::bed::Bed;
use crate::options::Error;
use crate::roles::Server;
use crate::service_client::{Counted, ServiceClient};

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
    pub(crate) counted: Counted,
}

impl Meter {
    pub(crate) async fn read(bed: &Bed<'_>, service: Option<&Server>) -> Result<Self, Error> {
        Ok(Self {
            wire: bed.stack.wire_counts().await?,
            processes: Self::processes(bed, service),
            counted: Self::counted(service).await?,
        })
    }

    /// To be read while the service runs; nothing without one.
    pub(crate) async fn counted(service: Option<&Server>) -> Result<Counted, Error> {
        match service {
            Some(service) => ServiceClient::new(&service.url)?.counted().await,
            None => Ok(Counted::default()),
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

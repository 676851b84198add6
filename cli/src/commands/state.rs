//! `mipro state …`

mod json;
mod text;

use std::io::{self, Write as _};

use anyhow::Context as _;
use mipro_service::config::{Flags, Options};
use mipro_service::inspect::{ExportAsked, ImportAsked, Inspector, Listed, PAGE};
use uuid::Uuid;

use super::print;
use crate::args::{
    ExportArgs, Format, ImportArgs, ListArgs, NewId, RepairArgs, ShowStateArgs, StateArgs, StateCommand,
    StoreArgs, VerifyArgs,
};
use crate::exit::Code;

pub(crate) async fn run(args: StateArgs) -> anyhow::Result<Code> {
    match args.command {
        StateCommand::List(args) => list(&args).await,
        StateCommand::Show(args) => show(&args).await,
        StateCommand::Verify(args) => verify(&args).await,
        StateCommand::Export(args) => export(&args).await,
        StateCommand::Import(args) => import(&args).await,
        StateCommand::Repair(args) => repair(&args).await,
    }
}

fn options(args: &StoreArgs) -> anyhow::Result<Options> {
    let flags = Flags {
        config: args.config.clone(),
        data_dir: args.data_dir.clone(),
        database: args.database.clone(),
        blobs: args.blobs.clone(),
        ..Flags::default()
    };
    Options::load(&flags).context("the configuration is not good")
}

/// Does `work` on what is stored, and closes it.
async fn with<R>(
    args: &StoreArgs,
    work: impl AsyncFnOnce(&Inspector) -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    let inspector = Inspector::open(&options(args)?).await?;
    let done = work(&inspector).await;
    inspector.close().await;
    done
}

async fn list(args: &ListArgs) -> anyhow::Result<Code> {
    let write = async |inspector: &Inspector| {
        let mut shown = match args.format {
            Format::Text => text::list_head(),
            Format::Json => "{\"systems\":[".to_owned(),
        };
        let (mut after, mut left) = (args.after, args.limit.unwrap_or(u64::MAX));
        let mut first = true;
        loop {
            let limit = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
            let page = inspector.list(after, limit).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.row.system_id);
            left = left.saturating_sub(page.len() as u64);
            page.iter().for_each(|listed| push_listed(&mut shown, listed, args.format, &mut first));
            print(&std::mem::take(&mut shown))?;
        }
        if args.format == Format::Json {
            shown.push_str("]}\n");
        }
        print(&shown)?;
        Ok(Code::Ok)
    };
    with(&args.stores, write).await
}

fn push_listed(shown: &mut String, listed: &Listed, format: Format, first: &mut bool) {
    match format {
        Format::Text => shown.push_str(&text::listed(listed)),
        Format::Json => {
            if !std::mem::take(first) {
                shown.push(',');
            }
            shown.push_str(&json::listed(listed).to_string());
        }
    }
}

async fn show(args: &ShowStateArgs) -> anyhow::Result<Code> {
    let write = async |inspector: &Inspector| {
        let shown = if args.events {
            let events = inspector.events(args.system, args.since, args.limit as usize).await?;
            match args.format {
                Format::Text => text::events(&events),
                Format::Json => json::lines(&json::events(&events, args.since)),
            }
        } else {
            let shown = inspector.show(args.system).await?;
            match args.format {
                Format::Text => text::shown(&shown),
                Format::Json => json::lines(&json::shown(&shown)),
            }
        };
        print(&shown)?;
        Ok(Code::Ok)
    };
    with(&args.stores, write).await
}

async fn verify(args: &VerifyArgs) -> anyhow::Result<Code> {
    let write = async |inspector: &Inspector| {
        let (log, mut problems) = inspector.verify_log().await?;
        let mut verdict = Verdict { damaged: !problems.is_empty(), systems: 0, first: true };
        match args.format {
            Format::Text => print(&text::log(inspector.log().path(), &log, &problems))?,
            Format::Json => print("{\"systems\":[")?,
        }
        match args.system {
            Some(system) => verdict.look(inspector, system, args.format).await?,
            None => {
                let mut after = None;
                loop {
                    let page = inspector.page(after).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.system_id);
                    for row in &page {
                        verdict.look(inspector, row.system_id, args.format).await?;
                    }
                }
            }
        }
        let mut archive = None;
        if args.system.is_none() && !args.skip_archive {
            let (report, damaged) = inspector.verify_archive().await?;
            verdict.damaged |= !damaged.is_empty();
            if args.format == Format::Text {
                print(&text::archive(&report, &damaged))?;
            }
            archive = Some(report);
            problems.extend(damaged);
        }
        match args.format {
            Format::Text => print(&text::verdict(verdict.systems, verdict.damaged))?,
            Format::Json => print(&json::verified_end(&log, archive.as_ref(), &problems, !verdict.damaged))?,
        }
        Ok(if verdict.damaged { Code::Failed } else { Code::Ok })
    };
    with(&args.stores, write).await
}

/// What a verification has come to so far.
struct Verdict {
    damaged: bool,
    systems: u64,
    first: bool,
}

impl Verdict {
    async fn look(&mut self, inspector: &Inspector, system: Uuid, format: Format) -> anyhow::Result<()> {
        let report = inspector.verify(system).await?;
        self.damaged |= !report.problems.is_empty();
        self.systems += 1;
        match format {
            Format::Text => print(&text::verified(&report))?,
            Format::Json => {
                let comma = if std::mem::take(&mut self.first) { "" } else { "," };
                print(&format!("{comma}{}", json::verified(&report)))?;
            }
        }
        Ok(())
    }
}

async fn export(args: &ExportArgs) -> anyhow::Result<Code> {
    let asked = ExportAsked {
        system: args.system,
        out: args.out.clone(),
        at: args.at,
        with_history: args.with_history,
    };
    let exported = with(&args.stores, async |inspector| Ok(inspector.export(&asked).await?)).await?;
    print(&text::exported(&exported, &args.out))?;
    Ok(Code::Ok)
}

async fn import(args: &ImportArgs) -> anyhow::Result<Code> {
    let new_id = args.new_id.map(|id| match id {
        NewId::Fresh => Uuid::new_v4(),
        NewId::Given(id) => id,
    });
    let asked = ImportAsked { file: args.file.clone(), new_id, replace: args.replace };
    // Before the stores are opened, which makes them where there are none.
    mipro_service::inspect::carry::check(&asked.file)?;
    let inspector = Inspector::make(&options(&args.stores)?).await?;
    let imported = inspector.import(&asked).await;
    inspector.close().await;
    print(&text::imported(&imported?))?;
    Ok(Code::Ok)
}

async fn repair(args: &RepairArgs) -> anyhow::Result<Code> {
    let work = async |inspector: &Inspector| {
        let mut plan = inspector.plan().await?;
        let text = args.format == Format::Text;
        if text {
            print(&text::plan(&plan, inspector.log().path()))?;
        }
        if plan.is_empty() {
            if !text {
                print(&json::lines(&json::repaired(&plan, None)))?;
            }
            return Ok(Code::Ok);
        }
        if !args.apply || plan.loses() && !args.accept_loss {
            if text {
                say_what_is_missing(args, &plan)?;
            } else {
                print(&json::lines(&json::repaired(&plan, None)))?;
            }
            return Ok(Code::Failed);
        }
        let repaired = inspector.repair(&mut plan).await?;
        let shown = if text {
            text::repaired(&repaired)
        } else {
            json::lines(&json::repaired(&plan, Some(&repaired)))
        };
        print(&shown)?;
        Ok(Code::Ok)
    };
    with(&args.stores, work).await
}

fn say_what_is_missing(args: &RepairArgs, plan: &mipro_service::inspect::repair::Plan) -> io::Result<()> {
    let line = if args.apply {
        "nothing was changed: events would be lost; --accept-loss does it all the same"
    } else if plan.loses() {
        "nothing was changed; --apply --accept-loss does it, at the cost above"
    } else {
        "nothing was changed; --apply does it, and nothing is lost"
    };
    writeln!(io::stderr(), "{line}")
}

use mipro_bench_reports::text::{Style, render};
use mipro_bench_reports::{Validity, headline};

use crate::fixture;

fn plain(width: usize) -> Style {
    Style { color: false, width }
}

/// Text without ANSI colours.
fn uncolored(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

#[test]
#[expect(clippy::too_many_lines, reason = "the page is as long as it is")]
fn the_whole_page() {
    insta::assert_snapshot!(render(&fixture::report(), Style::default()), @"
    The service added 2,376 ms to a rollout before (blob) and 2.26 ms after (same-region), 1,050× less; a kill lost 0 of 60 acknowledged rewards before and 0 of 60 acknowledged rewards after; the LLM's part did not change (2,037 ms and 2,041 ms).

    run 20260302T101502Z-3f1c2ab, commit 3f1c2ab, seed 42, 10 rungs: bench --rungs all --link cross-region --llm seed
    --stack auto
    Example CPU 9000 @ 2.60GHz, 2 cores, 8.00 GiB, Debian GNU/Linux 12, kernel 6.1.0, 1.3 % of CPU time stolen. A 10 ms
    sleep overslept by 0.2 ms at p50 and 1.9 ms at p99.
    stack native: PostgreSQL 15.8, mipro testbed S3 0.1.0; link cross-region (DB RTT 70 ms, S3 100 ms, up 10 Mbit/s; fitted
    to the seed's table); LLM seed (1,300–2,800 ms, clipped lognormal); dataset built-in (77 intents); logs on ext4

    Ladder  ms per rollout; rollout and overhead are p50, stages are exclusive means
    rung           durability  rollout  overhead     db   s3    tpe    llm   log    cpu  queue  other  speedup
    direct         none          1,998         –      –    –      –      –     –      –      –      –        –
    blob           stored        4,379     2,376  1,739  675  0.057  2,037     0   1.16      0   1.51    1.00×
    pooled         stored        3,012     1,038    430  618  0.057  2,038     0   1.08      0   1.04    2.29×
    write-through  stored        2,514       519    215  312  0.057  2,038     0  0.476  0.002  0.727    4.58×
    write-back     memory        2,000     0.385      0    0  0.057  2,038     0  0.021  0.004  0.313   6,179×
    logged         disk          2,003      4.22      0    0  0.057  2,038  3.85  0.021  0.016  0.313     563×
    bounded        disk          2,003      4.22      0    0  0.057  2,038  3.85  0.021  0.016  0.313     563×
    one-call       disk          2,001      2.25      0    0  0.045  2,038  1.93  0.021  0.011  0.252   1,057×
    parallel       disk          2,010      2.26      0    0  0.047  2,041  1.92  0.022  0.016  0.303   1,050×
    same-region    disk          2,010      2.26      0    0  0.047  2,041  1.92  0.022  0.016  0.303   1,050×
    Overhead: what the service's calls add to a rollout, its LLM time taken out. Speedup: of the overhead, against the first
    rung that has one. –: not measured, or too few rollouts for a p50.
    Killed under load: of acknowledged rewards, write-back lost 41 of 60; nothing lost in blob, pooled, write-through,
    logged, bounded, one-call, parallel, same-region. Host gone with its disk, started elsewhere from database and object
    store: of acknowledged rewards, write-back lost 60 of 60, logged lost 60 of 60, bounded lost 57 of 60, one-call lost 60
    of 60, parallel lost 58 of 60, same-region lost 60 of 60; nothing lost in blob, pooled, write-through. A log on disk
    outlives the process and not the machine: what is neither in a snapshot nor archived by then goes with it. Only rungs
    that are `stored` keep everything there; a log shared between machines comes later.

    What each rung turns on  over the one before
    rung           turns on                                                                         rollouts  in flight
    direct         no service at all: the task app calls the mock LLM                                     40          1
    blob           nothing: whole state loaded and saved at every call, a new connection per query        40          1
    pooled         connection pool, prepared statements, kept-alive S3                                    40          1
    write-through  state cached in memory, saves still synchronous                                        40          1
    write-back     dirty flag and debounce: saved every 500 events or 30 s                                40          1
    logged         shard actors, event log with group commit, output gate                                 40          1
    bounded        history out of the hot state; binary snapshots                                         40          1
    one-call       reward and done in one status call                                                     40          1
    parallel       10 rollouts in flight                                                                 100         10
    same-region    the same on the same-region link                                                      100         10

    What each rung costs and loses  requests per rollout: waited for + in the background; rewards lost of those acknowledged
    rung           DB round trips  S3 requests  S3 bytes  LLM calls  log syncs  lost: killed  host gone  calls at once
    direct                  0 + 0        0 + 0       0 B          0          0             –          –              –
    blob                   24 + 0        6 + 0   282 KiB          1          0          0/60       0/60      988/1,000
    pooled                  6 + 0        6 + 0   282 KiB          1          0          0/60       0/60      981/1,000
    write-through           3 + 0        3 + 0   141 KiB          1          0          0/60       0/60        0/1,000
    write-back           0 + 0.03     0 + 0.03  1.42 KiB          1          0         41/60      60/60        0/1,000
    logged               0 + 0.03     0 + 0.03  1.42 KiB          1       2.71          0/60      60/60        0/1,000
    bounded              0 + 0.03     0 + 0.03  1.42 KiB          1       2.71          0/60      57/60        0/1,000
    one-call             0 + 0.03     0 + 0.03  1.42 KiB          1       2.71          0/60      60/60        0/1,000
    parallel             0 + 0.03     0 + 0.03  1.42 KiB          1       2.71          0/60      58/60        0/1,000
    same-region          0 + 0.03     0 + 0.03  1.42 KiB          1       2.71          0/60      60/60        0/1,000

    The seed's table beside ours  ms; ours is the p50 of rung blob
    operation      row                seed min  seed max  seed avg   ours  samples
    start_rollout  load_state (db)         200       740       350    287       40  inside
                   load_state (s3)          90       180       120    118       40  inside
                   save_state (s3)          90       125       100    104       40  inside
                   save_state (db)         200       420       300    287       40  inside
    llm            LLM API call          1,300     2,800     2,000  1,989       40  inside
    status_reward  load_state (db)         200       740       350    285       40  inside
                   load_state (s3)          90       180       120    117       40  inside
                   save_state (s3)         100     1,954       300    106       40  inside
                   save_state (db)         200       550       300    285       40  inside
    status_done    load_state (db)         200       370       280    285       40  inside
                   load_state (s3)          90       180       120    117       40  inside
                   save_state (s3)         100       370       200    106       40  inside
                   save_state (db)         200       430       300    285       40  inside
    rollout        total per rollout     3,490     7,590     5,500  4,379       40  inside
    The seed's rows do not add up to its total: they sum to 3,060–9,039 ms (average 4,840 ms), where it states 3,490–7,590
    ms (average 5,500 ms). All come from 3 rollouts, so a minimum or maximum is one sample.

    Attribution  mean ms per call; stages + other = total
    rung           operation           total    db   s3    tpe    llm    log    cpu  queue  other      sum  other %
    blob           start_rollout       2,844   582  224  0.034  2,037      0  0.395      0  0.626  = total    0.1 %
                   status_reward         805   579  225  0.011      0      0  0.384      0  0.444  = total    0.1 %
                   status_done           805   579  225  0.011      0      0  0.384      0  0.444  = total    0.1 %
    pooled         start_rollout       2,388   143  206  0.034  2,038      0  0.375      0  0.414  = total    0.1 %
                   status_reward         350   143  206  0.011      0      0  0.353      0  0.313  = total    0.1 %
                   status_done           350   143  206  0.011      0      0  0.353      0  0.313  = total    0.1 %
    write-through  start_rollout       2,214  71.7  104  0.034  2,038      0  0.173  0.002  0.303  = total    0.2 %
                   status_reward         176  71.7  104  0.011      0      0  0.151      0  0.212  = total    0.1 %
                   status_done           176  71.7  104  0.011      0      0  0.151      0  0.212  = total    0.1 %
    write-back     start_rollout       2,038     0    0  0.034  2,038      0  0.021  0.002  0.192  = total     77 %
                   status_reward       0.073     0    0  0.011      0      0      0  0.001  0.061  = total     83 %
                   status_done         0.073     0    0  0.011      0      0      0  0.001  0.061  = total     83 %
    logged         start_rollout       2,038     0    0  0.034  2,038  0.004  0.021  0.006  0.192  = total     75 %
                   status_reward        2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
                   status_done          2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
    bounded        start_rollout       2,038     0    0  0.034  2,038  0.004  0.021  0.006  0.192  = total     75 %
                   status_reward        2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
                   status_done          2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
    one-call       start_rollout       2,038     0    0  0.034  2,038  0.004  0.021  0.006  0.192  = total     75 %
                   status_reward_done   2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
    parallel       start_rollout       2,042     0    0  0.036  2,041      0  0.022  0.011  0.242  = total     78 %
                   status_reward_done   2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
    same-region    start_rollout       2,042     0    0  0.036  2,041      0  0.022  0.011  0.242  = total     78 %
                   status_reward_done   2.00     0    0  0.011      0   1.92      0  0.005  0.061  = total    3.0 %
    other's share of a rollout's overhead: blob 0.1 %, pooled 0.1 %, write-through 0.1 %, write-back 79 %, logged 7.4 %,
    bounded 7.4 %, one-call 11 %, parallel 13 %, same-region 13 %

    What the database says, and what the client waited  the seed saw 0.1 ms against 200–740 ms
    rung           the database says it spent, per statement  the client waited, per call  per rollout
    blob           select 0.061 ms, upsert 0.118 ms                                580 ms     1,739 ms
    pooled         select 0.061 ms, upsert 0.118 ms                                143 ms       430 ms
    write-through  select 0.061 ms, upsert 0.118 ms                               71.7 ms       215 ms

    How one system's stored state grows  bytes of one whole-state PUT; slope by least squares
    rung           history  smallest   largest  per rollout  PUT p50 ms  GET p50 ms
    blob                 0  9.19 KiB  59.6 KiB    +1.26 KiB         104         117
    pooled               0  9.19 KiB  59.6 KiB    +1.26 KiB         104         117
    write-through        0  9.19 KiB  59.6 KiB    +1.26 KiB         104         117

    Makespan  against the mock LLM's own planned delays, laid out on the lanes in flight
    parallel: 100 rollouts, 10 in flight: 20.4 s, planned 20.1 s, 1.02×
    same-region: 100 rollouts, 10 in flight: 20.4 s, planned 20.1 s, 1.02×

    Accounting  intended = ok + every error class + unsent + in flight at the end
    rung           intended   ok  not ok  sum    wall s  figures
    direct               40   40  0       holds    81.8  valid
    blob                 40   40  0       holds     179  valid
    pooled               40   40  0       holds     124  valid
    write-through        40   40  0       holds     103  valid
    write-back           40   40  0       holds    81.9  valid
    logged               40   40  0       holds    82.1  valid
    bounded              40   40  0       holds    82.1  valid
    one-call             40   40  0       holds    82.0  valid
    parallel            100  100  0       holds    20.5  valid
    same-region         100  100  0       holds    20.5  valid

    Checks
    outcome  check                                       figures
    pass     stages + other = total, every operation     largest difference 0.004 ms
    pass     client total ≥ server total, every request  1,140 requests compared
    ");
}

#[test]
fn the_first_line_is_the_headline_unbroken() {
    let report = fixture::report();
    let text = render(&report, plain(60));
    assert_eq!(text.lines().next().unwrap(), headline(&report));
}

#[test]
fn nothing_but_the_headline_is_wider_than_the_terminal() {
    for width in [80, 100, 120, 400] {
        for report in [fixture::report(), fixture::empty()] {
            let text = render(&report, plain(width));
            for line in text.lines().skip(1) {
                assert!(line.chars().count() <= width.min(120), "{} columns: {line}", line.chars().count());
                assert_eq!(line, line.trim_end());
            }
        }
    }
}

#[test]
fn color_only_when_asked_and_the_words_stay_the_same() {
    let report = fixture::report();
    let colored = render(&report, Style { color: true, width: 120 });
    assert!(colored.contains("\x1b["));
    assert_eq!(uncolored(&colored), render(&report, plain(120)));
}

#[test]
fn texts_cannot_reach_the_terminal_as_commands() {
    let text = render(&fixture::hostile(), plain(120));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn a_run_without_rungs_still_prints() {
    let text = render(&fixture::empty(), plain(120));
    assert!(text.starts_with("No rung went through the service"));
}

#[test]
fn what_went_wrong_is_named() {
    let mut report = fixture::report();
    let rung = &mut report.rungs[1];
    rung.accounting.ok -= 3;
    rung.accounting.timeout = 2;
    rung.validity =
        Validity { ok: false, reasons: vec!["the load generator lagged 12 ms at p99".to_owned()] };
    rung.operations.get_mut("status_done").unwrap().stage_mean_us.remove("s3.put");
    report.seed_rows[0].p50_ms = Some(900.0);
    report.seed_rows[0].inside = false;
    let text = render(&report, plain(120));
    for expected in
        ["blob !", "timeout 2", "BROKEN", "invalid: the load generator lagged 12 ms at p99", " off", "above"]
    {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn an_operation_without_stage_means_still_shows_its_rows() {
    let mut report = fixture::report();
    for operation in report.rungs[1].operations.values_mut() {
        operation.stage_mean_us.clear();
    }
    let text = render(&report, plain(120));
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("status_done  ") && line.contains("= total"))
        .unwrap();
    assert!(line.contains("579"), "{line}");
}

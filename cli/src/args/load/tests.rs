use std::time::Duration;

use clap::Parser as _;
use mipro_loadgen::{Arrivals, Rate, Schedule, Shape, Warmup};

use super::LoadArgs;
use crate::args::{Cli, Command};

fn parse(flags: &str) -> Result<LoadArgs, String> {
    let line = format!("mipro load --target http://h {flags}");
    match Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?.command {
        Command::Load(args) => Ok(args),
        _ => Err("not load".to_owned()),
    }
}

fn schedule(flags: &str) -> Schedule {
    parse(flags).unwrap().schedule().unwrap()
}

fn open(shape: Shape, rate: Rate, seed: u64) -> Schedule {
    Schedule::Open(Arrivals::new(shape, rate, seed).unwrap())
}

#[test]
fn a_rate_opens_the_model() {
    assert_eq!(schedule("-n 10"), Schedule::Closed);
    assert_eq!(schedule("-q 50"), open(Shape::Constant, Rate::Constant(50.0), 1));
    assert_eq!(schedule("-R 0.5/s --seed 7"), open(Shape::Constant, Rate::Constant(0.5), 7));
    let over = Duration::from_secs(30);
    assert_eq!(
        schedule("--rate 10:200 -z 30s --arrival poisson --latency-correction"),
        open(Shape::Poisson, Rate::Ramp { from: 10.0, to: 200.0, over }, 1)
    );
    let steps = Rate::Steps { rates: vec![50.0, 100.0, 200.0], each: over };
    assert_eq!(schedule("--steps 50,100,200@30s"), open(Shape::Constant, steps, 1));
}

#[test]
fn a_warm_up_is_a_count_or_a_time() {
    let warmup = |flags: &str| parse(flags).unwrap().warmup;
    assert_eq!(warmup(""), Warmup::Rollouts(0));
    assert_eq!((warmup("-w 10k"), warmup("-w 1M")), (Warmup::Rollouts(10_000), Warmup::Rollouts(1_000_000)));
    assert_eq!(warmup("-w 1m"), Warmup::Time(Duration::from_secs(60)));
}

#[test]
fn what_is_wrong_with_a_rate_is_said() {
    let told = |flags: &str| {
        let error = parse(flags).and_then(|args| args.schedule().map(drop).map_err(|e| e.to_string()));
        error.expect_err(flags).lines().next().unwrap_or_default().to_owned()
    };
    let rate = "is not a rate; say 50 (per second), 0.5, or 10:200";
    for (flags, why) in [
        ("-q fast", rate),
        ("-q 0", "a rate of 0 makes no rollout"),
        ("-q 0:0 -d 5s", "a rate of 0 makes no rollout"),
        ("-q 10:200", "--rate 10:200 needs --duration: over what time should it rise?"),
        ("-q 1e9", "a rate of 1000000000 is not between 0 and 10000000 per second"),
        ("--steps 50,100", "say how long each rate holds, as in 50,100,200@30s"),
        ("--steps 50,x@3s", rate),
        ("--steps 50@3", "`3` has no unit; say 3s or 3ms"),
        ("-w soon", "`soon` is neither a count (100, 10k) nor a time (30s, 500ms)"),
        ("-q 5 --steps 5@1s", "cannot be used with"),
        ("--speed 2x", "required arguments were not provided"),
        ("--replay f --speed fast", "`fast` is not a speed; say 2x or 0.5x"),
    ] {
        let told = told(flags);
        assert!(told.contains(why), "{flags}: {told}");
    }
}

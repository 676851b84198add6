//! Rates and warm-ups as people type them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mipro_loadgen::Warmup;

/// `50`, `0.5`, or `10:200`: per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RateArg {
    Constant(f64),
    Ramp { from: f64, to: f64 },
}

/// `50,100,200@30s`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepsArg {
    pub(crate) rates: Vec<f64>,
    pub(crate) each: Duration,
}

impl RateArg {
    /// The highest rate there is.
    pub(crate) fn highest(self) -> f64 {
        match self {
            Self::Constant(rate) => rate,
            Self::Ramp { from, to } => from.max(to),
        }
    }
}

impl fmt::Display for RateArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(f, "{rate}"),
            Self::Ramp { from, to } => write!(f, "{from}:{to}"),
        }
    }
}

impl fmt::Display for StepsArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates: Vec<String> = self.rates.iter().map(f64::to_string).collect();
        write!(f, "{}@{}s", rates.join(","), self.each.as_secs_f64())
    }
}

impl FromStr for RateArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None => per_second(text).and_then(above_0).map(Self::Constant),
            Some((from, to)) => {
                let (from, to) = (per_second(from)?, per_second(to)?);
                above_0(from.max(to))?;
                Ok(Self::Ramp { from, to })
            }
        }
    }
}

impl FromStr for StepsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rates, each) =
            text.split_once('@').ok_or("say how long each rate holds, as in 50,100,200@30s")?;
        let rates = rates.split(',').map(|rate| per_second(rate).and_then(above_0));
        Ok(Self { rates: rates.collect::<Result<_, _>>()?, each: crate::duration::parse(each)? })
    }
}

fn per_second(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let rate = text.strip_suffix("/s").unwrap_or(text);
    let number = rate.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
    number.ok_or_else(|| format!("`{text}` is not a rate; say 50 (per second), 0.5, or 10:200"))
}

fn above_0(rate: f64) -> Result<f64, String> {
    if rate > 0.0 { Ok(rate) } else { Err("a rate of 0 makes no rollout".to_owned()) }
}

/// `30s`, or `100`.
///
/// # Errors
/// Says what was expected.
pub(super) fn parse_warmup(text: &str) -> Result<Warmup, String> {
    match (crate::duration::parse_count(text), crate::duration::parse(text)) {
        (Ok(count), _) => Ok(Warmup::Rollouts(count)),
        (_, Ok(time)) => Ok(Warmup::Time(time)),
        _ => Err(format!("`{text}` is neither a count (100, 10k) nor a time (30s, 500ms)")),
    }
}

/// `2x`, `0.5x`, `2`.
///
/// # Errors
/// Says what was expected.
pub(super) fn parse_speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text);
    let speed = number.parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| format!("`{text}` is not a speed; say 2x or 0.5x"))
}

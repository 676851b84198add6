//! The gate against the watermark's rise and the log's end.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mipro_service::engine::{EngineError, Gate};
use mipro_service::log::Lsn;
use mipro_telemetry::{Ledger, Operation};
use tokio::sync::watch;
use tokio::task::coop::unconstrained;

use super::explore;

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Rise(u64),
    Close,
    /// The gate of that answer is made.
    Make(usize),
    /// Whoever waits looks whether it is open.
    Look(usize),
    /// Whoever waits goes away.
    Leave(usize),
}

type Wait = Pin<Box<dyn Future<Output = Result<(), EngineError>>>>;

/// Where the gate of the answer at LSN `index + 1` stands.
enum Place {
    Unmade,
    Waiting(Wait),
    Ended,
}

/// All orders of: three rises, the log's end, two gates made, looked at up to twice and left.
#[test]
fn a_gate_opens_for_what_is_durable_and_for_nothing_else() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let orders = runtime.block_on(async {
        explore(200_000, |choices| {
            let (sender, receiver) = watch::channel(Lsn(0));
            let mut sender = Some(sender);
            let mut places = [Place::Unmade, Place::Unmade];
            let mut looks = [0, 0];
            let mut durable = 0;
            loop {
                let mut acts = Vec::new();
                if sender.is_some() {
                    acts.push(Act::Close);
                    if durable < 2 {
                        acts.push(Act::Rise(durable + 1));
                    }
                }
                for (index, place) in places.iter().enumerate() {
                    match place {
                        Place::Unmade => acts.push(Act::Make(index)),
                        Place::Waiting(_) if looks[index] < 2 => {
                            acts.extend([Act::Look(index), Act::Leave(index)]);
                        }
                        _ => {}
                    }
                }
                if acts.is_empty() {
                    break;
                }
                match acts[choices.choose(acts.len())] {
                    Act::Rise(to) => {
                        durable = to;
                        sender.as_ref().unwrap().send_replace(Lsn(to));
                    }
                    Act::Close => sender = None,
                    Act::Make(index) => {
                        let until = Lsn(index as u64 + 1);
                        let gate = Gate::at(until, receiver.clone(), Duration::from_secs(60));
                        if gate.is_open() != (durable >= until.0) {
                            return Err(format!("a gate for {until:?} opens at {durable}"));
                        }
                        let wait = async move { gate.wait(&Ledger::start(Operation::Unknown)).await };
                        // Out of tokio's budget: nothing here returns to its scheduler.
                        places[index] = Place::Waiting(Box::pin(unconstrained(wait)));
                    }
                    Act::Look(index) => {
                        looks[index] += 1;
                        look(&mut places[index], index as u64 + 1, durable, sender.is_none())?;
                    }
                    Act::Leave(index) => places[index] = Place::Ended,
                }
            }
            // Whoever still waits learns the end; nobody is forgotten.
            drop(sender);
            for (index, place) in places.iter_mut().enumerate() {
                if matches!(place, Place::Waiting(_)) {
                    look(place, index as u64 + 1, durable, true)?;
                }
                if matches!(place, Place::Waiting(_)) {
                    return Err("a gate waits for a log that has ended".to_owned());
                }
            }
            Ok(())
        })
    });
    println!("the gate: {orders} interleavings");
}

/// Polls a waiting gate and checks what it says.
fn look(place: &mut Place, until: u64, durable: u64, ended: bool) -> Result<(), String> {
    let Place::Waiting(wait) = place else { return Ok(()) };
    let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let expected = if durable >= until { Some(true) } else { ended.then_some(false) };
    let found = match polled {
        Poll::Ready(result) => Some(result.is_ok()),
        Poll::Pending => None,
    };
    if found != expected {
        return Err(format!(
            "a gate for {until} at {durable}, log ended: {ended}: {found:?}, not {expected:?}"
        ));
    }
    if found.is_some() {
        *place = Place::Ended;
    }
    Ok(())
}

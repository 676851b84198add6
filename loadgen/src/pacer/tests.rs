use std::sync::mpsc::sync_channel;
use std::time::Duration;

use mipro_telemetry::clock;

use super::spawn;

#[test]
fn it_never_wakes_early_and_does_not_wait_for_the_past() {
    let (sender, receiver) = sync_channel(1);
    let stop = spawn(move |pacer| {
        let start = clock::now();
        let due: Vec<_> = (0..20).map(|k| start + Duration::from_micros(700) * k).collect();
        let woke: Vec<_> = due.iter().map(|due| pacer.wait_until(*due).unwrap()).collect();
        let early = due.iter().zip(&woke).any(|(due, woke)| woke < due);
        // All long past: no more than a look at the clock each, however busy the machine is.
        let past = pacer.wait_until(start).is_some();
        sender.send((early, past)).unwrap();
    });
    assert_eq!(receiver.recv().unwrap(), (false, true));
    stop.unwrap().stop();
}

#[test]
fn it_can_be_stopped_in_a_long_sleep() {
    let (sender, receiver) = sync_channel(1);
    let stop = spawn(move |pacer| {
        let woke = pacer.wait_until(clock::now() + Duration::from_secs(3_600));
        sender.send((woke, pacer.pause())).unwrap();
    });
    stop.unwrap().stop();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(30)).unwrap(), (None, false));
}

#[test]
fn a_run_that_is_dropped_ends_its_pacer() {
    let (sender, receiver) = sync_channel(1);
    drop(spawn(move |pacer| {
        let woke = pacer.wait_until(clock::now() + Duration::from_secs(3_600));
        sender.send(woke).unwrap();
    }));
    assert_eq!(receiver.recv_timeout(Duration::from_secs(30)).unwrap(), None);
}

#[test]
fn the_kernel_takes_the_lower_slack() {
    let slack = std::thread::spawn(|| {
        super::lower_timer_slack()?;
        let link = std::fs::read_link("/proc/thread-self")?;
        std::fs::read_to_string(format!(
            "/proc/{}/timerslack_ns",
            link.file_name().unwrap().to_str().unwrap()
        ))
    });
    assert_eq!(slack.join().unwrap().unwrap().trim(), "1");
}

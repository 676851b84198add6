use std::sync::Arc;

use super::*;
use crate::system::{NewCandidate, Status, StatusReport};

fn health(queued_bytes: u64) -> Health {
    Health { queued_bytes, queued_bytes_max: 1_000, ..Health::default() }
}

fn start() -> Command {
    Command::StartRollout { rollout_id: "r".to_owned(), messages: Arc::from([]) }
}

fn reward() -> Command {
    let (rollout_id, status) = ("r".to_owned(), Status::Reward);
    Command::Report(StatusReport { rollout_id, status, reward: Some(1.0), candidate_id: None })
}

#[test]
fn proposals_are_refused_first_and_rewards_last() {
    let candidate = Command::AddCandidate(NewCandidate::default());
    let behind = Err(EngineError::Log(LogTrouble::Behind));
    for (queued, proposals, rewards) in
        [(0, true, true), (799, true, true), (800, false, true), (949, false, true), (950, false, false)]
    {
        for command in [&start(), &candidate] {
            let expected = if proposals { Ok(()) } else { behind.clone() };
            assert_eq!(admit(&health(queued), command, 0), expected, "{queued}");
        }
        let expected = if rewards { Ok(()) } else { behind.clone() };
        assert_eq!(admit(&health(queued), &reward(), 0), expected, "{queued}");
    }
}

#[test]
fn one_systems_flood_is_its_own_trouble() {
    assert_eq!(admit(&health(300), &reward(), 249), Ok(()));
    let own = admit(&health(300), &reward(), 250);
    assert!(matches!(own, Err(EngineError::TooMuch { .. })), "{own:?}");
    let nothing_queues = Health::default();
    assert_eq!(admit(&nothing_queues, &start(), u64::MAX), Ok(()));
}

#[test]
fn what_a_system_has_queued_is_told_between_half_and_all() {
    let mut queued = Queued::default();
    queued.appended(Lsn(5), 10, Lsn(4));
    assert_eq!(queued.bytes(Lsn(4)), 10);
    assert_eq!(queued.bytes(Lsn(5)), 0, "durable");
    // Under steady load, where the newest append is never durable, what is durable is forgotten all the same.
    let mut most = 0;
    for lsn in 10..1_000_u64 {
        queued.appended(Lsn(lsn), 1, Lsn(lsn - 5));
        most = most.max(queued.bytes(Lsn(lsn - 5)));
    }
    assert!((5..=12).contains(&most), "{most} for 5 or 6 under way");
}

#[test]
fn one_system_gets_its_share_of_a_mailbox_and_no_more() {
    let lanes = Lanes::new(16);
    let (hot, other) = (SystemId::from_u128(1), SystemId::from_u128(2));
    for _ in 0..4 {
        lanes.enter(hot, true).unwrap();
    }
    assert!(matches!(lanes.enter(hot, true), Err(EngineError::TooMuch { .. })));
    lanes.enter(other, true).unwrap();
    lanes.enter(hot, false).unwrap();
    for _ in 0..2 {
        lanes.leave(hot);
    }
    lanes.enter(hot, true).unwrap();
}

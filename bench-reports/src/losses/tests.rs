use super::*;
use crate::schema::Rung;

fn rung(name: &str, durability: &str, loss: Option<[u64; 2]>) -> Rung {
    let count = |lost| Some(LossCount { acknowledged: 240, recovered: 240 - lost, lost });
    Rung {
        name: name.to_owned(),
        durability: durability.to_owned(),
        loss: loss.map(|[killed, gone]| Loss {
            process_killed: count(killed),
            host_gone: count(gone),
            concurrent_calls: None,
        }),
        ..Rung::default()
    }
}

fn said(rungs: Vec<Rung>) -> Option<String> {
    losses(&Report { rungs, ..Report::default() })
}

#[test]
fn losers_are_named_with_their_figures_and_keepers_without() {
    let rungs = vec![
        rung("direct", "none", None),
        rung("blob", "stored", Some([0, 0])),
        rung("write-back", "memory", Some([236, 240])),
        rung("bounded", "disk", Some([0, 231])),
    ];
    insta::assert_snapshot!(said(rungs).unwrap(), @"Killed under load: of acknowledged rewards, write-back lost 236 of 240; nothing lost in blob, bounded. Host gone with its disk, started elsewhere from database and object store: of acknowledged rewards, write-back lost 240 of 240, bounded lost 231 of 240; nothing lost in blob. A log on disk outlives the process and not the machine: what is neither in a snapshot nor archived by then goes with it. Only rungs that are `stored` keep everything there; a log shared between machines comes later.");
}

#[test]
fn what_was_not_measured_is_not_said() {
    assert_eq!(said(vec![rung("blob", "stored", None)]), None);
    assert_eq!(said(Vec::new()), None);
    insta::assert_snapshot!(said(vec![rung("blob", "stored", Some([0, 0]))]).unwrap(), @"Killed under load: nothing lost in blob. Host gone with its disk, started elsewhere from database and object store: nothing lost in blob.");
}

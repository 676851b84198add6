use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::*;

/// A store in the test's hand: fetches wait until they are let go, and give how many began.
struct Hand {
    begun: Arc<AtomicU64>,
    go: watch::Sender<u64>,
    fails: watch::Sender<bool>,
}

impl Hand {
    fn new() -> Self {
        Self { begun: Arc::default(), go: watch::Sender::new(0), fails: watch::Sender::new(false) }
    }

    /// The `n`th fetch waits until `go` has reached `n`.
    fn fetch(&self) -> impl Fn(Option<Arc<u64>>) -> Fetch<u64> + use<> {
        let (begun, go, fails) = (Arc::clone(&self.begun), self.go.clone(), self.fails.clone());
        move |_| {
            let n = begun.fetch_add(1, Ordering::SeqCst) + 1;
            let (mut go, fails) = (go.subscribe(), fails.clone());
            async move {
                go.wait_for(|go| *go >= n).await.expect("the hand is there");
                if *fails.borrow() {
                    return Err(StoreError::Unavailable {
                        what: "the object store",
                        reason: "asked to".into(),
                    });
                }
                Ok(Arc::new(n))
            }
            .boxed()
        }
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn one_fetch_serves_all_and_who_can_do_with_the_old_value_waits_for_none() {
    let (flight, hand) = (Flight::<u64>::default(), Hand::new());
    let fetch = hand.fetch();
    let both = async { tokio::join!(flight.get(false, &fetch), flight.get(false, &fetch)) };
    let mut both = std::pin::pin!(both);
    assert!(both.as_mut().now_or_never().is_none());
    hand.go.send_replace(1);
    let (one, two) = both.await;
    assert_eq!((*one.unwrap(), *two.unwrap(), hand.begun()), (1, 1, 1), "one for both");

    // A fetch hangs; whoever does not need it passes by, whoever asked after it began needs the next.
    let mut first = std::pin::pin!(flight.get(true, &fetch));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(flight.get(false, &fetch).now_or_never().map(Result::unwrap).as_deref(), Some(&1));
    let mut second = std::pin::pin!(flight.get(true, &fetch));
    assert!(second.as_mut().now_or_never().is_none());
    hand.go.send_replace(2);
    assert_eq!(*first.await.unwrap(), 2);
    assert!(second.as_mut().now_or_never().is_none(), "that one began before it asked");
    hand.go.send_replace(3);
    assert_eq!((*second.await.unwrap(), hand.begun()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_leaves_the_fetch_to_the_next() {
    let (flight, hand) = (Flight::<u64>::default(), Hand::new());
    let fetch = hand.fetch();
    assert!(flight.get(false, &fetch).now_or_never().is_none());
    hand.go.send_replace(1);
    assert_eq!((*flight.get(false, &fetch).await.unwrap(), hand.begun()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn while_none_can_be_made_the_old_one_is_served_for_ten_minutes() {
    let (flight, hand) = (Flight::<u64>::default(), Hand::new());
    let fetch = hand.fetch();
    hand.go.send_replace(u64::MAX);
    hand.fails.send_replace(true);
    assert!(flight.get(false, &fetch).await.is_err(), "there is none");
    hand.fails.send_replace(false);
    assert_eq!(*flight.get(false, &fetch).await.unwrap(), 2);
    hand.fails.send_replace(true);
    assert!(flight.get(true, &fetch).await.is_err(), "it would not do");
    tokio::time::advance(AGE_MAX).await;
    assert_eq!((*flight.get(false, &fetch).await.unwrap(), hand.begun()), (2, 4));
    assert_eq!(
        (*flight.get(false, &fetch).await.unwrap(), hand.begun()),
        (2, 4),
        "and not tried at once again"
    );
    tokio::time::advance(STALE_MAX - AGE_MAX).await;
    assert!(flight.get(false, &fetch).await.is_err(), "too old");
    hand.fails.send_replace(false);
    assert_eq!((*flight.get(false, &fetch).await.unwrap(), hand.begun()), (6, 6));
}

#[test]
fn keys_are_read_as_they_are_made() {
    let log = Uuid::from_u128(7);
    for (segment, suffix) in [(1, 0), (u64::MAX, 0xabcd), (42, u32::MAX)] {
        let name = Name { segment, suffix };
        assert_eq!(parse(&super::super::index_key(log, segment, suffix)), Some((name, true)));
        assert_eq!(parse(&super::super::segment_key(log, segment, suffix)), Some((name, false)));
    }
    for key in ["", "log/x/1.seg", "log/x/1.idx.tmp", "log/x/-1.idx", "log/x/1-.idx", "log/x/a.idx"] {
        assert_eq!(parse(key), None, "{key}");
    }
}

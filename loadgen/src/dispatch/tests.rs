use std::sync::Arc;

use super::{Backlog, Full};

#[tokio::test]
async fn arrivals_are_taken_in_order_and_to_the_last() {
    let backlog = Backlog::new(3);
    for number in 0..3 {
        backlog.push(number, number * 10, number * 10 + 1).unwrap();
    }
    assert_eq!(backlog.push(3, 0, 0), Err(Full), "bounded");
    assert_eq!(backlog.take().await.unwrap().number, 0);
    backlog.close();
    let second = backlog.take().await.unwrap();
    assert_eq!((second.number, second.intended_ns, second.released_ns), (1, 10, 11));
    assert_eq!(backlog.rest().len(), 1);
    assert_eq!(backlog.take().await, None);
}

#[tokio::test]
async fn who_waits_is_sent_away_at_the_end() {
    let backlog = Arc::new(Backlog::new(1));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let backlog = Arc::clone(&backlog);
            tokio::spawn(async move { backlog.take().await })
        })
        .collect();
    while backlog.idle() < 3 {
        tokio::task::yield_now().await;
    }
    backlog.close();
    for slot in waiting {
        assert_eq!(slot.await.unwrap(), None);
    }
    assert_eq!(backlog.idle(), 0);
}

#[tokio::test]
async fn a_free_slot_is_noticed_and_a_taken_one_is_not() {
    let backlog = Arc::new(Backlog::new(10));
    let slot = tokio::spawn({
        let backlog = Arc::clone(&backlog);
        async move { backlog.take().await }
    });
    while backlog.idle() == 0 {
        tokio::task::yield_now().await;
    }
    // One slot, two arrivals before it gets a chance to run: the second has none.
    backlog.push(0, 0, 0).unwrap();
    backlog.push(1, 0, 0).unwrap();
    assert!(slot.await.unwrap().unwrap().slot_free);
    assert!(!backlog.take().await.unwrap().slot_free);
}

#[tokio::test]
async fn giving_up_waiting_loses_nothing() {
    let backlog = Backlog::new(10);
    {
        let waiting = backlog.take();
        tokio::pin!(waiting);
        let ready =
            std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
        assert!(!ready);
        backlog.push(0, 0, 0).unwrap();
    }
    assert_eq!((backlog.idle(), backlog.take().await.unwrap().number), (0, 0));
}

use startline_protocol::ids::{Epoch, RunnerId};
use startline_protocol::state::Conclusion;
use startline_store::{COLLECTED, NewRunner};

use crate::bench::{Bench, at, hash, new_runner};

impl Bench {
    async fn expired(&self, before: i64) -> Vec<RunnerId> {
        self.expired_ephemeral_runners(at(before)).await.unwrap()
    }

    async fn stale(&self, before: i64) -> Vec<RunnerId> {
        self.stale_runners(at(before)).await.unwrap()
    }
}

pub(super) async fn ephemeral_runners_without_a_job_expire(bench: Bench) {
    let (one, two) = (bench.mayfly().await, bench.mayfly().await);
    bench.some_runner().await;
    assert_eq!(bench.expired(1).await, [], "they registered then, not before");
    assert_eq!(bench.expired(2).await, [one, two]);
    bench.touch_runners(vec![(one, at(100))]).await.unwrap();
    assert_eq!(bench.expired(2).await, [one, two], "to poll is not to have a job");
    bench.delete_runner(one, at(2)).await.unwrap();
    assert_eq!(bench.expired(2).await, [two]);
}

pub(super) async fn ephemeral_runners_with_a_job_do_not_expire(bench: Bench) {
    let (one, two) = (bench.mayfly().await, bench.mayfly().await);
    let (offered, running) = (bench.queued().await, bench.queued().await);
    bench.record_offer(offered, Epoch(1), one).await.unwrap();
    bench.acquire(running, Epoch(1), two, 1, at(20)).await.unwrap();
    assert_eq!(bench.expired(1000).await, []);
    bench.requeue(offered, Epoch(1), 1, 1, "not taken".to_owned(), at(25)).await.unwrap();
    bench.requeue(running, Epoch(1), 1, 1, "not delivered".to_owned(), at(25)).await.unwrap();
    assert_eq!(bench.expired(1000).await, [one, two], "they have not had one either");
}

pub(super) async fn runners_that_were_not_seen_for_long_are_stale(bench: Bench) {
    let (never, early, late) = (bench.some_runner().await, bench.some_runner().await, bench.some_runner().await);
    bench.mayfly().await;
    bench.touch_runners(vec![(early, at(50)), (late, at(100))]).await.unwrap();
    assert_eq!(bench.stale(1).await, []);
    assert_eq!(bench.stale(2).await, [never]);
    assert_eq!(bench.stale(50).await, [never]);
    assert_eq!(bench.stale(51).await, [never, early]);
    assert_eq!(bench.stale(1000).await, [never, early, late]);
    bench.delete_runner(never, at(2)).await.unwrap();
    assert_eq!(bench.stale(1000).await, [early, late]);
}

pub(super) async fn runners_with_a_job_are_not_stale(bench: Bench) {
    let (offered, one) = bench.offered().await;
    let (running, two) = bench.running().await;
    assert_eq!(bench.stale(1000).await, []);
    bench.conclude(offered, Epoch(5), Conclusion::Cancelled, "enough".to_owned(), at(30)).await.unwrap();
    assert_eq!(bench.stale(1000).await, [one]);
    bench.conclude(running, Epoch(5), Conclusion::Cancelled, "enough".to_owned(), at(30)).await.unwrap();
    assert_eq!(bench.stale(1000).await, [one, two]);
}

pub(super) async fn what_is_to_be_cleared_up_comes_in_bounded_parts(bench: Bench) {
    bench.token(1, |_| {}).await;
    let register = |number: u32| {
        let new = new_runner(&format!("runner-{number}"), 100 + number);
        bench.register_runner(hash(1), NewRunner { ephemeral: number.is_multiple_of(2), ..new }, at(1))
    };
    let answers: Vec<_> = (0..2 * (COLLECTED + 1)).map(register).collect();
    let mut ids = Vec::new();
    for answer in answers {
        ids.push(answer.await.unwrap().runner.id);
    }
    let most = usize::try_from(COLLECTED).unwrap();
    assert_eq!(bench.expired(2).await, ids.iter().copied().step_by(2).take(most).collect::<Vec<_>>());
    assert_eq!(bench.stale(2).await, ids.iter().copied().skip(1).step_by(2).take(most).collect::<Vec<_>>());
}

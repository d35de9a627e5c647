use startline_protocol::admin_api::GroupRequest;
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_store::{
    ActionsRunner, BegunJob, Error, NewRunner, NewScaleSet, RunnerRecord, ScaleSetChanges, ScaleSetRecord,
};

use crate::bench::{Bench, actions_runner, at, scale_set, scope, texts};

const ACME: &str = "organization:acme";

impl Bench {
    async fn set(&self, name: &str) -> ScaleSetRecord {
        self.create_scale_set(scale_set(name)).await.unwrap()
    }

    async fn runner_of(&self, set: i64, number: u128) -> Result<RunnerRecord, Error> {
        let new = actions_runner(&format!("runner-{number}"), number);
        let actions = new.actions.clone().map(|actions| ActionsRunner { scale_set: Some(set), jit: true, ..actions });
        self.create(ACME, NewRunner { actions, ephemeral: true, ..new }).await
    }
}

fn exists(group: &str, name: &str) -> Error {
    Error::ScaleSetExists { group: group.to_owned(), name: name.to_owned() }
}

pub(super) async fn a_scale_set_is_kept_as_added(bench: Bench) {
    let set = bench.set("linux-x64").await;
    assert_eq!((set.last_message_id, &set.set), (0, &scale_set("linux-x64")));
    assert_eq!(bench.scale_set(set.id).await, Ok(Some(set)));
    assert_eq!(bench.scale_set(404).await, Ok(None));
}

pub(super) async fn a_name_of_a_scale_set_is_unique_within_scope_and_group(bench: Bench) {
    bench.set_group("instance", "gpu", GroupRequest::default()).await;
    bench.set("Linux").await;
    let new = NewScaleSet { group: "DEFAULT".to_owned(), ..scale_set("lINUX") };
    assert_eq!(bench.create_scale_set(new).await, Err(exists("DEFAULT", "lINUX")));
    let elsewhere = NewScaleSet { group: "gpu".to_owned(), ..scale_set("linux") };
    assert!(bench.create_scale_set(elsewhere).await.is_ok());
    let elsewhere = NewScaleSet { scope: scope("instance"), ..scale_set("linux") };
    assert!(bench.create_scale_set(elsewhere).await.is_ok());
}

pub(super) async fn a_scale_set_needs_a_group_of_its_scope(bench: Bench) {
    bench.set_group("organization:other", "gpu", GroupRequest::default()).await;
    let none = Error::NoGroup { scope: scope(ACME), name: "gpu".to_owned() };
    let new = NewScaleSet { group: "gpu".to_owned(), ..scale_set("linux") };
    assert_eq!(bench.create_scale_set(new).await, Err(none.clone()));
    let set = bench.set("linux").await;
    let changes = ScaleSetChanges { group: Some("gpu".to_owned()), ..ScaleSetChanges::default() };
    assert_eq!(bench.update_scale_set(set.id, changes).await, Err(none));
    assert_eq!(bench.scale_set(set.id).await, Ok(Some(set)));
}

pub(super) async fn scale_sets_are_listed_by_id_for_one_scope(bench: Bench) {
    let (zebra, ant) = (bench.set("zebra").await, bench.set("ant").await);
    bench.create_scale_set(NewScaleSet { scope: scope("instance"), ..scale_set("other") }).await.unwrap();
    assert_eq!(bench.scale_sets(scope(ACME)).await, Ok(vec![zebra, ant]));
    assert_eq!(bench.scale_sets(scope("organization:other")).await, Ok(vec![]));
}

pub(super) async fn what_is_not_changed_of_a_scale_set_stays(bench: Bench) {
    bench.set_group("instance", "gpu", GroupRequest::default()).await;
    let set = bench.set("linux").await;
    assert_eq!(bench.update_scale_set(set.id, ScaleSetChanges::default()).await, Ok(Some(set.clone())));
    let changes = ScaleSetChanges { name: Some("LINUX".to_owned()), ..ScaleSetChanges::default() };
    let renamed = bench.update_scale_set(set.id, changes).await.unwrap().unwrap();
    assert_eq!(renamed.set, NewScaleSet { name: "LINUX".to_owned(), ..set.set.clone() });
    let changes = ScaleSetChanges {
        name: None,
        group: Some("gpu".to_owned()),
        labels: Some(texts(&["x"])),
        settings: Some("{}".to_owned()),
    };
    let changed = bench.update_scale_set(set.id, changes).await.unwrap().unwrap();
    let expected =
        NewScaleSet { group: "gpu".to_owned(), labels: texts(&["x"]), settings: "{}".to_owned(), ..renamed.set };
    assert_eq!((&changed.set, changed.id), (&expected, set.id));
    assert_eq!(bench.scale_set(set.id).await, Ok(Some(changed)));
    assert_eq!(bench.update_scale_set(404, ScaleSetChanges::default()).await, Ok(None));
}

pub(super) async fn a_scale_set_does_not_take_the_name_of_another(bench: Bench) {
    bench.set("linux").await;
    let set = bench.set("windows").await;
    let changes = ScaleSetChanges { name: Some("Linux".to_owned()), ..ScaleSetChanges::default() };
    assert_eq!(bench.update_scale_set(set.id, changes).await, Err(exists("default", "Linux")));
    assert_eq!(bench.scale_set(set.id).await, Ok(Some(set)));
}

pub(super) async fn message_ids_of_a_scale_set_only_grow(bench: Bench) {
    let (set, other) = (bench.set("linux").await, bench.set("windows").await);
    assert_eq!(bench.next_scale_set_message(set.id, 1).await, Ok(1));
    assert_eq!(bench.next_scale_set_message(set.id, 3).await, Ok(2));
    assert_eq!(bench.next_scale_set_message(set.id, 1).await, Ok(5));
    assert_eq!(bench.next_scale_set_message(other.id, 1).await, Ok(1));
    assert_eq!(bench.scale_set(set.id).await.unwrap().unwrap().last_message_id, 5);
    assert_eq!(bench.next_scale_set_message(404, 1).await, Err(Error::NoScaleSet(404)));
}

pub(super) async fn runners_are_made_for_a_scale_set_that_is_there(bench: Bench) {
    let (set, other) = (bench.set("linux").await, bench.set("windows").await);
    let one = bench.runner_of(set.id, 1).await.unwrap();
    let two = bench.runner_of(set.id, 2).await.unwrap();
    bench.runner_of(other.id, 3).await.unwrap();
    bench.some_runner().await;
    let gone = bench.runner_of(set.id, 4).await.unwrap();
    bench.delete_runner(gone.id, at(2)).await.unwrap();
    assert_eq!(bench.scale_set_runners(set.id).await, Ok(vec![one, two]));
    assert_eq!(bench.runner_of(404, 5).await, Err(Error::NoScaleSet(404)));
    assert_eq!(bench.scale_set_runners(404).await, Ok(vec![]));
}

pub(super) async fn a_deleted_scale_set_takes_its_idle_runners_with_it(bench: Bench) {
    let (set, other) = (bench.set("linux").await, bench.set("windows").await);
    let mut runners = Vec::new();
    for number in 1..=4 {
        runners.push(bench.runner_of(set.id, number).await.unwrap().id);
    }
    let elsewhere = bench.runner_of(other.id, 5).await.unwrap();
    let (offered, running) = (bench.queued().await, bench.queued().await);
    bench.record_offer(offered, Epoch(1), runners[1]).await.unwrap();
    bench.acquire(running, Epoch(1), runners[2], 1, at(20)).await.unwrap();

    assert_eq!(bench.delete_scale_set(set.id, at(30)).await, Ok(Some(vec![runners[0], runners[3]])));
    assert_eq!(bench.delete_scale_set(set.id, at(30)).await, Ok(None));
    assert_eq!(bench.scale_set(set.id).await, Ok(None));
    let left: Vec<RunnerId> = bench.runners().await.unwrap().iter().map(|runner| runner.id).collect();
    assert_eq!(left, [runners[1], runners[2], elsewhere.id]);
    assert_eq!(bench.scale_set_runners(set.id).await.unwrap().len(), 2);
    assert!(bench.set("linux").await.id > other.id, "ids are not used twice");
}

pub(super) async fn what_a_scale_set_was_told_of_begun_jobs_is_kept_until_they_are_over(bench: Bench) {
    let (set, other) = (bench.set("linux").await, bench.set("windows").await);
    let begun = |set: i64, job: i64, runner: i64| BegunJob {
        set,
        job: JobId(job),
        runner: RunnerId(runner),
        runner_name: format!("pod-{runner}"),
        assigned_at: at(1),
        started_at: at(2),
    };
    bench.tell_scale_set(other.id, vec![begun(other.id, 1, 8)], vec![]).await.unwrap();
    bench.tell_scale_set(set.id, vec![begun(set.id, 2, 6), begun(set.id, 1, 5)], vec![JobId(7)]).await.unwrap();
    bench.tell_scale_set(404, vec![begun(404, 3, 9)], vec![]).await.unwrap();
    let all = vec![begun(set.id, 1, 5), begun(set.id, 2, 6), begun(other.id, 1, 8)];
    assert_eq!(bench.begun_jobs().await, Ok(all));
    // Another runner has begun the one, and the other is over.
    bench.tell_scale_set(set.id, vec![begun(set.id, 1, 7)], vec![JobId(2)]).await.unwrap();
    assert_eq!(bench.begun_jobs().await, Ok(vec![begun(set.id, 1, 7), begun(other.id, 1, 8)]));
    bench.delete_scale_set(set.id, at(30)).await.unwrap();
    assert_eq!(bench.begun_jobs().await, Ok(vec![begun(other.id, 1, 8)]));
}

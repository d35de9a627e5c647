use startline_protocol::admin_api::GroupRequest;
use startline_protocol::ids::{Epoch, RunnerId};
use startline_protocol::state::Conclusion;
use startline_store::{ActionsRunner, Error, NewRunner, RunnerRecord};
use uuid::Uuid;

use crate::bench::{Bench, actions_runner, at, completion, hash, is_engine_error, scope, texts};

impl Bench {
    /// Adds a runner without a token at second 1.
    pub(super) async fn create(&self, of: &str, runner: NewRunner) -> Result<RunnerRecord, Error> {
        let created = self.create_runner(scope(of), "default".to_owned(), runner, at(1)).await;
        created.map(|created| created.runner)
    }

    async fn by_client(&self, client: u128) -> Result<Option<RunnerRecord>, Error> {
        self.runner_by_client(Uuid::from_u128(client)).await
    }
}

pub(super) async fn a_runner_of_the_actions_protocol_registers_without_a_token(bench: Bench) {
    bench.token(1, |_| {}).await;
    let new = actions_runner("one", 7);
    let runner = bench.register(1, new.clone()).await.unwrap();
    assert_eq!(runner.actions, new.actions);
    assert_eq!(bench.runner(runner.id).await, Ok(Some(runner.clone())));
    assert_eq!(bench.runners().await, Ok(vec![runner]));
    assert_eq!(bench.bearer(hash(10), at(2)).await, Ok(None));
    assert_eq!(bench.registration_token(hash(1)).await.unwrap().unwrap().uses, 1);
}

pub(super) async fn what_is_said_of_an_actions_runner_is_kept(bench: Bench) {
    let actions = ActionsRunner {
        client_id: Uuid::from_u128(9),
        public_key: vec![0, 255, 10],
        pss_only: false,
        disable_update: true,
        jit: true,
        scale_set: None,
        work_folder: Some("_work".to_owned()),
    };
    let new = NewRunner { actions: Some(actions.clone()), ..actions_runner("one", 9) };
    let runner = bench.create("instance", new).await.unwrap();
    assert_eq!(runner.actions, Some(actions));
    assert_eq!(bench.by_client(9).await, Ok(Some(runner)));
}

pub(super) async fn a_client_speaks_for_its_runner(bench: Bench) {
    let one = bench.create("instance", actions_runner("one", 1)).await.unwrap();
    let two = bench.create("instance", actions_runner("two", 2)).await.unwrap();
    bench.runner_named("three").await;
    assert_eq!(bench.by_client(1).await, Ok(Some(one)));
    assert_eq!(bench.by_client(2).await, Ok(Some(two)));
    assert_eq!(bench.by_client(3).await, Ok(None));
}

pub(super) async fn a_deleted_runners_client_says_so(bench: Bench) {
    let runner = bench.create("instance", actions_runner("one", 1)).await.unwrap();
    bench.delete_runner(runner.id, at(2)).await.unwrap();
    assert_eq!(bench.by_client(1).await, Err(Error::RunnerGone(runner.id)));
}

pub(super) async fn a_client_id_is_given_once(bench: Bench) {
    let first = bench.create("instance", actions_runner("one", 1)).await.unwrap();
    let again = NewRunner { replace: true, ..actions_runner("one", 1) };
    let again = bench.create("instance", again).await;
    assert!(is_engine_error(&again), "{again:?}");
    assert_eq!(bench.by_client(1).await, Ok(Some(first.clone())), "nothing was replaced");
    bench.delete_runner(first.id, at(2)).await.unwrap();
    assert!(is_engine_error(&bench.create("instance", actions_runner("two", 1)).await), "not after its end either");
}

pub(super) async fn an_ephemeral_actions_runner_ends_with_its_job(bench: Bench) {
    let new = NewRunner { ephemeral: true, ..actions_runner("one", 1) };
    let runner = bench.create("instance", new).await.unwrap().id;
    let job = bench.queued().await;
    bench.acquire(job, Epoch(1), runner, 1, at(20)).await.unwrap();
    bench.complete(job, Epoch(1), completion(Conclusion::Success), at(30)).await.unwrap();
    assert_eq!(bench.by_client(1).await, Err(Error::RunnerGone(runner)));
}

pub(super) async fn an_administrator_adds_a_runner_to_a_scope_and_group(bench: Bench) {
    let policy = GroupRequest { protected_labels: texts(&["linux"]), ..GroupRequest::default() };
    bench.set_group("organization:acme", "GPU", policy).await;
    let of = scope("repository:acme/demo");
    let new = actions_runner("one", 1);
    let created = bench.create_runner(of.clone(), "gpu".to_owned(), new.clone(), at(1)).await.unwrap();
    assert_eq!((created.runner.scope.clone(), created.runner.group.as_str(), created.replaced), (of, "gpu", None));
    assert_eq!((created.runner.created_at, &created.runner.labels), (at(1), &new.labels));
    assert_eq!(bench.runner(created.runner.id).await, Ok(Some(created.runner)));
    let none = Error::NoGroup { scope: scope("organization:other"), name: "gpu".to_owned() };
    let elsewhere = bench.create_runner(scope("organization:other"), "gpu".to_owned(), actions_runner("two", 2), at(1));
    assert_eq!(elsewhere.await, Err(none));
}

pub(super) async fn an_added_runner_takes_a_name_over_only_when_asked(bench: Bench) {
    let first = bench.runner_named("One").await;
    let taken = bench.create("instance", actions_runner("oNE", 1)).await;
    assert_eq!(taken, Err(Error::NameTaken("oNE".to_owned())));
    assert_eq!(bench.by_client(1).await, Ok(None));
    let new = NewRunner { replace: true, ..actions_runner("oNE", 1) };
    let second = bench.create_runner(scope("instance"), "default".to_owned(), new, at(2)).await.unwrap();
    assert_eq!(second.replaced, Some(first.id));
    assert!(second.runner.id > first.id);
    assert_eq!(bench.runners().await, Ok(vec![second.runner]));
}

pub(super) async fn a_replaced_actions_runner_is_gone(bench: Bench) {
    let first = bench.create("instance", actions_runner("one", 1)).await.unwrap();
    let second = bench.create("instance", NewRunner { replace: true, ..actions_runner("one", 2) }).await.unwrap();
    assert_eq!(bench.by_client(1).await, Err(Error::RunnerGone(first.id)));
    assert_eq!(bench.by_client(2).await, Ok(Some(second)));
}

pub(super) async fn labels_of_a_runner_are_replaced(bench: Bench) {
    let runner = bench.create("instance", actions_runner("one", 1)).await.unwrap();
    let relabelled = bench.set_runner_labels(runner.id, texts(&["GPU", "x"])).await.unwrap();
    assert_eq!(relabelled, RunnerRecord { labels: texts(&["GPU", "x"]), ..runner });
    assert_eq!(bench.runner(relabelled.id).await, Ok(Some(relabelled)));
}

pub(super) async fn the_version_of_a_runner_is_replaced(bench: Bench) {
    let runner = bench.create("instance", actions_runner("one", 1)).await.unwrap();
    bench.update_runner_version(runner.id, "2.400.0".to_owned()).await.unwrap();
    assert_eq!(bench.runner(runner.id).await.unwrap().unwrap().version, "2.400.0");
}

pub(super) async fn a_runner_that_is_gone_is_not_changed(bench: Bench) {
    let runner = bench.create("instance", actions_runner("one", 1)).await.unwrap().id;
    bench.delete_runner(runner, at(2)).await.unwrap();
    for gone in [runner, RunnerId(404)] {
        assert_eq!(bench.set_runner_labels(gone, vec![]).await, Err(Error::RunnerGone(gone)));
        assert_eq!(bench.update_runner_version(gone, String::new()).await, Err(Error::RunnerGone(gone)));
    }
}

use startline_protocol::admin_api::GroupRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_store::{Error, NewRunner};

use crate::bench::{Bench, at, hash, is_engine_error, new_runner, registration_token, scope, texts, token_until};

fn capable() -> Capabilities {
    Capabilities {
        memory_gb: 64,
        gpu_memory_gb: Some(24),
        supported_actions: texts(&["acme/checkout"]),
        ..Capabilities::default()
    }
}

pub(super) async fn a_runner_is_registered_with_what_it_says(bench: Bench) {
    bench.token(1, |_| {}).await;
    let new = NewRunner { labels: texts(&["GPU", "linux"]), capabilities: capable(), ..new_runner("One", 10) };
    let registered = bench.register_runner(hash(1), new, at(1)).await.unwrap();
    assert_eq!(registered.replaced, None);
    let runner = registered.runner;
    assert_eq!((runner.name.as_str(), &runner.labels), ("One", &texts(&["GPU", "linux"])));
    assert_eq!((&runner.capabilities, runner.ephemeral), (&capable(), false));
    assert_eq!((runner.version.as_str(), runner.created_at), ("0.1.0", at(1)));
    assert_eq!(bench.runner(runner.id).await, Ok(Some(runner)));
}

pub(super) async fn an_unknown_registration_token_is_refused(bench: Bench) {
    bench.token(1, |_| {}).await;
    assert_eq!(bench.register(2, new_runner("one", 10)).await, Err(Error::TokenUnknown));
    assert_eq!(bench.runners().await, Ok(vec![]));
}

pub(super) async fn an_expired_registration_token_is_refused(bench: Bench) {
    bench.token(1, |token| token.expires_at = at(1)).await;
    assert_eq!(bench.register(1, new_runner("one", 10)).await, Err(Error::TokenExpired));
}

pub(super) async fn a_registration_token_works_until_just_before_its_end(bench: Bench) {
    bench.token(1, |token| token.expires_at = at(2)).await;
    assert!(bench.register(1, new_runner("one", 10)).await.is_ok());
}

pub(super) async fn a_used_up_registration_token_is_refused(bench: Bench) {
    bench.token(1, |token| token.max_uses = Some(2)).await;
    bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.register(1, new_runner("two", 11)).await.unwrap();
    assert_eq!(bench.register(1, new_runner("three", 12)).await, Err(Error::TokenExhausted(2)));
    assert_eq!(bench.runners().await.unwrap().len(), 2);
}

pub(super) async fn a_refused_registration_is_not_a_use(bench: Bench) {
    bench
        .token(1, |token| {
            token.max_uses = Some(2);
            token.labels = Some(texts(&["linux"]));
        })
        .await;
    bench.register(1, new_runner("one", 10)).await.unwrap();
    assert!(bench.register(1, new_runner("one", 11)).await.is_err());
    assert!(bench.register(1, NewRunner { labels: texts(&["x"]), ..new_runner("two", 12) }).await.is_err());
    assert!(bench.register(1, new_runner("three", 13)).await.is_ok());
}

pub(super) async fn labels_outside_the_allow_list_are_all_named(bench: Bench) {
    bench.token(1, |token| token.labels = Some(texts(&["linux", "x64"]))).await;
    let new = NewRunner { labels: texts(&["prod", "linux", "gpu"]), ..new_runner("one", 10) };
    assert_eq!(bench.register(1, new).await, Err(Error::LabelNotAllowed(texts(&["prod", "gpu"]))));
}

pub(super) async fn labels_are_allowed_without_case(bench: Bench) {
    bench.token(1, |token| token.labels = Some(texts(&["Linux"]))).await;
    let new = NewRunner { labels: texts(&["LINUX"]), ..new_runner("one", 10) };
    assert_eq!(bench.register(1, new).await.unwrap().labels, texts(&["LINUX"]));
}

pub(super) async fn an_empty_allow_list_allows_no_label(bench: Bench) {
    bench.token(1, |token| token.labels = Some(vec![])).await;
    assert_eq!(bench.register(1, new_runner("one", 10)).await, Err(Error::LabelNotAllowed(texts(&["linux"]))));
    assert!(bench.register(1, NewRunner { labels: vec![], ..new_runner("one", 10) }).await.is_ok());
}

pub(super) async fn the_token_decides_the_group(bench: Bench) {
    bench.set_group("instance", "gpu", GroupRequest::default()).await;
    bench.token(1, |token| token.group = "gpu".to_owned()).await;
    let runner = bench.register(1, new_runner("one", 10)).await.unwrap();
    assert_eq!(runner.group, "gpu");
    assert_eq!(bench.runner(runner.id).await.unwrap().unwrap().group, "gpu");
}

pub(super) async fn the_token_can_make_runners_ephemeral(bench: Bench) {
    bench.token(1, |token| token.ephemeral = true).await;
    let runner = bench.register(1, new_runner("one", 10)).await.unwrap();
    assert!(runner.ephemeral);
    assert!(bench.runner(runner.id).await.unwrap().unwrap().ephemeral);
}

pub(super) async fn a_runner_may_ask_to_be_ephemeral(bench: Bench) {
    bench.token(1, |_| {}).await;
    assert!(bench.register(1, NewRunner { ephemeral: true, ..new_runner("one", 10) }).await.unwrap().ephemeral);
}

pub(super) async fn a_taken_name_is_refused(bench: Bench) {
    bench.token(1, |_| {}).await;
    let first = bench.register(1, new_runner("one", 10)).await.unwrap();
    assert_eq!(bench.register(1, new_runner("one", 11)).await, Err(Error::NameTaken("one".to_owned())));
    assert_eq!(bench.runners().await, Ok(vec![first]));
    assert_eq!(bench.bearer(hash(11), at(2)).await, Ok(None));
}

pub(super) async fn names_are_compared_without_case(bench: Bench) {
    bench.token(1, |_| {}).await;
    bench.register(1, new_runner("Läufer-A", 10)).await.unwrap();
    assert_eq!(bench.register(1, new_runner("lÄUFER-a", 11)).await, Err(Error::NameTaken("lÄUFER-a".to_owned())));
}

pub(super) async fn a_name_is_taken_within_its_scope_alone(bench: Bench) {
    for (number, scope) in [(1, "instance"), (2, "organization:acme"), (3, "repository:acme/a")] {
        bench.token(number, |token| token.scope = scope.parse().unwrap()).await;
        let new = NewRunner { replace: true, ..new_runner("one", 10 + number) };
        assert_eq!(bench.register_runner(hash(number), new, at(2)).await.unwrap().replaced, None);
        let taken = bench.register(number, new_runner("one", 20 + number)).await;
        assert_eq!(taken, Err(Error::NameTaken("one".to_owned())));
    }
    assert_eq!(bench.runners().await.unwrap().len(), 3);
    bench.probe().await.unwrap();
    assert_eq!(bench.runners().await.unwrap().len(), 3);
}

pub(super) async fn replace_takes_the_name_over(bench: Bench) {
    bench.token(1, |_| {}).await;
    let first = bench.register(1, new_runner("one", 10)).await.unwrap();
    let new = NewRunner { replace: true, ..new_runner("ONE", 11) };
    let second = bench.register_runner(hash(1), new, at(2)).await.unwrap();
    assert_eq!(second.replaced, Some(first.id));
    assert_ne!(second.runner.id, first.id);
    assert_eq!(bench.runner(first.id).await, Ok(None));
    assert_eq!(bench.runners().await, Ok(vec![second.runner]));
}

pub(super) async fn replace_without_a_holder_replaces_nobody(bench: Bench) {
    bench.token(1, |_| {}).await;
    let new = NewRunner { replace: true, ..new_runner("one", 10) };
    assert_eq!(bench.register_runner(hash(1), new, at(1)).await.unwrap().replaced, None);
}

pub(super) async fn the_name_of_a_deleted_runner_is_free(bench: Bench) {
    bench.token(1, |_| {}).await;
    let first = bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.delete_runner(first.id, at(2)).await.unwrap();
    assert!(bench.register(1, new_runner("one", 11)).await.is_ok());
}

pub(super) async fn a_hundred_registrations_at_once_use_a_token_of_ten_ten_times(bench: Bench) {
    bench.token(1, |token| token.max_uses = Some(10)).await;
    let attempts: Vec<_> = (0..100)
        .map(|number| bench.register_runner(hash(1), new_runner(&format!("runner-{number}"), 100 + number), at(1)))
        .collect();
    let mut succeeded = 0;
    for attempt in attempts {
        match attempt.await {
            Ok(_) => succeeded += 1,
            Err(error) => assert_eq!(error, Error::TokenExhausted(10)),
        }
    }
    assert_eq!(succeeded, 10);
    assert_eq!(bench.runners().await.unwrap().len(), 10);
}

pub(super) async fn registrations_at_once_under_one_name_yield_one_runner(bench: Bench) {
    bench.token(1, |_| {}).await;
    let attempts: Vec<_> =
        (0..20).map(|number| bench.register_runner(hash(1), new_runner("one", 100 + number), at(1))).collect();
    let mut succeeded = 0;
    for attempt in attempts {
        match attempt.await {
            Ok(_) => succeeded += 1,
            Err(error) => assert_eq!(error, Error::NameTaken("one".to_owned())),
        }
    }
    assert_eq!(succeeded, 1);
}

pub(super) async fn runner_ids_are_not_used_twice(bench: Bench) {
    let first = bench.some_runner().await;
    bench.delete_runner(first, at(2)).await.unwrap();
    assert!(bench.some_runner().await > first);
}

pub(super) async fn a_runner_token_speaks_for_its_runner(bench: Bench) {
    bench.token(1, |_| {}).await;
    let one = bench.register(1, new_runner("one", 10)).await.unwrap();
    let two = bench.register(1, new_runner("two", 11)).await.unwrap();
    assert_eq!(bench.bearer(hash(10), at(2)).await, Ok(Some(one)));
    assert_eq!(bench.bearer(hash(11), at(2)).await, Ok(Some(two)));
}

pub(super) async fn an_unknown_runner_token_is_none(bench: Bench) {
    bench.token(1, |_| {}).await;
    bench.register(1, new_runner("one", 10)).await.unwrap();
    assert_eq!(bench.bearer(hash(11), at(2)).await, Ok(None));
    assert_eq!(bench.bearer(hash(1), at(2)).await, Ok(None), "a registration token is none");
}

pub(super) async fn a_runner_token_ends_at_its_time(bench: Bench) {
    bench.token(1, |_| {}).await;
    bench.register(1, NewRunner { token: token_until(10, 100), ..new_runner("one", 10) }).await.unwrap();
    assert!(bench.bearer(hash(10), at(99)).await.unwrap().is_some());
    assert_eq!(bench.bearer(hash(10), at(100)).await, Ok(None));
}

pub(super) async fn a_deleted_runners_token_says_so_even_when_expired(bench: Bench) {
    bench.token(1, |_| {}).await;
    let runner = bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.delete_runner(runner.id, at(2)).await.unwrap();
    assert_eq!(bench.bearer(hash(10), at(3)).await, Err(Error::RunnerGone(runner.id)));
    assert_eq!(bench.bearer(hash(10), at(1_000_000)).await, Err(Error::RunnerGone(runner.id)));
}

pub(super) async fn a_replaced_runners_token_says_so(bench: Bench) {
    bench.token(1, |_| {}).await;
    let first = bench.register(1, new_runner("one", 10)).await.unwrap();
    let second = bench.register(1, NewRunner { replace: true, ..new_runner("one", 11) }).await.unwrap();
    assert_eq!(bench.bearer(hash(10), at(3)).await, Err(Error::RunnerGone(first.id)));
    assert_eq!(bench.bearer(hash(11), at(3)).await, Ok(Some(second)));
}

pub(super) async fn a_renewed_token_works_and_the_old_one_for_two_more_minutes(bench: Bench) {
    bench.token(1, |_| {}).await;
    let runner = bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.renew_runner_token(runner.id, hash(11), at(7200), at(1000)).await.unwrap();
    assert_eq!(bench.bearer(hash(10), at(1119)).await, Ok(Some(runner.clone())));
    assert_eq!(bench.bearer(hash(10), at(1120)).await, Ok(None));
    assert_eq!(bench.bearer(hash(11), at(7199)).await, Ok(Some(runner)));
    assert_eq!(bench.bearer(hash(11), at(7200)).await, Ok(None));
}

pub(super) async fn renewal_does_not_lengthen_an_old_token(bench: Bench) {
    bench.token(1, |_| {}).await;
    let runner = bench.register(1, NewRunner { token: token_until(10, 1010), ..new_runner("one", 10) }).await.unwrap();
    bench.renew_runner_token(runner.id, hash(11), at(7200), at(1000)).await.unwrap();
    assert!(bench.bearer(hash(10), at(1009)).await.unwrap().is_some());
    assert_eq!(bench.bearer(hash(10), at(1010)).await, Ok(None));
}

pub(super) async fn renewal_leaves_other_runners_alone(bench: Bench) {
    bench.token(1, |_| {}).await;
    let one = bench.register(1, new_runner("one", 10)).await.unwrap();
    let two = bench.register(1, new_runner("two", 11)).await.unwrap();
    bench.renew_runner_token(one.id, hash(12), at(7200), at(1000)).await.unwrap();
    assert_eq!(bench.bearer(hash(11), at(3599)).await, Ok(Some(two)));
}

pub(super) async fn a_runner_that_is_gone_cannot_renew(bench: Bench) {
    let runner = bench.some_runner().await;
    bench.delete_runner(runner, at(2)).await.unwrap();
    for gone in [runner, RunnerId(404)] {
        let renewal = bench.renew_runner_token(gone, hash(11), at(7200), at(10)).await;
        assert_eq!(renewal, Err(Error::RunnerGone(gone)));
    }
    assert_eq!(bench.bearer(hash(11), at(11)).await, Ok(None));
}

pub(super) async fn a_registration_under_a_known_token_hash_changes_nothing(bench: Bench) {
    bench.token(1, |token| token.max_uses = Some(2)).await;
    let first = bench.register(1, new_runner("one", 10)).await.unwrap();
    let second = bench.register(1, NewRunner { replace: true, ..new_runner("one", 10) }).await;
    assert!(is_engine_error(&second), "{second:?}");
    assert_eq!(bench.bearer(hash(10), at(2)).await, Ok(Some(first)));
    assert!(bench.register(1, new_runner("two", 11)).await.is_ok(), "it was not a use");
}

pub(super) async fn a_renewal_with_a_known_token_hash_changes_nothing(bench: Bench) {
    bench.token(1, |_| {}).await;
    let runner = bench.register(1, new_runner("one", 10)).await.unwrap();
    let renewal = bench.renew_runner_token(runner.id, hash(10), at(7200), at(1000)).await;
    assert!(is_engine_error(&renewal), "{renewal:?}");
    assert_eq!(bench.bearer(hash(10), at(3599)).await, Ok(Some(runner)));
}

pub(super) async fn capabilities_are_replaced(bench: Bench) {
    let runner = bench.some_runner().await;
    bench.update_capabilities(runner, capable()).await.unwrap();
    assert_eq!(bench.runner(runner).await.unwrap().unwrap().capabilities, capable());
}

pub(super) async fn a_runner_that_is_gone_cannot_change_its_capabilities(bench: Bench) {
    let runner = bench.some_runner().await;
    bench.delete_runner(runner, at(2)).await.unwrap();
    for gone in [runner, RunnerId(404)] {
        assert_eq!(bench.update_capabilities(gone, capable()).await, Err(Error::RunnerGone(gone)));
    }
}

pub(super) async fn a_runner_is_deleted_once(bench: Bench) {
    let runner = bench.some_runner().await;
    assert_eq!(bench.delete_runner(runner, at(2)).await, Ok(true));
    assert_eq!(bench.delete_runner(runner, at(3)).await, Ok(false));
    assert_eq!(bench.delete_runner(RunnerId(404), at(3)).await, Ok(false));
    assert_eq!(bench.runner(runner).await, Ok(None));
}

pub(super) async fn runners_are_listed_by_id_without_deleted_ones(bench: Bench) {
    let one = bench.runner_named("zebra").await;
    let two = bench.runner_named("ant").await;
    let three = bench.runner_named("mole").await;
    bench.delete_runner(two.id, at(2)).await.unwrap();
    assert_eq!(bench.runners().await, Ok(vec![one, three]));
}

pub(super) async fn the_token_decides_the_scope(bench: Bench) {
    bench.token(1, |token| token.scope = scope("repository:acme/demo")).await;
    let runner = bench.register(1, new_runner("one", 10)).await.unwrap();
    assert_eq!(runner.scope, scope("repository:acme/demo"));
    assert_eq!(bench.runner(runner.id).await, Ok(Some(runner.clone())));
    assert_eq!(bench.bearer(hash(10), at(2)).await, Ok(Some(runner)));
}

pub(super) async fn a_revoked_registration_token_is_refused(bench: Bench) {
    let token = bench.create_registration_token(registration_token(1)).await.unwrap();
    let before = bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.revoke_registration_token(token.id, at(2)).await.unwrap();
    assert_eq!(bench.register(1, new_runner("two", 11)).await, Err(Error::TokenRevoked));
    assert_eq!(bench.register_runner(hash(1), new_runner("two", 11), at(9999)).await, Err(Error::TokenRevoked));
    assert_eq!(bench.runners().await, Ok(vec![before]), "who registered before stays");
}

fn protecting(labels: &[&str]) -> GroupRequest {
    GroupRequest { protected_labels: texts(labels), ..GroupRequest::default() }
}

pub(super) async fn protected_labels_are_all_named(bench: Bench) {
    bench.set_group("instance", "default", protecting(&["Prod", "gpu", "x"])).await;
    bench.token(1, |_| {}).await;
    let new = NewRunner { labels: texts(&["PROD", "linux", "gpu"]), ..new_runner("one", 10) };
    assert_eq!(bench.register(1, new).await, Err(Error::LabelProtected(texts(&["PROD", "gpu"]))));
    assert_eq!(bench.runners().await, Ok(vec![]));
    assert_eq!(bench.registration_token(hash(1)).await.unwrap().unwrap().uses, 0);
    assert!(bench.register(1, new_runner("one", 10)).await.is_ok(), "other labels are free");
}

pub(super) async fn a_token_that_names_a_protected_label_gives_it(bench: Bench) {
    bench.set_group("instance", "default", protecting(&["prod", "gpu"])).await;
    bench.token(1, |token| token.labels = Some(texts(&["pROD", "linux"]))).await;
    let new = |labels: &[&str]| NewRunner { labels: texts(labels), ..new_runner("one", 10) };
    assert_eq!(bench.register(1, new(&["gpu", "prod"])).await, Err(Error::LabelNotAllowed(texts(&["gpu"]))));
    assert_eq!(bench.register(1, new(&["Prod", "linux"])).await.unwrap().labels, texts(&["Prod", "linux"]));
}

pub(super) async fn the_innermost_group_protects_its_labels(bench: Bench) {
    bench.set_group("organization:acme", "default", protecting(&["prod"])).await;
    let prod = |number| NewRunner { labels: texts(&["prod"]), ..new_runner(&format!("runner-{number}"), 10 + number) };
    let scopes = ["instance", "organization:acme", "repository:acme/demo", "organization:other", "repository:acm/e"];
    let mut refused = Vec::new();
    for (number, of) in (1..).zip(scopes) {
        bench.token(number, |token| token.scope = scope(of)).await;
        match bench.register(number, prod(number)).await {
            Ok(runner) => assert_eq!(runner.scope, scope(of)),
            Err(error) => {
                assert_eq!(error, Error::LabelProtected(texts(&["prod"])));
                refused.push(of);
            }
        }
    }
    assert_eq!(refused, ["organization:acme", "repository:acme/demo"]);
}

pub(super) async fn a_label_that_becomes_protected_is_refused_from_then_on(bench: Bench) {
    bench.token(1, |_| {}).await;
    let before = bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.set_group("instance", "default", protecting(&["linux"])).await;
    assert_eq!(bench.register(1, new_runner("two", 11)).await, Err(Error::LabelProtected(texts(&["linux"]))));
    assert_eq!(bench.runners().await, Ok(vec![before]));
}

pub(super) async fn a_new_runner_was_never_seen(bench: Bench) {
    let runner = bench.runner_named("one").await;
    assert_eq!(runner.last_seen_at, None);
    assert_eq!(bench.runner(runner.id).await.unwrap().unwrap().last_seen_at, None);
}

pub(super) async fn the_latest_sign_of_life_is_kept(bench: Bench) {
    let (one, two, three) = (bench.some_runner().await, bench.some_runner().await, bench.some_runner().await);
    bench.touch_runners(vec![(one, at(100)), (two, at(100)), (one, at(90))]).await.unwrap();
    bench.touch_runners(vec![(one, at(50)), (two, at(150))]).await.unwrap();
    let mut seen = Vec::new();
    for runner in [one, two, three] {
        seen.push(bench.runner(runner).await.unwrap().unwrap().last_seen_at);
    }
    assert_eq!(seen, [Some(at(100)), Some(at(150)), None]);
}

pub(super) async fn runners_that_are_gone_are_not_seen(bench: Bench) {
    let (gone, there) = (bench.some_runner().await, bench.some_runner().await);
    bench.delete_runner(gone, at(2)).await.unwrap();
    let seen = vec![(RunnerId(404), at(10)), (gone, at(10)), (there, at(10))];
    assert_eq!(bench.touch_runners(seen).await, Ok(()));
    assert_eq!(bench.touch_runners(vec![]).await, Ok(()));
    assert_eq!(bench.runner(gone).await, Ok(None));
    assert_eq!(bench.runner(there).await.unwrap().unwrap().last_seen_at, Some(at(10)));
}

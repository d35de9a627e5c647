use jiff::{SignedDuration, Timestamp};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::permission::Permission;
use startline_store::{Error, NewApiToken, NewRegistrationToken, NewRunner};

use crate::bench::{
    Bench, api_token, at, hash, is_engine_error, new_runner, registration_token, scope, texts, token_until,
};

pub(super) async fn a_new_store_has_no_api_tokens(bench: Bench) {
    assert_eq!(bench.has_api_tokens().await, Ok(false));
    bench.create_api_token(api_token(1)).await.unwrap();
    assert_eq!(bench.has_api_tokens().await, Ok(true));
}

pub(super) async fn an_api_token_is_found_by_its_hash(bench: Bench) {
    let one = bench.create_api_token(api_token(1)).await.unwrap();
    let two = bench.create_api_token(NewApiToken { expires_at: None, ..api_token(2) }).await.unwrap();
    assert_eq!((one.name.as_str(), one.created_at, one.expires_at), ("token 1", at(0), Some(at(60))));
    assert_eq!(two.expires_at, None);
    assert!(two.id > one.id);
    assert_eq!(bench.api_token(hash(1)).await, Ok(Some(one)));
    assert_eq!(bench.api_token(hash(2)).await, Ok(Some(two)));
}

pub(super) async fn an_unknown_api_token_is_none(bench: Bench) {
    bench.create_api_token(api_token(1)).await.unwrap();
    assert_eq!(bench.api_token(hash(2)).await, Ok(None));
}

pub(super) async fn an_expired_api_token_is_found(bench: Bench) {
    let expired = NewApiToken { expires_at: Some(at(-60)), ..api_token(1) };
    bench.create_api_token(expired).await.unwrap();
    assert_eq!(bench.api_token(hash(1)).await.unwrap().unwrap().expires_at, Some(at(-60)));
}

pub(super) async fn an_api_token_hash_exists_once(bench: Bench) {
    let first = bench.create_api_token(api_token(1)).await.unwrap();
    let second = bench.create_api_token(NewApiToken { name: "other".to_owned(), ..api_token(1) }).await;
    assert!(is_engine_error(&second), "{second:?}");
    assert_eq!(bench.api_token(hash(1)).await, Ok(Some(first)));
}

pub(super) async fn a_registration_token_begins_unused(bench: Bench) {
    let token = NewRegistrationToken {
        scope: scope("repository:acme/demo"),
        labels: Some(texts(&["a", "b"])),
        cidr: Some(texts(&["10.0.0.0/8", "::1/128"])),
        max_uses: Some(3),
        ephemeral: true,
        ..registration_token(1)
    };
    let record = bench.create_registration_token(token.clone()).await.unwrap();
    assert_eq!((record.uses, record.revoked_at, &record.token), (0, None, &token));
    assert_eq!(bench.registration_token(hash(1)).await, Ok(Some(record.clone())));
    let next = bench.create_registration_token(registration_token(2)).await.unwrap();
    assert!(next.id > record.id);
}

pub(super) async fn a_registration_token_hash_exists_once(bench: Bench) {
    bench.create_registration_token(registration_token(1)).await.unwrap();
    assert!(is_engine_error(&bench.create_registration_token(registration_token(1)).await));
}

pub(super) async fn times_are_kept_to_the_microsecond(bench: Bench) {
    let micros = at(1) + SignedDuration::from_micros(123_456);
    let token = NewApiToken {
        created_at: micros + SignedDuration::from_nanos(789),
        expires_at: Some(micros + SignedDuration::from_nanos(999)),
        ..api_token(1)
    };
    let record = bench.create_api_token(token).await.unwrap();
    assert_eq!((record.created_at, record.expires_at), (micros, Some(micros)));
    assert_eq!(bench.api_token(hash(1)).await, Ok(Some(record)));
}

pub(super) async fn the_end_of_time_can_be_kept(bench: Bench) {
    let token = NewApiToken { expires_at: Some(Timestamp::MAX), ..api_token(1) };
    let record = bench.create_api_token(token).await.unwrap();
    assert!(record.expires_at.unwrap() > Timestamp::MAX - SignedDuration::from_secs(2));
    assert_eq!(bench.api_token(hash(1)).await, Ok(Some(record)));
}

pub(super) async fn an_api_token_keeps_its_scope_and_permissions(bench: Bench) {
    let narrow = NewApiToken {
        scope: scope("organization:acme"),
        permissions: vec![Permission::JobsWrite, Permission::AuditRead],
        ..api_token(1)
    };
    let record = bench.create_api_token(narrow).await.unwrap();
    assert_eq!(record.scope, scope("organization:acme"));
    assert_eq!(record.permissions, [Permission::JobsWrite, Permission::AuditRead]);
    assert_eq!(bench.api_token(hash(1)).await, Ok(Some(record)));
    let none = bench.create_api_token(NewApiToken { permissions: vec![], ..api_token(2) }).await.unwrap();
    assert_eq!(bench.api_token(hash(2)).await, Ok(Some(none)));
}

pub(super) async fn an_api_token_is_revoked_once(bench: Bench) {
    let token = bench.create_api_token(api_token(1)).await.unwrap();
    let other = bench.create_api_token(api_token(2)).await.unwrap();
    assert!(token.is_valid(at(59)) && !token.is_valid(at(60)));
    assert_eq!(bench.revoke_api_token(token.id, at(5)).await, Ok(true));
    assert_eq!(bench.revoke_api_token(token.id, at(6)).await, Ok(false));
    assert_eq!(bench.revoke_api_token(404, at(6)).await, Ok(false));
    let revoked = bench.api_token(hash(1)).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at(5)));
    assert!(!revoked.is_valid(at(6)));
    assert_eq!(bench.api_token(hash(2)).await, Ok(Some(other)));
}

pub(super) async fn a_registration_token_is_revoked_once(bench: Bench) {
    bench.create_api_token(api_token(3)).await.unwrap();
    let token = bench.create_registration_token(registration_token(1)).await.unwrap();
    let other = bench.create_registration_token(registration_token(2)).await.unwrap();
    assert_eq!(bench.revoke_registration_token(token.id, at(5)).await, Ok(true));
    assert_eq!(bench.revoke_registration_token(token.id, at(6)).await, Ok(false));
    assert_eq!(bench.revoke_registration_token(404, at(6)).await, Ok(false));
    assert_eq!(bench.registration_token(hash(1)).await.unwrap().unwrap().revoked_at, Some(at(5)));
    assert_eq!(bench.registration_token(hash(2)).await, Ok(Some(other)));
    assert_eq!(bench.api_token(hash(3)).await.unwrap().unwrap().revoked_at, None, "ids of the kinds are apart");
}

pub(super) async fn an_unknown_registration_token_is_none(bench: Bench) {
    bench.create_api_token(api_token(1)).await.unwrap();
    assert_eq!(bench.registration_token(hash(1)).await, Ok(None));
}

pub(super) async fn the_uses_of_a_registration_token_are_counted(bench: Bench) {
    bench.token(1, |_| {}).await;
    bench.register(1, new_runner("one", 10)).await.unwrap();
    bench.register(1, new_runner("two", 11)).await.unwrap();
    assert_eq!(bench.registration_token(hash(1)).await.unwrap().unwrap().uses, 2);
}

pub(super) async fn a_registration_token_needs_a_group_of_its_scope(bench: Bench) {
    bench.set_group("organization:acme", "gpu", GroupRequest::default()).await;
    let token =
        |number, of| NewRegistrationToken { scope: scope(of), group: "GPU".to_owned(), ..registration_token(number) };
    for of in ["instance", "organization:other", "repository:other/acme"] {
        let refused = Error::NoGroup { scope: scope(of), name: "GPU".to_owned() };
        assert_eq!(bench.create_registration_token(token(1, of)).await, Err(refused));
    }
    assert_eq!(bench.registration_token(hash(1)).await, Ok(None));
    for (number, of) in [(2, "organization:acme"), (3, "repository:acme/demo")] {
        assert_eq!(bench.create_registration_token(token(number, of)).await.unwrap().token.group, "GPU");
    }
}

pub(super) async fn tokens_are_listed_by_kind_and_id(bench: Bench) {
    assert_eq!(bench.tokens().await, Ok(startline_store::Tokens::default()));
    let api =
        [bench.create_api_token(api_token(9)).await.unwrap(), bench.create_api_token(api_token(1)).await.unwrap()];
    let registration = [
        bench.create_registration_token(registration_token(8)).await.unwrap(),
        bench.create_registration_token(registration_token(2)).await.unwrap(),
    ];
    bench.register(8, new_runner("one", 10)).await.unwrap();
    bench.revoke_api_token(api[1].id, at(5)).await.unwrap();
    let tokens = bench.tokens().await.unwrap();
    assert_eq!(tokens.api[0], api[0]);
    assert_eq!((tokens.api[1].id, tokens.api[1].revoked_at), (api[1].id, Some(at(5))));
    assert_eq!((tokens.registration[0].id, tokens.registration[0].uses), (registration[0].id, 1));
    assert_eq!(tokens.registration[1], registration[1]);
    assert_eq!((tokens.api.len(), tokens.registration.len()), (2, 2));
}

pub(super) async fn tokens_that_ended_before_are_purged(bench: Bench) {
    let forever = bench.create_api_token(NewApiToken { expires_at: None, ..api_token(1) }).await.unwrap();
    bench.create_api_token(api_token(2)).await.unwrap();
    let revoked = bench.create_api_token(NewApiToken { expires_at: None, ..api_token(3) }).await.unwrap();
    bench.revoke_api_token(revoked.id, at(60)).await.unwrap();
    bench.token(4, |token| token.expires_at = at(60)).await;
    bench.token(5, |_| {}).await;
    let revoked = bench.create_registration_token(registration_token(6)).await.unwrap();
    bench.revoke_registration_token(revoked.id, at(60)).await.unwrap();

    assert_eq!(bench.purge_tokens(at(60)).await, Ok(0), "what ended then did not end before");
    assert_eq!(bench.purge_tokens(at(61)).await, Ok(4));
    assert_eq!(bench.purge_tokens(at(61)).await, Ok(0));
    let tokens = bench.tokens().await.unwrap();
    assert_eq!(tokens.api, [forever]);
    assert_eq!(tokens.registration.iter().map(|token| token.token.hash).collect::<Vec<_>>(), [hash(5)]);
    assert_eq!(bench.register(4, new_runner("one", 10)).await, Err(Error::TokenUnknown));
}

pub(super) async fn expired_runner_tokens_are_purged(bench: Bench) {
    bench.token(1, |_| {}).await;
    let runner = |name, token, end| NewRunner { token: token_until(token, end), ..new_runner(name, token) };
    let gone = bench.register(1, runner("one", 10, 100)).await.unwrap();
    bench.delete_runner(gone.id, at(2)).await.unwrap();
    bench.register(1, runner("two", 11, 100)).await.unwrap();
    let there = bench.register(1, runner("three", 12, 200)).await.unwrap();
    assert_eq!(bench.purge_tokens(at(101)).await, Ok(2));
    assert_eq!(bench.bearer(hash(10), at(101)).await, Ok(None), "by then its runner has long heard it");
    assert_eq!(bench.bearer(hash(11), at(50)).await, Ok(None));
    assert_eq!(bench.bearer(hash(12), at(101)).await, Ok(Some(there)));
    assert_eq!(bench.runners().await.unwrap().len(), 2, "registrations are not tokens");
}

pub(super) async fn a_purge_is_bounded(bench: Bench) {
    let many = startline_store::COLLECTED + 1;
    let tokens: Vec<_> = (0..many).map(|number| bench.create_api_token(api_token(number))).collect();
    for token in tokens {
        token.await.unwrap();
    }
    assert_eq!(bench.purge_tokens(at(61)).await, Ok(startline_store::COLLECTED));
    assert_eq!(bench.purge_tokens(at(61)).await, Ok(1));
    assert_eq!(bench.purge_tokens(at(61)).await, Ok(0));
}

pub(super) async fn a_store_whose_tokens_were_purged_is_not_new(bench: Bench) {
    let first = bench.create_api_token(api_token(1)).await.unwrap();
    let registration = bench.create_registration_token(registration_token(2)).await.unwrap();
    assert_eq!(bench.purge_tokens(at(9999)).await, Ok(2));
    assert_eq!(bench.has_api_tokens().await, Ok(true));
    assert!(bench.create_api_token(api_token(1)).await.unwrap().id > first.id, "ids are not used twice");
    assert!(bench.create_registration_token(registration_token(2)).await.unwrap().id > registration.id);
}

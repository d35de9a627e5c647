use jiff::{SignedDuration, Timestamp};
use startline_store::{NewApiToken, NewRegistrationToken};

use crate::bench::{Bench, api_token, at, hash, is_engine_error, registration_token};

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
        labels: Some(vec!["a".to_owned(), "b".to_owned()]),
        max_uses: Some(3),
        ephemeral: true,
        ..registration_token(1)
    };
    let record = bench.create_registration_token(token.clone()).await.unwrap();
    assert_eq!((record.uses, record.token), (0, token));
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

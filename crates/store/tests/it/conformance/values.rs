use startline_store::{Error, SealedSecret, SecretRecord, VariableRecord};

use crate::bench::{Bench, at, place, scope};

const ACME: &str = "organization:acme";
const DEMO: &str = "repository:acme/demo";

impl Bench {
    async fn set_secret(&self, of: &str, name: &str, sealed: &[u8], second: i64) -> Result<SecretRecord, Error> {
        self.put_secret(place(of), name.to_owned(), sealed.to_vec(), at(second)).await
    }

    async fn set_variable(&self, of: &str, name: &str, value: &str, second: i64) -> Result<VariableRecord, Error> {
        self.put_variable(place(of), name.to_owned(), value.to_owned(), at(second)).await
    }

    async fn sealed(&self, scopes: &[&str]) -> Vec<SealedSecret> {
        self.sealed_secrets(scopes.iter().map(|of| place(of)).collect()).await.unwrap()
    }

    async fn variables_of(&self, scopes: &[&str]) -> Vec<VariableRecord> {
        self.variables(scopes.iter().map(|of| place(of)).collect()).await.unwrap()
    }
}

fn sealed(of: &str, name: &str, sealed: &[u8]) -> SealedSecret {
    SealedSecret { scope: place(of), name: name.to_owned(), sealed: sealed.to_vec() }
}

pub(super) async fn a_secret_is_kept_sealed(bench: Bench) {
    let record = bench.set_secret(ACME, "deploy_Key", &[0, 255, 10], 5).await.unwrap();
    assert_eq!((&record.scope, record.name.as_str()), (&place(ACME), "DEPLOY_KEY"));
    assert_eq!((record.created_at, record.updated_at), (at(5), at(5)));
    assert_eq!(bench.secrets(place(ACME)).await, Ok(vec![record]));
    assert_eq!(bench.sealed(&[ACME]).await, [sealed(ACME, "DEPLOY_KEY", &[0, 255, 10])]);
}

pub(super) async fn a_secret_is_replaced_under_its_name_without_case(bench: Bench) {
    bench.set_secret(ACME, "KEY", b"old", 5).await.unwrap();
    let replaced = bench.set_secret(ACME, "key", b"new", 9).await.unwrap();
    assert_eq!((replaced.created_at, replaced.updated_at), (at(5), at(9)));
    assert_eq!(bench.secrets(place(ACME)).await, Ok(vec![replaced]));
    assert_eq!(bench.sealed(&[ACME]).await, [sealed(ACME, "KEY", b"new")]);
}

pub(super) async fn a_secret_is_deleted_once(bench: Bench) {
    bench.set_secret(ACME, "KEY", b"x", 5).await.unwrap();
    bench.set_secret(DEMO, "KEY", b"y", 5).await.unwrap();
    assert_eq!(bench.delete_secret(place(ACME), "key".to_owned()).await, Ok(true));
    assert_eq!(bench.delete_secret(place(ACME), "key".to_owned()).await, Ok(false));
    assert_eq!(bench.sealed(&["instance", ACME, DEMO]).await, [sealed(DEMO, "KEY", b"y")]);
}

pub(super) async fn secrets_are_listed_by_name_for_one_scope(bench: Bench) {
    for (of, name) in [(ACME, "B_2"), (DEMO, "Z"), (ACME, "A"), (ACME, "B1"), ("instance", "Y")] {
        bench.set_secret(of, name, b"x", 5).await.unwrap();
    }
    let names: Vec<String> = bench.secrets(place(ACME)).await.unwrap().into_iter().map(|secret| secret.name).collect();
    assert_eq!(names, ["A", "B1", "B_2"]);
    assert_eq!(bench.secrets(place("organization:other")).await, Ok(vec![]));
}

pub(super) async fn secrets_are_delivered_in_the_order_of_the_scopes(bench: Bench) {
    bench.set_secret(DEMO, "KEY", b"inner", 5).await.unwrap();
    bench.set_secret("instance", "KEY", b"outer", 5).await.unwrap();
    bench.set_secret("instance", "ALL", b"all", 5).await.unwrap();
    bench.set_secret("repository:acme/other", "OTHER", b"other", 5).await.unwrap();
    let expected =
        [sealed("instance", "ALL", b"all"), sealed("instance", "KEY", b"outer"), sealed(DEMO, "KEY", b"inner")];
    assert_eq!(
        bench.sealed_secrets(scope(DEMO).ancestry().into_iter().map(Into::into).collect()).await,
        Ok(expected.to_vec())
    );
    assert_eq!(bench.sealed(&[]).await, []);
}

pub(super) async fn values_of_an_environment_are_not_its_repositorys(bench: Bench) {
    let production = "environment:acme/demo/production";
    bench.set_secret(DEMO, "KEY", b"all", 1).await.unwrap();
    bench.set_secret(production, "key", b"production", 2).await.unwrap();
    bench.set_variable(production, "HOST", "www", 3).await.unwrap();
    assert_eq!(bench.sealed(&[DEMO]).await, [sealed(DEMO, "KEY", b"all")]);
    let both = [sealed(DEMO, "KEY", b"all"), sealed(production, "KEY", b"production")];
    assert_eq!(bench.sealed(&[DEMO, production]).await, both);
    assert!(bench.variables_of(&[DEMO]).await.is_empty());
    assert_eq!(bench.variables_of(&["environment:ACME/demo/Production"]).await.len(), 1);
}

pub(super) async fn a_scope_has_a_hundred_secrets(bench: Bench) {
    let set = |number: u32| bench.put_secret(place(ACME), format!("KEY_{number}"), vec![1], at(5));
    let answers: Vec<_> = (0..101).map(set).collect();
    let mut refused = Vec::new();
    for answer in answers {
        refused.extend(answer.await.err());
    }
    assert_eq!(refused, [Error::TooMany { what: "secrets", scope: place(ACME), limit: 100 }]);
    assert!(bench.set_secret(ACME, "key_7", b"new", 9).await.is_ok(), "one that is there can be changed");
    assert!(bench.set_secret(DEMO, "KEY", b"x", 9).await.is_ok(), "other scopes have room");
    bench.delete_secret(place(ACME), "KEY_1".to_owned()).await.unwrap();
    assert!(bench.set_secret(ACME, "NEW", b"x", 9).await.is_ok());
}

pub(super) async fn a_variable_keeps_its_value(bench: Bench) {
    let record = bench.set_variable(ACME, "Region", "eu\n\u{1f600}", 5).await.unwrap();
    assert_eq!((&record.scope, record.name.as_str(), record.value.as_str()), (&place(ACME), "REGION", "eu\n\u{1f600}"));
    assert_eq!((record.created_at, record.updated_at), (at(5), at(5)));
    assert_eq!(bench.variables_of(&[ACME]).await, [record]);
}

pub(super) async fn a_variable_is_replaced_under_its_name_without_case(bench: Bench) {
    bench.set_variable(ACME, "REGION", "eu", 5).await.unwrap();
    let replaced = bench.set_variable(ACME, "region", "", 9).await.unwrap();
    assert_eq!((replaced.value.as_str(), replaced.created_at, replaced.updated_at), ("", at(5), at(9)));
    assert_eq!(bench.variables_of(&[ACME]).await, [replaced]);
}

pub(super) async fn a_variable_is_deleted_once(bench: Bench) {
    bench.set_variable(ACME, "REGION", "eu", 5).await.unwrap();
    bench.set_secret(ACME, "REGION", b"x", 5).await.unwrap();
    assert_eq!(bench.delete_variable(place(DEMO), "REGION".to_owned()).await, Ok(false));
    assert_eq!(bench.delete_variable(place(ACME), "region".to_owned()).await, Ok(true));
    assert_eq!(bench.delete_variable(place(ACME), "region".to_owned()).await, Ok(false));
    assert_eq!(bench.variables_of(&[ACME]).await, []);
    assert_eq!(bench.secrets(place(ACME)).await.unwrap().len(), 1, "secrets are apart");
}

pub(super) async fn variables_come_in_the_order_of_the_scopes(bench: Bench) {
    let inner = bench.set_variable(DEMO, "B", "inner", 5).await.unwrap();
    let last = bench.set_variable("instance", "B", "outer", 5).await.unwrap();
    let first = bench.set_variable("instance", "A", "outer", 5).await.unwrap();
    bench.set_variable("organization:other", "A", "other", 5).await.unwrap();
    assert_eq!(
        bench.variables(scope(DEMO).ancestry().into_iter().map(Into::into).collect()).await,
        Ok(vec![first, last, inner])
    );
    assert_eq!(bench.variables_of(&[]).await, []);
}

pub(super) async fn a_scope_has_five_hundred_variables(bench: Bench) {
    let set = |number: u32| bench.put_variable(place(ACME), format!("V_{number}"), String::new(), at(5));
    let answers: Vec<_> = (0..501).map(set).collect();
    let mut refused = Vec::new();
    for answer in answers {
        refused.extend(answer.await.err());
    }
    assert_eq!(refused, [Error::TooMany { what: "variables", scope: place(ACME), limit: 500 }]);
    assert!(bench.set_variable(ACME, "v_7", "new", 9).await.is_ok());
    assert!(bench.set_variable(DEMO, "V", "x", 9).await.is_ok());
}

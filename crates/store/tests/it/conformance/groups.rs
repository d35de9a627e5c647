use startline_protocol::admin_api::GroupRequest;
use startline_store::{DEFAULT_GROUP, Error, GroupRecord};

use crate::bench::{Bench, at, new_runner, registration_token, scope, texts};

fn policy() -> GroupRequest {
    GroupRequest {
        repositories: Some(texts(&["acme/demo", "acme/other"])),
        accepts_untrusted: true,
        protected_labels: texts(&["prod"]),
        max_running_jobs: Some(7),
        max_running_jobs_per_repository: None,
    }
}

impl Bench {
    async fn delete(&self, of: &str, name: &str) -> Result<bool, Error> {
        self.delete_group(scope(of), name.to_owned(), at(10)).await
    }

    async fn find(&self, of: &str, name: &str) -> Option<GroupRecord> {
        self.group(scope(of), name.to_owned()).await.unwrap()
    }

    /// Scope, name and members of all groups.
    async fn members(&self) -> Vec<(String, String, u32)> {
        let groups = self.groups().await.unwrap().into_iter();
        groups.map(|group| (group.scope.to_string(), group.name, group.runners)).collect()
    }
}

fn member(of: &str, name: &str, runners: u32) -> (String, String, u32) {
    (of.to_owned(), name.to_owned(), runners)
}

pub(super) async fn a_new_store_has_the_default_group(bench: Bench) {
    let default = GroupRecord {
        scope: scope("instance"),
        name: DEFAULT_GROUP.to_owned(),
        policy: GroupRequest::default(),
        runners: 0,
    };
    assert_eq!(bench.groups().await, Ok(vec![default.clone()]));
    assert_eq!(bench.find("instance", "DEFAULT").await, Some(default));
}

pub(super) async fn a_group_keeps_its_policy(bench: Bench) {
    let made = bench.set_group("organization:acme", "gpu", policy()).await;
    assert_eq!((&made.scope, made.name.as_str(), &made.policy), (&scope("organization:acme"), "gpu", &policy()));
    assert_eq!(bench.find("organization:acme", "gpu").await, Some(made));
}

pub(super) async fn a_group_is_replaced_under_its_name_without_case(bench: Bench) {
    bench.set_group("instance", "größe", policy()).await;
    let replaced = bench.set_group("instance", "GRÖßE", GroupRequest::default()).await;
    assert_eq!(replaced.policy, GroupRequest::default());
    assert_eq!(bench.find("instance", "GröSSe").await, None);
    assert_eq!(bench.find("instance", "GrößE").await, Some(replaced));
    assert_eq!(bench.members().await, [member("instance", "default", 0), member("instance", "GRÖßE", 0)]);
}

pub(super) async fn a_group_belongs_to_its_very_scope(bench: Bench) {
    bench.set_group("organization:acme", "gpu", policy()).await;
    for other in ["instance", "organization:other", "repository:acme/demo"] {
        assert_eq!(bench.find(other, "gpu").await, None, "{other}");
    }
    bench.set_group("organization:other", "gpu", GroupRequest::default()).await;
    assert_eq!(bench.find("organization:acme", "gpu").await.unwrap().policy, policy());
}

pub(super) async fn groups_are_listed_by_scope_and_name(bench: Bench) {
    for (of, name) in [
        ("repository:acme/demo", "x"),
        ("organization:b", "a"),
        ("organization:a-b", "a"),
        ("organization:a", "Zoo"),
        ("organization:a", "gpu"),
        ("instance", "ant"),
    ] {
        bench.set_group(of, name, policy()).await;
    }
    let expected = [
        member("instance", "ant", 0),
        member("instance", "default", 0),
        member("organization:a", "gpu", 0),
        member("organization:a", "Zoo", 0),
        member("organization:a-b", "a", 0),
        member("organization:b", "a", 0),
        member("repository:acme/demo", "x", 0),
    ];
    assert_eq!(bench.members().await, expected);
}

/// Registers runner `number` through a token of its own.
async fn join(bench: &Bench, number: u32, of: &str, group: &str) -> startline_protocol::ids::RunnerId {
    bench
        .token(number, |token| {
            token.scope = scope(of);
            token.group = group.to_owned();
            token.max_uses = Some(1);
        })
        .await;
    bench.register(number, new_runner(&format!("runner-{number}"), 100 + number)).await.unwrap().id
}

pub(super) async fn a_runner_is_in_the_innermost_group_of_its_name(bench: Bench) {
    bench.set_group("instance", "gpu", policy()).await;
    bench.set_group("organization:acme", "gpu", GroupRequest::default()).await;
    let scopes = ["instance", "organization:other", "organization:acme", "repository:acme/demo", "repository:acme/x"];
    let mut last = None;
    for (number, of) in (1..).zip(scopes) {
        last = Some(join(&bench, number, of, "GPU").await);
    }
    let expected = |inner| {
        [member("instance", "default", 0), member("instance", "gpu", 2), member("organization:acme", "gpu", inner)]
    };
    assert_eq!(bench.members().await, expected(3));
    assert_eq!(bench.find("organization:acme", "gpu").await.unwrap().runners, 3);
    assert_eq!(bench.set_group("organization:acme", "gpu", GroupRequest::default()).await.runners, 3);
    bench.delete_runner(last.unwrap(), at(3)).await.unwrap();
    assert_eq!(bench.members().await, expected(2));
}

pub(super) async fn a_new_group_takes_those_over_who_mean_it(bench: Bench) {
    join(&bench, 1, "repository:acme/demo", "default").await;
    assert_eq!(bench.find("instance", "default").await.unwrap().runners, 1);
    assert_eq!(bench.set_group("organization:acme", "default", policy()).await.runners, 1);
    assert_eq!(bench.find("instance", "default").await.unwrap().runners, 0);
}

pub(super) async fn a_group_is_deleted_once(bench: Bench) {
    bench.set_group("instance", "gpu", policy()).await;
    bench.set_group("organization:acme", "gpu", policy()).await;
    assert_eq!(bench.delete("organization:acme", "GPU").await, Ok(true));
    assert_eq!(bench.delete("organization:acme", "gpu").await, Ok(false));
    assert_eq!(bench.members().await, [member("instance", "default", 0), member("instance", "gpu", 0)]);
}

pub(super) async fn the_default_group_is_never_deleted(bench: Bench) {
    assert_eq!(bench.delete("instance", "Default").await, Err(Error::DefaultGroup));
    bench.set_group("organization:acme", "default", policy()).await;
    assert_eq!(bench.delete("organization:acme", "default").await, Ok(true), "an organization's own is");
    assert_eq!(bench.members().await, [member("instance", "default", 0)]);
}

pub(super) async fn a_group_with_runners_is_not_deleted(bench: Bench) {
    bench.set_group("instance", "gpu", policy()).await;
    let runner = join(&bench, 1, "repository:acme/demo", "gpu").await;
    let in_use = Error::GroupInUse { scope: scope("instance"), name: "gpu".to_owned(), runners: 1, tokens: 0 };
    assert_eq!(bench.delete("instance", "GPU").await, Err(in_use));
    assert!(bench.find("instance", "gpu").await.is_some());
    bench.delete_runner(runner, at(3)).await.unwrap();
    assert_eq!(bench.delete("instance", "gpu").await, Ok(true));
}

pub(super) async fn a_group_that_tokens_lead_to_is_not_deleted(bench: Bench) {
    bench.set_group("instance", "gpu", policy()).await;
    let in_use =
        |tokens| Err(Error::GroupInUse { scope: scope("instance"), name: "gpu".to_owned(), runners: 0, tokens });
    let token =
        |number| startline_store::NewRegistrationToken { group: "GPU".to_owned(), ..registration_token(number) };
    let revoked = bench.create_registration_token(token(1)).await.unwrap();
    let mut expiring = token(2);
    expiring.expires_at = at(11);
    bench.create_registration_token(expiring).await.unwrap();
    let used = join(&bench, 3, "instance", "gpu").await;
    bench.delete_runner(used, at(3)).await.unwrap();
    assert_eq!(bench.delete("instance", "gpu").await, in_use(2));
    bench.revoke_registration_token(revoked.id, at(9)).await.unwrap();
    assert_eq!(bench.delete("instance", "gpu").await, in_use(1));
    assert_eq!(bench.delete_group(scope("instance"), "gpu".to_owned(), at(11)).await, Ok(true));
}

pub(super) async fn a_group_that_is_hidden_by_another_can_be_deleted(bench: Bench) {
    bench.set_group("instance", "gpu", policy()).await;
    bench.set_group("organization:acme", "gpu", policy()).await;
    join(&bench, 1, "repository:acme/demo", "gpu").await;
    assert_eq!(bench.delete("instance", "gpu").await, Ok(true), "nobody means it");
    assert!(matches!(bench.delete("organization:acme", "gpu").await, Err(Error::GroupInUse { runners: 1, .. })));
}

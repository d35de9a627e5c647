//! Runner groups: whose jobs their runners take, and how many at once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use startline_protocol::admin_api::{GroupPage, GroupRequest, GroupView};
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;
use startline_store::{GroupRecord, RunnerRecord};

use super::Body;
use super::extract::{Path, Query};
use super::tokens::Whose;
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth};

/// Most repositories that a group may name.
const MOST_REPOSITORIES: usize = 1000;

/// The scope whose group is meant; repositories have none of their own.
fn owner(whose: &Whose, admin: &auth::Admin) -> ApiResult<Scope> {
    match whose.scope(admin)? {
        Scope::Repository(_) => Err(ApiError::invalid("a runner group belongs to the instance or an organization")
            .detail("use an API token of the organization, and `?organization=`")),
        scope => Ok(scope),
    }
}

pub(super) async fn list(State(app): State<Arc<App>>, admin: auth::Admin) -> ApiResult<Json<GroupPage>> {
    admin.need(Permission::GroupsRead)?;
    let own = admin.scope(None, None)?;
    let runners = app.store.runners().await?;
    let groups = app.store.groups().await?;
    let groups = groups
        .into_iter()
        .filter(|group| own.covers(&group.scope))
        .map(|group| {
            let members = members(&runners, &group);
            view(group, members)
        })
        .collect();
    Ok(Json(GroupPage { groups }))
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(name): Path<String>,
    Query(whose): Query<Whose>,
    Body(policy): Body<GroupRequest>,
) -> ApiResult<Json<GroupView>> {
    let mut record = app.audit(&admin, "runner_group.set", format_args!("runner_group:{name}"));
    let result = async {
        admin.need(Permission::GroupsWrite)?;
        let scope = owner(&whose, &admin)?;
        record.scope(scope.clone());
        check(&name, &scope, &policy)?;
        let group = app.store.put_group(scope, name, policy);
        let group = app.to_its_end(group, |app, group| app.group_changed(group)).await?;
        let members = members(&app.store.runners().await?, &group);
        Ok(Json(view(group, members)))
    };
    let result = result.await;
    record.conclude(result).await
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(name): Path<String>,
    Query(whose): Query<Whose>,
) -> ApiResult<StatusCode> {
    let mut record = app.audit(&admin, "runner_group.delete", format_args!("runner_group:{name}"));
    let result = async {
        admin.need(Permission::GroupsWrite)?;
        let scope = owner(&whose, &admin)?;
        record.scope(scope.clone());
        let deleted = app.store.delete_group(scope.clone(), name.clone(), app.clock.now());
        app.to_its_end(deleted, move |app, deleted| {
            if *deleted {
                app.group_deleted(&scope, &name);
            }
        })
        .await?;
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    record.conclude(result).await
}

fn members(runners: &[RunnerRecord], group: &GroupRecord) -> u32 {
    let inside =
        |runner: &&RunnerRecord| runner.group.eq_ignore_ascii_case(&group.name) && group.scope.covers(&runner.scope);
    u32::try_from(runners.iter().filter(inside).count()).unwrap_or(u32::MAX)
}

fn view(group: GroupRecord, runners: u32) -> GroupView {
    GroupView { name: group.name, scope: group.scope, policy: group.policy, runners }
}

fn check(name: &str, scope: &Scope, policy: &GroupRequest) -> ApiResult<()> {
    let good = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control) && name.trim() == name;
    if !good || name.contains('/') {
        return Err(ApiError::invalid("a group's name has 1 to 64 printable characters and no `/`"));
    }
    let repositories = policy.repositories.as_deref().unwrap_or_default();
    if repositories.len() > MOST_REPOSITORIES {
        return Err(ApiError::invalid(format!("a group names at most {MOST_REPOSITORIES} repositories")));
    }
    for repository in repositories {
        if Scope::repository(repository).is_err() {
            return Err(
                ApiError::invalid(format!("`{repository}` is not a repository")).detail("write it as `owner/name`")
            );
        }
        if !scope.covers_repository(repository) {
            return Err(ApiError::invalid(format!("repository `{repository}` is not in {scope}, whose group this is")));
        }
    }
    for (member, limit) in [
        ("max_running_jobs", policy.max_running_jobs),
        ("max_running_jobs_per_repository", policy.max_running_jobs_per_repository),
    ] {
        if limit == Some(0) {
            return Err(ApiError::invalid(format!(
                "`{member}` is 0, so that nothing could run; leave it out for no limit"
            )));
        }
    }
    Ok(())
}

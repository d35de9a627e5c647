//! Scale sets, by a client of our own that speaks the wire as GitHub's does and fails where that one does.

pub(crate) mod client;
mod ends;

use http::Method;
use serde_json::{Value, json};
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::{Conclusion, JobStatus};

use crate::harness::{Service, eventually};
use crate::official::client::{Official, send};
use client::{Controller, Listener, find};

/// Polls that end soon, so that tests need not wait for them.
const SHORT: [&str; 2] = ["--broker-poll-timeout", "1s"];
const MANY: i64 = 2_147_483_647;

fn jobs(count: usize) -> SubmitRequest {
    let list: Vec<String> = (0..count).map(|at| at.to_string()).collect();
    let workflow = format!(
        "on: push\njobs:\n  build:\n    runs-on: linux-x64\n    strategy: {{matrix: {{at: [{}]}}}}\n    steps: [{{run: 'true'}}]\n",
        list.join(", ")
    );
    SubmitRequest { workflow, repository: Some("acme/app".to_owned()), ..SubmitRequest::default() }
}

/// A service with a set `linux-x64` of an organization.
async fn with_set(flags: &[&str]) -> (Service, Controller, i64) {
    let service = Service::start(&[&SHORT[..], flags].concat());
    let controller = Controller::connect(&service, "acme").await;
    let set = controller.make(&service, "linux-x64").await;
    (service, controller, set)
}

async fn listening(flags: &[&str]) -> (Service, Controller, Listener) {
    let (service, controller, set) = with_set(flags).await;
    let listener = controller.listen(&service, set, "linux-x64-listener").await;
    (service, controller, listener)
}

fn type_name(reply: &crate::http::Reply) -> String {
    reply.json()["typeName"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

#[tokio::test]
async fn a_set_is_made_shown_changed_and_deleted_with_the_statuses_that_its_client_takes() {
    let (service, controller, set) = with_set(&[]).await;
    let path = format!("runtime/runnerscalesets/{set}");
    let shown = controller.call(&service, Method::GET, &path, None).await;
    assert_eq!(shown.code(), 200);
    let shown = shown.json();
    assert_eq!((&shown["name"], &shown["runnerGroupName"]), (&json!("linux-x64"), &json!("Default")), "echoed exactly");
    assert_eq!(shown["RunnerSetting"], json!({ "disableUpdate": true }), "with a capital letter");
    assert_eq!(shown["labels"], json!([{ "type": "System", "name": "linux-x64" }]));
    assert!(shown["statistics"].is_object());
    let found = controller
        .call(&service, Method::GET, "runtime/runnerscalesets?runnerGroupId=1&name=linux-x64", None)
        .await
        .json();
    assert_eq!((&found["count"], &found["value"][0]["id"]), (&json!(1), &json!(set)));
    for none in ["runnerGroupId=2&name=linux-x64", "name=linux-x6"] {
        let found = controller.call(&service, Method::GET, &format!("runtime/runnerscalesets?{none}"), None).await;
        assert_eq!((found.code(), &found.json()["count"]), (200, &json!(0)), "{none}");
    }
    // What Go leaves out, it writes as zero.
    let zero = json!({ "name": "", "runnerGroupId": 1, "labels": null, "RunnerSetting": {}, "createdOn": "0001-01-01T00:00:00Z" });
    let changed = controller.call(&service, Method::PATCH, &path, Some(&zero)).await;
    assert_eq!((changed.code(), changed.json()), (200, shown), "nothing was said, nothing has changed");
    let name = json!({ "name": "linux-arm", "RunnerSetting": { "ephemeral": true } });
    let changed = controller.call(&service, Method::PATCH, &path, Some(&name)).await.json();
    assert_eq!((&changed["name"], &changed["labels"][0]["name"]), (&json!("linux-arm"), &json!("linux-x64")));
    assert_eq!(changed["RunnerSetting"], json!({ "disableUpdate": true, "ephemeral": true }));
    for _ in 0..2 {
        let again = json!({ "name": "linux-arm", "runnerGroupId": 1 });
        let refused = controller.call(&service, Method::POST, "runtime/runnerscalesets", Some(&again)).await;
        assert_eq!(refused.code(), 409, "{refused:?}");
    }
    for _ in 0..2 {
        // actions-runner-controller keeps a set whose deletion fails, and deletes again, for ever.
        assert_eq!(controller.call(&service, Method::DELETE, &path, None).await.code(), 204);
    }
    let gone = controller.call(&service, Method::GET, &path, None).await;
    assert_eq!(gone.code(), 404);
    assert!(type_name(&gone).contains("RunnerScaleSetNotFoundException"));
}

#[tokio::test]
async fn names_that_clients_would_mangle_and_versions_that_are_not_known_are_refused_clearly() {
    let (service, controller, _) = with_set(&[]).await;
    for name in ["a+b", "a&b", "a#b", "50%", "", "ümlaut"] {
        let body = json!({ "name": name, "runnerGroupId": 1 });
        let reply = controller.call(&service, Method::POST, "runtime/runnerscalesets", Some(&body)).await;
        assert_eq!(reply.code(), 400, "{name}: {reply:?}");
        assert!(reply.json()["message"].as_str().unwrap().contains("use 1 to 64 letters"), "{reply:?}");
    }
    let reply = controller.call_raw(&service, Method::GET, "runtime/runnerscalesets?api-version=7.1", None).await;
    assert_eq!(reply.code(), 400);
    assert!(type_name(&reply).contains("VssVersionOutOfRangeException"));
    assert_eq!(controller.call_raw(&service, Method::GET, "runtime/runnerscalesets", None).await.code(), 200);
}

#[tokio::test]
async fn the_default_group_is_number_one_and_groups_are_found_by_name() {
    let (service, controller, _) = with_set(&[]).await;
    let groups = async |name: &str| {
        controller.call(&service, Method::GET, &format!("runtime/runnergroups/?groupName={name}"), None).await
    };
    let found = groups("default").await.json();
    assert_eq!(found["count"], 1);
    assert_eq!(found["value"][0], json!({ "id": 1, "name": "Default", "size": 0, "isDefaultGroup": true }));
    assert_eq!(groups("none").await.json()["count"], 0);
}

#[tokio::test]
async fn a_job_is_assigned_started_and_completed_and_its_runner_is_gone() {
    let (service, controller, mut listener) = listening(&[]).await;
    assert_eq!(listener.wants(10), 0);
    let run = service.submit_with(jobs(1)).await;
    let assigned = listener.read(&service, MANY, "JobAssigned").await;
    assert_eq!((&assigned["ownerName"], &assigned["repositoryName"]), (&json!("acme"), &json!("app")));
    assert_eq!(assigned["requestLabels"], json!(["linux-x64"]));
    assert_eq!((listener.wants(10), listener.number("totalRunningJobs")), (1, 0), "the message and its count agree");
    let runner = controller.runner(&service, listener.set, "linux-x64-abc12-runner-9kx2z").await;
    let held = runner.take(&service).await;
    let started = listener.read(&service, MANY, "JobStarted").await;
    assert_eq!((&started["runnerId"], &started["runnerName"]), (&json!(runner.id), &json!(runner.name)));
    assert_eq!(started["jobId"], assigned["jobId"]);
    assert_eq!((listener.wants(10), listener.number("totalRunningJobs")), (1, 1), "running jobs are assigned ones");
    assert_eq!(listener.number("totalBusyRunners"), 1);
    assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    let completed = listener.read(&service, MANY, "JobCompleted").await;
    assert_eq!((&completed["result"], &completed["runnerId"]), (&json!("succeeded"), &json!(runner.id)));
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    listener
        .read_until(&service, MANY, "the runner is gone", |listener, _| listener.number("totalRegisteredRunners") == 0)
        .await;
    assert_eq!(listener.wants(10), 0);
}

#[tokio::test]
async fn a_queued_job_is_told_at_once() {
    let (service, _, mut listener) = listening(&[]).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let (submitted, heard) = tokio::join!(
            async {
                service.submit_with(jobs(1)).await;
                tokio::time::Instant::now()
            },
            async {
                listener.read(&service, MANY, "JobAssigned").await;
                tokio::time::Instant::now()
            }
        );
        times.push(heard.saturating_duration_since(submitted));
    }
    times.sort();
    println!("from the answer to a submission to its message: {times:?}");
    assert!(times[2] < std::time::Duration::from_millis(500), "{times:?}");
}

#[tokio::test]
async fn the_capacity_of_each_poll_bounds_what_is_assigned() {
    let (service, _, mut listener) = listening(&[]).await;
    service.submit_with(jobs(3)).await;
    eventually("the jobs are queued", async || {
        let path = format!("runtime/runnerscalesets/{}", listener.set);
        let reply = listener.controller.call(&service, Method::GET, &path, None).await;
        (reply.json()["statistics"]["totalAvailableJobs"] == 3).then_some(())
    })
    .await;
    assert_eq!(listener.poll(&service, 0).await, None, "202 while jobs wait");
    let all = listener.read_until(&service, 2, "two", |listener, _| listener.wants(9) == 2).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(listener.number("totalAvailableJobs"), 1);
    listener.read_until(&service, 5, "all", |listener, _| listener.wants(9) == 3).await;
    let back = listener.read_until(&service, 1, "one", |listener, _| listener.wants(9) == 1).await;
    assert!(
        back.iter().all(|inner| inner["messageType"] == "JobCompleted" && inner["result"] == "canceled"),
        "{back:?}"
    );
}

#[tokio::test]
async fn a_message_has_at_most_fifty_jobs_and_none_is_left_out() {
    let (service, _, mut listener) = listening(&[]).await;
    service.submit_with(jobs(120)).await;
    let all = listener.read_until(&service, MANY, "all of them", |_, all| all.len() >= 120).await;
    let ids: std::collections::BTreeSet<i64> =
        all.iter().map(|inner| inner["runnerRequestId"].as_i64().unwrap()).collect();
    assert_eq!((ids.len(), listener.wants(1000)), (120, 120));
}

#[tokio::test]
async fn the_same_owner_takes_over_at_once_and_another_one_gets_a_conflict() {
    let (service, controller, listener) = listening(&[]).await;
    let foreign = controller.try_session(&service, listener.set, "another-listener").await;
    assert_eq!(foreign.code(), 409);
    assert!(type_name(&foreign).contains("RunnerScaleSetSessionConflictException"), "{foreign:?}");
    assert!(foreign.json()["message"].as_str().unwrap().contains("linux-x64-listener"));
    let new = controller.listen(&service, listener.set, "linux-x64-listener").await;
    assert_eq!(listener.try_poll(&service, 1).await.code(), 401, "it is told to refresh");
    let refused = listener.try_refresh(&service).await;
    assert_eq!(refused.code(), 404, "and then to go");
    assert!(type_name(&refused).contains("RunnerScaleSetSessionNotFoundException"));
    assert_eq!(new.try_poll(&service, 1).await.code(), 202);
    assert_eq!([new.end(&service).await.code(), new.end(&service).await.code()], [204, 204]);
    controller.listen(&service, listener.set, "another-listener").await;
}

#[tokio::test]
async fn a_poll_that_is_held_ends_when_its_session_is_taken_over() {
    let service = Service::start(&[]);
    let controller = Controller::connect(&service, "acme/app").await;
    let set = controller.make(&service, "linux-x64").await;
    let old = controller.listen(&service, set, "listener").await;
    let (ended, ()) = tokio::join!(old.try_poll(&service, 1), async {
        // Whether the poll is held already or comes afterwards, it is answered the same.
        controller.listen(&service, set, "listener").await;
    });
    assert_eq!(ended.code(), 401, "{ended:?}");
}

#[tokio::test]
async fn a_refreshed_token_is_new_and_the_old_one_still_works() {
    let (service, _, mut listener) = listening(&[]).await;
    let old = listener.token.clone();
    listener.refresh(&service).await;
    assert_ne!(listener.token, old);
    let session = listener.session.clone();
    assert_eq!(listener.try_poll(&service, 1).await.code(), 202);
    listener.token = old;
    assert_eq!(listener.try_poll(&service, 1).await.code(), 202, "it may be on its way");
    for _ in 0..3 {
        listener.refresh(&service).await;
    }
    assert_eq!(listener.session, session, "never refused while it is alive");
}

#[tokio::test]
async fn what_was_not_acknowledged_is_told_again_to_the_next_session() {
    let (service, controller, mut listener) = listening(&[]).await;
    service.submit_with(jobs(1)).await;
    let first = loop {
        if let Some(read) = listener.poll(&service, MANY).await {
            break read;
        }
    };
    let mut second = controller.listen(&service, listener.set, "linux-x64-listener").await;
    assert_eq!(second.wants(9), 1, "the session knows how many without any message");
    let again = second.poll(&service, MANY).await.unwrap();
    assert_eq!(again, first);
    second.acknowledge(&service, first.0).await;
    second.acknowledge(&service, first.0).await;
    assert_eq!(second.poll(&service, MANY).await, None, "it was acknowledged");
}

#[tokio::test]
async fn a_cancelled_job_leaves_its_set_at_once_and_says_so() {
    let (service, _, mut listener) = listening(&[]).await;
    let run = service.submit_with(jobs(1)).await;
    listener.read(&service, MANY, "JobAssigned").await;
    service.client.cancel_run(run).await.unwrap();
    let completed = listener.read(&service, MANY, "JobCompleted").await;
    assert_eq!((&completed["result"], &completed["runnerId"]), (&json!("canceled"), &json!(0)));
    assert_eq!(listener.wants(9), 0);
}

#[tokio::test]
async fn a_job_that_another_runner_takes_leaves_its_set_and_nobody_runs_it_twice() {
    let (service, _, mut listener) = listening(&[]).await;
    let run = service.submit_with(jobs(1)).await;
    listener.read(&service, MANY, "JobAssigned").await;
    let reply = send(
        &service,
        Method::POST,
        "/api/v3/repos/acme/app/actions/runners/registration-token",
        Some(&format!("token {}", service.token)),
        None,
    )
    .await;
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    let mut other = Official::configure(&service, "acme/app", &token, "build-07", &["linux-x64"]).await;
    other.listen(&service).await;
    let held = other.take(&service).await;
    let completed = listener.read(&service, MANY, "JobCompleted").await;
    assert_eq!(completed["result"], "canceled");
    assert_eq!((listener.wants(9), listener.number("totalRunningJobs")), (0, 0), "no runner is started for it");
    held.complete(&service, "succeeded", json!({})).await;
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn agents_are_found_and_removed_but_not_while_they_work() {
    let (service, controller, listener) = listening(&[]).await;
    let runner = controller.runner(&service, listener.set, "linux-x64-1").await;
    let clash = controller.try_jit(&service, listener.set, "linux-x64-1").await;
    assert_eq!(clash.code(), 409);
    assert!(type_name(&clash).contains("AgentExistsException"));
    let agents = "distributedtask/pools/0/agents";
    let found = controller.call(&service, Method::GET, &format!("{agents}?agentName=linux-x64-1"), None).await.json();
    let shown = json!({ "id": runner.id, "name": "linux-x64-1", "runnerScaleSetId": listener.set });
    assert_eq!((&found["count"], &found["value"][0]), (&json!(1), &shown));
    let none = controller.call(&service, Method::GET, &format!("{agents}?agentName=linux-x64-2"), None).await.json();
    assert_eq!(none["count"], 0);
    let path = format!("{agents}/{}", runner.id);
    assert_eq!(controller.call(&service, Method::GET, &path, None).await.json(), shown);
    service.submit_with(jobs(1)).await;
    let held = runner.take(&service).await;
    let busy = controller.call(&service, Method::DELETE, &path, None).await;
    assert_eq!(busy.code(), 400);
    assert!(type_name(&busy).contains("JobStillRunningException"));
    held.complete(&service, "succeeded", json!({})).await;
    for _ in 0..2 {
        assert_eq!(controller.call(&service, Method::DELETE, &path, None).await.code(), 204, "gone or not");
    }
    let gone = controller.call(&service, Method::GET, &path, None).await;
    assert_eq!(gone.code(), 404);
    assert!(type_name(&gone).contains("AgentNotFoundException"));
}

#[tokio::test]
async fn no_bearer_passes_for_another() {
    let (service, controller, listener) = listening(&[]).await;
    let mut wrong = controller.clone();
    wrong.token = listener.token.clone();
    assert_eq!(wrong.call(&service, Method::GET, "runtime/runnerscalesets", None).await.code(), 401);
    let ids = json!([1]);
    let admin = format!("Bearer {}", controller.token);
    assert_eq!(listener.acquire(&service, &ids, &admin).await.code(), 401, "it takes the token of the queue");
    let acquired = listener.acquire(&service, &ids, &listener.bearer()).await;
    assert_eq!((acquired.code(), acquired.json()), (200, json!({ "count": 0, "value": [] })));
    let reply = send(
        &service,
        Method::POST,
        "/api/v3/orgs/acme/actions/runners/remove-token",
        Some(&format!("token {}", service.token)),
        None,
    )
    .await;
    let remover = Controller::enter(&service, "acme", reply.json()["token"].as_str().unwrap()).await;
    assert_eq!(remover.call(&service, Method::GET, "runtime/runnerscalesets", None).await.code(), 403);
    // A set of an organization is none of another's business.
    let other = Controller::connect(&service, "umbrella").await;
    let path = format!("runtime/runnerscalesets/{}", listener.set);
    assert_eq!(other.call(&service, Method::GET, &path, None).await.code(), 404);
    assert_eq!(other.call(&service, Method::GET, "runtime/runnerscalesets", None).await.json()["count"], 0);
}

#[tokio::test]
async fn after_a_crash_of_the_service_listener_runner_and_job_go_on() {
    let (mut service, controller, mut listener) = listening(&[]).await;
    let run = service.submit_with(jobs(2)).await;
    listener.read_until(&service, 2, "both", |listener, _| listener.wants(9) == 2).await;
    let runner = controller.runner(&service, listener.set, "linux-x64-1").await;
    let held = runner.take(&service).await;
    listener.read(&service, 2, "JobStarted").await;
    service.process.crash();
    service.restart();
    // With the session, the token and the last message that it had; `read_until` checks that ids go on growing.
    let told = listener
        .read_until(&service, 2, "the counts are back", |listener, all| {
            listener.wants(9) == 2 && listener.number("totalRunningJobs") == 1 && !all.is_empty()
        })
        .await;
    assert!(find(&told, "JobStarted").is_none(), "it knows: {told:?}");
    assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    let completed = listener.read(&service, 2, "JobCompleted").await;
    assert_eq!((&completed["result"], &completed["runnerId"]), (&json!("succeeded"), &json!(runner.id)));
    let second = controller.runner(&service, listener.set, "linux-x64-2").await;
    let held = second.take(&service).await;
    held.complete(&service, "succeeded", json!({})).await;
    listener.read_until(&service, 2, "all done", |listener, _| listener.wants(9) == 0).await;
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn after_a_crash_of_the_service_a_listener_is_told_of_each_beginning_and_of_each_end_once() {
    let (mut service, controller, mut listener) = listening(&[]).await;
    let run = service.submit_with(jobs(4)).await;
    listener.read_until(&service, 4, "all", |listener, _| listener.wants(9) == 4).await;
    let mut pods = Vec::new();
    for at in 0..4 {
        let runner = controller.runner(&service, listener.set, &format!("pod-{at}")).await;
        let held = runner.take(&service).await;
        let started = listener.read(&service, 4, "JobStarted").await;
        assert_eq!(started["runnerId"], runner.id);
        pods.push((runner.id, held));
    }
    // One ends before the crash, one before the listener is back, and neither of them is told by then.
    assert_eq!(pods[0].1.complete(&service, "succeeded", json!({})).await.code(), 204);
    service.process.crash();
    service.restart();
    assert_eq!(pods[1].1.complete(&service, "failed", json!({})).await.code(), 204);
    let both = |all: &[Value]| all.iter().filter(|inner| inner["messageType"] == "JobCompleted").count() == 2;
    let mut told = listener.read_until(&service, 4, "two have ended", |_, all| both(all)).await;
    service.process.crash();
    service.restart();
    for (_, held) in &pods[2..] {
        assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    }
    told.extend(listener.read_until(&service, 4, "the others", |_, all| both(all)).await);
    listener.read_until(&service, 4, "all done", |listener, _| listener.wants(9) == 0).await;
    // Listeners count their runners by these: GitHub's example ends at a beginning or an end that it knows already.
    assert!(find(&told, "JobStarted").is_none(), "{told:?}");
    let mut ended: Vec<(i64, &str)> = told
        .iter()
        .filter(|inner| inner["messageType"] == "JobCompleted")
        .map(|inner| (inner["runnerId"].as_i64().unwrap(), inner["result"].as_str().unwrap()))
        .collect();
    ended.sort_unstable();
    let results = ["succeeded", "failed", "succeeded", "succeeded"];
    let expected: Vec<_> = pods.iter().zip(results).map(|((id, _), result)| (*id, result)).collect();
    assert_eq!(ended, expected);
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure));
}

#[tokio::test]
async fn a_listener_that_crashes_after_each_acknowledgement_ends_with_the_right_number_of_runners() {
    let (service, controller, set) = with_set(&[]).await;
    let run = service.submit_with(jobs(3)).await;
    let mut pods: Vec<(Official, Option<crate::official::client::Held>)> = Vec::new();
    let mut made = 0;
    let until = tokio::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        assert!(tokio::time::Instant::now() < until, "{made} runners");
        // Each life of the listener reads one message, acknowledges it, and dies before it has looked at it.
        let mut listener = controller.listen(&service, set, "linux-x64-listener").await;
        let read = listener.poll(&service, 3).await;
        if let Some((id, _)) = &read {
            listener.acknowledge(&service, *id).await;
        }
        // The next one decides by the statistics of its session alone.
        let next = controller.listen(&service, set, "linux-x64-listener").await;
        let wanted = usize::try_from(next.wants(3)).unwrap();
        while pods.len() < wanted {
            made += 1;
            pods.push((controller.runner(&service, set, &format!("pod-{made}")).await, None));
        }
        if let Some((runner, held)) = pods.iter_mut().find(|(_, held)| held.is_none()) {
            *held = Some(runner.take(&service).await);
        } else if let Some((_, Some(held))) = pods.pop() {
            assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
        } else if wanted == 0 && made > 0 {
            break;
        }
    }
    assert_eq!(made, 3, "one runner for each job");
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn a_runner_whose_job_was_cancelled_before_it_had_it_is_told_to_leave() {
    let (service, controller, mut listener) = listening(&[]).await;
    let run = service.submit_with(jobs(1)).await;
    listener.read(&service, MANY, "JobAssigned").await;
    let runner = controller.runner(&service, listener.set, "ghost").await;
    let offer = runner.offer(&service).await;
    service.client.cancel_run(run).await.unwrap();
    service.job(run, "the job is cancelled", |job| job.status == JobStatus::Completed).await;
    assert_eq!(runner.acquire(&service, &offer).await.code(), 404);
    let reply = runner.poll(&service, "Online").await;
    assert_eq!((reply.code(), &reply.json()["errorKind"]), (404, &json!("RunnerNotFound")), "{reply:?}");
    listener
        .read_until(&service, MANY, "it does not count", |listener, _| listener.number("totalRegisteredRunners") == 0)
        .await;
}

#[tokio::test]
async fn a_job_that_no_runner_starts_is_assigned_three_times_and_the_reason_is_shown() {
    let (service, _, mut listener) = listening(&["--scale-set-patience", "1s"]).await;
    let run = service.submit_with(jobs(1)).await;
    let canceled = |all: &[Value]| all.iter().filter(|inner| inner["messageType"] == "JobCompleted").count();
    let all = listener.read_until(&service, MANY, "three times", |_, all| canceled(all) == 3).await;
    let kinds: Vec<&str> = all.iter().map(|inner| inner["messageType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["JobAssigned", "JobCompleted", "JobAssigned", "JobCompleted", "JobAssigned", "JobCompleted"]);
    assert!(all.iter().all(|inner| inner["jobId"] == all[0]["jobId"]), "the same over all of them");
    assert_eq!(listener.wants(9), 0);
    let job = service.job(run, "it is still queued", |job| job.status == JobStatus::Queued).await;
    let explained = service.client.explain(job.id).await.unwrap();
    assert!(explained.summary.contains("assigned the job 3 times"), "{}", explained.summary);
}

#[tokio::test]
async fn two_listeners_that_race_for_jobs_win_each_job_once() {
    let service = Service::start(&[&SHORT[..], &["--scale-set-mode", "acquire"]].concat());
    let controller = Controller::connect(&service, "acme").await;
    let mut sets = Vec::new();
    for name in ["one", "two"] {
        let body = json!({ "name": name, "runnerGroupId": 1, "labels": [{ "type": "System", "name": "linux-x64" }] });
        let reply = controller.call(&service, Method::POST, "runtime/runnerscalesets", Some(&body)).await;
        sets.push(reply.json()["id"].as_i64().unwrap());
    }
    let mut one = controller.listen(&service, sets[0], "one").await;
    let mut two = controller.listen(&service, sets[1], "two").await;
    let none = controller
        .call(&service, Method::GET, &format!("runtime/runnerscalesets/{}/acquirablejobs", sets[0]), None)
        .await;
    assert_eq!(none.code(), 204);
    service.submit_with(jobs(6)).await;
    let all_six =
        |_: &Listener, all: &[Value]| all.iter().filter(|inner| inner["messageType"] == "JobAvailable").count() == 6;
    let offered = one.read_until(&service, MANY, "six", all_six).await;
    let same = two.read_until(&service, MANY, "six", all_six).await;
    assert!(offered[0]["acquireJobUrl"].as_str().unwrap().ends_with("/acquirejobs"));
    let listed = controller
        .call(&service, Method::GET, &format!("runtime/runnerscalesets/{}/acquirablejobs", sets[0]), None)
        .await;
    assert_eq!((listed.code(), &listed.json()["count"]), (200, &json!(6)));
    let ids = |all: &[Value]| Value::Array(all.iter().map(|inner| inner["runnerRequestId"].clone()).collect());
    let (first, second) = (ids(&offered), ids(&same));
    let (one_bearer, two_bearer) = (one.bearer(), two.bearer());
    let (a, b) = tokio::join!(one.acquire(&service, &first, &one_bearer), two.acquire(&service, &second, &two_bearer));
    let won = |reply: &crate::http::Reply| {
        assert_eq!(reply.code(), 200, "{reply:?}");
        reply.json()["value"].as_array().unwrap().clone()
    };
    let (a, b) = (won(&a), won(&b));
    assert_eq!(a.len() + b.len(), 6, "{a:?} {b:?}");
    assert!(a.iter().all(|id| !b.contains(id)));
    one.read_until(&service, MANY, "its own", |one, _| one.wants(9) == i64::try_from(a.len()).unwrap()).await;
    two.read_until(&service, MANY, "its own", |two, _| two.wants(9) == i64::try_from(b.len()).unwrap()).await;
}

#[tokio::test]
async fn older_controllers_acquire_jobs_with_the_doubled_slash_that_they_make() {
    let (service, _, mut listener) = listening(&["--scale-set-mode", "acquire"]).await;
    service.submit_with(jobs(1)).await;
    let offered = listener.read(&service, MANY, "JobAvailable").await;
    let acquired = listener.acquire_as_of_old(&service, &json!([offered["runnerRequestId"]])).await;
    assert_eq!(acquired.code(), 200, "{acquired:?}");
    assert_eq!(acquired.json()["value"], json!([offered["runnerRequestId"]]));
    listener.read_until(&service, MANY, "it is assigned", |listener, _| listener.wants(9) == 1).await;
}

#[tokio::test]
async fn two_sets_that_fit_the_same_jobs_do_not_start_two_runners_for_one() {
    let (service, controller, mut first) = listening(&[]).await;
    let body = json!({ "name": "second", "runnerGroupId": 1, "labels": [{ "type": "System", "name": "linux-x64" }] });
    let made = controller.call(&service, Method::POST, "runtime/runnerscalesets", Some(&body)).await.json();
    let mut second = controller.listen(&service, made["id"].as_i64().unwrap(), "second").await;
    service.submit_with(jobs(5)).await;
    first.read_until(&service, 2, "two", |first, _| first.wants(9) == 2).await;
    second.read_until(&service, 9, "the others", |second, _| second.wants(9) == 3).await;
    assert_eq!(second.number("totalAvailableJobs"), 2, "those of the first");
}

#[tokio::test]
async fn a_registration_token_that_is_bound_to_labels_makes_no_set_with_others() {
    let service = Service::start(&SHORT);
    let minted = async |body: Value| {
        let url = "/api/v3/orgs/acme/actions/runners/registration-token";
        let auth = format!("token {}", service.token);
        send(&service, Method::POST, url, Some(&auth), Some(&body)).await
    };
    let reply = minted(json!({ "labels": ["gpu"] })).await;
    let bound = Controller::enter(&service, "acme", reply.json()["token"].as_str().unwrap()).await;
    let wanted = |label: &str| json!({ "name": "set-a", "labels": [{ "type": "System", "name": label }] });
    let refused = bound.call(&service, Method::POST, "runtime/runnerscalesets", Some(&wanted("prod"))).await;
    assert_eq!(refused.code(), 403, "{refused:?}");
    assert_eq!(bound.call(&service, Method::POST, "runtime/runnerscalesets", Some(&wanted("GPU"))).await.code(), 200);
    let reply = minted(json!({ "max_uses": 1 })).await;
    let counted = Controller::enter(&service, "acme", reply.json()["token"].as_str().unwrap()).await;
    assert_eq!(counted.call(&service, Method::GET, "runtime/runnerscalesets", None).await.code(), 403);
}

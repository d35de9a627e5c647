//! The events that start workflows, their activity types and the filters they take.
//!
//! Source: actions/runner `Sdk/WorkflowParser/workflow-v1.0.json`, `on-mapping-strict`.

/// An event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) name: &'static str,
    /// Activity types; empty where it has none.
    pub(super) types: &'static [&'static str],
    /// Keys besides `types`.
    pub(super) keys: &'static [&'static str],
}

const fn event(name: &'static str, types: &'static [&'static str]) -> Event {
    Event { name, types, keys: &[] }
}

const CHANGED: &[&str] = &["created", "edited", "deleted"];
const PULL_REQUEST: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "ready_for_review",
    "locked",
    "unlocked",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
];
const BRANCHES_AND_PATHS: &[&str] = &["branches", "branches-ignore", "paths", "paths-ignore"];

pub(super) const EVENTS: &[Event] = &[
    event("branch_protection_rule", CHANGED),
    event("check_run", &["created", "rerequested", "completed", "requested_action"]),
    event("check_suite", &["completed"]),
    event("create", &[]),
    event("delete", &[]),
    event("deployment", &[]),
    event("deployment_status", &[]),
    event(
        "discussion",
        &[
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered",
        ],
    ),
    event("discussion_comment", CHANGED),
    event("fork", &[]),
    event("gollum", &[]),
    Event { name: "image_version", types: &["created", "ready", "deleted"], keys: &["names", "versions"] },
    event("issue_comment", CHANGED),
    event(
        "issues",
        &[
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
        ],
    ),
    event("label", CHANGED),
    event("merge_group", &["checks_requested"]),
    event("milestone", &["created", "closed", "opened", "edited", "deleted"]),
    event("page_build", &[]),
    event("project", &["created", "closed", "reopened", "edited", "deleted"]),
    event("project_card", &["created", "moved", "converted", "edited", "deleted"]),
    event("project_column", &["created", "updated", "moved", "deleted"]),
    event("public", &[]),
    Event { name: "pull_request", types: PULL_REQUEST, keys: BRANCHES_AND_PATHS },
    event("pull_request_comment", CHANGED),
    event("pull_request_review", &["submitted", "edited", "dismissed"]),
    event("pull_request_review_comment", CHANGED),
    Event { name: "pull_request_target", types: PULL_REQUEST, keys: BRANCHES_AND_PATHS },
    Event {
        name: "push",
        types: &[],
        keys: &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"],
    },
    event("registry_package", &["published", "updated"]),
    event("release", &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"]),
    event("repository_dispatch", &[]),
    event("schedule", &[]),
    event("status", &[]),
    event("watch", &["started"]),
    event("workflow_call", &[]),
    Event { name: "workflow_dispatch", types: &[], keys: &["inputs"] },
    Event {
        name: "workflow_run",
        types: &["requested", "completed", "in_progress"],
        keys: &["workflows", "branches", "branches-ignore"],
    },
];

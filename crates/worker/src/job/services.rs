//! What actions are told of the service: where it is, and the bearer that opens it.
//!
//! Names: actions/runner `Runner.Worker/Handlers/NodeScriptActionHandler.cs`.

use startline_protocol::job_message::{Endpoint, JobMessage};

use super::Job;
use crate::environment::Environment;

/// The endpoint of the service, and the job's bearer there.
pub(super) fn endpoint(message: &JobMessage) -> Option<(&Endpoint, &str)> {
    let endpoint =
        message.resources.endpoints.iter().find(|known| known.name.eq_ignore_ascii_case("SystemVssConnection"))?;
    let token = endpoint.authorization.parameters.get("AccessToken")?;
    (!token.is_empty()).then_some((endpoint, token.as_str()))
}

impl Job {
    /// Where a step may ask for an identity token, when the job may have one.
    pub(super) fn add_identity(&self, all: &mut Environment) {
        let Some((endpoint, token)) = endpoint(&self.message) else { return };
        if let Some(url) = endpoint.data.get("GenerateIdTokenUrl").filter(|url| !url.is_empty()) {
            all.set("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str());
            all.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token);
        }
    }

    /// What a JavaScript action needs for artifacts and caches, and for identity tokens.
    pub(super) fn add_services(&self, all: &mut Environment) {
        self.add_addresses(all);
        let on = |name| self.message.variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if endpoint(&self.message).is_some() && on("actions_uses_cache_service_v2") {
            all.set("ACTIONS_CACHE_SERVICE_V2", "True");
        }
    }

    /// The same for an action that runs in a container (actions/runner `ContainerActionHandler.cs`).
    pub(super) fn add_addresses(&self, all: &mut Environment) {
        let Some((endpoint, token)) = endpoint(&self.message) else { return };
        all.set("ACTIONS_RUNTIME_URL", endpoint.url.as_str());
        all.set("ACTIONS_RUNTIME_TOKEN", token);
        for (name, member) in [
            ("ACTIONS_CACHE_URL", "CacheServerUrl"),
            ("ACTIONS_RUNTIME_URL", "PipelinesServiceUrl"),
            ("ACTIONS_RESULTS_URL", "ResultsServiceUrl"),
        ] {
            if let Some(url) = endpoint.data.get(member).filter(|url| !url.is_empty()) {
                all.set(name, url.as_str());
            }
        }
        if let Some(id) = self.message.variable("system.orchestrationId") {
            all.set("ACTIONS_ORCHESTRATION_ID", id);
        }
        self.add_identity(all);
    }
}

//! Actions of other repositories: asked for, downloaded and unpacked before they are used.
//!
//! Round by round: what the steps use, then what those composite actions use (actions/runner `ActionManager.cs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use startline_client::Resolved;
use startline_protocol::actions::launch::{ActionDownload, ActionReference, ResolveRefusal, ResolveRequest};

use super::Job;
use super::action::{Loaded, MAX_DEPTH, Remote};
use super::step::{Step, Uses};
use crate::archives::{ArchiveError, unpack};
use crate::stop::Stop;

impl Job {
    /// The actions of other repositories that steps need before they begin. Which checkouts need an action is seen when
    /// they begin, where the run's files are here.
    pub(super) fn needed(&self, steps: &[Step]) -> Vec<Remote> {
        let has_files = self.host.workspace_from.is_some();
        let remote = |step: &Step| match &step.uses {
            Uses::Remote(remote) if !(has_files && remote.is_checkout()) => Some(remote.clone()),
            _ => None,
        };
        steps.iter().filter_map(remote).collect()
    }

    /// Makes actions ready, and all that they use in turn. `depth` is how many actions are around them.
    pub(super) async fn prepare_actions(
        &mut self,
        record: usize,
        mut wanted: Vec<Remote>,
        mut depth: usize,
    ) -> Result<(), String> {
        while !wanted.is_empty() {
            wanted.sort();
            wanted.dedup();
            if depth >= MAX_DEPTH {
                let named = wanted.first().map(ToString::to_string).unwrap_or_default();
                return Err(format!(
                    "`uses: {named}` is nested too deeply: at most {MAX_DEPTH} actions may use each other"
                ));
            }
            self.fetch(record, &wanted).await?;
            let mut next = Vec::new();
            for remote in wanted {
                if self.actions.refused.contains(&remote) {
                    continue;
                }
                let loaded = match self.actions.loaded(&remote) {
                    Some(loaded) => loaded,
                    None => self.read(remote)?,
                };
                next.extend(self.needed(&loaded.nested()));
            }
            wanted = next;
            depth += 1;
        }
        Ok(())
    }

    fn read(&mut self, remote: Remote) -> Result<Arc<Loaded>, String> {
        let folder = remote.folder(&self.directories.actions).ok_or_else(|| unnameable(&remote))?;
        let manifest = self.manifest(&remote.to_string(), &folder)?;
        let loaded = Arc::new(Loaded { manifest, folder, remote: Some(remote.clone()) });
        self.actions.remotes.insert(remote, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Downloads the repositories that are not here yet.
    async fn fetch(&mut self, record: usize, wanted: &[Remote]) -> Result<(), String> {
        let mut missing = BTreeSet::new();
        for remote in wanted {
            let named = ActionReference { action: remote.name.clone(), version: remote.git_ref.clone() };
            remote.repository(&self.directories.actions).ok_or_else(|| unnameable(remote))?;
            if !self.actions.fetched.contains(&named) && !self.actions.refused.contains(remote) {
                missing.insert(named);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if self.actions.fetched.is_empty() {
            self.console.write("Prepare all required actions");
        }
        self.console.write("Getting action download info");
        self.console.flush();
        let mut stop = self.stop.clone();
        let stopped = async { stop.wait_for(Stop::is_cancelled).await.is_ok() };
        tokio::select! {
            biased;
            true = stopped => Err("the job is being cancelled".to_owned()),
            done = self.download(record, missing) => done,
        }
    }

    async fn download(&mut self, record: usize, mut missing: BTreeSet<ActionReference>) -> Result<(), String> {
        let Some(launch) = self.host.launch.clone() else {
            return Err("the job's message names no service that actions could come from".to_owned());
        };
        let answer = loop {
            let request = ResolveRequest { actions: missing.iter().cloned().collect() };
            let named = missing.iter().map(ActionReference::key).collect::<Vec<_>>().join(", ");
            let answer = launch.resolve(&request).await;
            match answer.map_err(|error| format!("the service does not say where {named} is: {error}"))? {
                Resolved::All(answer) => break answer,
                Resolved::Refused(refusal) if self.does_without(&refusal, &mut missing) => {
                    if missing.is_empty() {
                        return Ok(());
                    }
                }
                Resolved::Refused(refusal) => {
                    let mut said: Vec<String> = refusal
                        .errors
                        .iter()
                        .map(|(key, error)| format!("Unable to resolve action `{key}`: {}", error.message))
                        .collect();
                    let last = said.pop().unwrap_or_else(|| format!("Unable to resolve one of {named}"));
                    said.iter().for_each(|message| self.error(record, message));
                    return Err(last);
                }
            }
        };
        for wanted in &missing {
            let key = wanted.key();
            let found = answer.actions.get(&key).ok_or_else(|| format!("Missing download info for {key}"))?;
            if let Some(bearer) = &found.authentication {
                self.console.masker.add(&bearer.token);
            }
            self.console.write(&format!("Download action repository '{key}' (SHA:{})", found.resolved_sha));
            self.console.flush();
            self.unpack(wanted, found)
                .await
                .map_err(|error| format!("cannot download action `{key}` (SHA:{}): {error}", found.resolved_sha))?;
            self.actions.fetched.insert(wanted.clone());
        }
        Ok(())
    }

    /// Takes what was refused out of what is missing, if that is only what the worker can do itself.
    fn does_without(&mut self, refusal: &ResolveRefusal, missing: &mut BTreeSet<ActionReference>) -> bool {
        let refused = |asked: &ActionReference| refusal.errors.contains_key(&asked.key());
        let remote = |asked: &ActionReference| Remote {
            name: asked.action.clone(),
            git_ref: asked.version.clone(),
            path: String::new(),
        };
        let known = missing.iter().filter(|asked| refused(asked)).count();
        let all = missing.iter().filter(|asked| refused(asked)).all(|asked| remote(asked).is_checkout());
        if known == 0 || known < refusal.errors.len() || !all {
            return false;
        }
        missing.retain(|asked| {
            if refused(asked) {
                self.actions.refused.insert(remote(asked));
            }
            !refused(asked)
        });
        for (key, error) in &refusal.errors {
            self.console.write(&format!("{key} is done by the runner itself: {}", error.message));
        }
        true
    }

    /// Puts the files of an archive where the action is looked for.
    async fn unpack(&mut self, wanted: &ActionReference, found: &ActionDownload) -> Result<(), String> {
        let remote = Remote { name: wanted.action.clone(), git_ref: wanted.version.clone(), path: String::new() };
        let place = remote.repository(&self.directories.actions).ok_or_else(|| unnameable(&remote))?;
        let digest = found.tar_digest.as_deref().and_then(|text| text.strip_prefix("sha256:"));
        let digest = digest.ok_or("the service does not say the digest of its archive")?.to_owned();
        let launch = self.host.launch.clone().ok_or("there is no service to download it from")?;
        // An archive on the runner's disk that was changed is removed, and downloaded anew.
        for last in [false, true] {
            let archive = self.host.archives.get_or_download(&digest, &launch, found).await?;
            let (digest, place, scratch) = (digest.clone(), place.clone(), self.directories.temp.clone());
            let unpacked = self.tasks.spawn_blocking(move || unpack(&archive, &digest, &scratch, &place)).await;
            match unpacked.map_err(|error| error.to_string())? {
                Err(error @ ArchiveError::Digest(_)) if !last => self.console.debug(&error.to_string()),
                unpacked => return unpacked.map_err(|error| error.to_string()),
            }
        }
        Ok(())
    }
}

fn unnameable(remote: &Remote) -> String {
    format!("`uses: {remote}` does not name an action; write `owner/repository@ref` or `owner/repository/path@ref`")
}

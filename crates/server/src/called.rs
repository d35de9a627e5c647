//! Workflow files of other repositories that a submission calls: fetched once, and kept with the submission, so that a
//! restart and a rerun run the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use startline_protocol::runs_api::SubmitRequest;
use startline_workflow::model::{self, FileName, Finding, RepositoryRef};

use crate::App;
use crate::problem::ApiResult;
use crate::sources::{GitRef, RepositoryName};
use crate::submission;

impl App {
    /// Adds the files of other repositories that the submission lacks.
    ///
    /// # Errors
    /// One of them cannot be had: 422 with the place of the call.
    pub(crate) async fn fetch_called(self: &Arc<Self>, request: &mut SubmitRequest) -> ApiResult<()> {
        let path = request.path.clone().unwrap_or_else(|| submission::DEFAULT_PATH.to_owned());
        // Each round reads files that those of the round before call; the linker bounds how many there may be.
        loop {
            let (linked, known) = submission::link(&request.workflow, &path, &request.files)?;
            let wanted: BTreeMap<FileName, _> =
                linked.missing.into_iter().filter(|(file, _)| file.repository.is_some()).collect();
            if wanted.is_empty() {
                return Ok(());
            }
            let mut absent: Vec<Finding> = Vec::new();
            for (file, (caller, span)) in wanted {
                match self.fetch_file(&file).await {
                    Ok(text) => {
                        tracing::info!(file = %file, "a called workflow was fetched");
                        request.files.insert(file.to_string(), text);
                    }
                    Err(why) => absent.push(model::absent(&file, &caller, span, &why)),
                }
            }
            if !absent.is_empty() {
                return Err(submission::refusal(&absent, &request.workflow, &path, &known));
            }
        }
    }

    async fn fetch_file(self: &Arc<Self>, file: &FileName) -> Result<String, String> {
        let Some(RepositoryRef { name, git_ref }) = &file.repository else {
            return Err("it is a local file".to_owned());
        };
        let name = RepositoryName::parse(name).ok_or_else(|| format!("`{name}` is not `owner/repo`"))?;
        let git_ref = GitRef::parse(git_ref).ok_or_else(|| format!("`{git_ref}` is no branch, tag or commit"))?;
        self.sources.file(name, git_ref, &file.path).await
    }
}

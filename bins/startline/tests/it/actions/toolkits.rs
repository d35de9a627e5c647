//! Actions made of GitHub's own toolkits for JavaScript, unchanged, run by our own worker.

use std::fs;
use std::path::Path;

use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::Conclusion;

use super::{Stage, marked};
use crate::harness::{Said, Service};
use crate::npm::installed;

/// Loads a toolkit from where the tests install them.
const LOAD: &str = "const { load } = await import(`file://${process.env.TOOLKITS}/toolkit.mjs`)\n";

fn script(stage: Stage, name: &str, runs: &str, files: &[(&str, &str)]) -> Stage {
    let files: Vec<(&str, String)> = files.iter().map(|(file, text)| (*file, format!("{LOAD}{text}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (*file, text.as_str())).collect();
    stage.script(name, runs, &files)
}

fn run(stage: &Stage, toolkits: &Path) -> Said {
    let mut command = stage.command();
    command.arg("--env").arg(format!("TOOLKITS={}", toolkits.display()));
    command.output().unwrap().into()
}

const TELL_PRE: &str = "const core = await load('core')\n\
    core.saveState('since', 'pre')\n\
    core.info('# pre ' + core.getInput('who'))\n";

const TELL_MAIN: &str = "const core = await load('core')\n\
    const [exec, io, glob, tools, github] = await Promise.all(['exec', 'io', 'glob', 'tool-cache', 'github'].map(load))\n\
    core.info('# main ' + core.getState('since'))\n\
    core.saveState('lines', 'one\\ntwo')\n\
    core.setOutput('answer', 'forty\\ntwo')\n\
    core.exportVariable('FROM_ACTION', 'exported\\nvalue')\n\
    core.setSecret('sesame-open-wide')\n\
    core.info('# the secret is sesame-open-wide')\n\
    core.warning('look here', { file: 'w.yml', startLine: 3, title: 'A title' })\n\
    await core.summary.addHeading('Summary of the action').write()\n\
    const bin = process.env.RUNNER_TEMP + '/own-bin'\n\
    await io.mkdirP(bin)\n\
    await (await import('node:fs/promises')).writeFile(bin + '/own-tool', '#!/bin/sh\\necho \"# own tool\"\\n', { mode: 0o755 })\n\
    core.addPath(bin)\n\
    await exec.exec('own-tool')\n\
    const found = await (await glob.create('**/*.txt')).glob()\n\
    core.info('# found ' + found.map(file => file.split('/').pop()).sort().join(' '))\n\
    const cached = await tools.cacheDir(bin, 'own', '1.2.3')\n\
    core.info('# cached ' + (tools.find('own', '1.x') === cached && cached.startsWith(process.env.RUNNER_TOOL_CACHE)))\n\
    const { repo, eventName, payload } = github.context\n\
    core.info(`# context ${repo.owner}/${repo.repo} ${eventName} ${JSON.stringify(payload) !== ''} ${process.env.GITHUB_ACTION}`)\n";

const TELL_POST: &str = "const core = await load('core')\n\
    core.info('# post ' + core.getState('since') + ' ' + core.getState('lines').split('\\n').join('+'))\n";

#[test]
fn the_core_toolkits_work_in_pre_main_and_post() {
    let Some(toolkits) = installed() else { return };
    let files = [("pre.mjs", TELL_PRE), ("main.mjs", TELL_MAIN), ("post.mjs", TELL_POST)];
    let stage = script(Stage::new(), "acme/tell@v1", "pre: pre.mjs, main: main.mjs, post: post.mjs", &files)
        .file("a.txt", "")
        .file("deep/b.txt", "")
        .steps(
            "      - {id: tell, uses: acme/tell@v1, with: {who: Ada}}\n      - run: |\n          own-tool\n          echo \"# env \
             ${FROM_ACTION%%$'\\n'*}\"\n          echo \"# output ${{ contains(steps.tell.outputs.answer, 'two') }}\"\n",
        );
    let said = run(&stage, &toolkits);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        marked(&said, "# "),
        [
            "pre Ada",
            "main pre",
            "the secret is ***",
            "own tool",
            "found a.txt b.txt",
            "cached true",
            "context acme/demo push true tell",
            "own tool",
            "env exported",
            "output true",
            "post pre one+two",
        ],
        "{said:?}"
    );
    assert!(said.out.contains("look here"), "{said:?}");
}

const KEEP: &str = "const core = await load('core')\n\
    const { DefaultArtifactClient } = await load('artifact')\n\
    const cache = await load('cache')\n\
    const fs = await import('node:fs/promises')\n\
    const client = new DefaultArtifactClient()\n\
    const mode = core.getInput('who')\n\
    if (mode === 'up') {\n\
      await fs.mkdir('kept', { recursive: true })\n\
      await fs.writeFile('kept/file', 'content of the artifact')\n\
      const { id } = await client.uploadArtifact('things', ['kept/file'], 'kept')\n\
      core.info('# uploaded ' + (id > 0))\n\
      core.info('# saved ' + (await cache.saveCache(['kept'], 'deps-linux-1') > 0))\n\
    } else {\n\
      const { artifact } = await client.getArtifact('things')\n\
      await client.downloadArtifact(artifact.id, { path: 'down' })\n\
      core.info('# downloaded ' + await fs.readFile('down/file', 'utf8'))\n\
      core.info('# restored ' + await cache.restoreCache(['kept'], 'deps-linux-2', ['deps-linux-']))\n\
      core.info('# with ' + await fs.readFile('kept/file', 'utf8'))\n\
      core.info('# missed ' + await cache.restoreCache(['kept'], 'other'))\n\
    }\n";

#[test]
fn artifacts_and_caches_work_in_a_local_run() {
    let Some(toolkits) = installed() else { return };
    let stage = script(Stage::new(), "acme/keep@v1", "main: keep.mjs", &[("keep.mjs", KEEP)]).file(
        "w.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{uses: acme/keep@v1, with: {who: up}}]\n  b:\n    needs: a\n    \
         runs-on: x\n    steps: [{uses: acme/keep@v1, with: {who: down}}]\n",
    );
    let said = run(&stage, &toolkits);
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut marks: Vec<&str> =
        said.out.lines().filter_map(|line| line.split_once("# ").map(|(_, mark)| mark)).collect();
    marks.retain(|mark| !mark.is_empty());
    assert_eq!(
        marks,
        [
            "uploaded true",
            "saved true",
            "downloaded content of the artifact",
            "restored deps-linux-1",
            "with content of the artifact",
            "missed undefined",
        ],
        "{said:?}"
    );
}

const TOKEN: &str = "const core = await load('core')\n\
    const claims = token => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))\n\
    let said\n\
    try { said = claims(await core.getIDToken('cloud')) } catch (error) { said = { aud: 'none: ' + error.message } }\n\
    core.info(`# token ${said.aud} ${said.repository}`)\n\
    const leaked = ['ACTIONS_RUNTIME_TOKEN', 'ACTIONS_ID_TOKEN_REQUEST_TOKEN'].map(name => process.env[name])\n\
    core.info('# runtime ' + leaked.join(' '))\n\
    core.info('# basic ' + Buffer.from('x-access-token:' + leaked[0]).toString('base64'))\n";

#[tokio::test]
async fn an_id_token_is_had_with_the_permission_alone_and_bearers_are_masked() {
    let Some(toolkits) = installed() else { return };
    let stage = script(Stage::new(), "acme/token@v1", "main: token.mjs", &[("token.mjs", TOKEN)]);
    let store = stage.store();
    let service = Service::start(&["--actions-offline", "--actions-dir", store.to_str().unwrap()]);
    let runner = service.runner("native", &[]);
    for (permissions, expected) in
        [("{id-token: write}", "# token cloud acme/demo"), ("{contents: read}", "# token none: ")]
    {
        let workflow = format!(
            "on: push\npermissions: {permissions}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{{uses: acme/token@v1}}]\n"
        );
        let request = SubmitRequest {
            workflow,
            repository: Some("acme/demo".to_owned()),
            env: [("TOOLKITS".to_owned(), toolkits.display().to_string())].into(),
            ..SubmitRequest::default()
        };
        let run = service.submit_with(request).await;
        let detail = service.ended(run).await;
        let log = service.log(detail.jobs[0].id).await;
        assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{log}");
        assert!(log.contains(expected), "no `{expected}` in {log}");
        assert!(log.contains("# runtime ***") && log.contains("# basic ***"), "{log}");
    }
    assert!(fs::read_dir(runner.dir.path().join("_work/_actions")).is_ok(), "until the next job");
}

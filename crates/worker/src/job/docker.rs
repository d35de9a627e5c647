//! Actions that run in containers of their own (actions/runner `Runner.Worker/Handlers/ContainerActionHandler.cs`).

use startline_workflow::action::DockerAction;
use startline_workflow::expression::Value;
use uuid::Uuid;

use nix::sys::signal::Signal;

use super::Job;
use super::action::Loaded;
use super::files::Files;
use super::images::Source;
use super::launch::signal_name;
use super::output::Listener;
use super::script::{SearchPath, explain_spawn, texts};
use super::step::{Frame, Left, Ran, Stage, Step};
use crate::child::{Child, Elsewhere};
use crate::container::arguments::{self, Command, Run};
use crate::container::paths::PathMap;
use crate::container::spec::split;
use crate::environment::Environment;

impl Job {
    /// A step with `uses: docker://image`.
    pub(super) async fn image_step(
        &mut self,
        frame: &Frame,
        step: &Step,
        image: &str,
        environment: &Environment,
    ) -> Result<Left, String> {
        let inputs = self.view(frame, environment, Some(step)).mapping("with", &step.inputs)?;
        self.announce_action(frame, &step.uses.shown(), &inputs, environment);
        self.docker_action(frame, step, environment, None, &DockerAction::of_image(image), &inputs).await
    }

    /// Runs what the action has for the frame's stage.
    pub(super) async fn docker_action(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        loaded: Option<&Loaded>,
        action: &DockerAction,
        inputs: &[(String, String)],
    ) -> Result<Left, String> {
        if action.post.is_some() && frame.stage != Stage::Post {
            self.register_post(frame, step);
        }
        let input =
            |key: &str| inputs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| &**value);
        let entrypoint = match frame.stage {
            Stage::Main => action.entrypoint.as_deref().or_else(|| input("entrypoint")).filter(|text| !text.is_empty()),
            stage => {
                let of_stage = if stage == Stage::Pre { &action.pre } else { &action.post };
                let Some(entrypoint) = of_stage else { return Ok(Left { ran: Ran::Success, outputs: Vec::new() }) };
                Some(entrypoint.as_str())
            }
        };
        let image = self.image(frame, &Source::of(action, loaded)).await;
        let image = image.map_err(|error| format!("`uses: {}` runs in a container, and {error}", step.uses.shown()))?;
        let engine = self.engine().await?;
        let folder = &self.directories.file_commands;
        let files =
            Files::create(folder).map_err(|error| format!("cannot create files in `{}`: {error}", folder.display()))?;
        let mut github = self.github(frame, Some(step));
        if let Some(loaded) = loaded {
            loaded.show_in(&mut github);
        }
        files.show_in(&mut github);
        let mut view = self.view(frame, environment, Some(step));
        view.set("inputs", texts(inputs));
        let used = frame.use_of(step);
        let mut own = self.actions.own_environment(environment, &used, inputs);
        if let Some(template) = &action.env {
            for (name, value) in view.mapping("env", template)? {
                if own.get(&name).is_none() {
                    own.set(name, value);
                }
            }
        }
        let given = match &action.args {
            Some(template) => list(&view.evaluate("args", template)?)?,
            None => split("`args`", input("args").unwrap_or_default())?,
        };
        drop(view);
        own.set("HOME", self.directories.home().to_string_lossy());
        let mut variables = self.process_environment(&own, &github, SearchPath::Own);
        self.add_addresses(&mut variables);
        let paths = PathMap::of_action(&self.directories, &self.host.tool_cache);
        let outer = self.containers.job.clone();
        // What expressions of a job in a container say of paths is meant for that container.
        let seen = |text: &str| match &outer {
            Some(container) => paths.to_container(&container.paths.to_host(text)),
            None => paths.to_container(text),
        };
        let mut all = Environment::default();
        self.add_proxies(&mut all);
        for (name, value) in variables.iter() {
            all.set(name, seen(value));
        }
        let given: Vec<String> = given.iter().map(|argument| seen(argument)).collect();
        let name = arguments::name(&image, &Uuid::new_v4().simple().to_string()[..6]);
        let command = arguments::run(&Run {
            image: &image,
            name: &name,
            label: &engine.label,
            network: self.containers.network.as_deref(),
            mounts: &paths.mounts(false),
            environment: &all,
            entrypoint,
            arguments: &given,
        });
        self.console.write(&format!("##[command]{} {}", engine.program.display(), command.shown()));
        let work = self.directories.work.clone();
        let spec = engine.spec(command, work.clone());
        let mut child = Child::spawn(&spec, &self.tasks).map_err(|error| explain_spawn(&spec.program, &error))?;
        child.reach(Elsewhere {
            signal: Box::new(move |signal| {
                let command = match signal {
                    Signal::SIGKILL => engine.remove(&[&name]),
                    other => Command::new(&["kill", "--signal", signal_name(other), &name]),
                };
                engine.spec(command, work.clone())
            }),
            tasks: self.tasks.clone(),
        });
        let mut listener = Listener::new(frame.record, environment).within(Some(&paths));
        let (ran, exit) = self.attend(frame, step, environment, child, &mut listener).await;
        if let Some(exit) = exit {
            self.console.debug(&format!("Docker Action run completed: {exit}"));
        }
        let (left, state) = self.take_over(frame.record, ran, listener, &files);
        self.actions.keep_state(used, state);
        Ok(left)
    }
}

fn list(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or("`args` must be a list")?;
    items
        .iter()
        .map(|item| match item.is_primitive() {
            true => Ok(item.to_text().into_owned()),
            false => Err(format!("an entry of `args` must be text, but it is an {}", item.kind())),
        })
        .collect()
}

//! Workflow files: compiled at each submission; and the planner, which is asked after each change of a run.

use startline_workflow::parse;
use startline_workflow::plan::{Conclusion, Decision, Instance, InstanceState, RunContext, advance};

use crate::meter::Meter;
use crate::sample;

pub(super) fn compile(meter: &mut Meter, _: u32) {
    let small = include_str!("../../../../tests/corpus/commands/masks.yml");
    let medium = include_str!("../../../../tests/corpus/expressions/functions-of-text.yml");
    let large = sample::large_workflow();
    for (name, text, times) in
        [("compile small", small, 16), ("compile medium", medium, 16), ("compile large", &*large, 4)]
    {
        let (workflow, found) = parse(text);
        assert!(workflow.is_some() && found.is_empty(), "{found:?}");
        meter.repeat(name, times, || parse(text));
    }
}

pub(super) fn plan(meter: &mut Meter, _: u32) {
    let (workflow, _) = parse(&sample::matrix_workflow());
    let workflow = workflow.expect("a workflow");
    let context = RunContext { github: sample::github(), ..RunContext::default() };
    let first = advance(&workflow, &context, &[]);
    let [Decision::Expand { key, jobs }] = &first[..] else { panic!("{first:?}") };
    assert_eq!((key.as_str(), jobs.len()), ("test", 256));
    meter.repeat("a matrix of 256 begins", 4, || advance(&workflow, &context, &[]));

    let mut instances: Vec<Instance> =
        (0..256).map(|index| Instance::new("test", index, InstanceState::Active)).collect();
    assert!(advance(&workflow, &context, &instances).is_empty());
    meter.repeat("nothing follows, 256 jobs run", 16, || advance(&workflow, &context, &instances));

    for (order, instance) in (1..).zip(&mut instances) {
        instance.state = InstanceState::Done(Conclusion::Success);
        instance.finished = order;
        instance.outputs.insert("artifact".to_owned(), format!("build-{order}"));
    }
    let last = advance(&workflow, &context, &instances);
    assert!(matches!(&last[..], [Decision::Expand { key, .. }] if key == "publish"), "{last:?}");
    meter.repeat("the next job begins, 256 have ended", 8, || advance(&workflow, &context, &instances));
}

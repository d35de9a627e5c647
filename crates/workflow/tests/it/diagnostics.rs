//! What is said about files that are wrong.

use startline_workflow::diagnostic::{Diagnostic, Severity};
use startline_workflow::parse;

/// All findings as they are shown, one after the other.
fn render(source: &str) -> String {
    let (workflow, findings) = parse(source);
    assert_eq!(workflow.is_none(), findings.iter().any(Diagnostic::is_error));
    findings.iter().map(|finding| finding.render(source, "ci.yml", false)).collect::<Vec<_>>().join("\n")
}

/// `line:column code` of each finding; warnings end with `?`.
fn places(source: &str) -> Vec<String> {
    let (_, findings) = parse(source);
    let place = |d: &Diagnostic| {
        let mark = if d.severity == Severity::Warning { "?" } else { "" };
        format!("{}:{} {}{mark}", d.span.start.line, d.span.start.column, d.code)
    };
    findings.iter().map(place).collect()
}

/// A workflow around the entries of one job.
fn job(entries: &str) -> String {
    let indented: String = entries.lines().map(|line| format!("    {line}\n")).collect();
    format!("on: push\njobs:\n  a:\n{indented}")
}

#[test]
fn five_mistakes_give_five_findings_with_places() {
    let source = "\
name: five mistakes
on: psuh
jobs:
  build:
    runs-on: ubuntu-latest
    needs: [tset]
    steps:
      - run: echo ${{ githb.ref }}
  test:
    runs_on: ubuntu-latest
    steps:
      - run: |
          echo one
          echo ${{ hashFile('x') }}
";
    let expected =
        ["2:5 unknown-event", "6:13 unknown-need", "8:23 expression", "10:5 unknown-key", "14:20 expression"];
    assert_eq!(places(source), expected);
    insta::assert_snapshot!(render(source));
}

#[test]
fn structural_mistakes_are_shown_with_both_places() {
    insta::assert_snapshot!(render(
        "on: push\non: push\njobs:\n  a: &a\n    runs-on: x\n    steps: [{run: echo}]\n    env: {self: *a}\n"
    ));
}

#[test]
fn a_cycle_in_needs_is_named_whole() {
    let job = |id: &str, needs: &str| format!("  {id}: {{runs-on: x, needs: {needs}, steps: [{{run: a}}]}}\n");
    let source = format!(
        "on: push\njobs:\n{}{}{}{}{}",
        job("a", "[c]"),
        job("b", "[a]"),
        job("c", "[b]"),
        job("d", "d"),
        job("e", "[a, f]")
    );
    insta::assert_snapshot!(render(&source));
}

#[test]
fn a_file_of_five_megabytes_gets_one_finding_that_names_the_limit() {
    let source = format!("on: push\njobs: {{}}\n{}", "# comment\n".repeat(500_000));
    assert_eq!(places(&source), ["1:1 too-large"]);
    assert!(render(&source).contains("1048576 bytes (1 MiB)"));
}

#[test]
fn a_matrix_of_more_than_256_jobs_is_refused_where_it_stands() {
    let list = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let matrix = |a: usize, b: usize| {
        job(&format!(
            "runs-on: x\nstrategy:\n  matrix:\n    a: [{}]\n    b: [{}]\nsteps:\n  - run: a",
            list(a),
            list(b)
        ))
    };
    assert_eq!(places(&matrix(16, 16)), [] as [&str; 0]);
    assert_eq!(places(&matrix(257, 1)), ["6:7 matrix"]);
    assert_eq!(places(&matrix(3000, 3000)), ["6:7 matrix"]);
    assert!(render(&matrix(20, 20)).contains("the matrix makes 400 jobs; the limit is 256 jobs"));
}

#[test]
fn each_mistake_has_its_code_and_place() {
    let run = "runs-on: x\nsteps:\n  - run: a\n";
    let cases: Vec<(String, &[&str])> = vec![
        ("[1, 2]\n".to_owned(), &["1:1 type"]),
        ("on: push\n".to_owned(), &["1:1 missing-key"]),
        ("name: x\njobs: {}\n".to_owned(), &["1:1 missing-key", "2:1 value"]),
        ("on: push\ndescription: [a]\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n".to_owned(), &["2:14 type"]),
        ("on: push\njobs: []\n".to_owned(), &["2:7 type"]),
        ("on: push\njobs:\n  a:\n".to_owned(), &["3:4 type"]),
        ("on:\njobs: {}\n".to_owned(), &["1:1 missing-key", "2:1 value"]),
        ("on: []\njobs: {}\n".to_owned(), &["1:1 missing-key", "2:1 value"]),
        ("on: {}\njobs: {}\n".to_owned(), &["1:1 missing-key", "2:1 value"]),
        (job("runs-on: x\nenv: {A: !!int text}\nsteps:\n  - run: a\n"), &["5:20 tag"]),
        (job("runs-on: x\nenv: {A: !secret x}\nsteps:\n  - run: a\n"), &["5:22 tag"]),
        (job("runs-on: x\nenv: {A: !!str 1, B: !!int '0x1f', C: !!null ~}\nsteps:\n  - run: a\n"), &[]),
        ("on: push\njobs:\n  1a: {runs-on: x, steps: [{run: a}]}\n".to_owned(), &["3:3 id"]),
        (
            "on: push\nname: ${{ github.ref }}\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n".to_owned(),
            &["2:7 expression-not-allowed"],
        ),
        (job("runs-on: x\nsteps: []\n"), &["5:5 value"]),
        (job("runs-on: x\n"), &["3:3 missing-key"]),
        (job("steps:\n  - run: a\n"), &["3:3 missing-key"]),
        (job("runs-on: []\nsteps:\n  - run: a\n"), &["4:14 value"]),
        (job("runs-on: 22\nsteps:\n  - run: a\n"), &["4:14 type"]),
        (job("runs-on: ''\nsteps:\n  - run: a\n"), &["4:14 value"]),
        (job("runs-on: {labels: [a, {}], groups: x}\nsteps:\n  - run: a\n"), &["4:27 type", "4:32 unknown-key"]),
        (job("runs-on: x\nsteps:\n  - name: nothing\n"), &["6:9 missing-key"]),
        (job("runs-on: x\nsteps:\n  - run: a\n    with: {}\n"), &["7:9 step"]),
        (job("runs-on: x\nsteps:\n  - run: a\n    uses: ./a\n"), &["7:9 step"]),
        (job("runs-on: x\nsteps:\n  - run: ${{ contains(github.ref) }}\n"), &["6:18 expression"]),
        (job("runs-on: x\nruns-on: y\nsteps:\n  - run: ${{ a }}\n"), &["5:5 duplicate-key", "7:18 expression"]),
        (job("runs-on: x\nsteps:\n  - uses: ./a\n    shell: bash\n"), &["7:9 step"]),
        (job("runs-on: x\nsteps:\n  - {id: a, run: a}\n  - {id: A, run: a}\n"), &["7:14 duplicate-id"]),
        (job("runs-on: x\nsteps:\n  - {id: 'a b', run: a}\n"), &["6:14 id"]),
        (job("runs-on: x\nsteps:\n  - {run: a, shell: '${{ github.ref }}'}\n"), &["6:25 expression-not-allowed"]),
        (job("runs-on: x\nsteps:\n  - {run: a, env: {A: [1]}}\n"), &["6:27 type"]),
        (job("runs-on: x\nsteps:\n  - {run: a, env: text}\n"), &["6:23 type"]),
        (job("runs-on: x\nsteps:\n  - {run: a, timeout-minutes: 0}\n"), &["6:35 value"]),
        (job("runs-on: x\nsteps:\n  - {run: a, continue-on-error: maybe}\n"), &["6:37 type"]),
        (job(&format!("{run}timeout-minutes: soon\n")), &["7:22 type"]),
        (job(&format!("{run}if: github.ref = 'a'\n")), &["7:20 expression-syntax"]),
        (job(&format!("{run}if: ${{{{ secrets.A }}}}\n")), &["7:13 expression"]),
        (job(&format!("{run}if: a ${{{{ github.ref }}}}\n")), &["7:9 condition?"]),
        (job(&format!("{run}name: ${{{{ steps.a.outputs.b }}}}\n")), &["7:15 expression"]),
        (job(&format!("{run}env: {{A: '${{{{ env.B }}}}'}}\n")), &["7:19 expression"]),
        (job(&format!("{run}name: ${{{{ github.ref\n")), &["7:11 expression-syntax"]),
        (job(&format!("{run}name: ${{{{ needs.b.result }}}}\n")), &["7:15 empty-reference?"]),
        (job("runs-on: x\nsteps:\n  - run: ${{ steps.none.outputs.x }}\n"), &["6:18 empty-reference?"]),
        (job(&format!("{run}container: 'docker://'\n")), &["7:16 value"]),
        (job(&format!("{run}container: [alpine]\n")), &["7:16 type"]),
        (job(&format!("{run}container: {{image: a, entrypoint: x}}\n")), &["7:27 unknown-key"]),
        (job(&format!("{run}container: {{image: a, ports: 80, volumes: [{{}}]}}\n")), &["7:34 type", "7:48 type"]),
        (job(&format!("{run}container: {{env: {{A: '${{{{ steps.x }}}}'}}}}\n")), &["7:17 missing-key"]),
        (job(&format!("{run}container: '${{{{ secrets.A }}}}'\n")), &["7:21 expression"]),
        (
            job(&format!(
                "{run}container: {{image: a, credentials: {{username: '${{{{ secrets.A }}}}', passwd: b}}}}\n"
            )),
            &["7:71 unknown-key"],
        ),
        (job(&format!("{run}services: [a]\n")), &["7:15 type"]),
        (
            job(&format!("{run}services: {{db: '', web: {{image: b, command: c, entrypoint: d, ports: [80]}}}}\n")),
            &["7:20 value"],
        ),
        (job(&format!("{run}services: ${{{{ fromJSON(vars.A) }}}}\n")), &[]),
        (
            job(&format!(
                "{run}container: {{image: '', options: 1, ports: [80, '90:90'], env: '${{{{ matrix.a }}}}', credentials: '${{{{ vars.A }}}}'}}\n"
            )),
            &[],
        ),
        (job(&format!("{run}environment: production\n")), &[]),
        (job(&format!("{run}environment: {{url: x}}\n")), &["7:5 missing-key"]),
        (job(&format!("{run}snapshot: x\n")), &["7:5 unsupported"]),
        (job(&format!("{run}concurrency: x\n")), &[]),
        (job(&format!("{run}concurrency: ''\n")), &["7:18 value"]),
        (job(&format!("{run}concurrency:\n")), &["7:16 value"]),
        (job(&format!("{run}concurrency: [x]\n")), &["7:18 type"]),
        (job(&format!("{run}concurrency: {}\n", "x".repeat(400))), &[]),
        (job(&format!("{run}concurrency: {}\n", "x".repeat(401))), &["7:18 value"]),
        (job(&format!("{run}concurrency: {{group: x, queue: max, cancel-in-progress: false}}\n")), &[]),
        (job(&format!("{run}concurrency: {{group: x, queue: max, cancel-in-progress: true}}\n")), &["7:29 value"]),
        (job(&format!("{run}concurrency: {{group: x, queue: 5}}\n")), &["7:36 value"]),
        (job(&format!("{run}concurrency: '${{{{ secrets.A }}}}'\n")), &["7:23 expression"]),
        (job("uses: ./.github/workflows/x.yml\nwith: {a: b}\n"), &[]),
        (job("runs-on: x\nsteps:\n  - uses: actions/checkout@v4\n"), &[]),
        (job("runs-on: x\nsteps:\n  - uses: docker://alpine\n"), &[]),
        (job("runs-on: x\nsteps:\n  - uses: actions/checkout\n"), &["6:15 uses"]),
        (job("runs-on: x\nsteps:\n  - uses: actions/../x@v1\n"), &["6:15 uses"]),
        (job("runs-on: x\nsteps:\n  - uses: actions/x/../y@v1\n"), &["6:15 uses"]),
        (job("runs-on: x\nsteps:\n  - uses: 'docker://'\n"), &["6:15 uses"]),
        (job("runs-on: x\nsteps:\n  - uses: action\n"), &["6:15 uses"]),
        (job(&format!("{run}permissions: {{content: read, id-token: read}}\n")), &["7:19 unknown-key", "7:44 value"]),
        (job(&format!("{run}permissions: all\n")), &["7:18 value"]),
        (job(&format!("{run}strategy: {{matrix: {{a: []}}}}\n")), &["7:25 matrix"]),
        (job(&format!("{run}strategy: {{matrix: {{a: 1}}}}\n")), &["7:25 matrix"]),
        (job(&format!("{run}strategy: {{matrix: {{}}}}\n")), &["7:16 matrix"]),
        (job(&format!("{run}strategy: {{fail-fast: 1, matrx: {{}}}}\n")), &["7:16 matrix", "7:30 unknown-key"]),
        (job(&format!("{run}strategy: {{matrix: {{a: [1], exclude: [{{b: 1}}]}}}}\n")), &["7:44 matrix"]),
        (job(&format!("{run}env: {{V: 3.10}}\n")), &["7:14 number?"]),
    ];
    let mut wrong = Vec::new();
    for (source, expected) in cases {
        let found = places(&source);
        if found != expected {
            wrong.push(format!("{source}expected {expected:?}\n   found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mistakes_in_triggers_have_their_code_and_place() {
    let with = |on: &str| format!("{on}\njobs:\n  a: {{runs-on: x, steps: [{{run: a}}]}}\n");
    let cases: &[(&str, &[&str])] = &[
        ("on: [push, pull_request]", &[]),
        ("on: {push: , workflow_dispatch: }", &[]),
        ("on: [push, nothing]", &["1:12 unknown-event"]),
        ("on: {push: {branch: main}}", &["1:13 unknown-key"]),
        ("on: {push: {branches: a, branches-ignore: b}}", &["1:26 filter"]),
        ("on: {push: {branches: ['!a']}}", &["1:13 filter"]),
        ("on: {push: {branches-ignore: ['!a']}}", &[]),
        ("on: {push: {tags: ['v[1']}}", &["1:20 filter"]),
        ("on: {push: {types: [opened]}}", &["1:13 unknown-key"]),
        ("on: {pull_request: {types: [opend]}}", &["1:29 value"]),
        ("on: schedule", &["1:5 missing-key"]),
        ("on: {schedule: [{cron: '0 0 * * *'}, {cron: '0 25 * * *'}, {}]}", &["1:45 cron", "1:60 missing-key"]),
        ("on: {workflow_run: {types: [completed]}}", &["1:6 missing-key"]),
        ("on: {workflow_call: {inputs: {a: {default: 1}}}}", &["1:31 missing-key"]),
        ("on: {workflow_dispatch: {inputs: {a: {type: chioce}}}}", &["1:45 value"]),
        ("on: {workflow_dispatch: {inputs: {a: {type: choice}}}}", &["1:35 missing-key"]),
        ("on: {workflow_dispatch: {inputs: {a: {type: choice, options: [x], default: y}}}}", &["1:76 value"]),
        ("on: {workflow_dispatch: {inputs: {a: {type: boolean, default: 'true'}}}}", &["1:63 type"]),
        ("on: {workflow_dispatch: {inputs: {a: {type: number, default: x}}}}", &["1:62 value"]),
        ("on: {workflow_dispatch: {inputs: {a: {options: [x]}}}}", &["1:39 value"]),
        ("on: {workflow_dispatch: {inputs: {'a b': }}}", &["1:35 id"]),
    ];
    for (on, expected) in cases {
        assert_eq!(places(&with(on)), *expected, "{on}");
    }
}

#[test]
fn warnings_leave_the_workflow_usable() {
    let source = "on: push\njobs:\n  a:\n    runs-on: x\n    env: {V: 3.10}\n    steps:\n      - run: a\n";
    let (workflow, findings) = parse(source);
    assert!(workflow.is_some());
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["number"]);
}

#[test]
fn a_mistake_behind_an_anchor_is_reported_once() {
    let source = "on: push\njobs:\n  a: &job\n    runs-on: x\n    steps:\n      - run: ${{ nothing }}\n  b: *job\n";
    assert_eq!(places(source), ["6:18 expression"]);
}

#[test]
fn more_than_a_hundred_findings_end_with_a_count() {
    let steps: String = (0..150).map(|_| "      - run: ${{ nothing }}\n").collect();
    let (_, findings) = parse(&format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{steps}"));
    assert_eq!(findings.len(), 100);
    assert_eq!(findings[99].notes.last().unwrap().message, "50 further findings are not shown");
}

//! Nothing that leaves a worker shows a secret, in whatever form and pieces a step writes it.

use serde_json::json;

use crate::harness::{Job, env, named, run, token, with};
use crate::service::Heard;

/// Writes each form of each secret on both streams, in pieces of chance lengths, and everything else that a step can say.
/// The forms are left in a file, since only a step knows them all.
const LEAKY: &str = r##"
import base64, json, os, random, urllib.parse, xml.sax.saxutils
values = [os.environ[name] for name in ("KEY", "LINES", "LONG", "OVERLAP")]
values += [line for value in values[:2] for line in value.splitlines() if line.strip()]
forms = []
for value in values:
    value = value.strip()
    data = value.encode()
    forms += [value, value.replace('"', '\\"'), value.replace("'", "''"), json.dumps(value, ensure_ascii=False)[1:-1],
              urllib.parse.quote(value, safe="-_.~"), xml.sax.saxutils.escape(value, {'"': "&quot;", "'": "&apos;"}),
              *[base64.b64encode(data[shift:]).decode() for shift in range(3)]]
token = os.environ["TOKEN"]
forms += [token, base64.b64encode(f"x-access-token:{token}".encode()).decode()]
json.dump(forms, open("forms.json", "w"))
chance = random.Random(7)
output = {1: b"", 2: b""}
for number, form in enumerate(forms):
    for stream in output:
        end = ["\n", "\r\n", "\r", "\n\n"][(number + stream) % 4]
        output[stream] += f"€{number}{form}é{end}{form}{form}{end}".encode()
while any(output.values()):
    stream = chance.choice([1, 2])
    length = chance.choice([1, 2, 3, 100, 5000, 40000])
    os.write(stream, output[stream][:length])
    output[stream] = output[stream][length:]
escape = lambda text: text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
aside = lambda text: escape(text).replace(":", "%3A").replace(",", "%2C")
for value in values[:4]:
    print(f"::warning file={aside(value)},title={aside(value)}::{escape(value)}")
    print(f"::debug::{escape(value)}\n::group::{escape(value)}\n::set-output name=old::{escape(value)}")
    print(f"::nonsense::{value}\n##[error]{value}\n::add-matcher::{value}")
for number, form in enumerate(form for form in forms if len(form) < 2000 or form == values[2]):
    open(os.environ["GITHUB_STEP_SUMMARY"], "a").write(f"* {form}\n")
    open(os.environ["GITHUB_OUTPUT"], "a").write(f"o{number}<<--END--\nx{form}y\n--END--\n")
    open(os.environ["GITHUB_ENV"], "a").write(f"E{number}<<--END--\n{form}\n--END--\n")
open(os.environ["GITHUB_STATE"], "a").write(f"s={values[0]}\n")
"##;

// More than one thread, because the message is larger than a pipe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_of_a_secret_leaves_the_worker_whatever_a_step_does_with_it() {
    let key = "p@ss \"w'rd\" <&>é=1";
    let lines = "-----BEGIN-----\r\nAAAA\"BBBB&CCCC'DDDD\r\n  indented-line-of-it \n-----END-----\n";
    // Longer than a line may be, and than what is read at once.
    let long: String = (0..9600).map(|number| format!("{number}'<\"")).collect();
    let overlap = "=1-and-the-rest";
    let secrets = [
        ("KEY", key),
        ("LINES", lines),
        ("LONG", long.as_str()),
        ("OVERLAP", overlap),
        ("TOKEN", "ghs_0123456789abcdef"),
    ];
    let variables: Vec<(&str, String)> =
        secrets.iter().map(|(name, _)| (*name, format!("${{{{ secrets.{name} }}}}"))).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let leaky = with(
        named("leaky", "python3 leaky.py || true"),
        &[("environment", env(&variables)), ("displayNameToken", token("${{ format('Say {0}', env.KEY) }}"))],
    );
    // Its name is reported before any step runs, and its script is shown with the secret in it.
    let literal = with(run(&format!("true '{overlap}'")), &[("displayNameToken", json!(format!("Literal {overlap}")))]);
    let interpolated = run(&format!("true # {key}\n: {}", "${{ secrets.LINES }}"));
    let mut job = Job::new(vec![leaky, literal, interpolated]).file("leaky.py", LEAKY);
    for (name, value) in secrets {
        job = job.secret(name, value);
    }
    job = job.message(
        "variables",
        json!({ "system.github.job": { "value": "build" }, "system.github.token": { "value": "ghs_0123456789abcdef", "isSecret": true } }),
    );
    let mut outputs: Vec<(String, serde_json::Value)> = (0..20)
        .map(|number| (format!("o{number}"), json!({ "type": 3, "expr": format!("steps.leaky.outputs.o{number}") })))
        .collect();
    outputs.push(("old".to_owned(), json!({ "type": 3, "expr": "steps.leaky.outputs.old" })));
    let outputs: Vec<(&str, serde_json::Value)> =
        outputs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    job = job.message("jobOutputs", crate::harness::mapping(&outputs));
    let mut running = job.start();
    running.exit().await;
    let told = running.service.told();
    let forms: Vec<String> =
        serde_json::from_slice(&std::fs::read(running.workspace().join("forms.json")).unwrap()).unwrap();
    assert!(forms.len() > 50, "the step wrote all that it was to write");
    assert_eq!(told.violations, Vec::<String>::new());
    let job_dir = running.root.path().join("job");
    let completion = told.completion.clone().unwrap();
    let mut left = vec![
        ("the log", told.text()),
        ("the spool", std::fs::read_to_string(job_dir.join(startline_worker::input::LOG_FILE)).unwrap()),
        ("the state", std::fs::read_to_string(job_dir.join(startline_worker::input::STATE_FILE)).unwrap()),
        ("the completion", serde_json::to_string(&completion).unwrap()),
    ];
    // Texts as they are, too: in JSON a form with quotes looks different.
    for annotation in &completion.annotations {
        left.push(("an annotation", format!("{}\n{:?}\n{:?}", annotation.message, annotation.title, annotation.path)));
    }
    for heard in &told.heard {
        let Heard::Steps(steps) = heard else { continue };
        for step in steps {
            left.push(("a step's name", step.name.clone()));
            left.push(("a summary", step.summary.clone().unwrap_or_default()));
        }
    }
    for (name, value) in &completion.outputs {
        left.push(("an output", format!("{name}={value}")));
    }
    for form in forms.iter().filter(|form| !form.is_empty()) {
        for (what, text) in &left {
            let short: String = form.chars().take(60).collect();
            assert!(!text.contains(form.as_str()), "{what} shows {short}: {text:.2000}");
        }
    }
    assert!(told.text().contains("€0***é"), "{:.3000}", told.text());
    assert!(left.iter().any(|(what, text)| *what == "a step's name" && text == "Say ***"));
    assert!(left.iter().any(|(what, text)| *what == "a step's name" && text == "Literal ***"));
    assert_eq!(completion.outputs.len(), 0, "{:?}", completion.outputs.keys());
    assert!(completion.annotations.iter().any(|annotation| annotation.message == "***"));
}

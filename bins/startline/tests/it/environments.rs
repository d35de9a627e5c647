//! Environments: what a job that deploys gets, and what it says of where it deployed.

use startline_protocol::runs_api::JobEnvironment;
use startline_protocol::scope::Scope;
use startline_protocol::state::Conclusion;
use startline_protocol::value_scope::ValueScope;

use crate::harness::Service;
use crate::http::Wire;
use crate::policy::{submission, value};

const WORKFLOW: &str = "on: push
jobs:
  deploy:
    runs-on: ubuntu-latest
    strategy: {matrix: {to: ['Production', staging, '']}}
    environment: {name: '${{ matrix.to }}', url: 'https://${{ steps.place.outputs.host }}.example.test'}
    steps:
      - id: place
        run: echo \"host=${{ vars.HOST }}\" >> \"$GITHUB_OUTPUT\"
      - run: |
          echo \"key of production ${{ secrets.KEY == 'for production' }}, of the repository ${{ secrets.KEY == 'for all' }}\"
          echo \"host ${{ vars.HOST }} region ${{ vars.REGION }}\"
";

#[tokio::test]
async fn a_job_gets_the_values_of_its_environment_and_says_where_it_deployed() {
    let mut service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    let repository = ValueScope::from(Scope::repository("acme/demo").unwrap());
    let production = ValueScope::environment("acme/demo", "production").unwrap();
    let client = service.client.clone();
    client.put_secret("KEY", Some(&repository), &value("for all")).await.unwrap();
    client.put_secret("key", Some(&production), &value("for production")).await.unwrap();
    client.put_variable("HOST", Some(&repository), &value("test")).await.unwrap();
    client.put_variable("HOST", Some(&production), &value("www")).await.unwrap();
    client.put_variable("REGION", Some(&repository), &value("eu")).await.unwrap();
    let listed = client.secrets(Some(&production)).await.unwrap();
    assert_eq!(
        (listed[0].name.as_str(), listed[0].scope.to_string().as_str()),
        ("KEY", "environment:acme/demo/production")
    );
    assert_eq!(client.secrets(Some(&repository)).await.unwrap().len(), 1);

    // What was set is sealed and stored.
    service.process.crash();
    service.restart();
    let run = service.submit_with(submission("acme/demo", WORKFLOW)).await;
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    let environment = |name: &str, host: &str| {
        Some(JobEnvironment { name: name.to_owned(), url: Some(format!("https://{host}.example.test")) })
    };
    let expected = [
        ("key of production true, of the repository false", "host www region eu", environment("Production", "www")),
        ("key of production false, of the repository true", "host test region eu", environment("staging", "test")),
        // Without a name there is no environment.
        ("key of production false, of the repository true", "host test region eu", None),
    ];
    for (job, (secret, variable, environment)) in detail.jobs.iter().zip(expected) {
        let log = service.log(job.id).await;
        assert!(log.contains(secret) && log.contains(variable), "{}: {log}", job.name);
        assert_eq!(job.environment, environment, "{}", job.name);
    }
}

#[tokio::test]
async fn environments_are_set_up_by_hand_too_and_belong_to_repositories() {
    let service = Service::start(&[]);
    let said =
        service.says(&["variable", "set", "HOST=www", "--repository", "Acme/Demo", "--environment", "Production"]);
    assert!(said.err.contains("variable HOST of environment:acme/demo/production is set"), "{said:?}");
    let said = service.says(&["variable", "list", "--repository", "acme/demo", "--environment", "production"]);
    assert!(said.out.contains("HOST") && said.out.contains("www"), "{said:?}");
    let said = service.says(&["variable", "list", "--environment", "production"]);
    assert!(said.code != Some(0) && said.err.contains("--repository"), "{said:?}");
    let reply = Wire::open(&service.url).await.get("/api/v1/secrets?environment=production", &service.token).await;
    assert_eq!(reply.code(), 422);
    assert!(reply.text().contains("environments belong to repositories; give `repository` too"), "{}", reply.text());
}

use axum::body::Body;
use axum::response::Response;
use http::Method;
use serde_json::{Value, json};
use startline_client::{ApiClient, AuditFilter};
use startline_protocol::admin_api::{CreateTokenRequest, GroupRequest, ValueRequest};
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;
use startline_protocol::token::{ApiToken, TokenKind};
use startline_protocol::value_scope::ValueScope;

use crate::script::{Server, answer, cut, empty, problem, quick, transport};

fn client(server: &Server) -> ApiClient {
    let token = ApiToken::parse("slp_x").unwrap();
    ApiClient::new(transport(), &server.url(), token).unwrap().with_retry(quick(3))
}

fn asked(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.uri)).collect()
}

fn record(sequence: i64) -> Value {
    json!({
        "sequence": sequence, "at": "2026-01-01T00:00:00Z", "actor": "service", "action": "run.submit",
        "subject": "run:1", "outcome": "success", "scope": "instance", "hash": "0".repeat(64),
    })
}

fn ndjson(text: String) -> Response {
    Response::builder().header("content-type", "application/x-ndjson").body(Body::from(text)).unwrap()
}

#[tokio::test]
async fn names_and_scopes_go_where_the_service_looks_for_them() {
    let server = Server::start(|_, _| async { empty(204) }).await;
    let client = client(&server);
    let organization = ValueScope::from(Scope::organization("acme").unwrap());
    let repository = ValueScope::from(Scope::repository("acme/demo").unwrap());
    let production = ValueScope::environment("acme/demo", "Production EU").unwrap();
    let value = ValueRequest { value: "1".to_owned() };
    client.put_secret("KEY", Some(&repository), &value).await.unwrap();
    client.delete_secret("KEY", Some(&organization)).await.unwrap();
    client.put_variable("A B", None, &value).await.unwrap();
    client.delete_variable("X", Some(&Scope::Instance.into())).await.unwrap();
    client.delete_variable("X", Some(&production)).await.unwrap();
    client.put_group("big ones/x", Some("acme"), &GroupRequest::default()).await.unwrap();
    client.delete_group("big", None).await.unwrap();
    client.revoke_token(TokenKind::Registration, 7).await.unwrap();
    assert!(client.revoke_token(TokenKind::Runner, 7).await.is_err());
    assert_eq!(
        asked(&server),
        [
            "PUT /api/v1/secrets/KEY?repository=acme%2Fdemo",
            "DELETE /api/v1/secrets/KEY?organization=acme",
            "PUT /api/v1/variables/A%20B",
            "DELETE /api/v1/variables/X",
            "DELETE /api/v1/variables/X?repository=acme%2Fdemo&environment=production%20eu",
            "PUT /api/v1/runner-groups/big%20ones%2Fx?organization=acme",
            "DELETE /api/v1/runner-groups/big",
            "DELETE /api/v1/tokens/registration/7",
        ]
    );
    assert_eq!(server.seen()[0].json(), json!({ "value": "1" }));
}

#[tokio::test]
async fn a_token_is_minted_once_even_when_the_answer_is_lost() {
    let server = Server::start(|n, _| async move {
        match n {
            0 => problem(503, "unavailable"),
            1 => cut(201, "{\"token\":"),
            _ => empty(500),
        }
    })
    .await;
    let request = CreateTokenRequest {
        name: "ci".to_owned(),
        scope: None,
        permissions: vec![Permission::JobsWrite],
        expires_in_seconds: None,
    };
    let error = client(&server).create_token(&request).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(server.seen().len(), 2, "turned away: again; perhaps minted: not again");
    assert_eq!(server.seen()[0].json(), json!({ "name": "ci", "permissions": ["jobs:write"] }));
}

#[tokio::test]
async fn listings_are_read_and_retried() {
    let server = Server::start(|n, seen| async move {
        if n == 0 {
            return problem(503, "unavailable");
        }
        match seen.uri.path() {
            "/api/v1/tokens" => answer(200, &json!({ "tokens": [] })),
            "/api/v1/runner-groups" => answer(200, &json!({ "groups": [] })),
            "/api/v1/secrets" => answer(200, &json!({ "secrets": [] })),
            "/api/v1/variables" => answer(200, &json!({ "variables": [] })),
            "/api/v1/audit" => answer(200, &json!({ "records": [record(1)], "next_cursor": "1" })),
            "/api/v1/audit/verify" => {
                answer(200, &json!({ "valid": false, "records": 9, "broken": "line 4 was changed" }))
            }
            _ => empty(404),
        }
    })
    .await;
    let client = client(&server);
    assert!(client.tokens(Some(&Scope::organization("acme").unwrap())).await.unwrap().is_empty());
    assert!(client.groups().await.unwrap().is_empty());
    assert!(client.secrets(None).await.unwrap().is_empty());
    assert!(client.variables(None).await.unwrap().is_empty());
    let filter = AuditFilter { action: Some("run.submit".to_owned()), actor: Some("api_token:3 (a)".to_owned()) };
    let page = client.audit_page(&filter, Some("0"), Some(1)).await.unwrap();
    assert_eq!((page.records[0].sequence, page.next_cursor.as_deref()), (1, Some("1")));
    let verified = client.verify_audit().await.unwrap();
    assert_eq!((verified.valid, verified.broken.as_deref()), (false, Some("line 4 was changed")));
    let uris: Vec<_> =
        server.seen().into_iter().filter(|seen| seen.method == Method::GET).map(|seen| seen.uri).collect();
    assert!(uris.iter().any(|uri| uri == "/api/v1/tokens?organization=acme"));
    assert!(
        uris.iter().any(|uri| uri == "/api/v1/audit?cursor=0&limit=1&action=run.submit&actor=api_token%3A3%20%28a%29")
    );
}

#[tokio::test]
async fn an_export_has_every_line_as_it_was_written_and_a_cut_is_not_its_end() {
    let server = Server::start(|n, seen| async move {
        assert_eq!(seen.header("accept"), "application/x-ndjson");
        match n {
            0 => ndjson(format!("{}\n\n{}\n", record(1), record(2))),
            1 => cut(200, &format!("{}\n", record(1))),
            2 => ndjson(format!("{}\n{}", record(1), &record(2).to_string()[..20])),
            _ => ndjson(format!("{}\n{}\n", record(2), record(1))),
        }
    })
    .await;
    let client = client(&server);
    let mut export = client.export_audit(&AuditFilter::default()).await.unwrap();
    let (text, first) = export.next().await.unwrap().unwrap();
    assert_eq!((text, first.sequence), (record(1).to_string(), 1));
    assert_eq!(export.next().await.unwrap().unwrap().1.sequence, 2);
    assert!(export.next().await.unwrap().is_none());
    for why in ["cut between lines", "cut in a line", "out of order"] {
        let mut export = client.export_audit(&AuditFilter::default()).await.unwrap();
        assert!(export.next().await.unwrap().is_some(), "{why}");
        assert!(export.next().await.is_err(), "{why}");
    }
}

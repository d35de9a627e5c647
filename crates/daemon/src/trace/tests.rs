use super::*;

#[test]
fn a_traceparent_is_read_and_written_as_the_standard_says() {
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context: TraceContext = text.parse().unwrap();
    assert!(context.sampled);
    assert_eq!(context.to_string(), text);
    // A later version may say more.
    assert!("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x".parse::<TraceContext>().is_ok());
    for bad in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
    ] {
        assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
    }
}

fn tracer(ratio: f64) -> (Tracer, Exporter, TraceMetrics) {
    let metrics = TraceMetrics::default();
    let collector = Collector::new("http://127.0.0.1:9", CollectorHeaders::default(), "test".to_owned(), "1").unwrap();
    let (tracer, exporter) = Tracer::new(collector, ratio, metrics.clone());
    (tracer, exporter, metrics)
}

#[tokio::test]
async fn callers_decide_for_their_traces_and_the_ratio_for_ours() {
    startline_provider();
    let sampled: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let unsampled = TraceContext { sampled: false, ..sampled };
    let (half, _exporter, _) = tracer(0.5);
    let ours = (0..1000).filter(|_| half.begin(None).is_some()).count();
    assert!((350..650).contains(&ours), "{ours}");
    for (ratio, begins) in [(0.0, false), (1.0, true)] {
        let (tracer, _exporter, _) = tracer(ratio);
        assert_eq!(tracer.begin(None).is_some(), begins);
        let child = tracer.begin(Some(&sampled)).unwrap();
        assert!(child.trace == sampled.trace && child.span != sampled.span);
        assert_eq!(tracer.begin(Some(&unsampled)), None);
    }
    assert_eq!(Tracer::off().begin(Some(&sampled)), None);
}

#[tokio::test]
async fn what_the_queue_does_not_take_is_dropped_and_counted() {
    startline_provider();
    let (tracer, _exporter, metrics) = tracer(1.0);
    let context = tracer.begin(None).unwrap();
    for _ in 0..QUEUE + 3 {
        tracer.record(Span {
            context,
            parent: None,
            name: "x".into(),
            kind: Kind::Internal,
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            attributes: vec![],
            error: None,
        });
    }
    assert_eq!(metrics.dropped.get_or_create(&DropLabel { reason: "queue_full" }).get(), 3);
}

#[test]
fn values_of_headers_are_shown_nowhere() {
    let headers: CollectorHeaders = "api-key=hidden, x-scope=secret".parse().unwrap();
    for shown in [format!("{headers}"), format!("{headers:?}"), toml::Value::try_from(&headers).unwrap().to_string()] {
        assert!(shown.contains("api-key") && !shown.contains("hidden") && !shown.contains("secret"), "{shown}");
    }
    let wrong = "api-key=a,hidden".parse::<CollectorHeaders>().unwrap_err().to_string();
    assert!(wrong.contains("part 2") && !wrong.contains("hidden"), "{wrong}");
}

fn startline_provider() {
    // Whoever comes second finds it there.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

//! A collector of traces: it takes `ExportTraceServiceRequest`s over HTTP and reads them by the numbers of
//! `opentelemetry/proto/trace/v1/trace.proto`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use prost::Message;

/// A span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Default)]
struct Heard {
    spans: Vec<Span>,
    bytes: Vec<u8>,
    headers: BTreeMap<String, String>,
    refuses: bool,
}

pub(crate) struct Collector {
    pub url: String,
    heard: Arc<Mutex<Heard>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Heard>>::default();
        let hear = Arc::clone(&heard);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let hear = Arc::clone(&hear);
                // A service that goes away is none of our business.
                thread::spawn(move || answer(&socket, &hear).ok());
            }
        });
        Self { url, heard }
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.heard.lock().unwrap().spans.clone()
    }

    /// All bodies.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.heard.lock().unwrap().bytes.clone()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.heard.lock().unwrap().headers.get(name).cloned()
    }

    /// Answers 400 from now on.
    pub(crate) fn refuse(&self) {
        self.heard.lock().unwrap().refuses = true;
    }
}

fn answer(socket: &TcpStream, hear: &Mutex<Heard>) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut writer = socket;
    loop {
        let mut headers = BTreeMap::new();
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body)?;
        assert_eq!(request, "POST /v1/traces HTTP/1.1\r\n");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let mut heard = hear.lock().unwrap();
        if heard.refuses {
            writer.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        heard.spans.extend(read(&body));
        heard.bytes.extend(body);
        heard.headers = headers;
        drop(heard);
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

fn read(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in Request::decode(body).unwrap().resources {
        let service = pairs(&resource.resource.unwrap().attributes)["service.name"].clone();
        for wire in resource.scopes.into_iter().flat_map(|scope| scope.spans) {
            assert!(wire.trace.len() == 16 && wire.id.len() == 8, "{wire:?}");
            spans.push(Span {
                service: service.clone(),
                trace: hex(&wire.trace),
                id: hex(&wire.id),
                parent: hex(&wire.parent),
                name: wire.name,
                start: wire.start,
                end: wire.end,
                attributes: pairs(&wire.attributes),
            });
        }
    }
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pairs(pairs: &[Pair]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.text.clone().or_else(|| value.number.map(|number| number.to_string())).unwrap();
    pairs.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref().unwrap()))).collect()
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

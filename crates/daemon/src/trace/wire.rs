//! Spans in protobuf: `ExportTraceServiceRequest` of `opentelemetry/proto/collector/trace/v1/trace_service.proto`. The
//! few fields that we send are written by hand; numbers are those of the `.proto` files, version 1.

use jiff::Timestamp;

use super::{Kind, Span, Value};

/// A request with these spans of one service.
pub(super) fn request(service: &str, version: &str, spans: &[Span]) -> Vec<u8> {
    let resource = message(|resource| {
        attribute(resource, 1, "service.name", &Value::Text(service.to_owned().into()));
        attribute(resource, 1, "service.version", &Value::Text(version.to_owned().into()));
    });
    let scope = message(|scope| bytes(scope, 1, b"startline"));
    let scope_spans = message(|out| {
        bytes(out, 1, &scope);
        for span in spans {
            bytes(out, 2, &message(|out| write(out, span)));
        }
    });
    let resource_spans = message(|out| {
        bytes(out, 1, &resource);
        bytes(out, 2, &scope_spans);
    });
    message(|out| bytes(out, 1, &resource_spans))
}

fn write(out: &mut Vec<u8>, span: &Span) {
    bytes(out, 1, &span.context.trace);
    bytes(out, 2, &span.context.span);
    if let Some(parent) = span.parent {
        bytes(out, 4, &parent);
    }
    bytes(out, 5, span.name.as_bytes());
    let kind = match span.kind {
        Kind::Internal => 1,
        Kind::Server => 2,
    };
    number(out, 6, kind);
    time(out, 7, span.start);
    time(out, 8, span.end.max(span.start));
    for (key, value) in &span.attributes {
        attribute(out, 9, key, value);
    }
    if let Some(error) = &span.error {
        let status = message(|out| {
            bytes(out, 2, error.as_bytes());
            number(out, 3, 2);
        });
        bytes(out, 15, &status);
    }
}

fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &Value) {
    let value = message(|out| match value {
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        // An int64 is the two's complement, as a varint.
        Value::Number(value) => number(out, 3, value.cast_unsigned()),
    });
    let pair = message(|out| {
        bytes(out, 1, key.as_bytes());
        bytes(out, 2, &value);
    });
    bytes(out, field, &pair);
}

fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut out);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3));
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Nanoseconds since the epoch, as a fixed64.
fn time(out: &mut Vec<u8>, field: u32, at: Timestamp) {
    varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&u64::try_from(at.as_nanosecond()).unwrap_or_default().to_le_bytes());
}

use std::io::ErrorKind;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::*;

type Client = client::TlsStream<DuplexStream>;
type Server = TlsStream<DuplexStream>;

/// A server's configuration, and a client's that trusts it.
#[derive(Clone)]
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Configs {
    fn new(version: &'static rustls::SupportedProtocolVersion) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    fn both() -> [Self; 2] {
        [Self::new(&rustls::version::TLS12), Self::new(&rustls::version::TLS13)]
    }

    async fn dial(&self, io: DuplexStream) -> io::Result<Client> {
        TlsConnector::from(Arc::clone(&self.client)).connect(ServerName::try_from("localhost").unwrap(), io).await
    }

    async fn accept(&self, io: DuplexStream) -> io::Result<Server> {
        TlsStream::accept(Arc::clone(&self.server), io).await
    }

    /// Two ends that have shaken hands, over a pipe that holds so many bytes.
    async fn connect(&self, pipe: usize) -> (Client, Server) {
        let (near, far) = duplex(pipe);
        let (client, server) = tokio::join!(self.dial(near), self.accept(far));
        (client.unwrap(), server.unwrap())
    }
}

/// Takes and gives a few bytes at a time.
struct Cut {
    io: DuplexStream,
    most: usize,
}

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut few = vec![0; self.most.min(buf.remaining())];
        let mut read = ReadBuf::new(&mut few);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let few = &buf[..buf.len().min(self.most)];
        Pin::new(&mut self.io).poll_write(cx, few)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect()
}

fn is_empty_handed<S>(stream: &TlsStream<S>) -> bool {
    let session = &stream.session;
    [&session.incoming, &session.plaintext, &session.outgoing].iter().all(|buffer| buffer.capacity() == 0)
}

#[tokio::test]
async fn what_is_sent_arrives_however_it_is_cut() {
    for configs in Configs::both() {
        for (most, length) in [(1, 20_000), (7, 40_000), (4096, 300_000), (1 << 20, 3_000_000)] {
            let sent = pattern(length);
            let (near, io) = duplex(1 << 16);
            let echo = async {
                let io = Cut { io, most };
                let server = TlsStream::accept(Arc::clone(&configs.server), io).await.unwrap();
                let (mut read, mut write) = tokio::io::split(server);
                let count = tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
                count
            };
            let send = async {
                // Read while it is written: a peer that does not read is another test.
                let (mut read, mut write) = tokio::io::split(configs.dial(near).await.unwrap());
                let send = async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut came = Vec::new();
                let ((), received) = tokio::join!(send, read.read_to_end(&mut came));
                received.unwrap();
                came
            };
            let (count, came) = tokio::join!(echo, send);
            assert_eq!(count, u64::try_from(length).unwrap(), "cut every {most} bytes");
            assert!(came == sent, "cut every {most} bytes, other bytes came");
        }
    }
}

#[tokio::test]
async fn a_reader_with_little_room_gets_everything() {
    for configs in Configs::both() {
        let (mut client, mut server) = configs.connect(1 << 20).await;
        client.write_all(&pattern(50_000)).await.unwrap();
        let mut came = Vec::new();
        while came.len() < 50_000 {
            let mut some = [0; 13];
            let count = server.read(&mut some).await.unwrap();
            assert_ne!(count, 0);
            came.extend_from_slice(&some[..count]);
            // A write between two reads takes up what was kept, too.
            server.write_all(b"+").await.unwrap();
        }
        assert!(came == pattern(50_000));
        assert!(is_empty_handed(&server), "{:?}", server.session);
    }
}

#[tokio::test]
async fn nothing_is_kept_while_nothing_is_under_way() {
    for configs in Configs::both() {
        let (mut client, mut server) = configs.connect(1 << 20).await;
        assert!(is_empty_handed(&server), "{:?}", server.session);
        client.write_all(b"a question").await.unwrap();
        let mut question = [0; 10];
        server.read_exact(&mut question).await.unwrap();
        assert!(futures_util::poll!(Box::pin(server.read_u8())).is_pending());
        assert!(is_empty_handed(&server), "{:?}", server.session);
        server.write_all(&pattern(100_000)).await.unwrap();
        server.flush().await.unwrap();
        assert!(is_empty_handed(&server), "{:?}", server.session);
        let mut answer = vec![0; 100_000];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer == pattern(100_000));
    }
}

#[tokio::test]
async fn pieces_of_an_answer_go_out_together() {
    for configs in Configs::both() {
        let (mut client, mut server) = configs.connect(1 << 20).await;
        let parts = [io::IoSlice::new(b"head "), io::IoSlice::new(b""), io::IoSlice::new(b"body")];
        assert_eq!(server.write_vectored(&parts).await.unwrap(), 9);
        let mut answer = [0; 64];
        // One record is read at once.
        assert_eq!(client.read(&mut answer).await.unwrap(), 9);
        assert_eq!(&answer[..9], b"head body");
        assert_eq!(server.write_vectored(&[]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_the_writer_up() {
    let (mut client, mut server) = Configs::new(&rustls::version::TLS13).connect(4096).await;
    let piece = pattern(PIECE);
    assert_eq!(server.write(&piece).await.unwrap(), PIECE);
    assert!(futures_util::poll!(Box::pin(server.write(&piece))).is_pending());
    let kept = server.session.outgoing.len();
    assert!(kept > 0 && kept < PIECE + 1024, "{kept} bytes are kept");
    let mut came = vec![0; PIECE];
    let (read, flushed) = tokio::join!(client.read_exact(&mut came), server.flush());
    assert!(read.is_ok() && flushed.is_ok());
    assert!(came == piece && is_empty_handed(&server));
}

#[tokio::test]
async fn what_has_come_is_read_even_if_nothing_can_be_sent_any_more() {
    for configs in Configs::both() {
        let (mut client, mut server) = configs.connect(4096).await;
        assert_eq!(server.write(&pattern(PIECE)).await.unwrap(), PIECE, "more than the pipe holds");
        client.write_all(b"last").await.unwrap();
        drop(client);
        let mut last = [0; 8];
        assert_eq!(server.read(&mut last).await.unwrap(), 4);
        assert_eq!(&last[..4], b"last");
        assert!(server.read(&mut last).await.is_err() && server.write(b"more").await.is_err());
    }
}

#[tokio::test]
async fn ends_are_told_from_interruptions() {
    for configs in Configs::both() {
        let (mut client, mut server) = configs.connect(1 << 20).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last");
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "the end stays one");

        let (client, mut server) = configs.connect(1 << 20).await;
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);

        let (mut client, mut server) = configs.connect(1 << 20).await;
        server.write_all(b"bye").await.unwrap();
        server.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.expect("the server says that nothing follows");
        assert_eq!(all, b"bye");
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_so() {
    let configs = Configs::new(&rustls::version::TLS13);
    let (mut near, far) = duplex(1 << 16);
    near.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let error = configs.accept(far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
}

#[tokio::test]
async fn those_without_a_version_in_common_are_told_so() {
    let (near, far) = duplex(1 << 16);
    let old = Configs::new(&rustls::version::TLS12);
    let new = Configs::new(&rustls::version::TLS13);
    let (client, server) = tokio::join!(old.dial(near), new.accept(far));
    assert_eq!(server.unwrap_err().kind(), ErrorKind::InvalidData);
    let error = client.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn a_record_that_was_changed_ends_the_connection() {
    for configs in Configs::both() {
        let (client, mut server) = configs.connect(1 << 16).await;
        let (mut raw, _) = client.into_inner();
        // An application data record that no key of this connection has sealed, and more behind it.
        let mut record = vec![0x17, 3, 3, 0, 64];
        record.extend_from_slice(&[7; 64]);
        raw.write_all(&[record.clone(), record].concat()).await.unwrap();
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        assert_eq!(server.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(server.write(b"more").await.unwrap_err().kind(), ErrorKind::InvalidData);
        server.shutdown().await.unwrap();
        let mut rest = Vec::new();
        raw.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.is_empty(), "the peer is told why");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_in_time() {
    let configs = Configs::new(&rustls::version::TLS13);
    let (mut near, far) = duplex(1 << 20);
    // A ClientHello of 16 MiB, as its head says, in records of 16,000 bytes.
    let mut fragment = vec![0x16, 3, 1];
    fragment.extend_from_slice(&16_000_u16.to_be_bytes());
    let mut first = vec![1, 0xff, 0xff, 0xff];
    first.resize(16_000, 0);
    near.write_all(&[&fragment[..], &first].concat()).await.unwrap();
    for _ in 0..8 {
        near.write_all(&[&fragment[..], &[0; 16_000]].concat()).await.unwrap();
    }
    let error = configs.accept(far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn keys_may_change_while_data_is_under_way() {
    let (mut client, mut server) = Configs::new(&rustls::version::TLS13).connect(1 << 20).await;
    for round in 0_u8..8 {
        client.write_all(&[round; 5]).await.unwrap();
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&[round; 5]).await.unwrap();
        let mut came = [0; 10];
        server.read_exact(&mut came).await.unwrap();
        assert_eq!(came, [round; 10]);
        server.write_all(&[round; 3]).await.unwrap();
        let mut back = [0; 3];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(back, [round; 3]);
    }
    assert!(is_empty_handed(&server), "{:?}", server.session);
}

#[tokio::test]
async fn a_session_is_taken_up_again() {
    for configs in Configs::both() {
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut client, mut server) = configs.connect(1 << 20).await;
            assert_eq!(client.get_ref().1.handshake_kind(), Some(expected));
            // Tickets of TLS 1.3 are read with what follows.
            server.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
    }
}

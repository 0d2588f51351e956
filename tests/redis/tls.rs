//! A server behind TLS, by a feature of the client's that the user turns on.

use std::{fs, future::ready, net::TcpListener, path::Path};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use redis::{Client, TlsCertificates};
use tower_idempotency::{RedisBackend, testing::conformance};

use crate::support::{Server, fresh_name};

/// A server that lets nobody in without TLS, the address of that, and its certificate.
fn start() -> (Server, String, Vec<u8>) {
    // Others here may have chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (certificate, key) = (folder.join("redis.crt"), folder.join("redis.key"));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(&[
        &format!("tls-port {port}"),
        &format!("tls-cert-file {}", certificate.display()),
        &format!("tls-key-file {}", key.display()),
        &format!("tls-ca-cert-file {}", certificate.display()),
        "tls-auth-clients no",
    ]);
    (server, format!("rediss://127.0.0.1:{port}/"), cert.pem().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_laws_are_kept_over_tls() {
    let (_server, url, certificate) = start();
    let trusted = TlsCertificates { client_tls: None, root_cert: Some(certificate) };
    let client = Client::build_with_tls(url.as_str(), trusted).unwrap();
    let backend = RedisBackend::connect_by(move || ready(Ok(client.clone()))).await.unwrap().prefix(&fresh_name());
    backend.ping().await.unwrap();
    conformance(|| async { backend.clone() }).await;

    // Nobody vouches for this server but the test itself.
    let deceived = RedisBackend::connect(url.as_str()).await.unwrap();
    deceived.ping().await.unwrap_err();
}

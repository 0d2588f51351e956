//! A backend that encrypts the records of another one.
use std::time::Duration;

use chacha20poly1305::{
    Key as Secret, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Payload},
};
use tokio::time::Instant;
use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

const ID: usize = size_of::<u32>();
const NONCE: usize = size_of::<XNonce>();

type Answer<T> = Result<T, BackendError>;

pub(crate) struct EncryptedBackend<B> {
    inner: B,
    /// The first one is used to encrypt.
    ciphers: Vec<(u32, XChaCha20Poly1305)>,
}

impl<B: Backend> EncryptedBackend<B> {
    pub(crate) fn new(inner: B, write: (u32, Secret), read: &[(u32, Secret)]) -> Self {
        let ciphers = [&[write], read].concat();
        Self { inner, ciphers: ciphers.iter().map(|(id, secret)| (*id, XChaCha20Poly1305::new(secret))).collect() }
    }

    /// The record that is stored instead of `record`: the key's id, the nonce, and the encrypted bytes.
    fn seal(&self, key: &Key, record: &Record) -> Answer<Record> {
        let (id, cipher) = &self.ciphers[0];
        let nonce = XNonce::generate();
        let (id, plain) = (id.to_be_bytes(), record.to_bytes());
        let sealed = cipher.encrypt(&nonce, Payload { msg: &plain, aad: &place(id, key) });
        let sealed = sealed.map_err(|_| BackendError::unavailable("a record could not be encrypted"))?;
        Ok(Record::value(&Fingerprint::of(""), &[&id, nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, key: &Key, stored: &Record) -> Answer<Record> {
        let value = stored.as_value().ok_or_else(|| BackendError::corrupt("a record that is not encrypted"))?;
        let parts = value.split_first_chunk::<ID>();
        let parts = parts.and_then(|(id, rest)| Some((id, rest.split_first_chunk::<NONCE>()?)));
        let (id, (nonce, sealed)) = parts.ok_or_else(|| BackendError::corrupt("an encrypted record is cut off"))?;
        let number = u32::from_be_bytes(*id);
        let cipher = self.ciphers.iter().find(|(known, _)| *known == number);
        let (_, cipher) = cipher.ok_or_else(|| BackendError::corrupt(format!("key {number} is not known")))?;
        let plain = cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &place(*id, key) });
        let plain = plain.map_err(|_| BackendError::corrupt("an encrypted record was changed, or stored elsewhere"))?;
        Record::from_bytes(plain.into()).map_err(BackendError::corrupt)
    }

    fn open_entry(&self, key: &Key, entry: Option<Entry>) -> Answer<Option<Entry>> {
        match entry {
            Some(Entry::Completed(stored)) => Ok(Some(Entry::Completed(self.open(key, &stored)?))),
            other => Ok(other),
        }
    }
}

/// What an encrypted record is bound to, so that nobody who can write to the store can move it to another key.
fn place(id: [u8; ID], key: &Key) -> Vec<u8> {
    [&id[..], key.as_bytes()].concat()
}

impl<B: Backend> Backend for EncryptedBackend<B> {
    async fn claim(&self, key: &Key, token: Token, fingerprint: &Fingerprint, lease: Duration) -> Answer<Claim> {
        match self.inner.claim(key, token, fingerprint, lease).await? {
            Claim::Completed(stored) => Ok(Claim::Completed(self.open(key, &stored)?)),
            other => Ok(other),
        }
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Answer<Ownership> {
        self.inner.renew(key, token, lease).await
    }

    async fn complete(&self, key: &Key, token: Token, record: &Record, retention: Duration) -> Answer<Ownership> {
        self.inner.complete(key, token, &self.seal(key, record)?, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Answer<()> {
        self.inner.release(key, token).await
    }

    async fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        self.open_entry(key, self.inner.get(key).await?)
    }

    async fn remove(&self, key: &Key) -> Answer<bool> {
        self.inner.remove(key).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Answer<Option<Entry>> {
        self.open_entry(key, self.inner.wait(key, deadline).await?)
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}

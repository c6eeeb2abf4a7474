//! RSA for passwords that clients send over a connection without TLS: OAEP with SHA-1, as the protocol has it.

use std::sync::{Arc, OnceLock};

use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::{Oaep, RsaPrivateKey};
use sha1_for_rsa::Sha1;
use zeroize::Zeroizing;

/// As long as the key that a server makes for itself.
const KEY_BITS: usize = 2048;

/// Headgate's own pair of keys, made when the first client without TLS asks for it, and kept in memory only.
#[derive(Default)]
pub struct KeyPair(Arc<OnceLock<Option<Arc<Pair>>>>);

struct Pair {
    private: RsaPrivateKey,
    public: String,
}

impl KeyPair {
    /// The public key as PEM, for clients; `None` where no key could be made.
    pub async fn public(&self) -> Option<String> {
        self.pair().await.map(|pair| pair.public.clone())
    }

    /// Decrypts what a client sent; `None` where it was not encrypted for this key.
    pub async fn open(&self, sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
        let pair = self.pair().await?;
        // A millisecond of arithmetic is too long for a thread that serves sessions.
        let opening = tokio::task::spawn_blocking(move || {
            let padding = Oaep::new::<Sha1>();
            let clear = pair.private.decrypt_blinded(&mut OsRng, padding, &sealed);
            clear.ok().map(Zeroizing::new)
        });
        opening.await.ok().flatten()
    }

    async fn pair(&self) -> Option<Arc<Pair>> {
        if let Some(made) = self.0.get() {
            return made.clone();
        }
        // On a busy machine a key may take longer than a login: who comes next must find it, and not begin anew.
        let cell = Arc::clone(&self.0);
        let making = tokio::task::spawn_blocking(move || cell.get_or_init(make).clone());
        making.await.ok().flatten()
    }
}

fn make() -> Option<Arc<Pair>> {
    let private = RsaPrivateKey::new(&mut OsRng, KEY_BITS).ok()?;
    let public = private.to_public_key().to_public_key_pem(LineEnding::LF);
    let public = public.ok()?;
    Some(Arc::new(Pair { private, public }))
}

#[cfg(test)]
mod tests {
    use protocol::mysql::auth::seal;

    use super::*;

    #[tokio::test]
    async fn what_is_sealed_with_the_public_key_opens_with_the_private_one_only() {
        let (ours, theirs) = (KeyPair::default(), KeyPair::default());
        let public = ours.public().await.expect("a key");
        let sealed = seal(public.as_bytes(), b"secret\0", &mut OsRng).expect("sealed");
        let opened = ours.open(sealed.clone()).await.expect("opened");
        assert_eq!(&opened[..], b"secret\0");
        assert!(theirs.open(sealed).await.is_none());
        assert!(seal(b"no key", b"secret", &mut OsRng).is_none());
        assert!(ours.open(vec![0; 3]).await.is_none());
    }

    #[tokio::test]
    async fn a_key_is_made_though_the_client_that_asked_for_it_has_gone() {
        let keys = KeyPair::default();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, keys.public()).await.is_err(), "too quick to be left");
        let cell = Arc::clone(&keys.0);
        let made = tokio::task::spawn_blocking(move || cell.wait().is_some());
        assert!(made.await.expect("it waits"));
    }
}

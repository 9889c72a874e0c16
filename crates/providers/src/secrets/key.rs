//! Provides the current value of a secret for each use. The value is read when it is first needed, cached, and read
//! again after an endpoint refuses it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::value::meant;
use super::{SecretError, SecretName, SecretOptions, Sensitive, Vault};

/// Provides the value of a secret, such as an API key. Clones are cheap and share the cached value.
#[derive(Clone)]
pub struct Key(Inner);

#[derive(Clone)]
enum Inner {
    /// The endpoint needs no key.
    None,
    /// The value was fixed when the process started.
    Fixed(Sensitive),
    Kept(Arc<Kept>),
    Unavailable(&'static str),
}

/// Describes a secret that is stored in a vault. The value in the vault may change at any time.
struct Kept {
    vault: Arc<dyn Vault>,
    name: SecretName,
    setting: &'static str,
    options: SecretOptions,
    /// Cached value. The lock is held during a read, so that concurrent callers cause only one read.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    value: Option<Sensitive>,
    read: Option<Instant>,
    /// Time of the last attempt to read the value, and the error if this attempt failed.
    tried: Option<(Instant, Option<SecretError>)>,
}

impl Key {
    /// Returns a key for an endpoint that needs no key.
    pub fn none() -> Self {
        Self(Inner::None)
    }

    /// Returns a key whose value is in a vault. This function does not read the vault.
    pub fn kept(vault: Arc<dyn Vault>, name: SecretName, setting: &'static str, options: SecretOptions) -> Self {
        Self(Inner::Kept(Arc::new(Kept { vault, name, setting, options, state: Mutex::default() })))
    }

    /// Returns a key whose value is in a vault that this program cannot read.
    pub fn unavailable(setting: &'static str) -> Self {
        Self(Inner::Unavailable(setting))
    }

    /// Returns the value, or `None` if no key is needed.
    pub async fn get(&self) -> Result<Option<Sensitive>, SecretError> {
        match &self.0 {
            Inner::None => Ok(None),
            Inner::Fixed(value) => Ok(Some(value.clone())),
            Inner::Kept(kept) => kept.get().await.map(Some),
            Inner::Unavailable(setting) => Err(SecretError::lasting(format!(
                "cannot read the secret that `{setting}` names, because this program was built without AWS: build it \
                 with `cargo build --release --features aws`"
            ))),
        }
    }

    /// Returns whether the value may change later.
    pub fn may_change(&self) -> bool {
        matches!(self.0, Inner::Kept(_))
    }

    /// Returns a newer value in place of `refused`, which an endpoint did not accept. Returns `None` if no other
    /// value is available.
    pub async fn instead_of(&self, refused: &Sensitive) -> Option<Sensitive> {
        match &self.0 {
            Inner::Kept(kept) => kept.instead_of(refused).await,
            _ => None,
        }
    }
}

impl From<String> for Key {
    fn from(value: String) -> Self {
        Self(if value.is_empty() { Inner::None } else { Inner::Fixed(Sensitive::new(value)) })
    }
}

impl From<&str> for Key {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl Kept {
    async fn get(&self) -> Result<Sensitive, SecretError> {
        let mut state = self.state.lock().await;
        let is_fresh = state.read.is_some_and(|read| read.elapsed() < self.options.refresh());
        if let Some(value) = state.value.as_ref().filter(|_| is_fresh) {
            return Ok(value.clone());
        }
        match (&state.value, &state.tried) {
            (Some(value), Some((at, _))) if at.elapsed() < self.options.min_refresh() => return Ok(value.clone()),
            (None, Some((at, Some(error)))) if at.elapsed() < self.options.min_refresh() => return Err(error.clone()),
            _ => {}
        }
        match (self.read(&mut state).await, &state.value) {
            (Ok(value), _) => Ok(value),
            // The endpoint decides whether the old value is still valid.
            (Err(error), Some(value)) => {
                tracing::warn!(%error, "secret not refreshed; using the cached value");
                Ok(value.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn instead_of(&self, refused: &Sensitive) -> Option<Sensitive> {
        let mut state = self.state.lock().await;
        // Another caller has read a new value meanwhile.
        if let Some(value) = state.value.as_ref().filter(|value| *value != refused) {
            return Some(value.clone());
        }
        if state.tried.as_ref().is_some_and(|(at, _)| at.elapsed() < self.options.min_refresh()) {
            return None;
        }
        match self.read(&mut state).await {
            Ok(value) => (value != *refused).then_some(value),
            Err(error) => {
                tracing::warn!(%error, "secret not refreshed after the endpoint refused it");
                None
            }
        }
    }

    async fn read(&self, state: &mut State) -> Result<Sensitive, SecretError> {
        let read = self.vault.read(&self.name.secret, self.setting).await;
        let read = read.and_then(|bytes| meant(bytes, &self.name, self.setting));
        let now = Instant::now();
        state.tried = Some((now, read.as_ref().err().cloned()));
        if let Ok(value) = &read {
            state.value = Some(value.clone());
            state.read = Some(now);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;

    #[derive(Default)]
    struct Told {
        value: StdMutex<Option<&'static str>>,
        asked: StdMutex<u32>,
    }

    impl Told {
        fn set(&self, value: Option<&'static str>) {
            *self.value.lock().unwrap() = value;
        }

        fn asked(&self) -> u32 {
            *self.asked.lock().unwrap()
        }
    }

    #[async_trait]
    impl Vault for Told {
        async fn read(&self, _: &str, _: &str) -> Result<Vec<u8>, SecretError> {
            *self.asked.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.value.lock().unwrap().map(Into::into).ok_or_else(|| SecretError::passing("not now"))
        }
    }

    fn kept(value: Option<&'static str>) -> (Arc<Told>, Key) {
        let vault = Arc::new(Told::default());
        vault.set(value);
        let name = SecretName { secret: "s".into(), field: None };
        (vault.clone(), Key::kept(vault, name, "a.b", SecretOptions::default()))
    }

    async fn value(key: &Key) -> String {
        key.get().await.unwrap().unwrap().expose().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_when_first_needed_once_for_all_and_again_in_time() {
        let (vault, key) = kept(Some("one"));
        assert_eq!(vault.asked(), 0);
        let all = futures_util::future::join_all((0..64).map(|_| value(&key))).await;
        assert!(all.iter().all(|value| value == "one"));
        assert_eq!(vault.asked(), 1);
        vault.set(Some("two"));
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!((value(&key).await.as_str(), vault.asked()), ("one", 1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((value(&key).await.as_str(), vault.asked()), ("two", 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_one_is_read_again_at_once_but_not_too_often() {
        let (vault, key) = kept(Some("one"));
        let one = key.get().await.unwrap().unwrap();
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(key.instead_of(&one).await, None, "it has not changed");
        vault.set(Some("two"));
        assert_eq!(key.instead_of(&one).await, None, "too soon");
        assert_eq!(vault.asked(), 2);
        tokio::time::advance(Duration::from_secs(11)).await;
        let all = futures_util::future::join_all((0..64).map(|_| key.instead_of(&one))).await;
        assert!(all.iter().all(|new| new.as_ref().unwrap().expose() == "two"), "{all:?}");
        assert_eq!(vault.asked(), 3, "one asks for all");
        assert_eq!(value(&key).await, "two");
        assert_eq!(Key::from("fixed").instead_of(&one).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_serves_while_it_can_t_be_read_again() {
        let (vault, key) = kept(Some("one"));
        assert_eq!(value(&key).await, "one");
        vault.set(None);
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_eq!((value(&key).await, vault.asked()), ("one".into(), 2));
        assert_eq!((value(&key).await, vault.asked()), ("one".into(), 2), "not for each use");
        vault.set(Some("two"));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(value(&key).await, "two");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_can_t_be_read_is_an_error_that_many_share() {
        let (vault, key) = kept(None);
        let all = futures_util::future::join_all((0..64).map(|_| key.get())).await;
        assert!(all.iter().all(|got| got.as_ref().unwrap_err().passing));
        assert_eq!(vault.asked(), 1);
        vault.set(Some("one"));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(value(&key).await, "one");
    }
}

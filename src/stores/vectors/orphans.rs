//! Files that were staged for a commit which never came.

use std::collections::HashSet;

use super::{VectorError, VectorStore};

impl VectorStore {
    /// Takes away deltas that the manifest has never named: a process died between staging one and the swap. Only where
    /// no writer of any process is at work: for who holds the state folder's lock, before its own work begins. Without
    /// a manifest nothing is touched unless the caller knows that there never was one. Returns how many were taken away.
    ///
    /// # Errors
    /// Those of the object store and of reading the manifest.
    pub async fn sweep_orphans(&self, never_committed: bool) -> Result<u64, VectorError> {
        const PAGE: usize = 500;
        let named: HashSet<String> = match self.register.load().await? {
            Some((manifest, _)) => {
                let removed = manifest.removed.iter().map(|r| &r.file);
                manifest.live.iter().chain(removed).map(|f| self.key(&f.file)).collect()
            }
            None if never_committed => HashSet::new(),
            None => return Ok(0),
        };
        let prefix = self.key("delta/");
        let (mut after, mut swept) = (None, 0);
        loop {
            let page = self.objects.list(&prefix, after.as_deref(), PAGE).await?;
            for object in page.iter().filter(|o| !named.contains(&o.key)) {
                self.objects.delete(&object.key).await?;
                swept += 1;
            }
            after = page.last().map(|o| o.key.clone());
            if page.len() < PAGE {
                return Ok(swept);
            }
        }
    }
}

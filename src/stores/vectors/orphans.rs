//! Files that were staged for a commit which never came.

use std::collections::HashSet;

use super::manifest::Manifest;
use super::{VectorError, VectorStore};
use crate::stores::objects::Pages;

impl VectorStore {
    /// Takes away deltas that the manifest does not name: a process died between staging one and the swap. Only where
    /// no writer of any process is at work: for who holds the state folder's lock, with the manifest as it then is and
    /// before its own work begins. Returns how many were taken away.
    ///
    /// # Errors
    /// Those of the object store.
    pub async fn sweep_orphans(&self, manifest: &Manifest) -> Result<u64, VectorError> {
        let removed = manifest.removed.iter().map(|r| &r.file);
        let named: HashSet<String> = manifest.live.iter().chain(removed).map(|f| self.key(&f.file)).collect();
        let mut pages = Pages::new(self.objects.as_ref(), self.key("delta/"));
        let mut swept = 0;
        while let Some(page) = pages.next().await? {
            for object in page.iter().filter(|o| !named.contains(&o.key)) {
                self.objects.delete(&object.key).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

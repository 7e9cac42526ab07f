//! The conformance suite over files.

use crate::Folder;
use crate::files::Files;
use crate::wire::encode;
use anybroker::adapter::{Adapter, Binding, Bytes, Channel, Message, Result, async_trait};
use anybroker::conformance::{Fixture, Hook, Verdict, checks, run};
use std::collections::BTreeMap;
use std::sync::Arc;

struct OnFiles(Files);

#[async_trait]
impl Fixture for OnFiles {
    fn name(&self) -> &str {
        "files"
    }

    async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        Ok(self.0.connect())
    }

    fn conflicting(&self, name: &str) -> Option<[Binding; 2]> {
        let name = String::from(name).leak();
        Some([Channel::point_to_point(name), Channel::publish_subscribe(name)].map(Binding::new))
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Restart, Hook::Cut, Hook::Foreign, Hook::Undecodable]
    }

    async fn restart(&self) -> Result<()> {
        // Nothing is in memory but who holds what, and a cut forgets that.
        self.cut().await
    }

    async fn cut(&self) -> Result<()> {
        self.0.cut();
        Ok(())
    }

    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        self.0.put(to, &encode(&Message::new(payload)))
    }

    async fn send_undecodable(&self, to: &Binding) -> Result<Bytes> {
        let raw = Bytes::from_static(b"\xff no record of ours");
        self.0.put(to, &raw)?;
        Ok(raw)
    }
}

/// Every check passes, or is skipped for a reason that the adapter or the fixture declares.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_files() {
    let (mut passed, mut skipped, mut failed) = (0, BTreeMap::<String, Vec<&str>>::new(), Vec::new());
    for check in checks() {
        // A folder for each, so that what cuts all connections cuts its own.
        let folder = Folder::new(&check.name.replace('/', "-"));
        match run(check, Arc::new(OnFiles(folder.files()))).await {
            Verdict::Passed => passed += 1,
            Verdict::Skipped(why) => skipped.entry(why).or_default().push(check.name),
            Verdict::Failed(seen) if check.advisory => println!("advisory, failed: {}: {seen}", check.name),
            Verdict::Failed(seen) => failed.push(format!("{}: {seen}", check.name)),
            _ => failed.push(format!("{}: a verdict that is not known here", check.name)),
        }
    }
    let count: usize = skipped.values().map(Vec::len).sum();
    println!("files: {} checks, {passed} passed, {} failed, {count} skipped", checks().len(), failed.len());
    for (why, checks) in &skipped {
        println!("  skipped, because {why}: {}", checks.join(", "));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed > 0, "nothing was checked");
}

//! Frees a Kafka of topics: one that was killed looks through every partition before it answers. A test binary elsewhere includes this file by its path.

use anybroker::kafka::rdkafka::admin::{AdminClient, AdminOptions};
use anybroker::kafka::rdkafka::client::DefaultClientContext;
use anybroker::kafka::rdkafka::error::KafkaResult;
use std::sync::Arc;
use std::time::Duration;

/// A client that deletes.
pub(crate) type Admin = Arc<AdminClient<DefaultClientContext>>;

/// Deletes those topics. It is no fault if some stay.
pub(crate) async fn delete(admin: Admin, which: impl Fn(&str) -> bool) -> KafkaResult<()> {
    let asking = Arc::clone(&admin);
    let asked =
        tokio::task::spawn_blocking(move || asking.inner().fetch_metadata(None, Duration::from_secs(5)));
    let Ok(metadata) = asked.await else { return Ok(()) };
    let metadata = metadata?;
    let topics: Vec<_> =
        metadata.topics().iter().map(|topic| topic.name()).filter(|name| which(name)).collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for some in topics.chunks(50) {
        admin.delete_topics(some, &options).await?;
    }
    Ok(())
}

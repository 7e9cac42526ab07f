//! The one place with unsafe code: three calls of librdkafka that its crate does not have. One gives many records at once; record by record costs several
//! times as much (an event and a reference count each). One says what became of a commit; the crate's own tells nothing of a commit that it has not
//! waited for. And one names brokers to a client that has none left.
//!
//! What has to hold, and where it does:
//! - The batch call must not run beside pause, resume, seek or a rebalance: all of them, and it, are called by the one thread of the reader. An [`Inbox`]
//!   cannot be sent to another.
//! - It must not be used on the consumer's own queue, where it would swallow rebalances: an inbox has a queue of its own, to which partitions are forwarded.
//! - Queues and records are gone before their consumer: the inbox borrows it, and records live no longer than the call that gives them.

#![allow(unsafe_code, reason = "calls of librdkafka that its crate does not wrap")]

use crate::wire::Record;
use rdkafka::ClientContext;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes the reader's thread.
#[derive(Default)]
pub(crate) struct Signal {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(crate) fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits until it was set since the last time, at most that long.
    pub(crate) fn wait(&self, most: Duration) {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(set, most, |set| !*set);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// Where the records of all partitions come together.
pub(super) struct Inbox<'c, C: ConsumerContext> {
    consumer: &'c BaseConsumer<C>,
    queue: NonNull<native::rd_kafka_queue_t>,
    /// Where the answers to commits come.
    answers: NonNull<native::rd_kafka_queue_t>,
    /// Kept for the queues, which call it until they are told otherwise.
    signal: Arc<Signal>,
    taken: Vec<*mut native::rd_kafka_message_t>,
    /// It stays on its thread.
    here: PhantomData<*mut ()>,
}

/// What comes out of it.
pub(super) enum Item<'a> {
    Record(Taken<'a>),
    Failed { partition: i32, code: Code },
}

/// A record in librdkafka's memory.
pub(super) struct Taken<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) content: Record<'a>,
    /// `None` where librdkafka cannot read them.
    pub(super) headers: Option<HeaderIter<'a>>,
}

impl<'c, C: ConsumerContext> Inbox<'c, C> {
    /// `None` when librdkafka gives no queue. The signal is set whenever something arrives.
    pub(super) fn new(consumer: &'c BaseConsumer<C>, signal: Arc<Signal>) -> Option<Self> {
        let told = Arc::as_ptr(&signal).cast_mut().cast::<c_void>();
        let queue = || {
            // SAFETY: the client is alive as long as the borrow of its consumer.
            let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) })?;
            // SAFETY: the queue was just made, and the signal is kept until the queue is told otherwise.
            unsafe { native::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(arrived), told) };
            Some(queue)
        };
        let (queue, answers) = (queue()?, queue()?);
        Some(Self { consumer, queue, answers, signal, taken: Vec::new(), here: PhantomData })
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// From now on the records of that partition come here.
    pub(super) fn take_over(&self, topic: &str, partition: i32) {
        self.forward(topic, partition, self.queue.as_ptr());
    }

    /// They come to the consumer's own queue again.
    pub(super) fn give_back(&self, topic: &str, partition: i32) {
        self.forward(topic, partition, ptr::null_mut());
    }

    fn forward(&self, topic: &str, partition: i32, to: *mut native::rd_kafka_queue_t) {
        // A topic's name has no NUL: it was read from the cluster or checked.
        let Ok(topic) = CString::new(topic) else { return };
        // SAFETY: client, name and destination are alive; the partition's queue is given up again.
        unsafe {
            let client = self.consumer.client().native_ptr();
            let queue = native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            if !queue.is_null() {
                native::rd_kafka_queue_forward(queue, to);
                native::rd_kafka_queue_destroy(queue);
            }
        }
    }

    /// Commits those positions. What becomes of it comes out of [`Inbox::committed`].
    pub(super) fn commit(&self, positions: &TopicPartitionList) -> Result<(), Code> {
        // SAFETY: client, list and queue are alive, and the list is copied.
        let said = unsafe {
            let (client, answers) = (self.consumer.client().native_ptr(), self.answers.as_ptr());
            native::rd_kafka_commit_queue(client, positions.ptr(), answers, None, ptr::null_mut())
        };
        match Code::from(said) {
            Code::NoError => Ok(()),
            code => Err(code),
        }
    }

    /// The next answer to a commit, if there is one: partitions and offsets that Kafka has now.
    pub(super) fn committed(&self) -> Option<Result<Vec<(i32, i64)>, Code>> {
        // SAFETY: the queue is alive, and there is no waiting.
        let answer = NonNull::new(unsafe { native::rd_kafka_queue_poll(self.answers.as_ptr(), 0) })?;
        // SAFETY: the answer is alive until it is destroyed at the end, and its list with it.
        unsafe {
            let said = Code::from(native::rd_kafka_event_error(answer.as_ptr()));
            let list = native::rd_kafka_event_topic_partition_list(answer.as_ptr());
            let committed = match (list.as_ref(), said) {
                (Some(list), Code::NoError) if !list.elems.is_null() => {
                    let elements = slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0));
                    let taken =
                        elements.iter().filter(|element| matches!(Code::from(element.err), Code::NoError));
                    Ok(taken.map(|element| (element.partition, element.offset)).collect())
                }
                (_, Code::NoError) => Ok(Vec::new()),
                (_, code) => Err(code),
            };
            native::rd_kafka_event_destroy(answer.as_ptr());
            Some(committed)
        }
    }

    /// Gives what is there now, at most that much, without waiting. Says how much it was.
    pub(super) fn drain(&mut self, most: usize, mut each: impl FnMut(Item<'_>)) -> usize {
        self.taken.clear();
        self.taken.reserve(most);
        // SAFETY: there is room for as many pointers, and only as many as it says are set.
        let count = unsafe {
            native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, self.taken.as_mut_ptr(), most)
        };
        // Below zero is an error of the call, of which there is none without waiting.
        let count = usize::try_from(count).unwrap_or(0).min(most);
        // SAFETY: that many were set.
        unsafe { self.taken.set_len(count) };
        for message in self.taken.drain(..) {
            let _given_up = GiveUp(message);
            // SAFETY: it is a record until it is given up, behind the call.
            each(unsafe { item(message) });
        }
        count
    }
}

impl<C: ConsumerContext> Drop for Inbox<'_, C> {
    fn drop(&mut self) {
        for queue in [self.queue, self.answers] {
            // SAFETY: it is told first that the signal goes; the consumer outlives the borrow.
            unsafe {
                native::rd_kafka_queue_cb_event_enable(queue.as_ptr(), None, ptr::null_mut());
                native::rd_kafka_queue_destroy(queue.as_ptr());
            }
        }
    }
}

/// Names those brokers, separated by commas, to a client. It connects to none that it has already.
pub(super) fn name_brokers<C: ClientContext>(client: &Client<C>, servers: &CStr) {
    // SAFETY: client and text are alive, and the text is copied.
    unsafe { native::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
}

/// Called by librdkafka's threads.
unsafe extern "C" fn arrived(_: *mut native::rd_kafka_t, signal: *mut c_void) {
    // SAFETY: the inbox keeps it as long as this may be called.
    unsafe { &*signal.cast::<Signal>() }.set();
}

/// Gives a record back to librdkafka, also when its taker panics.
struct GiveUp(*mut native::rd_kafka_message_t);

impl Drop for GiveUp {
    fn drop(&mut self) {
        // SAFETY: it was taken and is given back once.
        unsafe { native::rd_kafka_message_destroy(self.0) };
    }
}

/// # Safety
/// The pointer is to a record that lives as long as what is made of it.
unsafe fn item<'a>(message: *mut native::rd_kafka_message_t) -> Item<'a> {
    // SAFETY: as promised.
    let it = unsafe { &*message };
    let (partition, offset) = (it.partition, it.offset);
    match Code::from(it.err) {
        Code::NoError => {}
        code => return Item::Failed { partition, code },
    }
    // SAFETY: pointer and length belong together, and a null pointer is no value.
    let bytes = |from: *mut c_void, len: usize| unsafe {
        (!from.is_null()).then(|| slice::from_raw_parts(from.cast::<u8>().cast_const(), len))
    };
    let mut of = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: it is a record, and the kind of time is written to a place of ours.
    let time = unsafe { native::rd_kafka_message_timestamp(message, &raw mut of) };
    let timestamp =
        (of != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(time);
    let mut headers = ptr::null_mut();
    // SAFETY: the same; the headers belong to the record.
    let found = unsafe { native::rd_kafka_message_headers(message, &raw mut headers) };
    let headers = match Code::from(found) {
        Code::NoError => Some(headers),
        Code::NoEnt => Some(ptr::null_mut()),
        _ => None,
    };
    let headers = headers.map(|headers| HeaderIter { headers, next: 0, of: PhantomData });
    let content = Record { key: bytes(it.key, it.key_len), value: bytes(it.payload, it.len), timestamp };
    Item::Record(Taken { partition, offset, content, headers })
}

/// The headers of a record, in order.
pub(super) struct HeaderIter<'a> {
    headers: *mut native::rd_kafka_headers_t,
    next: usize,
    of: PhantomData<&'a [u8]>,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0_usize);
        // SAFETY: the headers live as long as their record, which outlives this; what is found is written to places of ours.
        let found = unsafe {
            native::rd_kafka_header_get_all(
                self.headers,
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if !matches!(Code::from(found), Code::NoError) {
            return None;
        }
        self.next += 1;
        // SAFETY: a name is a C string, a value has that many bytes, and both are the record's.
        unsafe {
            let name = CStr::from_ptr(name).to_bytes();
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
            Some((name, value))
        }
    }
}

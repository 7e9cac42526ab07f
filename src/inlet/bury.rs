use super::{Inlet, Parcel, Phase};
use crate::adapter::{Message, Source};
use crate::clock::later;
use crate::dead_letter::{ATTEMPTS, ORIGIN, REASON};
use crate::delivery::Settlement;
use crate::outlet::Sending;
use crate::status::State as Health;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Copies the delivery to the dead-letter channel, awaits the broker's word for the copy, then acknowledges the original. Until then it is held,
/// and so is its key.
pub(super) fn bury(inlet: &Arc<Inlet>, parcel: Parcel, reason: String) -> Settlement {
    let (done, result) = oneshot::channel();
    let inlet = Arc::clone(inlet);
    // The application may settle on a thread outside of the runtime.
    inlet.runtime.clone().spawn(async move {
        let copy = copy(&inlet, &parcel, &reason);
        let copied = store(&inlet, &parcel, copy).await;
        let settled = match copied {
            Ok(()) => {
                inlet.settle(parcel, crate::adapter::Outcome::Ack, |s| s.counts.dead_lettered += 1).await
            }
            Err(error) => {
                inlet.lock().unburied(parcel, inlet.now());
                inlet.wake_supervisor.notify_one();
                Err(error)
            }
        };
        // Nobody may be waiting for it.
        let _ = done.send(settled);
    });
    Settlement::task(result)
}

/// Sends the copy until the broker has it. Gives up only when the delivery is not ours any more.
async fn store(inlet: &Arc<Inlet>, parcel: &Parcel, copy: Message) -> Result<()> {
    let Some(outlet) = &inlet.dead_letters else {
        return Err(Error::new(ErrorKind::Unsupported, "there is no dead-letter channel"));
    };
    let mut backoff = inlet.settings.backoff;
    let mut stalled = false;
    loop {
        let result = match outlet.send(copy.clone(), inlet.link.open_within) {
            Sending::Done(result) => result,
            Sending::Waiting(answers) => answers.one().await,
        };
        let mut leaving = std::pin::pin!(inlet.leaving.notified());
        // Registered before the look at the phase, so that leaving in between is not missed.
        leaving.as_mut().enable();
        match result {
            Ok(_) => {
                if stalled && inlet.status.state() == Health::Stalled {
                    inlet.status.set(Health::Connected, None);
                }
                return Ok(());
            }
            Err(error) if parcel.is_lost() || inlet.lock().phase != Phase::Open => return Err(error),
            Err(error) => {
                stalled = true;
                inlet.status.set(Health::Stalled, Some(format!("a dead letter cannot be stored: {error}")));
                let until = later(inlet.now(), backoff.next_wait());
                tokio::select! {
                    () = inlet.link.clock.sleep_until(until) => {}
                    () = Arc::clone(&parcel.tie).lost() => {}
                    () = leaving => {}
                }
            }
        }
    }
}

fn copy(inlet: &Inlet, parcel: &Parcel, reason: &str) -> Message {
    let mut copy = parcel.message.clone();
    // A dead letter does not expire: it is there to be looked at.
    copy.set_expires_at(None);
    let channel = inlet.link.binding.channel.name();
    let origin = match &inlet.source {
        Source::Subscription(_, subscription) => {
            format!("{channel}/{}", subscription.name().unwrap_or_default())
        }
        _ => channel.to_owned(),
    };
    copy.headers_mut().set(REASON, reason);
    copy.headers_mut().set(ATTEMPTS, parcel.attempt.to_string());
    copy.headers_mut().set(ORIGIN, origin);
    copy
}

//! Told to end under load again and again: nothing is lost, what was finished is not handled again, and it ends in time, also where a handler hangs.

use crate::instance::{ATTEMPTS, DEADLINE, GRACE, Instance, Temper, Terms, channel, log_file, send};
use crate::log::{Line, Story, read, remove};
use crate::order::wait;
use crate::trials::fresh;
use crate::{Place, Tried};
use anybroker::Broker;
use std::time::Duration;

const KEYS: u64 = 100;
/// How much one instance does at least.
const SHARE: usize = 60;
/// How much waits for each instance: what it does by the time it is seen that it has done its share depends on the machine.
const LOAD: u64 = 300;
/// One round of so many has handlers that hang.
const HANGING: usize = 10;

pub(crate) async fn drain(place: Place) -> Tried {
    // A hundred processes in all.
    let rounds = if place.name == "kafka" { 40 } else { 30 };
    let name = fresh("fleet-drain");
    let (log, channel) = (log_file(&place, "drain"), channel(&name));
    let mut terms = Terms { url: place.url.clone(), channel: name, log: log.clone(), temper: Temper::Steady };
    let broker = Broker::connect(&place.url).await?;

    let mut messages = 0;
    let (mut longest, mut longest_hanging) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let hangs = round % HANGING == HANGING / 2;
        terms.temper = if hangs { Temper::Hanging } else { Temper::Steady };
        let more = messages..finished(&log) as u64 + LOAD;
        messages = more.end;
        send(&broker, &channel, more, KEYS).await?;
        let before = begins(&log);
        let instance = Instance::start(&terms);
        wait(&log, |lines| {
            lines.iter().filter(|line| matches!(line, Line::Began(_))).count() >= before + SHARE
        })
        .await?;
        let took = instance.end().await?;
        let longest = if hangs { &mut longest_hanging } else { &mut longest };
        *longest = (*longest).max(took);
    }
    let left = messages as usize - finished(&log);
    terms.temper = Temper::Steady;
    let last = Instance::start(&terms);
    wait(&log, |lines| Story::of(lines, KEYS, ATTEMPTS).finished.len() == messages as usize).await?;
    last.end().await?;

    let story = Story::of(&read(&log), KEYS, ATTEMPTS);
    eprintln!(
        "{}: told to end {rounds} times among {messages} messages ({left} left for the last): {} begins, {} begun again after they were finished; \
         ended within {longest:.1?}, within {longest_hanging:.1?} where a handler hung",
        place.name,
        story.begins(),
        story.again.len()
    );
    let (again, overtook) = (&story.again, &story.overtook);
    if !(again.is_empty() && overtook.is_empty()) {
        return Err(
            format!("handled again: {again:?}; out of order: {overtook:?}; see {}", log.display()).into()
        );
    }
    if longest > DEADLINE || longest_hanging > DEADLINE + GRACE {
        return Err(format!("it took {longest:?}, and {longest_hanging:?} where a handler hung").into());
    }
    remove(&log)?;
    broker.delete(channel.dead_letters()).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

fn finished(log: &std::path::Path) -> usize {
    Story::of(&read(log), KEYS, ATTEMPTS).finished.len()
}

fn begins(log: &std::path::Path) -> usize {
    read(log).iter().filter(|line| matches!(line, Line::Began(_))).count()
}

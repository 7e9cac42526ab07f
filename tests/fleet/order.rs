//! 10,000 messages over 100 keys, four instances, one attempt of twenty failing or panicking, instances killed and replaced.

use crate::instance::{ATTEMPTS, Instance, Temper, Terms, Work, channel, log_file, send};
use crate::log::{Line, Story, read, remove, said};
use crate::rng::Rng;
use crate::trials::fresh;
use crate::wait::{now, sleep, within};
use crate::{Place, Tried};
use anybroker::{Broker, Channel, dead_letter};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const MESSAGES: u64 = 10_000;
const KEYS: u64 = 100;
const INSTANCES: usize = 4;
const KILLS: usize = 8;

/// For so long nothing may be decided before the trial is given up.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn order(place: Place) -> Tried {
    let name = fresh("fleet-order");
    let (log, channel) = (log_file(&place, "order"), channel(&name));
    let terms = Terms { url: place.url.clone(), channel: name, log: log.clone(), temper: Temper::Moody };
    let broker = Broker::connect(&place.url).await?;
    let mut instances: Vec<Instance> = (0..INSTANCES).map(|_| Instance::start(&terms)).collect();
    wait(&log, |lines| ups(lines) == INSTANCES).await?;

    let working = async {
        tokio::try_join!(send(&broker, &channel, 0..MESSAGES, KEYS), kill(&terms, &mut instances)).map(drop)
    };
    if let Err(failed) = working.await {
        let (why, status) = (failed.message().unwrap_or_default(), broker.status().borrow().clone());
        return Err(format!("{why}\n    who sends: {status:?}").into());
    }
    wait(&log, |lines| Story::of(lines, KEYS, ATTEMPTS).decided() == MESSAGES as usize).await?;
    for instance in instances {
        instance.end().await?;
    }

    let story = Story::of(&read(&log), KEYS, ATTEMPTS);
    let dead = dead_letters(&broker, &channel, MESSAGES as usize - story.finished.len()).await?;
    eprintln!(
        "{}: {MESSAGES} messages over {KEYS} keys, {KILLS} kills: {} begins, {} failed attempts, {} begun again after they were finished, {} dead letters",
        place.name,
        story.begins(),
        story.failed,
        story.again.len(),
        dead.len()
    );
    let unfinished: BTreeSet<u64> = (0..MESSAGES).filter(|number| !story.finished.contains(number)).collect();
    let lost: Vec<_> = unfinished.difference(&dead).collect();
    let early: Vec<_> = dead.difference(&story.exhausted).collect();
    if !(story.overtook.is_empty() && lost.is_empty() && early.is_empty()) {
        let overtook = &story.overtook;
        return Err(format!(
            "out of order: {overtook:?}; neither handled nor dead: {lost:?}; dead with attempts left: {early:?}; see {}",
            log.display()
        )
        .into());
    }
    remove(&log)?;
    broker.delete(channel.dead_letters()).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

/// Kills and replaces some of the instances, each at some point of the work, wherever that is.
async fn kill(terms: &Terms, instances: &mut Vec<Instance>) -> Tried {
    let mut rng = Rng::new(7);
    for kill in 1..=KILLS {
        let enough = MESSAGES as usize / (KILLS + 2) * kill;
        wait(&terms.log, |lines| Story::of(lines, KEYS, ATTEMPTS).decided() >= enough).await?;
        instances.swap_remove(rng.below_usize(INSTANCES as u32)).kill();
        instances.push(Instance::start(terms));
        if kill == KILLS / 2 {
            instances.push(Instance::start(terms));
        }
    }
    Ok(())
}

fn ups(lines: &[Line]) -> usize {
    lines.iter().filter(|line| **line == Line::Up).count()
}

/// Waits for the log to say so, as long as it says something new.
pub(crate) async fn wait(log: &Path, enough: impl Fn(&[Line]) -> bool) -> Tried {
    let (mut seen, mut since) = (0, now());
    loop {
        let lines = read(log);
        if enough(&lines) {
            return Ok(());
        }
        if lines.len() > seen {
            (seen, since) = (lines.len(), now());
        } else if since.elapsed() > PATIENCE {
            return Err(stands_still(log, &lines).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn stands_still(log: &Path, lines: &[Line]) -> String {
    let story = Story::of(lines, KEYS, ATTEMPTS);
    let begun = story.begun.keys().filter(|number| !story.is_decided(**number)).collect::<Vec<_>>();
    let said = std::fs::read_to_string(said(log)).unwrap_or_default();
    let mut last: Vec<&str> = said.lines().rev().take(12).collect();
    last.reverse();
    format!(
        "nothing has happened for {PATIENCE:?} after {} were decided; begun and not decided: {begun:?}; see {}; the instances said last:\n    {}",
        story.decided(),
        log.display(),
        last.join("\n    ")
    )
}

/// The numbers of the messages there: at least so many, and all that follow at once.
async fn dead_letters(broker: &Broker, channel: &Channel, least: usize) -> Result<BTreeSet<u64>, String> {
    let mut numbers = BTreeSet::new();
    let text = |error: anybroker::Error| error.to_string();
    let mut consumer = broker.consumer(channel.dead_letters()).await.map_err(text)?;
    loop {
        let patience = Duration::from_secs(if numbers.len() < least { 20 } else { 1 });
        let Some(received) = within(patience, consumer.receive()).await else { break };
        let delivery = received.map_err(text)?.ok_or("the dead letters ended")?;
        let reason = delivery.message().headers().text(dead_letter::REASON).unwrap_or_default();
        if !reason.starts_with("attempts exhausted: ") {
            return Err(format!("a dead letter for the reason {reason:?}"));
        }
        numbers.insert(delivery.decode::<Work>().map_err(text)?.number);
        delivery.ack().await.map_err(text)?;
    }
    consumer.close().await.map_err(text)?;
    Ok(numbers)
}

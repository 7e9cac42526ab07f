//! What is measured of a whole process takes place in one of its own: this program runs itself.

use crate::Tried;
use crate::server::Server;
use anybroker::adapter::BoxFuture;
use libtest_mimic::Failed;
use std::process::{Command, ExitCode};
use std::sync::Arc;

/// What such a process does, by a name and with an argument.
pub(crate) type Scene = (&'static str, fn(Arc<Server>, String) -> BoxFuture<'static, Tried>);

const SCENE: &str = "ANYBROKER_TEST_SCENE";

/// Runs the scene for which this process was started, if it was.
pub(crate) fn act(servers: &Result<Vec<Arc<Server>>, String>, scenes: &[&[Scene]]) -> Option<ExitCode> {
    let asked = std::env::var(SCENE).ok()?;
    let mut asked = asked.split_whitespace();
    let (server, name, argument) = (asked.next()?, asked.next()?, asked.next().unwrap_or_default());
    let server = servers.as_ref().ok()?.iter().find(|known| known.name == server)?;
    let (_, scene) = scenes.iter().copied().flatten().find(|(known, _)| *known == name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().ok()?;
    let played = runtime.block_on(scene(Arc::clone(server), argument.to_owned()));
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{}", wrong.message().unwrap_or("failed"));
            ExitCode::FAILURE
        }
    })
}

/// Plays a scene in a process of its own, and gives all that it wrote.
pub(crate) async fn play(server: &Server, name: &str, argument: &str) -> Result<String, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(SCENE, format!("{} {name} {argument}", server.name));
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let wrote =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.success() {
        true => Ok(wrote),
        false => Err(format!("{name}, {}: {wrote}", output.status).into()),
    }
}

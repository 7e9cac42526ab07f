use crate::adapter::{Adapter, Binding, Channel, Clock, Declare, Text};
use crate::builder::Options;
use crate::clock::later;
use crate::foreign::Foreign;
use crate::inlet::Inlet;
use crate::link::{Link, undropped};
use crate::outlet::Outlet;
use crate::replies::{Mailbox, Replier};
use crate::status::Board;
use std::sync::Arc;
use std::time::Duration;

/// What closing had to leave behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Deliveries that were given back to their brokers unhandled.
    pub given_back: usize,
    /// Messages whose sending ended without the broker's word; their senders were told.
    pub unsent: usize,
}

/// Everything that a broker has open.
pub(crate) struct Closing {
    pub(crate) inlets: Vec<Arc<Inlet>>,
    pub(crate) outlets: Vec<Arc<Outlet>>,
    pub(crate) brokers: Vec<Arc<Named>>,
    pub(crate) board: Board,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) leave_within: Duration,
    pub(crate) open_within: Duration,
}

impl Closing {
    /// Consumers leave, producers send what waits, connections close.
    pub(crate) async fn run(self) -> Closed {
        let deadline = later(self.clock.now(), self.leave_within);
        // All begin to leave before the first is waited for.
        self.inlets.iter().for_each(|inlet| inlet.leave());
        let mut closed = Closed::default();
        for inlet in self.inlets {
            closed.given_back += inlet.close().await;
        }
        self.outlets.iter().for_each(|outlet| outlet.begin_close(deadline));
        for outlet in self.outlets {
            closed.unsent += outlet.close(deadline).await;
        }
        for named in self.brokers {
            closed.unsent += named.replier.close(deadline).await;
            named.mailbox.close().await;
            let adapter = Arc::clone(&named.adapter);
            let closing = undropped(async move { adapter.close().await });
            tokio::select! {
                result = closing => if let Err(error) = result {
                    tracing::warn!(broker = %named.name, %error, "the connection did not close cleanly");
                },
                () = self.clock.sleep_until(later(self.clock.now(), self.open_within)) => {}
            }
        }
        self.board.close();
        closed
    }
}

/// One broker of the configuration.
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) replier: Arc<Replier>,
}

impl Named {
    pub(crate) fn new(
        name: &str,
        adapter: Arc<dyn Adapter>,
        instance: &Text,
        clock: &Arc<dyn Clock>,
        options: &Options,
        board: &Board,
    ) -> Self {
        let broker: Arc<str> = name.into();
        let link = Link {
            adapter: Arc::clone(&adapter),
            // Return addresses are no channel of the application; errors about them name it all the same.
            binding: Arc::new(Binding::new(Channel::point_to_point("replies"))),
            declare: Declare::Never,
            clock: Arc::clone(clock),
            open_within: options.open_within,
            instance: instance.clone(),
        };
        let mut settings = options.outlet(options.window(), Foreign::default());
        settings.reopen = false;
        let replier = Replier::new(link.clone(), settings, board.clone(), Arc::clone(&broker));
        Self { name: broker, adapter, mailbox: Mailbox::new(link), replier: Arc::new(replier) }
    }

    pub(crate) fn parts(&self) -> (&Arc<str>, &Arc<Replier>) {
        (&self.name, &self.replier)
    }
}

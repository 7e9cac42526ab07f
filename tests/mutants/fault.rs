//! What can be wrong with an adapter.

use anybroker::adapter::{Bytes, Headers, Message, MessageKey, Start, Text, Timestamp};

/// An enum that can list its plain variants.
macro_rules! enumerated {
    (
        $(#[$doc:meta])* pub(crate) enum $name:ident { $($(#[$of:meta])* $variant:ident,)* }
        with { $($(#[$with:meta])* $more:ident($of_type:ty),)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$of])* $variant,)* $($(#[$with])* $more($of_type),)* }

        impl $name {
            const PLAIN: &[Self] = &[$(Self::$variant),*];
        }
    };
}

enumerated! {
    /// One thing that an adapter does wrong.
    pub(crate) enum Fault {
        // Sending.
        /// The third message of each sender is accepted and never sent.
        LosesOne,
        /// The third message of each sender is sent twice.
        DuplicatesOne,
        /// The second message of a key is overtaken by the third.
        SwapsTwoOfAKey,
        /// Takes only the first ten messages of a batch and accepts all.
        CutsBatches,
        /// Has no answer for the last message of a batch.
        ShortConfirm,
        /// Receipts of a lower level than declared.
        LowReceipts,
        /// Counts the payload alone.
        MeasuresPayloadOnly,
        /// Accepts, and drops, what nobody listens to.
        DropsUnheard,
        /// Refuses what nobody listens to.
        RefusesUnheard,
        /// Accepts on a dead connection.
        AcceptsWhenDead,
        /// Forgets what has happened to a message when the connection dies.
        ReportsUnknownAsNotSent,
        /// Does not send the last messages before a close.
        CloseDropsSends,
        // Receiving and settling.
        /// Acknowledges on receipt.
        AcksOnReceipt,
        /// Keeps acknowledgements to itself.
        AckIsNoOp,
        /// An acknowledgement settles all deliveries before it.
        AckIsCumulative,
        /// A close acknowledges what is unsettled.
        CloseAcks,
        /// What is unsettled at a close goes to the end of the queue.
        CloseRequeues,
        /// What is released goes to the end of the queue.
        ReleaseRequeues,
        /// A release counts as an attempt.
        ReleaseCounts,
        /// A retry is an acknowledgement.
        RetryAcks,
        /// A retry comes at once.
        RetryAtOnce,
        /// Every attempt is the first.
        AttemptsStuck,
        /// What is held comes at once.
        HeldComesAgain,
        /// What was held cannot be settled.
        HeldForgetsToken,
        /// Every settlement succeeds.
        SettlesAlways,
        /// Says that a lease is longer and leaves it as it is.
        ExtendsNothing,
        /// Leaves settlements unanswered.
        SettlesSilently,
        /// A stop ends settling too.
        StopEndsSettling,
        /// Goes on receiving after a stop.
        IgnoresStop,
        /// Takes more than asked for.
        Hoards,
        /// Hands out more than is there room for.
        Overfills,
        /// An undecodable record ends the receiver.
        UndecodableIsFatal,
        /// An undecodable record is dropped.
        UndecodableIsDropped,
        /// Drops what has no id.
        DropsForeign,
        /// Hangs where the connection is dead.
        HangsWhenDead,
        // Channels and subscriptions.
        /// Cuts names short.
        ShortNames,
        /// All subscriptions are one.
        OneSubscription,
        /// Every consumer of a subscription has one of its own.
        PrivateSubscriptions,
        /// Ephemeral subscriptions last.
        EphemeralLasts,
        /// A named subscription ends with its consumer.
        NamedVanishes,
        /// Subscribes some time after opening.
        SubscribesLate,
        /// Channels have no order.
        Unordered,
        /// Channels have no bound.
        Unbounded,
        /// Declaring empties.
        DeclareEmpties,
        /// Declaring what is there is a conflict.
        DeclareOnce,
        /// Opening makes what is missing.
        OpensMissing,
        /// Verifying makes what is missing.
        VerifyMakes,
        /// No declaration is a conflict.
        NeverConflicts,
        /// Deleting does nothing.
        DeleteIsNoOp,
        /// Deleting what is missing is an error.
        DeleteOnce,
        // Connections.
        /// Always healthy.
        AlwaysHealthy,
        /// Never healthy.
        NeverHealthy,
        /// Closing does nothing.
        CloseIsNoOp,
        /// Closing again is an error.
        CloseOnce,
        /// Closing never ends.
        CloseHangs,
        /// Shows the password in errors.
        PasswordInErrors,
        /// Shows the password in `Debug`.
        PasswordInDebug,
        /// Writes the password to the log.
        PasswordInLog,
        /// Every receiver leaves a task behind.
        LeaksTasks,
        /// A closed receiver still takes its share.
        LeaksReceivers,
        // Capabilities and replies.
        /// Opens with more than it declares.
        Overclaims,
        /// Declares a capability without the one it builds on.
        DeclaresInPart,
        /// Sends replies to any address.
        AnswersAnybody,
        /// Two requesters get each other's replies.
        MixesReplies,
        /// Hangs on a return address whose owner is gone.
        HangsOnGoneAddress,
    }
    with {
        /// Carries the message otherwise than it was.
        Alters(Alteration),
        /// Starts elsewhere than asked.
        StartsAt(Start),
    }
}

enumerated! {
    /// What a message loses or gains on its way.
    pub(crate) enum Alteration {
        ForgetsId,
        ForgetsTime,
        ForgetsKind,
        ForgetsType,
        ForgetsKey,
        ForgetsCorrelationId,
        ForgetsReplyTo,
        ForgetsContentType,
        ForgetsExpiry,
        ForgetsHeaders,
        MakesIds,
        LowersIds,
        ReadsKeysAsText,
        RoundsTimes,
        ReadsPayloadsAsText,
        CutsPayloads,
        EmptyIsAbsent,
        AbsentIsEmpty,
        TrimsHeaders,
        CutsLongHeaders,
        SortsHeaders,
        JoinsRepeatedHeaders,
        EmptyForAbsentHeaders,
        StripsLineBreaks,
        EatsReservedHeaders,
    }
    with {}
}

impl Fault {
    /// Every fault there is.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let alterations = Alteration::PLAIN.iter().map(|alteration| Self::Alters(*alteration));
        let starts = [Self::StartsAt(Start::Earliest), Self::StartsAt(Start::Latest)];
        Self::PLAIN.iter().copied().chain(alterations).chain(starts)
    }
}

impl Alteration {
    pub(crate) fn apply(self, message: &mut Message) {
        match self {
            Self::ForgetsId => message.set_id(None),
            Self::ForgetsTime => message.set_time(None),
            Self::ForgetsKind => message.set_kind(None),
            Self::ForgetsType => message.set_type_name(None),
            Self::ForgetsKey => message.set_key(None),
            Self::ForgetsCorrelationId => message.set_correlation_id(None),
            Self::ForgetsReplyTo => message.set_reply_to(None),
            Self::ForgetsContentType => message.set_content_type(None),
            Self::ForgetsExpiry => message.set_expires_at(None),
            Self::ForgetsHeaders => *message.headers_mut() = Headers::new(),
            Self::MakesIds => message.set_id(Some(message.id().cloned().unwrap_or_else(|| "made up".into()))),
            Self::LowersIds => message.set_id(message.id().map(|id| id.to_text().to_lowercase().into())),
            Self::ReadsKeysAsText => {
                let text = |key: &MessageKey| String::from_utf8_lossy(key.as_bytes()).into_owned().into();
                message.set_key(message.key().map(text));
            }
            Self::RoundsTimes => {
                let round = |time: Timestamp| Timestamp::from_millis(time.as_millis() / 1000 * 1000);
                message.set_time(message.time().map(round));
            }
            Self::ReadsPayloadsAsText => {
                let text = |payload: &Bytes| String::from_utf8_lossy(payload).into_owned().into();
                message.set_payload(message.payload().map(text));
            }
            Self::CutsPayloads => {
                message.set_payload(message.payload().map(|p| p.slice(..p.len().min(1000))))
            }
            Self::EmptyIsAbsent => message.set_payload(message.payload().filter(|p| !p.is_empty()).cloned()),
            Self::AbsentIsEmpty => message.set_payload(Some(message.payload().cloned().unwrap_or_default())),
            Self::TrimsHeaders => {
                headers(message, |name, value| (name, value.map(|v| Bytes::copy_from_slice(v.trim_ascii()))));
            }
            Self::CutsLongHeaders => {
                headers(message, |name, value| (name, value.map(|v| v.slice(..v.len().min(1000)))));
            }
            Self::SortsHeaders => {
                let mut sorted: Vec<_> = std::mem::take(message.headers_mut()).into_iter().collect();
                sorted.sort();
                *message.headers_mut() = sorted.into_iter().collect();
            }
            Self::JoinsRepeatedHeaders => {
                for (name, value) in std::mem::take(message.headers_mut()) {
                    message.headers_mut().set(name, value);
                }
            }
            Self::EmptyForAbsentHeaders => {
                headers(message, |name, value| (name, Some(value.unwrap_or_default())))
            }
            Self::StripsLineBreaks => headers(message, |name, value| {
                let strip = |b: &u8| !matches!(b, b'\r' | b'\n');
                (name, value.map(|v| v.iter().copied().filter(strip).collect()))
            }),
            Self::EatsReservedHeaders => {
                message.headers_mut().remove("content-type");
                message.headers_mut().remove("ce_type");
            }
        }
    }
}

fn headers(message: &mut Message, change: impl Fn(Text, Option<Bytes>) -> (Text, Option<Bytes>)) {
    let headers = std::mem::take(message.headers_mut());
    *message.headers_mut() = headers.into_iter().map(|(name, value)| change(name, value)).collect();
}
